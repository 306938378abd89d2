//! Whether a table of contents says what the tar says.
//!
//! A TOC and the tar in the same blob are two descriptions of one layer. Engines that unpack read the
//! tar, those that mount read the TOC, and a scanner sees one of them: if they differ, somebody is
//! shown something else than others are (a *split view*).
//!
//! Compared is what each path means in the end, as later entries replace earlier ones; paths are
//! those of the layer, whiteouts included. Times are compared in whole seconds, which is all that
//! eStargz keeps. Where a TOC does not say what a file's content hashes to, that is no difference:
//! its chunks are verified when they are read. An index of the tar says where in it content stands
//! instead.

use std::collections::BTreeMap;

use crate::index::{Entry, EntryKind, LayerIndex, Runs};

/// A path of which the two tell different things.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The path in the layer.
    pub path: String,
    /// What differs.
    pub what: &'static str,
}

/// What a path means.
struct Meaning<'a> {
    index: &'a LayerIndex,
    entry: Option<Entry<'a>>,
}

/// Compares what a table says (`claimed`) with the tar (`actual`). Paths for which `is_ignored` holds
/// are left out.
pub fn compare(
    claimed: &LayerIndex,
    actual: &LayerIndex,
    is_ignored: &dyn Fn(&[u8]) -> bool,
) -> Vec<Difference> {
    let by_place = claimed.has_tar_offsets();
    let (claimed, actual) = (meanings(claimed), meanings(actual));
    let mut differences = Vec::new();
    let mut differ = |path: &[u8], what| {
        if !is_ignored(path) {
            let path = String::from_utf8_lossy(path).into_owned();
            differences.push(Difference { path, what });
        }
    };
    for (path, claim) in &claimed {
        match actual.get(path) {
            None => differ(path, "is in the table of contents, but not in the tar"),
            Some(fact) => {
                if let Some(what) = difference(claim, fact, by_place) {
                    differ(path, what);
                }
            }
        }
    }
    for path in actual.keys().filter(|path| !claimed.contains_key(*path)) {
        differ(path, "is in the tar, but not in the table of contents");
    }
    differences
}

/// What each path means in the end.
fn meanings(index: &LayerIndex) -> BTreeMap<Vec<u8>, Meaning<'_>> {
    let mut found = BTreeMap::new();
    for entry in index.entries().filter(|entry| !entry.hidden) {
        found.insert(index.path(entry.dir, entry.name), Meaning { index, entry: Some(entry) });
    }
    for whiteout in index.whiteouts() {
        let name = match whiteout.name {
            Some(name) => [b".wh.", name].concat(),
            None => b".wh..wh..opq".to_vec(),
        };
        found.insert(index.path(whiteout.dir, &name), Meaning { index, entry: None });
    }
    found
}

fn difference(claim: &Meaning<'_>, fact: &Meaning<'_>, by_place: bool) -> Option<&'static str> {
    let (a, b) = match (&claim.entry, &fact.entry) {
        (None, None) => return None,
        (Some(a), Some(b)) => (a, b),
        _ => return Some("is a whiteout in one of the two only"),
    };
    let kind = kind_difference(claim, a, fact, b);
    let owner = (a.uid, a.gid) != (b.uid, b.gid);
    let times = a.mtime_seconds != b.mtime_seconds;
    // A hard link has the attributes of what it links to; writers fill these in or not.
    let is_link = matches!(b.kind, EntryKind::HardLink { .. });
    match kind {
        Some(what) => Some(what),
        None if is_link => None,
        None if by_place && places(claim, a) != places(fact, b) => Some("has other content"),
        None if a.mode != b.mode => Some("has another mode"),
        None if owner => Some("has another owner"),
        None if times => Some("has another modification time"),
        None if xattrs(claim, a) != xattrs(fact, b) => Some("has other extended attributes"),
        None => None,
    }
}

/// Where in the tar the content of a file stands: (offset in the file, in the tar, length).
fn places(of: &Meaning<'_>, entry: &Entry<'_>) -> Vec<(u64, u64, u64)> {
    match entry.kind {
        EntryKind::File { size: 1.., runs: Runs::Whole(start) } => vec![(0, start.0, 0)],
        EntryKind::File { runs: Runs::Sparse { first, count }, .. } => {
            let runs = of.index.sparse_runs(first, count);
            runs.map(|run| (run.file_offset, run.start.0, run.length)).collect()
        }
        _ => Vec::new(),
    }
}

fn xattrs<'a>(of: &'a Meaning<'_>, entry: &Entry<'a>) -> BTreeMap<Vec<u8>, Vec<u8>> {
    of.index.xattrs(entry).map(|(name, value)| (name.to_vec(), value.to_vec())).collect()
}

fn kind_difference(
    claim: &Meaning<'_>,
    a: &Entry<'_>,
    fact: &Meaning<'_>,
    b: &Entry<'_>,
) -> Option<&'static str> {
    match (a.kind, b.kind) {
        (EntryKind::File { size: a_size, .. }, EntryKind::File { size: b_size, .. }) => {
            let hashes = (claim.index.content_hash(a), fact.index.content_hash(b));
            match hashes {
                _ if a_size != b_size => Some("has another size"),
                (Some(a), Some(b)) if a != b => Some("has other content"),
                _ => None,
            }
        }
        (EntryKind::Directory, EntryKind::Directory) | (EntryKind::Fifo, EntryKind::Fifo) => None,
        (EntryKind::Symlink(a), EntryKind::Symlink(b)) => {
            (a != b).then_some("links to something else")
        }
        (
            EntryKind::HardLink { dir: a_dir, name: a },
            EntryKind::HardLink { dir: b_dir, name: b },
        ) => {
            let (a, b) = (claim.index.path(a_dir, a), fact.index.path(b_dir, b));
            (a != b).then_some("links to something else")
        }
        (EntryKind::CharDevice(a, b), EntryKind::CharDevice(c, d))
        | (EntryKind::BlockDevice(a, b), EntryKind::BlockDevice(c, d)) => {
            ((a, b) != (c, d)).then_some("is another device")
        }
        _ => Some("is of another kind"),
    }
}
