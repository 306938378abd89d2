//! `ocifs du`: what directories take, and what layers take.

mod check;
mod report;

use std::ffi::OsString;
use std::io::{self, BufWriter, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::ExitCode;

use clap::error::ErrorKind;
use ocifs::image::{self, LayerUsage, LayeredImage, layer_usage};
use ocifs::tree::{FileKind, Question, Symlinks, Usage, UsageCount, UsageRow, Want};
use serde_json::json;

use self::check::Measured;
use super::open::{failed, to_print};
use super::proof;
use crate::args::{self, RequiredProof, WrongUsage};
use crate::commands::contained::Outlet;
use crate::commands::open::open_excerpt;
use crate::commands::report::{report_file, write_report};
use crate::environment::Settings;
use crate::render::errors::{self, AnyError, FAILED};
use crate::render::json::{line, set_name, type_word};
use crate::render::listing::{Listing, Style};
use crate::render::output;
use crate::render::progress::Bar;
use crate::render::screen::Screen;
use crate::render::table::{Align, Table};
use crate::render::text::size;

/// Exit code of a check of an image that can't be measured.
const TROUBLE: u8 = 2;

pub(crate) fn run(args: &args::Du) -> Result<ExitCode, AnyError> {
    if let Some(text) = contradiction(args) {
        let error = WrongUsage::new(ErrorKind::ArgumentConflict, text);
        return Ok(errors::wrong_usage(&args::usage_error("du", error)));
    }
    if !args.check.is_empty() {
        return Ok(measure(args).unwrap_or_else(|error| {
            errors::failure(&error);
            ExitCode::from(TROUBLE)
        }));
    }
    if args.html.is_some() {
        return measure(args);
    }
    if args.layers {
        return by_layer(args);
    }
    let question = |path: &OsString| {
        let path = path.as_bytes().to_vec();
        Question { path, last: Symlinks::Keep, want: Want::Attributes }
    };
    let questions: Vec<Question> = args.paths.iter().map(question).collect();
    let image = open_excerpt(
        &args.image,
        &questions,
        None,
        &args.image_args,
        RequiredProof::Unsaid,
        Outlet::One(None),
    )?;
    let tree = image.filesystem().tree();
    let listing = Listing::new(tree, Style::Names);
    let deepest = if args.summarize { 0 } else { args.max_depth.unwrap_or(usize::MAX) };
    let screen = Screen::stdout();
    let mut out = BufWriter::new(output::stdout());
    let mut print = |path: &[u8], kind: Option<FileKind>, usage: Usage| -> io::Result<()> {
        if args.json {
            let mut row = json!({
                "type": kind.map(type_word),
                "allocated": usage.allocated,
                "apparent": usage.apparent,
                "files": usage.files,
            });
            set_name(&mut row, "path", path);
            return writeln!(out, "{}", line(row));
        }
        let bytes = if args.apparent_size { usage.apparent } else { usage.allocated };
        match (screen.is_terminal(), args.human_readable) {
            (true, _) => write!(out, "{:>8}  ", size(bytes))?,
            (false, true) => write!(out, "{}\t", size(bytes))?,
            (false, false) => write!(out, "{bytes}\t")?,
        }
        out.write_all(&listing.shown(path))?;
        out.write_all(b"\n")
    };
    let mut count = UsageCount::new(tree, args.paths.len() > 1);
    let (mut total, mut is_complete) = (Usage::default(), true);
    for path in &args.paths {
        let start = match tree.resolve(path.as_bytes(), Symlinks::Keep) {
            Ok(start) => start,
            Err(e) => {
                let name = &image.resolved().name;
                errors::failure(&format!("{name}: {}: {e}", path.display()).into());
                is_complete = false;
                continue;
            }
        };
        total +=
            count.walk(start, path.as_bytes(), &mut |row: UsageRow<'_>| -> io::Result<()> {
                let kind = tree.kind(row.ino);
                let is_told = kind == FileKind::Directory || args.all || row.depth == 0;
                match is_told && row.depth <= deepest {
                    true => print(row.path, Some(kind), row.usage),
                    false => Ok(()),
                }
            })?;
    }
    if args.total {
        print(b"total", None, total)?;
    }
    out.flush()?;
    Ok(if is_complete { ExitCode::SUCCESS } else { ExitCode::from(FAILED) })
}

/// What makes no sense of flags that do so alone.
fn contradiction(args: &args::Du) -> Option<&'static str> {
    let checks = !args.check.is_empty();
    match &args.html {
        Some(_) if args.json && !checks => {
            Some("--json prints nothing beside --html but what became of --check")
        }
        Some(path) if path == Path::new("-") && checks => {
            Some("--html - and --check both print on stdout: name a file for the report")
        }
        _ => None,
    }
}

