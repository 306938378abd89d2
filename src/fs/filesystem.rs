//! Names and attributes: all that the tree in memory answers.

use std::borrow::Cow;
use std::ops::Range;
use std::time::{Duration, Instant};

use super::error::Error;
use super::labels::Labels;
use super::shared::{FileKey, SharedFiles};
use crate::content::Contents;
use crate::extent::{Pieces, UncompressedOffset};
use crate::index::{MAX_NAME_BYTES, PROOF_XATTR, Proof};
use crate::prefetch::{Misses, Walks};
use crate::tree::{Attributes, DirEntry, FileKind, Ino, Mark, Tree};

/// Begins the names that Linux has a use for: what begins otherwise is not supported, by any file.
const NAMESPACES: [&[u8]; 4] = [b"trusted.", b"user.", b"security.", b"system.posix_acl_"];

/// In a layer that is shown alone, what a file stands for that has no content: `whiteout`, `opaque`, or `link ` and the
/// path of what it is a hard link to in lower layers.
pub const MARK_XATTR: &[u8] = b"user.ocifs.mark";

/// How much there is of everything, for `statvfs(3)`.
#[derive(Clone, Copy, Debug)]
pub struct Totals {
    /// Number of inodes.
    pub inodes: u64,
    /// Bytes of all regular files.
    pub bytes: u64,
}

/// An image as a file system, or several.
#[derive(Debug)]
pub struct Filesystem {
    pub(super) tree: Tree,
    pub(super) contents: Contents,
    read_timeout: Duration,
    pub(super) misses: Misses,
    pub(super) walks: Walks,
    labels: Option<Labels>,
    shared: Option<SharedFiles>,
}

impl Filesystem {
    /// Puts names and bytes together. No read takes longer than `read_timeout`.
    pub fn new(tree: Tree, contents: Contents, read_timeout: Duration) -> Filesystem {
        let layers = contents.layers().len();
        let (misses, walks) = (Misses::new(layers), Walks::new(layers));
        Filesystem { tree, contents, read_timeout, misses, walks, labels: None, shared: None }
    }

    /// The same with attributes that say where each file is from, if there are any.
    pub fn with_labels(self, labels: Option<Labels>) -> Filesystem {
        Filesystem { labels, ..self }
    }

    /// The same with regular files that other trees have as well, if there are any.
    pub fn with_shared_files(self, shared: Option<SharedFiles>) -> Filesystem {
        Filesystem { shared, ..self }
    }

    /// The layers of the tree that trees have agreed upon numbers for, each once.
    pub fn shared_layers(&self) -> Vec<u32> {
        self.shared.as_ref().map_or_else(Vec::new, SharedFiles::layers)
    }

    /// All files that other trees may have, each as the number of its layer and the entry that it is made from.
    pub fn shared_files(&self) -> impl Iterator<Item = (u32, u32)> {
        self.shared.iter().flat_map(|shared| shared.files(&self.tree))
    }

    /// What a file is in all trees that have it; `None` for what only this tree has.
    pub fn shared_file(&self, ino: Ino) -> Option<FileKey> {
        self.shared.as_ref()?.key(&self.tree, ino)
    }

    /// The file that is made from an entry of a layer.
    pub fn file_made_from(&self, layer: u32, entry: u32) -> Option<Ino> {
        self.shared.as_ref()?.find(&self.tree, layer, entry)
    }

    /// Whether files have attributes that say where they are from.
    pub fn has_labels(&self) -> bool {
        self.labels.is_some()
    }

    /// The names and attributes.
    pub fn tree(&self) -> &Tree {
        &self.tree
    }

    /// The bytes of the layers.
    pub fn contents(&self) -> &Contents {
        &self.contents
    }

    /// The attributes of a name in a directory.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::NotADirectory`], [`Error::NameTooLong`].
    pub fn lookup(&self, dir: Ino, name: &[u8]) -> Result<Attributes, Error> {
        // Asked for by those who have a file by its handle, directory or not.
        if name == b"." {
            return Ok(self.tree.attributes(dir));
        }
        if self.tree.kind(dir) != FileKind::Directory {
            return Err(Error::NotADirectory);
        }
        if name.len() > MAX_NAME_BYTES {
            return Err(Error::NameTooLong);
        }
        let child = match name {
            b".." => self.tree.parent(dir),
            name => self.tree.lookup(dir, name),
        };
        child.map(|ino| self.tree.attributes(ino)).ok_or(Error::NotFound)
    }

