//! Joining the trees of several images into one, with a directory for each.
//!
//! # Problem
//!
//! Two versions of an image are mostly the same files. Seen through one file system in which a file
//! that both have is *one* inode, a comparison of them ends before it begins: GNU `diff` opens neither
//! of two names with the same device and inode number, and the kernel keeps their pages once.
//!
//! # Design
//!
//! The arrays of the trees are put one behind the other, after a root with one directory for each
//! image. Inode numbers, rows and offsets move by what stands before them. A regular file of a later
//! image that is the same as one of an earlier gets no inode of its own: names lead to the earlier
//! one. That takes one table of numbers (4 bytes an inode) and, while equal files are looked for, 24
//! bytes a file; what stays is as large as the trees were, less the inodes that went.
//!
//! **What is equal.** Everything that `stat(2)`, `listxattr(2)` and `read(2)` tell: mode, owner, group,
//! time with its nanoseconds, number of names, size, blocks, extended attributes in their order, and the
//! content. Contents are equal if they are the same place of the same layer, read by way of the same
//! index; or if the digest is, where both layers were streamed here ([`crate::index::Proof::is_own`]), so that we took
//! it ourselves. A digest that others claim (a table of contents, a hint) counts for nothing.
//! Hence both files of a pair have the same proof. Sparse files have their holes at the same places too.
//!
//! **Who is paired.** Files of one image stay apart, however equal they are: each image looks as it does
//! on its own, down to which names are hard links. So an inode is shared by at most one file of each
//! image. Files at the same path find each other first; the others are paired in their order, the first
//! of one image with the first of another. With three images and more, files that were moved may find
//! fewer partners than there are: less is shared then, and nothing else changes.
//!
//! (Rejected: sharing directories whose contents are all equal. `diff` would not even enter them; but a
//! directory with two parents has no `..`, and the kernel refuses it.)
//!
//! Hashes only bring candidates together. What is shared was compared, field by field and byte by byte.
//!
//! # Invariants
//!
//! - Those of [`Tree`]: children of a directory are sorted by inode number, after they were renumbered
//!   too; numbers have no gaps.
//! - Linear but for sorting. Nothing is allocated for a node.
//! - The number of names of a shared inode is that in each image, and not the sum.

use xxhash_rust::xxh3::Xxh3Default;

use super::error::Error;
use super::fingerprints::{fingerprints, own_digest};
use super::inode::{BLOCK_BYTES, DIRECTORY_BYTES, Dirent, FileKind, Ino, Inode, NONE};
use super::numbers;
use super::origins::Origins;
use super::table::{Joined, Tree};
use crate::digest::ContentDigest;
use crate::extent::Run;
use crate::index::LayerIndex;

/// An image on its way into a joined tree.
#[derive(Debug)]
pub struct Part<'a> {
    /// The name of its directory; a single component, and no other part's.
    pub name: &'a [u8],
    /// Its own tree ...
    pub tree: Tree,
    /// ... where the inodes of that come from ...
    pub origins: Origins,
    /// ... and what it was merged of, base first.
    pub indexes: Vec<&'a LayerIndex>,
    /// The numbers that its layers have in the joined tree. Layers of two images may have the same one
    /// only if their bytes are read by way of the same index.
    pub layers: Vec<u32>,
}

/// What becomes of files that two images have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sharing {
    /// One inode.
    Equal,
    /// An inode for each image.
    Nothing,
}

