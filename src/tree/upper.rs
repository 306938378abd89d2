//! What the upper layers of an image decide alone, whatever lies below them.
//!
//! # Problem
//!
//! `ocifs cat IMAGE /srv/app/settings.py` of an image that this machine never saw wants a file that
//! the topmost layer, a few KB, brings. Streaming the layers below it costs minutes and gives nothing,
//! if the answer can't depend on them. It can in many ways: an entry's directory part follows symlinks
//! of lower layers, so that `lib/x` may be `usr/lib/x`; what it needs as a directory, a lower file gives
//! way to; a hard link's target may be below.
//!
//! # Design
//!
//! The known layers, an unbroken run down from the top, are applied as [`super::merge()`] applies them, to a
//! tree of *facts* that hold over any lower tree. What no fact is known of may be anything. An entry whose
//! directory part leads through something unknown, or through a symlink, is a *stray*: it may
//! land in any directory, make directories in others, and have a lower file give way. So with each stray
//!
//! - facts of names like its own, made before it, are void;
//! - so are those of files of the layers below its own;
//! - so is every fact that something does not exist.
//!
//! A stray whiteout voids names like its own; a stray opaque mark voids all of the layers below. The
//! layers that engines write describe the directories of all their entries and have no strays.
//!
//! A question is decided if each step of its path rests on a fact. One exception makes layers useful
//! that describe no directories (`COPY` as some builders write it): a regular file of the topmost layer,
//! asked for by the very path that its entry has. It is where that path leads, unless a later entry of
//! the layer can turn the path elsewhere: a symlink, a hard link, a directory in place of something
//! unknown, or another entry with the file's own name. Without those the whole image has this
//! file there, or, if lower symlinks lead through names that do not exist and back (`a -> none/../b`)
//! or something on their way is replaced, no file. It never has another one.
//!
//! # Rejected
//!
//! Following symlinks whose layer is known, as the merge does: lower entries may have moved what they
//! lead to, and by the time that a base layer with such symlinks is open, the merge itself can be made.
//!
//! # Invariants
//!
//! - What the tree of [`merge_upper`] answers to the questions it was made for, the tree of all layers
//!   answers too, but for the exception above; what it says of anything else means nothing. A test
//!   compares the two over random stacks.
//! - Time and memory are linear in the entries of the known layers, with a bound on steps; beyond it
//!   nothing is decided.

use std::collections::HashSet;

use hashbrown::HashMap;

use super::Tree;
use super::merge::{Flat, NONE, Source};
use super::path::{MAX_LINKS, Symlinks};
use crate::index::{DirId, Entry, EntryKind, LayerIndex, ROOT_DIR};

/// Steps through paths in one merge: half a second of work, and those of a million entries. Beyond them
/// nothing is decided.
const MAX_STEPS: u64 = 10_000_000;

/// Facts in one merge, those included that became void. Beyond them nothing is decided.
const MAX_FACTS: usize = 4 << 20;

/// What is asked about a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// The path, with or without a slash before it.
    pub path: Vec<u8>,
    /// Whether a symlink in its last component is followed.
    pub last: Symlinks,
    /// What is wanted of it.
    pub want: Want,
}

/// What is wanted of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Want {
    /// The bytes of a file.
    Content,
    /// That it exists, and of a directory all names below it.
    Names,
    /// The same with attributes.
    Attributes,
}

/// The tree of the upper layers of an image, base first, if it answers the questions as the tree of all
/// layers would; `None` if lower layers are needed for that.
pub fn merge_upper(layers: &[&LayerIndex], questions: &[Question]) -> Option<Tree> {
    let mut upper = Upper::new(layers);
    for (number, index) in layers.iter().enumerate() {
        upper.apply(number as u32, index)?;
    }
    questions.iter().all(|question| upper.decides(question)).then(|| upper.flatten())?
}

type NodeId = u32;
const ROOT: NodeId = 0;

