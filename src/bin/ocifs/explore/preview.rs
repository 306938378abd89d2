//! What is in a file, as lines: text with numbers, or bytes; and in short what it is.
//!
//! A document is a *window* on a file: bytes of it that lie beside each other. It grows at both ends by what is read on
//! while the user scrolls, and lets go of what is far from there, so that a file of any size can be gone through, and costs a
//! bounded part of it. Lines are made when they are shown. Their numbers are known as long as the window was
//! reached from the start, and not by a jump.

mod archive;
mod elf;
mod magic;

use crate::render::listing::for_terminal;
use crate::render::patch::is_text;
use crate::render::text::size;

/// Bytes of a file that are kept.
const MAX_BYTES: usize = 8 << 20;

/// Bytes of a line that are shown.
const MAX_LINE: usize = 4096;

/// Where the next tab ends.
const TAB: usize = 8;

/// What a line says by its weight or colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tone {
    Plain,
    Aside,
    Strong,
    Added,
    Removed,
}

/// A line as it is shown, of characters that a terminal only shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Line {
    /// What stands before it and does not move with it: its number, or place.
    pub(super) margin: String,
    pub(super) text: String,
    pub(super) tone: Tone,
}

impl Line {
    pub(super) fn new(tone: Tone, text: impl Into<String>) -> Line {
        Line { margin: String::new(), text: text.into(), tone }
    }
}

/// A window on a file.
#[derive(Clone, Debug, Default)]
pub(super) struct Document {
    /// Where in the file it begins.
    start: u64,
    bytes: Vec<u8>,
    /// Size of the file.
    size: u64,
    /// Where lines begin in it; the first at its own beginning, though that may be in the middle of one.
    starts: Vec<usize>,
    /// How many lines of the file end before it, if that is known.
    lines_before: Option<usize>,
    is_text: bool,
    /// What it is, if it is no text; shown at the start of the file.
    summary: Vec<String>,
    /// How it differs, in place of its bytes.
    patch: Vec<(char, Vec<u8>)>,
}

impl Document {
    /// A file of which this is the beginning.
    pub(super) fn new(bytes: Vec<u8>, size: u64) -> Document {
        let is_text = is_text(&bytes);
        let summary = if is_text { Vec::new() } else { summary(&bytes, size) };
        let mut document = Document { size, is_text, summary, ..Document::default() };
        document.lines_before = Some(0);
        document.bytes = bytes;
        document.list();
        document
    }

    /// How a file differs.
    pub(super) fn of_patch(patch: Vec<(char, Vec<u8>)>) -> Document {
        Document { patch, is_text: true, ..Document::default() }
    }

    /// Takes in bytes of the file: those that come behind the window, those that come before it, or others, which are a
    /// window of their own then.
    pub(super) fn take(&mut self, offset: u64, mut bytes: Vec<u8>) {
        let behind = offset + bytes.len() as u64;
        if (self.start..=self.end()).contains(&offset) {
            let known = (self.end() - offset) as usize;
            self.push(bytes.get(known..).unwrap_or_default());
        } else if offset < self.start && behind >= self.start {
            bytes.truncate((self.start - offset) as usize);
            let lines = bytes.iter().filter(|byte| **byte == b'\n').count();
            self.lines_before = self.lines_before.map(|before| before.saturating_sub(lines));
            self.start = offset;
            self.bytes.splice(..0, bytes);
            self.bytes.truncate(MAX_BYTES);
            self.list();
        } else {
            (self.start, self.bytes, self.lines_before) = (offset, bytes, None);
            self.list();
        }
        if self.start == 0 {
            self.lines_before = Some(0);
        }
    }

    /// Takes in what follows, and lets go of as much before.
    fn push(&mut self, bytes: &[u8]) {
        let length = self.bytes.len();
        let ends = bytes.iter().enumerate().filter(|(_, byte)| **byte == b'\n');
        self.starts.extend(ends.map(|(at, _)| length + at + 1));
        self.bytes.extend_from_slice(bytes);
        let Some(more) = self.bytes.len().checked_sub(MAX_BYTES).filter(|more| *more > 0) else {
            return;
        };
        // Where a line begins, if one does soon.
        let at = self.starts.partition_point(|start| *start < more);
        let (cut, lines) = match self.starts.get(at) {
            Some(start) if *start - more <= MAX_LINE => (*start, at),
            _ => (more, at - 1),
        };
        self.bytes.drain(..cut);
        self.starts.drain(..lines);
        self.starts.iter_mut().for_each(|start| *start = start.saturating_sub(cut));
        self.start += cut as u64;
        self.lines_before = self.lines_before.map(|before| before + lines);
    }

