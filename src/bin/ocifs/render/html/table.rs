//! Tables: with a caption, headers of columns and rows, and numbers that the script can sort by.

use super::bar::bar;
use super::{Markup, more};
use crate::render::text::size;

/// Rows of a table, and their bytes; what is behind them is counted.
const MAX_ROWS: usize = 1000;
const MAX_BYTES: usize = 1 << 20;

/// A column and how it stands.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Column {
    Text(&'static str),
    Number(&'static str),
}

/// A table that can be sorted and filtered where there is script.
#[derive(Debug)]
pub(crate) struct Table {
    caption: &'static str,
    columns: &'static [Column],
    rows: Markup,
    count: usize,
    left_out: usize,
}

impl Table {
    pub(crate) fn new(caption: &'static str, columns: &'static [Column]) -> Table {
        Table { caption, columns, rows: Markup::default(), count: 0, left_out: 0 }
    }

    /// Adds a row, whose cells are written by `cells`. The first cell is what the row is about.
    pub(crate) fn row(&mut self, cells: impl FnOnce(&mut Cells<'_>)) {
        if self.count == MAX_ROWS || self.rows.len() >= MAX_BYTES {
            self.left_out += 1;
            return;
        }
        self.count += 1;
        self.rows.tags("<tr>");
        cells(&mut Cells { out: &mut self.rows, is_first: true });
        self.rows.tags("</tr>\n");
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Writes it, with what it has left out.
    pub(crate) fn write(&self, out: &mut Markup) {
        out.tags("<div class=\"scroll\" role=\"region\" tabindex=\"0\" aria-label=\"")
            .text(self.caption);
        out.tags("\"><table><caption>").text(self.caption).tags("</caption>\n<thead><tr>");
        for column in self.columns {
            let name = match column {
                Column::Text(name) => {
                    out.tags("<th scope=\"col\">");
                    name
                }
                Column::Number(name) => {
                    out.tags("<th scope=\"col\" class=\"n\">");
                    name
                }
            };
            out.text(name).tags("</th>");
        }
        out.tags("</tr></thead>\n<tbody>\n").append(&self.rows).tags("</tbody></table></div>\n");
        if let Some(more) = more(self.left_out, "rows are left out here.") {
            out.tags("<p class=\"cut\">").text(&more).tags("</p>\n");
        }
    }
}

/// The cells of a row.
#[derive(Debug)]
pub(crate) struct Cells<'a> {
    out: &'a mut Markup,
    is_first: bool,
}

impl Cells<'_> {
    /// A cell; `write` writes what is in it.
    fn cell(&mut self, sorted_by: Option<u64>, write: impl FnOnce(&mut Markup)) -> &mut Self {
        let is_header = std::mem::take(&mut self.is_first);
        self.out.tags(if is_header { "<th scope=\"row\"" } else { "<td" });
        if let Some(number) = sorted_by {
            self.out.tags(" class=\"n\" data-v=\"").number(number).tags("\"");
        }
        self.out.tags(">");
        write(self.out);
        self.out.tags(if is_header { "</th>" } else { "</td>" });
        self
    }

    /// Text of others.
    pub(crate) fn text(&mut self, text: &str) -> &mut Self {
        self.cell(None, |out| {
            out.tags("<bdi>").text(text).tags("</bdi>");
        })
    }

    /// The name of a file.
    pub(crate) fn name(&mut self, name: &[u8]) -> &mut Self {
        self.cell(None, |out| {
            out.tags("<code><bdi>").name(name).tags("</bdi></code>");
        })
    }

    /// Text that is shown as code.
    pub(crate) fn code(&mut self, text: &str) -> &mut Self {
        self.cell(None, |out| {
            out.tags("<code><bdi>").text(text).tags("</bdi></code>");
        })
    }

    /// A word that says how something is, in the colour for it.
    pub(crate) fn verdict(&mut self, word: &'static str) -> &mut Self {
        self.cell(None, |out| {
            out.tags("<span class=\"v-").tags(word).tags("\">").tags(word).tags("</span>");
        })
    }

    /// A number.
    pub(crate) fn number(&mut self, number: u64) -> &mut Self {
        self.cell(Some(number), |out| {
            out.number(number);
        })
    }

    /// A size.
    pub(crate) fn size(&mut self, bytes: u64) -> &mut Self {
        self.cell(Some(bytes), |out| {
            out.text(&size(bytes));
        })
    }

    /// The number of something, which is its name.
    pub(crate) fn ordinal(&mut self, number: u64) -> &mut Self {
        let is_header = std::mem::take(&mut self.is_first);
        self.out.tags(if is_header { "<th scope=\"row\" data-v=\"" } else { "<td data-v=\"" });
        self.out.number(number).tags("\">").number(number);
        self.out.tags(if is_header { "</th>" } else { "</td>" });
        self
    }

    /// A time, in one line.
    pub(crate) fn time(&mut self, time: &str) -> &mut Self {
        self.cell(None, |out| {
            out.tags("<span class=\"time\">").text(time).tags("</span>");
        })
    }

    /// A size, with a bar of what part of `whole` it is.
    pub(crate) fn bar(&mut self, bytes: u64, whole: u64) -> &mut Self {
        self.cell(Some(bytes), |out| {
            out.text(&size(bytes));
            bar(out, bytes, whole);
        })
    }

    /// A cell without anything.
    pub(crate) fn nothing(&mut self) -> &mut Self {
        self.cell(None, |_| ())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_bounded_and_counted() {
        let mut table = Table::new("c", &[Column::Text("a"), Column::Number("b")]);
        for number in 0..1002 {
            table.row(|row| {
                row.text("<x>").size(number);
            });
        }
        let mut out = Markup::default();
        table.write(&mut out);
        let text = out.as_str();
        assert_eq!(text.matches("<tr>").count(), 1001);
        assert!(text.contains("2 more rows are left out here"), "{text}");
        let row = "<tr><th scope=\"row\"><bdi>&lt;x&gt;</bdi></th><td class=\"n\" data-v=\"2\">2 B</td></tr>";
        assert!(text.contains(row), "{text}");
    }
}
