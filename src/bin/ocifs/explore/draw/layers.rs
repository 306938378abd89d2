//! The pane of the layers, and what is known of the selected one.

use ocifs::tree::{Change, Changes};
use ratatui_core::buffer::Buffer;
use ratatui_core::layout::Rect;
use ratatui_core::style::Style;

use super::paint::{behind, content, cut, header, put, row, wrapped};
use crate::explore::layout::Pane;
use crate::explore::look::{Look, sign};
use crate::explore::state::Model;
use crate::explore::subject::{LayerRow, Of};
use crate::render::text::size;

/// Columns of the number of a layer, of its size, and of its changes.
const NUMBER: usize = 3;
const SIZE: usize = 8;
const CHANGES: usize = 18;

pub(super) fn draw(model: &Model, look: Look, area: Rect, details: Rect, buffer: &mut Buffer) {
    if area.is_empty() {
        return;
    }
    header(model, look, Pane::Layers, area, "Layers", "", buffer);
    let rows = content(area);
    let shown = model.layers.iter().enumerate().skip(model.layer.top);
    for (line, (at, layer)) in shown.take(usize::from(rows.height)).enumerate() {
        let line = row(rows, line);
        draw_row(layer, look, line, buffer);
        if at == model.layer.at {
            let is_focused = model.focus == Pane::Layers;
            let style = if is_focused { look.selected() } else { look.selected_aside() };
            buffer.set_style(line, style);
        }
    }
    draw_details(model, look, details, buffer);
}

fn draw_row(layer: &LayerRow, look: Look, line: Rect, buffer: &mut Buffer) {
    let (mark, style) = match layer.of {
        Of::One => (' ', look.plain()),
        Of::Both => ('=', look.plain()),
        Of::New => ('+', look.change(Some(Change::Added))),
        Of::Old => ('-', look.change(Some(Change::Removed))),
    };
    let head = format!("{mark}{:>NUMBER$} {:>SIZE$} ", layer.number, size(layer.size));
    let mut used = put(buffer, line, &head, style);
    // On a narrow screen the instruction counts more.
    if layer.of == Of::One
        && line.width >= 45
        && let Some(changes) = layer.changes
    {
        used += put_changes(changes, look, behind(line, used), buffer);
    }
    put(buffer, behind(line, used), &layer.instruction, style);
}

/// `+4112 ~12 -3`, each in its colour, in so many columns.
fn put_changes(changes: Changes, look: Look, area: Rect, buffer: &mut Buffer) -> u16 {
    let mut used = 0;
    for (style, text) in signed(changes, look) {
        let text = format!("{text} ");
        used += put(buffer, behind(area, used), &text, style);
    }
    used.max(u16::try_from(CHANGES).unwrap_or(u16::MAX).min(area.width))
}

fn signed(changes: Changes, look: Look) -> Vec<(Style, String)> {
    let Changes { added, changed, removed } = changes;
    let all = [(Change::Added, added), (Change::Changed, changed), (Change::Removed, removed)];
    let some = all.into_iter().filter(|(_, count)| *count > 0);
    some.map(|(change, count)| {
        (look.change(Some(change)), format!("{}{}", sign(Some(change)), short(count)))
    })
    .collect()
}

/// A number of at most four digits and a unit.
fn short(count: u64) -> String {
    match count {
        ..10_000 => count.to_string(),
        10_000..10_000_000 => format!("{}k", count / 1000),
        _ => format!("{}M", count / 1_000_000),
    }
}

fn draw_details(model: &Model, look: Look, area: Rect, buffer: &mut Buffer) {
    let Some(layer) = model.layers.get(model.layer.at).filter(|_| !area.is_empty()) else { return };
    let rule = "\u{2500}".repeat(usize::from(area.width));
    put(buffer, row(area, 0), &rule, look.aside());
    let rows = content(area);
    let columns = usize::from(rows.width);
    // The digest and what was changed have a line each.
    let lines =
        wrapped(&layer.instruction, columns, usize::from(rows.height).saturating_sub(3).max(1));
    for (at, line) in lines.iter().enumerate() {
        put(buffer, row(rows, at), line, look.plain());
    }
    let mut at = lines.len();
    if let Some(changes) = layer.changes {
        let mut used = 0;
        for (style, text) in signed(changes, look) {
            used += put(buffer, behind(row(rows, at), used), &format!("{text} "), style);
        }
        at += usize::from(used > 0);
    }
    for (name, text) in &layer.words {
        let line = row(rows, at);
        let used = put(buffer, line, &format!("{name} "), look.aside());
        put(
            buffer,
            behind(line, used),
            &cut(text, columns.saturating_sub(usize::from(used))),
            look.plain(),
        );
        at += 1;
    }
}
