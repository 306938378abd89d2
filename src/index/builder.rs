//! Builds a layer index from the entries of a tar, in their order.
//!
//! The builder is a [`tar::Sink`]: it normalises paths, sorts out whiteouts, and hashes the content
//! of files as it streams by. Paths are cleaned lexically as Go's `path.Clean` does, which is what
//! every engine applies first: leading slashes, empty components and `.` vanish, `..` takes back
//! the component before it. One that climbs above the root is refused (podman and Docker do; umoci
//! and containerd would clamp it).
//!
//! # Digests of content
//!
//! Every regular file gets the SHA-256 of its content, holes included, so that it can be compared
//! whichever way it is stored. Holes of a layer are hashed up to [`MAX_HASHED_HOLES`] bytes in all;
//! a sparse file whose holes go beyond has the digest of its blocks instead, which costs nothing.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use hashbrown::HashTable;

use super::budget::{self, Budget, Drawn};
use super::decode::DecodeError;
use super::entry::{DirId, ROOT_DIR};
use super::error::{Error, MAX_ENTRIES, MAX_NAME_BYTES, MAX_PATH_BYTES, MAX_SYMLINK_BYTES};
use super::format::{
    ChunkRecord, DIR_HAS_ENTRY, DirRecord, ENTRY_BLOCKS, ENTRY_HIDDEN, ENTRY_SPARSE, EntryRecord,
    KIND_BLOCK_DEVICE, KIND_CHAR_DEVICE, KIND_DIRECTORY, KIND_FIFO, KIND_FILE, KIND_HARD_LINK,
    KIND_SYMLINK, NO_HASH, RunRecord, SpanRecord, WhiteoutRecord, XattrRecord,
};
use super::layer_index::{LayerIndex, Tail};
use super::proof::Identity;
use super::span::{Chunk, Span};
use crate::digest::{ContentDigest, ContentHash, ContentHasher, Hasher};
use crate::extent::Run;
use crate::tar::{self, FileType};

/// Prefix of a whiteout (OCI image spec, layer.md, "Whiteouts").
const WHITEOUT: &[u8] = b".wh.";
/// Prefix of AUFS' own files; all of them but the opaque mark are hidden.
const META: &[u8] = b".wh..wh.";
/// Name of the opaque mark.
const OPAQUE: &[u8] = b".wh..wh..opq";

/// Bytes of holes that are hashed in one layer, as zeros: a fraction of a second.
pub const MAX_HASHED_HOLES: u64 = 256 << 20;

/// Collects the tables of a layer index.
#[derive(Debug)]
pub struct Builder {
    dirs: Vec<DirRecord>,
    /// The directories on the way to the last one, outermost first: the next is often near it.
    last_path: Vec<DirId>,
    /// The directories by parent and name, which stand in `dirs` and `bytes`.
    dir_ids: HashTable<DirId>,
    /// Places in `bytes` of names and values of attributes: each is there once.
    shared_texts: HashTable<(u32, u32)>,
    hashers: RandomState,
    drawn: Drawn,
    entries: Vec<EntryRecord>,
    whiteouts: Vec<WhiteoutRecord>,
    runs: Vec<RunRecord>,
    xattrs: Vec<XattrRecord>,
    hashes: Vec<ContentHash>,
    spans: Vec<SpanRecord>,
    chunks: Vec<ChunkRecord>,
    bytes: Vec<u8>,
    windows: Vec<u8>,
    missing_padding: u32,
    /// The file whose content streams by.
    hashing: Option<Hashing>,
    /// Bytes of holes that may still be hashed.
    holes_left: u64,
}

/// Hashes the content of a file, of which only the runs stream by.
#[derive(Debug)]
struct Hashing {
    hasher: ContentHasher,
    size: u64,
    /// Where in the file the next stored byte belongs, how many more of this run come, and the runs
    /// behind it.
    position: u64,
    left: u64,
    runs: std::vec::IntoIter<Run>,
}

impl Hashing {
    /// Takes stored bytes, which `other` takes too; gives back those past the last run, which nothing
    /// has taken.
    fn content<'a>(&mut self, mut bytes: &'a [u8], mut other: Option<&mut Hasher>) -> &'a [u8] {
        while !bytes.is_empty() {
            if self.left == 0 {
                let Some(run) = self.runs.next() else { break };
                self.hasher.zeros(run.file_offset - self.position);
                (self.position, self.left) = (run.file_offset, run.length);
            }
            let length = self.left.min(bytes.len() as u64);
            let (part, rest) = bytes.split_at(length as usize);
            match other.as_deref_mut() {
                Some(other) => self.hasher.data_for_both(other, part),
                None => self.hasher.data(part),
            }
            self.position += length;
            self.left -= length;
            bytes = rest;
        }
        bytes
    }

    fn finish(mut self) -> ContentDigest {
        self.hasher.zeros(self.size - self.position);
        self.hasher.finish()
    }
}

