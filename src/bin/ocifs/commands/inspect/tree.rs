//! The tree on a terminal.

use std::collections::HashMap;
use std::io::{self, Write};

use ocifs::artifact;
use ocifs::digest::Digest;
use ocifs::image::{Entry, EntryKind, Graph, InspectedImage, Referrer};
use ocifs::oci::{Descriptor, Document, Manifest, annotation};
use ocifs::resolve::ResolvedImage;

use super::facts;
use crate::render::screen::{Mark, Screen};
use crate::render::table::cut;
use crate::render::text::{count, printable, size};

/// Between two facts of a line.
const GAP: &str = "   ";

/// Values of one kind that are printed; `--json` has all.
const MAX_LISTED: usize = 20;

/// A line of the tree: what stands below it is drawn below.
struct Branch {
    text: String,
    is_aside: bool,
    below: Vec<Branch>,
}

impl Branch {
    fn new(facts: impl IntoIterator<Item = String>) -> Branch {
        let facts: Vec<String> = facts.into_iter().filter(|fact| !fact.is_empty()).collect();
        Branch { text: printable(&facts.join(GAP)), is_aside: false, below: Vec::new() }
    }

    fn aside(facts: impl IntoIterator<Item = String>) -> Branch {
        Branch { is_aside: true, ..Branch::new(facts) }
    }
}

pub(super) fn print(out: &mut impl Write, graph: &Graph, screen: Screen) -> io::Result<()> {
    let root = &graph.root;
    let what = match root.value() {
        Document::Index(_) => "index",
        Document::Manifest(_) => "manifest",
    };
    let digest = screen.digest(&root.digest());
    let line = Branch::new([graph.name.clone(), format!("{what} {digest}")]);
    writeln!(out, "{}", cut(&line.text, screen.columns().unwrap_or(usize::MAX)))?;
    let mut branches = Vec::new();
    let mut at = 0;
    while at < graph.entries.len() {
        branches.extend(branch(graph, screen, &mut at));
    }
    match (&graph.image, root.value()) {
        (Some(image), _) if !graph.entries.iter().any(|entry| entry.is_shown) => {
            branches.push(of_image(image, screen, &[]));
        }
        (None, Document::Manifest(manifest)) => branches.extend(blobs(manifest, screen)),
        _ => {}
    }
    branches.extend(graph.referrers.iter().flatten().map(|row| referrer(row, graph, screen)));
    draw(out, &branches, "", screen)?;
    match &graph.image {
        Some(image) => config(out, image, screen),
        None => Ok(()),
    }
}

/// An entry, with those of the index that it is below it. Attestations stand below what they are about.
fn branch(graph: &Graph, screen: Screen, at: &mut usize) -> Option<Branch> {
    let number = *at;
    let entry = &graph.entries[number];
    *at += 1;
    let platform = entry.platform.as_ref().map(ToString::to_string).unwrap_or_default();
    let mut notes = Vec::new();
    let twins = twins(graph, number);
    if twins > 0 {
        notes.push(format!("one of {} for this platform: @digest chooses", twins + 1));
    }
    notes.extend(entry.error.clone());
    let descriptor = match &entry.descriptor {
        Ok(descriptor) => descriptor,
        Err(why) => {
            return Some(Branch::aside([platform, "can't be used".to_owned(), why.clone()]));
        }
    };
    if let EntryKind::Attestation(Some(of)) = entry.kind
        && images(graph).any(|digest| digest == of)
    {
        return None;
    }
    if let Some(image) = graph.image.as_ref().filter(|_| entry.is_shown) {
        let mut branch = of_image(image, screen, &notes);
        branch.below.extend(attestations(graph, screen, descriptor));
        return Some(branch);
    }
    let digest = screen.digest(&descriptor.digest);
    let mut facts = match entry.kind {
        EntryKind::Image => vec![platform, format!("manifest {digest}")],
        EntryKind::Index => vec!["index".to_owned(), digest],
        EntryKind::Attestation(of) => {
            let of = of.map(|of| format!("of {}", screen.digest(&of)));
            vec![format!("attestation {digest}"), of.unwrap_or_default()]
        }
        EntryKind::Artifact => {
            let kind = entry.manifest.as_ref().map(|manifest| manifest.kind().to_owned());
            let kind = kind.or_else(|| descriptor.artifact_type.clone());
            vec![platform, format!("artifact {digest}"), kind.unwrap_or_default()]
        }
        EntryKind::Unknown | EntryKind::Unusable => vec![format!("manifest {digest}")],
    };
    facts.extend(entry.manifest.as_ref().filter(|_| entry.kind == EntryKind::Image).map(layers));
    facts.extend(notes);
    let is_aside = matches!(entry.kind, EntryKind::Attestation(_) | EntryKind::Artifact);
    let mut branch = Branch { is_aside, ..Branch::new(facts) };
    branch.below.extend(attestations(graph, screen, descriptor));
    while graph.entries.get(*at).is_some_and(|below| below.depth > entry.depth) {
        branch.below.extend(self::branch(graph, screen, at));
    }
    Some(branch)
}

