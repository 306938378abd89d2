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
/// cut where they would leave it too little, once those that can be spared are left out.
#[derive(Debug)]
pub(crate) struct Table {
    screen: Screen,
    columns: Vec<(&'static str, Align)>,
    rows: Vec<Vec<String>>,
    /// Columns that are left out on a narrow terminal, the first of them first.
    spared: Vec<&'static str>,
}

impl Table {
    /// An empty table of these columns.
    pub(crate) fn new(screen: Screen, columns: &[(&'static str, Align)]) -> Table {
        Table { screen, columns: columns.to_vec(), rows: Vec::new(), spared: Vec::new() }
    }

    /// The same, leaving out these columns, one after the other, where not all fit the terminal.
    pub(crate) fn sparing(self, names: &[&'static str]) -> Table {
        Table { spared: names.to_vec(), ..self }
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
        let mut shown: Vec<usize> = (0..header.len()).collect();
        let mut widths: Vec<usize> = shown.iter().map(|at| widest(*at).unwrap_or(0)).collect();
        for name in &self.spared {
            if least(&widths) <= columns {
                break;
            }
            if let Some(at) = shown.iter().position(|at| header[*at] == *name) {
                shown.remove(at);
                widths.remove(at);
            }
        }
        let widths = fitted(widths, columns);
        for (number, row) in all().enumerate() {
            let line = self.line(row, &shown, &widths, columns);
            let line = if number == 0 { self.screen.marked(Mark::Aside, &line) } else { line };
            writeln!(out, "{line}")?;
        }
        Ok(())
    }

    fn line(&self, row: &[String], shown: &[usize], widths: &[usize], columns: usize) -> String {
        let mut line = String::new();
        for (place, (at, width)) in shown.iter().zip(widths).enumerate() {
            if place > 0 {
                line.push_str(GAP);
            }
            let (cell, (_, align)) = (&row[*at], self.columns[*at]);
            let is_last = place + 1 == shown.len();
            let cell = match is_last {
                true => cut(cell, columns.saturating_sub(line.width()).max(LEAST_COLUMNS)),
                false => cut(cell, *width),
            };
            let padding = " ".repeat(width.saturating_sub(cell.width()));
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

/// The width of a table whose last column is as short as it may be.
fn least(widths: &[usize]) -> usize {
    let Some((last, others)) = widths.split_last() else { return 0 };
    others.iter().map(|width| width + GAP.len()).sum::<usize>() + (*last).min(LEAST_COLUMNS)
}

/// The widths of columns that leave the last one what it needs, as far as that can be.
fn fitted(widths: Vec<usize>, columns: usize) -> Vec<usize> {
    let mut widths: Vec<usize> = widths.into_iter().map(|width| width.min(columns)).collect();
    while least(&widths) > columns {
        let others = widths.len() - 1;
        let widest = widths[..others].iter_mut().max().filter(|width| **width > LEAST_CELL);
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
                        1.0 1.0 1.0 1.0 1…  12  sixteen columns!\n";
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
