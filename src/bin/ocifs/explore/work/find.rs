//! Names that have some letters in them.

use ocifs::tree::PlaceWalk;

use super::super::subject::View;
use crate::explore::listing::Kept;

/// Matches that are kept. Nobody goes through more of them one by one.
const MAX_FOUND: usize = 10_000;

/// Names between two looks at whether it is still wanted.
const STEP: usize = 4096;

/// Whether letters are looked for in either case: if the user wrote no capital.
pub(in crate::explore) fn folds_case(needle: &str) -> bool {
    !needle.chars().any(char::is_uppercase)
}

/// Paths whose last names have the needle in them, in the order of the tree, and whether there are more of them;
/// `None` if they are wanted no more.
pub(super) fn find(
    view: &View,
    needle: &str,
    kept: Option<&Kept>,
    is_wanted: &dyn Fn() -> bool,
) -> Option<(Vec<Vec<u8>>, bool)> {
    let folds = folds_case(needle);
    view.with(|places| {
        let (mut found, mut steps) = (Vec::new(), 0);
        let mut walk = PlaceWalk::new(places, places.root());
        while let Some((above, place)) = walk.next() {
            steps += 1;
            if steps % STEP == 0 && !is_wanted() {
                return None;
            }
            if !contains(places.name(place), needle.as_bytes(), folds)
                || kept.is_some_and(|kept| !kept.contains(&place))
            {
                continue;
            }
            if found.len() == MAX_FOUND {
                return Some((found, true));
            }
            let names = above.iter().skip(1).chain([&place]).map(|place| places.name(*place));
            found.push(names.collect::<Vec<_>>().join(&b'/'));
        }
        Some((found, false))
    })
}

/// Whether some bytes stand in others; letters of ASCII in either case, if that is wanted.
pub(in crate::explore) fn contains(text: &[u8], needle: &[u8], folds: bool) -> bool {
    position(text, needle, folds).is_some()
}

/// Where some bytes stand in others first.
pub(super) fn position(text: &[u8], needle: &[u8], folds: bool) -> Option<usize> {
    let Some(first) = needle.first() else { return Some(0) };
    let last = text.len().checked_sub(needle.len())?;
    let is_first = |byte: &u8| match folds {
        true => byte.eq_ignore_ascii_case(first),
        false => byte == first,
    };
    let is_here = |at: &usize| {
        let here = &text[*at..*at + needle.len()];
        is_first(&here[0]) && if folds { here.eq_ignore_ascii_case(needle) } else { here == needle }
    };
    (0..=last).find(is_here)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_in_bytes() {
        assert_eq!(position(b"abcABC", b"BC", false), Some(4));
        assert_eq!(position(b"abcABC", b"bc", true), Some(1));
        assert_eq!(position(b"aab", b"ab", false), Some(1));
        assert_eq!(position(b"a", b"ab", false), None);
        assert_eq!(position(b"", b"", false), Some(0));
        assert!(folds_case("a\u{e4}1") && !folds_case("aB"));
    }
}
