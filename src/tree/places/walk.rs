//! Walking places without recursion: an image may nest directories deeper than any stack.

use std::fmt;

use super::{Place, Places};

/// All places below one, each directory before what is in it, by name.
pub struct PlaceWalk<'a> {
    places: &'a dyn Places,
    /// What is still to come of each directory on the way, in reverse.
    stack: Vec<Vec<Place>>,
    /// The places above the next one, from the one where the walk began.
    above: Vec<Place>,
}

impl fmt::Debug for PlaceWalk<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PlaceWalk").field("above", &self.above).finish_non_exhaustive()
    }
}

impl<'a> PlaceWalk<'a> {
    /// Everything below `from`.
    pub fn new(places: &'a dyn Places, from: Place) -> PlaceWalk<'a> {
        let mut walk = PlaceWalk { places, stack: Vec::new(), above: Vec::new() };
        walk.enter(from);
        walk
    }

    /// The next place, with those above it: the directory that holds it is the last. (Not an `Iterator`: they are
    /// lent.)
    #[allow(clippy::should_implement_trait, reason = "an iterator cannot lend")]
    pub fn next(&mut self) -> Option<(&[Place], Place)> {
        loop {
            let Some(place) = self.stack.last_mut()?.pop() else {
                self.stack.pop();
                self.above.pop();
                continue;
            };
            if self.places.is_directory(place) {
                let depth = self.above.len();
                self.enter(place);
                return Some((&self.above[..depth], place));
            }
            return Some((&self.above, place));
        }
    }

    fn enter(&mut self, dir: Place) {
        let mut children = self.places.children(dir);
        children.reverse();
        self.stack.push(children);
        self.above.push(dir);
    }
}
