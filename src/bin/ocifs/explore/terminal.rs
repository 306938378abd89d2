//! The terminal: raw while the program has it, and as it was afterwards, however the program ends.
//!
//! What was there is brought back by dropping the [`Terminal`], which unwinding does as well. A frame is written as the
//! cells that differ from the one before, in one write. Nothing of the terminal is asked: an answer may never come.

use std::io::{self, Write};

use ratatui_core::buffer::{Buffer, CellWidth};
use ratatui_core::layout::Rect;
use ratatui_core::style::{Color, Modifier, Style};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};

/// The alternate screen, no cursor, and reports of buttons and wheel in the form of SGR.
pub(super) const ENTER: &str = "\x1b[?1049h\x1b[?25l\x1b[?1000h\x1b[?1006h\x1b[2J";

/// All of that back.
pub(super) const LEAVE: &str = "\x1b[0m\x1b[?1006l\x1b[?1000l\x1b[?25h\x1b[?1049l";

/// A terminal that does not say how large it is, and the largest that is drawn on.
const USUAL: (u16, u16) = (80, 24);
const MAX_COLUMNS: u16 = 1000;
const MAX_ROWS: u16 = 500;

/// The terminal, while it is the program's.
pub(super) struct Terminal {
    /// How it was.
    before: Termios,
    /// What it shows.
    shown: Buffer,
    is_entered: bool,
}

/// The columns and rows of the terminal.
pub(super) fn size() -> (u16, u16) {
    let size = tcgetwinsize(io::stdout()).map(|size| (size.ws_col, size.ws_row));
    let (columns, rows) = size.ok().filter(|(x, y)| *x > 0 && *y > 0).unwrap_or(USUAL);
    (columns.min(MAX_COLUMNS), rows.min(MAX_ROWS))
}

impl Terminal {
    /// Takes the terminal.
    ///
    /// # Errors
    /// It can't be had.
    pub(super) fn take() -> io::Result<Terminal> {
        let before = tcgetattr(io::stdin())?;
        let mut terminal = Terminal { before, shown: Buffer::default(), is_entered: false };
        terminal.enter()?;
        Ok(terminal)
    }

    /// Takes it again.
    ///
    /// # Errors
    /// It can't be had.
    pub(super) fn enter(&mut self) -> io::Result<()> {
        let mut raw = self.before.clone();
        raw.make_raw();
        self.is_entered = true;
        tcsetattr(io::stdin(), OptionalActions::Now, &raw)?;
        self.forget();
        write(ENTER.as_bytes())
    }

    /// Gives it back.
    pub(super) fn leave(&mut self) {
        if self.is_entered {
            self.is_entered = false;
            // It may be gone, and then nothing is to be done.
            let _ = write(LEAVE.as_bytes());
            let _ = tcsetattr(io::stdin(), OptionalActions::Flush, &self.before);
        }
    }

    /// The next frame is written whole.
    pub(super) fn forget(&mut self) {
        self.shown = Buffer::default();
    }

    /// Shows a frame.
    ///
    /// # Errors
    /// Of writing.
    pub(super) fn show(&mut self, frame: Buffer) -> io::Result<()> {
        let mut out = Vec::new();
        if self.shown.area != frame.area {
            out.extend_from_slice(b"\x1b[0m\x1b[2J");
            self.shown = Buffer::empty(frame.area);
        }
        write_changes(&self.shown, &frame, &mut out);
        self.shown = frame;
        if out.is_empty() { Ok(()) } else { write(&out) }
    }

    /// Asks the terminal to put a text on the clipboard (OSC 52).
    ///
    /// # Errors
    /// Of writing.
    pub(super) fn copy(&self, text: &str) -> io::Result<()> {
        use base64::Engine;
        let text = base64::engine::general_purpose::STANDARD.encode(text);
        write(format!("\x1b]52;c;{text}\x07").as_bytes())
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        self.leave();
    }
}

fn write(bytes: &[u8]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(bytes)?;
    out.flush()
}

/// Writes what turns one frame into another of the same size.
fn write_changes(from: &Buffer, to: &Buffer, out: &mut Vec<u8>) {
    let mut style = Style::reset();
    let mut next = None;
    for (x, y, cell) in from.diff(to) {
        if next != Some((x, y)) {
            out.extend_from_slice(format!("\x1b[{};{}H", y + 1, x + 1).as_bytes());
        }
        let wanted = cell.style();
        if wanted != style || out.is_empty() {
            out.extend_from_slice(graphics(wanted).as_bytes());
            style = wanted;
        }
        out.extend_from_slice(cell.symbol().as_bytes());
        next = Some((x + cell.symbol().cell_width().max(1), y));
    }
    if !out.is_empty() {
        out.extend_from_slice(b"\x1b[0m");
    }
}

/// The sequence for a style, from any other.
fn graphics(style: Style) -> String {
    let mut text = String::from("\x1b[0");
    for (modifier, code) in [
        (Modifier::BOLD, ";1"),
        (Modifier::DIM, ";2"),
        (Modifier::UNDERLINED, ";4"),
        (Modifier::REVERSED, ";7"),
    ] {
        if style.add_modifier.contains(modifier) {
            text.push_str(code);
        }
    }
    text.push_str(match style.fg {
        Some(Color::Red) => ";31",
        Some(Color::Green) => ";32",
        Some(Color::Yellow) => ";33",
        Some(Color::Blue) => ";34",
        Some(Color::Magenta) => ";35",
        Some(Color::Cyan) => ";36",
        _ => "",
    });
    text.push('m');
    text
}

/// A frame of this size, empty.
pub(super) fn frame(size: (u16, u16)) -> Buffer {
    Buffer::empty(Rect::new(0, 0, size.0, size.1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_differs_is_written() {
        let (mut from, mut to) = (frame((10, 2)), frame((10, 2)));
        from.set_string(0, 0, "same", Style::new());
        to.set_string(0, 0, "same", Style::new());
        to.set_string(2, 1, "\u{65e5}b", Style::new().fg(Color::Green));
        to.set_string(6, 1, "c", Style::new().add_modifier(Modifier::BOLD));
        let mut out = Vec::new();
        write_changes(&from, &to, &mut out);
        let expected = "\x1b[2;3H\x1b[0;32m\u{65e5}b\x1b[2;7H\x1b[0;1mc\x1b[0m";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
        let mut out = Vec::new();
        write_changes(&to, &to, &mut out);
        assert!(out.is_empty());
    }
}
