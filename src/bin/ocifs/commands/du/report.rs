//! The report of `ocifs du --html`: what takes the room of an image, by directory and by layer, and what of it for
//! nothing.

use std::collections::HashSet;

use ocifs::image::{LayeredImage, room_of_layer, room_of_tree, steps_of};
use ocifs::tree::Provenance;

use super::check::{Finding, Measured};
use crate::commands::report::{
    Layers, facts, lead, made_by, node_of_layers, node_of_room, write_history, write_largest,
};
use crate::render::html::{Column, Markup, Page, Table, Treemap};
use crate::render::instruction::for_people;
use crate::render::text::size;

/// Paths that are named in the table of waste.
pub(super) const NAMED_PATHS: usize = 500;

/// The report; the demands that it was held against, if there are some, stand first.
pub(super) fn report(
    image: &LayeredImage,
    provenance: &Provenance,
    measured: &Measured,
    findings: &[Finding<'_>],
) -> Vec<u8> {
    let name = &image.resolved().name;
    let mut head = lead(image.resolved());
    let (wasted, content) = (measured.wasted(), measured.content());
    let percent = if content == 0 { 0.0 } else { wasted as f64 * 100.0 / content as f64 };
    head.append(&facts(&[
        ("unpacked", size(measured.unpacked())),
        ("compressed", size(measured.compressed())),
        ("layers", measured.layers.len().to_string()),
        ("files and directories", measured.files.to_string()),
        ("wasted", format!("{} ({percent:.1} % of content)", size(wasted))),
    ]));
    let mut page = Page::new(&format!("What takes room in {name}"), head);
    if !findings.is_empty() {
        page.section("Checks", &checks(findings));
    }
    let room = room_of_tree(image.filesystem().tree());
    let mut by_directory = Markup::default();
    Treemap::new("Room by directory", &node_of_room(&room)).write(&mut by_directory);
    by_directory.tags("<p>Blocks of 4 KiB that the files of the image take, as <code>ocifs du</code> counts them.</p>");
    write_largest(&mut by_directory, &room);
    page.section("By directory", &by_directory);

    let (steps, unmatched) = steps_of(image.resolved());
    let mut hidden = vec![HashSet::new(); measured.layers.len()];
    for (origin, _) in provenance.hidden() {
        hidden[origin.layer].extend(origin.entry);
    }
    let layers = image.indexes().into_iter().zip(&hidden);
    let rooms = layers.map(|(index, hidden)| room_of_layer(index, &|at| hidden.contains(&at)));
    let rooms: Vec<_> = rooms.collect();
    let changes = provenance.changes(&image.indexes());
    let layers = Layers { usage: &measured.layers, changes: &changes };
    let mut by_layer = Markup::default();
    Treemap::new("Content by layer", &node_of_layers(&rooms, &steps)).write(&mut by_layer);
    by_layer.tags("<p>Bytes of content in each layer. What is struck out is wasted: a later layer replaces or deletes it.</p>");
    write_history(&mut by_layer, &steps, &unmatched, Some(layers));
    page.section("By layer", &by_layer);

    let mut waste = Markup::default();
    if measured.paths.is_empty() {
        waste.tags("<p>Nothing is wasted: the image shows all that its layers hold.</p>");
    } else {
        waste.tags("<p>Content of files that a later layer replaces or deletes; it is downloaded with the image.</p>");
        let columns: &[Column] = &[
            Column::Text("path"),
            Column::Number("wasted"),
            Column::Number("versions"),
            Column::Number("since layer"),
            Column::Text("instruction"),
        ];
        let mut table = Table::new("The paths that waste the most", columns);
        for path in &measured.paths {
            table.row(|row| {
                row.name(&[b"/", &path.path[..]].concat()).bar(path.bytes, wasted);
                row.number(path.versions).number(path.hidden_in as u64);
                row.code(&made_by(&steps, path.hidden_in).map_or(String::new(), for_people));
            });
        }
        table.write(&mut waste);
        let named: u64 = measured.paths.iter().map(|path| path.bytes).sum();
        if named < wasted {
            let left = format!("Other paths waste {}.", size(wasted - named));
            waste.tags("<p class=\"cut\">").text(&left).tags("</p>");
        }
    }
    page.section("Wasted", &waste);
    page.finish()
}

fn checks(findings: &[Finding<'_>]) -> Markup {
    let columns: &[Column] =
        &[Column::Text("check"), Column::Text("verdict"), Column::Text("found")];
    let mut table = Table::new("What was demanded of the image", columns);
    for finding in findings {
        table.row(|row| {
            row.code(&finding.check.text).verdict(finding.word()).text(&finding.text());
        });
    }
    let mut out = Markup::default();
    table.write(&mut out);
    out
}
