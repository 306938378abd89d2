//! The order of tags, and which of them are versions.

use std::cmp::Reverse;

use crate::source::Natural;

/// Versions first, the newest first; then everything else by name.
pub(super) fn order(tag: &str) -> (bool, Option<Reverse<Natural>>, Natural) {
    let digits = version_of(tag);
    let is_numbered = digits.starts_with(|c: char| c.is_ascii_digit());
    let newest = is_numbered.then(|| Reverse(Natural(digits.to_owned())));
    (!is_numbered, newest, Natural(tag.to_owned()))
}

/// The part of a tag that may be a version. In archives, tags are full names.
fn version_of(tag: &str) -> &str {
    let tag = tag.rsplit_once(':').map_or(tag, |(_, tag)| tag);
    tag.strip_prefix('v').unwrap_or(tag)
}

/// Whether a tag is a version that was released: numbers with dots between them.
pub(super) fn is_version(tag: &str) -> bool {
    /// A date has eight digits.
    const MAX_DIGITS: usize = 7;
    let numbers = version_of(tag).split('.');
    numbers.into_iter().all(|number| {
        (1..=MAX_DIGITS).contains(&number.len()) && number.bytes().all(|b| b.is_ascii_digit())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_version_comes_first() {
        let mut tags = ["latest", "1.9", "1.10", "edge", "v2.0", "1", "1.10-rc1", "10", "sha-ab"]
            .map(str::to_owned);
        tags.sort_by_cached_key(|tag| order(tag));
        let sorted = ["10", "v2.0", "1.10-rc1", "1.10", "1.9", "1", "edge", "latest", "sha-ab"];
        assert_eq!(tags, sorted);
        let mut names = ["app:latest", "app:1.9", "app:1.10"];
        names.sort_by_cached_key(|tag| order(tag));
        assert_eq!(names, ["app:1.10", "app:1.9", "app:latest"]);
    }

    #[test]
    fn what_is_a_version() {
        for tag in ["1", "v1", "app:v1", "1.25", "2024.01.15", "0"] {
            assert!(is_version(tag), "{tag}");
        }
        for tag in [
            "",
            "v",
            "1.25-alpine",
            "1.0-rc1",
            "20240115",
            "1.",
            "latest",
            "1..2",
            "1a",
            "1:latest",
        ] {
            assert!(!is_version(tag), "{tag}");
        }
    }
}
