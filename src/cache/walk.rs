//! What lies in the cache's folder, by kind.
//!
//! Sizing, evicting, checking and clearing all walk the same way: relative to open folders, and
//! through no symlink below the cache's own folder, so that nothing planted in there leads them to
//! files outside of it. A file counts as ours by its place *and* its name; anything else is
//! [`FileKind::Other`]: counted, and left alone.

use std::collections::HashSet;
use std::ffi::CStr;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::fs::{AtFlags, Dir, FileType, Mode, Stat, openat, statat, unlinkat};

use super::layout::{FileKind, LayerName};
use super::store::{self, FILE, FOLDER, Store};
use crate::digest::{DiffId, Digest, SpanDigest, unhex};

/// Levels of folders below the version's folder that are looked into; ours have three. It bounds
/// the open files of a walk through what another program has put there.
const MAX_DEPTH: usize = 6;

/// What a file of ours should hold, as far as its name says it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Content {
    Span(SpanDigest),
    Layer(LayerName),
    Blob(Digest),
    /// The name of a tag's file.
    Tag(String),
    /// The name of the file of a repository's tags.
    TagList(String),
    /// Nothing that could be checked.
    Unknown,
}

/// A file that a walk came by.
#[derive(Debug)]
pub(super) struct Found<'a> {
    pub kind: FileKind,
    pub content: Content,
    /// Below the version's folder.
    pub path: &'a Path,
    pub bytes: u64,
    pub modified: SystemTime,
    /// It has another name, which was come by before.
    pub seen: bool,
    /// Device and inode number.
    pub inode: (u64, u64),
    folder: &'a OwnedFd,
    name: &'a CStr,
}

impl Found<'_> {
    /// Opens the file, if it still is one and belongs to whom it must.
    pub fn open(&self) -> io::Result<std::fs::File> {
        store::checked(openat(self.folder, self.name, FILE, Mode::empty())?)
    }

    /// Removes this name.
    pub fn remove(&self) -> io::Result<()> {
        Ok(unlinkat(self.folder, self.name, AtFlags::empty())?)
    }

    /// Time since it was written or, for a span, used.
    pub fn age(&self) -> Duration {
        self.modified.elapsed().unwrap_or_default()
    }
}

/// Shows `visit` every file below the version's folder.
///
/// Files that come and go meanwhile may be shown or not. What can't be read is skipped.
pub(super) fn walk(store: &Store, visit: &mut dyn FnMut(&Found<'_>)) {
    let mut walk = Walk { path: PathBuf::new(), linked: HashSet::new(), visit };
    walk.descend(&store.root(), 0);
}

/// The same below one folder in it.
pub(super) fn walk_below(store: &Store, name: &Path, visit: &mut dyn FnMut(&Found<'_>)) {
    match openat(store.root(), name, FOLDER, Mode::empty()) {
        Ok(folder) => {
            let mut walk = Walk { path: name.to_owned(), linked: HashSet::new(), visit };
            walk.descend(&folder, 1);
        }
        Err(e) => log::debug!("cache folder {}: {e}", name.display()),
    }
}

/// A walk that is under way.
struct Walk<'a> {
    path: PathBuf,
    /// Files of several names, by device and inode.
    linked: HashSet<(u64, u64)>,
    visit: &'a mut dyn FnMut(&Found<'_>),
}

impl Walk<'_> {
    fn descend(&mut self, folder: &OwnedFd, depth: usize) {
        let entries = match Dir::read_from(folder) {
            Ok(entries) => entries,
            Err(e) => return log::debug!("cache folder {}: {e}", self.path.display()),
        };
        for entry in entries {
            let entry = match entry {
                Ok(entry) => entry,
                Err(e) => return log::debug!("cache folder {}: {e}", self.path.display()),
            };
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            // It may be gone already.
            let Ok(stat) = statat(folder, name, AtFlags::SYMLINK_NOFOLLOW) else { continue };
            self.path.push(std::ffi::OsStr::from_bytes(name.to_bytes()));
            if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
                self.show(folder, name, &stat);
            } else if depth < MAX_DEPTH {
                match openat(folder, name, FOLDER, Mode::empty()) {
                    Ok(below) => self.descend(&below, depth + 1),
                    Err(e) => log::debug!("cache folder {}: {e}", self.path.display()),
                }
            }
            self.path.pop();
        }
    }

    fn show(&mut self, folder: &OwnedFd, name: &CStr, stat: &Stat) {
        let is_file = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
        let ours = if is_file { classify(&self.path) } else { None };
        let (kind, content) = ours.unwrap_or((FileKind::Other, Content::Unknown));
        let inode = (stat.st_dev, stat.st_ino);
        // The other name may have been removed since it was shown.
        let seen = match stat.st_nlink > 1 {
            true => !self.linked.insert(inode),
            false => self.linked.contains(&inode),
        };
        (self.visit)(&Found {
            kind,
            content,
            path: &self.path,
            bytes: match kind {
                // It may have holes.
                FileKind::Partial => stat.st_size.min(stat.st_blocks.saturating_mul(512)),
                _ => stat.st_size,
            }
            .try_into()
            .unwrap_or(0),
            modified: modified(stat),
            seen,
            inode,
            folder,
            name,
        });
    }
}

