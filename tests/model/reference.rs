//! The reference model of image semantics: what tree a stack of layers makes.
//!
//! The filesystem under test answers this question lazily and fast; this model answers it slowly
//! and plainly, so that the two can be compared on random images. It knows nothing of tar or of
//! compression: layers are lists of [`Entry`], and the tree is a map from paths to nodes that is
//! searched from the start for everything. It is written from the rules for layers in the OCI
//! image specification, and from the project's decisions where those are silent:
//!
//! * The whiteouts of a layer come first, all against the tree of the layers below, so that their
//!   order among each other and among the entries does not matter.
//! * Symlinks in the parents of an entry are followed, inside the root.
//! * Missing parents are made, and parents from lower layers that are no directories give way.
//!
//! A hard link is a second name for an inode. Removing a name leaves the inode alone, so inodes
//! live in a list of their own, and the tree maps paths to indices into it.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use crate::support::tarball::{Entry, Kind};

/// How many symlinks one path may lead through.
const MAX_LINKS: usize = 255;

/// Why a layer is invalid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Invalid {
    EmptyName,
    /// The path, or the target of a hard link, climbs above the root.
    AboveRoot,
    /// The root is given as something else than a directory.
    RootNotDirectory,
    /// A whiteout of nothing, of `.` or of `..`.
    BadWhiteout,
    TooManyLinks,
    /// An entry lies below something that its own layer made and that is no directory.
    ParentNotDirectory,
    LinkTargetMissing,
    LinkTargetDirectory,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeKind {
    File,
    Dir,
    Symlink,
    Char,
    Block,
    Fifo,
}

/// What is at a path of the final tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    pub kind: NodeKind,
    /// The permission bits, with set-id and sticky.
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub mtime: (i64, u32),
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    pub content: Vec<u8>,
    /// Where a symlink points.
    pub target: Vec<u8>,
    /// Major and minor number of a device.
    pub rdev: (u32, u32),
    /// Equal for the names of one inode, and numbered in the order of their first names.
    pub inode: usize,
    /// For directories, 2 and the number of child directories. For all else, the number of names.
    pub nlink: u32,
}

/// The tree by path, without leading slash, the root being empty.
pub type Tree = BTreeMap<Vec<u8>, Node>;

/// Applies `layers`, base first.
pub fn apply(layers: &[Vec<Entry>]) -> Result<Tree, Invalid> {
    let mut state = State::new();
    for layer in layers {
        state.apply_layer(layer)?;
    }
    Ok(state.tree())
}

/// A path as its components, without empty ones, `.` and `..`.
type Components = Vec<Vec<u8>>;

/// A name in the tree.
#[derive(Clone, Copy, Debug)]
struct Name {
    inode: usize,
    /// The layer that put the name here.
    layer: usize,
}

type Names = BTreeMap<Components, Name>;

/// What the path of an entry says the entry is.
enum Meaning {
    Root,
    /// An entry of the tree, by its path.
    Plain(Components),
    /// A whiteout of a name in a directory.
    Whiteout {
        parent: Components,
        name: Vec<u8>,
    },
    /// A whiteout of everything in a directory.
    Opaque(Components),
    /// Bookkeeping of a storage driver, which is not part of the image.
    Hidden(Components),
}

struct State {
    inodes: Vec<Node>,
    names: Names,
    /// The layer that is applied, counted from 1, as the root is there before the first.
    layer: usize,
}

impl State {
    fn new() -> State {
        let mut state = State { inodes: Vec::new(), names: Names::new(), layer: 0 };
        state.put(Vec::new(), implied_directory());
        state
    }

