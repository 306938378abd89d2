//! The rows behind a pipe: what it is, digest, media type, size in bytes, and what else there is to say.

use std::io::{self, Write};

use ocifs::image::{Entry, EntryKind, Graph, InspectedImage};
use ocifs::oci::{Descriptor, Document, annotation};

use super::facts;
use crate::render::screen::Screen;
use crate::render::table::{Align, Table};

const COLUMNS: [(&str, Align); 5] = [
    ("what", Align::Left),
    ("digest", Align::Left),
    ("media type", Align::Left),
    ("size", Align::Right),
    ("", Align::Left),
];

/// A document or blob.
pub(super) struct Row {
    pub(super) what: &'static str,
    pub(super) digest: String,
    pub(super) media_type: String,
    pub(super) size: Option<u64>,
    /// What else there is to say.
    pub(super) said: String,
}

impl Row {
    fn new(what: &'static str, descriptor: &Descriptor, said: String) -> Row {
        let (digest, media_type) = (descriptor.digest.to_string(), descriptor.media_type.clone());
        Row { what, digest, media_type, size: Some(descriptor.size), said }
    }
}

pub(super) fn print(out: &mut impl Write, graph: &Graph, screen: Screen) -> io::Result<()> {
    let mut table = Table::new(screen, &COLUMNS);
    for Row { what, digest, media_type, size, said } in rows(graph) {
        let size = size.map_or(String::new(), |size| size.to_string());
        table.row([what.to_owned(), digest, media_type, size, said]);
    }
    table.print(out)?;
    let mut table = Table::new(screen, &[("what", Align::Left), ("", Align::Left)]);
    for (name, value) in graph.image.iter().flat_map(|image| facts::all(image, screen)) {
        table.row([name.to_owned(), value]);
    }
    table.print(out)
}

/// What the name means, and everything from there down.
pub(super) fn rows(graph: &Graph) -> Vec<Row> {
    let root = &graph.root;
    let what = match root.value() {
        Document::Index(_) => "index",
        Document::Manifest(_) => "manifest",
    };
    let mut rows = vec![Row {
        what,
        digest: root.digest().to_string(),
        media_type: root.value().media_type().to_owned(),
        size: Some(root.size()),
        said: graph.name.clone(),
    }];
    rows.extend(graph.entries.iter().map(row));
    for referrer in graph.referrers.iter().flatten() {
        let descriptor = &referrer.descriptor;
        let artifact_type = descriptor.artifact_type.as_deref().unwrap_or_default();
        let said = format!("{artifact_type} of {}", referrer.subject);
        rows.push(Row::new("referrer", descriptor, said));
    }
    match (&graph.image, root.value()) {
        (Some(image), _) => rows.extend(of_image(image)),
        (None, Document::Manifest(manifest)) => {
            let blobs = [("config", &manifest.config)].into_iter();
            let blobs = blobs.chain(manifest.layers.iter().map(|layer| ("layer", layer)));
            rows.extend(blobs.map(|(what, blob)| {
                let title = blob.annotations.get(annotation::TITLE).cloned();
                Row::new(what, blob, title.unwrap_or_default())
            }));
        }
        _ => {}
    }
    rows
}

fn row(entry: &Entry) -> Row {
    let (what, about) = match entry.kind {
        EntryKind::Image if entry.is_shown => ("image *", None),
        EntryKind::Image => ("image", None),
        EntryKind::Index => ("index", None),
        EntryKind::Attestation(of) => ("attestation", of),
        EntryKind::Artifact => ("artifact", None),
        EntryKind::Unknown => ("manifest", None),
        EntryKind::Unusable => ("unusable", None),
    };
    let platform = entry.platform.as_ref().map(ToString::to_string);
    let about = about.map(|digest| format!("of {digest}"));
    let said = platform.into_iter().chain(about).chain(entry.error.clone());
    let mut said: Vec<String> = said.collect();
    match &entry.descriptor {
        Ok(descriptor) => Row::new(what, descriptor, said.join(" ")),
        Err(why) => {
            said.push(why.clone());
            let (digest, media_type) = (String::new(), String::new());
            Row { what, digest, media_type, size: None, said: said.join(" ") }
        }
    }
}

fn of_image(image: &InspectedImage) -> Vec<Row> {
    let manifest = image.resolved.manifest();
    let is_artifact = image.resolved.artifact.is_some();
    let mut rows = vec![Row {
        what: "manifest",
        digest: manifest.digest().to_string(),
        media_type: image.resolved.media_type().to_owned(),
        size: Some(manifest.size()),
        said: match image.resolved.artifact {
            Some(kind) => kind.name().to_owned(),
            None => image.resolved.platform.to_string(),
        },
    }];
    let said = if is_artifact { String::new() } else { "image ID".to_owned() };
    rows.push(Row::new("config", &manifest.value().config, said));
    for (layer, inspected) in image.resolved.layers.iter().zip(&image.layers) {
        let proof = inspected.proof.map(|proof| format!("proof {}", proof.name()));
        let said = [
            is_artifact.then(|| layer.shown_at()),
            layer.diff_id.filter(|_| !is_artifact).map(|diff_id| format!("diff ID {diff_id}")),
            inspected.chain_id.map(|chain_id| format!("chain ID {chain_id}")),
            proof,
        ];
        let said = said.into_iter().flatten().collect::<Vec<_>>().join(" ");
        let what = match is_artifact {
            true if layer.is_made() => "made of blobs",
            true => "blob",
            false => "layer",
        };
        rows.push(Row::new(what, &layer.descriptor, said));
    }
    rows
}
