//! The pane of the selected file: what is in it, its attributes, or its versions.
//!
//! Content is read when the user rests on a file, as each read may be a request to a registry. More of it is read when
//! an end of what has come is in sight. To its end, and to what a search has found, one goes without what lies between.

use ocifs::tree::Place;

use super::cursor::Step;
use crate::explore::preview::{Document, Line};
use crate::explore::work::READ_BYTES;

/// What is shown of the file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::explore) enum Tab {
    #[default]
    Preview,
    Attributes,
    Versions,
}

/// How far reading is.
#[derive(Clone, Debug, Default)]
pub(in crate::explore) enum Reading {
    /// There is nothing to be read.
    #[default]
    Nothing,
    /// It will be read when the user rests.
    Wanted,
    /// It was asked for, with this number.
    Asked(u64),
    /// What was asked for has come.
    Read,
    Failed(String),
}

/// A place in the file that is gone to once its bytes are there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::explore) enum Jump {
    Start,
    End,
    /// The line that begins there.
    Line(u64),
}

/// So much of a file is read on to get to its end, or to a line of a number, in bytes: their lines keep their numbers then.
const NEAR: u64 = 4 << 20;
const MAX_GOAL: u64 = 64 << 20;

/// The pane.
#[derive(Debug, Default)]
pub(in crate::explore) struct FilePane {
    pub(in crate::explore) place: Option<Place>,
    pub(in crate::explore) path: Vec<u8>,
    pub(in crate::explore) tab: Tab,
    pub(in crate::explore) reading: Reading,
    pub(in crate::explore) document: Document,
    /// Whether the user wants the other form than that which the content suggests.
    pub(in crate::explore) is_switched: bool,
    /// What is shown if it is not the document.
    pub(in crate::explore) lines: Vec<Line>,
    pub(in crate::explore) top: usize,
    pub(in crate::explore) left: usize,
    /// The number of a line to go to once it is there, from 1 on.
    pub(in crate::explore) goal: Option<usize>,
    pub(in crate::explore) jump: Option<Jump>,
    /// A line that was found.
    pub(in crate::explore) mark: Option<usize>,
}

/// Bytes that are shown in a line that is so wide.
fn bytes_in(columns: u16) -> usize {
    match columns {
        ..64 => 8,
        64..140 => 16,
        140.. => 32,
    }
}

impl FilePane {
    /// Shows another file.
    pub(in crate::explore) fn select(&mut self, place: Option<Place>, path: Vec<u8>) {
        *self = FilePane { place, path, tab: self.tab, ..FilePane::default() };
    }

    /// How many bytes a line has, if it is shown as bytes.
    pub(in crate::explore) fn as_bytes(&self, columns: u16) -> Option<usize> {
        (self.document.is_text() == self.is_switched).then(|| bytes_in(columns))
    }

    /// Whether the document is what is shown.
    pub(in crate::explore) fn shows_document(&self) -> bool {
        self.tab == Tab::Preview && self.lines.is_empty()
    }

    /// How many lines there are.
    pub(in crate::explore) fn len(&self, columns: u16) -> usize {
        match self.shows_document() {
            true => self.document.len(self.as_bytes(columns)),
            false => self.lines.len(),
        }
    }

    /// A line that is shown.
    pub(in crate::explore) fn line(&self, at: usize, columns: u16) -> Line {
        match self.shows_document() {
            true => self.document.line(at, self.as_bytes(columns)),
            false => self.lines[at].clone(),
        }
    }

    /// Scrolls.
    pub(in crate::explore) fn go(&mut self, step: Step, rows: usize, columns: u16) {
        let length = self.len(columns);
        self.jump = match step {
            Step::Start => Some(Jump::Start),
            Step::End => Some(Jump::End),
            _ => None,
        };
        self.top = step.from(self.top, rows, length).min(length.saturating_sub(rows));
    }

    /// Goes to a line, with some above it.
    pub(in crate::explore) fn go_to(&mut self, line: usize, rows: usize, columns: u16) {
        self.mark = Some(line);
        if line < self.top || line >= self.top + rows {
            self.top = line.saturating_sub(rows / 3);
        }
        self.top = self.top.min(self.len(columns).saturating_sub(rows));
    }

    /// Takes in bytes of the file. What was in sight stays there, if it is still in the document.
    pub(in crate::explore) fn take(&mut self, offset: u64, bytes: Vec<u8>, columns: u16) {
        let as_bytes = self.as_bytes(columns);
        let start = self.document.start();
        let places = [Some(self.top), self.mark];
        let places = places.map(|line| line.map(|line| self.document.offset_of(line, as_bytes)));
        self.document.take(offset, bytes);
        if self.document.start() == start {
            return;
        }
        let is_here = |offset: &u64| (self.document.start()..=self.document.end()).contains(offset);
        let line = |offset| self.document.line_at(offset, as_bytes);
        let [top, mark] = places.map(|offset| offset.filter(is_here).map(line));
        (self.top, self.mark) = (top.unwrap_or(0), mark);
    }

    /// Goes where the user wanted to go, if that is here.
    pub(in crate::explore) fn arrive(&mut self, rows: usize, columns: u16) {
        if !matches!(self.reading, Reading::Read) || !self.shows_document() {
            return;
        }
        let (before, behind) = self.document.left();
        match self.jump {
            Some(Jump::Start) if before == 0 => (self.top, self.jump) = (0, None),
            Some(Jump::End) if behind == 0 => {
                (self.top, self.jump) = (self.len(columns).saturating_sub(rows), None);
            }
            Some(Jump::Line(offset)) if self.holds(offset) => {
                self.jump = None;
                self.go_to(self.document.line_at(offset, self.as_bytes(columns)), rows, columns);
            }
            _ => {}
        }
        let Some(goal) = self.goal else { return };
        let line = match self.as_bytes(columns) {
            None => self.document.numbered(goal),
            Some(_) => None,
        };
        if line.is_some() || behind == 0 || self.document.end() > MAX_GOAL {
            self.goal = None;
            let last = self.len(columns).saturating_sub(1);
            self.go_to(line.unwrap_or(last), rows, columns);
        }
    }

