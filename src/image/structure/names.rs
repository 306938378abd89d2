//! Names of parts.

use std::collections::HashSet;

use crate::digest::Digest;

/// Digits of a digest in a name.
const DIGITS: usize = 12;

/// Longest part of a name that comes from a document.
const MAX_WORD_BYTES: usize = 100;

/// The names of a directory.
#[derive(Debug, Default)]
pub(super) struct Names {
    taken: HashSet<String>,
}

impl Names {
    /// The name, or if it is taken, with a number behind it.
    pub(super) fn take(&mut self, name: String) -> String {
        let mut free = name.clone();
        for number in 2.. {
            if self.taken.insert(free.clone()) {
                break;
            }
            free = format!("{name}-{number}");
        }
        free
    }
}

/// The first digits of a digest.
pub(super) fn short(digest: &Digest) -> String {
    digest.hex().chars().take(DIGITS).collect()
}

/// A word of a document as a part of a file's name: all but letters, digits, `.`, `_` and `+` becomes `-`.
pub(super) fn clean(word: &str) -> String {
    let word = word.split_once("://").map_or(word, |(_, rest)| rest);
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '+');
    let cleaned = word.chars().map(|c| if is_plain(c) { c } else { '-' });
    let cleaned: String = cleaned.take(MAX_WORD_BYTES).collect();
    match cleaned.trim_matches(['-', '.']) {
        "" => "unknown".to_owned(),
        cleaned => cleaned.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_become_parts_of_names() {
        for (word, name) in [
            ("linux/arm/v7", "linux-arm-v7"),
            ("windows(10.0.20348.1)/amd64", "windows-10.0.20348.1--amd64"),
            ("https://slsa.dev/provenance/v1", "slsa.dev-provenance-v1"),
            ("application/spdx+json", "application-spdx+json"),
            ("../../etc", "etc"),
            ("a\nb\0\u{202e}", "a-b"),
            ("", "unknown"),
            ("..", "unknown"),
        ] {
            assert_eq!(clean(word), name, "{word:?}");
        }
        assert_eq!(clean(&"x".repeat(5000)).len(), MAX_WORD_BYTES);
    }

    #[test]
    fn no_two_are_the_same() {
        let mut names = Names::default();
        let taken = ["a", "a", "a-2", "a"].map(|name| names.take(name.to_owned()));
        assert_eq!(taken, ["a", "a-2", "a-2-2", "a-3"]);
    }
}