impl Default for Builder {
    fn default() -> Builder {
        Builder::new()
    }
}

impl Builder {
    /// An index with nothing but the root's path, of any size.
    pub fn new() -> Builder {
        Builder::within(Arc::new(Budget::of(u64::MAX)))
    }

    /// The same, as large as the budget allows.
    pub fn within(budget: Arc<Budget>) -> Builder {
        let root = DirRecord {
            parent: ROOT_DIR.into(),
            name_offset: 0.into(),
            name_length: 0.into(),
            flags: 0.into(),
        };
        Builder {
            dirs: vec![root],
            last_path: Vec::new(),
            dir_ids: HashTable::new(),
            shared_texts: HashTable::new(),
            hashers: RandomState::new(),
            drawn: Drawn::new(budget),
            entries: Vec::new(),
            whiteouts: Vec::new(),
            runs: Vec::new(),
            xattrs: Vec::new(),
            hashes: Vec::new(),
            spans: Vec::new(),
            chunks: Vec::new(),
            bytes: Vec::new(),
            windows: Vec::new(),
            missing_padding: 0,
            hashing: None,
            holes_left: MAX_HASHED_HOLES,
        }
    }

    /// Appends the next span.
    pub fn span(&mut self, span: &Span) {
        self.spans.push(SpanRecord::new(span));
    }

    /// Appends a stored window; its place, for [`super::Restart::Block`].
    pub fn window(&mut self, stored: &[u8]) -> (u64, u32) {
        let offset = self.windows.len() as u64;
        self.windows.extend_from_slice(stored);
        (offset, stored.len() as u32)
    }

    /// Notes that so many bytes of zeros at the end of the tar are missing.
    pub fn missing_padding(&mut self, bytes: u32) {
        self.missing_padding = bytes;
    }

    /// Appends a chunk; its row.
    ///
    /// # Errors
    /// There are too many.
    pub fn chunk(&mut self, chunk: &Chunk) -> Result<u32, Error> {
        let row = u32::try_from(self.chunks.len()).map_err(|_| Error::TooLarge)?;
        self.drawn.more(budget::CHUNK_BYTES)?;
        self.chunks.push(ChunkRecord::new(chunk));
        Ok(row)
    }

    /// Takes an entry of a table of contents, whose content does not come by; `hash` is what the
    /// table says of it.
    ///
    /// # Errors
    /// As for entries of a tar.
    pub fn listed(&mut self, entry: tar::Entry, hash: Option<ContentHash>) -> Result<(), Error> {
        let before = self.hashes.len();
        tar::Sink::entry(self, entry)?;
        self.hashing = None;
        if self.hashes.len() > before
            && let Some(entry) = self.entries.last_mut()
        {
            self.hashes.truncate(before);
            entry.flags &= !ENTRY_BLOCKS;
            match hash {
                Some(hash) => self.hashes.push(hash),
                None => entry.hash = NO_HASH.into(),
            }
        }
        Ok(())
    }

    /// Takes content as [`tar::Sink::content`] does, which another hash takes too: faster than one
    /// after the other.
    pub fn content_for_both(&mut self, other: &mut Hasher, bytes: &[u8]) {
        let rest = match &mut self.hashing {
            Some(hashing) => hashing.content(bytes, Some(other)),
            None => bytes,
        };
        other.update(rest);
    }

    /// Whether no entry has come, not even one of the root.
    pub fn is_empty(&self) -> bool {
        let root_is_new =
            self.dirs.first().is_none_or(|root| root.flags.get() & DIR_HAS_ENTRY == 0);
        self.entries.is_empty() && self.whiteouts.is_empty() && root_is_new
    }

