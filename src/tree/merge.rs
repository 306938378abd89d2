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
//! One hash lookup and one insertion an entry; directories are resolved once a layer. Symlinks
//! followed are bounded per path and in total.

use hashbrown::{HashMap, HashSet};

use super::{BLOCK_BYTES, Dirent, FAST_SYMLINK_BYTES, FileKind, Ino, Inode, Tree, Xattr};
use crate::extent::Run;
use crate::index::{
    DirId, Entry, EntryKind, LayerIndex, MAX_NAME_BYTES, MAX_PATH_BYTES, ROOT_DIR, Runs,
};

/// Symlinks followed for one path, as umoci limits them.
const MAX_LINKS: u32 = 255;

/// Steps through symlink targets in one merge: far above any real image, and a second's work.
const MAX_LINK_STEPS: u64 = 50_000_000;

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
    link_steps: u64,
    layer: u32,
}

/// The state of one layer's application.
struct Layer<'a> {
    index: &'a LayerIndex,
    number: u32,
    /// Directory paths whose node is known; only those reached without a symlink.
    resolved: Vec<NodeId>,
    /// Hidden files, targets of hard links only: path to row of `Merge::inodes`.
    hidden: HashMap<(DirId, &'a [u8]), u32>,
}

/// What a step through the tree leads to.
enum Step<'a> {
    Missing,
    Directory(NodeId),
    Symlink(&'a [u8]),
    /// Neither: a node in the way.
    Other(NodeId),
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
            link_steps: 0,
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
        self.whiteouts(index)?;
        let mut layer = Layer {
            index,
            number,
            resolved: vec![NONE; index.dir_count()],
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
        for whiteout in index.whiteouts() {
            let Some(dir) = self.lower_dir(index, whiteout.dir)? else { continue };
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

    /// The lower directory that a whiteout's path means, if there is one.
    fn lower_dir(&mut self, index: &'a LayerIndex, id: DirId) -> Result<Option<NodeId>, Error> {
        let mut path = Vec::new();
        let mut at = id;
        while at != ROOT_DIR {
            path.push(at);
            at = index.dir(at).parent;
        }
        let mut node = ROOT;
        for id in path.into_iter().rev() {
            let dir = index.dir(id);
            node = match self.step(node, dir.name) {
                Step::Directory(child) => child,
                Step::Symlink(target) if !dir.has_entry => {
                    let place = self.follow(node, target, false, &|| index.dir_path(id))?;
                    match place {
                        Some(Place { base, missing }) if missing.is_empty() => base,
                        _ => return Ok(None),
                    }
                }
                Step::Symlink(_) | Step::Missing | Step::Other(_) => return Ok(None),
            };
        }
        Ok(Some(node))
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
        let parent = self.directory(layer, entry.dir)?.0;
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
        layer: &Layer<'a>,
        entry: &Entry<'a>,
        dir: DirId,
        name: &'a [u8],
    ) -> Result<(u32, NodeId), Error> {
        if let Some(inode) = layer.hidden.get(&(dir, name)) {
            return Ok((*inode, NONE));
        }
        let number = layer.number as usize;
        let path = || path_of(layer.index, entry.dir, entry.name);
        let target = || path_of(layer.index, dir, name);
        if name.is_empty() {
            return Err(Error::LinkToDirectory { layer: number, path: path(), target: "/".into() });
        }
        for before in [false, true] {
            let Some(node) = self.existing(layer.index, dir, name, before)? else { continue };
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

    /// The node at a path of the tree as it is, or (`before`) as it was below this layer.
    fn existing(
        &mut self,
        index: &'a LayerIndex,
        id: DirId,
        name: &'a [u8],
        before: bool,
    ) -> Result<Option<NodeId>, Error> {
        let mut path = Vec::new();
        let mut at = id;
        while at != ROOT_DIR {
            let dir = index.dir(at);
            path.push(dir.name);
            at = dir.parent;
        }
        path.reverse();
        let joined: Vec<u8> = path.join(&b'/');
        let mut node = ROOT;
        for name in path {
            node = match self.step_in(node, name, before) {
                Step::Directory(child) => child,
                Step::Symlink(target) => {
                    let place = self.follow(node, target, before, &|| lossy(&joined))?;
                    match place {
                        Some(Place { base, missing }) if missing.is_empty() => base,
                        _ => return Ok(None),
                    }
                }
                Step::Missing | Step::Other(_) => return Ok(None),
            };
        }
        Ok(self.child(node, name, before))
    }

    /// The node of a directory path, made if it does not exist; and whether it was reached
    /// without a symlink.
    fn directory(&mut self, layer: &mut Layer<'a>, id: DirId) -> Result<(NodeId, bool), Error> {
        // Upwards to what is known, then down again: a path may be too deep for recursion.
        let mut unknown = Vec::new();
        let mut at = id;
        let mut found = loop {
            if at == ROOT_DIR {
                break (ROOT, true);
            }
            let known = layer.resolved[at as usize];
            if known != NONE && self.node(known).alive {
                break (known, true);
            }
            unknown.push(at);
            at = layer.index.dir(at).parent;
        };
        while let Some(id) = unknown.pop() {
            found = self.directory_in(layer, found, id)?;
        }
        Ok(found)
    }

    /// The directory whose parent is found.
    fn directory_in(
        &mut self,
        layer: &mut Layer<'a>,
        (parent, direct): (NodeId, bool),
        id: DirId,
    ) -> Result<(NodeId, bool), Error> {
        let dir = layer.index.dir(id);
        let (node, direct) = match self.step(parent, dir.name) {
            Step::Directory(child) => (child, direct),
            Step::Missing => (self.implied(parent, dir.name)?, direct),
            Step::Other(blocker) => {
                self.give_way(blocker, &|| layer.index.dir_path(id))?;
                (self.implied(parent, dir.name)?, direct)
            }
            Step::Symlink(target) => {
                let index = layer.index;
                let place = self.follow(parent, target, false, &|| index.dir_path(id))?;
                let Some(Place { base, missing }) = place else {
                    unreachable!("following is only cut short by errors")
                };
                let mut node = base;
                for name in missing {
                    if let Some(blocker) = self.child(node, name, false) {
                        self.give_way(blocker, &|| index.dir_path(id))?;
                    }
                    node = self.implied(node, name)?;
                }
                (node, false)
            }
        };
        if direct {
            layer.resolved[id as usize] = node;
        }
        Ok((node, direct))
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
    ) -> Result<Option<Place<'a>>, Error> {
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
            let Some(name) = todo.pop() else { return Ok(Some(place)) };
            self.link_steps += 1;
            if self.link_steps > MAX_LINK_STEPS {
                return Err(Error::SymlinkLoop { layer, path: path() });
            }
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
                Step::Missing | Step::Other(_) => place.missing.push(name),
            }
        }
    }

    fn step(&self, dir: NodeId, name: &[u8]) -> Step<'a> {
        self.step_in(dir, name, false)
    }

    fn step_in(&self, dir: NodeId, name: &[u8], before: bool) -> Step<'a> {
        let Some(node) = self.child(dir, name, before) else { return Step::Missing };
        match self.kind(self.node(node).inode) {
            EntryKind::Directory => Step::Directory(node),
            EntryKind::Symlink(target) => Step::Symlink(target),
            _ => Step::Other(node),
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

    /// Takes a node and all below it out of the tree.
    fn remove(&mut self, node: NodeId) {
        let Node { parent, next, previous, .. } = *self.node(node);
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
