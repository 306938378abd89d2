//! Tests of what stays of the documents that lead to an image.

use std::collections::HashMap;
use std::io;
use std::ops::Range;

use super::{ResolveOptions, ResolvedImage, resolve};
use crate::cache::Cache;
use crate::digest::Digest;
use crate::oci::{Descriptor, media_type};
use crate::source::{Error, Opened, RawDocument, Source};

const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

/// Documents by their digest, and the one that a name means.
#[derive(Debug, Default)]
struct Documents {
    bytes: HashMap<Digest, Vec<u8>>,
    root: Option<Digest>,
}

impl Documents {
    /// Adds a document, which becomes what the name means; its descriptor.
    fn add(&mut self, text: String, media_type: &str) -> String {
        let digest = Digest::sha256(text.as_bytes());
        let size = text.len();
        self.bytes.insert(digest, text.into_bytes());
        self.root = Some(digest);
        format!(r#"{{"mediaType":"{media_type}","digest":"{digest}","size":{size}}}"#)
    }

    /// Adds an image of one layer.
    fn add_image(&mut self) -> String {
        let digest = Digest::sha256(b"");
        let config = format!(
            r#"{{"os":"linux","architecture":"arm64","rootfs":{{"diff_ids":["{digest}"]}}}}"#
        );
        let config = self.add(config, media_type::OCI_CONFIG);
        let layer = format!(r#"{{"mediaType":"{LAYER}","digest":"{digest}","size":0}}"#);
        let text = format!(
            r#"{{"schemaVersion":2,"config":{config},"layers":[{layer}],"annotations":{{"a":"b"}}}}"#
        );
        self.add(text, media_type::OCI_MANIFEST)
    }

    /// Adds an image index.
    fn add_index(&mut self, entries: &[&str]) -> String {
        let text = format!(r#"{{"schemaVersion":2,"manifests":[{}]}}"#, entries.join(","));
        self.add(text, media_type::OCI_INDEX)
    }

    fn resolve(&self) -> ResolvedImage {
        let options =
            ResolveOptions { platform: "linux/arm64".parse().ok(), ..ResolveOptions::default() };
        resolve(&"./image".parse().unwrap(), self, &Cache::none(), &options).unwrap()
    }

    fn get(&self, digest: &Digest) -> RawDocument {
        let bytes = self.bytes[digest].clone();
        RawDocument { bytes, media_type: None, digest: None }
    }
}

impl Source for Documents {
    fn root(&self) -> Result<RawDocument, Error> {
        Ok(self.get(&self.root.unwrap()))
    }

    fn document(&self, descriptor: &Descriptor) -> Result<RawDocument, Error> {
        Ok(self.get(&descriptor.digest))
    }

    fn blob(&self, descriptor: &Descriptor, range: Range<u64>) -> Result<Opened, Error> {
        let bytes = self.bytes[&descriptor.digest].clone();
        Ok(Opened { body: Box::new(io::Cursor::new(bytes)), start: 0, end: range.end })
    }
}

#[test]
fn an_image_has_the_documents_that_lead_to_it() {
    let mut documents = Documents::default();
    let manifest = documents.add_image();
    let image_digest = documents.root.unwrap();
    let image = documents.resolve();
    assert!(image.indexes().is_empty());
    assert_eq!((image.root, image.digest), (image_digest, image_digest));

    // An entry that does not say what it is leads to another index, beside one that leads nowhere.
    let inner = documents.add_index(&[&manifest]);
    let inner_digest = documents.root.unwrap();
    let empty = documents.add_index(&[]);
    documents.add_index(&[&empty, &inner]);
    let outer_digest = documents.root.unwrap();
    let image = documents.resolve();
    let digests: Vec<Digest> = image.indexes().iter().map(|index| index.digest()).collect();
    assert_eq!(digests, [outer_digest, inner_digest]);
    assert_eq!((image.root, image.digest), (outer_digest, image_digest));
    for index in image.indexes() {
        assert_eq!(index.bytes(), documents.bytes[&index.digest()]);
    }
    assert_eq!(image.manifest().bytes(), documents.bytes[&image_digest]);
    assert_eq!(image.size(), image.manifest().bytes().len() as u64);
    assert_eq!(image.config().bytes(), documents.bytes[&image.image_id()]);
    assert_eq!(image.annotations()["a"], "b");
    assert_eq!(image.layers.len(), 1);

    // One that names a platform and is an index all the same is on the way too.
    let labelled = inner.replacen('{', r#"{"platform":{"os":"linux","architecture":"arm64"},"#, 1);
    documents.add_index(&[&empty, &labelled]);
    let image = documents.resolve();
    let digests: Vec<Digest> = image.indexes().iter().map(|index| index.digest()).collect();
    assert_eq!(digests, [documents.root.unwrap(), inner_digest]);
    assert_eq!(image.digest, image_digest);
}
