//! What is explored: an image as of each of its layers, or two images beside each other.
//!
//! Both are opened by a thread of their own ([`Asked::open`]) and never change afterwards, so all threads share them.

use std::collections::HashMap;
use std::collections::HashSet;
use std::sync::Arc;

use ocifs::cache::Cache;
use ocifs::image::{
    self, Diff, FileChange, ImageOptions, LayerStack, LayeredImage, Onlooker, Wishes, instructions,
};
use ocifs::layer::Progress;
use ocifs::oci::HistoryEntry;
use ocifs::reference::ImageName;
use ocifs::resolve::{ResolvedImage, ResolvedLayer};
use ocifs::tree::{AsOf, Aspects, Changes, Ino, Place, Places, SideBySide};

use crate::render::errors::{About, AnyError};
use crate::render::instruction::for_people;
use crate::render::text::{printable, size};

/// An image, and how it is opened.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) name: ImageName,
    pub(crate) options: ImageOptions,
}

/// What is explored.
#[derive(Debug)]
pub(super) enum Subject {
    /// An image.
    Image(Box<LayerStack>),
    /// Two, and how they differ.
    Pair(Box<Pair>),
}

/// Two images.
#[derive(Debug)]
pub(super) struct Pair {
    pub(super) old: LayeredImage,
    pub(super) new: LayeredImage,
    /// Files that both have, and that differ.
    differing: HashSet<(Ino, Ino)>,
    aspects: HashMap<(Ino, Ino), Aspects>,
    /// Old paths of files that were moved, by the new.
    moved: HashMap<Vec<u8>, Vec<u8>>,
    /// How many paths differ.
    pub(super) differences: usize,
}

/// Of which image a layer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Of {
    One,
    Both,
    Old,
    New,
}

/// A layer, for people.
#[derive(Clone, Debug)]
pub(super) struct LayerRow {
    pub(super) number: usize,
    pub(super) of: Of,
    pub(super) size: u64,
    pub(super) instruction: String,
    /// Its digests and other words of its own, each with what it is.
    pub(super) words: Vec<(&'static str, String)>,
    /// What it changed, once that is counted.
    pub(super) changes: Option<Changes>,
}

impl Asked {
    /// Opens what was asked for, and tells meanwhile what is known of it. `wishes` are the directories that are opened then.
    ///
    /// # Errors
    /// It can't be opened, or not be compared.
    pub(super) fn open(
        asked: &[Asked],
        cache: &Arc<Cache>,
        progress: &dyn Progress,
        tell: &(dyn Fn(Sight) + Send + Sync),
        wishes: &Wishes,
    ) -> Result<Subject, AnyError> {
        if let [one] = asked {
            let Asked { name, options } = one;
            let stack = LayerStack::open(name, cache, options, progress, &Looking(tell), wishes);
            let stack = stack.map_err(|error| About::new(name.clone(), error))?;
            return Ok(Subject::Image(Box::new(stack)));
        }
        let [old, new] = asked else { unreachable!("one image is explored, or two are") };
        let both = [old, new].map(|asked| (&asked.name, &asked.options));
        let opened = LayeredImage::open_all(&both, cache, progress);
        let opened = opened.map_err(|e| About::new(both[e.image].0.clone(), e.error))?;
        let Ok([old, new]) = <[LayeredImage; 2]>::try_from(opened) else {
            unreachable!("two were opened")
        };
        let diff = image::diff(&old, &new)?;
        let pair = Pair::new(old, new, diff);
        tell(Sight::Rows(pair.layer_rows()));
        Ok(Subject::Pair(Box::new(pair)))
    }
}

/// What is told of images while they are being opened.
#[derive(Debug)]
pub(super) enum Sight {
    /// Their layers.
    Rows(Vec<LayerRow>),
    /// The image as far as it is known.
    Glimpse(Subject),
}

/// Tells what is seen of an image.
struct Looking<'a>(&'a (dyn Fn(Sight) + Send + Sync));

