//! Rows of files: names, the columns of `ls -ln`, objects of JSON.
//!
//! A name of the image must not command the terminal; as in ls(1), a pipe gets it as it is.

use std::borrow::Cow;
use std::io::{self, IsTerminal, Write};

use ocifs::tree::{Attributes, FileKind, Ino, Mark, Tree};
use serde_json::Value;

use super::json::{line, set_name, type_word};
use super::text::{is_printable, size};
use super::time::civil;

/// How files are listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Style {
    /// By name.
    Names,
    /// With the columns of `ls -ln`, the time in UTC.
    Long {
        /// Sizes with units.
        human: bool,
    },
    /// As an object of JSON.
    Json,
}

impl Style {
    /// The columns, with sizes in bytes.
    pub(crate) const LONG: Style = Style::Long { human: false };
}

/// A listing of files of a tree.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Listing<'a> {
    tree: &'a Tree,
    style: Style,
    is_terminal: bool,
}

impl<'a> Listing<'a> {
    /// A listing on stdout.
    pub(crate) fn new(tree: &'a Tree, style: Style) -> Listing<'a> {
        Listing { tree, style, is_terminal: io::stdout().is_terminal() }
    }

    /// A line for a file. In JSON, `directory` is the key of that name, if there is to be one.
    ///
    /// # Errors
    /// Of writing.
    pub(crate) fn row(
        &self,
        out: &mut impl Write,
        directory: Option<&[u8]>,
        name: &[u8],
        ino: Ino,
    ) -> io::Result<()> {
        let target = self.tree.symlink(ino);
        match self.style {
            Style::Names => {
                out.write_all(&self.shown(name))?;
                return out.write_all(b"\n");
            }
            Style::Long { human } => {
                let a = self.tree.attributes(ino);
                write!(out, "{}", long(&a, self.tree.mark(ino), human))?;
            }
            Style::Json => {
                let mut row = self.object(ino);
                set_name(&mut row, "path", name);
                if let Some(directory) = directory {
                    set_name(&mut row, "directory", directory);
                }
                return writeln!(out, "{}", line(row));
            }
        }
        out.write_all(&self.shown(name))?;
        if let Some(target) = target {
            out.write_all(b" -> ")?;
            out.write_all(&self.shown(target))?;
        }
        if let Some(Mark::LinkBelow(target)) = self.tree.mark(ino) {
            // As tar(1) shows it.
            out.write_all(b" link to ")?;
            out.write_all(&self.shown(target))?;
        }
        out.write_all(b"\n")
    }

    /// What `stat(2)` says of a file, without its name.
    fn object(&self, ino: Ino) -> Value {
        let a = self.tree.attributes(ino);
        let mut row = serde_json::json!({
            "type": type_word(a.kind),
            "mode": format!("{:04o}", a.mode),
            "uid": a.uid,
            "gid": a.gid,
            "size": a.size,
            "nlink": a.nlink,
            "mtime": a.mtime_seconds,
            "mtime_ns": a.mtime_nanoseconds,
            "target": null,
        });
        if let Some(target) = self.tree.symlink(ino) {
            set_name(&mut row, "target", target);
        }
        match self.tree.mark(ino) {
            Some(Mark::LinkBelow(target)) => {
                row["type"] = "hardlink".into();
                row["size"] = Value::Null;
                set_name(&mut row, "target", target);
            }
            Some(mark) => {
                // Layer indexes keep nothing else of them.
                row["type"] = if mark == Mark::Whiteout { "whiteout" } else { "opaque" }.into();
                for key in ["mode", "uid", "gid", "size", "nlink", "mtime", "mtime_ns"] {
                    row[key] = Value::Null;
                }
            }
            None => {}
        }
        row
    }

    /// A name as stdout may have it.
    pub(crate) fn shown<'n>(&self, name: &'n [u8]) -> Cow<'n, [u8]> {
        let is_plain = || name.iter().all(|byte| matches!(byte, b' '..=b'~'));
        match self.is_terminal && !is_plain() {
            true => Cow::Owned(for_terminal(name).into_bytes()),
            false => Cow::Borrowed(name),
        }
    }
}

/// A name with `?` for everything that is not shown as what it is, and for bytes that are no UTF-8: some terminals
/// take them for control characters.
pub(crate) fn for_terminal(name: &[u8]) -> String {
    let mut text = String::with_capacity(name.len());
    for chunk in name.utf8_chunks() {
        text.extend(chunk.valid().chars().map(|c| if is_printable(c) { c } else { '?' }));
        text.extend(chunk.invalid().iter().map(|_| '?'));
    }
    text
}

fn long(a: &Attributes, mark: Option<Mark<'_>>, human: bool) -> String {
    if let Some(Mark::Whiteout | Mark::OpaqueMark) = mark {
        // Nothing is known of it but that it is there.
        return format!("w--------- {0:>3} {0:>5} {0:>5} {0:>10} {0:>16} ", "-");
    }
    let size = match a.kind {
        FileKind::CharDevice | FileKind::BlockDevice => format!("{}, {}", a.device.0, a.device.1),
        _ if mark.is_some() => "-".to_owned(),
        _ if human => size(a.size),
        _ => a.size.to_string(),
    };
    let (year, month, day, hour, minute) = civil(a.mtime_seconds);
    format!(
        "{} {:>3} {:>5} {:>5} {size:>10} {year:04}-{month:02}-{day:02} {hour:02}:{minute:02} ",
        match mark {
            // As tar(1) has it.
            Some(_) => format!("h{}", &mode_text(a.kind, a.mode)[1..]),
            None => mode_text(a.kind, a.mode),
        },
        a.nlink,
        a.uid,
        a.gid,
    )
}

/// The letters of `ls -l`.
pub(crate) fn mode_text(kind: FileKind, mode: u16) -> String {
    let mut text = String::with_capacity(10);
    text.push(match kind {
        FileKind::Regular => '-',
        FileKind::Directory => 'd',
        FileKind::Symlink => 'l',
        FileKind::CharDevice => 'c',
        FileKind::BlockDevice => 'b',
        FileKind::Fifo => 'p',
    });
    for (shift, special, letter) in [(6, 0o4000, 's'), (3, 0o2000, 's'), (0, 0o1000, 't')] {
        let bits = mode >> shift;
        text.push(if bits & 4 != 0 { 'r' } else { '-' });
        text.push(if bits & 2 != 0 { 'w' } else { '-' });
        text.push(match (mode & special != 0, bits & 1 != 0) {
            (true, true) => letter,
            (true, false) => letter.to_ascii_uppercase(),
            (false, true) => 'x',
            (false, false) => '-',
        });
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_on_a_terminal() {
        let rows: [(&[u8], &str); 6] = [
            ("\u{e4} b".as_bytes(), "\u{e4} b"),
            (b"a\x1b[2J\x7f", "a?[2J?"),
            ("a\u{9b}2J".as_bytes(), "a?2J"),
            (b"a\x9b2J", "a?2J"),
            ("a\u{202e}txt.exe".as_bytes(), "a?txt.exe"),
            (b"a\xc3", "a?"),
        ];
        for (name, shown) in rows {
            assert_eq!(for_terminal(name), shown);
        }
    }
}
