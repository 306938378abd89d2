//! What an image consists of as directories (`ocifs mount --layout`).
//!
//! ```text
//! index.json  manifest.json  config.json  history.txt
//! rootfs/                     what a mount of the image shows; of an artifact files/
//! layers/N-DIGITS/            each layer alone
//! platforms/OS-ARCH/          the same for each image of an index, but for this directory
//! attestations/  referrers/   what others say of it
//! ```
//!
//! # Problem
//!
//! Names and documents are to be there at once, and no byte of a layer before its directory is entered; not even the
//! manifests of other platforms before theirs is.
//!
//! # Design
//!
//! Directories are made when they are entered, and stay. What is below `rootfs`, in a layer, and in the
//! directories of what others say are volumes, each of which is opened when it is entered, by the
//! [`Structure`] of its image. Both are [slots](super::slot): made once, on a thread of their own, with a deadline for who
//! waits.
//!
//! Files that several volumes have are one inode, in the tree and in the layer that brought it: as all volumes stay open, any
//! that has a file can answer for it ([`Holders`]).
//!
//! The image that is shown stands in `platforms` once more, like the others. It is no link to the directories above:
//! the kernel knows a directory by one name, and walks that follow symlinks would never end.
//!
//! Which directories were listed, and how volumes were opened, is [written down](super::journal). A process that takes over
//! lists the same in the same order, for which it needs the documents of the images that were entered: they are in the
//! cache.
//!
//! # Invariants
//!
//! - Nodes and volumes are never removed, so their numbers lead to what they led to.

use std::collections::{BTreeMap, HashSet};
use std::io::{self, ErrorKind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant, SystemTime};

use super::directories::{Directories, Named, Node, SeenRoot};
use super::entered::Entered;
use super::holders::Holders;
use super::journal::{Journal, PlatformRecord, Record};
use super::numbers::Numbers;
use super::slot::Slot;
use crate::blob::Spans;
use crate::digest::Digest;
use crate::fs::{Error, Filesystem};
use crate::image::{self, Opened, Part, Shown, Structure, View};
use crate::oci::Descriptor;
use crate::source::registry::Traffic;

/// The directory of the images of an index.
const PLATFORMS: &str = "platforms";

/// What an image consists of.
#[derive(Debug)]
pub struct Layout {
    root: Arc<Structure>,
    timeout: Duration,
    journal: Arc<Journal>,
    /// Of layers that volumes have in common.
    numbers: Arc<Numbers>,
    state: Mutex<State>,
    own: Weak<Layout>,
}

#[derive(Debug, Default)]
struct State {
    nodes: Vec<LayoutNode>,
    volumes: Vec<LayoutVolume>,
    holders: Holders,
}

#[derive(Clone, Debug)]
enum LayoutNode {
    Directory { path: String, rows: Arc<Slot<Rows>>, from: Option<Origin> },
    Document(Arc<[u8]>),
}

/// Names, and what they lead to.
type Rows = Arc<Vec<(String, Named)>>;

/// What a directory is made from that is not there from the beginning.
#[derive(Clone, Debug)]
enum Origin {
    /// What the name means.
    Root,
    /// The platforms of an index.
    Platforms,
    /// An image of it.
    Image(Descriptor),
}

/// A volume, and what it is opened from.
#[derive(Clone, Debug)]
struct LayoutVolume {
    path: String,
    structure: Arc<Structure>,
    part: VolumePart,
    /// What it was, if it was open once.
    entered: Option<Entered>,
    opened: Arc<Slot<Open>>,
}

#[derive(Clone, Copy, Debug)]
enum VolumePart {
    Merged,
    Layer(usize),
    Attestations,
    Referrers,
}

#[derive(Clone, Debug)]
struct Open {
    filesystem: Arc<Filesystem>,
    /// Of an image as a mount shows it.
    shown: Option<Arc<Shown>>,
}