    /// Finds where lines begin.
    fn list(&mut self) {
        let ends = self.bytes.iter().enumerate().filter(|(_, byte)| **byte == b'\n');
        self.starts = [0].into_iter().chain(ends.map(|(at, _)| at + 1)).collect();
    }

    /// Where in the file the window begins.
    pub(super) fn start(&self) -> u64 {
        self.start
    }

    /// Whether so many bytes more can be taken in without letting go of any.
    pub(super) fn has_room(&self, bytes: usize) -> bool {
        self.bytes.len() + bytes <= MAX_BYTES
    }

    /// Just past the last byte of the window.
    pub(super) fn end(&self) -> u64 {
        self.start + self.bytes.len() as u64
    }

    /// Bytes of the file before the window, and behind it.
    pub(super) fn left(&self) -> (u64, u64) {
        match self.patch.is_empty() {
            true => (self.start, self.size.saturating_sub(self.end())),
            false => (0, 0),
        }
    }

    /// Whether it is text by what it holds.
    pub(super) fn is_text(&self) -> bool {
        self.is_text
    }

    /// Lines of a summary, which stand at the start of the file alone.
    fn summary(&self) -> &[String] {
        if self.start == 0 { &self.summary } else { &[] }
    }

    fn text_lines(&self) -> usize {
        // Nothing stands behind the last newline.
        self.starts.len() - usize::from(self.starts.last() == Some(&self.bytes.len()))
    }

    /// How many lines there are in the window; `as_bytes` shows them as bytes, so many in each.
    pub(super) fn len(&self, as_bytes: Option<usize>) -> usize {
        let lines = match (self.patch.len(), as_bytes) {
            (0, None) => self.text_lines(),
            (0, Some(width)) => {
                ((self.start % width as u64) as usize + self.bytes.len()).div_ceil(width)
            }
            (lines, _) => return lines,
        };
        self.summary().len() + lines
    }

    /// Where in the file a line begins, counted from 0 in the window.
    pub(super) fn offset_of(&self, line: usize, as_bytes: Option<usize>) -> u64 {
        let line = line.saturating_sub(self.summary().len());
        match as_bytes {
            Some(width) => {
                let width = width as u64;
                ((self.start / width + line as u64) * width).max(self.start)
            }
            None => {
                self.start + self.starts.get(line).map_or(self.bytes.len(), |start| *start) as u64
            }
        }
    }

    /// The line of the window that has a byte of the file.
    pub(super) fn line_at(&self, offset: u64, as_bytes: Option<usize>) -> usize {
        let offset = offset.clamp(self.start, self.end());
        let line = match as_bytes {
            Some(width) => (offset / width as u64 - self.start / width as u64) as usize,
            None => {
                let at = (offset - self.start) as usize;
                self.starts.partition_point(|start| *start <= at).saturating_sub(1)
            }
        };
        self.summary().len() + line
    }

    /// The number of a line of text in the file, from 1 on, if that is known.
    pub(super) fn number(&self, line: usize) -> Option<usize> {
        Some(self.lines_before? + line.checked_sub(self.summary().len())? + 1)
    }

    /// The line of the window with this number, if it is in it.
    pub(super) fn numbered(&self, number: usize) -> Option<usize> {
        let line = number.checked_sub(self.lines_before? + 1)?;
        (line < self.text_lines()).then_some(line + self.summary().len())
    }

    /// A line, counted from 0.
    pub(super) fn line(&self, at: usize, as_bytes: Option<usize>) -> Line {
        if let Some((sign, text)) = self.patch.get(at) {
            let tone = match sign {
                '+' => Tone::Added,
                '-' => Tone::Removed,
                '@' => Tone::Aside,
                _ => Tone::Plain,
            };
            return Line::new(tone, shown(text));
        }
        if let Some(text) = self.summary().get(at) {
            return Line::new(Tone::Strong, text.clone());
        }
        let place = at - self.summary().len();
        match as_bytes {
            Some(width) => self.bytes_line(place, width),
            None => {
                let last = self.lines_before.unwrap_or(0) + self.starts.len();
                let width = last.max(999).to_string().len();
                let number = self.number(at).map_or("~".to_owned(), |number| number.to_string());
                let text = shown(self.text_line(place));
                Line { margin: format!("{number:>width$} "), text, tone: Tone::Plain }
            }
        }
    }

