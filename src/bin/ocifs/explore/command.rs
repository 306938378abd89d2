//! The command line that shows the same as the screen, and words as a shell takes them.

use std::fmt::Write;

use ocifs::tree::{FileKind, Place};

use super::subject::{Subject, View};
use crate::render::text::is_printable;

/// The command for a place. `words` name the images, with the flags that they need.
pub(super) fn of(words: &[String], view: &View, place: Place, path: &[u8], alone: bool) -> String {
    let images = words.iter().map(|word| quoted(word.as_bytes())).collect::<Vec<_>>().join(" ");
    let facts = view.with(|places| places.facts(place));
    let (stack, as_of) = match (&*view.subject, view.as_of()) {
        (Subject::Image(_), Some(both)) => both,
        _ => {
            let how = if facts.kind == FileKind::Regular { "--patch " } else { "" };
            return format!("ocifs diff {how}--path {} {images}", quoted(&pattern(path)));
        }
    };
    let path = quoted(path);
    let is_top = view.layer + 1 == stack.resolved().layers.len();
    let layer = match facts.kind {
        // Its entry may be in a lower layer than that which gives it this name.
        FileKind::Regular => as_of.origin(place).layer,
        _ => view.layer,
    };
    let layer = match is_top && !alone && place.is_there() {
        true => String::new(),
        false => format!("--layer {layer} "),
    };
    match facts.kind {
        FileKind::Regular => format!("ocifs cat {layer}{images} {path}"),
        FileKind::Directory => format!("ocifs ls -l {layer}{images} {path}"),
        _ => format!("ocifs ls -ld {layer}{images} {path}"),
    }
}

/// The pattern that matches this path alone (fnmatch(3)).
fn pattern(path: &[u8]) -> Vec<u8> {
    let is_special = |byte: u8| matches!(byte, b'*' | b'?' | b'[' | b'\\');
    let escaped =
        path.iter().flat_map(|byte| is_special(*byte).then_some(b'\\').into_iter().chain([*byte]));
    escaped.collect()
}

/// A word for a shell. What a terminal would obey is written as escapes, for bash and zsh: it may be pasted there.
pub(super) fn quoted(word: &[u8]) -> String {
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"_./:=@%+,-".contains(byte);
    let text = String::from_utf8_lossy(word);
    if !word.is_empty() && word.iter().all(is_plain) {
        return text.into_owned();
    }
    if std::str::from_utf8(word).is_ok() && text.chars().all(is_printable) {
        return format!("'{}'", text.replace('\'', "'\\''"));
    }
    let mut quoted = String::from("$'");
    for byte in word {
        match byte {
            b'\'' | b'\\' => quoted.extend(['\\', char::from(*byte)]),
            b' '..=b'~' => quoted.push(char::from(*byte)),
            // Writing to a string does not fail.
            _ => drop(write!(quoted, "\\x{byte:02x}")),
        }
    }
    quoted.push('\'');
    quoted
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use ocifs::tree::Glob;

    use super::*;

    #[test]
    fn a_pattern_matches_its_path_alone() {
        let paths: [&[u8]; 5] = [b"/a*b", b"/a[xy]b", b"/a?b", b"/a\\b", b"/\xff[*"];
        for path in paths {
            let glob = Glob::new(&pattern(path));
            assert!(glob.matches(path), "{path:?}");
            let others = paths.iter().filter(|other| **other != path);
            assert!(others.into_iter().all(|other| !glob.matches(other)), "{path:?}");
        }
        assert_eq!(pattern(b"/etc/passwd"), b"/etc/passwd");
    }

    #[test]
    fn a_shell_takes_words_as_they_are() {
        let words: [&[u8]; 7] = [
            b"/etc/passwd",
            b"a b'c",
            b"$(x)\\",
            b"\x1b[2J\n;rm",
            b"\xff",
            "\u{202e}".as_bytes(),
            b"-",
        ];
        for word in words {
            let quoted = quoted(word);
            assert!(quoted.chars().all(is_printable), "{quoted:?}");
            let script = format!("printf %s {quoted}");
            let output = Command::new("bash").args(["-c", &script]).output().unwrap();
            assert_eq!(output.stdout, word, "{quoted}");
        }
        assert_eq!(quoted(b"/etc/passwd"), "/etc/passwd");
        assert_eq!(quoted(b""), "''");
    }
}
