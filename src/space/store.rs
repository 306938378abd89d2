//! A store of podman, buildah and CRI-O (`ocifs store`): images that these programs use where they are, without a pull.
//!
//! ```text
//! overlay-images/images.json  images.lock       names, IDs, the top layer of each image
//! overlay-images/ID/manifest, =BASE64           documents
//! overlay-layers/layers.json  layers.lock       each layer's parent, digests and size
//! overlay-layers/ID.tar-split.gz                what of the layer's archive is not the content of files
//! overlay/ID/diff/                              what the layers up to this one make
//! overlay/ID/link  merged/ empty/ work/         the short name of the layer; what engines expect beside it
//! overlay/l/LINK -> ../ID/diff                  the same by the short name
//! ```
//!
//! # Problem
//!
//! These programs read a list of read-only stores (`additionalimagestores`), in the form in which they write their
//! own: a folder for each layer, with what that layer brought. Unpacking is what is to be avoided, and overlayfs
//! over twenty mounts is slow.
//!
//! # Design
//!
//! Where a layer's folder has no file `lower`, an engine mounts this folder alone. So `diff` is the *prefix tree* of the
//! layer, all layers up to it merged ([`Prefixes`]), and the whole store is one file system, as idmapped mounts need
//! it. Each tree is a volume, opened when it is looked at; documents and lists are in memory. A layer that several images
//! have, on top of the same layers, is there once.
//!
//! A tree is closed when there are many and it was not used for longest, those first that are no image's top. Its files
//! have the numbers that they had when it is opened again, and files of several trees have one number
//! ([`SharedFiles`](crate::fs::SharedFiles)).
//!
//! A layer is listed under the ID that the engine would give it; children in the user's own store refer to
//! that, and to the link. Both are made of digests alone, so they are the same for every run.
//!
//! A layer's digests are what *another* image is recognised by that has the layer: an engine that pulls that one takes ours.
//! So a layer is listed under its digests only if it was streamed here, and each below it. One that is known by a table of
//! contents has an ID that no other image leads to: containers run, and engines refuse to commit, save or push it.
//!
//! # Rejected
//!
//! A store of one merged layer for each image: containers run, but an engine that is to commit or push one finds that
//! layers and history do not fit together.
//!
//! # Invariants
//!
//! - Nodes and volumes keep their numbers, which follow from the images in their order; images are added at the end.
//! - An image that is listed has all its layers listed.
//! - What is under the ID or the digest of a layer has that digest, whatever the image said that brought it.

mod documents;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant, SystemTime};

use documents::LayerRow;
use serde_json::Value;
use xxhash_rust::xxh3::{Xxh3Default, xxh3_64};

use super::directories::{Directories, Named, Node};
use super::slot::Slot;
use crate::blob::Spans;
use crate::fs::{Error, Filesystem};
use crate::image::{Opened, PrefixedImage, Prefixes, Shown};
use crate::source::registry::Traffic;

/// Trees that are open at the same time, and inodes in all of them.
const MAX_OPEN: usize = 64;
const MAX_INODES: usize = 8 << 20;

/// Bytes of descriptions that are kept.
const MAX_SPLIT_BYTES: usize = 64 << 20;

/// Begins the numbers of lists, which are made of what they say: they change, and other nodes keep their numbers.
const LISTS: u32 = 1 << 31;

/// Lists that are kept, for readers that have opened them before they were replaced.
const MAX_LISTS: usize = 16;

/// Times of lists are below this: some thirty years.
const YEARS_SECONDS: u64 = 1 << 30;

/// Directories that are there from the beginning.
const ROOT: u32 = 1;
const IMAGES: u32 = 2;
const LAYERS: u32 = 3;
const OVERLAY: u32 = 4;
const LINKS: u32 = 5;
/// One that is always empty.
const EMPTY: u32 = 6;

/// An image, and the names under which engines find it.
#[derive(Debug)]
pub struct StoreImage {
    /// It.
    pub image: PrefixedImage,
    /// Each in full: `docker.io/library/debian:12`.
    pub names: Vec<String>,
    /// How it was asked for.
    pub words: String,
}

/// A store of images.
#[derive(Debug)]
pub struct Store {
    prefixes: Arc<Prefixes>,
    timeout: Duration,
    state: Mutex<State>,
    own: Weak<Store>,
}