    /// Closes the tables.
    ///
    /// # Errors
    /// [`DecodeError`] if the tables contradict each other, such as content past the end
    /// of the layer.
    pub fn finish(mut self, identity: Identity) -> Result<LayerIndex, DecodeError> {
        for entry in &self.entries {
            let offset = entry.name_offset.get() as usize;
            let name = &self.bytes[offset..offset + usize::from(entry.name_length.get())];
            if let Some(id) = self.known_dir(entry.dir.get(), name)
                && entry.flags & ENTRY_HIDDEN == 0
            {
                self.dirs[id as usize].flags = DIR_HAS_ENTRY.into();
            }
        }
        let index = LayerIndex {
            identity,
            dirs: self.dirs,
            entries: self.entries,
            whiteouts: self.whiteouts,
            runs: self.runs,
            xattrs: self.xattrs,
            spans: self.spans,
            chunks: self.chunks,
            bytes: self.bytes,
            missing_padding: self.missing_padding,
            outline: None,
            tail: Tail::Loaded { hashes: self.hashes, windows: Arc::new(self.windows) },
        };
        index.check()?;
        self.drawn.keep();
        Ok(index)
    }

    /// Adds text to the arena: offset and length.
    fn text(&mut self, text: &[u8]) -> Result<u32, Error> {
        let offset = u32::try_from(self.bytes.len()).map_err(|_| Error::TooLarge)?;
        if self.bytes.len() + text.len() > u32::MAX as usize {
            return Err(Error::TooLarge);
        }
        self.drawn.more(text.len() as u64 * budget::TEXT_BYTES)?;
        self.bytes.extend_from_slice(text);
        Ok(offset)
    }

    /// The same of a text that other entries may have too.
    fn shared_text(&mut self, text: &[u8]) -> Result<u32, Error> {
        let hash = self.hashers.hash_one(text);
        let at = |(offset, length): &(u32, u32)| *offset as usize..(*offset + *length) as usize;
        if let Some(place) = self.shared_texts.find(hash, |place| self.bytes[at(place)] == *text) {
            return Ok(place.0);
        }
        let offset = self.text(text)?;
        let (bytes, hashers) = (&self.bytes, &self.hashers);
        self.shared_texts.insert_unique(hash, (offset, text.len() as u32), |place| {
            hashers.hash_one(&bytes[at(place)])
        });
        Ok(offset)
    }

    fn dir_name(&self, id: DirId) -> &[u8] {
        dir_name(&self.dirs, &self.bytes, id)
    }

    fn is_dir(&self, id: DirId, parent: DirId, name: &[u8]) -> bool {
        self.dirs[id as usize].parent.get() == parent && self.dir_name(id) == name
    }

    /// The directory of this name in another one, if it has a row.
    fn known_dir(&self, parent: DirId, name: &[u8]) -> Option<DirId> {
        let hash = self.hashers.hash_one((parent, name));
        self.dir_ids.find(hash, |id| self.is_dir(*id, parent, name)).copied()
    }

    /// The id of the directory path `components`, known or new.
    fn dir(&mut self, components: &[&[u8]]) -> Result<DirId, Error> {
        let mut at = ROOT_DIR;
        for (depth, name) in components.iter().enumerate() {
            let last = self.last_path.get(depth).copied();
            if let Some(id) = last.filter(|id| self.is_dir(*id, at, name)) {
                at = id;
                continue;
            }
            self.last_path.truncate(depth);
            at = match self.known_dir(at, name) {
                Some(id) => id,
                None => self.add_dir(at, name)?,
            };
            self.last_path.push(at);
        }
        Ok(at)
    }

    fn add_dir(&mut self, parent: DirId, name: &[u8]) -> Result<DirId, Error> {
        let id = u32::try_from(self.dirs.len()).map_err(|_| Error::TooLarge)?;
        if self.dirs.len() >= MAX_ENTRIES {
            return Err(Error::TooLarge);
        }
        self.drawn.more(budget::DIR_BYTES)?;
        let name_offset = self.text(name)?.into();
        self.dirs.push(DirRecord {
            parent: parent.into(),
            name_offset,
            name_length: (name.len() as u16).into(),
            flags: 0.into(),
        });
        let (dirs, bytes, hashers) = (&self.dirs, &self.bytes, &self.hashers);
        self.dir_ids.insert_unique(hashers.hash_one((parent, name)), id, |id| {
            hashers.hash_one((dirs[*id as usize].parent.get(), dir_name(dirs, bytes, *id)))
        });
        Ok(id)
    }

