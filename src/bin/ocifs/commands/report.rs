//! Parts that the reports of several verbs have: what an image is, how it was made, what takes its room.

mod history;
mod room;

use std::io::Write;
use std::path::Path;

use ocifs::resolve::ResolvedImage;

use crate::render::errors::AnyError;
use crate::render::html::Markup;
use crate::render::output::ignore_closed_pipe;
use crate::render::target::Target;

pub(super) use history::{Layers, made_by, write_history};
pub(super) use room::{node_of_layers, node_of_room, write_largest};

/// Where a report goes, if there is to be one.
pub(super) fn report_file(path: Option<&Path>) -> Result<Option<Target>, AnyError> {
    path.map(|path| Target::new(Some(path), None)).transpose()
}

/// Writes a report, whole.
pub(super) fn write_report(mut file: Target, report: &[u8]) -> Result<(), AnyError> {
    let mut writer = file.writer();
    ignore_closed_pipe(writer.write_all(report).and_then(|()| writer.flush()))?;
    file.finish()
}

/// What a report is about, below its title.
pub(super) fn lead(image: &ResolvedImage) -> Markup {
    let mut out = Markup::default();
    out.tags("<p>").text(&image.platform.to_string()).tags(" · manifest <code>");
    out.text(&image.digest.to_string()).tags("</code>");
    if image.artifact.is_none() {
        out.tags(" · image ID <code>").text(&image.image_id().to_string()).tags("</code>");
    }
    out.tags("</p>\n");
    out
}

/// Numbers that are seen first, each with its name.
pub(super) fn facts(facts: &[(&'static str, String)]) -> Markup {
    let mut out = Markup::default();
    out.tags("<dl class=\"facts\">");
    for (name, value) in facts {
        out.tags("<div><dt>").tags(name).tags("</dt><dd>").text(value).tags("</dd></div>");
    }
    out.tags("</dl>\n");
    out
}
