//! The pane of the selected file: what is in it, its attributes, or its versions.
//!
//! Content is read when the user rests on a file, as each read may be a request to a registry. More of it is read when
//! the end of what has come is in sight.

use ocifs::tree::Place;

use super::cursor::Step;
use crate::explore::preview::{Document, Line};

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
    /// A line to go to once it is there, from 0 on.
    pub(in crate::explore) goal: Option<usize>,
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

    /// From where to read on, if what is shown comes near the end of what has come.
    pub(in crate::explore) fn wanted(&self, rows: usize, columns: u16) -> Option<u64> {
        let is_idle = matches!(self.reading, Reading::Read) && self.shows_document();
        let is_near = self.goal.is_some() || self.top + 2 * rows >= self.len(columns);
        self.document.next().filter(|_| is_idle && is_near)
    }
}
