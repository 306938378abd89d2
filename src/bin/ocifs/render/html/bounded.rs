//! Texts of bounded length, and what is said of what is left out.

use crate::render::listing::for_terminal;
use crate::render::text::printable;

/// Characters of a text that are shown: enough for instructions that people have written, and for paths.
pub(super) const MAX_TEXT_CHARS: usize = 2000;

/// The bytes of a name that are shown. Names are in many rows, and in two places of some.
const MAX_NAME_BYTES: usize = 1024;

/// A text in one line, without what would be obeyed; what is longer than `most` says so.
pub(super) fn text(text: &str, most: usize) -> String {
    let mut chars = text.chars();
    let shown: String = chars.by_ref().take(most).collect();
    match chars.count() {
        0 => printable(&shown),
        left => format!("{}… ({left} more characters)", printable(&shown)),
    }
}

/// A name, which is any bytes; of one that is too long, its beginning and its end.
pub(super) fn name(name: &[u8]) -> String {
    if name.len() <= MAX_NAME_BYTES {
        return for_terminal(name);
    }
    let (begin, end) = (&name[..MAX_NAME_BYTES / 2], &name[name.len() - MAX_NAME_BYTES / 2..]);
    let left = name.len() - MAX_NAME_BYTES;
    format!("{}… ({left} more bytes) …{}", for_terminal(begin), for_terminal(end))
}

/// `12 more paths`; `None` if there are none.
pub(crate) fn more(left: usize, what: &str) -> Option<String> {
    (left > 0).then(|| format!("{left} more {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_cut_is_told() {
        assert_eq!(text("a\u{202e}b", 9), "a\u{fffd}b");
        assert_eq!(text("abc", 3), "abc");
        assert_eq!(text("abcde", 3), "abc… (2 more characters)");
        let long = [b"/a/".repeat(1_000_000), b"end".to_vec()].concat();
        let short = name(&long);
        assert!(short.len() < 1100 && short.starts_with("/a/") && short.ends_with("end"));
        assert_eq!(name(b"/a\x1b"), "/a?");
    }
}
