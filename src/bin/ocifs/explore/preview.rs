//! What is in a file, as lines: text with numbers, or bytes; and in short what it is.
//!
//! A document is as much of a file as has come. It grows by what is read on while the user scrolls, up to a bound: who
//! wants more saves the file. Lines are made when they are shown, so that a file costs its bytes and the places of its
//! lines.

mod archive;
mod elf;
mod magic;

use crate::render::listing::for_terminal;
use crate::render::patch::is_text;
use crate::render::text::size;

/// Bytes of a file that are kept.
pub(super) const MAX_BYTES: usize = 8 << 20;

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

/// As much of a file as has come.
#[derive(Clone, Debug, Default)]
pub(super) struct Document {
    bytes: Vec<u8>,
    /// Size of the file.
    size: u64,
    /// Where lines begin.
    starts: Vec<usize>,
    is_text: bool,
    /// What it is, if it is no text.
    summary: Vec<String>,
    /// How it differs, in place of its bytes.
    patch: Vec<(char, Vec<u8>)>,
}

impl Document {
    /// A file of which this is the beginning.
    pub(super) fn new(bytes: Vec<u8>, size: u64) -> Document {
        let is_text = is_text(&bytes);
        let summary = if is_text { Vec::new() } else { summary(&bytes, size) };
        let mut document =
            Document { size, is_text, summary, starts: vec![0], ..Document::default() };
        document.push(bytes);
        document
    }

    /// How a file differs.
    pub(super) fn of_patch(patch: Vec<(char, Vec<u8>)>) -> Document {
        Document { patch, is_text: true, ..Document::default() }
    }

    /// Takes in what follows.
    pub(super) fn push(&mut self, bytes: Vec<u8>) {
        let start = self.bytes.len();
        let ends = bytes.iter().enumerate().filter(|(_, byte)| **byte == b'\n');
        self.starts.extend(ends.map(|(at, _)| start + at + 1));
        match self.bytes.is_empty() {
            true => self.bytes = bytes,
            false => self.bytes.extend_from_slice(&bytes),
        }
    }

    /// From where to read on, if there is more that is shown.
    pub(super) fn next(&self) -> Option<u64> {
        let here = self.bytes.len();
        let is_more = (here as u64) < self.size && here < MAX_BYTES && self.patch.is_empty();
        is_more.then_some(here as u64)
    }

    /// Whether it is text by what it holds.
    pub(super) fn is_text(&self) -> bool {
        self.is_text
    }

    fn text_lines(&self) -> usize {
        // Nothing stands behind the last newline.
        self.starts.len() - usize::from(self.starts.last() == Some(&self.bytes.len()))
    }

    /// How many lines there are so far; `as_bytes` shows them as bytes, so many in each.
    pub(super) fn len(&self, as_bytes: Option<usize>) -> usize {
        let lines = match (self.patch.len(), as_bytes) {
            (0, None) => self.text_lines(),
            (0, Some(width)) => self.bytes.len().div_ceil(width),
            (lines, _) => return lines,
        };
        self.summary.len() + lines + usize::from(self.is_cut())
    }

    /// Whether it is larger than what is shown of files.
    fn is_cut(&self) -> bool {
        self.bytes.len() >= MAX_BYTES && self.bytes.len() as u64 != self.size
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
        if let Some(text) = self.summary.get(at) {
            return Line::new(Tone::Strong, text.clone());
        }
        if at + 1 == self.len(as_bytes) && self.is_cut() {
            let shown = size(MAX_BYTES as u64);
            return Line::new(Tone::Aside, format!("(the first {shown} are shown: e saves all)"));
        }
        let at = at - self.summary.len();
        match as_bytes {
            Some(width) => self.bytes_line(at, width),
            None => {
                let width = self.starts.len().max(999).to_string().len();
                let text = shown(self.text_line(at));
                Line { margin: format!("{:>width$} ", at + 1), text, tone: Tone::Plain }
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
        let start = at * width;
        let bytes = &self.bytes[start.min(self.bytes.len())..self.bytes.len().min(start + width)];
        let mut digits = String::new();
        for place in 0..width {
            let gap = if place > 0 && place % 8 == 0 { " " } else { "" };
            digits.push_str(gap);
            match bytes.get(place) {
                Some(byte) => digits.push_str(&format!("{byte:02x} ")),
                None => digits.push_str("   "),
            }
        }
        let letter = |byte: &u8| if matches!(byte, b' '..=b'~') { char::from(*byte) } else { '.' };
        let letters: String = bytes.iter().map(letter).collect();
        let margin = format!("{start:08x}  ");
        Line { margin, text: format!("{digits} {letters}"), tone: Tone::Plain }
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
                at.checked_sub(self.summary.len()).map_or(b"".as_slice(), |at| self.text_line(at))
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
            assert_eq!(document.next(), Some(split as u64));
            document.push(text[split..].to_vec());
            assert_eq!(document.next(), None);
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

    #[test]
    fn what_is_very_large_is_cut() {
        let mut document = Document::new(vec![b'a'; MAX_BYTES / 2], u64::MAX);
        document.push(vec![b'\n'; MAX_BYTES / 2]);
        assert_eq!(document.next(), None);
        let last = document.line(document.len(None) - 1, None);
        assert_eq!(last.text, "(the first 8.00 MiB are shown: e saves all)");
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
