//! `ocifs cache`: what the cache holds, and making it smaller; by images in [`images`].
//!
//! Figures on stdout, words on stderr. All verbs are safe beside mounts that use the cache.

mod folder;
mod images;

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::ExitCode;

use indicatif::HumanBytes;
use ocifs::cache::{Count, FileKind, LayerName, Removed, Verified};
use ocifs::digest::SpanDigest;
use ocifs::index::{Check, LayerIndex};
use serde_json::json;

use crate::args;
use crate::render::errors::{AnyError, FAILED};
use crate::render::json::{line, set_name};
use crate::render::output::{self, write_stderr};
use crate::render::progress;
use crate::render::text;
use folder::CacheFolder;

pub(crate) fn run(args: &args::Cache) -> Result<ExitCode, AnyError> {
    match args {
        args::Cache::Du(verb) => du(&CacheFolder::open(verb)?),
        args::Cache::Ls(verb) => images::ls(&CacheFolder::open(verb)?),
        args::Cache::Rm { images, verb } => {
            let place = CacheFolder::open(verb)?;
            let removed = images::rm(&place, images)?;
            told(&place, removed)
        }
        args::Cache::Gc { max_size, verb } => gc(&CacheFolder::open(verb)?, *max_size),
        args::Cache::Verify(verb) => verify(&CacheFolder::open(verb)?),
        args::Cache::Clear(verb) => clear(&CacheFolder::open(verb)?),
    }
}

fn words(kind: FileKind) -> &'static str {
    match kind {
        FileKind::Spans => "spans",
        FileKind::Streams => "streams",
        FileKind::LayerIndexes => "layer indexes",
        FileKind::Documents => "documents",
        FileKind::Partial => "partial downloads",
        FileKind::Temporary => "temporary",
        FileKind::Other => "not ours",
    }
}

fn du(place: &CacheFolder) -> Result<ExitCode, AnyError> {
    let usage = place.usage()?;
    let limit = place.cache.limit();
    let mut out = output::stdout();
    if place.json {
        let mut row = json!({
            "limit": limit,
            "total": usage.total,
            "kinds": usage.kinds,
        });
        place.name_folder(&mut row);
        writeln!(out, "{}", line(row))?;
        return Ok(ExitCode::SUCCESS);
    }
    writeln!(out, "{}", place.folder.display())?;
    for (kind, count) in &usage.kinds {
        // Where there are no such files, no line is needed.
        if *kind != FileKind::Other || count.files > 0 {
            row(&mut out, words(*kind), count)?;
        }
    }
    row(&mut out, "total", &usage.total)?;
    let limit = limit.map_or("none".to_owned(), |limit| HumanBytes(limit).to_string());
    writeln!(out, "  {:<18} {limit:>12}", "limit")?;
    Ok(ExitCode::SUCCESS)
}

fn row(out: &mut impl Write, what: &str, count: &Count) -> io::Result<()> {
    let bytes = HumanBytes(count.bytes).to_string();
    writeln!(out, "  {what:<18} {bytes:>12} {:>9} files", count.files)
}

fn gc(place: &CacheFolder, max_size: Option<u64>) -> Result<ExitCode, AnyError> {
    let size = max_size.or(place.cache.limit());
    let removed = match max_size {
        Some(size) => place.cache.collect(size),
        None => place.cache.collect_to_limit(),
    };
    let removed = removed.map_err(|e| place.failed(&e))?;
    if size.is_some_and(|size| removed.left > size) && removed.failed.is_none() {
        write_stderr(
            "warning: what is left are documents, layer indexes and files in use; \
             `ocifs cache clear` removes them too\n",
        );
    }
    told(place, removed)
}

fn clear(place: &CacheFolder) -> Result<ExitCode, AnyError> {
    let removed = place.cache.clear().map_err(|e| place.failed(&e))?;
    told(place, removed)
}

/// Says what was removed, and what could not be.
fn told(place: &CacheFolder, removed: Removed) -> Result<ExitCode, AnyError> {
    output::ignore_closed_pipe(print_removed(place, &removed))?;
    match removed.failed {
        Some((path, error)) => Err(not_done(&place.folder.join("v1").join(path), &error)),
        None => Ok(ExitCode::SUCCESS),
    }
}