/// Joins trees; with the entries that the inodes are made from, the first image's of those that are shared. The root
/// has mode 0755, belongs to 0:0, and dates from the epoch.
///
/// # Errors
/// [`Error::TooLarge`].
pub fn join(parts: Vec<Part<'_>>, sharing: Sharing) -> Result<(Tree, Origins), Error> {
    let numbers = Numbers::new(&parts, sharing)?;
    let mut tree = root(&parts, &numbers)?;
    tree.reserve(&parts);
    // Of the root none is needed.
    let mut shown = vec![0];
    let mut entries = vec![NONE];
    for (at, part) in parts.into_iter().enumerate() {
        let numbers = &numbers.of[numbers.range(at)];
        let of_part = fingerprints(&part.tree, part.name, &part.origins, &part.indexes);
        // What is shared has that of the first image.
        let new = numbers.iter().zip(of_part).filter(|(number, _)| **number as usize > shown.len());
        let new: Vec<u64> = new.map(|(_, fingerprint)| fingerprint).collect();
        shown.extend(new);
        let of_part = numbers.iter().zip(&part.origins.0);
        let new = of_part.filter(|(number, _)| **number as usize > entries.len());
        let new: Vec<u32> = new.map(|(_, entry)| *entry).collect();
        entries.extend(new);
        tree.append(part, numbers)?;
    }
    tree.numbers = Some(numbers::Numbers::new(&shown));
    Ok((tree, Origins(entries)))
}

/// The inode numbers of all parts in the joined tree.
struct Numbers {
    /// By part, then by inode.
    of: Vec<u32>,
    /// Where in `of` each part begins, and where the last one ends.
    starts: Vec<usize>,
}

