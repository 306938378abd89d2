//! `ocifs ls`: names and attributes without a mount.

use std::borrow::Cow;
use std::io::{self, BufWriter, IsTerminal, Write};
use std::os::unix::ffi::OsStrExt;
use std::process::ExitCode;

use ocifs::tree::{Attributes, FileKind, Ino, Order, Question, Symlinks, Tree, Want};

use crate::args;
use crate::commands::open::open_excerpt;
use crate::render::errors::AnyError;
use crate::render::json::{line, set_name, type_word};
use crate::render::output;
use crate::render::text::is_printable;
use crate::render::time::civil;

pub(crate) fn run(args: &args::Ls) -> Result<ExitCode, AnyError> {
    let path = args.path.as_bytes();
    // As ls(1): a symlink on the command line is followed, unless its own attributes are wanted.
    let follow = if args.long { Symlinks::Keep } else { Symlinks::Follow };
    let want = if args.long || args.json { Want::Attributes } else { Want::Names };
    let question = Question { path: path.to_vec(), last: follow, want };
    let image = open_excerpt(&args.image, &[question], &args.image_args)?;
    let tree = image.filesystem().tree();
    let ino = tree
        .resolve(path, follow)
        // A symlink that leads nowhere is listed as itself: what decided that has found the link.
        .or_else(|e| tree.resolve(path, Symlinks::Keep).map_err(|_| e))
        .map_err(|e| format!("{}: {}: {e}", image.resolved().name, args.path.display()))?;
    let mut out = BufWriter::new(output::stdout());
    let terminal = io::stdout().is_terminal();
    let listing = Listing { tree, long: args.long, json: args.json, terminal };
    if tree.kind(ino) != FileKind::Directory {
        listing.row(&mut out, path, ino)?;
    } else if args.recursive {
        // Paths relative to the directory, as `find` prints them.
        let mut walk = tree.walk(ino, Order::Name);
        while let Some((path, ino)) = walk.next() {
            listing.row(&mut out, path, ino)?;
        }
    } else {
        for child in tree.children_by_name(ino) {
            listing.row(&mut out, child.name, child.ino)?;
        }
    }
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}

struct Listing<'a> {
    tree: &'a Tree,
    long: bool,
    json: bool,
    terminal: bool,
}

impl Listing<'_> {
    fn row(&self, out: &mut impl Write, name: &[u8], ino: Ino) -> io::Result<()> {
        let a = self.tree.attributes(ino);
        let target = self.tree.symlink(ino);
        if self.json {
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
            set_name(&mut row, "path", name);
            if let Some(target) = target {
                set_name(&mut row, "target", target);
            }
            return writeln!(out, "{}", line(row));
        }
        if self.long {
            write!(out, "{}", long(&a))?;
        }
        out.write_all(&self.shown(name))?;
        if let Some(target) = target.filter(|_| self.long) {
            out.write_all(b" -> ")?;
            out.write_all(&self.shown(target))?;
        }
        out.write_all(b"\n")
    }

    /// A name of the image must not command the terminal; as in ls(1), a pipe gets it as it is.
    fn shown<'n>(&self, name: &'n [u8]) -> Cow<'n, [u8]> {
        if self.terminal {
            Cow::Owned(for_terminal(name).into_bytes())
        } else {
            Cow::Borrowed(name)
        }
    }
}

/// A name with `?` for everything that is not shown as what it is, and for bytes that are no UTF-8: some terminals
/// take them for control characters.
fn for_terminal(name: &[u8]) -> String {
    let mut text = String::with_capacity(name.len());
    for chunk in name.utf8_chunks() {
        text.extend(chunk.valid().chars().map(|c| if is_printable(c) { c } else { '?' }));
        text.extend(chunk.invalid().iter().map(|_| '?'));
    }
    text
}

/// The columns of `ls -ln`, with the time in UTC.
fn long(a: &Attributes) -> String {
    let size = match a.kind {
        FileKind::CharDevice | FileKind::BlockDevice => format!("{}, {}", a.device.0, a.device.1),
        _ => a.size.to_string(),
    };
    let (year, month, day, hour, minute) = civil(a.mtime_seconds);
    format!(
        "{} {:>3} {:>5} {:>5} {size:>10} {year:04}-{month:02}-{day:02} {hour:02}:{minute:02} ",
        mode_text(a),
        a.nlink,
        a.uid,
        a.gid,
    )
}

fn mode_text(a: &Attributes) -> String {
    let mut text = String::with_capacity(10);
    text.push(match a.kind {
        FileKind::Regular => '-',
        FileKind::Directory => 'd',
        FileKind::Symlink => 'l',
        FileKind::CharDevice => 'c',
        FileKind::BlockDevice => 'b',
        FileKind::Fifo => 'p',
    });
    for (shift, special, letter) in [(6, 0o4000, 's'), (3, 0o2000, 's'), (0, 0o1000, 't')] {
        let bits = a.mode >> shift;
        text.push(if bits & 4 != 0 { 'r' } else { '-' });
        text.push(if bits & 2 != 0 { 'w' } else { '-' });
        text.push(match (a.mode & special != 0, bits & 1 != 0) {
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