/// Why something is not listed.
#[derive(Debug, thiserror::Error)]
pub enum LayoutError {
    /// It can't be had.
    #[error(transparent)]
    Image(#[from] image::Error),
    /// What another process has written down says what can't be.
    #[error("what is known of the mount: {0}")]
    Journal(io::Error),
    /// It can't be shown as it was.
    #[error("{0}")]
    Different(String),
    /// There is no room for its numbers.
    #[error("so many directories were listed that no more are")]
    Full,
}

impl From<io::Error> for LayoutError {
    fn from(error: io::Error) -> LayoutError {
        LayoutError::Journal(error)
    }
}

impl Layout {
    /// Of an image or, if the structure is that of all platforms, of each image of its index. What the journal says was
    /// listed is listed. No answer takes longer than `timeout`.
    ///
    /// # Errors
    /// What was listed can't be had; or the journal says what can't be.
    pub fn new(
        mut structure: Structure,
        timeout: Duration,
        journal: Journal,
    ) -> Result<Arc<Layout>, LayoutError> {
        let journal = Arc::new(journal);
        let numbers = Arc::new(Numbers::new(&journal));
        structure.share(Arc::clone(&numbers) as _);
        let (root, mut state) = (Arc::new(structure), State::default());
        state.directory(String::new(), Some(Origin::Root));
        let state = Mutex::new(state);
        let layout = Arc::new_cyclic(|own: &Weak<Layout>| {
            let own = Weak::clone(own);
            Layout { root, timeout, journal, numbers, state, own }
        });
        layout.journal.replay(|record| layout.list_again(record))?;
        Ok(layout)
    }

    /// Lists again what another process has listed, or remembers what it has opened.
    fn list_again(&self, record: Record) -> Result<(), LayoutError> {
        let wrong = || LayoutError::Journal(ErrorKind::InvalidData.into());
        let (directory, made) = match record {
            Record::Opened { volume, entered } => {
                let mut state = self.state();
                let State { volumes, holders, .. } = &mut *state;
                let known = volumes.get_mut((volume as usize).wrapping_sub(1)).ok_or_else(wrong)?;
                holders.were_opened(volume, &entered.layers);
                known.entered = Some(entered);
                return Ok(());
            }
            Record::Layer { layer } => {
                self.numbers.give_again(layer);
                return Ok(());
            }
            Record::Platforms { directory, images } => {
                let LayoutNode::Directory { path, from, .. } =
                    self.node_of(directory).map_err(|_| wrong())?
                else {
                    return Err(wrong());
                };
                let is_root = matches!(from, Some(Origin::Root));
                (directory, self.state().platforms(&path, &images, is_root.then_some(&self.root)))
            }
            Record::Parts { directory } => {
                let LayoutNode::Directory { path, from, .. } =
                    self.node_of(directory).map_err(|_| wrong())?
                else {
                    return Err(wrong());
                };
                let made = match from {
                    Some(Origin::Root) => self.state().whole(&self.root),
                    Some(Origin::Image(descriptor)) => {
                        let structure = Arc::new(self.root.of_platform(&descriptor)?);
                        sorted(self.state().image(&path, &structure))
                    }
                    _ => return Err(wrong()),
                };
                (directory, made)
            }
            _ => return Err(wrong()),
        };
        let mut state = self.state();
        match state.nodes.get_mut((directory as usize).wrapping_sub(1)) {
            Some(LayoutNode::Directory { rows, .. }) => *rows = Arc::new(Slot::of(made)),
            _ => return Err(wrong()),
        }
        Ok(())
    }

    /// A thread that panicked left nothing half done in there.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn node_of(&self, id: u32) -> Result<LayoutNode, Error> {
        let state = self.state();
        state.nodes.get((id as usize).wrapping_sub(1)).cloned().ok_or(Error::NotFound)
    }

    fn volume_of(&self, id: u32) -> Result<LayoutVolume, Error> {
        let state = self.state();
        state.volumes.get((id as usize).wrapping_sub(1)).cloned().ok_or(Error::NotFound)
    }