/// The digests of images among the entries.
fn images(graph: &Graph) -> impl Iterator<Item = Digest> {
    let images = graph.entries.iter().filter(|entry| entry.kind == EntryKind::Image);
    images.filter_map(|entry| Some(entry.descriptor.as_ref().ok()?.digest))
}

/// How many other entries are images for the same platform: then only a digest says which is meant.
fn twins(graph: &Graph, at: usize) -> usize {
    let platform = |entry: &Entry| {
        let is_image = entry.kind == EntryKind::Image;
        entry.platform.clone().filter(|_| is_image)
    };
    let Some(own) = platform(&graph.entries[at]) else { return 0 };
    let digest = graph.entries[at].descriptor.as_ref().map(|descriptor| descriptor.digest).ok();
    let others = graph.entries.iter().filter(|other| platform(other).as_ref() == Some(&own));
    others
        .filter(|other| {
            other.descriptor.as_ref().map(|descriptor| descriptor.digest).ok() != digest
        })
        .count()
}

/// Attestations that say they are about an entry.
fn attestations(graph: &Graph, screen: Screen, of: &Descriptor) -> Vec<Branch> {
    let is_about =
        |entry: &&Entry| matches!(entry.kind, EntryKind::Attestation(Some(d)) if d == of.digest);
    let found = graph.entries.iter().filter(is_about);
    let found = found.filter_map(|entry| entry.descriptor.as_ref().ok());
    found
        .map(|descriptor| {
            Branch::aside([format!("attested by {}", screen.digest(&descriptor.digest))])
        })
        .collect()
}

fn layers(manifest: &Manifest) -> String {
    let bytes = manifest.layers.iter().map(|layer| layer.size).fold(0, u64::saturating_add);
    format!("{}, {}", count(manifest.layers.len(), "layer", "layers"), size(bytes))
}

fn of_image(image: &InspectedImage, screen: Screen, notes: &[String]) -> Branch {
    let resolved = &image.resolved;
    if let Some(kind) = resolved.artifact {
        return of_artifact(resolved, kind, screen, notes);
    }
    let facts = [
        resolved.platform.to_string(),
        format!("manifest {}", screen.digest(&resolved.digest)),
        format!("image ID {}", screen.digest(&resolved.image_id())),
        layers(resolved.manifest().value()),
    ];
    let mut branch = Branch::new(facts.into_iter().chain(notes.iter().cloned()));
    for (at, (layer, inspected)) in resolved.layers.iter().zip(&image.layers).enumerate() {
        let descriptor = &layer.descriptor;
        let proof = inspected.proof.map(|proof| format!("indexed, proof {}", proof.name()));
        let shared = match inspected.shared {
            0 => String::new(),
            others => format!("also in {}", count(others, "other image", "other images")),
        };
        branch.below.push(Branch::new([
            format!("layer {at}"),
            screen.digest(&descriptor.digest),
            compression(&descriptor.media_type).to_owned(),
            size(descriptor.size),
            proof.unwrap_or_default(),
            shared,
        ]));
    }
    branch
}

