//! Whether a table of contents says what the tar says.
//!
//! A TOC and the tar in the same blob are two descriptions of one layer. Engines that unpack read the
//! tar, those that mount read the TOC, and a scanner sees one of them: if they differ, one of
//! these programs sees something else than the others (a *split view*).
//!
//! Compared is what each path means in the end, as later entries replace earlier ones; paths are
//! those of the layer, whiteouts included. Where the order of entries decides what is shown, it is
//! compared too, and every entry that a hard link could show ([`order`]). Where a TOC does not say
//! what a file's content hashes to, that is no difference: its chunks are verified when they are read.
//! An index of the tar says where in it content stands instead.
//!
//! Times have to be those of the tar, or what the reference writer of eStargz makes of them, which
//! keeps seconds only: see [`is_time_of`].
//!
//! A few hundred KB can name a hundred thousand entries in a directory that is thousands deep. So paths are
//! told apart without writing them out ([`Side`]), and [`MAX_DIFFERENCES`] are told at most.

use std::collections::{BTreeMap, BTreeSet};

use super::order::{self, Group, Key, Label, Side};
use crate::index::{DirId, Entry, EntryKind, LayerIndex, Runs};

/// Differences of a layer that are told: one is enough to refuse its table.
pub const MAX_DIFFERENCES: usize = 1000;

/// A path of which the two tell different things.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The path in the layer, as text.
    pub path: String,
    /// The path as it is.
    pub exact_path: Vec<u8>,
    /// What differs.
    pub what: &'static str,
}

impl Difference {
    /// A difference at a path.
    pub fn new(path: &[u8], what: &'static str) -> Difference {
        let text = String::from_utf8_lossy(path).into_owned();
        Difference { path: text, exact_path: path.to_vec(), what }
    }
}

/// What came of a comparison.
#[derive(Debug, Default)]
pub struct Comparison {
    /// What differs by what the two say.
    pub differences: Vec<Difference>,
    /// Regular files that have to have the same content: their places in the tables of entries, the
    /// table's own first.
    pub files: Vec<(usize, usize)>,
}

/// What a path means.
struct Meaning<'a> {
    side: Side<'a>,
    /// Directory and name; of a whiteout those that it hides.
    dir: DirId,
    name: &'a [u8],
    /// An entry, and its place in the table; `None` for a whiteout.
    entry: Option<(usize, Entry<'a>)>,
}

impl<'a> Meaning<'a> {
    fn of_entry(side: Side<'a>, at: usize) -> Meaning<'a> {
        let entry = side.index.entry_at(at);
        Meaning { side, dir: entry.dir, name: entry.name, entry: Some((at, entry)) }
    }

    /// The path in the layer.
    fn path(&self) -> Vec<u8> {
        match (&self.entry, self.name) {
            (Some(_), name) => self.side.index.path(self.dir, name),
            (None, b"") => self.side.index.path(self.dir, b".wh..wh..opq"),
            (None, name) => self.side.index.path(self.dir, &[b".wh.", name].concat()),
        }
    }
}

/// Compares what a table says (`claimed`) with the tar (`actual`). Hidden files count only as targets
/// of hard links.
pub fn compare(claimed: &LayerIndex, actual: &LayerIndex) -> Comparison {
    let by_place = claimed.has_tar_offsets();
    let dirs = order::shared_dirs([claimed, actual]);
    let [claimed, actual] = Side::of([claimed, actual], &dirs);
    let (claims, facts) = (meanings(claimed), meanings(actual));
    let mut found = Comparison::default();
    for (key, claim) in &claims {
        match facts.get(key) {
            None => {
                found.differ(|| claim.path(), "is in the table of contents, but not in the tar")
            }
            Some(fact) => found.pair(claim, fact, by_place),
        }
    }
    for (_, fact) in facts.iter().filter(|(key, _)| !claims.contains_key(*key)) {
        found.differ(|| fact.path(), "is in the tar, but not in the table of contents");
    }
    if found.differences.is_empty() {
        found.compare_order(claimed, actual, by_place);
    }
    found.differences.sort_by(|a, b| a.exact_path.cmp(&b.exact_path));
    found
}

impl Comparison {
    fn differ(&mut self, path: impl FnOnce() -> Vec<u8>, what: &'static str) {
        if self.differences.len() < MAX_DIFFERENCES {
            self.differences.push(Difference::new(&path(), what));
        }
    }

