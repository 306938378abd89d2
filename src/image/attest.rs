//! What is attested of an image: signatures, provenance, lists of software.
//!
//! # Problem
//!
//! Builders and signers attach statements to an image in four ways: as entries of its index (BuildKit), under tags made of
//! its digest (cosign, `sha256-….sig`, `.att`, `.sbom`), as artifacts that refer to it (OCI 1.1; sigstore bundles,
//! notation), listed by an API of the registry or by a tag in its stead. What is attached says what it is about; anyone who
//! may push can attach anything.
//!
//! # Design
//!
//! All four places are looked at, for what the name means and for the image's manifest. A manifest that is found is
//! fetched by its digest, and so are the blobs in it that are statements, signatures or lists of software
//! ([`MAX_BLOB_BYTES`] each, [`MAX_ATTESTATIONS`] in all); others are listed and not fetched.
//!
//! Of each is told what was checked, and no more. The bytes have the digest that the manifest says, always. Whether what
//! they say they are about is what they are attached to ([`Subject`]) is checked where they say so: a statement
//! about something else, or an artifact that refers to something else than its list says, is told as that, and is not
//! handed on as being about this image. No signature is checked: that takes keys and trust that are not ours to choose,
//! and so no signature is ever called valid.
//!
//! # Rejected
//!
//! Verifying signatures with a bundled root of trust: `cosign verify` and `notation verify` ask for an identity, and
//! without one, "valid" only means that some key has signed something.

mod sbom;
mod statement;

use std::sync::Arc;

use super::graph::{self, Depth, EntryKind, Graph};
use super::locate::open_source;
use super::{Error, ImageOptions, parallel};
use crate::cache::Cache;
use crate::digest::Digest;
use crate::oci::{Descriptor, Document, Manifest};
use crate::reference::ImageName;
use crate::resolve::Documents;
use crate::source::registry::Session;
use crate::source::{Repository, Source};

pub use sbom::{Package, Sbom};
pub use statement::{AttestationKind, Subject};

/// The largest statement or list of software that is read, in bytes. SBOMs of large images have some MiB.
const MAX_BLOB_BYTES: u64 = 32 << 20;

/// Statements, signatures and other artifacts that are looked at. Real images have a few.
const MAX_ATTESTATIONS: usize = 64;

/// Bytes of them that are in memory.
const MAX_ALL_BYTES: u64 = 256 << 20;

/// The ends of tags that cosign makes of a digest.
const COSIGN_TAGS: [&str; 3] = ["sig", "att", "sbom"];

/// What is attested of an image.
#[derive(Clone, Debug)]
pub struct Attestations {
    /// The name in full.
    pub name: String,
    /// Digest of the image's manifest.
    pub digest: Digest,
    /// Each statement, signature, list of software, or other artifact.
    pub found: Vec<Attestation>,
    /// Why there may be more.
    pub cut: Option<String>,
}

/// How an attestation is attached to what it is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Attached {
    /// By an entry of the image index.
    Entry,
    /// It refers to it.
    Referrer,
    /// By a tag made of its digest.
    Tag(String),
}

/// Something that is attested.
#[derive(Clone, Debug)]
pub struct Attestation {
    /// How it is attached.
    pub attached: Attached,
    /// What it is attached to.
    pub about: Digest,
    /// The manifest that holds it.
    pub manifest: Digest,
    /// The blob; that of the manifest where that alone was looked at.
    pub blob: Descriptor,
    /// What it is.
    pub kind: AttestationKind,
    /// The type of its predicate, or else of the artifact.
    pub predicate_type: String,
    /// What it says it is about, held against what it is attached to.
    pub subject: Subject,
    /// Whether it has a signature, which was not checked.
    pub is_signed: bool,
    /// The list of software, if it is one.
    pub sbom: Option<Sbom>,
    /// The statement, without the envelope that it came in; or whatever else it is. Nothing, if it was not read.
    pub statement: Vec<u8>,
    /// Why it could not be read.
    pub error: Option<String>,
}

