//! Texts that are made of what an image says: its history, and the whiteouts of a layer.
//!
//! One line each, with tabs between the columns, so that `diff`, `cut` and `awk` work on them. What an image wrote
//! stands there with a backslash before what is no plain text ([`push_escaped`]): a line break in a name makes no
//! second line, and nothing reaches a terminal that it would obey.

use std::fmt::Write;

use super::names;
use crate::image::history::{Step, steps_of};
use crate::index::{LayerIndex, ROOT_DIR};
use crate::resolve::ResolvedImage;

/// The steps in the making of an image: the number of the layer, digits of its digest, bytes of its blob, when, and the
/// instruction. A `-` stands where there is nothing.
pub(super) fn history(image: &ResolvedImage) -> String {
    let mut text = "#layer\tdigest\tbytes\tcreated\tinstruction\n".to_owned();
    let (steps, unmatched) = steps_of(image);
    let apart = unmatched.into_iter().map(|entry| Step { instruction: Some(entry), layer: None });
    for Step { instruction, layer } in steps.into_iter().chain(apart) {
        match &layer {
            Some(made) => {
                let descriptor = &made.layer.descriptor;
                let digest = names::short(&descriptor.digest);
                // A string takes all that is written.
                let _ = write!(text, "{}\t{digest}\t{}", made.number, descriptor.size);
            }
            None => text.push_str("-\t-\t-"),
        }
        let entry = instruction.unwrap_or_default();
        let columns = [entry.created.unwrap_or_default(), entry.created_by];
        for column in columns {
            text.push('\t');
            match column.is_empty() {
                true => text.push('-'),
                false => push_escaped(&mut text, column.as_bytes()),
            }
        }
        text.push('\n');
    }
    text
}

/// The whiteouts of a layer, a path a line; `None` if it has none. Opaque marks are directories: all that is below them in
/// lower layers is hidden.
pub(super) fn whiteouts(index: &LayerIndex) -> Option<String> {
    let mut rows: Vec<(&str, Vec<u8>)> = index
        .whiteouts()
        .map(|whiteout| match whiteout.name {
            Some(name) => ("whiteout", index.path(whiteout.dir, name)),
            None if whiteout.dir == ROOT_DIR => ("opaque", Vec::new()),
            None => ("opaque", index.path(whiteout.dir, b"")),
        })
        .collect();
    rows.sort_unstable_by(|a, b| a.1.cmp(&b.1));
    rows.dedup();
    let mut text = String::new();
    for (kind, path) in &rows {
        text.push_str(kind);
        text.push_str("\t/");
        push_escaped(&mut text, path);
        text.push('\n');
    }
    (!rows.is_empty()).then_some(text)
}

/// Appends text as it is, but for control characters, characters that change the direction of text, backslashes and
/// bytes that are no UTF-8: they are written as `\n`, `\\` or `\x1b`.
fn push_escaped(text: &mut String, bytes: &[u8]) {
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '\\' => text.push_str("\\\\"),
                '\n' => text.push_str("\\n"),
                '\t' => text.push_str("\\t"),
                c if c.is_control() || turns(c) => {
                    let mut utf8 = [0; 4];
                    for byte in c.encode_utf8(&mut utf8).bytes() {
                        let _ = write!(text, "\\x{byte:02x}");
                    }
                }
                c => text.push(c),
            }
        }
        for byte in chunk.invalid() {
            let _ = write!(text, "\\x{byte:02x}");
        }
    }
}

/// Whether a character changes the direction of the text behind it (Unicode, UAX #9).
fn turns(c: char) -> bool {
    matches!(c, '\u{061c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_image_wrote_stays_in_its_line() {
        for (bytes, expected) in [
            (&b"plain \xc3\xa9"[..], "plain é"),
            (b"a\nb\tc\\d", "a\\nb\\tc\\\\d"),
            (b"\x1b[31m\x7f", "\\x1b[31m\\x7f"),
            (b"\xff\xc3", "\\xff\\xc3"),
            ("\u{202e}x\u{85}".as_bytes(), "\\xe2\\x80\\xaex\\xc2\\x85"),
        ] {
            let mut text = String::new();
            push_escaped(&mut text, bytes);
            assert_eq!(text, expected);
        }
    }
}