fn of_artifact(
    resolved: &ResolvedImage,
    kind: artifact::Kind,
    screen: Screen,
    notes: &[String],
) -> Branch {
    let blobs: Vec<_> = resolved.layers.iter().filter(|layer| !layer.is_made()).collect();
    let bytes = blobs.iter().map(|layer| layer.descriptor.size);
    let facts = [
        kind.name().to_owned(),
        format!("manifest {}", screen.digest(&resolved.digest)),
        resolved.manifest().value().kind().to_owned(),
        count(blobs.len(), "blob", "blobs"),
        size(bytes.fold(0, u64::saturating_add)),
    ];
    let mut branch = Branch::new(facts.into_iter().chain(notes.iter().cloned()));
    branch.below.extend(resolved.layers.iter().map(|layer| {
        Branch::new([
            match layer.is_made() {
                true => "made of several blobs".to_owned(),
                false => format!("blob {}", screen.digest(&layer.descriptor.digest)),
            },
            layer.descriptor.media_type.clone(),
            size(layer.descriptor.size),
            layer.shown_at(),
        ])
    }));
    branch
}

/// The word for how a layer is packed, by its media type.
fn compression(media_type: &str) -> &str {
    match media_type.rsplit_once("tar").map(|(_, suffix)| suffix.trim_matches(['+', '.'])) {
        Some("") => "tar",
        Some(suffix) => suffix,
        None => media_type,
    }
}

/// What an artifact is made of.
fn blobs(manifest: &Manifest, screen: Screen) -> Vec<Branch> {
    let row = |what: &str, blob: &Descriptor| {
        let title = blob.annotations.get(annotation::TITLE).cloned();
        Branch::new([
            format!("{what} {}", screen.digest(&blob.digest)),
            blob.media_type.clone(),
            size(blob.size),
            title.unwrap_or_default(),
        ])
    };
    let layers = manifest.layers.iter().map(|layer| row("blob", layer));
    [row("config", &manifest.config)].into_iter().chain(layers).collect()
}

fn referrer(referrer: &Referrer, graph: &Graph, screen: Screen) -> Branch {
    let descriptor = &referrer.descriptor;
    let of = match referrer.subject == graph.root.digest() {
        true => String::new(),
        false => format!("of {}", screen.digest(&referrer.subject)),
    };
    Branch::aside([
        format!("referrer {}", screen.digest(&descriptor.digest)),
        descriptor.artifact_type.clone().unwrap_or_default(),
        of,
    ])
}

fn draw(out: &mut impl Write, branches: &[Branch], before: &str, screen: Screen) -> io::Result<()> {
    let columns = screen.columns().unwrap_or(usize::MAX);
    for (at, branch) in branches.iter().enumerate() {
        let is_last = at + 1 == branches.len();
        let (knot, rest) = if is_last { ("└─ ", "   ") } else { ("├─ ", "│  ") };
        let start = format!("{before}{knot}");
        let text = cut(&branch.text, columns.saturating_sub(start.chars().count()));
        let text = if branch.is_aside { screen.marked(Mark::Aside, &text) } else { text };
        writeln!(out, "{start}{text}")?;
        draw(out, &branch.below, &format!("{before}{rest}"), screen)?;
    }
    Ok(())
}

/// What the config says, a value a line.
fn config(out: &mut impl Write, image: &InspectedImage, screen: Screen) -> io::Result<()> {
    let facts = facts::all(image, screen);
    let columns = screen.columns().unwrap_or(usize::MAX);
    let mut printed = HashMap::new();
    for (name, value) in &facts {
        let number = printed.entry(*name).or_insert(0usize);
        *number += 1;
        if *number <= MAX_LISTED {
            writeln!(out, "{}", cut(&format!("{name:<12}{}", printable(value)), columns))?;
        }
    }
    let mut cut: Vec<_> = printed.into_iter().filter(|(_, all)| *all > MAX_LISTED).collect();
    cut.sort_unstable();
    for (name, all) in cut {
        let text = format!("{name:<12}{} more: --json has them", all - MAX_LISTED);
        writeln!(out, "{}", screen.marked(Mark::Aside, &text))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_for_compressions() {
        for (media_type, word) in [
            ("application/vnd.oci.image.layer.v1.tar", "tar"),
            ("application/vnd.oci.image.layer.v1.tar+gzip", "gzip"),
            ("application/vnd.docker.image.rootfs.diff.tar.gzip", "gzip"),
            ("", ""),
        ] {
            assert_eq!(compression(media_type), word);
        }
    }
}
