//! Files that have some letters in them.
//!
//! Files are read in the order of their layers' tars, so that what has to be fetched comes as one stream, and a part at a
//! time, so that memory does not depend on the sizes of files. Of each file only the first lines are told.

use ocifs::tree::{FileKind, Place, PlaceWalk};

use super::super::subject::{Subject, View};
use super::asked::{Hit, Searched};
use super::find::{contains, folds_case, position};
use super::walk::Seen;
use crate::explore::listing::Kept;
use crate::render::listing::for_terminal;

/// Bytes read at a time.
const CHUNK_BYTES: usize = 1 << 20;

/// Lines that are told, in all and of one file.
const MAX_HITS: usize = 1000;
const MAX_HITS_OF_FILE: usize = 20;

/// Bytes of a line that are shown of it before what was found, and in all.
const SHOWN_BEFORE: usize = 40;
const SHOWN_BYTES: usize = 300;

/// Files that can't be read before it is given up: the registry is dead.
const MAX_FAILED: u64 = 3;

/// What comes of a search.
pub(super) enum Found {
    Hit(Hit),
    Searched(Searched),
}

/// Searches all regular files that are shown, until it is wanted no more.
pub(super) fn grep(
    view: &View,
    needle: &str,
    kept: Option<&Kept>,
    is_wanted: &dyn Fn() -> bool,
    tell: &mut dyn FnMut(Found),
) {
    let Some(files) = files(view, kept, is_wanted) else { return };
    let mut searched = Searched {
        of_files: files.len() as u64,
        of_bytes: files.iter().map(|(_, _, size)| size).sum(),
        ..Searched::default()
    };
    let (folds, mut hits) = (folds_case(needle), 0);
    for (_, place, size) in files {
        tell(Found::Searched(searched));
        let mut lines = Lines::new(needle.as_bytes(), folds);
        let mut offset = 0;
        while offset < size && lines.found.len() < MAX_HITS_OF_FILE {
            if !is_wanted() {
                return;
            }
            match view.read(place, offset, CHUNK_BYTES) {
                Ok(bytes) if bytes.is_empty() => break,
                Ok(bytes) => {
                    offset += bytes.len() as u64;
                    searched.bytes += bytes.len() as u64;
                    lines.push(&bytes, offset >= size);
                    tell(Found::Searched(searched));
                }
                Err(_) => {
                    searched.failed += 1;
                    break;
                }
            }
        }
        // What is not looked at any more counts as done.
        searched.bytes += size - offset.min(size);
        searched.files += 1;
        if !lines.found.is_empty() {
            let path = path(view, place);
            for (line, text) in lines.found {
                hits += 1;
                tell(Found::Hit(Hit { path: path.clone(), line, text }));
            }
        }
        if hits >= MAX_HITS || searched.failed >= MAX_FAILED {
            break;
        }
    }
    searched.is_over = true;
    tell(Found::Searched(searched));
}

fn path(view: &View, place: Place) -> Vec<u8> {
    match &*view.subject {
        Subject::Image(stack) => stack.as_of(view.layer).path(place),
        Subject::Pair(pair) => {
            let (image, ino) = pair.side(place);
            ino.map_or_else(Vec::new, |ino| image.filesystem().tree().path(ino))
        }
    }
}

/// A file: its number, its place, its size.
type File = ((u32, u32), Place, u64);

/// The regular files that are shown, each once, in the order of the layers; `None` if they are wanted no more.
fn files(view: &View, kept: Option<&Kept>, is_wanted: &dyn Fn() -> bool) -> Option<Vec<File>> {
    let mut files = view.with(|places| {
        let (mut files, mut seen) = (Vec::new(), Seen::default());
        let mut walk = PlaceWalk::new(places, places.root());
        while let Some((_, place)) = walk.next() {
            if files.len() % 4096 == 0 && !is_wanted() {
                return None;
            }
            if kept.is_some_and(|kept| !kept.contains(&place)) {
                continue;
            }
            let facts = places.facts(place);
            let is_file = facts.kind == FileKind::Regular && facts.size > 0;
            if is_file && seen.is_new(facts.file) {
                files.push((facts.file, place, facts.size));
            }
        }
        Some(files)
    })?;
    files.sort_unstable_by_key(|(file, ..)| *file);
    Some(files)
}

/// Lines of a file that comes in parts.
struct Lines<'a> {
    needle: &'a [u8],
    folds: bool,
    /// The number of the line that is next, and what has come of it.
    number: u64,
    begun: Vec<u8>,
    /// What was found: numbers of lines, and what is shown of them.
    found: Vec<(u64, String)>,
}

impl<'a> Lines<'a> {
    fn new(needle: &'a [u8], folds: bool) -> Lines<'a> {
        Lines { needle, folds, number: 1, begun: Vec::new(), found: Vec::new() }
    }

    fn push(&mut self, bytes: &[u8], is_last: bool) {
        let mut rest = bytes;
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            self.extend(&rest[..end]);
            self.end();
            rest = &rest[end + 1..];
        }
        self.extend(rest);
        if is_last {
            self.end();
        }
    }

    /// Takes in more of a line. Of one that is very long, as in binary files, what is behind is let go of.
    fn extend(&mut self, bytes: &[u8]) {
        self.begun.extend_from_slice(bytes);
        if self.begun.len() > CHUNK_BYTES && !contains(&self.begun, self.needle, self.folds) {
            let keep = self.needle.len().saturating_sub(1).min(self.begun.len());
            self.begun.drain(..self.begun.len() - keep);
        } else {
            let most = 4 * CHUNK_BYTES;
            self.begun.truncate(most);
        }
    }

    fn end(&mut self) {
        if let Some(at) = position(&self.begun, self.needle, self.folds)
            && self.found.len() < MAX_HITS_OF_FILE
        {
            let start = at.saturating_sub(SHOWN_BEFORE);
            let end = self.begun.len().min(start + SHOWN_BYTES);
            let shown = self.begun[start..end].trim_ascii_start();
            self.found.push((self.number, for_terminal(shown)));
        }
        self.begun.clear();
        self.number += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_a_file_in_parts() {
        let text = b"one\ntwo needle\n\x1b[2Jneedle\n no\nlast NEEDLE";
        for size in [1, 3, 7, 100] {
            let mut lines = Lines::new(b"needle", true);
            let mut parts = text.chunks(size).peekable();
            while let Some(part) = parts.next() {
                lines.push(part, parts.peek().is_none());
            }
            let expected = [(2, "two needle"), (3, "?[2Jneedle"), (5, "last NEEDLE")];
            assert_eq!(lines.found, expected.map(|(n, text)| (n, text.to_owned())), "{size}");
        }
    }

    #[test]
    fn a_line_without_end_is_not_kept() {
        let mut lines = Lines::new(b"needle", false);
        for _ in 0..5 {
            lines.push(&vec![b'x'; CHUNK_BYTES], false);
            assert!(lines.begun.len() <= 2 * CHUNK_BYTES);
        }
        lines.push(b"need", false);
        lines.push(b"le", true);
        assert_eq!(lines.found.len(), 1);
    }
}
