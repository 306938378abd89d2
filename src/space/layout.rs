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
//! # Invariants
//!
//! - Nodes and volumes are never removed, so their numbers lead to what they led to.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant, SystemTime};

use super::directories::{Directories, Named, Node};
use super::holders::Holders;
use super::slot::Slot;
use crate::blob::Spans;
use crate::fs::{Error, Filesystem};
use crate::image::{self, Part, Shown, Structure, View};
use crate::oci::Descriptor;
use crate::source::registry::Traffic;

/// The directory of the images of an index.
const PLATFORMS: &str = "platforms";

/// What an image consists of.
#[derive(Debug)]
pub struct Layout {
    root: Arc<Structure>,
    timeout: Duration,
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

impl Layout {
    /// Of an image or, if the structure is that of all platforms, of each image of its index. No answer takes longer
    /// than `timeout`.
    pub fn new(structure: Structure, timeout: Duration) -> Arc<Layout> {
        let (root, mut state) = (Arc::new(structure), State::default());
        state.directory(String::new(), Some(Origin::Root));
        let state = Mutex::new(state);
        Arc::new_cyclic(|own| Layout { root, timeout, state, own: Weak::clone(own) })
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
                Some(Origin::Root) => own.root(),
                Some(Origin::Platforms) => own.platforms(&path).map(sorted),
                Some(Origin::Image(descriptor)) => own.image(&path, &descriptor),
            };
            made.map_err(|error| error.to_string()).inspect_err(|why| log::warn!("{path}: {why}"))
        })
    }

    /// What the root has: an image's parts, or a directory for each platform.
    fn root(&self) -> Result<Rows, image::Error> {
        if self.root.image().is_none() {
            let mut rows = self.platforms("")?;
            rows.extend(self.state().documents(&self.root));
            return Ok(sorted(rows));
        }
        let mut state = self.state();
        let mut rows = state.image("", &self.root);
        if self.root.has_platforms() {
            let id = state.directory(PLATFORMS.to_owned(), Some(Origin::Platforms));
            rows.push((PLATFORMS.to_owned(), id));
        }
        Ok(sorted(rows))
    }

    /// A directory for each image of the index, below the one of this path.
    fn platforms(&self, path: &str) -> Result<Vec<(String, Named)>, image::Error> {
        let platforms = self.root.platforms()?;
        let mut state = self.state();
        let rows = platforms.into_iter().map(|Part { name, part }| {
            let id = state.directory(below(path, &name), Some(Origin::Image(part)));
            (name, id)
        });
        Ok(rows.collect())
    }

    fn image(&self, path: &str, descriptor: &Descriptor) -> Result<Rows, image::Error> {
        let structure = Arc::new(self.root.of_platform(descriptor)?);
        Ok(sorted(self.state().image(path, &structure)))
    }
}

impl LayoutVolume {
    fn open(&self) -> Result<Open, image::Error> {
        let alone = |filesystem| Open { filesystem: Arc::new(filesystem), shown: None };
        match self.part {
            VolumePart::Merged => {
                let mut view = View::from(self.structure.merged()?);
                let shown = view.images.pop().map(Arc::new);
                Ok(Open { filesystem: view.filesystem, shown })
            }
            VolumePart::Layer(at) => self.structure.layer(at).map(alone),
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
        self.volumes.push(LayoutVolume { path, structure, part, opened });
        Named::Volume(self.volumes.len() as u32)
    }

    fn documents(&mut self, structure: &Structure) -> Vec<(String, Named)> {
        let documents = structure.documents().into_iter();
        let rows = documents.map(|Part { name, part }| {
            (name, Named::Document(self.node(LayoutNode::Document(part.into()))))
        });
        rows.collect()
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

    fn open(&self, id: u32, give_up: Instant) -> Result<Arc<Filesystem>, Error> {
        let (own, volume) = (self.own.upgrade().ok_or(Error::NotFound)?, self.volume_of(id)?);
        let (slot, path) = (Arc::clone(&volume.opened), volume.path.clone());
        let open = slot.wait(&path, give_up, move || {
            let opened = volume.open().map_err(|error| error.to_string());
            let opened = opened.inspect_err(|why| log::warn!("{}: {why}", volume.path))?;
            own.state().holders.opened(id, &opened.filesystem);
            Ok(opened)
        })?;
        Ok(open.filesystem)
    }

    fn opened_with(&self, layer: u32, entry: u32) -> Result<Option<Arc<Filesystem>>, Error> {
        let mut state = self.state();
        let State { volumes, holders, .. } = &mut *state;
        let found = holders.open(layer, entry, |volume| opened_of(volumes, volume));
        match found {
            Some((_, filesystem)) => Ok(Some(filesystem)),
            None => holders.holder(layer, entry).map(|_| None).ok_or(Error::NotFound),
        }
    }

    fn open_with(
        &self,
        layer: u32,
        entry: u32,
        give_up: Instant,
    ) -> Result<Arc<Filesystem>, Error> {
        let holder = self.state().holders.holder(layer, entry);
        self.open(holder.ok_or(Error::NotFound)?, give_up)
    }

    fn timeout(&self) -> Duration {
        self.timeout
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
