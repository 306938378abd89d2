//! Sizes as a picture: a rectangle for each directory, in it those of what it holds.
//!
//! The largest rectangles are divided first, until there are as many as a picture can have. What is too small to be
//! seen is one rectangle for all of it, so that the area of a directory is always that of its bytes.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use unicode_width::UnicodeWidthStr;

use super::Markup;
use super::node::Node;
use super::squarify::{Rect, squarify};
use crate::render::table::cut;
use crate::render::text::size;

/// Size of the picture; it is shown as wide as there is room.
const WIDTH: f64 = 960.0;
const HEIGHT: f64 = 440.0;

/// Rectangles of a picture.
const MAX_RECTS: usize = 600;

/// Of them, those that are not within another.
const MAX_TOP: usize = 400;

/// The area of the smallest rectangle that is worth one.
const LEAST_AREA: f64 = 36.0;

/// The strip with the name of a directory above what it holds.
const HEAD: f64 = 17.0;

/// Around what a directory holds.
const GAP: f64 = 2.0;

/// The smallest sides of a rectangle that is divided.
const LEAST_SIDE: f64 = 12.0;

/// The width of a letter of a label, and what is left free beside it.
const LETTER: f64 = 6.7;
const BESIDE: f64 = 8.0;

/// A picture of a node.
#[derive(Debug)]
pub(crate) struct Treemap<'a> {
    title: &'static str,
    root: &'a Node,
}

/// A rectangle that is to be divided; the largest first.
struct ToDivide<'a> {
    node: &'a Node,
    rect: Rect,
}

impl<'a> Treemap<'a> {
    pub(crate) fn new(title: &'static str, root: &'a Node) -> Treemap<'a> {
        Treemap { title, root }
    }

    /// Writes it. Screen readers are told the title: the table beside has the numbers.
    pub(crate) fn write(&self, out: &mut Markup) {
        if self.root.bytes == 0 {
            return;
        }
        out.tags("<div class=\"scroll\" role=\"region\" tabindex=\"0\" aria-label=\"")
            .text(self.title);
        out.tags("\"><svg class=\"treemap\" viewBox=\"0 0 ").length(WIDTH).tags(" ").length(HEIGHT);
        out.tags("\" role=\"img\" aria-label=\"").text(self.title).tags("\">\n");
        for (rect, node, is_divided) in self.rects() {
            write_rect(out, &rect, node, is_divided, self.root.bytes);
        }
        out.tags("</svg></div>\n");
    }

    /// All rectangles, each before those in it; without a node where it stands for what is too small.
    fn rects(&self) -> Vec<(Rect, Option<&'a Node>, bool)> {
        let whole = Rect { x: 0.0, y: 0.0, width: WIDTH, height: HEIGHT };
        let mut rects: Vec<(Rect, Option<&Node>, bool)> = Vec::new();
        let mut heap = BinaryHeap::from([ToDivide { node: self.root, rect: whole }]);
        while let Some(ToDivide { node, rect }) = heap.pop() {
            let is_root = rects.is_empty();
            let inner = if is_root { rect } else { inside(&rect) };
            let mut parts = parts(node, &inner);
            if is_root && parts.len() > MAX_TOP {
                let rest = parts.split_off(MAX_TOP).into_iter().map(|(bytes, _)| bytes);
                parts.push((rest.fold(0, u64::saturating_add), None));
                parts.sort_by_key(|(bytes, _)| Reverse(*bytes));
            }
            if rects.len() + parts.len() > MAX_RECTS {
                continue;
            }
            if let Some(own) = rects.iter_mut().find(|(_, other, _)| is_same(*other, node)) {
                own.2 = true;
            }
            let sizes: Vec<f64> = parts.iter().map(|(bytes, _)| *bytes as f64).collect();
            for (rect, (_, child)) in squarify(&sizes, inner).into_iter().zip(&parts) {
                rects.push((rect, *child, false));
                if let Some(child) = child.filter(|child| is_worth_dividing(child, &rect)) {
                    heap.push(ToDivide { node: child, rect });
                }
            }
        }
        rects
    }
}

fn is_same(one: Option<&Node>, other: &Node) -> bool {
    one.is_some_and(|one| std::ptr::eq(one, other))
}

fn is_worth_dividing(node: &Node, rect: &Rect) -> bool {
    let inner = inside(rect);
    !node.children.is_empty() && inner.width >= LEAST_SIDE && inner.height >= LEAST_SIDE
}

/// Where a directory shows what it holds.
fn inside(rect: &Rect) -> Rect {
    Rect {
        x: rect.x + GAP,
        y: rect.y + HEAD,
        width: (rect.width - 2.0 * GAP).max(0.0),
        height: (rect.height - HEAD - GAP).max(0.0),
    }
}

/// What a directory is divided into, the largest first: children, and what is left.
fn parts<'a>(node: &'a Node, inner: &Rect) -> Vec<(u64, Option<&'a Node>)> {
    let area = |bytes: u64| inner.area() * bytes as f64 / node.bytes as f64;
    let seen = node.children.iter().filter(|child| area(child.bytes) >= LEAST_AREA);
    let mut parts: Vec<_> = seen.map(|child| (child.bytes, Some(child))).collect();
    let seen = parts.iter().map(|(bytes, _)| *bytes).fold(0, u64::saturating_add);
    let rest = node.bytes.saturating_sub(seen);
    if rest > 0 {
        parts.push((rest, None));
    }
    parts.sort_by_key(|(bytes, _)| Reverse(*bytes));
    parts
}

