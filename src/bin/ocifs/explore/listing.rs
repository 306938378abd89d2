//! The rows of the tree's pane, made of what is open: for a few names at once, for many by a thread.
//!
//! A directory may have a million names. Putting them in order and looking at each takes a second, in which no key would
//! be answered. So a listing is a value of its own ([`Wanted`]), which is worked off wherever there is time ([`list`]).

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use ocifs::tree::{Place, Places};

use super::subject::View;

/// So many names are listed while the user waits, which is not noticed.
const FEW_NAMES: usize = 20_000;

/// So many open directories are looked at for that.
const FEW_OPEN: usize = 200;

/// Places that are shown, and those above them.
pub(super) type Kept = Arc<HashSet<Place>>;

/// What a directory holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Sum {
    /// Bytes of the files below it.
    pub(super) bytes: u64,
    /// Names in it that are there.
    pub(super) names: u64,
    /// How many names in it were added, changed and removed.
    pub(super) changes: [u64; 3],
}

/// What directories hold.
pub(super) type Sums = Arc<HashMap<Place, Sum>>;

/// A name that is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) place: Place,
    pub(super) depth: u16,
    pub(super) is_dir: bool,
    pub(super) is_open: bool,
}

/// By what the names of a directory are in order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Sort {
    #[default]
    Name,
    /// The largest first.
    Size,
}

/// What is shown, and how.
#[derive(Clone, Debug, Default)]
pub(super) struct Shape {
    pub(super) sort: Sort,
    /// What is shown, if not all is.
    pub(super) kept: Option<Kept>,
    /// What directories hold, once that is known.
    pub(super) sums: Option<Sums>,
    /// Paths of the directories that are open.
    pub(super) open: Arc<HashSet<Vec<u8>>>,
}

/// A listing that is wanted.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    pub(super) view: View,
    pub(super) shape: Shape,
    /// The path to go to.
    pub(super) path: Vec<u8>,
}

/// Rows, and the one that was wanted.
#[derive(Debug)]
pub(super) struct Listed {
    pub(super) view: View,
    pub(super) rows: Vec<Row>,
    /// The row of the path; or of the nearest above it that is shown.
    pub(super) at: Result<usize, usize>,
}

impl Wanted {
    /// Whether listing it is not noticed.
    pub(super) fn is_small(&self) -> bool {
        let Wanted { view, shape: Shape { kept, open, .. }, .. } = self;
        let shows_nothing = kept.as_ref().is_some_and(|kept| kept.is_empty());
        let paths = open.iter().map(Vec::as_slice);
        shows_nothing || has_few_names(view, [&b""[..]].into_iter().chain(paths))
    }
}

/// Whether some directories, by their paths, are listed without being noticed.
pub(super) fn has_few_names<'a>(view: &View, paths: impl Iterator<Item = &'a [u8]>) -> bool {
    let mut left = FEW_NAMES;
    view.with(|places| {
        paths.enumerate().all(|(at, path)| {
            let names = places.find(path).map_or(0, |dir| places.most_names(dir));
            let room = left.checked_sub(names);
            left = room.unwrap_or(0);
            at < FEW_OPEN && room.is_some()
        })
    })
}

/// Lists all that is open.
pub(super) fn list(wanted: Wanted) -> Listed {
    let Wanted { view, shape, path } = wanted;
    let rows = shape.below(&view, None, b"", 0);
    let at = find(&view, &rows, &path);
    Listed { view, rows, at }
}

/// The row of a path; or of the nearest above it that is shown.
fn find(view: &View, rows: &[Row], path: &[u8]) -> Result<usize, usize> {
    view.with(|places| {
        let mut names = path.split(|byte| *byte == b'/').filter(|name| !name.is_empty());
        let mut wanted = names.next();
        let (mut depth, mut near) = (0, 0);
        for (at, row) in rows.iter().enumerate() {
            let row_depth = usize::from(row.depth);
            if row_depth < depth {
                break;
            }
            if row_depth == depth && Some(places.name(row.place)) == wanted {
                near = at;
                wanted = names.next();
                if wanted.is_none() {
                    return Ok(at);
                }
                depth += 1;
            }
        }
        Err(near)
    })
}

impl Shape {
    /// The bytes that a row stands for.
    pub(super) fn size(&self, places: &dyn Places, place: Place, is_dir: bool) -> Option<u64> {
        match is_dir {
            true => Some(self.sums.as_ref()?.get(&place).map_or(0, |sum| sum.bytes)),
            false => Some(places.facts(place).size),
        }
    }

    /// What is shown of a directory, in order.
    pub(super) fn children(&self, places: &dyn Places, dir: Place) -> Vec<Place> {
        let mut children = places.children(dir);
        if let Some(kept) = &self.kept {
            children.retain(|place| kept.contains(place));
        }
        if self.sort == Sort::Size {
            let size = |place: &Place| {
                let size = self.size(places, *place, places.is_directory(*place));
                std::cmp::Reverse(size.unwrap_or(0))
            };
            children.sort_by_cached_key(size);
        }
        children
    }

    /// The rows below a directory, or below the root. Where its names are not known yet, there are none.
    pub(super) fn below(
        &self,
        view: &View,
        dir: Option<Place>,
        path: &[u8],
        depth: u16,
    ) -> Vec<Row> {
        view.with(|places| {
            let mut rows = Vec::new();
            let listed = |dir, path: &[u8]| {
                let mut children = match view.lists(path) {
                    true => self.children(places, dir),
                    false => Vec::new(),
                };
                children.reverse();
                children
            };
            let mut path = path.to_vec();
            let mut stack = vec![(listed(dir.unwrap_or(places.root()), &path), path.len())];
            while let Some((children, length)) = stack.last_mut() {
                path.truncate(*length);
                let Some(place) = children.pop() else {
                    stack.pop();
                    continue;
                };
                let is_dir = places.is_directory(place);
                let is_open = is_dir && !self.open.is_empty() && {
                    path = joined(&path, places.name(place));
                    self.open.contains(&path)
                };
                let below = u16::try_from(stack.len() - 1).unwrap_or(u16::MAX);
                rows.push(Row { place, depth: depth.saturating_add(below), is_dir, is_open });
                if is_open {
                    stack.push((listed(place, &path), path.len()));
                }
            }
            rows
        })
    }
}

/// The path of a name in a directory.
pub(super) fn joined(dir: &[u8], name: &[u8]) -> Vec<u8> {
    if dir.is_empty() { name.to_vec() } else { [dir, name].join(&b'/') }
}
