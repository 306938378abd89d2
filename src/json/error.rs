//! Why a text can't be read, and where.

use std::fmt;

use serde::de;

/// Characters of a message about a value.
const MAX_MESSAGE_CHARS: usize = 300;

/// Why a text is not JSON, or not of the kind that was wanted. The message may quote the text.
#[derive(Debug, thiserror::Error)]
#[error("{what} at {place}")]
pub struct Error {
    what: String,
    place: Position,
    is_syntax: bool,
}

/// A place in a text, both from 1 on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// Number of the line.
    pub line: usize,
    /// Byte of the line.
    pub column: usize,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, column {}", self.line, self.column)
    }
}

impl Error {
    pub(super) fn new(text: &[u8], wrong: Wrong, is_syntax: bool) -> Error {
        let before = text.get(..wrong.at.unwrap_or_default()).unwrap_or_default();
        let line = before.iter().filter(|b| **b == b'\n').count() + 1;
        let column = before.iter().rev().take_while(|b| **b != b'\n').count() + 1;
        Error { what: wrong.what, place: Position { line, column }, is_syntax }
    }

    /// Where the syntax is wrong, or where the value begins that is not of the kind that was wanted.
    pub fn place(&self) -> Position {
        self.place
    }

    /// Whether the text is not JSON; otherwise it is, with a value of another kind.
    pub fn is_syntax(&self) -> bool {
        self.is_syntax
    }
}

/// An error whose place is not known yet, or only in bytes: most of those inside of documents are
/// never shown, so that lines are counted for the one that is.
#[derive(Debug, thiserror::Error)]
#[error("{what}")]
pub(super) struct Wrong {
    pub(super) what: String,
    pub(super) at: Option<usize>,
}

impl Wrong {
    /// The same in a value that begins at `start`, unless it is inside of one in that.
    pub(super) fn within(mut self, start: usize) -> Wrong {
        self.at.get_or_insert(start);
        self
    }
}

impl de::Error for Wrong {
    fn custom<T: fmt::Display>(message: T) -> Wrong {
        // Messages of `serde` repeat the text that is not what was wanted.
        let mut what = message.to_string();
        if let Some((at, _)) = what.char_indices().nth(MAX_MESSAGE_CHARS) {
            what.truncate(at);
            what.push('…');
        }
        Wrong { what, at: None }
    }
}

pub(super) fn too_deep(levels: usize) -> String {
    format!("it is nested more than {levels} deep")
}
