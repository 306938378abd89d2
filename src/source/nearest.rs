//! Which tags of a repository, or images of an archive or store, are meant by one that does not exist.
//!
//! By the number of typing mistakes between them (insertions, deletions, substitutions and swapped
//! neighbours, whatever the case); a tag that goes on where the wanted one ends, as `3.12-slim` does
//! for `3.12`, is as near as one mistake. Of equally near ones those come first that begin alike, and
//! then the newest, as far as versions tell.

use std::cmp::Reverse;

use super::natural::Natural;

/// Pairs of characters that are compared: enough for 40,000 tags of 20 characters. The rest of a list
/// stays as it is.
const MAX_COMPARED: usize = 16_000_000;

/// Characters that are compared: no tag may have more (distribution-spec).
const MAX_CHARS: usize = 128;

/// What stands between the parts of a tag.
const SEPARATORS: [char; 4] = ['.', '-', '_', '+'];

/// Sorts tags, or names with one, by how near they are to the wanted one. Of a name, as much is
/// compared as the wanted one has: its last parts, or its tag.
pub(super) fn sort(names: &mut [String], wanted: &str) {
    let is_tag = !wanted.contains([':', '/']);
    let parts = wanted.matches('/').count();
    let wanted = folded(wanted);
    let mut compared = 0;
    let is_within = |name: &&String| {
        compared += wanted.len() * name.len().min(MAX_CHARS);
        compared <= MAX_COMPARED
    };
    let end = names.iter().take_while(is_within).count();
    names[..end].sort_by_cached_key(|name| {
        let end = match is_tag {
            true => name.rfind(':'),
            false => name.rmatch_indices('/').nth(parts).map(|(at, _)| at),
        };
        let folded = folded(end.map_or(name.as_str(), |at| &name[at + 1..]));
        let alike = folded.iter().zip(&wanted).take_while(|(a, b)| a == b).count();
        (distance(&folded, &wanted), Reverse(alike), Reverse(Natural(name.clone())))
    });
}

/// Whether a tag says what refers to a manifest: the referrers tag schema of distribution-spec (`sha256-HEX`), and
/// cosign's signatures, attestations and SBOMs (`sha256-HEX.sig`). They are no images.
pub fn is_of_referrer(tag: &str) -> bool {
    let hex = tag.strip_prefix("sha256-").and_then(|rest| rest.as_bytes().get(..64));
    hex.is_some_and(|hex| hex.iter().all(u8::is_ascii_hexdigit))
}

fn folded(tag: &str) -> Vec<char> {
    tag.chars().take(MAX_CHARS).map(|c| c.to_ascii_lowercase()).collect()
}

fn distance(tag: &[char], wanted: &[char]) -> usize {
    let goes_on = |longer: &[char], shorter: &[char]| {
        longer
            .strip_prefix(shorter)
            .and_then(|rest| rest.first())
            .is_some_and(|c| SEPARATORS.contains(c))
    };
    let mistakes = mistakes(tag, wanted);
    if goes_on(tag, wanted) {
        mistakes.min(1)
    } else if goes_on(wanted, tag) {
        mistakes.min(2)
    } else {
        mistakes
    }
}

/// The distance of two texts by optimal string alignment.
fn mistakes(a: &[char], b: &[char]) -> usize {
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.iter().enumerate() {
        let mut row = vec![i + 1; b.len() + 1];
        for (j, to) in b.iter().enumerate() {
            let mut least =
                (last[j] + usize::from(from != to)).min(last[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && *from == b[j - 1] && a[i - 1] == *to {
                least = least.min(before[j - 1] + 1);
            }
            row[j + 1] = least;
        }
        before = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_of_referrers() {
        let hex = "0".repeat(64);
        for end in ["", ".sig", ".att", ".sbom"] {
            assert!(is_of_referrer(&format!("sha256-{hex}{end}")), "{end}");
        }
        for tag in ["latest", "sha256-1", "sha256-", &format!("sha256-{}", "g".repeat(64)), &hex] {
            assert!(!is_of_referrer(tag), "{tag}");
        }
    }

    #[test]
    fn the_nearest_first() {
        for (wanted, tags, expected) in [
            ("bookwrm", "bullseye bookworm-slim bookworm latest", "bookworm bookworm-slim"),
            ("v1.2.4", "v1.2.10 v0.9 v1.2.3 v1.2.5 v2.2.4", "v1.2.5 v1.2.3 v2.2.4 v1.2.10"),
            ("3.12", "3.9-slim 3.12.1 3.12-slim 3.12.10 latest", "3.12.10 3.12.1 3.12-slim"),
            ("12-slim-x", "11-slim 12-slim 12 13-slim", "12-slim 12"),
            ("Latest", "stable latest", "latest"),
            ("1.25", "v1.25 1.52 1.26", "1.26 1.52"),
            ("latest", "1.9 1.10 1.2", "1.10 1.9 1.2"),
            (
                "v2",
                "a/b:v1 registry.example:5000/b:v22 c:latest",
                "registry.example:5000/b:v22 a/b:v1",
            ),
            ("a/b:v2", "b/a:v2 c.io/x/a/b:v1 a/c:v2", "c.io/x/a/b:v1 a/c:v2"),
            (
                "debian:14",
                "0123abcd docker.io/library/debian:12 x/evil:1",
                "docker.io/library/debian:12",
            ),
            ("x", "", ""),
        ] {
            let mut tags: Vec<String> = tags.split_whitespace().map(str::to_owned).collect();
            sort(&mut tags, wanted);
            let found = tags.join(" ");
            assert!(found.starts_with(expected), "{wanted}: {found}");
        }
    }

    #[test]
    fn numbers_in_order() {
        let mut texts = ["v10", "v9", "v09", "a1b2", "a1b10", "a", "10", "9"]
            .map(|text| Natural(text.to_owned()));
        texts.sort();
        let texts: Vec<&str> = texts.iter().map(|text| text.0.as_str()).collect();
        assert_eq!(texts, ["9", "10", "a", "a1b2", "a1b10", "v09", "v9", "v10"]);
    }

    #[test]
    fn mistakes_of_typing() {
        for (a, b, expected) in [
            ("", "", 0),
            ("", "abc", 3),
            ("abc", "abc", 0),
            ("abc", "acb", 1),
            ("kitten", "sitting", 3),
            ("ca", "abc", 3),
        ] {
            let [x, y] = [a, b].map(folded);
            assert_eq!((mistakes(&x, &y), mistakes(&y, &x)), (expected, expected), "{a} {b}");
        }
    }

    /// Of a list as long as a document may be, only a part is compared.
    #[test]
    fn long_lists() {
        let mut tags: Vec<String> = (0..30_000).map(|n| format!("{n:0>128}")).collect();
        tags.push("9".repeat(128));
        sort(&mut tags, &"9".repeat(128));
        assert_eq!((tags.len(), tags[30_000].as_str()), (30_001, "9".repeat(128).as_str()));
    }
}