    /// The bytes of a line of text, counted from 0, without its end.
    fn text_line(&self, at: usize) -> &[u8] {
        let Some(start) = self.starts.get(at) else { return b"" };
        let end = self.starts.get(at + 1).map_or(self.bytes.len(), |next| next - 1);
        let line = &self.bytes[*start..end];
        line.strip_suffix(b"\r").unwrap_or(line)
    }

    /// `00000010  7f 45 4c 46 …  |.ELF…|`
    fn bytes_line(&self, at: usize, width: usize) -> Line {
        let first = (self.start / width as u64 + at as u64) * width as u64;
        let byte = |place: usize| {
            let at = (first + place as u64).checked_sub(self.start)?;
            self.bytes.get(usize::try_from(at).ok()?).copied()
        };
        let (mut digits, mut letters) = (String::new(), String::new());
        for place in 0..width {
            let gap = if place > 0 && place % 8 == 0 { " " } else { "" };
            digits.push_str(gap);
            match byte(place) {
                Some(byte) => {
                    digits.push_str(&format!("{byte:02x} "));
                    letters.push(if matches!(byte, b' '..=b'~') { char::from(byte) } else { '.' });
                }
                None => {
                    digits.push_str("   ");
                    letters.push(' ');
                }
            }
        }
        let text = format!("{digits} {}", letters.trim_end_matches(' '));
        Line { margin: format!("{first:08x}  "), text, tone: Tone::Plain }
    }

    /// The next line behind one, or before it, whose bytes satisfy something; without one, of all.
    pub(super) fn find(
        &self,
        from: Option<usize>,
        forward: bool,
        holds: impl Fn(&[u8]) -> bool,
    ) -> Option<usize> {
        let text = |at: usize| match self.patch.get(at) {
            Some((_, text)) => text.as_slice(),
            None => {
                at.checked_sub(self.summary().len()).map_or(b"".as_slice(), |at| self.text_line(at))
            }
        };
        let holds = |at: &usize| holds(text(*at));
        match forward {
            true => (from.map_or(0, |from| from + 1)..self.len(None)).find(holds),
            false => (0..from.unwrap_or(0).min(self.len(None))).rev().find(holds),
        }
    }
}

/// A line of a file as a terminal may have it, with blanks for tabs.
fn shown(line: &[u8]) -> String {
    let line = &line[..line.len().min(MAX_LINE)];
    if !line.contains(&b'\t') {
        return for_terminal(line);
    }
    let mut text = String::new();
    for (at, part) in line.split(|byte| *byte == b'\t').enumerate() {
        if at > 0 {
            let column = text.chars().count();
            text.push_str(&" ".repeat(TAB - column % TAB));
        }
        text.push_str(&for_terminal(part));
    }
    text
}

