//! Trees of files that are blobs or texts, and of no layer.

use std::sync::Arc;
use std::time::Duration;

use crate::artifact::{FileShape, ShownAs};
use crate::blob::{Access, BlobReader, Spans};
use crate::cache::LayerName;
use crate::codec;
use crate::content::Contents;
use crate::digest::DiffId;
use crate::fs::Filesystem;
use crate::image::Error;
use crate::image::opening::Opening;
use crate::index::LayerIndex;
use crate::layer::{OpenedLayers, Quiet};
use crate::oci::Descriptor;
use crate::resolve::ResolvedLayer;
use crate::source::InMemory;
use crate::tree;

/// Permission bits of these files.
const MODE: u16 = 0o444;

/// Files to be shown, by their paths, no two of which are the same.
#[derive(Debug, Default)]
pub(super) struct Files {
    blobs: Vec<ResolvedLayer>,
    texts: Vec<(String, Vec<u8>)>,
}

impl Files {
    /// Adds a blob of the image's repository.
    pub(super) fn blob(&mut self, path: Vec<u8>, descriptor: Descriptor) {
        let shape = FileShape { path, mode: MODE, mtime_seconds: 0 };
        let (diff_id, shown) = (Some(DiffId(descriptor.digest)), ShownAs::File(shape));
        self.blobs.push(ResolvedLayer { descriptor, diff_id, shown });
    }

    /// Adds a text.
    pub(super) fn text(&mut self, path: String, bytes: Vec<u8>) {
        self.texts.push((path, bytes));
    }

    /// Shows them, as blobs of the image that is being opened.
    pub(super) fn open(
        self,
        opening: &Opening<'_>,
        spans: &Arc<Spans>,
        read_deadline: Duration,
    ) -> Result<Filesystem, Error> {
        let open = opening.layers(&self.blobs, &OpenedLayers::default(), &Quiet)?;
        let mut indexes = Vec::new();
        let mut readers = Vec::new();
        for (blob, open) in self.blobs.iter().zip(open) {
            readers.push(opening.reader(blob, &open.index, open.name, spans));
            indexes.push(open.index);
        }
        for (path, bytes) in self.texts {
            let (index, reader) = of_text(&path, bytes, spans)?;
            readers.push(reader);
            indexes.push(Arc::new(index));
        }
        let indexes: Vec<&LayerIndex> = indexes.iter().map(Arc::as_ref).collect();
        let tree = tree::merge(&indexes, opening.finder.budget())?;
        Ok(Filesystem::new(tree, Contents::new(readers), read_deadline))
    }
}

/// A text as a layer of one file.
pub(super) fn of_text(
    path: &str,
    bytes: Vec<u8>,
    spans: &Arc<Spans>,
) -> Result<(LayerIndex, Arc<BlobReader>), Error> {
    let source = InMemory::new(bytes);
    let descriptor = source.descriptor();
    let index = LayerIndex::of_file(descriptor.digest, descriptor.size)
        .and_then(|index| index.shown_as_file(path.as_bytes(), MODE, 0))
        .map_err(Error::Text)?;
    let table = index.span_table(descriptor.digest, descriptor.size);
    let access = Access {
        index_name: LayerName::File(descriptor.digest),
        descriptor,
        source: Arc::new(source),
        codec: codec::Limits::default(),
        windows: None,
    };
    Ok((index, Arc::new(BlobReader::new(table, access, Arc::clone(spans)))))
}