impl Numbers {
    fn new(parts: &[Part<'_>], sharing: Sharing) -> Result<Numbers, Error> {
        let mut starts = vec![0];
        let mut end = 0usize;
        for part in parts {
            end = end.checked_add(part.tree.len()).ok_or(Error::TooLarge)?;
            starts.push(end);
        }
        // With the root, and a number beyond the last.
        u32::try_from(end).ok().and_then(|end| end.checked_add(2)).ok_or(Error::TooLarge)?;
        let partners = match sharing {
            Sharing::Equal if parts.len() > 1 => partners(parts, &starts),
            _ => Vec::new(),
        };
        let mut next = Ino::ROOT.0 + 1;
        let mut of: Vec<u32> = Vec::with_capacity(end);
        for at in 0..end {
            // A partner is of an earlier part: it has its number.
            match partners.get(at).filter(|partner| **partner != ALONE) {
                Some(partner) => of.push(of[*partner as usize]),
                None => {
                    of.push(next);
                    next += 1;
                }
            }
        }
        Ok(Numbers { of, starts })
    }

    fn range(&self, part: usize) -> std::ops::Range<usize> {
        self.starts[part]..self.starts[part + 1]
    }
}

/// The place of a file that shares its inode with no earlier one.
const ALONE: u32 = u32::MAX;

/// A regular file while its equals are looked for.
#[derive(Clone, Copy)]
struct Candidate {
    /// Equal files have equal keys; others hardly ever.
    key: u64,
    /// Among files of one key, those that should find each other first: by path, later by order.
    tag: u64,
    /// Its place among the inodes of all parts.
    at: u32,
}

/// For each inode of all parts, the earlier one that it is the same as, or [`ALONE`].
fn partners(parts: &[Part<'_>], starts: &[usize]) -> Vec<u32> {
    let mut partners = vec![ALONE; starts[parts.len()]];
    let mut candidates = Vec::new();
    for (part, start) in parts.iter().zip(starts) {
        let paths = path_tags(&part.tree);
        let files = part.tree.inos().filter(|ino| part.tree.kind(*ino) == FileKind::Regular);
        candidates.extend(files.map(|ino| Candidate {
            key: File::new(part, ino).key(),
            tag: paths[ino.position()],
            at: (start + ino.position()) as u32,
        }));
    }
    candidates.sort_unstable_by_key(|c| (c.key, c.tag, c.at));
    pair(&candidates, parts, starts, &mut partners);

    // Those that found no partner at their path: of each key, the first of one image with that of another.
    let mut has_partner = vec![false; partners.len()];
    for (at, partner) in partners.iter().enumerate().filter(|(_, partner)| **partner != ALONE) {
        has_partner[at] = true;
        has_partner[*partner as usize] = true;
    }
    candidates.retain(|c| !has_partner[c.at as usize]);
    candidates.sort_unstable_by_key(|c| (c.key, c.at));
    let mut before: Option<Candidate> = None;
    for candidate in &mut candidates {
        let follows = before.filter(|b| {
            b.key == candidate.key && part_of(b.at, starts) == part_of(candidate.at, starts)
        });
        candidate.tag = follows.map_or(0, |before| before.tag + 1);
        before = Some(*candidate);
    }
    candidates.sort_unstable_by_key(|c| (c.key, c.tag, c.at));
    pair(&candidates, parts, starts, &mut partners);
    partners
}

/// Makes equal files of one key and tag the same, at most one of each part.
fn pair(candidates: &[Candidate], parts: &[Part<'_>], starts: &[usize], partners: &mut [u32]) {
    let file = |at: u32| {
        let part = part_of(at, starts);
        File::new(&parts[part], Ino((at as usize - starts[part]) as u32 + 1))
    };
    for group in candidates.chunk_by(|a, b| (a.key, a.tag) == (b.key, b.tag)) {
        let Some((first, others)) = group.split_first() else { continue };
        // They are in the order of parts.
        let mut last_part = part_of(first.at, starts);
        for other in others {
            let part = part_of(other.at, starts);
            if part > last_part && file(first.at).is_same(&file(other.at)) {
                partners[other.at as usize] = first.at;
                last_part = part;
            }
        }
    }
}

/// The part that an inode belongs to, by its place among those of all.
fn part_of(at: u32, starts: &[usize]) -> usize {
    starts.partition_point(|start| *start <= at as usize) - 1
}

/// A hash of the paths of each inode: of hard links, of all of them, in whatever order.
fn path_tags(tree: &Tree) -> Vec<u64> {
    let mut tags = vec![0u64; tree.len()];
    // A directory's number is above that of the one it is in. (If it were not, files would find each
    // other in another order.)
    for dir in tree.inos().filter(|ino| tree.kind(*ino) == FileKind::Directory) {
        let mut above = Xxh3Default::new();
        above.update(&tags[dir.position()].to_le_bytes());
        for child in tree.children(dir, 0) {
            let mut hash = above.clone();
            hash.update(child.name);
            let tag = &mut tags[child.ino.position()];
            *tag = tag.wrapping_add(hash.digest());
        }
    }
    tags
}

/// What makes the content of a file the same as another's.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Identity {
    /// Nothing in it, which we have seen ourselves.
    Empty,
    /// The digest, which we have taken ourselves.
    Digest(ContentDigest),
    /// A layer of the joined tree, and where in it the first byte is.
    Place { layer: u32, start: u64 },
}

/// A regular file that is compared.
struct File<'a> {
    tree: &'a Tree,
    ino: Ino,
    identity: Identity,
}

impl<'a> File<'a> {
    fn new(part: &'a Part<'_>, ino: Ino) -> File<'a> {
        let inode = part.tree.inode(ino);
        let index = part.indexes[inode.layer as usize];
        let digest = own_digest(index, &part.origins, ino);
        let identity = match digest.filter(|_| inode.size > 0) {
            Some(digest) => Identity::Digest(digest),
            None if index.proof().is_own() && inode.size == 0 => Identity::Empty,
            None => Identity::Place {
                layer: part.layers[inode.layer as usize],
                start: part.tree.content(ino).map_or(0, |content| content.start()),
            },
        };
        File { tree: &part.tree, ino, identity }
    }