/// What a file is that is no text, by its beginning.
fn summary(bytes: &[u8], length: u64) -> Vec<String> {
    let mut lines = elf::summary(bytes)
        .or_else(|| archive::summary(bytes))
        .unwrap_or_else(|| vec![magic::name(bytes).to_owned()]);
    lines[0] = format!("{}, {}", lines[0], size(length));
    lines.push(String::new());
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(document: &Document, as_bytes: Option<usize>) -> Vec<Line> {
        (0..document.len(as_bytes)).map(|at| document.line(at, as_bytes)).collect()
    }

    #[test]
    fn text_has_numbers_and_nothing_that_terminals_obey() {
        let text = b"one\r\n\x1b[2J\ttwo\n\xe2\x80\xaethree";
        for split in 0..text.len() {
            let mut document = Document::new(text[..split].to_vec(), text.len() as u64);
            assert_eq!(document.left(), (0, (text.len() - split) as u64));
            document.take(split as u64, text[split..].to_vec());
            assert_eq!(document.left(), (0, 0));
            let lines: Vec<String> =
                all(&document, None).into_iter().map(|l| l.margin + &l.text).collect();
            assert_eq!(lines, ["  1 one", "  2 ?[2J    two", "  3 ?three"], "{split}");
        }
        assert_eq!(all(&Document::new(b"a\n".to_vec(), 2), None).len(), 1);
        assert_eq!(all(&Document::new(Vec::new(), 0), None).len(), 0);
    }

    #[test]
    fn bytes_have_places() {
        let document = Document::new(b"\x00ab\x1b\xff cdefghij".to_vec(), 15);
        assert!(!document.is_text());
        let lines = all(&document, Some(8));
        assert_eq!(lines[0].text, "data, 15 B");
        let shown: Vec<String> = lines[2..].iter().map(|l| l.margin.clone() + &l.text).collect();
        assert_eq!(
            shown,
            [
                "00000000  00 61 62 1b ff 20 63 64  .ab.. cd",
                "00000008  65 66 67 68 69 6a        efghij",
            ]
        );
    }

    /// A file of numbered lines, of which windows are taken.
    fn numbered(lines: usize) -> Vec<u8> {
        (1..=lines).flat_map(|line| format!("line {line}\n").into_bytes()).collect()
    }

    #[test]
    fn a_window_moves_over_a_large_file() {
        const PART: usize = 1 << 20;
        let file = numbered(2_000_000);
        let part = |at: usize| file[at..file.len().min(at + PART)].to_vec();
        let mut document = Document::new(part(0), file.len() as u64);
        // Down to the end, line by line as it stands in the file.
        while document.left().1 > 0 {
            document.take(document.end(), part(document.end() as usize));
            assert!(document.bytes.len() <= MAX_BYTES);
            for line in [0, document.len(None) - 2] {
                let number = document.number(line).unwrap();
                assert_eq!(document.line(line, None).text, format!("line {number}"));
                assert_eq!(document.numbered(number), Some(line));
            }
        }
        assert!(document.left().0 > 0);
        let last = document.line(document.len(None) - 1, None);
        assert_eq!((last.margin.as_str(), last.text.as_str()), ("2000000 ", "line 2000000"));
        // And up again.
        while document.left().0 > 0 {
            let at = (document.left().0 as usize).saturating_sub(PART);
            document.take(at as u64, file[at..document.left().0 as usize].to_vec());
            assert!(document.bytes.len() <= MAX_BYTES);
            let number = document.number(1).unwrap();
            assert_eq!(document.line(1, None).text, format!("line {number}"));
        }
        assert_eq!(document.line(0, None).text, "line 1");
        // Somewhere else.
        document.take(20_000_000, part(20_000_000));
        assert_eq!(document.line(1, None).margin.trim(), "~");
        assert_eq!(document.number(1), None);
        let offset = document.offset_of(7, None);
        assert!(file[offset as usize..].starts_with(b"line "));
        assert_eq!(document.line_at(offset + 3, None), 7);
    }

    #[test]
    fn bytes_stand_at_their_places_in_any_window() {
        let file: Vec<u8> = (0..=255).cycle().take(4096).collect();
        let mut document = Document::new(file[..100].to_vec(), 4096);
        document.take(1005, file[1005..1100].to_vec());
        for width in [8, 16, 32] {
            let as_bytes = Some(width);
            let first = document.line(0, as_bytes);
            let start = 1005 / width * width;
            assert_eq!(first.margin, format!("{start:08x}  "));
            assert!(first.text.starts_with(&"   ".repeat(1005 - start)[..]), "{first:?}");
            assert!(first.text.contains("ed ee ef"), "{first:?}");
            for line in 1..document.len(as_bytes) {
                let offset = document.offset_of(line, as_bytes);
                assert_eq!(offset % width as u64, 0);
                assert_eq!(document.line_at(offset + 1, as_bytes), line);
            }
        }
    }

    #[test]
    fn a_line_without_end_moves_as_well() {
        let mut document = Document::new(vec![b'a'; MAX_BYTES], u64::MAX);
        document.take(document.end(), vec![b'b'; 1000]);
        assert_eq!((document.left().0, document.len(None), document.number(0)), (1000, 1, Some(1)));
        assert!(document.line(0, None).text.len() <= MAX_LINE);
    }

    #[test]
    fn lines_are_found_in_both_directions() {
        let document = Document::new(b"a\nb\na\n".to_vec(), 6);
        let is_a = |line: &[u8]| line == b"a";
        assert_eq!(document.find(None, true, is_a), Some(0));
        assert_eq!(document.find(Some(0), true, is_a), Some(2));
        assert_eq!(document.find(Some(2), true, is_a), None);
        assert_eq!(document.find(Some(2), false, is_a), Some(0));
    }
}
