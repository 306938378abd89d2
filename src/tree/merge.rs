//! Merging layers, base to top, into a [`Tree`].
//!
//! # Semantics
//!
//! OCI image spec, layer.md, "Applying changesets"; where it is silent, what containerd's and
//! umoci's extraction agree on. Each layer is applied in two passes:
//!
//! 1. All its whiteouts, against the lower layers only: `.wh.NAME` hides a lower name with all
//!    below it, an opaque mark all lower names of its directory. (Applying them where they stand in
//!    the tar would make a file of the same layer vanish if it came first.)
//! 2. All its entries in the order of the tar. A directory over a directory merges and takes the
//!    upper's attributes; anything else replaces what was there with all below it.
//!
//! The directory part of a path follows symlinks, inside the image, as unpacking would: an entry
//! `lib/x` over a lower `lib -> usr/lib` lands in `usr/lib`. Directories that no entry describes
//! are made (0755, owner 0:0, time 0), also where a dangling symlink points. A lower *file* in
//! the way of such a directory gives way; one of the same layer is an error. A hard link is
//! resolved where it stands, shares the inode from then on, and takes no attributes from its
//! own header. Where a layer hides the target of its own hard link by a whiteout, the lower file
//! is still found.
//!
//! A whiteout is not followed through a symlink of the lower layers that this very layer
//! replaces: below the new directory there is nothing of the lower layers to hide.
//!
//! # Cost
//!
//! One hash lookup and one insertion an entry; directories are resolved once a layer, however many
//! entries, hard links and whiteouts name them. Paths that lead through symlinks, or to nothing, are
//! walked again when a directory or a symlink came or went. Symlinks followed are bounded per path, and
//! so are in total the steps that are more than one a directory.

use hashbrown::{HashMap, HashSet};

use super::{BLOCK_BYTES, Dirent, FAST_SYMLINK_BYTES, FileKind, Ino, Inode, Tree, Xattr};
use crate::extent::Run;
use crate::index::{
    DirId, Entry, EntryKind, LayerIndex, MAX_NAME_BYTES, MAX_PATH_BYTES, ROOT_DIR, Runs,
};

/// Symlinks followed for one path, as umoci limits them.
const MAX_LINKS: u32 = 255;

/// Steps through symlink targets and through paths that are walked again, in one merge: far above any
/// real image, and a second's work.
const MAX_STEPS: u64 = 50_000_000;

/// Names made in one merge, those included that later layers remove: ten times the largest image
/// heard of, and a bound on memory.
const MAX_NODES: usize = 16 << 20;

/// Names that room is made for at once.
const MAX_EXPECTED: usize = 1 << 20;

/// Size that directories are shown with, in bytes.
pub(super) const DIRECTORY_BYTES: u64 = 4096;

/// Why layers don't make a tree. `layer` is the position in the image, 0 is the base.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[allow(missing_docs, reason = "the messages are the documentation")]
pub enum Error {
    #[error(
        "layer {layer}: `{path}` needs `{blocker}` to be a directory, but the layer made it something else"
    )]
    NotADirectory { layer: usize, path: String, blocker: String },
    #[error("layer {layer}: hard link `{path}`: its target `{target}` does not exist")]
    LinkTarget { layer: usize, path: String, target: String },
    #[error("layer {layer}: hard link `{path}`: its target `{target}` is a directory")]
    LinkToDirectory { layer: usize, path: String, target: String },
    #[error("layer {layer}: `{path}`: too many levels of symbolic links")]
    SymlinkLoop { layer: usize, path: String },
    #[error(
        "layer {layer}: `{path}`: finding where the paths of the image lead takes more than {MAX_STEPS} steps"
    )]
    TooManySteps { layer: usize, path: String },
    #[error("layer {layer}: `{path}` leads through a symlink with a name longer than 255 bytes")]
    NameTooLong { layer: usize, path: String },
    #[error(
        "layer {layer}: the path of `{path}` is longer than 4096 bytes with its symlinks followed"
    )]
    PathTooLong { layer: usize, path: String },
    #[error("there are more than {MAX_NODES} names in an image, or 4 GiB of text in all of them")]
    TooLarge,
}

