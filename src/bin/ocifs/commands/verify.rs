//! `ocifs verify`: everything about an image that can be checked.

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use indicatif::HumanBytes;
use ocifs::external::{Difference, MAX_DIFFERENCES};
use ocifs::image::{self, LayerVerification, ProvenBefore, Verification};
use serde_json::json;

use crate::args;
use crate::commands::open::{failed, to_print};
use crate::environment::Settings;
use crate::render::errors::{AnyError, FAILED};
use crate::render::hints;
use crate::render::json::{line, set_name};
use crate::render::output;
use crate::render::progress::Bar;
use crate::render::text::size;
use crate::render::text::{self, printable};
use crate::render::time::civil;

pub(crate) fn run(args: &args::Verify) -> Result<ExitCode, AnyError> {
    let (name, mut options, cache) =
        to_print(&args.image, &args.image_args, &Settings::read()?, None)?;
    options.again = args.again;
    let bar = Bar::verifying(&name);
    let verification = image::verify(&name, &cache, &options, &bar).map_err(failed(&name))?;
    bar.ready();
    let mut out = output::stdout();
    output::ignore_closed_pipe(match args.json {
        true => writeln!(out, "{}", line(as_json(&verification))),
        false => print(&mut out, &verification),
    })?;
    Ok(match verification.is_good() {
        true => ExitCode::SUCCESS,
        false => ExitCode::from(FAILED),
    })
}

fn as_json(verification: &Verification) -> serde_json::Value {
    let layer = |layer: &LayerVerification| {
        let difference = |difference: &Difference| {
            let mut row = json!({ "what": difference.what });
            set_name(&mut row, "path", &difference.exact_path);
            row
        };
        json!({
            "digest": layer.digest,
            "diff_id": layer.diff_id,
            "size": layer.size,
            "entries": layer.entries,
            "ok": layer.is_good(),
            "read": layer.before.is_none(),
            "proven_at": layer.before.and_then(|before| before.at).and_then(seconds),
            "error": error(layer),
            "split_view": layer.differences.iter().map(difference).collect::<Vec<_>>(),
        })
    };
    json!({
        "image": verification.image.name,
        "digest": verification.image.digest,
        "image_id": verification.image.image_id(),
        "ok": verification.is_good(),
        "layers": verification.layers.iter().map(layer).collect::<Vec<_>>(),
    })
}

/// What is wrong with a layer, and what helps.
fn error(layer: &LayerVerification) -> Option<String> {
    let error = layer.error.as_ref()?;
    Some(match layer.hint {
        Some(hint) => format!("{error}; {}", hints::words(hint)),
        None => error.clone(),
    })
}

/// Since the epoch.
fn seconds(time: SystemTime) -> Option<u64> {
    time.duration_since(UNIX_EPOCH).ok().map(|since| since.as_secs())
}

/// What is said of a layer that is good.
fn good(before: Option<ProvenBefore>) -> String {
    let Some(ProvenBefore { at }) = before else { return "ok".to_owned() };
    let at = at.and_then(seconds).and_then(|seconds| i64::try_from(seconds).ok());
    let when = at.map_or_else(
        || "before".to_owned(),
        |seconds| {
            let (year, month, day, hour, minute) = civil(seconds);
            format!("on {year:04}-{month:02}-{day:02} {hour:02}:{minute:02} UTC")
        },
    );
    format!("proven {when}, not read again")
}

fn print(out: &mut impl Write, verification: &Verification) -> io::Result<()> {
    writeln!(out, "{}", printable(&verification.image.name))?;
    writeln!(out, "manifest {}", verification.image.digest)?;
    writeln!(out, "config   {}", verification.image.image_id())?;
    for layer in &verification.layers {
        let verdict = match (&layer.error, layer.differences.len()) {
            (Some(_), _) => "WRONG".to_owned(),
            (None, 0) => good(layer.before),
            (None, _) => "SPLIT VIEW".to_owned(),
        };
        writeln!(
            out,
            "layer    {} {}, {}: {verdict}",
            layer.digest,
            HumanBytes(layer.size),
            text::count(layer.entries, "entry", "entries"),
        )?;
        if let Some(error) = error(layer) {
            writeln!(out, "         {}", printable(&error))?;
        }
        for difference in &layer.differences {
            writeln!(out, "         /{} {}", printable(&difference.path), difference.what)?;
        }
        if layer.differences.len() >= MAX_DIFFERENCES {
            writeln!(out, "         (no more than {MAX_DIFFERENCES} are looked for)")?;
        }
    }
    let layers = &verification.layers;
    let of_layers = text::count(layers.len(), "layer", "layers");
    match layers.iter().filter(|layer| !layer.is_good()).count() {
        0 => {
            let bytes = size(layers.iter().map(|layer| layer.size).sum());
            let entries: usize = layers.iter().map(|layer| layer.entries).sum();
            let entries = text::count(entries, "entry", "entries");
            match layers.iter().filter(|layer| layer.before.is_some()).count() {
                0 => writeln!(out, "ok: all of {bytes} in {of_layers}, {entries}"),
                before => writeln!(
                    out,
                    "nothing wrong: {bytes} in {of_layers}, {entries}; {before} of them proven before and \
                     not read again (--again reads them)"
                ),
            }
        }
        bad => writeln!(out, "not ok: {bad} of {of_layers}"),
    }
}