#[derive(Debug, Default)]
struct State {
    nodes: Vec<StoreNode>,
    /// Lists by their numbers, the newest last.
    lists: VecDeque<(u32, Arc<[u8]>)>,
    volumes: Vec<StoreVolume>,
    splits: Vec<TarSplit>,
    images: Vec<Listed>,
    /// What was added, in order: an image may be added under several names.
    given: Vec<Opened>,
    layers: Vec<LayerRow>,
    /// The volume of each layer, by its ID.
    volume_of: HashMap<String, u32>,
    /// The volumes that have a layer, by the number that trees know it by; first those whose top it is.
    with_layer: HashMap<u32, Vec<u32>>,
    /// The volume that had a file of a layer last.
    last_with: HashMap<u32, u32>,
    changed: Option<SystemTime>,
}

#[derive(Clone, Debug)]
enum StoreNode {
    Directory(BTreeMap<String, Named>),
    Document(Arc<[u8]>),
    Symlink(Arc<[u8]>),
    /// One of `State::splits`.
    TarSplit(usize),
}

#[derive(Debug)]
struct StoreVolume {
    image: Arc<PrefixedImage>,
    /// How many layers it has.
    count: usize,
    /// Whether it is all of an image.
    is_top: bool,
    used: Instant,
    opened: Arc<Slot<Arc<Filesystem>>>,
}

/// The description of a layer's archive, made when it is looked up.
#[derive(Clone, Debug)]
struct TarSplit {
    volume: u32,
    /// The bytes of the archive that were read so far.
    done: Arc<AtomicU64>,
    used: Instant,
    made: Arc<Slot<Arc<[u8]>>>,
}

/// An image that is listed.
#[derive(Debug)]
struct Listed {
    image: Arc<PrefixedImage>,
    names: Vec<String>,
    row: Value,
}

impl Store {
    /// A store of these images. No answer takes longer than `timeout`.
    pub fn new(prefixes: Arc<Prefixes>, images: Vec<StoreImage>, timeout: Duration) -> Arc<Store> {
        let mut state = State::default();
        state.begin();
        for image in images {
            state.add(image);
        }
        state.publish();
        let state = Mutex::new(state);
        Arc::new_cyclic(|own| Store { prefixes, timeout, state, own: Weak::clone(own) })
    }

    /// Adds an image, behind those that are there.
    pub fn add(&self, image: StoreImage) {
        let mut state = self.state();
        state.add(image);
        state.publish();
    }

    /// A thread that panicked left nothing half done in there.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store {
    /// What a volume is called in messages.
    fn name_of(&self, volume: u32) -> Result<String, Error> {
        let mut state = self.state();
        let StoreVolume { image, count, .. } = state.volume(volume)?;
        Ok(format!("{}, layers 0 to {}", image.resolved().name, count.saturating_sub(1)))
    }

    /// Makes a description of the uppermost layer of a volume.
    fn describe(&self, at: usize, volume: u32, done: &AtomicU64) -> Result<Arc<[u8]>, String> {
        let (image, count) = {
            let mut state = self.state();
            let volume = state.volume(volume).map_err(|error| error.to_string())?;
            (Arc::clone(&volume.image), volume.count)
        };
        let tree = self.open(volume, Instant::now() + self.timeout);
        let made = tree.map_err(|error| error.to_string()).and_then(|tree| {
            let split = self.prefixes.tar_split(&image, count - 1, &tree, done);
            split.map_err(|error| error.to_string())
        });
        let made = made.inspect_err(|why| log::warn!("{}: {why}", image.resolved().name))?;
        self.state().forget_splits(at, made.len());
        Ok(made.into())
    }
}

impl State {
    fn node(&mut self, node: StoreNode) -> u32 {
        self.nodes.push(node);
        self.nodes.len() as u32
    }

    fn document(&mut self, bytes: &[u8]) -> Named {
        Named::Document(self.node(StoreNode::Document(bytes.into())))
    }

    fn directory(&mut self, rows: impl IntoIterator<Item = (String, Named)>) -> Named {
        Named::Directory(self.node(StoreNode::Directory(rows.into_iter().collect())))
    }

    /// Puts something into a directory, in place of what has its name there.
    fn put(&mut self, directory: u32, name: &str, named: Named) -> Option<Named> {
        match &mut self.nodes[directory as usize - 1] {
            StoreNode::Directory(rows) => rows.insert(name.to_owned(), named),
            _ => None,
        }
    }