    /// The rows of a directory from position `from` on: `.` and `..` are 0 and 1.
    ///
    /// # Errors
    /// [`Error::NotADirectory`].
    pub fn read_dir(
        &self,
        dir: Ino,
        from: u64,
    ) -> Result<impl Iterator<Item = DirEntry<'_>>, Error> {
        let parent = self.tree.parent(dir).ok_or(Error::NotADirectory)?;
        let dots = [DirEntry { name: b".", ino: dir }, DirEntry { name: b"..", ino: parent }];
        let from = usize::try_from(from).unwrap_or(usize::MAX);
        let children = self.tree.children(dir, from.saturating_sub(dots.len()));
        Ok(dots.into_iter().skip(from).chain(children))
    }

    /// The target of a symlink.
    ///
    /// # Errors
    /// [`Error::WrongKind`].
    pub fn read_link(&self, ino: Ino) -> Result<&[u8], Error> {
        self.tree.symlink(ino).ok_or(Error::WrongKind)
    }

    /// Whether all of a regular file seems to be cached; false for anything else. Cheap, and may be
    /// wrong.
    pub fn is_local(&self, ino: Ino) -> bool {
        self.tree.content(ino).is_some_and(|content| {
            self.contents.is_local(content.layer, content.pieces, 0, content.size)
        })
    }

    /// Whether these parts of regular files all seem to be cached. Quick for those that lie together.
    pub fn are_local(&self, parts: &[(Ino, Range<u64>)]) -> bool {
        // A layer, and a range of it that is cached.
        let mut local = (usize::MAX, 0..0);
        parts.iter().all(|(ino, part)| {
            let Some(content) = self.tree.content(*ino) else { return false };
            let (layer, length) = (content.layer, part.end - part.start);
            let Pieces::Whole(start) = content.pieces else {
                return self.contents.is_local(layer, content.pieces, part.start, length);
            };
            let start = UncompressedOffset(start.0 + part.start);
            let end = start.0 + length;
            if layer == local.0 && local.1.start <= start.0 && end <= local.1.end {
                return true;
            }
            let reader = &self.contents.layers()[layer];
            local = (layer, reader.spans_of(start.0..end));
            reader.is_local(start, length)
        })
    }

    /// When a read that begins now must have been answered.
    pub fn deadline(&self) -> Instant {
        Instant::now() + self.read_timeout
    }

    /// What has been checked of a file's layer; of anything else, of the layer of its image that is
    /// least checked, as all of them may have had a say in it.
    pub fn proof(&self, ino: Ino) -> Proof {
        let layers = self.contents.layers();
        let least = match (self.tree.content(ino), self.tree.layers_of(ino)) {
            (Some(content), _) => Some(layers[content.layer].proof()),
            (None, Some(own)) => own.iter().map(|layer| layers[*layer as usize].proof()).min(),
            (None, None) => layers.iter().map(|layer| layer.proof()).min(),
        };
        least.unwrap_or(Proof::Full)
    }

    /// The value of an extended attribute: one of the image's, [`PROOF_XATTR`], [`MARK_XATTR`], or one of [`Labels`].
    ///
    /// # Errors
    /// [`Error::NoAttribute`], [`Error::NoNamespace`].
    pub fn xattr(&self, ino: Ino, name: &[u8]) -> Result<Cow<'_, [u8]>, Error> {
        if name == PROOF_XATTR {
            return Ok(self.proof(ino).name().as_bytes().into());
        }
        if name == MARK_XATTR
            && let Some(mark) = self.tree.mark(ino)
        {
            return Ok(match mark {
                Mark::Whiteout => b"whiteout".as_slice().into(),
                Mark::OpaqueMark => b"opaque".as_slice().into(),
                Mark::LinkBelow(target) => [b"link /", target].concat().into(),
            });
        }
        let label = self.labels.as_ref().and_then(|labels| labels.value(&self.tree, ino, name));
        if let Some(value) = label {
            return Ok(value);
        }
        let found = self.tree.readable_xattrs(ino).find(|(other, _)| *other == name);
        found.map(|(_, value)| value.into()).ok_or_else(|| {
            match NAMESPACES.iter().any(|namespace| name.starts_with(namespace)) {
                true => Error::NoAttribute,
                false => Error::NoNamespace,
            }
        })
    }

    /// The names of those extended attributes that the kernel hands out and of which this says so, each
    /// with a NUL behind it.
    pub fn xattr_names(&self, ino: Ino, is_shown: impl Fn(&[u8]) -> bool) -> Vec<u8> {
        let mut names = Vec::new();
        for (name, _) in self.tree.readable_xattrs(ino).filter(|(name, _)| is_shown(name)) {
            names.extend_from_slice(name);
            names.push(0);
        }
        names
    }

    /// Totals for `statvfs`.
    pub fn totals(&self) -> Totals {
        Totals { inodes: self.tree.len() as u64, bytes: self.tree.total_size() }
    }
}
