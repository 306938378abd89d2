//! Where the panes are, on a screen of any size.
//!
//! Where there is room, layers are left, the tree is right, and the file below. On a narrow or low screen only the pane
//! that has the keys is shown, in all the room there is.

use ratatui_core::layout::Rect;

/// Screens that are narrower show one pane, screens that are lower no file beside the tree.
const LEAST_COLUMNS: u16 = 70;
const LEAST_ROWS: u16 = 18;

/// How wide the layers are at most.
const MOST_LAYERS: u16 = 60;

/// Rows of the layers' pane that tell of the selected one.
const DETAIL_ROWS: u16 = 6;

/// A part of the screen that keys go to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pane {
    Layers,
    Tree,
    File,
}

impl Pane {
    const ALL: [Pane; 3] = [Pane::Layers, Pane::Tree, Pane::File];

    /// The one so many after it.
    pub(super) fn after(self, steps: usize) -> Pane {
        Pane::ALL[(self as usize + steps) % Pane::ALL.len()]
    }
}

/// The parts of a screen. A pane has its name in its first row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Areas {
    pub(super) title: Rect,
    pub(super) layers: Rect,
    /// Tells of the selected layer.
    pub(super) details: Rect,
    pub(super) tree: Rect,
    pub(super) file: Rect,
    pub(super) status: Rect,
    /// All between title and status.
    pub(super) body: Rect,
}

impl Areas {
    /// The parts of a screen of this size.
    pub(super) fn of((columns, rows): (u16, u16), focus: Pane) -> Areas {
        let row = |y: u16, rows: u16| Rect::new(0, y, columns, rows);
        let body_rows = rows.saturating_sub(2);
        let body = row(1.min(rows), body_rows);
        let (title, status) =
            (row(0, 1.min(rows)), row(rows.saturating_sub(1), u16::from(rows > 1)));
        let areas = Areas { title, status, body, ..Areas::default() };
        if columns < LEAST_COLUMNS {
            return areas.with_one(focus);
        }
        let has_file = rows >= LEAST_ROWS;
        if !has_file && focus == Pane::File {
            return areas.with_one(focus);
        }
        let file_rows = if has_file { (body_rows * 2 / 5).max(6) } else { 0 };
        let upper_rows = body_rows - file_rows;
        let left = (columns * 2 / 5).min(MOST_LAYERS);
        let upper = Rect::new(0, body.y, left, upper_rows);
        let (layers, details) = with_details(upper);
        Areas {
            layers,
            details,
            // A column stands between the two.
            tree: Rect::new(left + 1, body.y, columns - left - 1, upper_rows),
            file: row(body.y + upper_rows, file_rows),
            ..areas
        }
    }

    fn with_one(self, focus: Pane) -> Areas {
        let body = self.body;
        match focus {
            Pane::Layers => {
                let (layers, details) = with_details(body);
                Areas { layers, details, ..self }
            }
            Pane::Tree => Areas { tree: body, ..self },
            Pane::File => Areas { file: body, ..self },
        }
    }

    /// The area of a pane.
    pub(super) fn pane(&self, pane: Pane) -> Rect {
        match pane {
            Pane::Layers => self.layers,
            Pane::Tree => self.tree,
            Pane::File => self.file,
        }
    }

    /// The pane at a cell, and the row of its content there.
    pub(super) fn at(&self, x: u16, y: u16) -> Option<(Pane, Option<usize>)> {
        let pane = Pane::ALL.into_iter().find(|pane| self.pane(*pane).contains((x, y).into()))?;
        let row = usize::from(y - self.pane(pane).y);
        Some((pane, row.checked_sub(1)))
    }
}

/// Rows of content of a pane.
pub(super) fn content_rows(pane: Rect) -> usize {
    usize::from(pane.height.saturating_sub(1))
}

fn with_details(area: Rect) -> (Rect, Rect) {
    let rows =
        if area.height >= 3 * DETAIL_ROWS / 2 { DETAIL_ROWS.min(area.height / 2) } else { 0 };
    let layers = Rect { height: area.height - rows, ..area };
    (layers, Rect { y: area.y + layers.height, height: rows, ..area })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Parts lie within the screen and do not overlap, and the pane with the keys has rows, on every size.
    #[test]
    fn parts_fit_every_screen() {
        for columns in [1, 2, 20, 39, 40, 69, 70, 80, 132, 300, 1000] {
            for rows in [1, 2, 3, 5, 12, 17, 18, 24, 50, 200] {
                for focus in Pane::ALL {
                    let a = Areas::of((columns, rows), focus);
                    let screen = Rect::new(0, 0, columns, rows);
                    let parts = [a.title, a.layers, a.details, a.tree, a.file, a.status];
                    let parts: Vec<Rect> =
                        parts.into_iter().filter(|part| !part.is_empty()).collect();
                    for (at, part) in parts.iter().enumerate() {
                        assert_eq!(part.intersection(screen), *part, "{columns}x{rows} {a:?}");
                        for other in &parts[at + 1..] {
                            assert!(!part.intersects(*other), "{columns}x{rows} {a:?}");
                        }
                    }
                    assert!(rows < 4 || content_rows(a.pane(focus)) > 0, "{columns}x{rows} {a:?}");
                }
            }
        }
    }

    #[test]
    fn cells_lead_to_panes() {
        let a = Areas::of((80, 24), Pane::Tree);
        assert_eq!(a.at(0, 0), None);
        assert_eq!(a.at(0, 1), Some((Pane::Layers, None)));
        assert_eq!(a.at(79, 2), Some((Pane::Tree, Some(0))));
        assert_eq!(a.at(79, 22), Some((Pane::File, Some(content_rows(a.file) - 1))));
        assert_eq!(Areas::of((40, 12), Pane::File).at(5, 5), Some((Pane::File, Some(3))));
        assert_eq!((Pane::File.after(1), Pane::Layers.after(2)), (Pane::Layers, Pane::File));
    }
}
