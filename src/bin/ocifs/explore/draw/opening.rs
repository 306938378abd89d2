//! What is shown until the images are open.

use ratatui_core::buffer::Buffer;
use ratatui_core::layout::Rect;

use super::paint::{content, put, row};
use crate::explore::look::Look;
use crate::explore::state::{Model, Progress};
use crate::render::text::{count, size};

/// The widest bar.
const MOST_COLUMNS: usize = 50;

pub(super) fn draw(model: &Model, look: Look, area: Rect, buffer: &mut Buffer) {
    let rows = content(area);
    for (at, line) in lines(model.progress, usize::from(rows.width)).iter().enumerate() {
        put(buffer, row(rows, at + 1), line, if at == 0 { look.strong() } else { look.plain() });
    }
}

fn lines(progress: Progress, columns: usize) -> Vec<String> {
    let Progress { layers, layers_done, bytes, bytes_done, seconds } = progress;
    if bytes == 0 {
        return vec!["opening\u{2026}".to_owned()];
    }
    let layers = count(layers, "layer", "layers");
    let share = (bytes_done as f64 / bytes as f64).min(1.0);
    let width = columns.saturating_sub(8).min(MOST_COLUMNS);
    let full = (share * width as f64) as usize;
    let bar = "\u{2501}".repeat(full) + &"\u{2500}".repeat(width - full);
    let rate =
        bytes_done.checked_div(seconds).map_or(String::new(), |rate| format!(", {}/s", size(rate)));
    vec![
        "first use here: each layer is read once".to_owned(),
        format!("{bar} {:>3.0} %", share * 100.0),
        format!("{} of {}, {layers_done} of {layers}{rate}", size(bytes_done), size(bytes)),
        String::new(),
        "q ends it; what was read is kept".to_owned(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_is_told() {
        let progress =
            Progress { layers: 3, layers_done: 1, bytes: 4096, bytes_done: 1024, seconds: 2 };
        let lines = lines(progress, 28);
        assert_eq!(lines[1], format!("{}{}  25 %", "\u{2501}".repeat(5), "\u{2500}".repeat(15)));
        assert_eq!(lines[2], "1.00 KiB of 4.00 KiB, 1 of 3 layers, 512 B/s");
    }
}