/// Merges the layers, base first.
///
/// # Errors
/// What unpacking the layers would fail with.
pub fn merge(layers: &[&LayerIndex]) -> Result<Tree, Error> {
    Merge::of(layers)?.flatten(None)
}

/// The entries that the inodes of a tree were made from, 4 bytes an inode.
#[derive(Debug)]
pub struct Origins(Vec<u32>);

impl Origins {
    /// The place of the entry in its layer; `None` for an implied directory.
    pub(super) fn entry(&self, ino: Ino) -> Option<usize> {
        let entry = self.0[ino.position()];
        (entry != NONE).then_some(entry as usize)
    }
}

/// Merges the layers, base first, and says where each inode comes from.
///
/// # Errors
/// As [`merge()`].
pub fn merge_with_origins(layers: &[&LayerIndex]) -> Result<(Tree, Origins), Error> {
    let mut origins = Vec::new();
    let tree = Merge::of(layers)?.flatten(Some(&mut origins))?;
    Ok((tree, Origins(origins)))
}

type NodeId = u32;
const ROOT: NodeId = 0;
pub(super) const NONE: u32 = u32::MAX;

/// A name in the tree.
#[derive(Debug)]
struct Node<'a> {
    parent: NodeId,
    name: &'a [u8],
    /// Row of `Merge::inodes`; hard links share one.
    inode: u32,
    /// The layer that made this node.
    layer: u32,
    first_child: NodeId,
    next: NodeId,
    previous: NodeId,
    /// Length of the path to it from the root.
    path_bytes: u32,
    alive: bool,
}

/// What an inode is made from: the entry at this place of a layer, or `NONE` for an implied
/// directory.
#[derive(Clone, Copy, Debug)]
pub(super) struct Source {
    pub(super) layer: u32,
    pub(super) entry: u32,
}

struct Merge<'a> {
    layers: &'a [&'a LayerIndex],
    nodes: Vec<Node<'a>>,
    inodes: Vec<Source>,
    names: HashMap<(NodeId, &'a [u8]), NodeId>,
    /// Lower nodes that the layer being merged has removed, for its hard links.
    ghosts: HashMap<(NodeId, &'a [u8]), NodeId>,
    steps_left: u64,
    /// Counts directories and symlinks that came or went.
    turns: u32,
    layer: u32,
}

/// The state of one layer's application.
struct Layer<'a> {
    index: &'a LayerIndex,
    number: u32,
    /// Directory paths whose node is known; only those reached without a symlink. They lead there as
    /// long as the node is alive.
    resolved: Vec<NodeId>,
    /// Where the others led, and at which of `Merge::turns`; until the next one they still do.
    led: HashMap<DirId, (u32, Option<NodeId>)>,
    /// For hard links.
    lower: Lower<'a>,
    /// Hidden files, targets of hard links only: path to row of `Merge::inodes`.
    hidden: HashMap<(DirId, &'a [u8]), u32>,
}

/// Where directory paths of a layer lead in the layers below it. While it is applied, that stays the same.
struct Lower<'a> {
    index: &'a LayerIndex,
    /// By directory, as far as it was asked for: the node, if there is one.
    found: Vec<Option<Option<NodeId>>>,
    /// Whether symlinks are followed that the layer itself replaces.
    follows_replaced: bool,
}

impl<'a> Lower<'a> {
    fn new(index: &'a LayerIndex, follows_replaced: bool) -> Lower<'a> {
        Lower { index, found: Vec::new(), follows_replaced }
    }
}

/// What a step through the tree leads to.
enum Step<'a> {
    Missing,
    Directory(NodeId),
    Symlink(&'a [u8]),
    /// Neither: something is in the way.
    Other,
}

/// Where symlinks lead: an existing directory and names below it that do not exist (or are in the
/// way, if the first of them does).
struct Place<'a> {
    base: NodeId,
    missing: Vec<&'a [u8]>,
}

