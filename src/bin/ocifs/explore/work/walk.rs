//! What is known only after a walk over all names: what a filter keeps, and what directories hold.

use std::collections::{HashMap, HashSet};

use ocifs::tree::{Change, Facts, FileKind, Place, PlaceWalk};

use super::super::subject::View;
use super::asked::{Filter, Keep};
use crate::explore::listing::Sum;

/// Files that are listed of those that are for nothing.
pub(super) const MAX_WASTED: usize = 1000;

/// What counts as large, in bytes.
const LARGE_BYTES: u64 = 1 << 20;

/// Names between two looks at whether it is still wanted.
const STEP: usize = 4096;

impl Filter {
    fn keeps(self, facts: &Facts) -> bool {
        match self {
            Filter::Changed => facts.change.is_some(),
            Filter::Removed => facts.change == Some(Change::Removed),
            Filter::Large => facts.kind == FileKind::Regular && facts.size >= LARGE_BYTES,
            Filter::Setuid => facts.kind == FileKind::Regular && facts.mode & 0o6000 != 0,
        }
    }
}

/// The places that are shown, and those above them; `None` if it is wanted no more.
pub(super) fn kept(
    view: &View,
    keep: Keep,
    is_wanted: &dyn Fn() -> bool,
) -> Option<HashSet<Place>> {
    view.with(|places| {
        let mut kept = HashSet::from([places.root()]);
        let mut walk = PlaceWalk::new(places, places.root());
        let mut steps = 0;
        while let Some((above, place)) = walk.next() {
            steps += 1;
            if steps % STEP == 0 && !is_wanted() {
                return None;
            }
            let is_kept = (!keep.alone || view.is_touched(place))
                && keep.filter.is_none_or(|filter| filter.keeps(&places.facts(place)));
            if is_kept {
                kept.insert(place);
                // What is above a kept one is kept with all above it.
                for dir in above.iter().rev() {
                    if !kept.insert(*dir) {
                        break;
                    }
                }
            }
        }
        Some(kept)
    })
}

/// What each directory holds: bytes of the regular files below it, of those that are there; of a directory that is there
/// no more, of those that were. A file with several names counts where it is met first. And how many names are in it.
/// `None` if it is wanted no more.
pub(super) fn sums(view: &View, is_wanted: &dyn Fn() -> bool) -> Option<HashMap<Place, Sum>> {
    view.with(|places| {
        let mut sums: HashMap<Place, Sum> = HashMap::new();
        let mut seen = Seen::default();
        let mut walk = PlaceWalk::new(places, places.root());
        let mut steps = 0;
        while let Some((above, place)) = walk.next() {
            steps += 1;
            if steps % STEP == 0 && !is_wanted() {
                return None;
            }
            let facts = places.facts(place);
            if let Some(dir) = above.last() {
                let sum = sums.entry(*dir).or_default();
                sum.names += u64::from(place.is_there());
                if let Some(change) = facts.change {
                    sum.changes[change as usize] += 1;
                }
            }
            let is_file = facts.kind == FileKind::Regular;
            if !is_file || place.is_there() && !seen.is_new(facts.file) {
                continue;
            }
            for dir in above.iter().rev() {
                // What was removed is no part of what is still there.
                if dir.is_there() && !place.is_there() {
                    break;
                }
                let sum = sums.entry(*dir).or_default();
                sum.bytes = sum.bytes.saturating_add(facts.size);
            }
        }
        Some(sums)
    })
}

/// Files that were met.
#[derive(Debug, Default)]
pub(super) struct Seen(HashMap<u32, Vec<u64>>);

impl Seen {
    /// Whether it is met for the first time.
    pub(super) fn is_new(&mut self, (group, file): (u32, u32)) -> bool {
        let bits = self.0.entry(group).or_default();
        let (word, bit) = (file as usize / 64, 1 << (file % 64));
        if bits.len() <= word {
            bits.resize(word + 1, 0);
        }
        let is_new = bits[word] & bit == 0;
        bits[word] |= bit;
        is_new
    }
}