impl Onlooker for Looking<'_> {
    fn resolved(&self, image: &ResolvedImage) {
        (self.0)(Sight::Rows(layer_rows(image)));
    }

    fn sees(&self, stack: LayerStack) {
        (self.0)(Sight::Glimpse(Subject::Image(Box::new(stack))));
    }
}

impl Pair {
    fn new(old: LayeredImage, new: LayeredImage, diff: Diff) -> Pair {
        let (mut aspects, mut moved, mut differences) = (HashMap::new(), HashMap::new(), 0);
        for FileChange { path, renamed_from, old, new, aspects: how } in diff.changes {
            let is_in_both = old.is_some() && new.is_some() && renamed_from.is_none();
            // A directory's time is that of the last change in it.
            if is_in_both && !how.any_but_time() {
                continue;
            }
            differences += 1;
            match (old, new, renamed_from) {
                (_, _, Some(from)) => drop(moved.insert(path, from)),
                (Some(old), Some(new), None) => drop(aspects.insert((old, new), how)),
                _ => {}
            }
        }
        let differing = aspects.keys().copied().collect();
        Pair { old, new, differing, aspects, moved, differences }
    }

    /// The trees beside each other.
    pub(super) fn side_by_side(&self) -> SideBySide<'_> {
        let (old, new) = (self.old.filesystem().tree(), self.new.filesystem().tree());
        SideBySide::new(old, new, &self.differing)
    }

    /// In what a file differs that both have.
    pub(super) fn aspects(&self, place: Place) -> Option<Aspects> {
        let places = self.side_by_side();
        let both = (places.old_ino(place)?, places.new_ino(place)?);
        self.aspects.get(&both).copied()
    }

    /// Where the old image has a file that has another path in the new one.
    pub(super) fn moved_from(&self, path: &[u8]) -> Option<&[u8]> {
        self.moved.get(path).map(Vec::as_slice)
    }

    /// The image to read a file from, and the file there; the new one if both have it.
    pub(super) fn side(&self, place: Place) -> (&LayeredImage, Option<Ino>) {
        let places = self.side_by_side();
        match places.new_ino(place) {
            Some(ino) => (&self.new, Some(ino)),
            None => (&self.old, places.old_ino(place)),
        }
    }

    fn layer_rows(&self) -> Vec<LayerRow> {
        let (old, new) = (self.old.resolved(), self.new.resolved());
        let ids = |image: &ResolvedImage| -> Vec<_> {
            image.layers.iter().map(ResolvedLayer::content_id).collect()
        };
        let (of_old, of_new) = (ids(old), ids(new));
        let mut rows = layer_rows(new);
        for (row, id) in rows.iter_mut().zip(&of_new) {
            row.of = if of_old.contains(id) { Of::Both } else { Of::New };
        }
        let gone = layer_rows(old).into_iter().zip(&of_old);
        let gone = gone.filter(|(_, id)| !of_new.contains(id));
        rows.extend(gone.map(|(row, _)| LayerRow { of: Of::Old, ..row }));
        rows
    }
}

/// The layers of an image, base first.
fn layer_rows(image: &ResolvedImage) -> Vec<LayerRow> {
    let rows = image.layers.iter().zip(instructions(image)).enumerate();
    rows.map(|(number, (layer, entry))| LayerRow {
        number,
        of: Of::One,
        size: layer.descriptor.size,
        instruction: instruction(entry.as_ref()),
        words: words(layer, entry.as_ref()),
        changes: None,
    })
    .collect()
}

/// An instruction of at most so many characters: an image may have one of any length.
const MAX_INSTRUCTION: usize = 16 << 10;

fn instruction(entry: Option<&HistoryEntry>) -> String {
    let Some(entry) = entry else { return "(the config does not say)".to_owned() };
    let text: String = for_people(entry).chars().take(MAX_INSTRUCTION).collect();
    printable(&text)
}

