//! The rows behind a pipe: what it is, digest, media type, size in bytes, and what else there is to say.

use std::io::{self, Write};

use ocifs::image::{Entry, EntryKind, Graph, InspectedImage};
use ocifs::oci::{Document, annotation};

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

pub(super) fn print(out: &mut impl Write, graph: &Graph, screen: Screen) -> io::Result<()> {
    let mut table = Table::new(screen, &COLUMNS);
    let root = &graph.root;
    let what = match root.value() {
        Document::Index(_) => "index",
        Document::Manifest(_) => "manifest",
    };
    table.row([
        what.to_owned(),
        root.digest().to_string(),
        root.value().media_type().to_owned(),
        root.size().to_string(),
        graph.name.clone(),
    ]);
    for entry in &graph.entries {
        table.row(row(entry));
    }
    for referrer in graph.referrers.iter().flatten() {
        let descriptor = &referrer.descriptor;
        let artifact_type = descriptor.artifact_type.clone().unwrap_or_default();
        table.row([
            "referrer".to_owned(),
            descriptor.digest.to_string(),
            descriptor.media_type.clone(),
            descriptor.size.to_string(),
            format!("{artifact_type} of {}", referrer.subject),
        ]);
    }
    if let Some(image) = &graph.image {
        of_image(&mut table, image, screen);
    } else if let Document::Manifest(manifest) = root.value() {
        let blobs = [("config", &manifest.config)].into_iter();
        for (what, blob) in blobs.chain(manifest.layers.iter().map(|layer| ("layer", layer))) {
            let title = blob.annotations.get(annotation::TITLE);
            table.row([
                what.to_owned(),
                blob.digest.to_string(),
                blob.media_type.clone(),
                blob.size.to_string(),
                title.cloned().unwrap_or_default(),
            ]);
        }
    }
    table.print(out)?;
    let mut table = Table::new(screen, &[("what", Align::Left), ("", Align::Left)]);
    for (name, value) in graph.image.iter().flat_map(|image| facts::all(image, screen)) {
        table.row([name.to_owned(), value]);
    }
    table.print(out)
}

fn row(entry: &Entry) -> [String; 5] {
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
        Ok(descriptor) => [
            what.to_owned(),
            descriptor.digest.to_string(),
            descriptor.media_type.clone(),
            descriptor.size.to_string(),
            said.join(" "),
        ],
        Err(why) => {
            said.push(why.clone());
            [what.to_owned(), String::new(), String::new(), String::new(), said.join(" ")]
        }
    }
}

fn of_image(table: &mut Table, image: &InspectedImage, screen: Screen) {
    let manifest = image.resolved.manifest();
    table.row([
        "manifest".to_owned(),
        manifest.digest().to_string(),
        image.resolved.media_type().to_owned(),
        manifest.size().to_string(),
        match image.resolved.artifact {
            Some(kind) => kind.name().to_owned(),
            None => image.resolved.platform.to_string(),
        },
    ]);
    let config = &manifest.value().config;
    table.row([
        "config".to_owned(),
        config.digest.to_string(),
        config.media_type.clone(),
        config.size.to_string(),
        if image.resolved.artifact.is_none() { "image ID".to_owned() } else { String::new() },
    ]);
    let is_artifact = image.resolved.artifact.is_some();
    for (layer, inspected) in image.resolved.layers.iter().zip(&image.layers) {
        let proof = inspected.proof.map(|proof| format!("proof {}", proof.name()));
        table.row([
            if is_artifact { "blob" } else { "layer" }.to_owned(),
            layer.descriptor.digest.to_string(),
            layer.descriptor.media_type.clone(),
            screen.size(layer.descriptor.size),
            [
                is_artifact.then(|| layer.shown_at()),
                layer.diff_id.filter(|_| !is_artifact).map(|diff_id| format!("diff ID {diff_id}")),
                inspected.chain_id.map(|chain_id| format!("chain ID {chain_id}")),
                proof,
            ]
            .into_iter()
            .flatten()
            .collect::<Vec<_>>()
            .join(" "),
        ]);
    }
}
