//! The pane of the selected file.

use ratatui_core::buffer::Buffer;
use ratatui_core::layout::Rect;

use super::paint::{behind, content, cut_start, header, put, row, wrapped};
use crate::explore::layout::Pane;
use crate::explore::look::Look;
use crate::explore::preview::{Line, Tone};
use crate::explore::state::{Model, Reading, Tab};
use crate::render::listing::for_terminal;
use ocifs::tree::Change;

pub(super) fn draw(model: &Model, look: Look, area: Rect, buffer: &mut Buffer) {
    if area.is_empty() {
        return;
    }
    let file = &model.file;
    let tab = match file.tab {
        Tab::Preview => "content",
        Tab::Attributes => "attributes",
        Tab::Versions => "versions",
    };
    let room = usize::from(area.width).saturating_sub(tab.len() + 14);
    let path = match file.place {
        Some(_) => cut_start(&format!("/{}", for_terminal(&file.path)), room),
        None => String::new(),
    };
    header(model, look, Pane::File, area, "File", &format!("{tab}  {path}"), buffer);
    let rows = content(area);
    if file.shows_document() {
        let note = match &file.reading {
            Reading::Wanted | Reading::Asked(_) if file.document.len(None) == 0 => {
                Some(("reading\u{2026}".to_owned(), look.aside()))
            }
            Reading::Read if file.len(rows.width) == 0 => Some(("empty".to_owned(), look.aside())),
            Reading::Failed(text) => Some((text.clone(), look.error())),
            _ => None,
        };
        if let Some((text, style)) = note {
            let lines = wrapped(&text, usize::from(rows.width), usize::from(rows.height));
            for (at, line) in lines.iter().enumerate() {
                put(buffer, row(rows, at), line, style);
            }
            return;
        }
    }
    let lines = file.top..file.len(rows.width);
    for (at, number) in lines.take(usize::from(rows.height)).enumerate() {
        let line = row(rows, at);
        draw_line(&file.line(number, rows.width), file.left, look, line, buffer);
        if file.mark == Some(number) {
            buffer.set_style(line, look.match_found());
        }
    }
}

fn draw_line(line: &Line, left: usize, look: Look, area: Rect, buffer: &mut Buffer) {
    let style = match line.tone {
        Tone::Plain => look.plain(),
        Tone::Aside => look.aside(),
        Tone::Strong => look.strong(),
        Tone::Added => look.change(Some(Change::Added)),
        Tone::Removed => look.change(Some(Change::Removed)),
    };
    let used = put(buffer, area, &line.margin, look.aside());
    let start = line.text.char_indices().nth(left).map_or(line.text.len(), |(at, _)| at);
    put(buffer, behind(area, used), &line.text[start..], style);
}