/// A manifest with attestations that is to be read.
struct Candidate {
    attached: Attached,
    about: Digest,
    manifest: Digest,
}

/// Looks for what is attested of an image.
///
/// # Errors
/// The image can't be resolved. What is attached to it and can't be read is told with it.
pub fn attestations(
    name: &ImageName,
    cache: &Arc<Cache>,
    options: &ImageOptions,
) -> Result<Attestations, Error> {
    let session = Session::default();
    let source = open_source(name, cache, options, &session)?;
    let resolve_options = options.of_resolving();
    let documents = Documents::new(source.as_ref(), cache, &resolve_options);
    let (graph, image) = graph::documents_of(name, documents, options, Depth::Shown)?;
    let digest = image.as_ref().map_or(graph.root.digest(), |image| image.digest);
    let (rows, mut cut) = list(&graph, digest, &source, documents, options);
    let mut found = Vec::new();
    let mut bytes = 0;
    for row in rows {
        if bytes > MAX_ALL_BYTES {
            cut = Some(looked_at(found.len()));
            break;
        }
        let row = read(row, documents);
        bytes += row.statement.len() as u64;
        found.push(row);
    }
    Ok(Attestations { name: graph.name, digest, found, cut })
}

/// The attestations of an image, none of which is read yet; and why there may be more.
pub(super) fn list(
    graph: &Graph,
    digest: Digest,
    source: &Arc<dyn Source>,
    documents: Documents<'_>,
    options: &ImageOptions,
) -> (Vec<Attestation>, Option<String>) {
    let (mut candidates, mut cut) = candidates(graph, digest, source, options);
    if candidates.len() > MAX_ATTESTATIONS {
        candidates.truncate(MAX_ATTESTATIONS);
        cut = Some(format!("it has more than {MAX_ATTESTATIONS}"));
    }
    let manifests = parallel::map(&candidates, options.parallel_layers, |candidate| {
        let document = documents.by_digest(&candidate.manifest);
        document.map(|document| (document.value().clone(), document.size()))
    });
    let mut found = Vec::new();
    for (candidate, manifest) in candidates.iter().zip(manifests) {
        match manifest {
            Ok((Document::Manifest(manifest), size)) => {
                found.extend(candidate.blobs(&manifest, size));
            }
            Ok((Document::Index(_), _)) => {}
            Err(error) => {
                let mut row = candidate.row(String::new(), 0);
                row.error = Some(error.to_string());
                found.push(row);
            }
        }
    }
    if found.len() > MAX_ATTESTATIONS {
        found.truncate(MAX_ATTESTATIONS);
        cut = Some(looked_at(MAX_ATTESTATIONS));
    }
    (found, cut)
}

fn looked_at(count: usize) -> String {
    format!("only the first {count} were looked at")
}

/// The manifests that may hold attestations; and why there may be more.
fn candidates(
    graph: &Graph,
    digest: Digest,
    source: &Arc<dyn Source>,
    options: &ImageOptions,
) -> (Vec<Candidate>, Option<String>) {
    let mut found: Vec<Candidate> = Vec::new();
    let mut add = |attached: Attached, about: Digest, manifest: Digest| {
        if found.iter().all(|known| known.manifest != manifest) {
            found.push(Candidate { attached, about, manifest });
        }
    };
    for entry in &graph.entries {
        if let (EntryKind::Attestation(Some(of)), Ok(descriptor)) = (entry.kind, &entry.descriptor)
            && of == digest
        {
            add(Attached::Entry, of, descriptor.digest);
        }
    }
    let Some(repository) = Arc::clone(source).repository() else { return (found, None) };
    let mut subjects = vec![digest];
    if graph.root.digest() != digest {
        subjects.push(graph.root.digest());
    }
    let mut cut = None;
    let lists = parallel::map(&subjects, options.parallel_layers, |subject| {
        repository.referrers(subject, None)
    });
    for (subject, list) in subjects.iter().zip(lists) {
        match list {
            Ok(list) => list.iter().for_each(|row| add(Attached::Referrer, *subject, row.digest)),
            Err(error) => {
                cut = Some(format!("the referrers of {subject} can't be listed: {error}"))
            }
        }
    }
    let tags: Vec<(Digest, String)> = subjects
        .iter()
        .flat_map(|subject| {
            let tag = format!("{}-{}", subject.algorithm().name(), subject.hex());
            COSIGN_TAGS.map(|end| (*subject, format!("{tag}.{end}")))
        })
        .collect();
    let means = parallel::map(&tags, options.parallel_layers, |(_, tag)| tagged(&*repository, tag));
    for ((subject, tag), manifest) in tags.into_iter().zip(means) {
        if let Some(manifest) = manifest {
            add(Attached::Tag(tag), subject, manifest);
        }
    }
    (found, cut)
}

