//! What the files of the cache are called, and what they are for.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::digest::{DiffId, Digest, SpanDigest};

/// What a file in the cache's folder is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum FileKind {
    /// Spans that can be fetched again on their own.
    Spans,
    /// Spans whose loss means streaming their layer again.
    Streams,
    /// Layer indexes.
    LayerIndexes,
    /// Manifests, image indexes, configs, what tags meant, and lists of tags.
    Documents,
    /// Downloads that can be resumed.
    Partial,
    /// Files that are being written, or were when their process was killed.
    Temporary,
    /// Not ours.
    Other,
}

impl FileKind {
    /// All kinds, in the order in which they are shown.
    pub const ALL: [FileKind; 7] = [
        FileKind::Spans,
        FileKind::Streams,
        FileKind::LayerIndexes,
        FileKind::Documents,
        FileKind::Partial,
        FileKind::Temporary,
        FileKind::Other,
    ];
}

/// How a registry was asked: for what a tag means, say, which nothing else binds to a digest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Asked {
    /// As this machine is set up to: over TLS, unless its settings exempt the registry.
    Checked,
    /// Over plain HTTP, or without a check of the certificate, because the user said so that time; or it is
    /// not known any more.
    #[default]
    Unchecked,
}

/// The names of a layer index.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LayerName {
    /// By the blob it was made from.
    Blob(Digest),
    /// By the tar in it, whatever the blob's compression.
    DiffId(DiffId),
    /// By the blob that is not looked into: it is a file itself.
    File(Digest),
    /// By the blob that is a file, compressed.
    Inflated(Digest),
    /// By the blob it was made from, and the registry that has sent all of that.
    Sent {
        /// The blob.
        blob: Digest,
        /// The registry: see [`LayerName::sent`].
        registry: Digest,
    },
    /// Made by others, and bound by a digest in the manifest.
    Bound {
        /// The blob.
        blob: Digest,
        /// The digest that stands in the manifest.
        bound_by: Digest,
    },
    /// Made by others, and bound by nothing.
    Hint {
        /// The blob.
        blob: Digest,
        /// What the index was found beside: see [`LayerName::hint_scope`].
        scope: Digest,
    },
}

impl LayerName {
    /// The name of an index of a blob that a registry has sent.
    pub fn sent(blob: Digest, registry: &str) -> LayerName {
        LayerName::Sent { blob, registry: Digest::sha256(registry.as_bytes()) }
    }

    /// Whose word an index without proof is: of those who may push to a repository, about an image.
    /// In another repository, or for another manifest, it counts for nothing; nor does what came over a
    /// connection that another machine could have answered on where the connection is checked.
    pub fn hint_scope(registry: &str, repository: &str, manifest: &Digest, asked: Asked) -> Digest {
        let unchecked = if asked == Asked::Unchecked { "\0unchecked" } else { "" };
        Digest::sha256(format!("{registry}\0{repository}\0{manifest}{unchecked}").as_bytes())
    }
}

/// What stands for a layer index that contradicts its layer.
pub(super) const REJECTED: &[u8] = b"contradicts its layer\n";

/// The folders of this version.
pub(super) const FOLDERS: [&str; 9] =
    ["blobs", "spans", "streams", "layers", "diffs", "refs", "tag-lists", "partial", "tmp"];

/// Where a span may be, in the order in which it is looked for.
pub(super) const SPAN_KINDS: [FileKind; 2] = [FileKind::Spans, FileKind::Streams];

/// A span's file, below the version's folder.
pub(super) fn span_name(kind: FileKind, digest: &SpanDigest) -> PathBuf {
    let hex = digest.hex();
    let folder = if kind == FileKind::Streams { "streams" } else { "spans" };
    [folder, &hex[..2], &hex].iter().collect()
}

pub(super) fn blob_name(digest: &Digest) -> PathBuf {
    let hex = digest.hex();
    ["blobs", digest.algorithm().name(), &hex[..2], &hex].iter().collect()
}

pub(super) fn layer_name(name: &LayerName) -> PathBuf {
    let text = |digest: &Digest| format!("{}-{}", digest.algorithm().name(), digest.hex());
    let (folder, name) = match name {
        LayerName::Blob(digest) => ("layers", text(digest)),
        LayerName::DiffId(DiffId(digest)) => ("diffs", text(digest)),
        LayerName::File(digest) => ("files", text(digest)),
        LayerName::Inflated(digest) => ("inflated", text(digest)),
        LayerName::Sent { blob, registry } => ("sent", text(&of_both(blob, registry))),
        LayerName::Bound { blob, bound_by } => ("foreign", text(&of_both(blob, bound_by))),
        LayerName::Hint { blob, scope } => ("hints", text(&of_both(blob, scope))),
    };
    [folder, &name].iter().collect()
}

/// The list of what has come of a blob that is shown before it is verified.
pub(super) fn arrived_name(blob: &Digest) -> PathBuf {
    let name = format!("{}-{}", blob.algorithm().name(), blob.hex());
    ["arrived", &name].iter().collect()
}

fn of_both(one: &Digest, other: &Digest) -> Digest {
    Digest::sha256(&[one.hash(), other.hash()].concat())
}

pub(super) fn tag_name(reference: &str) -> PathBuf {
    ["refs", &Digest::sha256(reference.as_bytes()).hex()].iter().collect()
}

pub(super) fn tag_list_name(repository: &str) -> PathBuf {
    ["tag-lists", &Digest::sha256(repository.as_bytes()).hex()].iter().collect()
}
