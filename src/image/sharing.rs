//! The numbers of layers that images which are opened one by one have in common, so that their files can be told to be
//! the same ([`SharedFiles`](crate::fs::SharedFiles)).
//!
//! # Problem
//!
//! Images of a registry are opened when they are looked at, and closed when others need the room. The kernel knows their
//! files by numbers for longer than that. If a file of two images is to have one number, this has to mean the same
//! file whichever of them is open, and whatever became of the cache meanwhile.
//!
//! # What may be shared
//!
//! Two files of the same content differ in what `stat(2)` tells: mode, owner, times, attributes. So equal content is
//! not enough, and is not looked at. All of that is said by one entry of one layer, so a file is the same if layer and entry
//! are. What makes two layers the same depends on where their entries come from:
//!
//! - An index of our own has the entries of the tar in their order. It follows from the blob and the diff ID,
//!   whichever first pass has made it.
//! - One out of a table that the manifest binds follows from its name in the cache, which has the digest of the table.
//! - A blob that is a file has one entry, whose mode and time the *manifest* says: they belong to it. Its name does not.
//! - What nothing binds, as an index among the referrers, may be another one tomorrow. It is shared with nothing; nor is a
//!   tar of which only the headers are known.
//!
//! # Design
//!
//! A layer has a number from when it is first opened, for as long as the mount lasts ([`LayerNumbers`]). Numbers are given *within a scope*, the
//! registry of the image: a file that two images have is read through whichever is open, and images of one
//! registry must not wait for another that is dead.
//!
//! Rejected: numbers by the digest of contents and attributes, which would find more files to be the same. What a number leads to
//! would have to be remembered for each file.
//!
//! # Invariants
//!
//! - Layers of one number have the same entries at the same places, with the same attributes and bytes.

use std::fmt;

use crate::artifact::ShownAs;
use crate::cache::LayerName;
use crate::digest::{DiffId, Digest};
use crate::index::Proof;
use crate::layer::OpenLayer;
use crate::resolve::ResolvedLayer;

/// Numbers of layers, by what they are.
pub trait LayerNumbers: fmt::Debug + Send + Sync {
    /// The number of a layer of which this is a digest of all that its entries follow from, and of its scope: the same
    /// whenever it is asked for; `None` if it is to be shared with nothing.
    fn number(&self, layer: Digest) -> Option<u32>;
}

/// The numbers of one scope.
#[derive(Clone, Copy, Debug)]
pub struct Scope<'a> {
    /// All numbers.
    pub numbers: &'a dyn LayerNumbers,
    /// Where the image is: within it layers are shared.
    pub name: &'a str,
}

/// What the entries of a layer follow from.
#[derive(Clone, Debug, PartialEq, Eq)]
enum SharedLayer {
    /// A tar that was streamed.
    Tar { blob: Digest, diff_id: DiffId, below: Vec<u8> },
    /// A table that the manifest binds.
    Table { name: LayerName, below: Vec<u8> },
    /// A blob that is a file.
    File { name: LayerName, mode: u16, mtime_seconds: i64 },
}

impl Scope<'_> {
    /// The number of an open layer; none if it is shared with nothing.
    pub(super) fn number(self, layer: &ResolvedLayer, open: &OpenLayer) -> Option<u32> {
        self.numbers.number(SharedLayer::of(layer, open)?.digest(self.name))
    }
}

