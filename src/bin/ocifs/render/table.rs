//! Tables: aligned, with a header and as wide as the terminal there; columns separated by tabs elsewhere.

use std::io::{self, Write};

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use super::screen::{Mark, Screen};
use super::text::printable;

/// Between two columns on a terminal.
const GAP: &str = "  ";

/// No last column is cut to less than this.
const LEAST_COLUMNS: usize = 20;

/// No other column is cut to less than this.
const LEAST_CELL: usize = 8;

/// How a column stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Align {
    Left,
    Right,
}

/// Rows of cells. The last column gets the rest of the terminal's width and is cut there; the widest of the others are
/// cut where they would leave it too little.
#[derive(Debug)]
pub(crate) struct Table {
    screen: Screen,
    columns: Vec<(&'static str, Align)>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// An empty table of these columns.
    pub(crate) fn new(screen: Screen, columns: &[(&'static str, Align)]) -> Table {
        Table { screen, columns: columns.to_vec(), rows: Vec::new() }
    }

    /// Adds a row, of a cell for each column. What a terminal would obey is replaced.
    pub(crate) fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.rows.push(cells.iter().map(|cell| printable(cell)).collect());
    }

    /// Prints it. A table without rows prints nothing.
    ///
    /// # Errors
    /// Of writing.
    pub(crate) fn print(&self, out: &mut impl Write) -> io::Result<()> {
        let Some(columns) = self.screen.columns().filter(|_| !self.rows.is_empty()) else {
            return self.rows.iter().try_for_each(|row| writeln!(out, "{}", row.join("\t")));
        };
        let header: Vec<String> = self.columns.iter().map(|(name, _)| (*name).to_owned()).collect();
        let all = || std::iter::once(&header).chain(&self.rows);
        let widest = |at: usize| all().filter_map(|row| row.get(at)).map(|cell| cell.width()).max();
        let widths: Vec<usize> = (0..header.len()).map(|at| widest(at).unwrap_or(0)).collect();
        let widths = fitted(widths, columns);
        for (number, row) in all().enumerate() {
            let line = self.line(row, &widths, columns);
            let line = if number == 0 { self.screen.marked(Mark::Aside, &line) } else { line };
            writeln!(out, "{line}")?;
        }
        Ok(())
    }

    fn line(&self, row: &[String], widths: &[usize], columns: usize) -> String {
        let mut line = String::new();
        for (at, cell) in row.iter().enumerate() {
            if at > 0 {
                line.push_str(GAP);
            }
            let is_last = at + 1 == row.len();
            let align = self.columns.get(at).map_or(Align::Left, |column| column.1);
            let cell = match is_last {
                true => cut(cell, columns.saturating_sub(line.width()).max(LEAST_COLUMNS)),
                false => cut(cell, widths[at]),
            };
            let padding = " ".repeat(widths[at].saturating_sub(cell.width()));
            match align {
                Align::Right => line.extend([&*padding, &cell]),
                Align::Left if is_last => line.push_str(&cell),
                Align::Left => line.extend([&*cell, &padding]),
            }
        }
        line.truncate(line.trim_end().len());
        line
    }
}

/// The widths of columns that leave the last one what it needs, as far as that can be.
fn fitted(widths: Vec<usize>, columns: usize) -> Vec<usize> {
    let mut widths: Vec<usize> = widths.into_iter().map(|width| width.min(columns)).collect();
    let Some((last, others)) = widths.split_last_mut() else { return widths };
    let rest = others.len() * GAP.len() + (*last).min(LEAST_COLUMNS);
    while others.iter().sum::<usize>() + rest > columns {
        let widest = others.iter_mut().max().filter(|width| **width > LEAST_CELL);
        let Some(widest) = widest else { break };
        *widest -= 1;
    }
    widths
}

/// A text of at most so many columns; what is cut shows as `…`.
pub(crate) fn cut(text: &str, columns: usize) -> String {
    if text.width() <= columns {
        return text.to_owned();
    }
    let mut left = columns.saturating_sub(1);
    let mut short: String = text
        .chars()
        .take_while(|c| {
            let width = c.width().unwrap_or(0);
            let fits = width <= left;
            left = left.saturating_sub(width);
            fits
        })
        .collect();
    short.push('…');
    short
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn printed(columns: Option<usize>) -> String {
        let screen = Screen::of_columns(columns, 0);
        let mut table = Table::new(
            screen,
            &[("name", Align::Left), ("size", Align::Right), ("what", Align::Left)],
        );
        table.row(["a".into(), "1".into(), "a long text that does not fit".into()]);
        table.row(["日本".into(), "1000".into(), "\u{1b}[2J".into()]);
        let mut out = Vec::new();
        table.print(&mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_terminal_has_aligned_columns_that_fit() {
        let expected = "name  size  what\n\
                        a        1  a long text that do…\n\
                        日本  1000  \u{fffd}[2J\n";
        assert_eq!(printed(Some(30)), expected);
    }

    #[test]
    fn a_wide_column_leaves_room_for_the_last() {
        let mut table = Table::new(
            Screen::of_columns(Some(40), 0),
            &[("tags", Align::Left), ("n", Align::Right), ("of", Align::Left)],
        );
        table.row(["1.0 ".repeat(1000), "12".into(), "sixteen columns!".into()]);
        let mut out = Vec::new();
        table.print(&mut out).unwrap();
        let expected = "tags                 n  of\n\
                        1.0 1.0 1.0 1.0 …  12  sixteen columns!\n";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    #[test]
    fn a_pipe_has_tabs_and_everything() {
        assert_eq!(printed(None), "a\t1\ta long text that does not fit\n日本\t1000\t\u{fffd}[2J\n");
    }

    #[test]
    fn nothing_prints_nothing() {
        let mut out = Vec::new();
        Table::new(Screen::of_columns(Some(80), 0), &[("name", Align::Left)])
            .print(&mut out)
            .unwrap();
        assert!(out.is_empty());
    }
}