    fn inode(&self) -> &'a Inode {
        self.tree.inode(self.ino)
    }

    fn key(&self) -> u64 {
        let mut hash = Xxh3Default::new();
        match self.identity {
            Identity::Empty => {}
            Identity::Digest(ContentDigest::Sha256(content) | ContentDigest::Blocks(content)) => {
                hash.update(&content);
            }
            Identity::Place { layer, start } => {
                hash.update(&layer.to_le_bytes());
                hash.update(&start.to_le_bytes());
            }
        }
        let inode = self.inode();
        hash.update(&inode.size.to_le_bytes());
        hash.update(&inode.mtime_seconds.to_le_bytes());
        for number in [inode.mtime_nanoseconds, inode.uid, inode.gid, inode.nlink] {
            hash.update(&number.to_le_bytes());
        }
        hash.update(&inode.mode.to_le_bytes());
        for (name, value) in self.tree.xattrs(self.ino) {
            hash.update(name);
            hash.update(value);
        }
        hash.digest()
    }

    /// Whether the data of two sparse files stands at the same places, in the files and, where no
    /// digest says that it is the same, in the layer.
    fn has_runs_of(&self, other: &File<'_>) -> bool {
        let (a, b) = (self.tree.runs_of(self.inode()), other.tree.runs_of(other.inode()));
        match self.identity {
            Identity::Digest(_) => {
                let places = |runs: &'_ [Run]| -> Vec<_> {
                    runs.iter().map(|run| (run.file_offset, run.length)).collect()
                };
                places(a) == places(b)
            }
            Identity::Empty | Identity::Place { .. } => a == b,
        }
    }

    fn is_same(&self, other: &File<'_>) -> bool {
        let (a, b) = (self.inode(), other.inode());
        self.identity == other.identity
            && (a.size, a.blocks, a.sparse) == (b.size, b.blocks, b.sparse)
            && (!a.sparse || self.has_runs_of(other))
            && (a.mode, a.uid, a.gid, a.nlink) == (b.mode, b.uid, b.gid, b.nlink)
            && (a.mtime_seconds, a.mtime_nanoseconds) == (b.mtime_seconds, b.mtime_nanoseconds)
            && self.tree.xattrs(self.ino).eq(other.tree.xattrs(other.ino))
    }
}