fn print_removed(place: &CacheFolder, removed: &Removed) -> io::Result<()> {
    let mut out = output::stdout();
    if place.json {
        let mut row = json!({
            "removed": { "files": removed.files, "bytes": removed.bytes },
            "left": { "bytes": removed.left },
        });
        place.name_folder(&mut row);
        return writeln!(out, "{}", line(row));
    }
    writeln!(
        out,
        "removed {} in {} files, {} left",
        HumanBytes(removed.bytes),
        removed.files,
        HumanBytes(removed.left),
    )
}

fn not_done(path: &Path, error: &io::Error) -> AnyError {
    format!("{}: {error}", path.display()).into()
}

fn verify(place: &CacheFolder) -> Result<ExitCode, AnyError> {
    let usage = place.usage()?;
    let bar = progress::checking(usage.total.bytes);
    let verified = place
        .cache
        .verify(&check_layer, &mut |bytes| bar.inc(bytes))
        .map_err(|e| place.failed(&e))?;
    bar.finish_and_clear();
    output::ignore_closed_pipe(print_verified(place, &verified))?;
    match verified.failed {
        Some((path, error)) => Err(not_done(&path, &error)),
        None if verified.damaged.is_empty() => Ok(ExitCode::SUCCESS),
        None => Ok(ExitCode::from(FAILED)),
    }
}

fn print_verified(place: &CacheFolder, verified: &Verified) -> io::Result<()> {
    let mut out = output::stdout();
    if place.json {
        let damaged = verified.damaged.iter().map(|damage| {
            let mut row = json!({ "kind": damage.kind, "why": damage.why });
            set_name(&mut row, "path", damage.path.as_os_str().as_bytes());
            row
        });
        let mut row = json!({
            "checked": verified.checked,
            "by_checksum": verified.by_checksum,
            "damaged": damaged.collect::<Vec<_>>(),
        });
        place.name_folder(&mut row);
        return writeln!(out, "{}", line(row));
    }
    let mut by_kind: BTreeMap<FileKind, u64> = BTreeMap::new();
    for damage in &verified.damaged {
        let text = format!("{}: {}", damage.path.display(), damage.why);
        writeln!(out, "{}", text::printable(&text))?;
        *by_kind.entry(damage.kind).or_default() += 1;
    }
    let (bytes, files) = (HumanBytes(verified.checked.bytes), verified.checked.files);
    let damaged: Vec<String> =
        by_kind.iter().map(|(kind, files)| format!("{files} {}", words(*kind))).collect();
    let Count { files: weak, .. } = verified.by_checksum;
    if weak > 0 {
        writeln!(out, "{weak} spans have no digest of their bytes: their checksums are right")?;
    }
    match damaged.is_empty() {
        true => writeln!(out, "checked {bytes} in {files} files: nothing is damaged"),
        false => writeln!(
            out,
            "checked {bytes} in {files} files: damaged and removed were {}",
            damaged.join(", ")
        ),
    }
}

/// A layer index must be sound, and about the layer whose name it has. Tells which of its spans have
/// the digest of their bytes.
fn check_layer(name: &LayerName, bytes: &[u8]) -> Result<Vec<SpanDigest>, String> {
    let index = LayerIndex::decode(bytes).map_err(|e| e.to_string())?;
    let right = match name {
        LayerName::Blob(digest) | LayerName::File(digest) | LayerName::Inflated(digest) => {
            index.blob() == *digest
        }
        LayerName::Sent { blob, .. }
        | LayerName::Hint { blob, .. }
        | LayerName::Bound { blob, .. } => index.blob() == *blob,
        LayerName::DiffId(diff_id) => index.diff_id() == *diff_id,
    };
    if !right {
        return Err("it is about another layer".to_owned());
    }
    let spans = (0..index.span_count()).map(|at| index.span(at));
    Ok(spans.filter(|span| span.check == Check::Content).map(|span| span.digest).collect())
}