/// What a tag means, if there is one.
fn tagged(repository: &dyn Repository, tag: &str) -> Option<Digest> {
    match repository.describe_tag(tag) {
        Ok(descriptor) => descriptor.map(|descriptor| descriptor.digest),
        Err(error) => {
            log::warn!("tag {tag} can't be asked for: {error}");
            None
        }
    }
}

impl Candidate {
    /// A row for the manifest itself.
    fn row(&self, predicate_type: String, size: u64) -> Attestation {
        Attestation {
            attached: self.attached.clone(),
            about: self.about,
            manifest: self.manifest,
            blob: Descriptor { size, ..Descriptor::of_manifest(self.manifest) },
            kind: AttestationKind::Other,
            predicate_type,
            subject: Subject::Unsaid,
            is_signed: false,
            sbom: None,
            statement: Vec::new(),
            error: None,
        }
    }

    /// A row for each blob that is an attestation; or one for the artifact, whatever it is.
    fn blobs(&self, manifest: &Manifest, size: u64) -> Vec<Attestation> {
        let mut whole = self.row(manifest.kind().to_owned(), size);
        // Who has listed it may have lied.
        let refers_to = manifest.subject.as_ref().map(|subject| subject.digest);
        if let (Attached::Referrer, Some(other)) = (&self.attached, refers_to)
            && other != self.about
        {
            whole.subject = Subject::Differs(vec![other.to_string()]);
            return vec![whole];
        }
        let known = manifest.layers.iter().filter_map(|layer| {
            let kind = statement::kind_of_blob(layer, manifest)?;
            let predicate_type = statement::predicate_of_blob(layer, manifest);
            let is_signed = kind == AttestationKind::Signature;
            let blob = layer.clone();
            Some(Attestation { blob, kind, predicate_type, is_signed, ..whole.clone() })
        });
        let known: Vec<Attestation> = known.collect();
        if known.is_empty() { vec![whole] } else { known }
    }
}

/// Reads what an attestation says.
fn read(mut row: Attestation, documents: Documents<'_>) -> Attestation {
    if row.blob.digest == row.manifest {
        return row;
    }
    let blob = match documents.blob(&row.blob, MAX_BLOB_BYTES) {
        Ok(blob) => blob,
        Err(error) => {
            row.error = Some(error.to_string());
            return row;
        }
    };
    match statement::read(blob.bytes(), &row.blob.media_type, &row.about) {
        Ok(said) => {
            row.is_signed |= said.is_signed;
            row.subject = said.subject;
            if let Some(predicate_type) = said.predicate_type {
                row.kind = statement::kind_of_predicate(&predicate_type);
                row.predicate_type = predicate_type;
            }
            row.sbom = sbom::read(&said.content);
            if row.sbom.is_some() {
                row.kind = AttestationKind::Sbom;
            }
            row.statement = said.statement;
        }
        Err(why) => row.error = Some(why),
    }
    row
}
