//! How values look on stdout: short for people at a terminal, exact for programs behind a pipe.
//!
//! On a terminal a table has a header and fits the width, digests are shortened to 12 digits, sizes have units, times
//! are ages, and colours mark what changed (unless `NO_COLOR` is set). Elsewhere columns are separated by one tab,
//! there is no header, nothing is cut, digests are whole, sizes are bytes, and times are RFC 3339. Names that an image
//! brings are never printed in a way that a terminal obeys.

use std::io::{self, IsTerminal};
use std::time::{SystemTime, UNIX_EPOCH};

use anstyle::{AnsiColor, Style};
use ocifs::digest::Digest;
use ocifs::oci::parse_time;

use super::text::{age, printable, size};
use super::time::rfc3339;
use crate::variables;

/// Hexadecimal digits of a digest that people see.
const SHORT_DIGITS: usize = 12;

/// Columns where a terminal does not say how many it has.
const USUAL_COLUMNS: usize = 80;

/// What stdout is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Screen {
    /// Its width, if it is a terminal.
    columns: Option<usize>,
    has_colours: bool,
    /// Seconds since the epoch, which ages are counted to.
    now: i64,
}

/// What a colour says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mark {
    Added,
    Removed,
    Changed,
    /// Of less weight than what stands beside it.
    Aside,
}

impl Mark {
    fn style(self) -> Style {
        match self {
            Mark::Added => AnsiColor::Green.on_default(),
            Mark::Removed => AnsiColor::Red.on_default(),
            Mark::Changed => AnsiColor::Yellow.on_default(),
            Mark::Aside => Style::new().dimmed(),
        }
    }
}

impl Screen {
    /// Stdout as it is.
    pub(crate) fn stdout() -> Screen {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let columns = io::stdout().is_terminal().then(|| {
            let size = rustix::termios::tcgetwinsize(io::stdout());
            let columns = size.map(|size| usize::from(size.ws_col)).ok();
            columns.filter(|columns| *columns > 0).unwrap_or(USUAL_COLUMNS)
        });
        let has_colours = columns.is_some() && variables::wants_colours();
        Screen { columns, has_colours, now: i64::try_from(now).unwrap_or(i64::MAX) }
    }

    /// No terminal, whatever stdout is: everything exact.
    pub(crate) fn none() -> Screen {
        Screen { columns: None, has_colours: false, now: 0 }
    }

    /// The width in columns, if stdout is a terminal.
    pub(crate) fn columns(self) -> Option<usize> {
        self.columns
    }

    /// Whether stdout is a terminal.
    pub(crate) fn is_terminal(self) -> bool {
        self.columns.is_some()
    }

    /// A digest: its first digits on a terminal, all of it elsewhere.
    pub(crate) fn digest(self, digest: &Digest) -> String {
        if self.is_terminal() { self.digits(digest.hex()) } else { digest.to_string() }
    }

    /// Hexadecimal digits of a hash: the first on a terminal, all of them elsewhere.
    pub(crate) fn digits(self, mut digits: String) -> String {
        if self.is_terminal() {
            digits.truncate(SHORT_DIGITS);
        }
        digits
    }

    /// A size: in binary units on a terminal, in bytes elsewhere.
    pub(crate) fn size(self, bytes: u64) -> String {
        if self.is_terminal() { size(bytes) } else { bytes.to_string() }
    }

    /// Seconds since the epoch: an age on a terminal, RFC 3339 elsewhere.
    pub(crate) fn time(self, seconds: i64) -> String {
        if self.is_terminal() { age(self.now.saturating_sub(seconds)) } else { rfc3339(seconds) }
    }

    /// A time as a document has it: an age on a terminal, and as it is written elsewhere or where it can't be read.
    pub(crate) fn written_time(self, written: &str) -> String {
        match parse_time(written) {
            Some((seconds, _)) if self.is_terminal() => self.time(seconds),
            _ => printable(written),
        }
    }

    /// A text in the colour of its meaning.
    pub(crate) fn marked(self, mark: Mark, text: &str) -> String {
        let style = mark.style();
        if self.has_colours { format!("{style}{text}{style:#}") } else { text.to_owned() }
    }
}

#[cfg(test)]
impl Screen {
    /// A terminal of this width, without colours, or a pipe.
    pub(crate) fn of_columns(columns: Option<usize>, now: i64) -> Screen {
        Screen { columns, has_colours: false, now }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_for_people_and_exact_for_programs() {
        let digest = Digest::sha256(b"");
        let (terminal, pipe) = (Screen::of_columns(Some(80), 1000), Screen::of_columns(None, 1000));
        assert_eq!(terminal.digest(&digest), "e3b0c44298fc");
        assert_eq!(pipe.digest(&digest), digest.to_string());
        assert_eq!((terminal.size(2048), pipe.size(2048)), ("2.00 KiB".into(), "2048".into()));
        assert_eq!(
            (terminal.time(0), pipe.time(0)),
            ("16 minutes".into(), "1970-01-01T00:00:00Z".into())
        );
        let written = "1970-01-01T00:16:38.5Z";
        assert_eq!(terminal.written_time(written), "2 seconds");
        assert_eq!(pipe.written_time(written), written);
        assert_eq!(terminal.written_time("a\u{1b}"), "a\u{fffd}");
    }

    #[test]
    fn colours_end_where_the_text_ends() {
        let screen = Screen { columns: Some(80), has_colours: true, now: 0 };
        assert_eq!(screen.marked(Mark::Added, "x"), "\u{1b}[32mx\u{1b}[0m");
        assert_eq!(Screen::of_columns(Some(80), 0).marked(Mark::Removed, "x"), "x");
    }
}