impl<'a> Merge<'a> {
    fn new(layers: &'a [&'a LayerIndex]) -> Merge<'a> {
        // Growing step by step costs a tenth of opening a cached image.
        let entries: usize = layers.iter().map(|layer| layer.entries().len()).sum();
        let expected = entries.min(MAX_EXPECTED);
        let mut inodes = Vec::with_capacity(expected + 1);
        inodes.push(Source { layer: 0, entry: NONE });
        let mut merge = Merge {
            layers,
            nodes: Vec::with_capacity(expected + 1),
            inodes,
            names: HashMap::with_capacity(expected),
            ghosts: HashMap::new(),
            steps_left: MAX_STEPS,
            turns: 0,
            layer: 0,
        };
        merge.nodes.push(Node {
            parent: ROOT,
            name: b"",
            inode: 0,
            layer: 0,
            first_child: NONE,
            next: NONE,
            previous: NONE,
            path_bytes: 0,
            alive: true,
        });
        merge
    }

    /// All layers, applied.
    fn of(layers: &'a [&'a LayerIndex]) -> Result<Merge<'a>, Error> {
        let mut merge = Merge::new(layers);
        for (number, layer) in layers.iter().enumerate() {
            merge.apply(number as u32, layer)?;
        }
        Ok(merge)
    }

    /// The entry that an inode is made from.
    fn origin(&self, inode: u32) -> Option<Entry<'a>> {
        let Source { layer, entry } = self.inodes[inode as usize];
        (entry != NONE).then(|| self.layers[layer as usize].entry_at(entry as usize))
    }

    fn kind(&self, inode: u32) -> EntryKind<'a> {
        self.origin(inode).map_or(EntryKind::Directory, |entry| entry.kind)
    }

    fn apply(&mut self, number: u32, index: &'a LayerIndex) -> Result<(), Error> {
        self.layer = number;
        self.ghosts.clear();
        // Whiteouts, hard links and entries may each need all directories.
        self.steps_left += 3 * index.dir_count() as u64;
        self.whiteouts(index)?;
        let mut layer = Layer {
            index,
            number,
            resolved: vec![NONE; index.dir_count()],
            led: HashMap::new(),
            lower: Lower::new(index, true),
            hidden: HashMap::new(),
        };
        for (at, entry) in index.entries().enumerate() {
            let source = Source { layer: number, entry: at as u32 };
            self.entry(&mut layer, entry, source)?;
        }
        Ok(())
    }

    /// Pass 1. All places are found before anything is removed, so that the order of the
    /// whiteouts does not matter either.
    fn whiteouts(&mut self, index: &'a LayerIndex) -> Result<(), Error> {
        let mut doomed = Vec::new();
        let mut emptied = HashSet::new();
        let mut lower = Lower::new(index, false);
        for whiteout in index.whiteouts() {
            let Some(dir) = self.lower_dir(&mut lower, whiteout.dir)? else { continue };
            match whiteout.name {
                Some(name) => doomed.extend(self.names.get(&(dir, name))),
                // However often and by whatever path it is said, once is enough.
                None if !emptied.insert(dir) => {}
                None => {
                    let mut child = self.node(dir).first_child;
                    while child != NONE {
                        doomed.push(child);
                        child = self.node(child).next;
                    }
                }
            }
        }
        for node in doomed {
            if self.node(node).alive {
                self.remove(node);
            }
        }
        Ok(())
    }

    /// The lower directory that a path of the layer means, if there is one.
    fn lower_dir(&mut self, lower: &mut Lower<'a>, id: DirId) -> Result<Option<NodeId>, Error> {
        let index = lower.index;
        if lower.found.is_empty() {
            lower.found = vec![None; index.dir_count()];
            lower.found[ROOT_DIR as usize] = Some(Some(ROOT));
        }
        let mut unknown = Vec::new();
        let mut at = id;
        let mut found = loop {
            if let Some(known) = lower.found[at as usize] {
                break known;
            }
            unknown.push(at);
            at = index.dir(at).parent;
        };
        self.take_steps(unknown.len(), &|| index.dir_path(id))?;
        while let Some(id) = unknown.pop() {
            if let Some(above) = found {
                found = self.lower_dir_in(lower, above, id)?;
            }
            lower.found[id as usize] = Some(found);
        }
        Ok(found)
    }

    /// The lower directory in another one.
    fn lower_dir_in(
        &mut self,
        lower: &Lower<'a>,
        above: NodeId,
        id: DirId,
    ) -> Result<Option<NodeId>, Error> {
        let index = lower.index;
        let dir = index.dir(id);
        Ok(match self.step_in(above, dir.name, true) {
            Step::Directory(child) => Some(child),
            Step::Symlink(target) if lower.follows_replaced || !dir.has_entry => {
                let place = self.follow(above, target, true, &|| index.dir_path(id))?;
                Some(place).filter(|place| place.missing.is_empty()).map(|place| place.base)
            }
            Step::Symlink(_) | Step::Missing | Step::Other => None,
        })
    }

    /// Pass 2, one entry.
    fn entry(
        &mut self,
        layer: &mut Layer<'a>,
        entry: Entry<'a>,
        source: Source,
    ) -> Result<(), Error> {
        if entry.hidden {
            let inode = self.inode(source)?;
            layer.hidden.insert((entry.dir, entry.name), inode);
            return Ok(());
        }
        if !layer.hidden.is_empty() {
            // Links that come later mean this one.
            layer.hidden.remove(&(entry.dir, entry.name));
        }
        if entry.name.is_empty() {
            self.inodes[0] = source;
            return Ok(());
        }
        // The target is looked up before anything is made or removed.
        let target = match entry.kind {
            EntryKind::HardLink { dir, name } => Some(self.link_target(layer, &entry, dir, name)?),
            _ => None,
        };
        let parent = self.directory(layer, entry.dir)?;
        let existing = self.names.get(&(parent, entry.name)).copied();
        if let Some(node) = existing {
            if target.is_some_and(|(_, target)| target == node) {
                return Ok(());
            }
            let inode = self.node(node).inode;
            let is_dir = self.kind(inode) == EntryKind::Directory;
            if is_dir && entry.kind == EntryKind::Directory {
                self.inodes[inode as usize] = source;
                return Ok(());
            }
            self.remove(node);
        }
        let inode = match target {
            Some((inode, _)) => inode,
            None => self.inode(source)?,
        };
        self.insert(parent, entry.name, inode)?;
        Ok(())
    }

    /// The inode that a hard link names, and the node (`NONE` for a hidden file).
    fn link_target(
        &mut self,
        layer: &mut Layer<'a>,
        entry: &Entry<'a>,
        dir: DirId,
        name: &'a [u8],
    ) -> Result<(u32, NodeId), Error> {
        if let Some(inode) = layer.hidden.get(&(dir, name)) {
            return Ok((*inode, NONE));
        }
        let number = layer.number as usize;
        let index = layer.index;
        let path = || path_of(index, entry.dir, entry.name);
        let target = || path_of(index, dir, name);
        if name.is_empty() {
            return Err(Error::LinkToDirectory { layer: number, path: path(), target: "/".into() });
        }
        for before in [false, true] {
            let found = match before {
                true => self.lower_dir(&mut layer.lower, dir)?,
                false => self.find_directory(layer, dir, false)?,
            };
            let Some(node) = found.and_then(|dir| self.child(dir, name, before)) else { continue };
            let inode = self.node(node).inode;
            if self.kind(inode) == EntryKind::Directory {
                return Err(Error::LinkToDirectory {
                    layer: number,
                    path: path(),
                    target: target(),
                });
            }
            return Ok((inode, node));
        }
        Err(Error::LinkTarget { layer: number, path: path(), target: target() })
    }

    /// The node of a directory path, made if it does not exist.
    fn directory(&mut self, layer: &mut Layer<'a>, id: DirId) -> Result<NodeId, Error> {
        let Some(node) = self.find_directory(layer, id, true)? else {
            unreachable!("what does not exist is made")
        };
        Ok(node)
    }

    /// The node of a directory path, as the tree is; `make` it if it does not exist.
    fn find_directory(
        &mut self,
        layer: &mut Layer<'a>,
        id: DirId,
        make: bool,
    ) -> Result<Option<NodeId>, Error> {
        // Upwards to what is known, then down again: a path may be too deep for recursion.
        let mut unknown = Vec::new();
        let mut at = id;
        let (mut found, mut direct) = loop {
            if at == ROOT_DIR {
                break (Some(ROOT), true);
            }
            let known = layer.resolved[at as usize];
            if known != NONE && self.node(known).alive {
                break (Some(known), true);
            }
            match layer.led.get(&at) {
                Some((turns, led)) if *turns == self.turns && !(make && led.is_none()) => {
                    break (*led, false);
                }
                _ => unknown.push(at),
            }
            at = layer.index.dir(at).parent;
        };
        let index = layer.index;
        self.take_steps(unknown.len(), &|| index.dir_path(id))?;
        while let Some(id) = unknown.pop() {
            if let Some(above) = found {
                let is_direct;
                (found, is_direct) = self.directory_in(index, above, id, make)?;
                direct &= is_direct;
            }
            match found {
                Some(node) if direct => layer.resolved[id as usize] = node,
                _ => drop(layer.led.insert(id, (self.turns, found))),
            }
        }
        Ok(found)
    }

    /// The directory in another one, and whether it is there itself and not behind a symlink.
    fn directory_in(
        &mut self,
        index: &'a LayerIndex,
        above: NodeId,
        id: DirId,
        make: bool,
    ) -> Result<(Option<NodeId>, bool), Error> {
        let dir = index.dir(id);
        let path = || index.dir_path(id);
        let (place, direct) = match self.step(above, dir.name) {
            Step::Directory(child) => return Ok((Some(child), true)),
            Step::Symlink(target) => (self.follow(above, target, false, &path)?, false),
            Step::Missing | Step::Other => (Place { base: above, missing: vec![dir.name] }, true),
        };
        let mut node = place.base;
        for name in place.missing {
            if !make {
                return Ok((None, direct));
            }
            if let Some(blocker) = self.child(node, name, false) {
                self.give_way(blocker, &path)?;
            }
            node = self.implied(node, name)?;
        }
        Ok((Some(node), direct))
    }

    /// Removes a node that stands where a directory is needed, if it is of a lower layer.
    fn give_way(&mut self, blocker: NodeId, path: &dyn Fn() -> String) -> Result<(), Error> {
        if self.node(blocker).layer == self.layer {
            let blocker = self.node_path(blocker);
            return Err(Error::NotADirectory { layer: self.layer as usize, path: path(), blocker });
        }
        self.remove(blocker);
        Ok(())
    }

    /// Follows a symlink found in `start` to the end. Names that do not exist are collected, so
    /// that `..` behind them takes them back as unpacking tools do.
    fn follow(
        &mut self,
        start: NodeId,
        target: &'a [u8],
        before: bool,
        path: &dyn Fn() -> String,
    ) -> Result<Place<'a>, Error> {
        let layer = self.layer as usize;
        let mut place = Place { base: start, missing: Vec::new() };
        let mut todo: Vec<&'a [u8]> = Vec::new();
        let mut links = 0;
        let mut enter = Some(target);
        loop {
            if let Some(target) = enter.take() {
                links += 1;
                if links > MAX_LINKS {
                    return Err(Error::SymlinkLoop { layer, path: path() });
                }
                if target.starts_with(b"/") {
                    place = Place { base: ROOT, missing: Vec::new() };
                }
                todo.extend(target.split(|b| *b == b'/').rev());
            }
            let Some(name) = todo.pop() else { return Ok(place) };
            self.take_steps(1, path)?;
            if name.len() > MAX_NAME_BYTES {
                return Err(Error::NameTooLong { layer, path: path() });
            }
            match name {
                b"" | b"." => continue,
                b".." => {
                    if place.missing.pop().is_none() {
                        place.base = self.node(place.base).parent;
                    }
                    continue;
                }
                _ if !place.missing.is_empty() => {
                    place.missing.push(name);
                    continue;
                }
                _ => {}
            }
            match self.step_in(place.base, name, before) {
                Step::Directory(child) => place.base = child,
                Step::Symlink(target) => enter = Some(target),
                Step::Missing | Step::Other => place.missing.push(name),
            }
        }
    }

    /// Counts steps through paths.
    fn take_steps(&mut self, steps: usize, path: &dyn Fn() -> String) -> Result<(), Error> {
        let left = self.steps_left.checked_sub(steps as u64);
        let layer = self.layer as usize;
        self.steps_left = left.ok_or_else(|| Error::TooManySteps { layer, path: path() })?;
        Ok(())
    }

    fn step(&self, dir: NodeId, name: &[u8]) -> Step<'a> {
        self.step_in(dir, name, false)
    }

    fn step_in(&self, dir: NodeId, name: &[u8], before: bool) -> Step<'a> {
        let Some(node) = self.child(dir, name, before) else { return Step::Missing };
        match self.kind(self.node(node).inode) {
            EntryKind::Directory => Step::Directory(node),
            EntryKind::Symlink(target) => Step::Symlink(target),
            _ => Step::Other,
        }
    }

    /// The child of that name now, or as it was below this layer.
    fn child(&self, dir: NodeId, name: &[u8], before: bool) -> Option<NodeId> {
        let now = self.names.get(&(dir, name)).copied();
        if !before {
            return now;
        }
        let lower = |node: &NodeId| self.node(*node).layer < self.layer;
        self.ghosts.get(&(dir, name)).copied().or(now.filter(lower))
    }

    fn implied(&mut self, parent: NodeId, name: &'a [u8]) -> Result<NodeId, Error> {
        let inode = self.inode(Source { layer: self.layer, entry: NONE })?;
        self.insert(parent, name, inode)
    }

    fn inode(&mut self, source: Source) -> Result<u32, Error> {
        if self.inodes.len() >= MAX_NODES {
            return Err(Error::TooLarge);
        }
        self.inodes.push(source);
        Ok(self.inodes.len() as u32 - 1)
    }

    fn insert(&mut self, parent: NodeId, name: &'a [u8], inode: u32) -> Result<NodeId, Error> {
        if self.nodes.len() >= MAX_NODES {
            return Err(Error::TooLarge);
        }
        self.note_turn(inode);
        let id = self.nodes.len() as NodeId;
        let path_bytes = self.node(parent).path_bytes + name.len() as u32 + 1;
        if path_bytes as usize > MAX_PATH_BYTES {
            return Err(Error::PathTooLong { layer: self.layer as usize, path: lossy(name) });
        }
        let next = self.node(parent).first_child;
        self.nodes.push(Node {
            parent,
            name,
            inode,
            layer: self.layer,
            first_child: NONE,
            next,
            previous: NONE,
            path_bytes,
            alive: true,
        });
        if next != NONE {
            self.node_mut(next).previous = id;
        }
        self.node_mut(parent).first_child = id;
        self.names.insert((parent, name), id);
        Ok(id)
    }

    /// Counts something that comes or goes, if paths can lead through it.
    fn note_turn(&mut self, inode: u32) {
        if matches!(self.kind(inode), EntryKind::Directory | EntryKind::Symlink(_)) {
            self.turns += 1;
        }
    }

    /// Takes a node and all below it out of the tree.
    fn remove(&mut self, node: NodeId) {
        let Node { parent, next, previous, inode, .. } = *self.node(node);
        self.note_turn(inode);
        match previous {
            NONE => self.node_mut(parent).first_child = next,
            previous => self.node_mut(previous).next = next,
        }
        if next != NONE {
            self.node_mut(next).previous = previous;
        }
        let mut todo = vec![node];
        while let Some(id) = todo.pop() {
            let Node { parent, name, layer, first_child, .. } = *self.node(id);
            self.node_mut(id).alive = false;
            self.names.remove(&(parent, name));
            if layer < self.layer {
                self.ghosts.insert((parent, name), id);
            }
            let mut child = first_child;
            while child != NONE {
                todo.push(child);
                child = self.node(child).next;
            }
        }
    }

    fn node(&self, id: NodeId) -> &Node<'a> {
        &self.nodes[id as usize]
    }

    fn node_mut(&mut self, id: NodeId) -> &mut Node<'a> {
        &mut self.nodes[id as usize]
    }

    fn node_path(&self, node: NodeId) -> String {
        let mut names = Vec::new();
        let mut at = node;
        while at != ROOT {
            names.push(lossy(self.node(at).name));
            at = self.node(at).parent;
        }
        names.reverse();
        names.join("/")
    }

    /// Turns the linked structure into the arrays of a [`Tree`]; with the entry of each inode, if
    /// the caller wants them.
    fn flatten(self, mut origins: Option<&mut Vec<u32>>) -> Result<Tree, Error> {
        // Count names, in order to number the inodes that still have one.
        let mut names_of = vec![0u32; self.inodes.len()];
        names_of[0] = 1;
        for node in self.nodes.iter().skip(1).filter(|node| node.alive) {
            names_of[node.inode as usize] += 1;
        }
        let mut numbers = vec![0u32; self.inodes.len()];
        let mut flat = Flat::new(self.layers);
        for (at, source) in self.inodes.iter().enumerate() {
            if names_of[at] > 0 {
                let origin = self.origin(at as u32);
                numbers[at] = flat.inode(source.layer, origin, names_of[at])?;
                if let Some(origins) = origins.as_deref_mut() {
                    origins.push(source.entry);
                }
            }
        }
        let mut children = Vec::new();
        for node in self.nodes.iter().filter(|node| node.alive) {
            if self.kind(node.inode) != EntryKind::Directory {
                continue;
            }
            children.clear();
            let mut child = node.first_child;
            let mut subdirs = 0;
            while child != NONE {
                let Node { name, inode, next, .. } = *self.node(child);
                children.push((numbers[inode as usize], name));
                subdirs += u32::from(self.kind(inode) == EntryKind::Directory);
                child = next;
            }
            let parent = numbers[self.node(node.parent).inode as usize];
            flat.directory(numbers[node.inode as usize], parent, subdirs, &mut children)?;
        }
        Ok(flat.into_tree())
    }
}

