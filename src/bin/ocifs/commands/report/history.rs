//! The history of an image as a table: what each instruction made, and how large.

use ocifs::image::{LayerUsage, Step};
use ocifs::oci::{HistoryEntry, parse_time};
use ocifs::tree::Changes;

use crate::render::html::{Cells, Column, Markup, Table};
use crate::render::instruction::for_people;
use crate::render::time::civil;

const OF_DOCUMENTS: &[Column] = &[
    Column::Text("layer"),
    Column::Text("instruction"),
    Column::Text("created (UTC)"),
    Column::Number("compressed"),
];

const OF_LAYERS: &[Column] = &[
    Column::Text("layer"),
    Column::Text("instruction"),
    Column::Text("created (UTC)"),
    Column::Number("compressed"),
    Column::Number("unpacked"),
    Column::Number("wasted"),
    Column::Number("added"),
    Column::Number("changed"),
    Column::Number("removed"),
];

/// What is known of layers that were opened, base first.
#[derive(Clone, Copy)]
pub(in crate::commands) struct Layers<'a> {
    pub(in crate::commands) usage: &'a [LayerUsage],
    pub(in crate::commands) changes: &'a [Changes],
}

/// The instruction that made a layer, if that is known.
pub(in crate::commands) fn made_by(steps: &[Step], layer: usize) -> Option<&HistoryEntry> {
    let is_of = |step: &&Step| step.layer.as_ref().is_some_and(|made| made.number == layer);
    steps.iter().find(is_of)?.instruction.as_ref()
}

/// Writes the steps; `unmatched` are those of which it is not known what they made.
pub(in crate::commands) fn write_history(
    out: &mut Markup,
    steps: &[Step],
    unmatched: &[HistoryEntry],
    layers: Option<Layers<'_>>,
) {
    let columns = if layers.is_some() { OF_LAYERS } else { OF_DOCUMENTS };
    let mut table =
        Table::new("Instructions, the first one first, and the layers that they made", columns);
    let of_layers = || steps.iter().filter_map(|step| step.layer.as_ref());
    let largest = of_layers().map(|layer| layer.layer.descriptor.size).max().unwrap_or(0);
    let usage = layers.map_or(&[][..], |layers| layers.usage);
    let most_unpacked = usage.iter().map(|usage| usage.uncompressed).max().unwrap_or(0);
    let most_hidden = usage.iter().map(|usage| usage.hidden).max().unwrap_or(0);
    for step in steps {
        table.row(|row| {
            match &step.layer {
                Some(layer) => row.ordinal(layer.number as u64),
                None => row.text("none"),
            };
            write_instruction(row, step.instruction.as_ref());
            let Some(layer) = &step.layer else {
                (3..columns.len()).for_each(|_| {
                    row.nothing();
                });
                return;
            };
            row.bar(layer.layer.descriptor.size, largest);
            let Some(layers) = layers else { return };
            let (usage, changes) = (&layers.usage[layer.number], &layers.changes[layer.number]);
            row.bar(usage.uncompressed, most_unpacked).bar(usage.hidden, most_hidden);
            row.number(changes.added).number(changes.changed).number(changes.removed);
        });
    }
    for entry in unmatched {
        table.row(|row| {
            row.text("not known");
            write_instruction(row, Some(entry));
            (3..columns.len()).for_each(|_| {
                row.nothing();
            });
        });
    }
    table.write(out);
}

fn write_instruction(row: &mut Cells<'_>, entry: Option<&HistoryEntry>) {
    row.code(&entry.map_or(String::new(), for_people));
    let created = entry.and_then(|entry| entry.created.as_deref());
    row.time(&created.map_or(String::new(), |created| match parse_time(created) {
        Some((seconds, _)) => {
            let (year, month, day, hour, minute) = civil(seconds);
            format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}")
        }
        None => created.to_owned(),
    }));
}
