//! The pane of the tree: a row for each name, with what became of it.

use ocifs::tree::{FileKind, Places};
use ratatui_core::buffer::Buffer;
use ratatui_core::layout::Rect;

use super::paint::{behind, content, header, put, row};
use crate::explore::layout::Pane;
use crate::explore::listing::{Row, Sort};
use crate::explore::look::{Look, sign};
use crate::explore::state::Model;
use crate::explore::subject::View;
use crate::explore::work::{Filter, Keep};
use crate::render::listing::{for_terminal, mode_text};
use crate::render::text::{count, size};

pub(super) fn draw(model: &Model, look: Look, area: Rect, buffer: &mut Buffer) {
    let Some(view) = model.view().filter(|_| !area.is_empty()) else { return };
    header(model, look, Pane::Tree, area, "Tree", &what(model, &view), buffer);
    let rows = content(area);
    // What a layer has done is known with all that lie below it.
    let columns =
        Columns { has_owners: model.shows_columns(), is_certain: view.unknown_layers() == 0 };
    let pane = &model.tree;
    if pane.rows.is_empty() {
        let is_waiting =
            pane.is_listing() || pane.shape.kept.as_ref().is_some_and(|kept| kept.is_empty());
        let text = if is_waiting { "looking\u{2026}" } else { "nothing" };
        put(buffer, row(rows, 0), text, look.aside());
    }
    view.with(|places| {
        let shown = pane.rows.iter().enumerate().skip(pane.cursor.top);
        for (line, (at, tree_row)) in shown.take(usize::from(rows.height)).enumerate() {
            let line = row(rows, line);
            draw_row(model, look, places, *tree_row, columns, line, buffer);
            if at == pane.cursor.at {
                let is_focused = model.focus == Pane::Tree;
                let style = if is_focused { look.selected() } else { look.selected_aside() };
                buffer.set_style(line, style);
            }
        }
    });
}

/// What is shown of each name.
#[derive(Clone, Copy)]
struct Columns {
    /// Modes and owners.
    has_owners: bool,
    /// What the layer has done to it.
    is_certain: bool,
}

fn draw_row(
    model: &Model,
    look: Look,
    places: &dyn Places,
    tree_row: Row,
    Columns { has_owners, is_certain }: Columns,
    line: Rect,
    buffer: &mut Buffer,
) {
    let Row { place, depth, is_dir, is_open } = tree_row;
    let mut facts = places.facts(place);
    if !is_certain {
        facts.change = None;
    }
    let marked = look.change(facts.change);
    let mut used = put(buffer, line, &format!("{} ", sign(facts.change)), marked);
    if has_owners {
        let owner = format!("{}:{}", facts.uid, facts.gid);
        let text = format!("{} {owner:>9} ", mode_text(facts.kind, facts.mode));
        used += put(buffer, behind(line, used), &text, look.aside());
    }
    let bytes = match facts.kind {
        FileKind::Regular | FileKind::Directory => {
            model.tree.shape.size(places, place, is_dir).map(size)
        }
        _ => None,
    };
    let text = format!("{:>8} ", bytes.unwrap_or_default());
    used += put(buffer, behind(line, used), &text, look.plain());
    // However deep it is, its name has room.
    let indent = usize::from(depth) * 2;
    let indent = indent.min(usize::from(line.width) / 3);
    let mark = match (is_dir, is_open) {
        (false, _) => "  ",
        (true, false) => "\u{25b8} ",
        (true, true) => "\u{25be} ",
    };
    used += put(buffer, behind(line, used), &format!("{}{mark}", " ".repeat(indent)), look.plain());
    let style = match (facts.change, facts.kind) {
        (Some(_), _) => marked,
        (None, FileKind::Directory) => look.directory(),
        (None, FileKind::Symlink) => look.link(),
        _ => look.plain(),
    };
    let mut name = for_terminal(places.name(place));
    if is_dir {
        name.push('/');
    }
    used += put(buffer, behind(line, used), &name, style);
    if let Some(target) = places.target(place) {
        // Only as much of it as there is room for is turned into text.
        let target = &target[..target.len().min(4 * usize::from(line.width))];
        let text = format!(" -> {}", for_terminal(target));
        put(buffer, behind(line, used), &text, look.aside());
    }
}

/// What the tree is of, and how it is shown.
fn what(model: &Model, view: &View) -> String {
    let mut parts = Vec::new();
    let layer = view.layer;
    let Keep { alone, filter } = model.keep;
    match (model.subject.as_ref().is_some_and(|subject| subject.layers() > 0), alone) {
        (true, true) => parts.push(format!("layer {layer} alone")),
        (true, false) => parts.push(format!("layers 0 to {layer}")),
        (false, true) => parts.push("what differs".to_owned()),
        (false, false) => parts.push("both images".to_owned()),
    }
    parts.extend(filter.map(|filter| {
        match filter {
            Filter::Changed => "only changed",
            Filter::Removed => "only removed",
            Filter::Large => "only large",
            Filter::Setuid => "only setuid",
        }
        .to_owned()
    }));
    if model.tree.shape.sort == Sort::Size {
        parts.push("by size".to_owned());
    }
    match view.unknown_layers() {
        _ if model.is_open() => {}
        0 => parts.push("reading\u{2026}".to_owned()),
        layers => parts.push(format!("{} missing", count(layers, "layer", "layers"))),
    }
    parts.join(", ")
}