/// A fact about a name.
#[derive(Debug)]
struct Node<'a> {
    parent: NodeId,
    name: &'a [u8],
    what: What,
    /// Row of `Upper::inodes`; `NONE` if unknown, or if there is nothing.
    inode: u32,
    layer: u32,
    /// When it came true.
    since: u32,
    children: Vec<NodeId>,
    alive: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    /// There is nothing of this name.
    Absent,
    /// Something else than a directory.
    Leaf,
    /// A directory; since when no unknown name is in it, if that is so.
    Directory { whole: Option<u32> },
    /// A directory that an entry needed where something unknown was: a directory, or a symlink to one.
    Veil,
    /// Where whiteouts of a layer are that has an entry here: if it is a directory below, the names that
    /// its children say are not in it, or none at all if it is `emptied`.
    Marked { emptied: bool },
}

/// Where the directory part of a path leads.
#[derive(Clone, Copy)]
enum Parent {
    /// To a directory that is known.
    Known(NodeId),
    /// Through a veil.
    Veiled(NodeId),
    /// Through a symlink.
    Elsewhere,
}

/// Where a whiteout stands.
enum Lower {
    Known(NodeId),
    /// Where there is nothing to hide.
    Nothing,
    Unknown,
}

/// Where a path leads.
enum Answer {
    Is(NodeId),
    /// To an error.
    Nowhere,
    Unknown,
}

struct Upper<'a> {
    layers: &'a [&'a LayerIndex],
    nodes: Vec<Node<'a>>,
    names: HashMap<(NodeId, &'a [u8]), NodeId>,
    inodes: Vec<Source>,
    layer: u32,
    /// Counts whiteouts and entries.
    now: u32,
    steps: u64,
    /// When strays of these names came last.
    strays: HashMap<&'a [u8], u32>,
    /// When the last stray came, and the last that was an entry; 0 for never.
    last_stray: u32,
    last_stray_entry: u32,
    /// One more than the layer of the last stray, and of the last that was an opaque mark.
    stray_layer: u32,
    opaque_layer: u32,
    /// When the last entry came that may turn the paths of others.
    last_turn: u32,
    has_unknown_links: bool,
}