impl PartialEq for ToDivide<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for ToDivide<'_> {}

impl PartialOrd for ToDivide<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for ToDivide<'_> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.rect.area().total_cmp(&other.rect.area())
    }
}

fn write_rect(out: &mut Markup, rect: &Rect, node: Option<&Node>, is_divided: bool, all: u64) {
    out.tags("<g class=\"");
    match node {
        Some(node) => out.tags(node.tone.class()),
        None => out.tags("rest"),
    };
    let is_wasted = node.is_some_and(|node| node.is_wasted);
    out.tags(if is_divided { " dir" } else { "" });
    out.tags(if is_wasted { " gone\"><title>" } else { "\"><title>" });
    if let Some(node) = node {
        let percent = node.bytes as f64 * 100.0 / all as f64;
        out.name(&node.path).text(&format!(": {}, {percent:.1} %", size(node.bytes)));
        out.tags(if is_wasted { ", wasted" } else { "" });
    } else {
        out.tags("smaller files and directories");
    }
    out.tags("</title><rect x=\"").length(rect.x).tags("\" y=\"").length(rect.y);
    out.tags("\" width=\"")
        .length(rect.width)
        .tags("\" height=\"")
        .length(rect.height)
        .tags("\"/>");
    if let Some(node) = node {
        write_label(out, rect, node, is_divided);
    }
    out.tags("</g>\n");
}

fn write_label(out: &mut Markup, rect: &Rect, node: &Node, is_divided: bool) {
    let room = (rect.width - BESIDE).max(0.0);
    let letters = (room / LETTER) as usize;
    if letters < 3 || rect.height < HEAD - 1.0 {
        return;
    }
    let name = super::bounded::name(&node.label);
    let bytes = size(node.bytes);
    let label = cut(&name, letters);
    let place = |out: &mut Markup, line: f64| {
        out.tags("<text x=\"").length(rect.x + BESIDE / 2.0);
        out.tags("\" y=\"").length(rect.y + line).tags("\">");
    };
    place(out, 12.5);
    out.text(&label);
    if is_divided && label.width() + bytes.width() + 2 <= letters {
        out.tags("<tspan class=\"size\" dx=\"8\">").text(&bytes).tags("</tspan>");
    }
    out.tags("</text>");
    if !is_divided && rect.height >= 2.0 * HEAD && bytes.width() <= letters {
        place(out, 27.0);
        out.tags("<tspan class=\"size\">").text(&bytes).tags("</tspan></text>");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::html::Tone;

    fn node(name: &str, bytes: u64, children: Vec<Node>) -> Node {
        let label = name.as_bytes().to_vec();
        Node { path: label.clone(), label, bytes, tone: Tone::Group(0), is_wasted: false, children }
    }

    /// A tree with more directories than a picture has room for.
    fn large(depth: u64, bytes: u64) -> Node {
        let below = match depth {
            0 => Vec::new(),
            depth => (0..12).map(|_| large(depth - 1, bytes / 13)).collect(),
        };
        node("d", bytes, below)
    }

    #[test]
    fn a_directory_is_as_large_as_what_it_holds() {
        let children = vec![node("a", 60, Vec::new()), node("b", 30, Vec::new())];
        let root = node("/", 100, vec![node("d", 100, children)]);
        let treemap = Treemap::new("t", &root);
        let rects = treemap.rects();
        // `d`, `a`, `b`, and what is left of `d`.
        assert_eq!(rects.len(), 4);
        assert!(rects[0].2 && !rects[1].2, "{rects:?}");
        let inner = inside(&rects[0].0);
        let sum: f64 = rects[1..].iter().map(|(rect, ..)| rect.area()).sum();
        assert!((sum - inner.area()).abs() < 1e-6);
        for ((rect, ..), part) in rects[1..].iter().zip([0.6, 0.3, 0.1]) {
            assert!((rect.area() / inner.area() - part).abs() < 1e-9);
        }
    }

    #[test]
    fn rectangles_are_bounded() {
        let root = large(4, 1 << 60);
        let count = Treemap::new("t", &root).rects().len();
        assert!((300..=MAX_RECTS).contains(&count), "{count}");
        let mut out = Markup::default();
        Treemap::new("t", &root).write(&mut out);
        assert!(out.len() < 300_000, "{}", out.len());

        let flat = (0..1000).map(|_| node("f", 10, Vec::new())).collect();
        let root = node("/", 10_000, flat);
        let rects = Treemap::new("t", &root).rects();
        assert_eq!(rects.len(), MAX_TOP + 1);
        let (largest, None, _) = rects[0] else { panic!("{:?}", rects[0]) };
        assert!((largest.area() / (WIDTH * HEIGHT) - 0.6).abs() < 1e-9);
    }

    #[test]
    fn names_stay_in_their_place() {
        let root = node("/", 10, vec![node("<b>\u{202e}", 10, Vec::new())]);
        let mut out = Markup::default();
        Treemap::new("t", &root).write(&mut out);
        assert!(out.as_str().contains(">&lt;b&gt;?</text>"), "{}", out.as_str());
        let mut nothing = Markup::default();
        Treemap::new("t", &node("/", 0, Vec::new())).write(&mut nothing);
        assert_eq!(nothing.len(), 0);
    }
}