    fn holds(&self, offset: u64) -> bool {
        (self.document.start()..self.document.end()).contains(&offset)
    }

    /// From where to read, if something comes in sight, or is wanted there, that has not come.
    pub(in crate::explore) fn wanted(&self, rows: usize, columns: u16) -> Option<u64> {
        if !matches!(self.reading, Reading::Read) || !self.shows_document() {
            return None;
        }
        let part = READ_BYTES as u64;
        let (before, behind) = self.document.left();
        let end = self.document.end();
        match self.jump {
            Some(Jump::Start) if before > 0 => return Some(0),
            Some(Jump::End) if behind > NEAR => return Some((end + behind).saturating_sub(part)),
            Some(Jump::End) if behind > 0 => return Some(end),
            Some(Jump::Line(offset)) if !self.holds(offset) => {
                return Some(offset.saturating_sub(part / 4));
            }
            _ => {}
        }
        if behind > 0 && self.goal.is_some() {
            return Some(end);
        }
        // What is in sight is not let go of for what is not: of a line that is longer than a document, the beginning stays.
        let as_bytes = self.as_bytes(columns);
        let above = self.document.offset_of(self.top, as_bytes) - self.document.start();
        let below = end - self.document.offset_of(self.top + rows, as_bytes).min(end);
        let has_room = |hidden: u64| self.document.has_room(READ_BYTES) || hidden >= 2 * part;
        if behind > 0 && self.top + 2 * rows >= self.len(columns) && has_room(above) {
            return Some(end);
        }
        let is_wanted = before > 0 && self.top < rows && has_room(below);
        is_wanted.then(|| self.document.start().saturating_sub(part))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: usize = 40 << 20;

    /// A pane that reads a file as far as it wants to.
    fn reads(pane: &mut FilePane, file: &[u8]) -> usize {
        let mut reads = 0;
        pane.arrive(10, 80);
        while let Some(offset) = pane.wanted(10, 80) {
            let at = offset as usize;
            pane.take(offset, file[at..file.len().min(at + READ_BYTES)].to_vec(), 80);
            pane.arrive(10, 80);
            reads += 1;
        }
        reads
    }

    fn pane(file: &[u8]) -> FilePane {
        let document = Document::new(file[..READ_BYTES].to_vec(), file.len() as u64);
        FilePane { document, reading: Reading::Read, ..FilePane::default() }
    }

    fn top(pane: &FilePane) -> String {
        pane.line(pane.top, 80).text
    }

    #[test]
    fn ends_are_reached_without_what_lies_between() {
        let file: Vec<u8> = (1..).flat_map(|n| format!("{n}\n").into_bytes()).take(SIZE).collect();
        let mut pane = pane(&file);
        assert_eq!(reads(&mut pane, &file), 0);
        pane.go(Step::End, 10, 80);
        assert!(reads(&mut pane, &file) <= 2);
        let last = pane.line(pane.len(80) - 1, 80);
        let expected = file.split(|byte| *byte == b'\n').rfind(|line| !line.is_empty()).unwrap();
        assert_eq!((last.text.as_bytes(), last.margin.trim()), (expected, "~"));
        // On from there, each line behind the other.
        let mut expected: u64 = top(&pane).parse().unwrap();
        for _ in 0..20_000 {
            pane.go(Step::Rows(-1), 10, 80);
            reads(&mut pane, &file);
            expected -= 1;
            assert_eq!(top(&pane), expected.to_string());
        }
        pane.go(Step::Start, 10, 80);
        assert!(reads(&mut pane, &file) <= 2);
        assert_eq!((pane.top, pane.line(0, 80).margin.trim()), (0, "1"));
        pane.jump = Some(Jump::Line(30 << 20));
        assert!(reads(&mut pane, &file) <= 2);
        assert!(pane.mark.is_some());
        // As bytes, too.
        pane.is_switched = true;
        pane.go(Step::End, 10, 80);
        reads(&mut pane, &file);
        assert!(pane.line(pane.len(80) - 1, 80).margin.starts_with("027ff"), "{}", top(&pane));
    }

    #[test]
    fn a_line_without_end_is_not_fetched_whole() {
        let file = vec![b'a'; SIZE];
        let mut pane = pane(&file);
        assert!(reads(&mut pane, &file) * READ_BYTES <= 8 << 20);
        assert_eq!((pane.top, pane.line(0, 80).margin.trim()), (0, "1"));
        pane.go(Step::End, 10, 80);
        assert!(reads(&mut pane, &file) * READ_BYTES <= 9 << 20);
        assert_eq!(pane.document.left().1, 0);
    }

    #[test]
    fn lines_of_a_number_are_counted_from_the_start() {
        let file: Vec<u8> = (1..).flat_map(|n| format!("{n}\n").into_bytes()).take(SIZE).collect();
        let mut pane = pane(&file);
        pane.goal = Some(2_000_000);
        reads(&mut pane, &file);
        let mark = pane.mark.unwrap();
        assert_eq!(pane.line(mark, 80).text, "2000000");
        assert_eq!(pane.line(mark, 80).margin.trim(), "2000000");
    }
}