    fn add_whiteout(&mut self, parents: &[&[u8]], marker: &[u8], path: &[u8]) -> Result<(), Error> {
        let hidden = if marker == OPAQUE { b"" } else { &marker[WHITEOUT.len()..] };
        if marker != OPAQUE && matches!(hidden, b"" | b"." | b"..") {
            return Err(Error::InvalidWhiteout(lossy(path)));
        }
        self.drawn.more(budget::WHITEOUT_BYTES)?;
        let record = WhiteoutRecord {
            dir: self.dir(parents)?.into(),
            name_offset: self.text(hidden)?.into(),
            name_length: (hidden.len() as u32).into(),
        };
        self.whiteouts.push(record);
        Ok(())
    }

    /// Prepares for the content of a file; the row that its digest gets.
    fn hash_content(&mut self, entry: &tar::Entry, flags: &mut u8) -> Result<u32, Error> {
        let row = u32::try_from(self.hashes.len()).map_err(|_| Error::TooLarge)?;
        // Runs are disjoint and inside the file: the parser and the readers of tables see to it.
        let stored: u64 = entry.runs.iter().map(|run| run.length).sum();
        let hasher = match self.holes_left.checked_sub(entry.size.saturating_sub(stored)) {
            Some(left) => {
                self.holes_left = left;
                ContentHasher::sha256()
            }
            None => {
                *flags |= ENTRY_BLOCKS;
                ContentHasher::blocks(entry.size)
            }
        };
        let runs = entry.runs.clone().into_iter();
        self.hashing = Some(Hashing { hasher, size: entry.size, position: 0, left: 0, runs });
        self.hashes.push([0; 32]);
        Ok(row)
    }

    fn add_entry(
        &mut self,
        parents: &[&[u8]],
        name: &[u8],
        hidden: bool,
        entry: &tar::Entry,
    ) -> Result<(), Error> {
        if self.entries.len() >= MAX_ENTRIES {
            return Err(Error::TooLarge);
        }
        let rows = [
            (1, budget::ENTRY_BYTES),
            (entry.runs.len(), budget::RUN_BYTES),
            (entry.xattrs.len(), budget::XATTR_BYTES),
        ];
        self.drawn.more(rows.iter().map(|(count, bytes)| *count as u64 * bytes).sum())?;
        let mut flags = if hidden { ENTRY_HIDDEN } else { 0 };
        let mut hash = NO_HASH;
        let (kind, data, extra) = match entry.kind {
            FileType::File if entry.sparse => {
                flags |= ENTRY_SPARSE;
                if entry.size > 0 {
                    hash = self.hash_content(entry, &mut flags)?;
                }
                let first = u32::try_from(self.runs.len()).map_err(|_| Error::TooLarge)?;
                self.runs.extend(entry.runs.iter().map(|run| RunRecord {
                    file_offset: run.file_offset.into(),
                    start: run.start.0.into(),
                    length: run.length.into(),
                }));
                (KIND_FILE, u64::from(first), entry.runs.len() as u32)
            }
            FileType::File => {
                let start = entry.runs.first().map_or(0, |run| run.start.0);
                if entry.size > 0 {
                    hash = self.hash_content(entry, &mut flags)?;
                }
                (KIND_FILE, start, 0)
            }
            FileType::Directory => (KIND_DIRECTORY, 0, 0),
            FileType::Symlink => {
                let target = &entry.link_target;
                if target.is_empty() || target.len() > MAX_SYMLINK_BYTES {
                    return Err(Error::SymlinkTarget(lossy(&entry.path)));
                }
                (KIND_SYMLINK, u64::from(self.text(target)?), target.len() as u32)
            }
            FileType::HardLink => {
                let target = components(&entry.link_target)
                    .ok_or_else(|| Error::LinkClimbsOut(lossy(&entry.path)))?;
                check_length(&entry.link_target, &target)?;
                // The root as a target is left to the merge, which says that it is a directory.
                let (name, dirs) =
                    target.split_last().map_or((&b""[..], &[][..]), |(n, d)| (*n, d));
                let dir = self.dir(dirs)?;
                let offset = self.text(name)?;
                (KIND_HARD_LINK, u64::from(dir) << 32 | u64::from(offset), name.len() as u32)
            }
            FileType::CharDevice | FileType::BlockDevice => {
                let kind = if entry.kind == FileType::CharDevice {
                    KIND_CHAR_DEVICE
                } else {
                    KIND_BLOCK_DEVICE
                };
                let (major, minor) = entry.device;
                (kind, u64::from(major) << 32 | u64::from(minor), 0)
            }
            FileType::Fifo => (KIND_FIFO, 0, 0),
        };
        let first_xattr = u32::try_from(self.xattrs.len()).map_err(|_| Error::TooLarge)?;
        for (name, value) in &entry.xattrs {
            let record = XattrRecord {
                name_offset: self.shared_text(name)?.into(),
                name_length: (name.len() as u32).into(),
                value_offset: self.shared_text(value)?.into(),
                value_length: (value.len() as u32).into(),
            };
            self.xattrs.push(record);
        }
        let record = EntryRecord {
            dir: self.dir(parents)?.into(),
            name_offset: self.text(name)?.into(),
            name_length: (name.len() as u16).into(),
            kind,
            flags,
            mode: (entry.mode as u16).into(),
            xattr_count: u16::try_from(entry.xattrs.len()).map_err(|_| Error::TooLarge)?.into(),
            uid: owner(entry.uid).into(),
            gid: owner(entry.gid).into(),
            mtime_seconds: entry.mtime_seconds.into(),
            mtime_nanoseconds: entry.mtime_nanoseconds.into(),
            size: entry.size.into(),
            data: data.into(),
            extra: extra.into(),
            first_xattr: first_xattr.into(),
            hash: hash.into(),
        };
        self.entries.push(record);
        Ok(())
    }
}