    /// What is in a directory, which may have to be found out.
    fn rows(&self, id: u32, give_up: Instant) -> Result<Rows, Error> {
        let LayoutNode::Directory { path, rows, from } = self.node_of(id)? else {
            return Err(Error::NotADirectory);
        };
        let own = self.own.upgrade().ok_or(Error::NotFound)?;
        let name = if path.is_empty() { "/".to_owned() } else { path.clone() };
        rows.wait(&name, give_up, move || {
            let made = match from {
                None => Ok(Rows::default()),
                Some(Origin::Root) if own.root.image().is_some() => own.parts(id, &path, None),
                Some(Origin::Root | Origin::Platforms) => own.platforms(id, &path),
                Some(Origin::Image(descriptor)) => own.parts(id, &path, Some(&descriptor)),
            };
            made.map_err(|error| error.to_string()).inspect_err(|why| log::warn!("{path}: {why}"))
        })
    }

    /// The parts of an image of the index, or of the one that is meant.
    fn parts(&self, id: u32, path: &str, of: Option<&Descriptor>) -> Result<Rows, LayoutError> {
        let structure = of.map(|of| self.root.of_platform(of)).transpose()?.map(Arc::new);
        let mut state = self.state();
        self.write_down(&Record::Parts { directory: id })?;
        Ok(match structure {
            Some(structure) => sorted(state.image(path, &structure)),
            None => state.whole(&self.root),
        })
    }

    /// A directory for each image of the index, below the one of this path.
    fn platforms(&self, id: u32, path: &str) -> Result<Rows, LayoutError> {
        let images = self.root.platforms()?.into_iter().map(|Part { name, part }| {
            let Descriptor { digest, media_type, size: bytes, .. } = part;
            PlatformRecord { name, digest, media_type, bytes }
        });
        let images: Vec<_> = images.collect();
        let mut state = self.state();
        self.write_down(&Record::Platforms { directory: id, images: images.clone() })?;
        Ok(state.platforms(path, &images, path.is_empty().then_some(&self.root)))
    }

    /// Writes down what is about to get numbers. The state is locked.
    fn write_down(&self, record: &Record) -> Result<(), LayoutError> {
        if self.journal.add(record) { Ok(()) } else { Err(LayoutError::Full) }
    }

    /// Opens a volume, as it was opened before.
    fn open_now(&self, id: u32, volume: &LayoutVolume) -> Result<Open, LayoutError> {
        let before = volume.entered.as_ref();
        let (open, claimed) = volume.open(before)?;
        match before {
            Some(before) => before.check(&open.filesystem).map_err(LayoutError::Different)?,
            None => {
                let opened = Opened { root: self.root.root(), claimed, base: None, words: None };
                let entered = Entered::new(opened, &open.filesystem);
                let mut state = self.state();
                self.write_down(&Record::Opened { volume: id, entered: entered.clone() })?;
                state.volumes[id as usize - 1].entered = Some(entered);
            }
        }
        self.state().holders.opened(id, &open.filesystem);
        Ok(open)
    }
}

impl LayoutVolume {
    /// Opens it, as it was before, and says what of it is as others claim.
    fn open(&self, before: Option<&Entered>) -> Result<(Open, HashSet<Digest>), image::Error> {
        let claimed = before.map(|before| before.opened.claimed.clone()).unwrap_or_default();
        let open = |filesystem, shown| Open { filesystem, shown };
        let alone = |filesystem| (open(Arc::new(filesystem), None), HashSet::new());
        match self.part {
            VolumePart::Merged => {
                let mut view = View::from(self.structure.merged(&claimed)?);
                let shown = view.images.pop().map(Arc::new);
                let claimed = shown.as_ref().map(|shown| shown.opened().claimed);
                Ok((open(view.filesystem, shown), claimed.unwrap_or_default()))
            }
            VolumePart::Layer(at) => {
                let (filesystem, claimed) = self.structure.layer(at, &claimed)?;
                Ok((open(Arc::new(filesystem), None), claimed))
            }
            VolumePart::Attestations => self.structure.attestations().map(alone),
            VolumePart::Referrers => self.structure.referrers().map(alone),
        }
    }
}