/// A tree of nothing but the root and the names of the images.
fn root(parts: &[Part<'_>], numbers: &Numbers) -> Result<Tree, Error> {
    let mut tree = Tree::unfilled();
    let count = u32::try_from(parts.len()).map_err(|_| Error::TooLarge)?;
    for (part, start) in parts.iter().zip(&numbers.starts) {
        tree.dirents.push(Dirent {
            ino: numbers.of[*start],
            name_offset: u32::try_from(tree.bytes.len()).map_err(|_| Error::TooLarge)?,
            name_length: u16::try_from(part.name.len()).map_err(|_| Error::TooLarge)?,
        });
        tree.bytes.extend_from_slice(part.name);
    }
    tree.by_name = (0..count).collect();
    tree.by_name.sort_unstable_by_key(|at| parts[*at as usize].name);
    tree.inodes.push(Inode {
        size: DIRECTORY_BYTES,
        blocks: DIRECTORY_BYTES.div_ceil(BLOCK_BYTES) * (BLOCK_BYTES / 512),
        mtime_seconds: 0,
        data: 0,
        mtime_nanoseconds: 0,
        uid: 0,
        gid: 0,
        nlink: count.checked_add(2).ok_or(Error::TooLarge)?,
        count,
        parent: Ino::ROOT.0,
        layer: 0,
        first_xattr: 0,
        xattr_count: 0,
        mode: 0o755,
        kind: FileKind::Directory,
        sparse: false,
    });
    Ok(tree)
}

impl Tree {
    /// Makes room for all parts at once.
    fn reserve(&mut self, parts: &[Part<'_>]) {
        let sum = |count: fn(&Tree) -> usize| parts.iter().map(|part| count(&part.tree)).sum();
        self.inodes.reserve_exact(sum(|tree| tree.inodes.len()));
        self.dirents.reserve_exact(sum(|tree| tree.dirents.len()));
        self.by_name.reserve_exact(sum(|tree| tree.by_name.len()));
        self.runs.reserve_exact(sum(|tree| tree.runs.len()));
        self.xattrs.reserve_exact(sum(|tree| tree.xattrs.len()));
        self.bytes.reserve_exact(sum(|tree| tree.bytes.len()));
    }

    /// Adds a part whose inodes have these numbers here; below the next one they are there already.
    fn append(&mut self, part: Part<'_>, numbers: &[u32]) -> Result<(), Error> {
        let Part { tree, layers, .. } = part;
        let here = |length: usize| u32::try_from(length).map_err(|_| Error::TooLarge);
        let (bytes, xattrs) = (here(self.bytes.len())?, here(self.xattrs.len())?);
        let (dirents, runs) = (here(self.dirents.len())?, self.runs.len() as u64);
        self.bytes.extend_from_slice(&tree.bytes);
        self.runs.extend_from_slice(&tree.runs);
        for mut xattr in tree.xattrs.iter().copied() {
            xattr.name_offset = moved(xattr.name_offset, bytes)?;
            xattr.value_offset = moved(xattr.value_offset, bytes)?;
            self.xattrs.push(xattr);
        }
        for mut dirent in tree.dirents.iter().copied() {
            dirent.ino = numbers[dirent.ino as usize - 1];
            dirent.name_offset = moved(dirent.name_offset, bytes)?;
            self.dirents.push(dirent);
        }
        for at in &tree.by_name {
            self.by_name.push(moved(*at, dirents)?);
        }
        // All that follows lies within these.
        here(self.bytes.len())?;
        here(self.xattrs.len())?;

        let root = numbers[0];
        let mut order = Order::default();
        for (inode, number) in tree.inodes.iter().zip(numbers) {
            if (*number as usize) <= self.inodes.len() {
                continue;
            }
            let mut inode = *inode;
            inode.first_xattr = moved(inode.first_xattr, xattrs)?;
            // The root of an image without layers is of none.
            inode.layer = layers.get(inode.layer as usize).copied().unwrap_or(0);
            match inode.kind {
                FileKind::Regular => {
                    self.total_size = self.total_size.saturating_add(inode.size);
                    inode.parent = numbers[inode.parent as usize - 1];
                    if inode.sparse {
                        inode.data += runs;
                    }
                }
                FileKind::Directory => {
                    inode.parent = match *number == root {
                        true => Ino::ROOT.0,
                        false => numbers[inode.parent as usize - 1],
                    };
                    inode.data += u64::from(dirents);
                    let rows = inode.data as usize..inode.data as usize + inode.count as usize;
                    order.restore(&mut self.dirents[rows.clone()], &mut self.by_name[rows]);
                }
                FileKind::Symlink => inode.data += u64::from(bytes),
                FileKind::CharDevice | FileKind::BlockDevice | FileKind::Fifo => {}
            }
            self.inodes.push(inode);
        }
        self.images.push(Joined { root, layers });
        Ok(())
    }
}

fn moved(offset: u32, by: u32) -> Result<u32, Error> {
    offset.checked_add(by).ok_or(Error::TooLarge)
}

/// Sorts directories whose children have got other numbers.
#[derive(Default)]
struct Order {
    /// What to sort by, and where a row was.
    rows: Vec<(u32, u32)>,
    sorted: Vec<Dirent>,
    /// Where each row is now.
    places: Vec<u32>,
}

impl Order {
    /// Puts the rows of a directory into the order of inode numbers again. `by_name` are its rows in
    /// the order of their names, which stays.
    fn restore(&mut self, dirents: &mut [Dirent], by_name: &mut [u32]) {
        if dirents.is_sorted_by_key(|dirent| dirent.ino) {
            return;
        }
        let Some(first) = by_name.iter().copied().min() else { return };
        self.rows.clear();
        // Names of one inode stay in their order.
        self.rows.extend((0u32..).zip(&*dirents).map(|(row, dirent)| (dirent.ino, row)));
        self.rows.sort_unstable();
        self.places.clear();
        self.places.resize(dirents.len(), 0);
        self.sorted.clear();
        for (place, (_, row)) in (0u32..).zip(&self.rows) {
            self.places[*row as usize] = place;
            self.sorted.push(dirents[*row as usize]);
        }
        dirents.copy_from_slice(&self.sorted);
        for at in by_name {
            *at = first + self.places[(*at - first) as usize];
        }
    }
}
