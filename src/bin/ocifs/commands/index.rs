//! `ocifs index`: layer indexes that travel with an image.

use std::io::Write;
use std::process::ExitCode;

use indicatif::HumanBytes;
use ocifs::image::{self, Publication};
use ocifs::index_artifact::Packed;
use serde_json::{Value, json};

use crate::args::{self, IndexVerb};
use crate::commands::open::{failed, to_print};
use crate::environment::Settings;
use crate::render::errors::AnyError;
use crate::render::json::line;
use crate::render::output;
use crate::render::progress::Bar;
use crate::render::text;

pub(crate) fn run(args: &args::Index) -> Result<ExitCode, AnyError> {
    match args {
        args::Index::Build(verb) => build(verb, false),
        args::Index::Push(verb) => build(verb, true),
        args::Index::Show(verb) => show(verb),
    }
}

fn build(verb: &IndexVerb, push: bool) -> Result<ExitCode, AnyError> {
    let (name, options, cache) = to_print(&verb.image, &verb.image_args, &Settings::read()?, None)?;
    let bar = Bar::first_use(&name);
    let publication = image::build_indexes(&name, &cache, &options, &bar);
    let publication = publication.map_err(failed(&name))?;
    bar.ready();
    let artifact = match push {
        true => Some(image::push_indexes(&publication, &name, &options).map_err(failed(&name))?),
        false => None,
    };
    let Publication { image, indexes, layer_bytes } = &publication;
    let mut out = output::stdout();
    if verb.json {
        let document = json!({
            "image": image.name,
            "digest": image.digest,
            "artifact": artifact,
            "indexes": indexes.iter().map(|(packed, _)| as_json(packed)).collect::<Vec<_>>(),
        });
        writeln!(out, "{}", line(document))?;
        return Ok(ExitCode::SUCCESS);
    }
    let bytes: u64 = indexes.iter().map(|(packed, _)| packed.blob.size).sum();
    let heads: u64 = indexes.iter().map(|(packed, _)| packed.head_bytes).sum();
    writeln!(
        out,
        "{}, {} ({} to mount) for {} of layers",
        text::count(indexes.len(), "layer index", "layer indexes"),
        HumanBytes(bytes),
        HumanBytes(heads),
        HumanBytes(*layer_bytes),
    )?;
    if let Some(artifact) = artifact {
        writeln!(out, "pushed {artifact}, a referrer of {}", image.digest)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn as_json(packed: &Packed) -> Value {
    json!({
        "layer": packed.layer,
        "blob": packed.blob.digest,
        "size": packed.blob.size,
        "head_size": packed.head_bytes,
    })
}

fn show(verb: &IndexVerb) -> Result<ExitCode, AnyError> {
    let (name, options, cache) = to_print(&verb.image, &verb.image_args, &Settings::read()?, None)?;
    let known = image::known_indexes(&name, &cache, &options).map_err(failed(&name))?;
    let mut out = output::stdout();
    let layers = known.image.layers.iter().zip(&known.cached);
    if verb.json {
        let layers = layers.map(|(layer, cached)| {
            json!({
                "digest": layer.descriptor.digest,
                "size": layer.descriptor.size,
                "cached": cached.map(|index| json!({
                    "proof": index.proof.name(),
                    "entries": index.entries,
                    "spans": index.spans,
                    "size": index.bytes,
                    "window_bytes": index.window_bytes,
                })),
            })
        });
        let document = json!({
            "image": known.image.name,
            "digest": known.image.digest,
            "layers": layers.collect::<Vec<_>>(),
            "pushed": known.pushed.iter().map(as_json).collect::<Vec<_>>(),
        });
        writeln!(out, "{}", line(document))?;
        return Ok(ExitCode::SUCCESS);
    }
    writeln!(out, "{}", known.image.name)?;
    for (layer, cached) in layers {
        let descriptor = &layer.descriptor;
        writeln!(out, "layer {} {}", descriptor.digest, HumanBytes(descriptor.size))?;
        match cached {
            Some(index) => writeln!(
                out,
                "  cached: proof {}, {}, {}, {} ({} of it checkpoints)",
                index.proof.name(),
                text::count(index.entries, "entry", "entries"),
                text::count(index.spans, "span", "spans"),
                HumanBytes(index.bytes),
                HumanBytes(index.window_bytes),
            )?,
            None => writeln!(out, "  not cached")?,
        }
        for packed in known.pushed.iter().filter(|packed| packed.layer == descriptor.digest) {
            writeln!(
                out,
                "  pushed: {} ({} to mount)",
                HumanBytes(packed.blob.size),
                HumanBytes(packed.head_bytes),
            )?;
        }
    }
    Ok(ExitCode::SUCCESS)
}