impl State {
    fn node(&mut self, node: LayoutNode) -> u32 {
        self.nodes.push(node);
        self.nodes.len() as u32
    }

    fn directory(&mut self, path: String, from: Option<Origin>) -> Named {
        Named::Directory(self.node(LayoutNode::Directory { path, rows: Arc::default(), from }))
    }

    fn volume(&mut self, path: String, structure: &Arc<Structure>, part: VolumePart) -> Named {
        let (structure, opened) = (Arc::clone(structure), Arc::default());
        self.volumes.push(LayoutVolume { path, structure, part, entered: None, opened });
        Named::Volume(self.volumes.len() as u32)
    }

    fn documents(&mut self, structure: &Structure) -> Vec<(String, Named)> {
        let documents = structure.documents().into_iter();
        let rows = documents.map(|Part { name, part }| {
            (name, Named::Document(self.node(LayoutNode::Document(part.into()))))
        });
        rows.collect()
    }

    /// What the root has, of an image.
    fn whole(&mut self, root: &Arc<Structure>) -> Rows {
        let mut rows = self.image("", root);
        if root.has_platforms() {
            let id = self.directory(PLATFORMS.to_owned(), Some(Origin::Platforms));
            rows.push((PLATFORMS.to_owned(), id));
        }
        sorted(rows)
    }

    /// What a directory of images has; if it is the root, with documents.
    fn platforms(
        &mut self,
        path: &str,
        images: &[PlatformRecord],
        root: Option<&Arc<Structure>>,
    ) -> Rows {
        let rows = images.iter().map(|PlatformRecord { name, digest, media_type, bytes }| {
            let part = Descriptor {
                media_type: media_type.clone(),
                digest: *digest,
                size: *bytes,
                platform: None,
                artifact_type: None,
                annotations: BTreeMap::new(),
                urls: Vec::new(),
                data: String::new(),
                name: String::new(),
            };
            let id = self.directory(below(path, name), Some(Origin::Image(part)));
            (name.clone(), id)
        });
        let mut rows: Vec<_> = rows.collect();
        rows.extend(root.into_iter().flat_map(|root| self.documents(root)));
        sorted(rows)
    }

    /// What the directory of an image has.
    fn image(&mut self, path: &str, structure: &Arc<Structure>) -> Vec<(String, Named)> {
        let mut rows = self.documents(structure);
        let is_artifact = structure.image().is_some_and(|image| image.artifact.is_some());
        let merged = if is_artifact { "files" } else { "rootfs" };
        for (name, part) in [
            (merged, VolumePart::Merged),
            ("attestations", VolumePart::Attestations),
            ("referrers", VolumePart::Referrers),
        ] {
            rows.push((name.to_owned(), self.volume(below(path, name), structure, part)));
        }
        if !is_artifact {
            let at = below(path, "layers");
            let layers = structure.layers().into_iter().enumerate();
            let layers = layers.map(|(number, name)| {
                let volume = self.volume(below(&at, &name), structure, VolumePart::Layer(number));
                (name, volume)
            });
            // In the order of the image.
            let layers = Arc::new(Slot::of(Arc::new(layers.collect::<Vec<_>>())));
            let node = LayoutNode::Directory { path: at, rows: layers, from: None };
            rows.push(("layers".to_owned(), Named::Directory(self.node(node))));
        }
        rows
    }
}

fn below(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}/{name}") }
}

fn sorted(mut rows: Vec<(String, Named)>) -> Rows {
    rows.sort_by(|a, b| a.0.cmp(&b.0));
    Arc::new(rows)
}

/// The file system of a volume, if it is open.
fn opened_of(volumes: &[LayoutVolume], volume: u32) -> Option<Arc<Filesystem>> {
    Some(volumes.get((volume as usize).wrapping_sub(1))?.opened.get()?.filesystem)
}

