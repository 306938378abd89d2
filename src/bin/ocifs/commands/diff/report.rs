//! The report of `ocifs diff --html`: what differs between two images, in files, packages, configs and layers.

mod hunks;
mod picture;
mod tree;

use super::documents::Documents;
use super::files::{Files, KINDS, Total, regular_bytes};
use super::packages::{self, Packages};
use crate::render::errors::AnyError;
use crate::render::html::{Column, Markup, Page, Table, Treemap};
use crate::render::text::{count, size};

use hunks::Hunks;

/// Puts it together.
///
/// # Errors
/// Content can't be read whose lines are to be shown.
pub(super) fn report(
    files: &Files<'_>,
    packages: &Packages,
    documents: &Documents,
    metadata: bool,
) -> Result<Vec<u8>, AnyError> {
    let (old, new) = (files.old.resolved(), files.new.resolved());
    let mut head = Markup::default();
    for (word, image) in [("old: ", old), ("new: ", new)] {
        head.tags("<p>").tags(word).text(&image.name).tags(" · ").text(&image.platform.to_string());
        head.tags(" · manifest <code>").text(&image.digest.to_string()).tags("</code></p>\n");
    }
    let mut page = Page::new(&format!("What differs between {} and {}", old.name, new.name), head);
    page.section("Files", &of_files(files, metadata)?);
    page.section("Packages", &of_packages(packages));
    page.section("Config", &of_configs(documents));
    page.section("Layers", &of_layers(documents));
    Ok(page.finish())
}

fn of_files(files: &Files<'_>, metadata: bool) -> Result<Markup, AnyError> {
    let mut out = Markup::default();
    out.tags("<p>").text(files.summary().trim_end()).tags("</p>\n");
    if files.diff.changes.is_empty() {
        return Ok(out);
    }
    let columns: &[Column] = &[
        Column::Text("change"),
        Column::Number("paths"),
        Column::Number("bytes before"),
        Column::Number("bytes after"),
    ];
    let mut table = Table::new("Changes by kind", columns);
    for kind in KINDS {
        let Total { files, old_bytes, new_bytes } = files.total(kind);
        if files > 0 {
            table.row(|row| {
                row.text(kind.word()).number(files).size(old_bytes).size(new_bytes);
            });
        }
    }
    table.write(&mut out);
    let picture = picture::node(files, |change| {
        let (old, new) = files.attributes(change);
        regular_bytes(old).max(regular_bytes(new))
    });
    if picture.bytes > 0 {
        Treemap::new("Files that differ, by their size", &picture).write(&mut out);
        out.tags("<p>Green: added. Red: removed. Yellow: changed or renamed. Each file as large as the larger of its versions.</p>");
    }
    let mut hunks = Hunks::new(files);
    tree::write(&mut out, files, metadata, &mut hunks)?;
    if let Some(left) = hunks.left_out() {
        out.tags("<p class=\"cut\">").text(&left).tags("</p>\n");
    }
    Ok(out)
}

fn of_packages(packages: &Packages) -> Markup {
    let mut out = Markup::default();
    if packages.changes.is_empty() {
        out.tags("<p>No package of dpkg, apk, rpm or Python differs.</p>");
        return out;
    }
    let columns: &[Column] = &[
        Column::Text("package"),
        Column::Text("change"),
        Column::Text("old"),
        Column::Text("new"),
        Column::Text("manager"),
        Column::Text("where"),
    ];
    let mut table = Table::new("Packages that differ", columns);
    for change in &packages.changes {
        let versions = |side: &Option<ocifs::packages::Side>| {
            side.as_ref().map_or(String::new(), |side| side.versions.join(", "))
        };
        let word = match (&change.old, &change.new) {
            (None, _) => "added",
            (_, None) => "removed",
            _ => "changed",
        };
        table.row(|row| {
            row.text(&change.name).text(word).text(&versions(&change.old));
            row.text(&versions(&change.new)).text(change.manager.name());
            row.text(&packages::place(change));
        });
    }
    table.write(&mut out);
    out
}

fn of_configs(documents: &Documents) -> Markup {
    let mut out = Markup::default();
    let settings = documents.settings.as_deref().unwrap_or_default();
    if settings.is_empty() {
        out.tags("<p>The configs say the same.</p>");
        return out;
    }
    let columns: &[Column] = &[Column::Text("setting"), Column::Text("old"), Column::Text("new")];
    let mut table = Table::new("Settings that differ", columns);
    for setting in settings {
        table.row(|row| {
            row.text(&setting.key);
            for value in [&setting.old, &setting.new] {
                match value {
                    Some(value) => row.code(value),
                    None => row.nothing(),
                };
            }
        });
    }
    table.write(&mut out);
    out
}

fn of_layers(documents: &Documents) -> Markup {
    let mut out = Markup::default();
    let layers = documents.layers.as_deref().unwrap_or_default();
    let common = layers.iter().filter(|row| row.old.is_some() && row.new.is_some());
    let bytes = |rows: &mut dyn Iterator<Item = u64>| size(rows.fold(0, u64::saturating_add));
    let new = layers.iter().filter(|row| row.old.is_none()).map(|row| row.layer.descriptor.size);
    let shared = count(common.count(), "layer is", "layers are");
    let text = format!(
        "{shared} common to both; {} of the new one are to be downloaded.",
        bytes(&mut new.into_iter())
    );
    out.tags("<p>").text(&text).tags("</p>");
    let columns: &[Column] = &[
        Column::Text("layer"),
        Column::Number("in old"),
        Column::Number("in new"),
        Column::Number("compressed"),
    ];
    let mut table = Table::new("Layers of both images", columns);
    let largest = layers.iter().map(|row| row.layer.descriptor.size).max().unwrap_or(0);
    for layer in layers {
        table.row(|row| {
            row.code(&layer.layer.descriptor.digest.to_string());
            for place in [layer.old, layer.new] {
                match place {
                    Some(place) => row.number(place as u64),
                    None => row.nothing(),
                };
            }
            row.bar(layer.layer.descriptor.size, largest);
        });
    }
    table.write(&mut out);
    out
}
