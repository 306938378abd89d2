//! A rectangle divided into others whose areas are in given proportions, each as close to a square as can be.
//!
//! Bruls, Huizing and van Wijk, "Squarified treemaps" (2000): rectangles are laid in rows along the shorter side, and
//! a row ends where one more would make its worst rectangle longer.

/// A place in a picture.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Rect {
    pub(super) x: f64,
    pub(super) y: f64,
    pub(super) width: f64,
    pub(super) height: f64,
}

impl Rect {
    pub(super) fn area(&self) -> f64 {
        self.width * self.height
    }
}

/// Divides `within`; `sizes` are above 0 and the largest comes first. One rectangle for each, in their order.
pub(super) fn squarify(sizes: &[f64], within: Rect) -> Vec<Rect> {
    let total: f64 = sizes.iter().sum();
    let mut placed = Vec::with_capacity(sizes.len());
    if total <= 0.0 || within.area() <= 0.0 {
        return placed;
    }
    let scale = within.area() / total;
    let (mut left, mut at) = (within, 0);
    while at < sizes.len() {
        let side = left.width.min(left.height);
        let (mut end, mut sum) = (at + 1, sizes[at] * scale);
        let mut worst = longest(sizes[at] * scale, sizes[at] * scale, sum, side);
        while end < sizes.len() {
            let next = sum + sizes[end] * scale;
            let with_it = longest(sizes[at] * scale, sizes[end] * scale, next, side);
            if with_it > worst {
                break;
            }
            (sum, worst, end) = (next, with_it, end + 1);
        }
        let is_last = end == sizes.len();
        left = lay(&sizes[at..end], scale, sum, left, is_last, &mut placed);
        at = end;
    }
    placed
}

/// How long the worst rectangle of a row is, by its largest and smallest area.
fn longest(largest: f64, smallest: f64, sum: f64, side: f64) -> f64 {
    let (side, sum) = (side * side, sum * sum);
    (side * largest / sum).max(sum / (side * smallest))
}

/// Lays a row along the shorter side; what is left. The last row takes all of it, whatever rounding has left.
fn lay(
    sizes: &[f64],
    scale: f64,
    sum: f64,
    left: Rect,
    is_last: bool,
    placed: &mut Vec<Rect>,
) -> Rect {
    let is_column = left.width >= left.height;
    let (side, across) =
        if is_column { (left.height, left.width) } else { (left.width, left.height) };
    let thickness = if is_last { across } else { (sum / side).min(across) };
    let mut along = 0.0;
    for (at, size) in sizes.iter().enumerate() {
        let length = match at + 1 == sizes.len() {
            true => side - along,
            false => (side * size * scale / sum).min(side - along),
        };
        placed.push(match is_column {
            true => Rect { x: left.x, y: left.y + along, width: thickness, height: length },
            false => Rect { x: left.x + along, y: left.y, width: length, height: thickness },
        });
        along += length;
    }
    match is_column {
        true => Rect { x: left.x + thickness, width: left.width - thickness, ..left },
        false => Rect { y: left.y + thickness, height: left.height - thickness, ..left },
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn areas_sum_up_and_do_not_overlap(
            mut sizes in prop::collection::vec(1u64..1_000_000, 1..60),
            width in 10.0..1000.0f64,
            height in 10.0..1000.0f64,
        ) {
            sizes.sort_unstable_by(|a, b| b.cmp(a));
            let sizes: Vec<f64> = sizes.into_iter().map(|size| size as f64).collect();
            let within = Rect { x: 3.0, y: 5.0, width, height };
            let placed = squarify(&sizes, within);
            prop_assert_eq!(placed.len(), sizes.len());
            let total: f64 = sizes.iter().sum();
            let near = 1e-6 * within.area();
            for (rect, size) in placed.iter().zip(&sizes) {
                let expected = within.area() * size / total;
                prop_assert!((rect.area() - expected).abs() < near, "{:?} {}", rect, expected);
                prop_assert!(rect.x >= 3.0 - 1e-6 && rect.x + rect.width <= 3.0 + width + 1e-6);
                prop_assert!(rect.y >= 5.0 - 1e-6 && rect.y + rect.height <= 5.0 + height + 1e-6);
            }
            let sum: f64 = placed.iter().map(Rect::area).sum();
            prop_assert!((sum - within.area()).abs() < near);
            for (at, a) in placed.iter().enumerate() {
                for b in &placed[at + 1..] {
                    let across = (a.x + a.width).min(b.x + b.width) - a.x.max(b.x);
                    let along = (a.y + a.height).min(b.y + b.height) - a.y.max(b.y);
                    let overlap = across.max(0.0) * along.max(0.0);
                    prop_assert!(overlap < near, "{:?} {:?}", a, b);
                }
            }
        }
    }

    #[test]
    fn nothing_is_divided_into_nothing() {
        let none = Rect { x: 0.0, y: 0.0, width: 0.0, height: 5.0 };
        assert!(
            squarify(&[1.0], none).is_empty()
                && squarify(&[], Rect { width: 1.0, ..none }).is_empty()
        );
    }
}