impl Directories for Layout {
    fn node(&self, id: u32) -> Option<Node> {
        self.node_of(id).ok().map(|node| match node {
            LayoutNode::Directory { .. } => Node::Directory,
            LayoutNode::Document(bytes) => Node::Document(bytes),
        })
    }

    fn changed(&self, _id: u32) -> SystemTime {
        SystemTime::UNIX_EPOCH
    }

    fn lookup(&self, id: u32, name: &[u8], give_up: Instant) -> Result<Named, Error> {
        let rows = self.rows(id, give_up)?;
        let found = rows.iter().find(|(other, _)| other.as_bytes() == name);
        found.map(|(_, named)| *named).ok_or(Error::NotFound)
    }

    fn list(&self, id: u32, give_up: Instant) -> Result<Vec<(Vec<u8>, Named)>, Error> {
        let rows = self.rows(id, give_up)?;
        Ok(rows.iter().map(|(name, named)| (name.clone().into_bytes(), *named)).collect())
    }

    fn opened(&self, volume: u32) -> Result<Option<Arc<Filesystem>>, Error> {
        Ok(self.volume_of(volume)?.opened.get().map(|open| open.filesystem))
    }

    fn open(&self, volume: u32, give_up: Instant) -> Result<Arc<Filesystem>, Error> {
        let (id, volume) = (volume, self.volume_of(volume)?);
        let own = self.own.upgrade().ok_or(Error::NotFound)?;
        let (slot, path) = (Arc::clone(&volume.opened), volume.path.clone());
        let open = slot.wait(&path, give_up, move || {
            let opened = own.open_now(id, &volume).map_err(|error| error.to_string());
            opened.inspect_err(|why| log::warn!("{}: {why}", volume.path))
        })?;
        Ok(open.filesystem)
    }

    fn opened_with(&self, layer: u32, entry: u32) -> Result<Option<Arc<Filesystem>>, Error> {
        let mut state = self.state();
        let State { volumes, holders, .. } = &mut *state;
        let found = holders.open(layer, entry, |volume| opened_of(volumes, volume));
        match found {
            Some((_, filesystem)) => Ok(Some(filesystem)),
            None if holders.candidates(layer, entry).is_empty() => Err(Error::NotFound),
            None => Ok(None),
        }
    }

    fn candidates(&self, layer: u32, entry: u32) -> Vec<u32> {
        self.state().holders.candidates(layer, entry)
    }

    fn seen_root(&self, volume: u32) -> Option<SeenRoot> {
        self.volume_of(volume).ok()?.entered.as_ref().map(Entered::root)
    }

    fn timeout(&self) -> Duration {
        self.timeout
    }

    fn catch_up(&self) -> io::Result<()> {
        self.journal.replay(|record| self.list_again(record)).map_err(io::Error::other)
    }

    fn kept(&self) -> (Vec<Opened>, u64) {
        let root = self.root.root();
        let words = root.hash().first_chunk().copied().unwrap_or_default();
        let opened = Opened { root, claimed: HashSet::new(), base: None, words: None };
        (vec![opened], u64::from_le_bytes(words))
    }

    fn shown(&self) -> Vec<(String, Shown)> {
        let volumes = self.state().volumes.clone();
        let images = volumes.into_iter().filter(|volume| {
            let is_root = Arc::ptr_eq(&volume.structure, &self.root);
            matches!(volume.part, VolumePart::Merged) && (is_root || volume.opened.get().is_some())
        });
        let shown = images.filter_map(|volume| {
            let open = volume.opened.get().and_then(|open| open.shown);
            let path = volume.path.rsplit_once('/').map_or("", |(path, _)| path);
            Some((path.to_owned(), volume.structure.shown(open.as_deref())?))
        });
        shown.collect()
    }

    fn spans(&self) -> Option<&Arc<Spans>> {
        Some(self.root.spans())
    }

    fn traffic(&self) -> &Arc<Traffic> {
        self.root.traffic()
    }
}
