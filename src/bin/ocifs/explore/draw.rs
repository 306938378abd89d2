//! The model, drawn into a buffer of cells. Nothing is changed here, and nothing is read but the model.

mod file;
mod layers;
mod opening;
mod overlay;
mod paint;
mod status;
mod tree;

use ratatui_core::buffer::Buffer;
use ratatui_core::layout::Rect;

use super::look::Look;
use super::state::Model;
use paint::put;

/// Draws everything.
pub(super) fn draw(model: &Model, look: Look, buffer: &mut Buffer) {
    let areas = model.areas();
    status::title(model, look, areas.title, buffer);
    if model.subject.is_none() {
        layers::draw(model, look, areas.layers, areas.details, buffer);
        let room = if areas.tree.is_empty() { areas.body } else { areas.tree };
        opening::draw(model, look, room, buffer);
    } else {
        layers::draw(model, look, areas.layers, areas.details, buffer);
        tree::draw(model, look, areas.tree, buffer);
        match model.is_open() || model.progress.bytes == 0 {
            true => file::draw(model, look, areas.file, buffer),
            false => opening::draw(model, look, areas.file, buffer),
        }
    }
    // Between the layers and the tree.
    if !areas.layers.is_empty() && !areas.tree.is_empty() {
        for y in areas.tree.top()..areas.tree.bottom() {
            put(buffer, Rect::new(areas.tree.x - 1, y, 1, 1), "\u{2502}", look.aside());
        }
    }
    overlay::draw(model, look, areas.body, buffer);
    status::draw(model, look, areas.status, buffer);
}
