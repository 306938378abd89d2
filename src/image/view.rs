//! What a mount shows: one image, or several with a directory each.

use std::sync::Arc;

use super::options::{Opened, Selection};
use super::tag::Tag;
use super::whole::Image;
use crate::blob::{BlobReader, Spans};
use crate::digest::Digest;
use crate::erofs::Uuid;
use crate::fs::Filesystem;
use crate::index::Proof;
use crate::reference::DirectoryName;
use crate::resolve::ResolvedImage;
use crate::source::Source;
use crate::source::registry::Traffic;
use crate::tree::Sharing;

/// Images named as the source of a mount, in bytes. The kernel takes 4096.
const MAX_SOURCE_BYTES: usize = 2048;

/// What a mount shows: an image, or several with a directory each.
#[derive(Debug)]
pub struct View {
    pub(crate) images: Vec<Shown>,
    pub(crate) filesystem: Arc<Filesystem>,
    pub(crate) spans: Arc<Spans>,
    pub(crate) traffic: Arc<Traffic>,
    pub(crate) sharing: Sharing,
    pub(crate) selection: Selection,
}

/// An image in a view.
#[derive(Clone, Debug)]
pub struct Shown {
    /// Its directory; `None` if it is the whole view.
    pub directory: Option<DirectoryName>,
    /// What its name resolved to.
    pub image: ResolvedImage,
    /// What the name of the image whose files are left out meant.
    pub(crate) base: Option<Digest>,
    /// What was checked of each layer when it was opened, base first.
    pub proofs: Vec<Proof>,
    /// Its layers' bytes, base first.
    pub(crate) readers: Vec<Arc<BlobReader>>,
    /// Where it is.
    pub(crate) source: Arc<dyn Source>,
    /// Its tag, to ask whether it has moved.
    pub(crate) tag: Option<Arc<Tag>>,
}

impl From<Image> for View {
    fn from(image: Image) -> View {
        let Image { resolved, selection, base, source, tag, proofs, filesystem, spans, traffic } =
            image;
        let readers = filesystem.contents().layers().to_vec();
        let shown = Shown { directory: None, image: resolved, base, proofs, readers, source, tag };
        let (images, sharing) = (vec![shown], Sharing::Equal);
        View { images, filesystem, spans, traffic, sharing, selection }
    }
}

impl Shown {
    /// What another process needs to open the same.
    pub fn opened(&self) -> Opened {
        let layers = self.image.layers.iter().zip(&self.proofs);
        let claimed = layers.filter(|(_, proof)| !proof.is_own());
        let claimed = claimed.map(|(layer, _)| layer.descriptor.digest).collect();
        Opened { root: self.image.root, claimed, base: self.base, words: None }
    }
}

impl View {
    /// The images, in the order in which they were named.
    pub fn images(&self) -> &[Shown] {
        &self.images
    }

    /// Names, attributes and bytes.
    pub fn filesystem(&self) -> &Filesystem {
        &self.filesystem
    }

    /// What went over the network so far.
    pub fn traffic(&self) -> &Traffic {
        &self.traffic
    }

    /// An UUID made from the digests of the images and the names of their directories (version 8, RFC 9562).
    pub(crate) fn uuid(&self) -> Uuid {
        let mut text = String::new();
        for shown in &self.images {
            let directory = shown.directory.as_ref().map_or("", |directory| directory.as_str());
            text.push_str(&format!("{} {directory}\n", shown.image.digest));
        }
        // The lowest layers alone are something else.
        if let Some(count) = self.selection.lowest_layers {
            text.push_str(&format!("{count}\n"));
        }
        let mut uuid = Uuid::default();
        uuid.copy_from_slice(&Digest::sha256(text.as_bytes()).hash()[..16]);
        uuid[6] = uuid[6] & 0x0f | 0x80;
        uuid[8] = uuid[8] & 0x3f | 0x80;
        uuid
    }

    /// What `/proc/mounts` shows as the source: the names of the images.
    pub fn source(&self) -> String {
        let mut source = String::new();
        for (at, shown) in self.images.iter().enumerate() {
            let name = &shown.image.name;
            if at > 0 && source.len() + name.len() > MAX_SOURCE_BYTES {
                source.push_str(&format!(",+{}", self.images.len() - at));
                break;
            }
            if at > 0 {
                source.push(',');
            }
            source.push_str(name);
        }
        source
    }
}