    fn pair(&mut self, claim: &Meaning<'_>, fact: &Meaning<'_>, by_place: bool) {
        if let Some(what) = difference(claim, fact, by_place) {
            self.differ(|| claim.path(), what);
        }
        let file = |of: &Meaning<'_>| match of.entry {
            Some((at, Entry { kind: EntryKind::File { size, .. }, .. })) => Some((at, size)),
            _ => None,
        };
        match (file(claim), file(fact)) {
            (Some((a, a_size)), Some((b, b_size))) if a_size == b_size => self.files.push((a, b)),
            _ => {}
        }
    }

    fn compare_order(&mut self, claimed: Side<'_>, actual: Side<'_>, by_place: bool) {
        let groups = order::groups([claimed, actual]);
        let claims = order::members(claimed, &groups);
        let facts = order::members(actual, &groups);
        let mut paired: BTreeSet<(usize, usize)> = self.files.iter().copied().collect();
        for group in &groups {
            let (claims, facts) = (members_of(&claims, group), members_of(&facts, group));
            for at in 0..claims.len().max(facts.len()) {
                let (claim, fact) = (claims.get(at), facts.get(at));
                if label(claimed, claim) != label(actual, fact) {
                    let of = |side, at: &usize| Meaning::of_entry(side, *at).path();
                    let path = claim.map(|at| of(claimed, at));
                    self.differ(
                        || path.or(fact.map(|at| of(actual, at))).unwrap_or_default(),
                        "comes in another order than in the tar, which matters here",
                    );
                    break;
                }
                let pair = (claims[at], facts[at]);
                if paired.insert(pair) {
                    let claim = Meaning::of_entry(claimed, pair.0);
                    self.pair(&claim, &Meaning::of_entry(actual, pair.1), by_place);
                }
            }
        }
    }
}

fn members_of<'m>(members: &'m BTreeMap<Group<'m>, Vec<usize>>, group: &Group<'m>) -> &'m [usize] {
    members.get(group).map_or(&[], |members| members)
}

fn label<'a>(side: Side<'a>, at: Option<&usize>) -> Option<Label<'a>> {
    at.map(|at| side.label(&side.index.entry_at(*at)))
}

/// What each path means in the end; by its key, and whether it is that of a whiteout.
fn meanings(side: Side<'_>) -> BTreeMap<(Key<'_>, bool), Meaning<'_>> {
    let mut found = BTreeMap::new();
    let entries = side.index.entries().enumerate().filter(|(_, entry)| !entry.hidden);
    for (at, entry) in entries {
        found.insert((side.key(entry.dir, entry.name), false), Meaning::of_entry(side, at));
    }
    for whiteout in side.index.whiteouts() {
        let (dir, name) = (whiteout.dir, whiteout.name.unwrap_or_default());
        found.insert((side.key(dir, name), true), Meaning { side, dir, name, entry: None });
    }
    found
}

fn difference(claim: &Meaning<'_>, fact: &Meaning<'_>, by_place: bool) -> Option<&'static str> {
    let (a, b) = match (&claim.entry, &fact.entry) {
        (Some((_, a)), Some((_, b))) => (a, b),
        // They are told apart from entries before.
        _ => return None,
    };
    let kind = kind_difference(claim, a, fact, b);
    let owner = (a.uid, a.gid) != (b.uid, b.gid);
    let times = !is_time_of(time(a), time(b));
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

/// Seconds and nanoseconds.
type Time = (i64, u32);

fn time(entry: &Entry<'_>) -> Time {
    (entry.mtime_seconds, entry.mtime_nanoseconds)
}

