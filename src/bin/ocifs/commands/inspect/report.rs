//! The report of `ocifs inspect --html`: what an image is made of. No layer is read for it.

use ocifs::image::{Graph, InspectedImage, Room, steps_of};

use super::{facts, rows};
use crate::commands::report::{self, node_of_layers, write_history};
use crate::render::html::{Column, Markup, Page, Table, Treemap};
use crate::render::screen::Screen;
use crate::render::text::{count, size};

pub(super) fn report(graph: &Graph) -> Vec<u8> {
    let head = match &graph.image {
        Some(image) => head(image),
        None => {
            let mut head = Markup::default();
            let why = graph.no_image.as_deref().unwrap_or_default();
            head.tags("<p>").text(why).tags("</p>\n");
            head
        }
    };
    let mut page = Page::new(&format!("What {} is made of", graph.name), head);
    if let Some(image) = &graph.image {
        page.section("Layers", &layers(image));
        page.section("Config", &config(image));
    }
    page.section("Documents", &documents(graph));
    page.finish()
}

fn head(image: &InspectedImage) -> Markup {
    let mut head = report::lead(&image.resolved);
    let layers = &image.resolved.layers;
    let bytes = layers.iter().map(|layer| layer.descriptor.size).fold(0, u64::saturating_add);
    let created = image.details.created.as_deref();
    let created = created.map(|created| Screen::none().written_time(created));
    head.append(&report::facts(&[
        ("compressed", size(bytes)),
        ("layers", layers.len().to_string()),
        ("created", created.unwrap_or_else(|| "not said".to_owned())),
    ]));
    head
}

fn layers(image: &InspectedImage) -> Markup {
    let mut out = Markup::default();
    let (steps, unmatched) = steps_of(&image.resolved);
    let sizes = image.resolved.layers.iter().map(|layer| layer.descriptor.size);
    let rooms = sizes.map(|bytes| Room { bytes, ..Room::default() });
    let root = node_of_layers(&rooms.collect::<Vec<_>>(), &steps);
    Treemap::new("Layers by their compressed size", &root).write(&mut out);
    write_history(&mut out, &steps, &unmatched, None);
    out
}

fn config(image: &InspectedImage) -> Markup {
    let columns: &[Column] = &[Column::Text("setting"), Column::Text("value")];
    let mut table = Table::new("What the config says", columns);
    for (name, value) in facts::all(image, Screen::none()) {
        table.row(|row| {
            row.text(name).code(&value);
        });
    }
    let mut out = Markup::default();
    match table.is_empty() {
        true => {
            out.tags("<p>The config says nothing.</p>");
        }
        false => table.write(&mut out),
    }
    out
}

fn documents(graph: &Graph) -> Markup {
    let columns: &[Column] = &[
        Column::Text("what"),
        Column::Text("digest"),
        Column::Text("media type"),
        Column::Number("size"),
        Column::Text("about it"),
    ];
    let mut table = Table::new("What the name means, and everything from there down", columns);
    for document in rows::rows(graph) {
        table.row(|row| {
            row.text(document.what).code(&document.digest).text(&document.media_type);
            match document.size {
                Some(size) => row.size(size),
                None => row.nothing(),
            };
            row.text(&document.said);
        });
    }
    let mut out = Markup::default();
    table.write(&mut out);
    if graph.left_out > 0 {
        let left = count(graph.left_out, "document was", "documents were");
        out.tags("<p class=\"cut\">").text(&format!("{left} not opened.")).tags("</p>");
    }
    out
}
