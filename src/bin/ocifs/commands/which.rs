//! `ocifs which`: the layer and instruction that brought a path, and what became of it.

use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::process::ExitCode;

use ocifs::image::{self, LayersToOpen, PathOrigin, PathOrigins, PathVersion};
use ocifs::oci::HistoryEntry;
use ocifs::tree::{Cause, End, FileKind};
use serde_json::{Value, json};

use crate::args;
use crate::commands::open::{failed, to_print};
use crate::commands::proof;
use crate::environment::Settings;
use crate::render::errors::{AnyError, FAILED};
use crate::render::instruction::instruction;
use crate::render::json::{line, set_name, type_word};
use crate::render::output::{self, write_stderr};
use crate::render::progress::Bar;
use crate::render::screen::Screen;
use crate::render::table::{Align, Table};
use crate::render::text::{count, printable};

pub(crate) fn run(args: &args::Which) -> Result<ExitCode, AnyError> {
    let settings = Settings::read()?;
    let (name, options, cache) = to_print(&args.image, &args.image_args, &settings, None)?;
    let paths: Vec<Vec<u8>> = args.paths.iter().map(|path| path.as_bytes().to_vec()).collect();
    let bar = Bar::first_use(&name);
    let layers = if args.all_layers { LayersToOpen::All } else { LayersToOpen::Cached };
    let found = image::which(&name, &paths, &cache, &options, layers, &bar);
    let found = found.map_err(failed(&name))?;
    bar.ready();
    let name = &found.image.name;
    proof::warn(name, &found.proofs, settings.required_proof(&args.image_args)?);
    let screen = Screen::stdout();
    let mut out = output::stdout();
    output::ignore_closed_pipe(match args.json {
        true => writeln!(out, "{}", line(as_json(&found))),
        false => table(screen, &found).print(&mut out),
    })?;
    let mut missing = false;
    for (path, asked) in found.paths.iter().zip(&args.paths) {
        if path.versions.is_empty() {
            missing = true;
            let of = match found.unopened {
                0 => "no layer has it".to_owned(),
                unopened => format!(
                    "it is not in the image; {} not opened, see --all-layers",
                    count(unopened, "layer was", "layers were")
                ),
            };
            write_stderr(&format!("{name}: {}: {of}\n", printable(&asked.to_string_lossy())));
        } else if screen.is_terminal()
            && let Some(hidden) = path.versions.last().filter(|last| is_hidden_file(last))
        {
            let path = printable(&format!("/{}", String::from_utf8_lossy(&path.path)));
            let layer = hidden.content_layer;
            write_stderr(&format!(
                "Its bytes are still there: ocifs cat --layer {layer} {name} {path}\n"
            ));
        }
    }
    if found.unopened > 0 && !missing && screen.is_terminal() {
        let layers = count(found.unopened, "layer", "layers");
        write_stderr(&format!(
            "What the lowest {layers} had there was not looked at: see --all-layers\n"
        ));
    }
    Ok(if missing { ExitCode::from(FAILED) } else { ExitCode::SUCCESS })
}

fn is_hidden_file(version: &PathVersion) -> bool {
    version.end.is_some() && version.kind == FileKind::Regular
}

/// A row for each version of each path, the newest first, and for each deletion.
fn table(screen: Screen, found: &PathOrigins) -> Table {
    let columns = [
        ("path", Align::Left),
        ("layer", Align::Right),
        ("what", Align::Left),
        ("size", Align::Right),
        ("sha256", Align::Left),
        ("proof", Align::Left),
        ("instruction", Align::Left),
    ];
    let mut table = Table::new(screen, &columns).sparing(&["proof", "sha256"]);
    for PathOrigin { path, versions } in &found.paths {
        let path = format!("/{}", String::from_utf8_lossy(path));
        let by = |layer: usize| found.instructions.get(layer).and_then(Option::as_ref);
        for (at, version) in versions.iter().enumerate().rev() {
            if let Some(End { layer, cause }) =
                version.end.filter(|end| !is_followed(versions, at, *end))
            {
                table.row([
                    path.clone(),
                    layer.to_string(),
                    ending(cause).to_owned(),
                    String::new(),
                    String::new(),
                    String::new(),
                    instruction(screen, by(layer)),
                ]);
            }
            let size = if version.kind == FileKind::Regular {
                screen.size(version.size)
            } else {
                String::new()
            };
            let state = match version.end {
                None => word(version).to_owned(),
                Some(_) => format!("{} (hidden)", word(version)),
            };
            table.row([
                path.clone(),
                version.layer.to_string(),
                state,
                size,
                content(screen, version),
                version.proof.name().to_owned(),
                instruction(screen, by(version.layer)),
            ]);
        }
    }
    table
}

/// Whether the next version is what ended this one.
fn is_followed(versions: &[PathVersion], at: usize, end: End) -> bool {
    versions.get(at + 1).is_some_and(|next| next.layer == end.layer)
}

fn ending(cause: Cause) -> &'static str {
    match cause {
        Cause::Whiteout => "deleted",
        Cause::OpaqueMark => "deleted (opaque directory)",
        Cause::Replaced => "deleted (directory replaced)",
    }
}

fn word(version: &PathVersion) -> &'static str {
    match version.kind {
        FileKind::Regular if version.content_layer != version.layer => "hard link",
        FileKind::Regular => "file",
        FileKind::Directory if version.is_update => "directory, again",
        FileKind::Directory => "directory",
        FileKind::Symlink => "symlink",
        FileKind::CharDevice => "character device",
        FileKind::BlockDevice => "block device",
        FileKind::Fifo => "fifo",
    }
}

fn content(screen: Screen, version: &PathVersion) -> String {
    let digits = version.content.and_then(|content| content.sha256_hex());
    screen.digits(digits.unwrap_or_default())
}

fn as_json(found: &PathOrigins) -> Value {
    let by = |layer: usize| {
        let entry: Option<&HistoryEntry> = found.instructions.get(layer)?.as_ref();
        entry.map(|entry| entry.created_by.clone())
    };
    let version = |version: &PathVersion| {
        let layer = &found.image.layers[version.layer];
        let end = version.end.map(|End { layer, cause }| {
            let cause = match cause {
                Cause::Whiteout => "whiteout",
                Cause::OpaqueMark => "opaque",
                Cause::Replaced => "replaced",
            };
            json!({ "layer": layer, "cause": cause, "created_by": by(layer) })
        });
        let mut row = json!({
            "layer": version.layer,
            "digest": layer.descriptor.digest,
            "diff_id": layer.diff_id,
            "created_by": by(version.layer),
            "content_layer": version.content_layer,
            "type": type_word(version.kind),
            "mode": format!("{:04o}", version.mode),
            "uid": version.uid,
            "gid": version.gid,
            "mtime": version.mtime_seconds,
            "size": (version.kind == FileKind::Regular).then_some(version.size),
            "sha256": version.content.and_then(|content| content.sha256_hex()),
            "proof": version.proof.name(),
            "present": version.is_present,
            "end": end,
            "target": null,
        });
        if let Some(target) = &version.target {
            set_name(&mut row, "target", target);
        }
        row
    };
    let path = |path: &PathOrigin| {
        let versions: Vec<Value> = path.versions.iter().map(version).collect();
        let mut row = json!({ "versions": versions });
        set_name(&mut row, "path", &path.path);
        row
    };
    json!({
        "image": found.image.name,
        "digest": found.image.digest,
        "unopened_layers": found.unopened,
        "paths": found.paths.iter().map(path).collect::<Vec<_>>(),
    })
}