/// Opens an image with all of its layers.
fn open(args: &args::Du) -> Result<LayeredImage, AnyError> {
    let settings = Settings::read()?;
    let (name, options, cache) =
        to_print(&args.image, &args.image_args, &settings, args.html.as_deref())?;
    let bar = Bar::first_use(&name);
    let image = LayeredImage::open(&name, &cache, &options, &bar).map_err(failed(&name))?;
    bar.ready();
    let indexes = image.indexes();
    let proofs: Vec<_> = indexes.iter().map(|index| index.proof()).collect();
    proof::warn(&image.resolved().name, &proofs, settings.required_proof(&args.image_args)?);
    Ok(image)
}

/// Holds the image against what is demanded of it, and writes the report if there is to be one.
fn measure(args: &args::Du) -> Result<ExitCode, AnyError> {
    let html = report_file(args.html.as_deref())?;
    let image = open(args)?;
    let provenance = image.provenance().map_err(failed(&args.image))?;
    let paths = if html.is_some() { report::NAMED_PATHS } else { check::NAMED_PATHS };
    let mut measured = Measured::new(&image, &provenance, paths);
    let findings: Vec<_> = args.check.iter().map(|check| measured.finding(check)).collect();
    if let Some(html) = html {
        write_report(html, &report::report(&image, &provenance, &measured, &findings))?;
    }
    measured.paths.truncate(check::NAMED_PATHS);
    let (steps, _) = image::steps_of(image.resolved());
    let mut out = BufWriter::new(output::stdout());
    let printed = match args.json {
        _ if findings.is_empty() => Ok(()),
        true => writeln!(out, "{}", line(check::as_json(&image, &findings, &measured, &steps))),
        false => check::print(&mut out, Screen::stdout(), &findings, &measured, &steps),
    };
    output::ignore_closed_pipe(printed.and_then(|()| out.flush()))?;
    let holds = findings.iter().all(|finding| finding.holds);
    Ok(if holds { ExitCode::SUCCESS } else { ExitCode::from(FAILED) })
}

fn by_layer(args: &args::Du) -> Result<ExitCode, AnyError> {
    let image = open(args)?;
    let provenance = image.provenance().map_err(failed(&args.image))?;
    let rows = layer_usage(&image, &provenance);
    let mut out = output::stdout();
    output::ignore_closed_pipe(match args.json {
        true => rows
            .iter()
            .enumerate()
            .try_for_each(|(number, row)| writeln!(out, "{}", line(as_json(number, row)))),
        false => table(args, &rows).print(&mut out),
    })?;
    Ok(ExitCode::SUCCESS)
}

fn as_json(number: usize, row: &LayerUsage) -> serde_json::Value {
    json!({
        "layer": number,
        "digest": row.digest,
        "diff_id": row.diff_id,
        "compressed": row.compressed,
        "uncompressed": row.uncompressed,
        "entries": row.entries,
        "content": row.content,
        "hidden": row.hidden,
        "hidden_files": row.hidden_files,
    })
}

fn table(args: &args::Du, rows: &[LayerUsage]) -> Table {
    let screen = Screen::stdout();
    let columns = [
        ("#", Align::Right),
        ("layer", Align::Left),
        ("compressed", Align::Right),
        ("unpacked", Align::Right),
        ("entries", Align::Right),
        ("hidden", Align::Right),
        ("files", Align::Right),
    ];
    let mut table = Table::new(screen, &columns);
    let shown = |bytes| if args.human_readable { size(bytes) } else { screen.size(bytes) };
    for (number, row) in rows.iter().enumerate() {
        table.row([
            number.to_string(),
            screen.digest(&row.digest),
            shown(row.compressed),
            shown(row.uncompressed),
            row.entries.to_string(),
            shown(row.hidden),
            row.hidden_files.to_string(),
        ]);
    }
    let sum = |of: fn(&LayerUsage) -> u64| rows.iter().map(of).fold(0, u64::saturating_add);
    // Programs can add.
    if screen.is_terminal() {
        table.row([
            String::new(),
            "all".to_owned(),
            shown(sum(|row| row.compressed)),
            shown(sum(|row| row.uncompressed)),
            sum(|row| row.entries).to_string(),
            shown(sum(|row| row.hidden)),
            sum(|row| row.hidden_files).to_string(),
        ]);
    }
    table
}
