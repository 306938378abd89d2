//! Extended attributes that say where a file is from.
//!
//! Every file has them and none lists them, so that copies and archives of a mount do not take them along. They are
//! made when a reader asks: what is kept is an entry's number for each inode, and the layer indexes, which
//! have the digests of contents and are as large as the tree. So they are kept only if that is wanted.

use std::borrow::Cow;
use std::sync::Arc;

use crate::digest::{DiffId, Digest};
use crate::index::{EntryKind, LayerIndex};
use crate::tree::{Ino, Origins, Tree};

/// Begins the names of these attributes.
const PREFIX: &[u8] = b"user.ocifs.";

/// The longest value that Linux takes (`XATTR_SIZE_MAX`).
const MAX_VALUE_BYTES: usize = 65536;

/// A layer, as the files that are from it name it.
#[derive(Clone, Debug)]
pub struct LayerLabel {
    /// Digest of its blob.
    pub blob: Digest,
    /// Digest of its tar, if the image says it.
    pub diff_id: Option<DiffId>,
    /// The instruction that made it, if the config tells.
    pub created_by: Option<String>,
    /// Its index.
    pub index: Arc<LayerIndex>,
}

/// Where the files of a tree are from.
#[derive(Debug)]
pub struct Labels {
    origins: Origins,
    layers: Vec<LayerLabel>,
}

impl Labels {
    /// Of the inodes of a tree, and of its layers as the tree numbers them.
    pub fn new(origins: Origins, layers: Vec<LayerLabel>) -> Labels {
        Labels { origins, layers }
    }

    /// The value of an attribute: `user.ocifs.layer` (digest of the blob), `diff_id`, `created_by` or `sha256` (of a
    /// regular file's content, in hexadecimal digits); `None` for other names, and where there is nothing to say.
    pub(super) fn value(&self, tree: &Tree, ino: Ino, name: &[u8]) -> Option<Cow<'_, [u8]>> {
        let name = name.strip_prefix(PREFIX)?;
        // What several images are shown in is from none of them.
        let layer = &self.layers[tree.layer_of_image(ino)?];
        match name {
            b"layer" => Some(layer.blob.to_string().into_bytes().into()),
            b"diff_id" => layer.diff_id.map(|diff_id| diff_id.to_string().into_bytes().into()),
            b"created_by" => layer.created_by.as_ref().map(|text| cut(text).as_bytes().into()),
            b"sha256" => {
                let entry = layer.index.entry_at(self.origins.entry(ino)?);
                let is_file = matches!(entry.kind, EntryKind::File { .. });
                let digest = is_file.then(|| layer.index.content_digest(&entry))??;
                Some(digest.sha256_hex()?.into_bytes().into())
            }
            _ => None,
        }
    }
}

/// As much of a text as a value may be long.
fn cut(text: &str) -> &str {
    let fits = |end: &usize| text.is_char_boundary(*end);
    let end = (0..=text.len().min(MAX_VALUE_BYTES)).rev().find(fits).unwrap_or(0);
    &text[..end]
}
