//! Bars beside numbers, for the eye: the number itself is the text.

use super::Markup;

/// A bar of a part of the whole.
pub(super) fn bar(out: &mut Markup, part: u64, whole: u64) {
    let width = if whole == 0 { 0.0 } else { part as f64 * 100.0 / whole as f64 };
    out.tags("<svg class=\"bar\" viewBox=\"0 0 100 4\" preserveAspectRatio=\"none\" aria-hidden=\"true\">");
    out.tags("<rect class=\"rail\" width=\"100\" height=\"4\"/><rect class=\"fill\" width=\"");
    out.length(width.min(100.0)).tags("\" height=\"4\"/></svg>");
}