    fn apply_layer(&mut self, layer: &[Entry]) -> Result<(), Invalid> {
        self.layer += 1;
        let meanings: Vec<Meaning> =
            layer.iter().map(|entry| meaning(&entry.path)).collect::<Result<_, _>>()?;
        let lower = self.names.clone();
        self.apply_whiteouts(&meanings)?;

        let mut hidden: HashMap<Components, usize> = HashMap::new();
        for (entry, meaning) in layer.iter().zip(meanings) {
            match meaning {
                Meaning::Whiteout { .. } | Meaning::Opaque(_) => {}
                Meaning::Hidden(path) => {
                    if let Kind::File(_) = entry.kind {
                        self.inodes.push(node_of(entry));
                        hidden.insert(path, self.inodes.len() - 1);
                    }
                }
                Meaning::Root => {
                    if entry.kind != Kind::Dir {
                        return Err(Invalid::RootNotDirectory);
                    }
                    self.put(Vec::new(), node_of(entry));
                }
                Meaning::Plain(path) => match &entry.kind {
                    Kind::Hardlink(target) => self.apply_link(&path, target, &lower, &hidden)?,
                    _ => {
                        let at = self.destination(&path)?;
                        let keeps_children =
                            entry.kind == Kind::Dir && self.kind_at(&at) == Some(NodeKind::Dir);
                        if !keeps_children {
                            self.remove(&at);
                        }
                        self.put(at, node_of(entry));
                    }
                },
            }
        }
        Ok(())
    }

    /// Finds what all whiteouts hide in the lower tree before it removes any of it, since a
    /// whiteout may hide a symlink that the path of another leads through.
    fn apply_whiteouts(&mut self, meanings: &[Meaning]) -> Result<(), Invalid> {
        let own: BTreeSet<&Components> = meanings
            .iter()
            .filter_map(|meaning| match meaning {
                Meaning::Plain(path) => Some(path),
                _ => None,
            })
            .collect();
        let mut doomed: Vec<Components> = Vec::new();
        for meaning in meanings {
            let (parent, name) = match meaning {
                Meaning::Whiteout { parent, name } => (parent, Some(name)),
                Meaning::Opaque(parent) => (parent, None),
                _ => continue,
            };
            let Some(directory) = self.whiteout_directory(parent, &own)? else {
                continue;
            };
            match name {
                Some(name) => doomed.push(joined(&directory, name)),
                None => doomed.extend(children(&self.names, &directory).cloned()),
            }
        }
        for path in doomed {
            self.remove(&path);
        }
        Ok(())
    }

    /// The directory that a whiteout is in, or `None` if there is none or if the layer itself
    /// replaces a symlink on the way to it.
    fn whiteout_directory(
        &self,
        path: &Components,
        own: &BTreeSet<&Components>,
    ) -> Result<Option<Components>, Invalid> {
        for length in 1..=path.len() {
            let ancestor = path[..length].to_vec();
            if !own.contains(&ancestor) {
                continue;
            }
            let parent = look_up_directory(&self.names, &self.inodes, &ancestor[..length - 1])?;
            let Some(parent) = parent else {
                return Ok(None);
            };
            if self.kind_at(&joined(&parent, &ancestor[length - 1])) == Some(NodeKind::Symlink) {
                return Ok(None);
            }
        }
        look_up_directory(&self.names, &self.inodes, path)
    }

    fn apply_link(
        &mut self,
        path: &Components,
        target: &[u8],
        lower: &Names,
        hidden: &HashMap<Components, usize>,
    ) -> Result<(), Invalid> {
        let target = normalise(target)?;
        if target.is_empty() {
            return Err(Invalid::LinkTargetDirectory);
        }
        // The target is looked up first: making way for the link may remove its last other name.
        let place = look_up(&self.names, &self.inodes, &target)?;
        let inode = if let Some(&inode) = hidden.get(&target) {
            inode
        } else if let Some(place) = &place {
            self.names[place].inode
        } else {
            let place = look_up(lower, &self.inodes, &target)?;
            lower[&place.ok_or(Invalid::LinkTargetMissing)?].inode
        };
        if self.inodes[inode].kind == NodeKind::Dir {
            return Err(Invalid::LinkTargetDirectory);
        }
        let at = self.destination(path)?;
        // A link to itself changes nothing, not even which layer the name is from.
        if place.as_ref() != Some(&at) {
            self.remove(&at);
            self.names.insert(at, Name { inode, layer: self.layer });
        }
        Ok(())
    }

    /// Where the entry at `path` goes, after its parents have been made.
    fn destination(&mut self, path: &Components) -> Result<Components, Invalid> {
        let (name, parent) = path.split_last().expect("the root is no plain entry");
        Ok(joined(&self.make_directory(parent)?, name))
    }

