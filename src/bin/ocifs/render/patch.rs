//! Differences of texts in the unified form of GNU diff, as git writes it.
//!
//! The lines are compared by `imara-diff`, with the algorithm of GNU diff and its limits: time stays about linear in
//! the sizes of the texts, also for texts that are made to be expensive. The form is written here because texts of
//! images are bytes, and a patch has to hold them as they are.

use std::io;

use imara_diff::{Algorithm, Diff, Hunk, InternedInput, sources::byte_lines};

/// Lines shown around what differs.
const CONTEXT: u32 = 3;

/// Bytes at the beginning of a file in which git looks for a zero byte, which text has not.
const PROBE_BYTES: usize = 8000;

/// Whether git takes these bytes for text.
pub(crate) fn is_text(bytes: &[u8]) -> bool {
    !bytes[..bytes.len().min(PROBE_BYTES)].contains(&0)
}

/// A path in a patch; in quotes, with octal escapes, if it has bytes that would end or spoil a line. Format: git's
/// `quote_c_style`.
pub(crate) fn quoted(prefix: &[u8], path: &[u8]) -> String {
    let path = [prefix, path].concat();
    let is_plain = path.iter().all(|b| matches!(b, b' '..=b'~') && !matches!(b, b'"' | b'\\'));
    if is_plain {
        return path.iter().map(|byte| char::from(*byte)).collect();
    }
    let mut quoted = String::from("\"");
    for byte in path {
        match byte {
            b'"' | b'\\' => quoted.extend(['\\', char::from(byte)]),
            b'\n' => quoted.push_str("\\n"),
            b'\t' => quoted.push_str("\\t"),
            b' '..=b'~' => quoted.push(char::from(byte)),
            _ => quoted.push_str(&format!("\\{byte:03o}")),
        }
    }
    quoted.push('"');
    quoted
}

/// Hands out the lines of all hunks, each with its sign (`@` for the line that begins a hunk) and whole, with the
/// newline that a patch has at its end.
///
/// # Errors
/// Those of `write`.
pub(crate) fn write_hunks(
    old: &[u8],
    new: &[u8],
    write: &mut dyn FnMut(char, &[u8]) -> io::Result<()>,
) -> io::Result<()> {
    let input = InternedInput::new(byte_lines(old), byte_lines(new));
    let mut diff = Diff::compute(Algorithm::Myers, &input);
    diff.postprocess_lines(&input);
    let hunks: Vec<Hunk> = diff.hunks().collect();
    let old_line = |at: u32| input.interner[input.before[at as usize]];
    let new_line = |at: u32| input.interner[input.after[at as usize]];
    let old_end = input.before.len() as u32;
    let mut at = 0;
    while at < hunks.len() {
        // Those whose contexts touch are shown as one.
        let touches = |pair: &[Hunk]| pair[1].before.start - pair[0].before.end <= 2 * CONTEXT;
        let more = hunks[at..].windows(2).take_while(|pair| touches(pair)).count();
        let group = &hunks[at..=at + more];
        at += group.len();
        let (first, last) = (&group[0], &group[group.len() - 1]);
        let before = first.before.start.min(CONTEXT);
        let (old_start, new_start) = (first.before.start - before, first.after.start - before);
        let after = (old_end - last.before.end).min(CONTEXT);
        let old_length = last.before.end + after - old_start;
        let new_length = last.after.end + after - new_start;
        let head =
            format!("@@ -{} +{} @@\n", range(old_start, old_length), range(new_start, new_length));
        write('@', head.as_bytes())?;
        let mut line = old_start;
        for hunk in group {
            for at in line..hunk.before.start {
                write_line(' ', old_line(at), write)?;
            }
            for at in hunk.before.clone() {
                write_line('-', old_line(at), write)?;
            }
            for at in hunk.after.clone() {
                write_line('+', new_line(at), write)?;
            }
            line = hunk.before.end;
        }
        for at in line..line + after {
            write_line(' ', old_line(at), write)?;
        }
    }
    Ok(())
}

/// Lines from `start` on, which counts from 0: `3,7`, or `3` for one line. A range without lines stands behind a line.
fn range(start: u32, length: u32) -> String {
    match length {
        0 => format!("{start},0"),
        1 => format!("{}", start + 1),
        length => format!("{},{length}", start + 1),
    }
}

fn write_line(
    sign: char,
    line: &[u8],
    write: &mut dyn FnMut(char, &[u8]) -> io::Result<()>,
) -> io::Result<()> {
    let mut text = vec![sign as u8];
    text.extend_from_slice(line);
    if line.ends_with(b"\n") {
        return write(sign, &text);
    }
    text.push(b'\n');
    write(sign, &text)?;
    write('\\', b"\\ No newline at end of file\n")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn patch(old: &str, new: &str) -> String {
        let mut out = Vec::new();
        let mut write = |_: char, text: &[u8]| {
            out.extend_from_slice(text);
            Ok(())
        };
        write_hunks(old.as_bytes(), new.as_bytes(), &mut write).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn as_diff_u_writes_it() {
        assert_eq!(patch("a\n", "a\n"), "");
        assert_eq!(patch("a\n", "b\n"), "@@ -1 +1 @@\n-a\n+b\n");
        assert_eq!(patch("", "a\nb\n"), "@@ -0,0 +1,2 @@\n+a\n+b\n");
        assert_eq!(patch("a\n", ""), "@@ -1 +0,0 @@\n-a\n");
        let end = "\\ No newline at end of file\n";
        assert_eq!(patch("a", "a\n"), format!("@@ -1 +1 @@\n-a\n{end}+a\n"));
        let (old, new) = ("1\n2\n3\n4\n5\n6\n7\n8\n9\n", "1\n2\n3\n4\nx\n6\n7\n8\n9\n");
        assert_eq!(patch(old, new), "@@ -2,7 +2,7 @@\n 2\n 3\n 4\n-5\n+x\n 6\n 7\n 8\n");
    }

    #[test]
    fn contexts_that_touch_are_one_hunk() {
        let lines = |changed: &[usize]| -> String {
            let line = |at: usize| {
                if changed.contains(&at) { format!("x{at}\n") } else { format!("{at}\n") }
            };
            (0..30).map(line).collect()
        };
        let hunks = |changed: &[usize]| patch(&lines(&[]), &lines(changed)).matches("@@ -").count();
        assert_eq!((hunks(&[5, 12]), hunks(&[5, 13])), (1, 2));
    }

    #[test]
    fn paths_that_would_spoil_a_line_are_quoted() {
        assert_eq!(quoted(b"a/", b"x y"), "a/x y");
        assert_eq!(quoted(b"b/", b"\n\xc3\xa9\"\\\x1b"), "\"b/\\n\\303\\251\\\"\\\\\\033\"");
    }

    #[test]
    fn text_has_no_zero_bytes() {
        assert!(is_text(b"") && is_text(b"a\xff\n") && !is_text(b"a\0"));
    }
}
