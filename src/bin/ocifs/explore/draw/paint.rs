//! Pieces that all panes are drawn with: lines in an area, names of panes, texts that are cut or broken.

use ratatui_core::buffer::Buffer;
use ratatui_core::layout::Rect;
use ratatui_core::style::Style;
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use crate::explore::layout::Pane;
use crate::explore::look::Look;
use crate::explore::state::Model;
use crate::render::table;

/// Writes a text of one line, cut where its area ends; the columns it took.
pub(super) fn put(buffer: &mut Buffer, area: Rect, text: &str, style: Style) -> u16 {
    if area.is_empty() {
        return 0;
    }
    let (end, _) = buffer.set_stringn(area.x, area.y, text, usize::from(area.width), style);
    end.min(area.right()) - area.x
}

/// The area without its first columns.
pub(super) fn behind(area: Rect, columns: u16) -> Rect {
    let columns = columns.min(area.width);
    Rect { x: area.x + columns, width: area.width - columns, ..area }
}

/// A row of an area, counted from its first.
pub(super) fn row(area: Rect, at: usize) -> Rect {
    let at = u16::try_from(at).unwrap_or(u16::MAX).min(area.height);
    Rect { y: area.y + at, height: u16::from(at < area.height), ..area }
}

/// The rows of a pane below its name.
pub(super) fn content(area: Rect) -> Rect {
    let rows = area.height.min(1);
    Rect { y: area.y + rows, height: area.height - rows, ..area }
}

/// The first row of a pane: its name, and what it shows.
pub(super) fn header(
    model: &Model,
    look: Look,
    pane: Pane,
    area: Rect,
    name: &str,
    what: &str,
    buffer: &mut Buffer,
) {
    let line = row(area, 0);
    let is_focused = model.focus == pane && model.overlay.is_none();
    let style = if is_focused { look.focus() } else { look.strong() };
    put(buffer, line, &"\u{2500}".repeat(usize::from(line.width)), look.aside());
    let used = put(buffer, line, &format!(" {name} "), style);
    if !what.is_empty() {
        put(
            buffer,
            behind(line, used),
            &format!(" {} ", cut(what, usize::from(line.width.saturating_sub(used + 2)))),
            look.aside(),
        );
    }
}

/// A text of at most so many columns; what is cut shows as `…`.
pub(super) fn cut(text: &str, columns: usize) -> String {
    table::cut(text, columns)
}

/// A text of at most so many columns, cut at its start.
pub(super) fn cut_start(text: &str, columns: usize) -> String {
    if text.width() <= columns {
        return text.to_owned();
    }
    let mut left = columns.saturating_sub(1);
    let mut start = text.len();
    for (at, c) in text.char_indices().rev() {
        let width = c.width().unwrap_or(0);
        if width > left {
            break;
        }
        left -= width;
        start = at;
    }
    format!("\u{2026}{}", &text[start..])
}

/// A text in lines of at most so many columns, broken at blanks where that is possible, and at most so many lines.
pub(super) fn wrapped(text: &str, columns: usize, lines: usize) -> Vec<String> {
    let (mut done, mut line) = (Vec::new(), String::new());
    for word in text.split(' ') {
        let mut word = word;
        loop {
            let gap = usize::from(!line.is_empty());
            if line.width() + gap + word.width() <= columns {
                if gap > 0 {
                    line.push(' ');
                }
                line.push_str(word);
                break;
            }
            if done.len() + 1 >= lines {
                line.push_str(if gap > 0 { " " } else { "" });
                line.push_str(word);
                done.push(cut(&format!("{line}\u{2026}"), columns));
                return done;
            }
            if gap > 0 {
                done.push(std::mem::take(&mut line));
                continue;
            }
            // A word that is longer than a line.
            let mut left = columns.max(1);
            let fits = word.char_indices().find(|(_, c)| {
                let width = c.width().unwrap_or(0);
                let is_over = width > left;
                left = left.saturating_sub(width);
                is_over
            });
            let end =
                fits.map_or(word.len(), |(at, c)| at.max(if at == 0 { c.len_utf8() } else { 0 }));
            done.push(word[..end].to_owned());
            word = &word[end..];
        }
    }
    if !line.is_empty() {
        done.push(line);
    }
    done
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_cut_and_broken() {
        assert_eq!(cut_start("/usr/lib/x", 6), "\u{2026}lib/x");
        assert_eq!(cut_start("/a", 6), "/a");
        assert_eq!(wrapped("one two three", 7, 5), ["one two", "three"]);
        assert_eq!(wrapped("one two three", 7, 1), ["one tw\u{2026}"]);
        assert_eq!(wrapped("abcdefgh ij", 3, 5), ["abc", "def", "gh", "ij"]);
        assert_eq!(wrapped("\u{65e5}\u{672c}", 1, 5), ["\u{65e5}", "\u{672c}"]);
        assert!(wrapped("", 3, 5).is_empty());
    }
}
