//! What others say of an image, as files: attestations and referrers.

use std::collections::HashSet;
use std::sync::Arc;

use super::Structure;
use super::files::Files;
use super::names::{self, Names};
use crate::artifact::{self, ArtifactView, ShownAs};
use crate::fs::Filesystem;
use crate::image::attest::{self, Attestation};
use crate::image::graph::{self, Depth};
use crate::image::{Error, parallel};
use crate::oci::{Descriptor, Document};

/// Artifacts that are shown. Real images have a few.
const MAX_REFERRERS: usize = 256;

impl Structure {
    fn show(&self, files: Files) -> Result<Filesystem, Error> {
        files.open(&self.opening()?, &self.spans, self.options.read_deadline)
    }

    /// The blobs that attest something of the image, a file each; none of them is fetched before it is read.
    ///
    /// # Errors
    /// The image's documents or lists of referrers can't be had.
    pub fn attestations(&self) -> Result<Filesystem, Error> {
        let mut files = Files::default();
        let Some(image) = self.image() else { return self.show(files) };
        let options = self.options.of_resolving();
        let documents = self.documents_with(&options);
        let (name, root) = (self.name.to_string(), self.root.clone());
        let shown = Some(image);
        let graph = graph::of_root(name, root, shown, documents, &self.options, Depth::Shown);
        let source = &self.source;
        let (rows, cut) = attest::list(&graph, image.digest, source, documents, &self.options);
        if let Some(cut) = cut {
            log::warn!("{}: attestations may be missing: {cut}", graph.name);
        }
        let mut taken = Names::default();
        // What is no attestation is a referrer.
        let rows =
            rows.into_iter().filter(|row| row.blob.digest != row.manifest || row.error.is_some());
        for Attestation { predicate_type, blob, error, .. } in rows {
            if let Some(error) = error {
                log::warn!("{}: an attestation is not shown: {error}", graph.name);
                continue;
            }
            let (word, digest) = (names::clean(&predicate_type), names::short(&blob.digest));
            let end = if blob.media_type.contains("json") { ".json" } else { "" };
            files.blob(taken.take(format!("{word}-{digest}{end}")).into_bytes(), blob);
        }
        self.show(files)
    }

    /// The artifacts that refer to the image or to what its name means: a directory each with its manifest, and its
    /// blobs below `files`.
    ///
    /// # Errors
    /// The lists of referrers can't be had.
    pub fn referrers(&self) -> Result<Filesystem, Error> {
        let mut files = Files::default();
        let options = self.options.of_resolving();
        let documents = self.documents_with(&options);
        let Some(repository) = Arc::clone(&self.source).repository() else {
            return self.show(files);
        };
        let mut subjects = vec![self.root.digest()];
        subjects.extend(self.image().map(|image| image.digest));
        subjects.dedup();
        let (mut found, mut seen) = (Vec::<Descriptor>::new(), HashSet::new());
        for subject in subjects {
            let list = repository.referrers(&subject, None)?;
            found.extend(list.into_iter().filter(|row| seen.insert(row.digest)));
        }
        if found.len() > MAX_REFERRERS {
            log::warn!("{}: of {} referrers {MAX_REFERRERS} are shown", self.name, found.len());
            found.truncate(MAX_REFERRERS);
        }
        let manifests =
            parallel::map(&found, self.options.parallel_layers, |row| documents.document(row));
        for (row, document) in found.iter().zip(manifests) {
            let document = match document {
                Ok(document) => document,
                Err(error) => {
                    log::warn!("{}: the referrer {} is not shown: {error}", self.name, row.digest);
                    continue;
                }
            };
            let (kind, blobs) = match document.value() {
                Document::Manifest(manifest) => {
                    let plan = artifact::plan(manifest, b"", ArtifactView::Files);
                    (manifest.kind().to_owned(), plan.blobs)
                }
                Document::Index(_) => (row.media_type.clone(), Vec::new()),
            };
            let directory = format!("{}-{}", names::clean(&kind), names::short(&row.digest));
            files.text(format!("{directory}/manifest.json"), document.bytes().to_vec());
            for planned in blobs {
                if let ShownAs::File(shape) = planned.shown {
                    let path = [format!("{directory}/files/").as_bytes(), &shape.path].concat();
                    files.blob(path, planned.descriptor);
                }
            }
        }
        self.show(files)
    }
}