    /// The directories of a store without images.
    fn begin(&mut self) {
        for _ in [ROOT, IMAGES, LAYERS, OVERLAY, LINKS, EMPTY] {
            self.directory([]);
        }
        for (above, name, directory) in [
            (ROOT, "overlay-images", IMAGES),
            (ROOT, "overlay-layers", LAYERS),
            (ROOT, "overlay", OVERLAY),
            (OVERLAY, "l", LINKS),
        ] {
            self.put(above, name, Named::Directory(directory));
        }
        // Two files: a process that lets go of one lock lets go of all that it has on the file.
        for (directory, name) in [(IMAGES, "images.lock"), (LAYERS, "layers.lock")] {
            let lock = self.document(b"");
            self.put(directory, name, lock);
        }
    }

    /// Adds an image, which is listed from the next [`State::publish`] on.
    fn add(&mut self, StoreImage { image, names, words }: StoreImage) {
        let image = Arc::new(image);
        self.given.push(Opened { words: Some(words), ..image.shown().opened() });
        let id = image.resolved().image_id();
        // A name means the image that was given it last.
        for listed in &mut self.images {
            listed.names.retain(|name| !names.contains(name));
        }
        if let Some(listed) =
            self.images.iter_mut().find(|listed| listed.image.resolved().image_id() == id)
        {
            listed.names.extend(names);
            return;
        }
        let (mut parent, mut is_proven) = (String::new(), true);
        for (at, layer) in image.layers().iter().enumerate() {
            is_proven = is_proven && layer.proof.is_own();
            let layer_id = match is_proven {
                true => documents::layer_id(&parent, &layer.diff_id),
                false => documents::unproven_id(&parent, layer),
            };
            if !self.volume_of.contains_key(&layer_id) {
                self.layers.push(LayerRow::new(layer_id.clone(), parent, layer, is_proven));
                self.add_layer(&layer_id, &image, at + 1);
            }
            parent = layer_id;
        }
        if let Some(volume) = self.volume_of.get(&parent) {
            self.volumes[*volume as usize - 1].is_top = true;
        }
        let data = documents::documents(&image);
        let row = documents::image_row(&image, &[], &parent, &data);
        let files = data.iter().map(|data| (data.file_name(), self.document(&data.bytes)));
        let files: Vec<_> = files.collect();
        let directory = self.directory(files);
        self.put(IMAGES, &id.hex(), directory);
        self.images.push(Listed { image, names, row });
    }

    /// Adds the directory of a layer: the lowest `count` layers of an image.
    fn add_layer(&mut self, id: &str, image: &Arc<PrefixedImage>, count: usize) {
        self.volumes.push(StoreVolume {
            image: Arc::clone(image),
            count,
            is_top: false,
            used: Instant::now(),
            opened: Arc::default(),
        });
        let volume = self.volumes.len() as u32;
        self.volume_of.insert(id.to_owned(), volume);
        for (at, layer) in image.layers()[..count].iter().enumerate() {
            let volumes = self.with_layer.entry(layer.number).or_default();
            match at + 1 == count {
                true => volumes.insert(0, volume),
                false => volumes.push(volume),
            }
        }
        let split = StoreNode::TarSplit(self.splits.len());
        let (done, used, made) = (Arc::default(), Instant::now(), Arc::default());
        self.splits.push(TarSplit { volume, done, used, made });
        let split = Named::Document(self.node(split));
        self.put(LAYERS, &format!("{id}.tar-split.gz"), split);
        let link = documents::link_of(id);
        let target = format!("../{id}/diff");
        let symlink = self.node(StoreNode::Symlink(target.as_bytes().into()));
        self.put(LINKS, &link, Named::Symlink(symlink));
        let link = self.document(link.as_bytes());
        let empty = Named::Directory(EMPTY);
        let directories = ["empty", "merged", "work"].map(|name| (name.to_owned(), empty));
        let files = [("diff", Named::Volume(volume)), ("link", link)];
        let files = files.map(|(name, named)| (name.to_owned(), named));
        let directory = self.directory(directories.into_iter().chain(files));
        self.put(OVERLAY, id, directory);
    }

