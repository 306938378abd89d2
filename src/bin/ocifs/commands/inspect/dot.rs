//! A graph for Graphviz: a node for each document and layer, an edge for each descriptor.

use std::collections::HashSet;
use std::io::{self, Write};

use ocifs::digest::Digest;
use ocifs::image::{EntryKind, Graph};
use ocifs::oci::{Document, Manifest};

use crate::render::text::{printable, size};

/// Digits of a digest in a label.
const SHORT_DIGITS: usize = 12;

/// A graph that is written; a node is written once, under the first name that it has.
struct Dot<'a, W> {
    out: &'a mut W,
    seen: HashSet<Digest>,
}

pub(super) fn print(out: &mut impl Write, graph: &Graph) -> io::Result<()> {
    writeln!(out, "digraph {} {{", quoted(&[&graph.name]))?;
    writeln!(out, "  rankdir=LR; node [shape=box, fontname=\"sans-serif\"];")?;
    let mut dot = Dot { out, seen: HashSet::new() };
    let root = &graph.root;
    let what = match root.value() {
        Document::Index(_) => "image index",
        Document::Manifest(_) => "manifest",
    };
    dot.node(root.digest(), &[&graph.name, what], root.size())?;
    for entry in &graph.entries {
        let Ok(descriptor) = &entry.descriptor else { continue };
        let platform = entry.platform.as_ref().map(ToString::to_string).unwrap_or_default();
        let what = match entry.kind {
            EntryKind::Image | EntryKind::Unknown => "manifest",
            EntryKind::Index => "image index",
            EntryKind::Attestation(_) => "attestation",
            EntryKind::Artifact | EntryKind::Unusable => "artifact",
        };
        dot.node(descriptor.digest, &[what, &platform], descriptor.size)?;
        dot.edge(entry.within, descriptor.digest, "")?;
        if let EntryKind::Attestation(Some(of)) = entry.kind {
            dot.edge(descriptor.digest, of, " [style=dashed]")?;
        }
    }
    for entry in &graph.entries {
        if let (Ok(descriptor), Some(manifest)) = (&entry.descriptor, &entry.manifest) {
            dot.manifest(descriptor.digest, manifest)?;
        }
    }
    match (&graph.image, root.value()) {
        (None, Document::Manifest(manifest)) => dot.manifest(root.digest(), manifest)?,
        (Some(image), _) if graph.entries.is_empty() => {
            dot.manifest(image.resolved.digest, image.resolved.manifest().value())?;
        }
        _ => {}
    }
    for referrer in graph.referrers.iter().flatten() {
        let descriptor = &referrer.descriptor;
        let artifact_type = descriptor.artifact_type.as_deref().unwrap_or_default();
        dot.node(descriptor.digest, &["referrer", artifact_type], descriptor.size)?;
        dot.edge(descriptor.digest, referrer.subject, " [style=dashed]")?;
    }
    writeln!(dot.out, "}}")
}

impl<W: Write> Dot<'_, W> {
    fn node(&mut self, digest: Digest, words: &[&str], bytes: u64) -> io::Result<()> {
        if !self.seen.insert(digest) {
            return Ok(());
        }
        let short: String = digest.hex().chars().take(SHORT_DIGITS).collect();
        let size = size(bytes);
        let lines = words.iter().copied().chain([short.as_str(), size.as_str()]);
        let lines: Vec<&str> = lines.filter(|line| !line.is_empty()).collect();
        writeln!(self.out, "  \"{digest}\" [label={}];", quoted(&lines))
    }

    fn edge(&mut self, from: Digest, to: Digest, style: &str) -> io::Result<()> {
        writeln!(self.out, "  \"{from}\" -> \"{to}\"{style};")
    }

    fn manifest(&mut self, digest: Digest, manifest: &Manifest) -> io::Result<()> {
        self.node(manifest.config.digest, &["config"], manifest.config.size)?;
        self.edge(digest, manifest.config.digest, "")?;
        for (at, layer) in manifest.layers.iter().enumerate() {
            self.node(layer.digest, &[&format!("layer {at}")], layer.size)?;
            self.edge(digest, layer.digest, "")?;
        }
        Ok(())
    }
}

/// A quoted string of lines: a quote or a backslash of others does not end it.
fn quoted(lines: &[&str]) -> String {
    let escape = |line: &&str| printable(line).replace('\\', "\\\\").replace('"', "\\\"");
    format!("\"{}\"", lines.iter().map(escape).collect::<Vec<_>>().join("\\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_end_no_string() {
        assert_eq!(quoted(&["a\"b\\", "c\u{1b}"]), "\"a\\\"b\\\\\\nc\u{fffd}\"");
    }
}