impl tar::Sink for Builder {
    type Error = Error;

    fn entry(&mut self, entry: tar::Entry) -> Result<(), Error> {
        self.hashing = None;
        // A directory without a name is the root, as in umoci and containerd.
        if entry.path.is_empty() && entry.kind != FileType::Directory {
            return Err(Error::EmptyName);
        }
        let parts = components(&entry.path).ok_or_else(|| Error::ClimbsOut(lossy(&entry.path)))?;
        check_length(&entry.path, &parts)?;
        let Some((name, parents)) = parts.split_last() else {
            if entry.kind != FileType::Directory {
                return Err(Error::RootNotDirectory(lossy(&entry.path)));
            }
            return self.add_entry(&[], b"", false, &entry);
        };
        let is_meta = |part: &&[u8]| part.starts_with(META);
        let hidden = parents.iter().any(|part| part.starts_with(WHITEOUT))
            || (is_meta(name) && *name != OPAQUE);
        if hidden {
            // AUFS keeps the content of its hard links in such files; nothing else is of use.
            return match entry.kind {
                FileType::File => self.add_entry(parents, name, true, &entry),
                _ => Ok(()),
            };
        }
        if name.starts_with(WHITEOUT) {
            return self.add_whiteout(parents, name, &entry.path);
        }
        self.add_entry(parents, name, false, &entry)
    }

    fn content(&mut self, bytes: &[u8]) {
        if let Some(hashing) = &mut self.hashing {
            hashing.content(bytes, None);
        }
    }

    fn end(&mut self) {
        if let Some((hashing, hash)) = self.hashing.take().zip(self.hashes.last_mut()) {
            let (ContentDigest::Sha256(digest) | ContentDigest::Blocks(digest)) = hashing.finish();
            *hash = digest;
        }
    }
}

/// The owner or group that a file gets. The largest number is no owner: chown(2) takes it for "leave
/// it", and so a file unpacked by root belongs to root.
fn owner(id: u32) -> u32 {
    if id == u32::MAX { 0 } else { id }
}

fn dir_name<'a>(dirs: &[DirRecord], bytes: &'a [u8], id: DirId) -> &'a [u8] {
    let dir = &dirs[id as usize];
    let offset = dir.name_offset.get() as usize;
    &bytes[offset..offset + usize::from(dir.name_length.get())]
}

/// The cleaned components of a path; `None` if it climbs above its start.
fn components(path: &[u8]) -> Option<Vec<&[u8]>> {
    let mut parts = Vec::new();
    for part in path.split(|b| *b == b'/') {
        match part {
            b"" | b"." => {}
            b".." => {
                parts.pop()?;
            }
            part => parts.push(part),
        }
    }
    Some(parts)
}

fn check_length(path: &[u8], parts: &[&[u8]]) -> Result<(), Error> {
    if parts.iter().map(|part| part.len() + 1).sum::<usize>() > MAX_PATH_BYTES {
        return Err(Error::PathTooLong(shortened(path)));
    }
    if parts.iter().any(|part| part.len() > MAX_NAME_BYTES) {
        return Err(Error::NameTooLong(shortened(path)));
    }
    Ok(())
}

fn lossy(path: &[u8]) -> String {
    String::from_utf8_lossy(path).into_owned()
}

fn shortened(path: &[u8]) -> String {
    format!("{}…", lossy(&path[..path.len().min(80)]))
}