    /// Writes the lists anew.
    fn publish(&mut self) {
        let images = self.images.iter().map(|Listed { names, row, .. }| {
            let mut row = row.clone();
            row["names"] = names.as_slice().into();
            row
        });
        let images = Value::Array(images.collect()).to_string();
        // Strings and numbers: nothing of it can fail.
        let layers = serde_json::to_string(&self.layers).unwrap_or_default();
        let said = [images.as_bytes(), layers.as_bytes()].concat();
        for (directory, name, text) in
            [(IMAGES, "images.json", images), (LAYERS, "layers.json", layers)]
        {
            let id = LISTS | xxh3_64(text.as_bytes()) as u32;
            self.lists.retain(|(other, _)| *other != id);
            self.lists.push_back((id, text.into_bytes().into()));
            self.put(directory, name, Named::Document(id));
        }
        // Engines read a list again if its time is another: so it is made of what they say, and the same for every process.
        let seconds = xxh3_64(&said) % YEARS_SECONDS;
        while self.lists.len() > MAX_LISTS {
            self.lists.pop_front();
        }
        self.changed = Some(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds));
    }

    /// Of all that numbers follow from: the images in their order, and the layers as trees number them.
    fn checksum(&self) -> u64 {
        let mut sum = Xxh3Default::new();
        for Listed { image, row, .. } in &self.images {
            sum.update(row.to_string().as_bytes());
            for (layer, proof) in image.layers().iter().zip(&image.shown().proofs) {
                sum.update(format!("{layer:?} {proof:?}").as_bytes());
            }
        }
        sum.update(&self.nodes.len().to_le_bytes());
        sum.digest()
    }

    fn volume(&mut self, id: u32) -> Result<&mut StoreVolume, Error> {
        self.volumes.get_mut((id as usize).wrapping_sub(1)).ok_or(Error::NotFound)
    }

    /// An open volume that has a file.
    fn opened_with(&mut self, layer: u32, entry: u32) -> Result<Option<Arc<Filesystem>>, Error> {
        let volumes = self.with_layer.get(&layer).ok_or(Error::NotFound)?;
        let last = self.last_with.get(&layer);
        let found = last.into_iter().chain(volumes).find_map(|id| {
            let filesystem = self.volumes[*id as usize - 1].opened.get()?;
            filesystem.file_made_from(layer, entry)?;
            Some((*id, filesystem))
        });
        Ok(found.map(|(id, filesystem)| {
            self.last_with.insert(layer, id);
            self.volumes[id as usize - 1].used = Instant::now();
            filesystem
        }))
    }

    /// Forgets descriptions until there is room for this one with so many bytes.
    fn forget_splits(&mut self, at: usize, bytes: usize) {
        loop {
            let others = self.splits.iter().enumerate().filter(|(other, _)| *other != at);
            let made = others
                .filter_map(|(other, split)| Some((other, split.used, split.made.get()?.len())));
            let made: Vec<_> = made.collect();
            let all: usize = made.iter().map(|(_, _, bytes)| bytes).sum();
            let longest = made.iter().min_by_key(|(_, used, _)| *used);
            match longest.filter(|_| all + bytes > MAX_SPLIT_BYTES) {
                Some((other, ..)) => self.splits[*other].made.clear(),
                None => return,
            }
        }
    }

    /// Closes trees until there is room for this one with so many inodes.
    fn make_room(&mut self, id: u32, inodes: usize) {
        loop {
            let others = self.volumes.iter().enumerate().filter(|(at, _)| *at + 1 != id as usize);
            let open = others.filter_map(|(at, volume)| {
                let filesystem = volume.opened.get()?;
                Some((at, (volume.is_top, volume.used), filesystem.tree().len()))
            });
            let open: Vec<_> = open.collect();
            let all: usize = open.iter().map(|(_, _, inodes)| inodes).sum();
            if open.len() < MAX_OPEN && all + inodes <= MAX_INODES {
                return;
            }
            let least = open.iter().min_by_key(|(_, rank, _)| *rank);
            let Some((at, ..)) = least else { return };
            self.volumes[*at].opened.clear();
        }
    }
}

impl Directories for Store {
    fn node(&self, id: u32) -> Option<Node> {
        let state = self.state();
        if let Some((_, list)) = state.lists.iter().find(|(list, _)| *list == id) {
            return Some(Node::Document(Arc::clone(list)));
        }
        match state.nodes.get((id as usize).wrapping_sub(1))? {
            StoreNode::Directory(_) => Some(Node::Directory),
            StoreNode::Document(bytes) => Some(Node::Document(Arc::clone(bytes))),
            StoreNode::Symlink(target) => Some(Node::Symlink(Arc::clone(target))),
            StoreNode::TarSplit(at) => Some(match state.splits[*at].made.get() {
                Some(bytes) => Node::Document(bytes),
                None => Node::Unmade,
            }),
        }
    }

