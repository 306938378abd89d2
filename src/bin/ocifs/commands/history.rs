//! `ocifs history`: how an image was made.

use std::io::{self, Write};
use std::process::ExitCode;

use ocifs::image::{self, History, LayersToOpen, Step, StepLayer};
use ocifs::oci::HistoryEntry;
use ocifs::tree::Changes;
use serde_json::{Value, json};

use crate::args;
use crate::commands::open::{failed, to_print};
use crate::commands::proof;
use crate::environment::Settings;
use crate::render::errors::AnyError;
use crate::render::instruction::instruction;
use crate::render::json::line;
use crate::render::output::{self, write_stderr};
use crate::render::progress::Bar;
use crate::render::screen::Screen;
use crate::render::table::{Align, Table};
use crate::render::text::count;

pub(crate) fn run(args: &args::History) -> Result<ExitCode, AnyError> {
    let settings = Settings::read()?;
    let (name, options, cache) = to_print(&args.image, &args.image_args, &settings, None)?;
    let bar = Bar::first_use(&name);
    let layers = if args.all_layers { LayersToOpen::All } else { LayersToOpen::Cached };
    let history = image::history(&name, &cache, &options, layers, &bar).map_err(failed(&name))?;
    bar.ready();
    let name = &history.image.name;
    proof::warn(name, &history.proofs, settings.required_proof(&args.image_args)?);
    if !history.unmatched.is_empty() {
        let makers = history.unmatched.iter().filter(|entry| !entry.empty_layer).count();
        let steps = count(makers, "step that made a layer", "steps that made a layer");
        let layers = count(history.steps.len(), "layer", "layers");
        log::warn!(
            "{name}: the history has {steps}, the image has {layers}: which made which is not known"
        );
    }
    let mut out = output::stdout();
    if args.json {
        output::ignore_closed_pipe(writeln!(out, "{}", line(as_json(&history))))?;
        return Ok(ExitCode::SUCCESS);
    }
    let screen = Screen::stdout();
    output::ignore_closed_pipe(print(&mut out, screen, &history))?;
    let is_counted = |step: &Step| step.layer.as_ref().is_none_or(|layer| layer.changes.is_some());
    if screen.is_terminal() && !history.steps.iter().all(is_counted) {
        write_stderr(
            "What the layers changed is counted once all of them have an index: see --all-layers\n",
        );
    }
    Ok(ExitCode::SUCCESS)
}

fn print(out: &mut impl Write, screen: Screen, history: &History) -> io::Result<()> {
    let columns = [
        ("#", Align::Right),
        ("layer", Align::Left),
        ("created", Align::Left),
        ("size", Align::Right),
        ("unpacked", Align::Right),
        ("changes", Align::Left),
        ("instruction", Align::Left),
    ];
    let mut table = Table::new(screen, &columns);
    for Step { instruction: step, layer } in &history.steps {
        let created = created(screen, step.as_ref());
        let instruction = instruction(screen, step.as_ref());
        table.row(match layer {
            Some(layer) => [
                layer.number.to_string(),
                screen.digest(&layer.layer.descriptor.digest),
                created,
                screen.size(layer.layer.descriptor.size),
                layer.uncompressed_size.map_or(String::new(), |bytes| screen.size(bytes)),
                layer.changes.map_or(String::new(), changes),
                instruction,
            ],
            None => without_layer("(empty layer)", created, instruction),
        });
    }
    for step in &history.unmatched {
        let kind = if step.empty_layer { "(empty layer)" } else { "(some layer)" };
        table.row(without_layer(
            kind,
            created(screen, Some(step)),
            instruction(screen, Some(step)),
        ));
    }
    table.print(out)
}

/// The cells of a step of which no layer is known.
fn without_layer(kind: &str, created: String, instruction: String) -> [String; 7] {
    let none = String::new;
    ["-".to_owned(), kind.to_owned(), created, none(), none(), none(), instruction]
}

fn created(screen: Screen, step: Option<&HistoryEntry>) -> String {
    let created = step.and_then(|step| step.created.as_deref());
    created.map_or(String::new(), |created| screen.written_time(created))
}

/// `+4112 ~12 -3`, without what is none.
fn changes(changes: Changes) -> String {
    let Changes { added, changed, removed } = changes;
    let parts = [('+', added), ('~', changed), ('-', removed)];
    let parts = parts.iter().filter(|(_, count)| *count > 0);
    parts.map(|(sign, count)| format!("{sign}{count}")).collect::<Vec<_>>().join(" ")
}

fn as_json(history: &History) -> Value {
    let instruction = |entry: Option<&HistoryEntry>| {
        entry.map(|entry| {
            json!({
                "created": entry.created,
                "created_by": entry.created_by,
                "author": entry.author,
                "comment": entry.comment,
                "empty_layer": entry.empty_layer,
            })
        })
    };
    let layer = |layer: &StepLayer| {
        let StepLayer { number, layer, chain_id, uncompressed_size, changes } = layer;
        let changes = changes.map(|changes| {
            json!({ "added": changes.added, "changed": changes.changed, "removed": changes.removed })
        });
        json!({
            "number": number,
            "digest": layer.descriptor.digest,
            "media_type": layer.descriptor.media_type,
            "size": layer.descriptor.size,
            "diff_id": layer.diff_id,
            "chain_id": chain_id.map(|chain_id| chain_id.0),
            "uncompressed_size": uncompressed_size,
            "changes": changes,
        })
    };
    let step = |step: &Step| {
        json!({
            "instruction": instruction(step.instruction.as_ref()),
            "layer": step.layer.as_ref().map(layer),
        })
    };
    json!({
        "image": history.image.name,
        "digest": history.image.digest,
        "image_id": history.image.image_id(),
        "created": history.created,
        "steps": history.steps.iter().map(step).collect::<Vec<_>>(),
        "unmatched": history.unmatched.iter().map(|e| instruction(Some(e))).collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_that_are_none_are_left_out() {
        let text = |added, changed, removed| changes(Changes { added, changed, removed });
        assert_eq!(text(4112, 12, 3), "+4112 ~12 -3");
        assert_eq!((text(0, 1, 0), text(0, 0, 0)), ("~1".to_owned(), String::new()));
    }
}