    fn make_directory(&mut self, path: &[Vec<u8>]) -> Result<Components, Invalid> {
        let mut missing = None;
        loop {
            if let Some(missing) = missing.take() {
                self.remove(&missing);
                self.put(missing, implied_directory());
            }
            match walk(&self.names, &self.inodes, path)? {
                Walk::Directory(found) => return Ok(found),
                Walk::Missing(place) => missing = Some(place),
                Walk::Other(place) if self.names[&place].layer == self.layer => {
                    return Err(Invalid::ParentNotDirectory);
                }
                Walk::Other(place) => missing = Some(place),
            }
        }
    }

    fn kind_at(&self, path: &Components) -> Option<NodeKind> {
        self.names.get(path).map(|name| self.inodes[name.inode].kind)
    }

    /// Removes a name, and all that is below it.
    fn remove(&mut self, path: &Components) {
        self.names.retain(|other, _| !other.starts_with(path));
    }

    /// Gives a name a new inode. What is below the name stays.
    fn put(&mut self, path: Components, node: Node) {
        self.inodes.push(node);
        self.names.insert(path, Name { inode: self.inodes.len() - 1, layer: self.layer });
    }

    /// The result: paths joined, inodes numbered, and links counted.
    fn tree(&self) -> Tree {
        let mut tree = Tree::new();
        let mut numbers: HashMap<usize, usize> = HashMap::new();
        for (path, name) in &self.names {
            let mut node = self.inodes[name.inode].clone();
            let next = numbers.len();
            node.inode = *numbers.entry(name.inode).or_insert(next);
            let links = if node.kind == NodeKind::Dir {
                let is_directory = |child: &&Components| self.kind_at(child) == Some(NodeKind::Dir);
                2 + children(&self.names, path).filter(is_directory).count()
            } else {
                self.names.values().filter(|other| other.inode == name.inode).count()
            };
            node.nlink = u32::try_from(links).expect("few links");
            tree.insert(path.join(&b'/'), node);
        }
        tree
    }
}

/// Where a walk along a path ended that was to end in a directory.
enum Walk {
    Directory(Components),
    /// Nothing is at this place, which is on the way.
    Missing(Components),
    /// Something that is neither directory nor symlink is at this place, which is on the way.
    Other(Components),
}

/// Walks from the root along `path`, following every symlink and never leaving the root.
fn walk(names: &Names, inodes: &[Node], path: &[Vec<u8>]) -> Result<Walk, Invalid> {
    let mut at = Components::new();
    let mut rest: VecDeque<Vec<u8>> = path.iter().cloned().collect();
    let mut links = 0;
    while let Some(component) = rest.pop_front() {
        if component.is_empty() || component == b"." {
            continue;
        }
        if component == b".." {
            at.pop();
            continue;
        }
        let next = joined(&at, &component);
        // What is not there is walked by its name alone, so that a `..` behind it takes it back.
        let Some(name) = names.get(&next) else {
            at = next;
            continue;
        };
        let node = &inodes[name.inode];
        match node.kind {
            NodeKind::Symlink => {
                links += 1;
                if links > MAX_LINKS {
                    return Err(Invalid::TooManyLinks);
                }
                if node.target.starts_with(b"/") {
                    at.clear();
                }
                for component in node.target.split(|&byte| byte == b'/').rev() {
                    rest.push_front(component.to_vec());
                }
            }
            _ => at = next,
        }
    }
    for length in 1..=at.len() {
        let prefix = at[..length].to_vec();
        match names.get(&prefix).map(|name| inodes[name.inode].kind) {
            Some(NodeKind::Dir) => {}
            Some(_) => return Ok(Walk::Other(prefix)),
            None => return Ok(Walk::Missing(prefix)),
        }
    }
    Ok(Walk::Directory(at))
}

/// The directory that `path` leads to, all symlinks followed.
fn look_up_directory(
    names: &Names,
    inodes: &[Node],
    path: &[Vec<u8>],
) -> Result<Option<Components>, Invalid> {
    Ok(match walk(names, inodes, path)? {
        Walk::Directory(found) => Some(found),
        Walk::Missing(_) | Walk::Other(_) => None,
    })
}

/// The place of `path` in the tree if something is there, its final component not followed.
fn look_up(
    names: &Names,
    inodes: &[Node],
    path: &Components,
) -> Result<Option<Components>, Invalid> {
    let (name, parent) = path.split_last().expect("the root is never looked up");
    let directory = look_up_directory(names, inodes, parent)?;
    Ok(directory.map(|parent| joined(&parent, name)).filter(|place| names.contains_key(place)))
}