fn words(layer: &ResolvedLayer, entry: Option<&HistoryEntry>) -> Vec<(&'static str, String)> {
    let descriptor = &layer.descriptor;
    let mut words = vec![
        ("digest", descriptor.digest.to_string()),
        ("diff ID", layer.content_id().to_string()),
        ("blob", size(descriptor.size)),
    ];
    let created = entry.and_then(|entry| entry.created.as_deref());
    words.extend(created.map(|created| ("created", printable(created))));
    words
}

impl Subject {
    /// How many layers one can go to.
    pub(super) fn layers(&self) -> usize {
        match self {
            Subject::Image(stack) => stack.resolved().layers.len(),
            Subject::Pair(_) => 0,
        }
    }

    /// Whether all of it is known.
    pub(super) fn is_whole(&self) -> bool {
        match self {
            Subject::Image(stack) => stack.is_whole(),
            Subject::Pair(_) => true,
        }
    }
}

/// What is explored, as of a layer.
#[derive(Clone, Debug)]
pub(super) struct View {
    pub(super) subject: Arc<Subject>,
    pub(super) layer: usize,
}

impl View {
    /// Whether the names of a directory are known.
    pub(super) fn lists(&self, path: &[u8]) -> bool {
        match &*self.subject {
            Subject::Image(stack) => stack.lists(path),
            Subject::Pair(_) => true,
        }
    }

    /// How many of the layers that make the tree are not known yet.
    pub(super) fn unknown_layers(&self) -> usize {
        match &*self.subject {
            Subject::Image(stack) => stack.unknown_layers(self.layer + 1),
            Subject::Pair(_) => 0,
        }
    }

    /// Does something with the tree.
    pub(super) fn with<R>(&self, act: impl FnOnce(&dyn Places) -> R) -> R {
        match &*self.subject {
            Subject::Image(stack) => act(&stack.as_of(self.layer)),
            Subject::Pair(pair) => act(&pair.side_by_side()),
        }
    }

    /// The tree as of the layer, if it is one image's.
    pub(super) fn as_of(&self) -> Option<(&LayerStack, AsOf<'_>)> {
        match &*self.subject {
            Subject::Image(stack) => Some((stack, stack.as_of(self.layer))),
            Subject::Pair(_) => None,
        }
    }

    /// Whether the layer itself has the name, or hides it.
    pub(super) fn is_touched(&self, place: Place) -> bool {
        match self.as_of() {
            Some((_, as_of)) => as_of.is_touched(place),
            None => self.with(|places| places.facts(place).change.is_some()),
        }
    }

    /// The size of a regular file; `None` for anything else.
    pub(super) fn file_size(&self, place: Place) -> Option<u64> {
        let facts = self.with(|places| places.facts(place));
        (facts.kind == ocifs::tree::FileKind::Regular).then_some(facts.size)
    }

    /// Bytes of a regular file, fewer at its end. May wait for a registry.
    ///
    /// # Errors
    /// They can't be had.
    pub(super) fn read(
        &self,
        place: Place,
        offset: u64,
        length: usize,
    ) -> Result<Vec<u8>, AnyError> {
        match &*self.subject {
            Subject::Image(stack) => {
                let file = stack.file(self.layer, place).ok_or("it is no regular file")?;
                Ok(file.read(offset, length)?)
            }
            Subject::Pair(pair) => {
                let (image, ino) = pair.side(place);
                read_of(image, ino.ok_or("it is in neither image")?, offset, length)
            }
        }
    }
}

/// Bytes of a regular file of an image, fewer at its end.
///
/// # Errors
/// They can't be had.
pub(super) fn read_of(
    image: &LayeredImage,
    ino: Ino,
    offset: u64,
    length: usize,
) -> Result<Vec<u8>, AnyError> {
    let filesystem = image.filesystem();
    let file = filesystem.file(ino)?;
    let mut bytes = vec![0; file.readable(offset, length)];
    file.read(offset, &mut bytes, filesystem.deadline())?;
    Ok(bytes)
}
