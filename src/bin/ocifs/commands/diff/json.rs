//! The files that differ, for programs.

use ocifs::image::{FileChange, LayeredImage, common_layers};
use ocifs::tree::{Aspects, FileKind, Ino};
use serde_json::{Value, json};

use super::files::{Files, Kind};
use crate::render::json::{set_name, type_word};

/// The document. Times count as differences if that is wanted.
pub(super) fn document(files: &Files<'_>, metadata: bool) -> Value {
    let mut document = images(files.old, files.new);
    document["bytes_read"] = files.diff.bytes_read.into();
    let changes = files.diff.changes.iter().map(|c| change(files, c, metadata));
    document["changes"] = changes.collect();
    document
}

/// What was compared.
pub(super) fn images(old: &LayeredImage, new: &LayeredImage) -> Value {
    let image = |image: &LayeredImage| {
        let resolved = image.resolved();
        json!({ "image": resolved.name, "digest": resolved.digest })
    };
    let layers = common_layers(old.resolved(), new.resolved());
    json!({
        "old": image(old),
        "new": image(new),
        "layers": { "common": layers.common, "old": layers.old, "new": layers.new },
    })
}

fn change(files: &Files<'_>, change: &FileChange, metadata: bool) -> Value {
    let mut row = json!({
        "change": Kind::of(change).word(),
        "differs": aspects(change.aspects, metadata),
        "old": change.old.map(|ino| file(files.old, ino)),
        "new": change.new.map(|ino| file(files.new, ino)),
        "renamed_from": null,
    });
    set_name(&mut row, "path", &change.path);
    if let Some(from) = &change.renamed_from {
        set_name(&mut row, "renamed_from", from);
    }
    row
}

fn aspects(aspects: Aspects, metadata: bool) -> Vec<&'static str> {
    let named = [
        (aspects.kind, "type"),
        (aspects.content, "content"),
        (aspects.target, "target"),
        (aspects.device, "device"),
        (aspects.mode, "mode"),
        (aspects.owner, "owner"),
        (aspects.xattrs, "xattrs"),
        (aspects.time && metadata, "mtime"),
    ];
    named.into_iter().filter(|(differs, _)| *differs).map(|(_, name)| name).collect()
}

fn file(image: &LayeredImage, ino: Ino) -> Value {
    let tree = image.filesystem().tree();
    let a = tree.attributes(ino);
    let content = image.content_digest(ino);
    let mut row = json!({
        "type": type_word(a.kind),
        "mode": format!("{:04o}", a.mode),
        "uid": a.uid,
        "gid": a.gid,
        "size": (a.kind == FileKind::Regular).then_some(a.size),
        "mtime": a.mtime_seconds,
        "mtime_ns": a.mtime_nanoseconds,
        "sha256": content.and_then(|content| content.sha256_hex()),
        "layer": image.origin(ino).layer,
        "target": null,
    });
    if let Some(target) = tree.symlink(ino) {
        set_name(&mut row, "target", target);
    }
    row
}