    fn changed(&self, _id: u32) -> SystemTime {
        self.state().changed.unwrap_or(SystemTime::UNIX_EPOCH)
    }

    fn lookup(&self, id: u32, name: &[u8], _give_up: Instant) -> Result<Named, Error> {
        let name = std::str::from_utf8(name).map_err(|_| Error::NotFound)?;
        match self.state().nodes.get((id as usize).wrapping_sub(1)) {
            Some(StoreNode::Directory(rows)) => rows.get(name).copied().ok_or(Error::NotFound),
            Some(_) => Err(Error::NotADirectory),
            None => Err(Error::NotFound),
        }
    }

    fn list(&self, id: u32, _give_up: Instant) -> Result<Vec<(Vec<u8>, Named)>, Error> {
        match self.state().nodes.get((id as usize).wrapping_sub(1)) {
            Some(StoreNode::Directory(rows)) => {
                Ok(rows.iter().map(|(name, named)| (name.clone().into_bytes(), *named)).collect())
            }
            Some(_) => Err(Error::NotADirectory),
            None => Err(Error::NotFound),
        }
    }

    fn opened(&self, volume: u32) -> Result<Option<Arc<Filesystem>>, Error> {
        let mut state = self.state();
        let volume = state.volume(volume)?;
        volume.used = Instant::now();
        Ok(volume.opened.get())
    }

    fn open(&self, id: u32, give_up: Instant) -> Result<Arc<Filesystem>, Error> {
        let own = self.own.upgrade().ok_or(Error::NotFound)?;
        let (slot, image, count) = {
            let mut state = self.state();
            let volume = state.volume(id)?;
            volume.used = Instant::now();
            (Arc::clone(&volume.opened), Arc::clone(&volume.image), volume.count)
        };
        let name = self.name_of(id)?;
        let wanted = name.clone();
        slot.wait(&name, give_up, move || {
            let opened = own.prefixes.open(&image, count).map_err(|error| error.to_string());
            let opened = opened.inspect_err(|why| log::warn!("{wanted}: {why}"))?;
            own.state().make_room(id, opened.tree().len());
            Ok(Arc::new(opened))
        })
    }

    fn opened_with(&self, layer: u32, entry: u32) -> Result<Option<Arc<Filesystem>>, Error> {
        self.state().opened_with(layer, entry)
    }

    fn candidates(&self, layer: u32, _entry: u32) -> Vec<u32> {
        self.state().with_layer.get(&layer).cloned().unwrap_or_default()
    }

    fn make(&self, id: u32, give_up: Instant) -> Result<Arc<[u8]>, Error> {
        let own = self.own.upgrade().ok_or(Error::NotFound)?;
        let (at, split) = {
            let mut state = self.state();
            let node = state.nodes.get((id as usize).wrapping_sub(1));
            let Some(StoreNode::TarSplit(at)) = node else { return Err(Error::NotFound) };
            let at = *at;
            state.splits[at].used = Instant::now();
            (at, state.splits[at].clone())
        };
        let TarSplit { volume, done, made, .. } = split;
        let read = Arc::clone(&done);
        let (mut give_up, mut before) = (give_up, 0);
        loop {
            let (store, done) = (Arc::clone(&own), Arc::clone(&done));
            let name = self.name_of(volume)?;
            let wait = made.wait(&name, give_up, move || store.describe(at, volume, &done));
            let now = read.load(Ordering::Relaxed);
            // All of the layer is read for it: as long as that goes on, it is waited for.
            match wait {
                Err(Error::Late { .. }) if now > before => {
                    (before, give_up) = (now, Instant::now() + self.timeout);
                }
                result => return result,
            }
        }
    }

    fn shows_roots(&self) -> bool {
        true
    }

    fn timeout(&self) -> Duration {
        self.timeout
    }

    fn shown(&self) -> Vec<(String, Shown)> {
        let state = self.state();
        let images = state.images.iter().map(|Listed { image, names, .. }| {
            let name = names.first().cloned().unwrap_or_else(|| image.resolved().image_id().hex());
            (name, image.shown().clone())
        });
        images.collect()
    }

    fn kept(&self) -> (Vec<Opened>, u64) {
        let state = self.state();
        (state.given.clone(), state.checksum())
    }

    fn spans(&self) -> Option<&Arc<Spans>> {
        Some(self.prefixes.spans())
    }

    fn traffic(&self) -> &Arc<Traffic> {
        self.prefixes.traffic()
    }
}