/// Whether a table may say `claimed` of a file with the time `actual`: the same, or whole seconds,
/// cut off or rounded to the nearest, half of one up (stargz-snapshotter, estargz/build.go rounds).
/// It leaves out the times that Go takes for none: the second of the epoch, and the first one of all.
fn is_time_of(claimed: Time, actual: Time) -> bool {
    const GO_ZERO_TIME: Time = (-62_135_596_800, 0);
    let (seconds, nanoseconds) = actual;
    let nearest = seconds.saturating_add(i64::from(nanoseconds >= 500_000_000));
    claimed == actual
        || claimed == (seconds, 0)
        || claimed == (nearest, 0)
        || (claimed == (0, 0) && actual == GO_ZERO_TIME)
}

/// Where in the tar the content of a file stands: (offset in the file, in the tar, length).
fn places(of: &Meaning<'_>, entry: &Entry<'_>) -> Vec<(u64, u64, u64)> {
    match entry.kind {
        EntryKind::File { size: 1.., runs: Runs::Whole(start) } => vec![(0, start.0, 0)],
        EntryKind::File { runs: Runs::Sparse { first, count }, .. } => {
            let runs = of.side.index.sparse_runs(first, count);
            runs.map(|run| (run.file_offset, run.start.0, run.length)).collect()
        }
        _ => Vec::new(),
    }
}

fn xattrs<'a>(of: &'a Meaning<'_>, entry: &Entry<'a>) -> BTreeMap<Vec<u8>, Vec<u8>> {
    of.side.index.xattrs(entry).map(|(name, value)| (name.to_vec(), value.to_vec())).collect()
}

fn kind_difference(
    claim: &Meaning<'_>,
    a: &Entry<'_>,
    fact: &Meaning<'_>,
    b: &Entry<'_>,
) -> Option<&'static str> {
    match (a.kind, b.kind) {
        (EntryKind::File { size: a_size, .. }, EntryKind::File { size: b_size, .. }) => {
            let digests = (claim.side.index.content_digest(a), fact.side.index.content_digest(b));
            match digests {
                _ if a_size != b_size => Some("has another size"),
                (Some(a), Some(b)) if a.contradicts(&b) => Some("has other content"),
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
        ) => (claim.side.key(a_dir, a) != fact.side.key(b_dir, b))
            .then_some("links to something else"),
        (EntryKind::CharDevice(a, b), EntryKind::CharDevice(c, d))
        | (EntryKind::BlockDevice(a, b), EntryKind::BlockDevice(c, d)) => {
            ((a, b) != (c, d)).then_some("is another device")
        }
        _ => Some("is of another kind"),
    }
}

#[cfg(test)]
mod tests {
    use super::is_time_of;

    #[test]
    fn times_are_kept_cut_off_or_rounded() {
        for (claimed, actual) in [
            ((1000, 700_000_000), (1000, 700_000_000)),
            ((1000, 0), (1000, 700_000_000)),
            ((1001, 0), (1000, 700_000_000)),
            ((1001, 0), (1000, 500_000_000)),
            ((1000, 0), (1000, 499_999_999)),
            ((-1, 0), (-2, 500_000_000)),
            ((0, 0), (0, 900_000_000)),
            ((0, 0), (-62_135_596_800, 0)),
            ((i64::MAX, 0), (i64::MAX, 999_999_999)),
        ] {
            assert!(is_time_of(claimed, actual), "{claimed:?} {actual:?}");
        }
        for (claimed, actual) in [
            ((1001, 0), (1000, 499_999_999)),
            ((999, 0), (1000, 0)),
            ((1001, 0), (1000, 0)),
            ((1000, 500_000_000), (1000, 700_000_000)),
            ((1000, 700_000_000), (1000, 0)),
            ((1000, 1), (1000, 0)),
            ((1001, 1), (1000, 700_000_000)),
            ((0, 0), (1000, 0)),
            ((0, 0), (-62_135_596_800, 1)),
        ] {
            assert!(!is_time_of(claimed, actual), "{claimed:?} {actual:?}");
        }
    }
}