impl SharedLayer {
    fn of(layer: &ResolvedLayer, open: &OpenLayer) -> Option<SharedLayer> {
        let (blob, proof) = (layer.descriptor.digest, open.index.proof());
        let below = match &layer.shown {
            ShownAs::File(shape) | ShownAs::Compressed(shape) => {
                // Compressed or not, the name has the blob's digest.
                let (name, mode, mtime_seconds) = (open.name, shape.mode, shape.mtime_seconds);
                return Some(SharedLayer::File { name, mode, mtime_seconds });
            }
            ShownAs::Tree { below } => below.clone(),
        };
        match proof {
            Proof::Tar | Proof::Full => {
                Some(SharedLayer::Tar { blob, diff_id: open.index.diff_id(), below })
            }
            Proof::Toc => Some(SharedLayer::Table { name: open.name, below }),
            Proof::Hint | Proof::Transport => None,
        }
    }
    /// A digest of it within a scope. It is the same in another version of the program, which may take over a mount.
    fn digest(&self, scope: &str) -> Digest {
        let of_name = |name: &LayerName| match name {
            LayerName::Blob(blob) => format!("blob {blob}"),
            LayerName::DiffId(diff_id) => format!("diff {diff_id}"),
            LayerName::File(blob) => format!("file {blob}"),
            LayerName::Inflated(blob) => format!("inflated {blob}"),
            LayerName::Sent { blob, registry } => format!("sent {blob} {registry}"),
            LayerName::Bound { blob, bound_by } => format!("bound {blob} {bound_by}"),
            LayerName::Hint { blob, scope } => format!("hint {blob} {scope}"),
        };
        let (words, below): (String, &[u8]) = match self {
            SharedLayer::Tar { blob, diff_id, below } => (format!("tar {blob} {diff_id}"), below),
            SharedLayer::Table { name, below } => (format!("table {}", of_name(name)), below),
            SharedLayer::File { name, mode, mtime_seconds } => {
                (format!("file {} {mode} {mtime_seconds}", of_name(name)), &[])
            }
        };
        Digest::sha256(&[scope.as_bytes(), b"\0", words.as_bytes(), b"\0", below].concat())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::artifact::FileShape;
    use crate::codec::Compression;
    use crate::index::{Builder, Identity, LayerIndex};
    use crate::oci::Descriptor;

    /// In the order in which they are asked for.
    #[derive(Debug, Default)]
    struct InOrder(Mutex<Vec<Digest>>);

    impl LayerNumbers for InOrder {
        fn number(&self, layer: Digest) -> Option<u32> {
            let mut known = self.0.lock().unwrap();
            let at = known.iter().position(|other| *other == layer).unwrap_or(known.len());
            let length = known.len().max(at + 1);
            known.resize(length, layer);
            Some(at as u32)
        }
    }

    fn blob(word: &str) -> Digest {
        Digest::sha256(word.as_bytes())
    }

    fn layer(word: &str, shown: ShownAs) -> ResolvedLayer {
        ResolvedLayer { descriptor: Descriptor::of_manifest(blob(word)), diff_id: None, shown }
    }

    fn tar(word: &str, proof: Proof, name: LayerName) -> OpenLayer {
        let identity = Identity {
            blob: blob(word),
            blob_size: 0,
            diff_id: DiffId(blob("tar")),
            uncompressed_size: 0,
            compression: Compression::None,
            proof,
        };
        OpenLayer { index: Arc::new(Builder::new().finish(identity).unwrap()), name }
    }

    fn file(path: &str, mode: u16) -> ShownAs {
        ShownAs::File(FileShape { path: path.as_bytes().to_vec(), mode, mtime_seconds: 0 })
    }

    #[test]
    fn layers_are_the_same_if_their_entries_are() {
        let numbers = InOrder::default();
        let of = |name| Scope { numbers: &numbers, name };
        let own = LayerName::Blob(blob("a"));
        let root = layer("a", ShownAs::ROOT);
        let first = of("r.example").number(&root, &tar("a", Proof::Full, own));
        assert_eq!(first, Some(0));
        // However the index was found that is of the tar.
        let by_tar = LayerName::DiffId(DiffId(blob("tar")));
        assert_eq!(of("r.example").number(&root, &tar("b", Proof::Tar, by_tar)), first);
        assert_ne!(of("other.example").number(&root, &tar("a", Proof::Full, own)), first);
        let below = layer("a", ShownAs::Tree { below: b"x".to_vec() });
        assert_ne!(of("r.example").number(&below, &tar("a", Proof::Full, own)), first);
        // What a table says has an order of its own, and what nothing binds may be another tomorrow.
        let bound = |by| LayerName::Bound { blob: blob("a"), bound_by: blob(by) };
        let table = |by| of("r.example").number(&root, &tar("a", Proof::Toc, bound(by)));
        assert!(table("t") != first && table("t") == table("t") && table("t") != table("u"));
        let hint = LayerName::Hint { blob: blob("a"), scope: blob("s") };
        assert_eq!(of("r.example").number(&root, &tar("a", Proof::Hint, hint)), None);
        assert_eq!(of("r.example").number(&root, &tar("a", Proof::Transport, own)), None);
    }

    #[test]
    fn blobs_that_are_files_are_the_same_if_their_manifests_say_so() {
        let numbers = InOrder::default();
        let scope = Scope { numbers: &numbers, name: "r.example" };
        let number = |word: &str, shown: ShownAs, name: fn(Digest) -> LayerName| {
            let index = LayerIndex::of_file(blob(word), 1).unwrap();
            let open = OpenLayer { index: Arc::new(index), name: name(blob(word)) };
            scope.number(&layer(word, shown), &open)
        };
        let first = number("a", file("one", 0o644), LayerName::File);
        assert_eq!(
            number("a", file("d/two", 0o644), LayerName::File),
            first,
            "a name is no matter"
        );
        assert_ne!(number("a", file("one", 0o755), LayerName::File), first);
        assert_ne!(number("b", file("one", 0o644), LayerName::File), first);
        let ShownAs::File(shape) = file("one", 0o644) else { panic!() };
        assert_ne!(number("a", ShownAs::Compressed(shape), LayerName::Inflated), first);
    }
}
