//! What the upper layers say for certain: facts about names, and what is not known about them.

use std::collections::HashSet;

use hashbrown::HashMap;

use crate::index::{DirId, Entry, EntryKind, LayerIndex, ROOT_DIR};
use crate::tree::inode::NONE;
use crate::tree::origins::Source;

/// Steps through paths in one merge: half a second of work, and those of a million entries. Beyond them
/// nothing is decided.
const MAX_STEPS: u64 = 10_000_000;

/// Facts in one merge, those included that became void. Beyond them nothing is decided.
const MAX_FACTS: usize = 4 << 20;

pub(super) type NodeId = u32;
pub(super) const ROOT: NodeId = 0;

/// A fact about a name.
#[derive(Debug)]
pub(super) struct Node<'a> {
    pub(super) parent: NodeId,
    pub(super) name: &'a [u8],
    pub(super) what: What,
    /// Row of `Upper::inodes`; `NONE` if unknown, or if there is nothing.
    pub(super) inode: u32,
    pub(super) layer: u32,
    /// When it came true.
    pub(super) since: u32,
    pub(super) children: Vec<NodeId>,
    pub(super) alive: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum What {
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

pub(super) struct Upper<'a> {
    pub(super) layers: &'a [&'a LayerIndex],
    pub(super) nodes: Vec<Node<'a>>,
    pub(super) names: HashMap<(NodeId, &'a [u8]), NodeId>,
    pub(super) inodes: Vec<Source>,
    pub(super) layer: u32,
    /// Counts whiteouts and entries.
    pub(super) now: u32,
    pub(super) steps: u64,
    /// When strays of these names came last.
    pub(super) strays: HashMap<&'a [u8], u32>,
    /// When the last stray came, and the last that was an entry; 0 for never.
    pub(super) last_stray: u32,
    pub(super) last_stray_entry: u32,
    /// One more than the layer of the last stray, and of the last that was an opaque mark.
    pub(super) stray_layer: u32,
    pub(super) opaque_layer: u32,
    /// When the last entry came that may turn the paths of others.
    pub(super) last_turn: u32,
    pub(super) has_unknown_links: bool,
}

impl<'a> Upper<'a> {
    pub(super) fn new(layers: &'a [&'a LayerIndex]) -> Upper<'a> {
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
    pub(super) fn apply(&mut self, number: u32, index: &'a LayerIndex) -> Option<()> {
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
    pub(super) fn child(&self, dir: NodeId, name: &[u8]) -> Option<NodeId> {
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
    pub(super) fn is_missing(&self, dir: NodeId, name: &[u8]) -> bool {
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

    pub(super) fn kind(&self, inode: u32) -> Option<EntryKind<'a>> {
        let Source { layer, entry } = *self.inodes.get(inode as usize)?;
        Some(match entry {
            NONE => EntryKind::Directory,
            entry => self.layers[layer as usize].entry_at(entry as usize).kind,
        })
    }

    pub(super) fn node(&self, id: NodeId) -> &Node<'a> {
        &self.nodes[id as usize]
    }

    fn node_mut(&mut self, id: NodeId) -> &mut Node<'a> {
        &mut self.nodes[id as usize]
    }
}
