//! The document of `--json`.

use ocifs::image::{Entry, EntryKind, Graph, InspectedImage, Referrer};
use ocifs::oci::{Descriptor, parse_time};
use serde_json::{Value, json};

pub(super) fn document(graph: &Graph) -> Value {
    let root = &graph.root;
    let mut document = json!({
        "image": graph.name,
        "root": {
            "digest": root.digest(),
            "media_type": root.value().media_type(),
            "size": root.size(),
        },
        "entries": graph.entries.iter().map(entry).collect::<Vec<_>>(),
        "referrers": graph.referrers.as_ref().map(|list| list.iter().map(referrer).collect::<Vec<_>>()),
        "left_out": graph.left_out,
        "no_image": graph.no_image,
        "digest": null,
    });
    if let Some(image) = &graph.image {
        of_image(&mut document, image);
    }
    document
}

fn of_image(document: &mut Value, image: &InspectedImage) {
    let (resolved, details) = (&image.resolved, &image.details);
    let created = details.created.as_deref().and_then(parse_time);
    let run = &details.run;
    let layers = resolved.layers.iter().zip(&image.layers).map(|(layer, inspected)| {
        json!({
            "digest": layer.descriptor.digest,
            "size": layer.descriptor.size,
            "media_type": layer.descriptor.media_type,
            "annotations": layer.descriptor.annotations,
            "diff_id": layer.diff_id,
            "chain_id": inspected.chain_id.map(|chain_id| chain_id.to_string()),
            "proof": inspected.proof.map(|proof| proof.name()),
            "shared": inspected.shared,
            "shown_at": layer.shown_at(),
            "made": layer.is_made(),
        })
    });
    let facts = json!({
        "digest": resolved.digest,
        "media_type": resolved.media_type(),
        "size": resolved.size(),
        "platform": resolved.platform.to_string(),
        "image_id": resolved.image_id(),
        "annotations": resolved.annotations(),
        "artifact": resolved.artifact.map(|kind| {
            json!({ "kind": kind.name(), "type": resolved.manifest().value().kind() })
        }),
        "layers": layers.collect::<Vec<_>>(),
        "created": created.map(|(seconds, _)| seconds),
        "author": details.author,
        "config": {
            "digest": resolved.image_id(),
            "media_type": resolved.manifest().value().config.media_type,
            "size": resolved.config().size(),
            "user": run.user,
            "working_dir": run.working_dir,
            "entrypoint": run.entrypoint,
            "cmd": run.cmd,
            "env": run.env,
            "ports": run.exposed_ports,
            "volumes": run.volumes,
            "stop_signal": run.stop_signal,
            "labels": run.labels,
        },
    });
    if let (Value::Object(document), Value::Object(facts)) = (document, facts) {
        document.extend(facts);
    }
}

fn kind(kind: EntryKind) -> &'static str {
    match kind {
        EntryKind::Image => "image",
        EntryKind::Index => "index",
        EntryKind::Attestation(_) => "attestation",
        EntryKind::Artifact => "artifact",
        EntryKind::Unknown => "unknown",
        EntryKind::Unusable => "unusable",
    }
}

fn entry(entry: &Entry) -> Value {
    let descriptor = entry.descriptor.as_ref().ok();
    let about = match entry.kind {
        EntryKind::Attestation(of) => of,
        _ => None,
    };
    let blob = |blob: &Descriptor| json!({ "digest": blob.digest, "size": blob.size, "media_type": blob.media_type });
    let manifest = entry.manifest.as_ref().map(|manifest| {
        json!({
            "config": blob(&manifest.config),
            "layers": manifest.layers.iter().map(blob).collect::<Vec<_>>(),
        })
    });
    json!({
        "within": entry.within,
        "kind": kind(entry.kind),
        "digest": descriptor.map(|descriptor| descriptor.digest),
        "media_type": descriptor.map(|descriptor| &descriptor.media_type),
        "size": descriptor.map(|descriptor| descriptor.size),
        "platform": entry.platform.as_ref().map(ToString::to_string),
        "artifact_type": descriptor.and_then(|descriptor| descriptor.artifact_type.as_deref()),
        "annotations": descriptor.map(|descriptor| &descriptor.annotations),
        "about": about,
        "shown": entry.is_shown,
        "manifest": manifest,
        "error": entry.error.as_ref().or(entry.descriptor.as_ref().err()),
    })
}

fn referrer(referrer: &Referrer) -> Value {
    let descriptor = &referrer.descriptor;
    json!({
        "subject": referrer.subject,
        "digest": descriptor.digest,
        "media_type": descriptor.media_type,
        "size": descriptor.size,
        "artifact_type": descriptor.artifact_type,
        "annotations": descriptor.annotations,
    })
}