impl<'a> Upper<'a> {
    fn new(layers: &'a [&'a LayerIndex]) -> Upper<'a> {
        let root = Node {
            parent: ROOT,
            name: b"",
            what: What::Directory { whole: None },
            inode: 0,
            layer: 0,
            since: 0,
            children: Vec::new(),
            alive: true,
        };
        Upper {
            layers,
            nodes: vec![root],
            names: HashMap::new(),
            inodes: vec![Source { layer: 0, entry: NONE }],
            layer: 0,
            now: 0,
            steps: 0,
            strays: HashMap::new(),
            last_stray: 0,
            last_stray_entry: 0,
            stray_layer: 0,
            opaque_layer: 0,
            last_turn: 0,
            has_unknown_links: false,
        }
    }

    /// Applies a layer; `None` if that takes too long or can't be done.
    fn apply(&mut self, number: u32, index: &'a LayerIndex) -> Option<()> {
        self.layer = number;
        self.whiteouts(index)?;
        let mut hidden = HashMap::new();
        for (at, entry) in index.entries().enumerate() {
            let source = Source { layer: number, entry: at as u32 };
            self.now = self.now.checked_add(1)?;
            if entry.hidden {
                hidden.insert((entry.dir, entry.name), self.inode(source)?);
            } else if entry.name.is_empty() {
                self.inodes[0] = source;
            } else {
                self.entry(index, entry, source, &hidden)?;
            }
        }
        Some(())
    }

    /// All whiteouts of a layer, against what is below it. Places first, as in the merge.
    fn whiteouts(&mut self, index: &'a LayerIndex) -> Option<()> {
        let mut doomed: Vec<(NodeId, Option<&'a [u8]>)> = Vec::new();
        let mut seen = HashSet::new();
        let mut strays = Vec::new();
        self.now = self.now.checked_add(1)?;
        for whiteout in index.whiteouts() {
            match self.lower_dir(index, whiteout.dir)? {
                Lower::Known(dir) if seen.insert((dir, whiteout.name)) => {
                    doomed.push((dir, whiteout.name));
                }
                Lower::Known(_) | Lower::Nothing => {}
                Lower::Unknown => strays.push(whiteout.name),
            }
        }
        for name in strays {
            self.last_stray = self.now;
            self.stray_layer = self.layer + 1;
            match name {
                Some(name) => drop(self.strays.insert(name, self.now)),
                None => self.opaque_layer = self.layer + 1,
            }
        }
        for (dir, name) in doomed {
            if !self.node(dir).alive {
                continue;
            }
            match name {
                Some(name) => drop(self.set(dir, name, What::Absent, NONE)?),
                None => {
                    let now = self.now;
                    self.clear(dir);
                    match &mut self.node_mut(dir).what {
                        What::Directory { whole } => *whole = Some(now),
                        What::Marked { emptied } => *emptied = true,
                        What::Absent | What::Leaf | What::Veil => {}
                    }
                }
            }
        }
        Some(())
    }

    /// Where a whiteout stands: in a directory that is known, or one that this layer has an entry for, so
    /// that no symlink there is followed.
    fn lower_dir(&mut self, index: &'a LayerIndex, id: DirId) -> Option<Lower> {
        let mut node = ROOT;
        for id in self.path(index, id)? {
            let dir = index.dir(id);
            let found = self.child(node, dir.name);
            node = match found.map(|found| (found, self.node(found).what)) {
                Some((found, What::Directory { .. } | What::Marked { .. })) => found,
                Some((_, What::Absent)) => return Some(Lower::Nothing),
                Some((found, What::Leaf)) if dir.has_entry || !self.may_lead_on(found) => {
                    return Some(Lower::Nothing);
                }
                None if self.is_missing(node, dir.name) => return Some(Lower::Nothing),
                Some((_, What::Veil)) | None if dir.has_entry => {
                    self.set(node, dir.name, What::Marked { emptied: false }, NONE)?
                }
                Some((_, What::Leaf | What::Veil)) | None => return Some(Lower::Unknown),
            };
        }
        Some(Lower::Known(node))
    }

    fn entry(
        &mut self,
        index: &'a LayerIndex,
        entry: Entry<'a>,
        source: Source,
        hidden: &HashMap<(DirId, &'a [u8]), u32>,
    ) -> Option<()> {
        // The target is looked up before anything is made or removed.
        let target = match entry.kind {
            EntryKind::HardLink { dir, name } => match hidden.get(&(dir, name)) {
                Some(inode) => Some((*inode, None)),
                None => Some(self.link_target(index, dir, name)?),
            },
            _ => None,
        };
        let parent = self.directory(index, entry.dir)?;
        let dir = match parent {
            Parent::Known(dir) => Some(dir),
            Parent::Veiled(dir) => {
                self.stray(entry.name);
                Some(dir)
            }
            Parent::Elsewhere => {
                self.stray(entry.name);
                None
            }
        };
        let existing = dir.and_then(|dir| match parent {
            Parent::Known(_) => self.child(dir, entry.name),
            _ => self.names.get(&(dir, entry.name)).copied(),
        });
        let before = existing.map(|node| self.node(node).what);
        let is_directory = entry.kind == EntryKind::Directory;
        let merges = matches!(parent, Parent::Known(_))
            && matches!(before, Some(What::Directory { .. }))
            && is_directory;
        let turns = matches!(entry.kind, EntryKind::Symlink(_) | EntryKind::HardLink { .. });
        if turns || (is_directory && !merges) {
            self.last_turn = self.now;
        }
        let inode = match target {
            Some((_, Some(node))) if existing == Some(node) => return Some(()),
            Some((inode, _)) => inode,
            None => self.inode(source)?,
        };
        self.has_unknown_links |= inode == NONE;
        let Some(dir) = dir else { return Some(()) };
        match (before, existing) {
            (Some(What::Directory { .. }), Some(node)) if is_directory => {
                self.node_mut(node).inode = inode;
            }
            // What was marked of it holds for the directory.
            (Some(What::Marked { emptied }), Some(node)) if is_directory => {
                let now = self.now;
                let node = self.node_mut(node);
                let whole = emptied.then_some(node.since);
                (node.what, node.inode, node.since) = (What::Directory { whole }, inode, now);
            }
            _ => {
                let is_new = matches!(before, Some(What::Absent | What::Leaf))
                    || self.is_missing(dir, entry.name);
                let is_new = is_new && matches!(parent, Parent::Known(_));
                let whole = is_new.then_some(self.now);
                let what = if is_directory { What::Directory { whole } } else { What::Leaf };
                self.set(dir, entry.name, what, inode)?;
            }
        }
        Some(())
    }

    /// An entry that may be anywhere, or make directories there.
    fn stray(&mut self, name: &'a [u8]) {
        self.strays.insert(name, self.now);
        (self.last_stray, self.last_stray_entry) = (self.now, self.now);
        self.stray_layer = self.layer + 1;
    }

    /// The inode that a hard link names, and the node; `NONE` if that can't be known.
    fn link_target(
        &mut self,
        index: &'a LayerIndex,
        dir: DirId,
        name: &'a [u8],
    ) -> Option<(u32, Option<NodeId>)> {
        let mut node = ROOT;
        for id in self.path(index, dir)? {
            match self.child(node, index.dir(id).name) {
                Some(next) if matches!(self.node(next).what, What::Directory { .. }) => node = next,
                _ => return Some((NONE, None)),
            }
        }
        Some(match self.child(node, name) {
            Some(node) if self.node(node).what == What::Leaf => (self.node(node).inode, Some(node)),
            _ => (NONE, None),
        })
    }

    /// The directory for an entry, made where it is known to be missing.
    fn directory(&mut self, index: &'a LayerIndex, id: DirId) -> Option<Parent> {
        let mut node = ROOT;
        let mut veiled = false;
        for id in self.path(index, id)? {
            let name = index.dir(id).name;
            let found = match veiled {
                true => self.names.get(&(node, name)).copied(),
                false => self.child(node, name),
            };
            let what = found.map(|found| self.node(found).what);
            let is_lower = found.is_some_and(|found| self.node(found).layer < self.layer);
            node = match (what, found) {
                (Some(What::Directory { .. }), Some(found)) => found,
                (Some(What::Veil), Some(found)) => {
                    veiled = true;
                    found
                }
                (Some(What::Leaf), Some(found)) if veiled || self.may_lead_on(found) => {
                    return Some(Parent::Elsewhere);
                }
                // No image: a layer that needs its own file as a directory.
                (Some(What::Leaf), _) if !is_lower => return None,
                (Some(What::Absent | What::Leaf), _) if !veiled => self.implied(node, name)?,
                (None, _) if !veiled && self.is_missing(node, name) => self.implied(node, name)?,
                _ => {
                    veiled = true;
                    let inode = self.inode(Source { layer: self.layer, entry: NONE })?;
                    self.set(node, name, What::Veil, inode)?
                }
            };
        }
        Some(if veiled { Parent::Veiled(node) } else { Parent::Known(node) })
    }

    /// Makes a directory that nothing of lower layers is in.
    fn implied(&mut self, parent: NodeId, name: &'a [u8]) -> Option<NodeId> {
        let inode = self.inode(Source { layer: self.layer, entry: NONE })?;
        self.set(parent, name, What::Directory { whole: Some(self.now) }, inode)
    }

    fn inode(&mut self, source: Source) -> Option<u32> {
        self.inodes.push(source);
        u32::try_from(self.inodes.len() - 1).ok().filter(|inode| *inode != NONE)
    }

    /// The directories of a path, outermost first.
    fn path(&mut self, index: &LayerIndex, id: DirId) -> Option<Vec<DirId>> {
        let mut path = Vec::new();
        let mut at = id;
        while at != ROOT_DIR {
            path.push(at);
            at = index.dir(at).parent;
        }
        path.reverse();
        self.steps += path.len() as u64 + 1;
        (self.steps <= MAX_STEPS).then_some(path)
    }

    /// What is known of a name in a directory that is known.
    fn child(&self, dir: NodeId, name: &[u8]) -> Option<NodeId> {
        let node = *self.names.get(&(dir, name))?;
        self.holds(self.node(node)).then_some(node)
    }

    /// Whether a fact is not void, if those of the directories above it are not.
    fn holds(&self, node: &Node<'_>) -> bool {
        let is_unmatched = || self.strays.get(node.name).is_none_or(|at| *at < node.since);
        match node.what {
            What::Absent => self.last_stray_entry < node.since,
            // A hard link of a file to itself changes nothing: it is the lower file still.
            What::Leaf if node.inode == NONE => {
                self.last_stray_entry < node.since && is_unmatched()
            }
            What::Leaf => self.stray_layer <= node.layer + 1 && is_unmatched(),
            What::Directory { .. } => self.opaque_layer <= node.layer + 1 && is_unmatched(),
            // They claim nothing.
            What::Veil | What::Marked { .. } => true,
        }
    }

    /// Whether a directory that is known does not have a name that no fact is about.
    fn is_missing(&self, dir: NodeId, name: &[u8]) -> bool {
        let What::Directory { whole } = self.node(dir).what else { return false };
        // A void fact may still be true.
        whole.is_some_and(|since| self.last_stray_entry < since)
            && !self.names.contains_key(&(dir, name))
    }

    /// Whether something that is no directory is a symlink, or may be.
    fn may_lead_on(&self, leaf: NodeId) -> bool {
        self.kind(self.node(leaf).inode).is_none_or(|kind| matches!(kind, EntryKind::Symlink(_)))
    }

    /// Puts a fact in place of another.
    fn set(&mut self, parent: NodeId, name: &'a [u8], what: What, inode: u32) -> Option<NodeId> {
        if let Some(old) = self.names.get(&(parent, name)).copied() {
            self.clear(old);
            self.node_mut(old).alive = false;
        }
        let id = self.nodes.len();
        if id >= MAX_FACTS {
            return None;
        }
        let id = id as NodeId;
        let (layer, since) = (self.layer, self.now);
        let children = Vec::new();
        self.nodes.push(Node { parent, name, what, inode, layer, since, children, alive: true });
        self.node_mut(parent).children.push(id);
        self.names.insert((parent, name), id);
        Some(id)
    }

    /// Forgets everything below a node.
    fn clear(&mut self, node: NodeId) {
        let mut todo = std::mem::take(&mut self.node_mut(node).children);
        while let Some(id) = todo.pop() {
            if self.node(id).alive {
                let Node { parent, name, .. } = *self.node(id);
                self.names.remove(&(parent, name));
                self.node_mut(id).alive = false;
            }
            todo.append(&mut self.node_mut(id).children);
        }
    }

    fn kind(&self, inode: u32) -> Option<EntryKind<'a>> {
        let Source { layer, entry } = *self.inodes.get(inode as usize)?;
        Some(match entry {
            NONE => EntryKind::Directory,
            entry => self.layers[layer as usize].entry_at(entry as usize).kind,
        })
    }

    fn node(&self, id: NodeId) -> &Node<'a> {
        &self.nodes[id as usize]
    }

    fn node_mut(&mut self, id: NodeId) -> &mut Node<'a> {
        &mut self.nodes[id as usize]
    }

    fn decides(&self, question: &Question) -> bool {
        let node = match self.resolve(question) {
            Answer::Unknown => return false,
            Answer::Nowhere => return true,
            Answer::Is(node) => self.node(node),
        };
        match (question.want, node.what) {
            (Want::Content, _) | (Want::Names, What::Leaf) => true,
            (Want::Names, What::Directory { whole }) => {
                !self.has_unknown_links && whole.is_some_and(|since| self.last_stray < since)
            }
            // The number of links counts names anywhere.
            (Want::Attributes, What::Leaf) => !self.has_unknown_links && self.last_stray == 0,
            (Want::Attributes, What::Directory { whole }) => {
                !self.has_unknown_links && self.last_stray == 0 && whole.is_some()
            }
            (_, What::Absent | What::Veil | What::Marked { .. }) => false,
        }
    }

    /// As [`Tree::resolve`], as far as facts lead.
    fn resolve(&self, question: &Question) -> Answer {
        let path = &question.path[..];
        let mut todo: Vec<&[u8]> = path.split(|b| *b == b'/').rev().collect();
        let must_be_dir = path.ends_with(b"/");
        let mut at = ROOT;
        let mut links = 0;
        while let Some(name) = todo.pop() {
            if matches!(name, b"" | b".") {
                continue;
            }
            if self.node(at).what == What::Leaf {
                return Answer::Nowhere;
            }
            if name == b".." {
                at = self.node(at).parent;
                continue;
            }
            let found = self.child(at, name);
            let child = match found.map(|found| (found, self.node(found).what)) {
                Some((_, What::Absent)) => return Answer::Nowhere,
                Some((child, What::Leaf | What::Directory { .. })) => child,
                None if self.is_missing(at, name) => return Answer::Nowhere,
                Some((child, What::Veil)) if !must_be_dir => return self.behind_veil(child, todo),
                _ => return Answer::Unknown,
            };
            let is_last = todo.iter().all(|rest| rest.is_empty());
            match self.kind(self.node(child).inode) {
                None => return Answer::Unknown,
                Some(EntryKind::Symlink(target))
                    if !is_last || must_be_dir || question.last == Symlinks::Follow =>
                {
                    links += 1;
                    if links > MAX_LINKS {
                        return Answer::Nowhere;
                    }
                    if target.starts_with(b"/") {
                        at = ROOT;
                    }
                    todo.extend(target.split(|b| *b == b'/').rev());
                }
                Some(_) => at = child,
            }
        }
        match must_be_dir && self.node(at).what == What::Leaf {
            true => Answer::Nowhere,
            false => Answer::Is(at),
        }
    }

    /// The exception: a regular file of the topmost layer, by the path that its entry has.
    fn behind_veil(&self, veil: NodeId, todo: Vec<&[u8]>) -> Answer {
        let mut at = veil;
        for name in todo.into_iter().rev().filter(|name| !matches!(*name, b"" | b".")) {
            let is_directory = matches!(self.node(at).what, What::Veil | What::Directory { .. });
            match self.names.get(&(at, name)) {
                Some(child) if is_directory && name != b".." => at = *child,
                _ => return Answer::Unknown,
            }
        }
        let node = self.node(at);
        let top = self.layers.len() - 1;
        let Some(Source { layer, entry }) = self.inodes.get(node.inode as usize).copied() else {
            return Answer::Unknown;
        };
        let is_file = matches!(self.kind(node.inode), Some(EntryKind::File { .. }));
        if !is_file
            || layer as usize != top
            || node.layer as usize != top
            || self.last_turn > node.since
        {
            return Answer::Unknown;
        }
        let mut later = self.layers[top].entries().skip(entry as usize + 1);
        match later.any(|later| later.name == node.name) {
            true => Answer::Unknown,
            false => Answer::Is(at),
        }
    }

    /// The facts as a tree. Where something unknown is, there is nothing, or a directory.
    fn flatten(self) -> Option<Tree> {
        let is_shown = |node: &Node<'_>| {
            node.alive
                && node.inode != NONE
                && !matches!(node.what, What::Absent | What::Marked { .. })
        };
        let mut names_of = vec![0u32; self.inodes.len()];
        for node in self.nodes.iter().filter(|node| is_shown(node)) {
            names_of[node.inode as usize] += 1;
        }
        let mut numbers = vec![0u32; self.inodes.len()];
        let mut flat = Flat::new(self.layers);
        for (at, Source { layer, entry }) in self.inodes.iter().enumerate() {
            if names_of[at] > 0 {
                let index = self.layers[*layer as usize];
                let origin = (*entry != NONE).then(|| index.entry_at(*entry as usize));
                numbers[at] = flat.inode(*layer, origin, names_of[at]).ok()?;
            }
        }
        for node in self.nodes.iter().filter(|node| is_shown(node) && node.what != What::Leaf) {
            let shown = node.children.iter().map(|child| self.node(*child));
            let shown = shown.filter(|child| is_shown(child));
            let subdirs = shown.clone().filter(|child| child.what != What::Leaf).count() as u32;
            let mut children: Vec<(u32, &[u8])> =
                shown.map(|child| (numbers[child.inode as usize], child.name)).collect();
            let parent = numbers[self.node(node.parent).inode as usize];
            let number = numbers[node.inode as usize];
            flat.directory(number, parent, subdirs, &mut children).ok()?;
        }
        Some(flat.into_tree())
    }
}