fn children<'a>(
    names: &'a Names,
    directory: &'a Components,
) -> impl Iterator<Item = &'a Components> {
    names
        .keys()
        .filter(move |path| path.len() == directory.len() + 1 && path.starts_with(directory))
}

fn joined(directory: &[Vec<u8>], name: &[u8]) -> Components {
    let mut path = directory.to_vec();
    path.push(name.to_vec());
    path
}

/// Resolves a stored path by its text alone.
fn normalise(path: &[u8]) -> Result<Components, Invalid> {
    if path.is_empty() {
        return Err(Invalid::EmptyName);
    }
    let mut components = Components::new();
    for component in path.split(|&byte| byte == b'/') {
        match component {
            b"" | b"." => {}
            b".." => {
                components.pop().ok_or(Invalid::AboveRoot)?;
            }
            _ => components.push(component.to_vec()),
        }
    }
    Ok(components)
}

fn meaning(path: &[u8]) -> Result<Meaning, Invalid> {
    let path = normalise(path)?;
    let Some((last, parent)) = path.split_last() else {
        return Ok(Meaning::Root);
    };
    if parent.iter().any(|component| component.starts_with(b".wh.")) {
        return Ok(Meaning::Hidden(path));
    }
    if last == b".wh..wh..opq" {
        return Ok(Meaning::Opaque(parent.to_vec()));
    }
    if last.starts_with(b".wh..wh.") {
        return Ok(Meaning::Hidden(path));
    }
    match last.strip_prefix(b".wh.") {
        Some(b"" | b"." | b"..") => Err(Invalid::BadWhiteout),
        Some(name) => Ok(Meaning::Whiteout { parent: parent.to_vec(), name: name.to_vec() }),
        None => Ok(Meaning::Plain(path)),
    }
}

/// A directory that no entry describes.
fn implied_directory() -> Node {
    node_of(&Entry::dir(""))
}

/// The inode that an entry describes, not yet counted and numbered.
fn node_of(entry: &Entry) -> Node {
    let mut node = Node {
        kind: NodeKind::File,
        mode: entry.mode & 0o7777,
        uid: entry.uid,
        gid: entry.gid,
        mtime: entry.mtime,
        xattrs: entry.xattrs.iter().cloned().collect(),
        content: Vec::new(),
        target: Vec::new(),
        rdev: (0, 0),
        inode: 0,
        nlink: 0,
    };
    match &entry.kind {
        Kind::File(content) => node.content = content.clone(),
        Kind::Dir => node.kind = NodeKind::Dir,
        Kind::Symlink(target) => {
            node.kind = NodeKind::Symlink;
            node.mode = 0o777;
            node.target = target.clone();
        }
        Kind::Char { major, minor } => (node.kind, node.rdev) = (NodeKind::Char, (*major, *minor)),
        Kind::Block { major, minor } => {
            (node.kind, node.rdev) = (NodeKind::Block, (*major, *minor));
        }
        Kind::Fifo => node.kind = NodeKind::Fifo,
        Kind::Hardlink(_) => unreachable!("a hard link has no inode of its own"),
    }
    node
}

/// The tree without its root in one line: `dir/`, `file=content`, `link->target`, and `xN` after
/// what has N names.
pub fn show(tree: &Tree) -> String {
    let mut words = Vec::new();
    for (path, node) in tree.iter().filter(|(path, _)| !path.is_empty()) {
        let path = path.escape_ascii();
        let mut word = match node.kind {
            NodeKind::Dir => format!("{path}/"),
            NodeKind::File => format!("{path}={}", node.content.escape_ascii()),
            NodeKind::Symlink => format!("{path}->{}", node.target.escape_ascii()),
            NodeKind::Char => format!("{path}:c{}.{}", node.rdev.0, node.rdev.1),
            NodeKind::Block => format!("{path}:b{}.{}", node.rdev.0, node.rdev.1),
            NodeKind::Fifo => format!("{path}|"),
        };
        if node.kind != NodeKind::Dir && node.nlink > 1 {
            word += &format!("x{}", node.nlink);
        }
        words.push(word);
    }
    words.join(" ")
}
