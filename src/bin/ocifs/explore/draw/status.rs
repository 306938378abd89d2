//! The first line and the last: what is explored, and what can be done or has happened.

use ocifs::index::Proof;
use ratatui_core::buffer::Buffer;
use ratatui_core::layout::Rect;
use unicode_width::UnicodeWidthStr;

use super::paint::{behind, cut_start, put};
use crate::explore::layout::Pane;
use crate::explore::look::Look;
use crate::explore::state::{Model, Overlay};
use crate::explore::subject::Subject;
use crate::render::text::{self, count, printable, size};

pub(super) fn title(model: &Model, look: Look, area: Rect, buffer: &mut Buffer) {
    let (name, facts) = match model.subject.as_deref() {
        Some(Subject::Image(stack)) => {
            (stack.resolved().name.clone(), facts(model) + &proof(&stack.proofs()))
        }
        Some(Subject::Pair(pair)) => {
            let names = [&pair.old, &pair.new].map(|image| image.resolved().name.clone());
            let facts = count(pair.differences, "path differs", "paths differ");
            let proofs = [pair.old.proofs(), pair.new.proofs()].concat();
            (names.join(" -> "), facts + &proof(&proofs))
        }
        None => (model.words.join(" "), String::new()),
    };
    let name = format!(" {}", printable(&name));
    let used = put(buffer, area, &name, look.strong());
    let rest = behind(area, used);
    if facts.width() + 2 <= usize::from(rest.width) {
        put(buffer, rest, &format!("  {facts}"), look.aside());
    }
}

/// What was checked of the layer of which least was, if that is not all.
fn proof(proofs: &[Proof]) -> String {
    let weakest = proofs.iter().min().filter(|proof| **proof < Proof::Full);
    weakest.map_or(String::new(), |proof| format!(", proof {}", proof.name()))
}

/// What there is of the image in all.
fn facts(model: &Model) -> String {
    let bytes = model.layers.iter().map(|layer| layer.size).fold(0, u64::saturating_add);
    let layers = count(model.layers.len(), "layer", "layers");
    let mut text = format!("{layers}, {}", size(bytes));
    if let Some(wasted) = model.wasted.as_ref().filter(|wasted| wasted.bytes > 0) {
        let share = wasted.bytes as f64 * 100.0 / wasted.of_bytes.max(1) as f64;
        text.push_str(&format!(", {} wasted ({share:.1} %)", size(wasted.bytes)));
    }
    text
}

pub(super) fn draw(model: &Model, look: Look, area: Rect, buffer: &mut Buffer) {
    if let Some(prompt) = &model.prompt {
        let used = put(buffer, area, prompt.label(), look.strong());
        let rest = behind(area, used);
        // The end of the line is what is being written.
        let text = cut_start(&printable(&prompt.text), usize::from(rest.width).saturating_sub(1));
        let used = put(buffer, rest, &text, look.plain());
        put(buffer, behind(rest, used), " ", look.selected());
        return;
    }
    if let Some(message) = &model.message {
        let style = if message.is_error { look.error() } else { look.plain() };
        put(buffer, area, &printable(&message.text), style);
        return;
    }
    let place = place(model);
    let room = usize::from(area.width).saturating_sub(place.width() + 1);
    put(
        buffer,
        Rect { width: u16::try_from(room).unwrap_or(area.width), ..area },
        hints(model),
        look.aside(),
    );
    put(
        buffer,
        behind(area, area.width.saturating_sub(u16::try_from(place.width()).unwrap_or(0))),
        &place,
        look.aside(),
    );
}

/// The keys that are wanted most.
fn hints(model: &Model) -> &'static str {
    match (&model.overlay, model.focus) {
        (Some(Overlay::Help { .. }), _) => "Up Down scroll  Esc closes it",
        (Some(_), _) => "Enter goes there  Esc closes it",
        (None, _) if model.subject.is_none() => "q quits",
        (None, Pane::Layers) => "? keys  Tab panes  Up Down layers  o alone  w wasted  q quit",
        (None, Pane::Tree) => "? keys  Tab panes  Space open  / find  [ ] layer  o alone  q quit",
        (None, Pane::File) => {
            "? keys  Tab panes  p i v content, attributes, versions  x bytes  q quit"
        }
    }
}

/// Where one is in the pane that has the keys.
fn place(model: &Model) -> String {
    let of = |at: usize, length: usize| match length {
        0 => String::new(),
        _ => format!("{} of {length}", (at + 1).min(length)),
    };
    match model.focus {
        _ if model.subject.is_none() || model.overlay.is_some() => String::new(),
        Pane::Layers => of(model.layer.at, model.layers.len()),
        Pane::Tree => of(model.tree.cursor.at, model.tree.rows.len()),
        Pane::File => {
            let file = &model.file;
            let width = model.areas().file.width;
            match file.shows_document().then(|| file.document.left()) {
                // Only a part of it is here.
                Some((before, behind)) if before + behind > 0 => {
                    let place = file.document.offset_of(file.top, file.as_bytes(width));
                    let size = file.document.end() + behind;
                    format!("{} % of {}", place.saturating_mul(100) / size.max(1), text::size(size))
                }
                _ => of(file.top, file.len(width)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn less_than_a_full_proof_is_told() {
        assert_eq!(proof(&[]), "");
        assert_eq!(proof(&[Proof::Full]), "");
        assert_eq!(proof(&[Proof::Full, Proof::Toc]), ", proof toc");
    }
}
