//! What lies over the panes: the keys, files that are for nothing, and what a search has found.

use ratatui_core::buffer::Buffer;
use ratatui_core::layout::Rect;

use super::paint::{behind, content, cut, cut_start, put, row};
use crate::explore::action::GROUPS;
use crate::explore::look::Look;
use crate::explore::state::{Cursor, Model, Overlay};
use crate::render::listing::for_terminal;
use crate::render::text::{count, size};

/// Columns of keys in the help.
const KEYS: usize = 16;

pub(super) fn draw(model: &Model, look: Look, area: Rect, buffer: &mut Buffer) {
    let Some(overlay) = &model.overlay else { return };
    for y in area.top()..area.bottom() {
        for x in area.left()..area.right() {
            buffer[(x, y)].reset();
        }
    }
    let (title, lines, cursor) = match overlay {
        Overlay::Help { top } => {
            for (at, (text, is_name)) in help().iter().skip(*top).enumerate() {
                let style = if *is_name { look.strong() } else { look.plain() };
                put(buffer, row(area, at), text, style);
            }
            return;
        }
        Overlay::Wasted { cursor } => (wasted_title(model), wasted_lines(model, area), cursor),
        Overlay::Hits { cursor } => (hits_title(model), hit_lines(model, *cursor, area), cursor),
    };
    put(buffer, row(area, 0), &cut(&title, usize::from(area.width)), look.strong());
    let rows = content(area);
    let shown = lines.iter().enumerate().skip(cursor.top).take(usize::from(rows.height));
    for (line, (at, (head, text))) in shown.enumerate() {
        let line = row(rows, line);
        let used = put(buffer, line, head, look.aside());
        put(buffer, behind(line, used), text, look.plain());
        if at == cursor.at {
            buffer.set_style(line, look.selected());
        }
    }
}

/// The lines of the help, and which of them are names of groups.
pub(in crate::explore) fn help() -> Vec<(String, bool)> {
    let mut lines = Vec::new();
    for group in GROUPS {
        lines.push((group.name.to_owned(), true));
        for binding in group.bindings {
            let keys: Vec<String> = binding.keys.iter().map(ToString::to_string).collect();
            lines.push((format!("  {:<KEYS$} {}", keys.join(" "), binding.text), false));
        }
        lines.push((String::new(), false));
    }
    lines
}

fn wasted_title(model: &Model) -> String {
    match &model.wasted {
        None => "Wasted: counting\u{2026}".to_owned(),
        Some(wasted) => {
            let files = usize::try_from(wasted.files).unwrap_or(usize::MAX);
            let files = count(files, "file", "files");
            format!(
                "Wasted: {} in {files} that are in no tree, the largest first",
                size(wasted.bytes)
            )
        }
    }
}

fn wasted_lines(model: &Model, area: Rect) -> Vec<(String, String)> {
    let Some(wasted) = &model.wasted else { return Vec::new() };
    let row = |file: &ocifs::image::WastedFile| {
        let head = format!(
            "{:>8}  layer {:>2}, gone in {:>2}  ",
            size(file.bytes),
            file.layer,
            file.hidden_by
        );
        let room = usize::from(area.width).saturating_sub(head.len());
        let path = cut_start(&format!("/{}", for_terminal(&file.path)), room);
        (head, path)
    };
    wasted.largest.iter().map(row).collect()
}

fn hits_title(model: &Model) -> String {
    let search = &model.search;
    let done = search.searched;
    let hits = count(search.hits.len(), "line", "lines");
    let state = match (done.is_over, search.is_stopped) {
        (true, _) => format!("in {} files, {}", done.files, size(done.bytes)),
        (false, true) => format!("stopped after {} of {} files", done.files, done.of_files),
        (false, false) => format!(
            "{} of {} files, {} of {}, Esc stops it",
            done.files,
            done.of_files,
            size(done.bytes),
            size(done.of_bytes)
        ),
    };
    let failed = match done.failed {
        0 => String::new(),
        failed => format!(", {failed} could not be read"),
    };
    format!(
        "{hits} with \u{201c}{}\u{201d}: {state}{failed}",
        crate::render::text::printable(&search.needle)
    )
}

fn hit_lines(model: &Model, cursor: Cursor, area: Rect) -> Vec<(String, String)> {
    let rows = usize::from(area.height);
    let hits = model.search.hits.iter().enumerate();
    // Only those in sight become text.
    hits.map(|(at, hit)| match (cursor.top..cursor.top + rows).contains(&at) {
        true => {
            let room = usize::from(area.width) / 2;
            let path = cut_start(&format!("/{}", for_terminal(&hit.path)), room);
            (format!("{path}:{} ", hit.line), hit.text.clone())
        }
        false => (String::new(), String::new()),
    })
    .collect()
}