/// The arrays under construction.
pub(super) struct Flat<'a> {
    layers: &'a [&'a LayerIndex],
    tree: Tree,
}

impl<'a> Flat<'a> {
    pub(super) fn new(layers: &'a [&'a LayerIndex]) -> Flat<'a> {
        Flat { layers, tree: Tree::unfilled() }
    }

    /// The tree, when every directory is filled.
    pub(super) fn into_tree(self) -> Tree {
        self.tree
    }

    fn text(&mut self, text: &[u8]) -> Result<u32, Error> {
        let offset = u32::try_from(self.tree.bytes.len()).map_err(|_| Error::TooLarge)?;
        self.tree.bytes.extend_from_slice(text);
        u32::try_from(self.tree.bytes.len()).map_err(|_| Error::TooLarge)?;
        Ok(offset)
    }

    /// Adds an inode with `names` names; returns its number.
    pub(super) fn inode(
        &mut self,
        layer: u32,
        origin: Option<Entry<'_>>,
        names: u32,
    ) -> Result<u32, Error> {
        let mut inode = Inode {
            size: 0,
            blocks: 0,
            mtime_seconds: 0,
            data: 0,
            mtime_nanoseconds: 0,
            uid: 0,
            gid: 0,
            nlink: names,
            count: 0,
            parent: 0,
            layer,
            first_xattr: self.tree.xattrs.len() as u32,
            xattr_count: 0,
            mode: 0o755,
            kind: FileKind::Directory,
            sparse: false,
        };
        let layers = self.layers;
        let index = || layers[layer as usize];
        let mut stored_bytes = 0;
        match origin.map_or(EntryKind::Directory, |entry| entry.kind) {
            EntryKind::File { size, runs } => {
                inode.kind = FileKind::Regular;
                inode.size = size;
                self.tree.total_size = self.tree.total_size.saturating_add(size);
                match runs {
                    Runs::Whole(start) => {
                        inode.data = start.0;
                        stored_bytes = size;
                    }
                    Runs::Sparse { first, count } => {
                        inode.sparse = true;
                        inode.data = self.tree.runs.len() as u64;
                        inode.count = count;
                        let runs: Vec<Run> = index().sparse_runs(first, count).collect();
                        stored_bytes = runs.iter().map(|run| run.length).sum();
                        self.tree.runs.extend(runs);
                    }
                }
            }
            EntryKind::Directory => {
                inode.size = DIRECTORY_BYTES;
                stored_bytes = DIRECTORY_BYTES;
            }
            EntryKind::Symlink(target) => {
                inode.kind = FileKind::Symlink;
                inode.size = target.len() as u64;
                inode.data = u64::from(self.text(target)?);
                if inode.size >= FAST_SYMLINK_BYTES {
                    stored_bytes = inode.size;
                }
            }
            EntryKind::CharDevice(major, minor) => {
                inode.kind = FileKind::CharDevice;
                (inode.parent, inode.count) = (major, minor);
            }
            EntryKind::BlockDevice(major, minor) => {
                inode.kind = FileKind::BlockDevice;
                (inode.parent, inode.count) = (major, minor);
            }
            EntryKind::Fifo => inode.kind = FileKind::Fifo,
            EntryKind::HardLink { .. } => unreachable!("a hard link has the inode of its target"),
        }
        inode.blocks = stored_bytes.div_ceil(BLOCK_BYTES) * (BLOCK_BYTES / 512);
        if let Some(entry) = &origin {
            // Linux gives every symlink these bits, whatever was asked for.
            inode.mode = if inode.kind == FileKind::Symlink { 0o777 } else { entry.mode };
            inode.uid = entry.uid;
            inode.gid = entry.gid;
            inode.mtime_seconds = entry.mtime_seconds;
            inode.mtime_nanoseconds = entry.mtime_nanoseconds;
            for (name, value) in index().xattrs(entry) {
                let xattr = Xattr {
                    name_offset: self.text(name)?,
                    name_length: name.len() as u32,
                    value_offset: self.text(value)?,
                    value_length: value.len() as u32,
                };
                self.tree.xattrs.push(xattr);
                inode.xattr_count += 1;
            }
        }
        self.tree.inodes.push(inode);
        u32::try_from(self.tree.inodes.len()).map_err(|_| Error::TooLarge)
    }

    /// Fills a directory: the number of the one above it, and its children by number and name.
    pub(super) fn directory(
        &mut self,
        ino: u32,
        parent: u32,
        subdirs: u32,
        children: &mut [(u32, &[u8])],
    ) -> Result<(), Error> {
        let first = self.tree.dirents.len();
        // By inode, then by name: hard links of one file may share a directory.
        children.sort_unstable();
        for (child, name) in &*children {
            let name_offset = self.text(name)?;
            let name_length = name.len() as u16;
            self.tree.dirents.push(Dirent { ino: *child, name_offset, name_length });
            let inode = &mut self.tree.inodes[*child as usize - 1];
            if inode.kind == FileKind::Regular {
                inode.parent = ino;
            }
        }
        let end = u32::try_from(self.tree.dirents.len()).map_err(|_| Error::TooLarge)?;
        let mut by_name: Vec<u32> = (first as u32..end).collect();
        by_name.sort_unstable_by_key(|at| children[*at as usize - first].1);
        self.tree.by_name.extend_from_slice(&by_name);
        let inode = &mut self.tree.inodes[ino as usize - 1];
        inode.data = first as u64;
        inode.count = children.len() as u32;
        inode.parent = parent;
        inode.nlink = 2 + subdirs;
        Ok(())
    }
}

fn path_of(index: &LayerIndex, dir: DirId, name: &[u8]) -> String {
    match index.dir_path(dir).as_str() {
        "" => lossy(name),
        dir => format!("{dir}/{}", lossy(name)),
    }
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
