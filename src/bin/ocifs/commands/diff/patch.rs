//! The files that differ, as a patch in git's form.
//!
//! `git apply` and `patch -p1` take it. Like git it knows regular files and symlinks, whether a file may be executed
//! and nothing else of its mode, and names what is binary without its bytes. Directories, owners and other attributes
//! have no place in it.

use std::io::{self, Write};

use ocifs::image::{FileChange, LayeredImage};
use ocifs::tree::{FileKind, Ino};

use super::files::Files;
use crate::render::errors::{About, AnyError};
use crate::render::listing::for_terminal;
use crate::render::patch::{is_text, quoted, write_hunks};
use crate::render::screen::{Mark, Screen};

/// The largest file whose lines are compared, in bytes; git's own limit is 512 MiB, of files on a disk.
const MAX_TEXT_BYTES: u64 = 64 << 20;

/// What git knows of a file.
enum Side {
    Nothing,
    /// Its mode, and its bytes if they are lines of text.
    File {
        mode: &'static str,
        text: Option<Vec<u8>>,
    },
}

/// Prints all changes. The inner result is that of printing.
///
/// # Errors
/// Content can't be read.
pub(super) fn print(files: &Files<'_>, out: &mut impl Write) -> Result<io::Result<()>, AnyError> {
    for change in &files.diff.changes {
        let old = side(files.old, change.old)?;
        let new = side(files.new, change.new)?;
        // As in git, one kind of file does not become another.
        let steps = match change.aspects.kind {
            true => vec![(&old, &Side::Nothing), (&Side::Nothing, &new)],
            false => vec![(&old, &new)],
        };
        let mut steps = steps.into_iter();
        let printed =
            steps.try_for_each(|(old, new)| write_change(files.screen, change, old, new, out));
        if printed.is_err() {
            return Ok(printed);
        }
    }
    Ok(Ok(()))
}

fn side(image: &LayeredImage, ino: Option<Ino>) -> Result<Side, AnyError> {
    let Some(ino) = ino else { return Ok(Side::Nothing) };
    let filesystem = image.filesystem();
    let attributes = filesystem.tree().attributes(ino);
    Ok(match attributes.kind {
        FileKind::Symlink => {
            let target = filesystem.tree().symlink(ino).unwrap_or_default();
            Side::File { mode: "120000", text: Some(target.to_vec()) }
        }
        FileKind::Regular => {
            let mode = if attributes.mode & 0o100 != 0 { "100755" } else { "100644" };
            let text = match attributes.size <= MAX_TEXT_BYTES {
                true => Some(read(image, ino)?).filter(|bytes| is_text(bytes)),
                false => None,
            };
            Side::File { mode, text }
        }
        _ => Side::Nothing,
    })
}

/// All bytes of a regular file.
pub(super) fn read(image: &LayeredImage, ino: Ino) -> Result<Vec<u8>, AnyError> {
    let filesystem = image.filesystem();
    let about = |error| About::new(&image.resolved().name, error);
    let file = filesystem.file(ino).map_err(about)?;
    let mut bytes = vec![0; file.readable(0, usize::MAX)];
    file.read(0, &mut bytes, filesystem.deadline()).map_err(about)?;
    Ok(bytes)
}

fn write_change(
    screen: Screen,
    change: &FileChange,
    old: &Side,
    new: &Side,
    out: &mut impl Write,
) -> io::Result<()> {
    let from = change.renamed_from.as_ref().unwrap_or(&change.path);
    let (a, b) = (quoted(b"a/", from), quoted(b"b/", &change.path));
    let mut head = vec![format!("diff --git {a} {b}")];
    let no_text = &None;
    let (old_text, new_text) = match (old, new) {
        (Side::Nothing, Side::Nothing) => return Ok(()),
        (Side::Nothing, Side::File { mode, text }) => {
            head.push(format!("new file mode {mode}"));
            (no_text, text)
        }
        (Side::File { mode, text }, Side::Nothing) => {
            head.push(format!("deleted file mode {mode}"));
            (text, no_text)
        }
        (Side::File { mode: was, text: old }, Side::File { mode: is, text: new }) => {
            if was != is {
                head.push(format!("old mode {was}"));
                head.push(format!("new mode {is}"));
            }
            (old, new)
        }
    };
    let has = |side: &Side| matches!(side, Side::File { .. });
    let is_binary = has(old) && old_text.is_none() || has(new) && new_text.is_none();
    let is_same = has(old)
        && has(new)
        && !change.aspects.content
        && !change.aspects.target
        && !change.aspects.kind;
    if change.renamed_from.is_some() {
        head.push(format!("rename from {}", quoted(b"", from)));
        head.push(format!("rename to {}", quoted(b"", &change.path)));
    } else if is_same && head.len() == 1 {
        // Git has no word for what differs.
        return Ok(());
    }
    for text in &head {
        writeln!(out, "{}", screen.marked(Mark::Aside, text))?;
    }
    if is_same {
        return Ok(());
    }
    let name =
        |side: &Side, name: &str| if has(side) { name.to_owned() } else { "/dev/null".to_owned() };
    let (a, b) = (name(old, &a), name(new, &b));
    if is_binary {
        return writeln!(out, "Binary files {a} and {b} differ");
    }
    let empty = Vec::new();
    let (old, new) = (old_text.as_ref().unwrap_or(&empty), new_text.as_ref().unwrap_or(&empty));
    if old.is_empty() && new.is_empty() {
        return Ok(());
    }
    writeln!(out, "--- {a}\n+++ {b}")?;
    write_hunks(old, new, &mut |sign, text| {
        let mark = match sign {
            '+' => Some(Mark::Added),
            '-' => Some(Mark::Removed),
            '@' => Some(Mark::Aside),
            _ => None,
        };
        if !screen.is_terminal() {
            return out.write_all(text);
        }
        let shown = for_terminal(text.strip_suffix(b"\n").unwrap_or(text));
        match mark {
            Some(mark) => writeln!(out, "{}", screen.marked(mark, &shown)),
            None => writeln!(out, "{shown}"),
        }
    })
}