/// Before the epoch counts as the epoch.
fn modified(stat: &Stat) -> SystemTime {
    let seconds = u64::try_from(stat.st_mtime).unwrap_or(0);
    let nanoseconds = u32::try_from(stat.st_mtime_nsec).unwrap_or(0);
    UNIX_EPOCH.checked_add(Duration::new(seconds, nanoseconds)).unwrap_or(UNIX_EPOCH)
}

/// What a regular file is by its path below the version's folder; `None` for what is not ours.
fn classify(path: &Path) -> Option<(FileKind, Content)> {
    let parts = path.iter().map(|part| part.to_str()).collect::<Option<Vec<&str>>>()?;
    Some(match parts[..] {
        ["spans", shard, name] => (FileKind::Spans, Content::Span(span(shard, name)?)),
        ["streams", shard, name] => (FileKind::Streams, Content::Span(span(shard, name)?)),
        ["blobs", algorithm, shard, name] if name.starts_with(shard) && shard.len() == 2 => {
            (FileKind::Documents, Content::Blob(digest(algorithm, name)?))
        }
        ["layers", name] => {
            (FileKind::LayerIndexes, Content::Layer(LayerName::Blob(one_word_digest(name)?)))
        }
        ["files", name] => {
            (FileKind::LayerIndexes, Content::Layer(LayerName::File(one_word_digest(name)?)))
        }
        ["inflated", name] => {
            (FileKind::LayerIndexes, Content::Layer(LayerName::Inflated(one_word_digest(name)?)))
        }
        ["diffs", name] => {
            let diff_id = DiffId(one_word_digest(name)?);
            (FileKind::LayerIndexes, Content::Layer(LayerName::DiffId(diff_id)))
        }
        // Its name is a digest of two digests, so there is nothing to hold it against; it has a
        // checksum of its own.
        ["foreign" | "hints" | "sent" | "arrived", name] => {
            one_word_digest(name)?;
            (FileKind::LayerIndexes, Content::Unknown)
        }
        ["refs", name] if name.len() == 64 && unhex(name).is_some() => {
            (FileKind::Documents, Content::Tag(name.to_owned()))
        }
        ["tag-lists", name] if name.len() == 64 && unhex(name).is_some() => {
            (FileKind::Documents, Content::TagList(name.to_owned()))
        }
        ["partial", name] => {
            one_word_digest(name)?;
            (FileKind::Partial, Content::Unknown)
        }
        ["tmp", _] => (FileKind::Temporary, Content::Unknown),
        _ => return None,
    })
}

fn span(shard: &str, name: &str) -> Option<SpanDigest> {
    let hash = unhex(name).filter(|_| shard.len() == 2 && name.starts_with(shard))?;
    Some(SpanDigest(hash.try_into().ok()?))
}

fn digest(algorithm: &str, hex: &str) -> Option<Digest> {
    let digest: Digest = format!("{algorithm}:{hex}").parse().ok()?;
    // Exactly the name under which we look for it.
    (digest.hex() == hex && digest.algorithm().name() == algorithm).then_some(digest)
}

/// The blob that a file is called after which lies right below a folder of the version's.
pub(super) fn blob_of(path: &Path) -> Option<Digest> {
    one_word_digest(path.file_name()?.to_str()?)
}

fn one_word_digest(name: &str) -> Option<Digest> {
    let (algorithm, hex) = name.split_once('-')?;
    digest(algorithm, hex)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_ours_by_place_and_name() {
        let hex = "ab".repeat(32);
        let kind = |path: String| classify(Path::new(&path)).map(|(kind, _)| kind);
        for (path, expected) in [
            (format!("spans/ab/{hex}"), Some(FileKind::Spans)),
            (format!("streams/ab/{hex}"), Some(FileKind::Streams)),
            (format!("blobs/sha256/ab/{hex}"), Some(FileKind::Documents)),
            (format!("refs/{hex}"), Some(FileKind::Documents)),
            (format!("tag-lists/{hex}"), Some(FileKind::Documents)),
            (format!("layers/sha256-{hex}"), Some(FileKind::LayerIndexes)),
            (format!("diffs/sha256-{hex}"), Some(FileKind::LayerIndexes)),
            (format!("files/sha256-{hex}"), Some(FileKind::LayerIndexes)),
            (format!("arrived/sha256-{hex}"), Some(FileKind::LayerIndexes)),
            (format!("partial/sha256-{hex}"), Some(FileKind::Partial)),
            ("tmp/.tmpx".to_owned(), Some(FileKind::Temporary)),
            (format!("spans/cd/{hex}"), None),
            (format!("spans/{hex}"), None),
            (format!("spans/ab/cd/{hex}"), None),
            (format!("spans/ab/{hex}.bak"), None),
            (format!("spans/AB/{}", hex.to_uppercase()), None),
            (format!("blobs/sha256/ab/{}", &hex[2..]), None),
            (format!("layers/sha256:{hex}"), None),
            ("spans/README".to_owned(), None),
            ("README".to_owned(), None),
            ("tmp/a/b".to_owned(), None),
        ] {
            assert_eq!(kind(path.clone()), expected, "{path}");
        }
    }
}
