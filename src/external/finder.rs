//! Where an index of a layer of one image may be, and finding it there.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::ops::Range;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use super::error::Error;
use crate::artifact::ShownAs;
use crate::cache::{Cache, LayerName};
use crate::digest::{DiffId, Digest};
use crate::index::{Budget, ExternalError, LayerIndex, Proof};
use crate::index_artifact::{self, Packed};
use crate::oci::{Descriptor, MAX_MANIFEST_BYTES};
use crate::resolve::{ResolvedImage, ResolvedLayer};
use crate::source::{Repository, Source};
use crate::toc::{self, TocAnnotation};
use crate::ztoc::{self, SociIndex, SociLayer, SociVersion, Ztoc};

/// Layers smaller than this in bytes are streamed, which costs one request too, and proves everything.
pub const MIN_LAYER_BYTES: u64 = 256 << 10;

/// Artifacts of one type that are looked at.
const MAX_ARTIFACTS: usize = 8;

/// An index of others.
#[derive(Debug)]
pub struct Found {
    /// The index.
    pub index: LayerIndex,
    /// Its name in the cache.
    pub name: LayerName,
}

/// What others say of a layer.
#[derive(Debug)]
pub struct ExternalIndex {
    /// Their index.
    pub index: LayerIndex,
    /// Its name in the cache.
    pub name: LayerName,
}

/// Finds indexes for the layers of one image.
#[derive(Debug)]
pub struct IndexFinder {
    source: Arc<dyn Source>,
    repository: Option<Arc<dyn Repository>>,
    cache: Arc<Cache>,
    manifest: Digest,
    budget: Arc<Budget>,
    annotations: BTreeMap<String, String>,
    /// Where the referrers of the image are, if they are used.
    trusted_scope: Option<Digest>,
    /// What the referrers are, once they have been looked up.
    announced: OnceLock<ReferrerIndexes>,
    /// The ztocs of the SOCI index that the manifest names; locked while it is fetched.
    bound: Mutex<Option<Vec<SociLayer>>>,
}

/// What the referrers of an image hold.
#[derive(Debug, Default)]
pub(super) struct ReferrerIndexes {
    pub(super) ours: Vec<Packed>,
    pub(super) soci: Vec<SociLayer>,
}

/// Whether a layer is a tar whose diff ID is known, as those are that others make indexes of.
fn is_tar(layer: &ResolvedLayer) -> bool {
    matches!(layer.shown, ShownAs::Tree { .. }) && layer.diff_id.is_some()
}

/// Its diff ID.
fn diff_id(layer: &ResolvedLayer) -> DiffId {
    layer.diff_id.unwrap_or(DiffId(layer.descriptor.digest))
}

impl IndexFinder {
    /// A finder for an image; `repository` is where its referrers are looked for. They are used only if they
    /// are trusted, in this scope ([`LayerName::hint_scope`]).
    pub fn new(
        image: &ResolvedImage,
        source: Arc<dyn Source>,
        repository: Option<Arc<dyn Repository>>,
        cache: Arc<Cache>,
        trusted_scope: Option<Digest>,
        budget: Arc<Budget>,
    ) -> IndexFinder {
        IndexFinder {
            source,
            repository,
            cache,
            manifest: image.digest,
            budget,
            annotations: image.annotations().clone(),
            trusted_scope,
            announced: OnceLock::new(),
            bound: Mutex::default(),
        }
    }

    /// What the metadata of the image may take.
    pub fn budget(&self) -> &Arc<Budget> {
        &self.budget
    }

    /// Names under which the cache may have an index of others for a layer, best first.
    pub fn names(&self, layer: &ResolvedLayer) -> Vec<LayerName> {
        if !is_tar(layer) {
            return Vec::new();
        }
        let blob = layer.descriptor.digest;
        let toc = toc::promise(&layer.descriptor).map(|promise| bound_name(blob, &promise));
        let soci = self.soci_digest().map(|bound_by| LayerName::Bound { blob, bound_by });
        let hint = self.trusted_scope.map(|scope| LayerName::Hint { blob, scope });
        [toc, soci, hint].into_iter().flatten().collect()
    }

    /// Finds an index for a layer outside of the cache.
    pub fn find(&self, layer: &ResolvedLayer) -> Option<Found> {
        if self.source.is_offline() || layer.descriptor.size < MIN_LAYER_BYTES || !is_tar(layer) {
            return None;
        }
        self.find_usable(layer, &|name| !self.cache.is_rejected(name))
    }

    fn find_usable(
        &self,
        layer: &ResolvedLayer,
        usable: &dyn Fn(&LayerName) -> bool,
    ) -> Option<Found> {
        let digest = layer.descriptor.digest;
        let said = |what: &str, result: Result<Option<LayerIndex>, Error>| {
            result.unwrap_or_else(|e| {
                log::warn!("layer {digest}: its {what} can't be used: {e}");
                None
            })
        };
        if let Some(promise) = toc::promise(&layer.descriptor) {
            let name = bound_name(digest, &promise);
            if usable(&name)
                && let Some(index) = said("table of contents", self.toc(layer, &promise).map(Some))
            {
                return Some(Found { index, name });
            }
        }
        if let Some(bound_by) = self.soci_digest() {
            let name = LayerName::Bound { blob: digest, bound_by };
            if usable(&name)
                && let Some(index) = said("ztoc", self.bound_ztoc(layer, bound_by))
            {
                return Some(Found { index, name });
            }
        }
        let scope = self.trusted_scope?;
        let name = LayerName::Hint { blob: digest, scope };
        if !usable(&name) {
            return None;
        }
        let announced = self.announced();
        for packed in announced.ours.iter().filter(|packed| packed.layer == digest) {
            let index = self.unpack(packed, layer);
            if let Some(index) = said("layer index in the registry", index.map(Some)) {
                return Some(Found { index, name });
            }
        }
        for soci in announced.soci.iter().filter(|soci| soci.layer == digest) {
            let index = self.ztoc(soci, layer, Proof::Hint);
            if let Some(index) = said("ztoc", index.map(Some)) {
                return Some(Found { index, name });
            }
        }
        None
    }

    /// What others say of a layer, to be held against its tar; also what was found to lie before, and
    /// whether it would be used or not.
    ///
    /// # Errors
    /// A table of contents is promised, and is not there or not valid.
    pub fn claim(&self, layer: &ResolvedLayer) -> Result<Option<ExternalIndex>, Error> {
        if self.source.is_offline() || !is_tar(layer) {
            return Ok(None);
        }
        if let Some(promise) = toc::promise(&layer.descriptor) {
            let index = self.toc(layer, &promise)?.without_bookkeeping(&promise);
            let name = bound_name(layer.descriptor.digest, &promise);
            return Ok(Some(ExternalIndex { index, name }));
        }
        let found = self.find_usable(layer, &|_| true);
        Ok(found.map(|Found { index, name }| ExternalIndex { index, name }))
    }

    /// The layer indexes that `ocifs index push` has left in the registry.
    pub fn pushed(&self) -> Vec<Packed> {
        match self.source.is_offline() {
            true => Vec::new(),
            false => self.announced().ours.clone(),
        }
    }

    fn toc(&self, layer: &ResolvedLayer, promise: &TocAnnotation) -> Result<LayerIndex, Error> {
        let descriptor = &layer.descriptor;
        if matches!(promise, TocAnnotation::ZstdChunked { .. }) {
            // The place is known, and is checked before anything is fetched.
            toc::find(promise, &[], descriptor.size, descriptor.size)?;
        }
        let first = promise.first_fetch(descriptor.size);
        let tail = self.fetch(descriptor, first.clone())?;
        let place = toc::find(promise, &tail, first.start, descriptor.size)?;
        let fetched;
        let bytes = if first.start <= place.start && place.end <= first.end {
            let offset = (place.start - first.start) as usize;
            let length = (place.end - place.start) as usize;
            &tail[offset..offset + length]
        } else {
            fetched = self.fetch(descriptor, place.clone())?;
            &fetched
        };
        self.budget.has_read(descriptor.digest, bytes.len() as u64);
        // Its text and what is read out of it are in memory at the same time.
        let most = self.budget.limit() / 2;
        let toc = toc::read(promise, &place, bytes, most)?;
        Ok(LayerIndex::from_toc(promise, toc, descriptor, diff_id(layer), &self.budget)?)
    }

    /// The digest of the SOCI index that the manifest names.
    fn soci_digest(&self) -> Option<Digest> {
        self.annotations.get(ztoc::INDEX_DIGEST_ANNOTATION)?.parse().ok()
    }

    fn bound_ztoc(
        &self,
        layer: &ResolvedLayer,
        soci_index: Digest,
    ) -> Result<Option<LayerIndex>, Error> {
        let found = {
            let mut bound = self.bound.lock().unwrap_or_else(PoisonError::into_inner);
            let layers = match &mut *bound {
                Some(layers) => layers,
                None => {
                    let bytes = self.document(&Descriptor::of_manifest(soci_index))?;
                    bound.insert(SociIndex::parse(&bytes)?.layers)
                }
            };
            layers.iter().find(|soci| soci.layer == layer.descriptor.digest).cloned()
        };
        found.map(|soci| self.ztoc(&soci, layer, Proof::Toc)).transpose()
    }

    fn ztoc(
        &self,
        soci: &SociLayer,
        layer: &ResolvedLayer,
        proof: Proof,
    ) -> Result<LayerIndex, Error> {
        let what = || format!("ztoc {}", soci.ztoc.digest);
        if soci.ztoc.size > ztoc::MAX_ZTOC_BYTES as u64 {
            return Err(ztoc::Error::TooLarge(soci.ztoc.size as usize).into());
        }
        let bytes = self.fetch(&soci.ztoc, 0..soci.ztoc.size)?;
        if !soci.ztoc.digest.matches(&bytes) {
            return Err(Error::Digest(what()));
        }
        self.budget.has_read(soci.ztoc.digest, soci.ztoc.size);
        let ztoc = Ztoc::parse(&bytes)?;
        if ztoc.first_checkpoint_implied {
            // It stands behind a header of ten bytes: without optional fields.
            let header = self.fetch(&layer.descriptor, 0..10.min(layer.descriptor.size))?;
            if !matches!(header[..], [0x1f, 0x8b, 8, 0, ..]) {
                return Err(Error::GzipHeader);
            }
        }
        Ok(LayerIndex::from_ztoc(ztoc, &layer.descriptor, diff_id(layer), proof, &self.budget)?)
    }

    fn unpack(&self, packed: &Packed, layer: &ResolvedLayer) -> Result<LayerIndex, Error> {
        let head = self.fetch(&packed.blob, 0..packed.head_bytes)?;
        self.budget.has_read(packed.blob.digest, packed.head_bytes);
        let index = packed.unpack(&head, &layer.descriptor, self.budget.limit())?;
        index.draw_on(&self.budget).map_err(ExternalError::from)?;
        match index.diff_id() == diff_id(layer) {
            true => Ok(index),
            false => Err(index_artifact::Error::OtherLayer(index.blob()).into()),
        }
    }

    /// What the referrers hold, asked for once.
    pub(super) fn announced(&self) -> &ReferrerIndexes {
        self.announced.get_or_init(|| {
            let mut announced = ReferrerIndexes::default();
            let Some(repository) = &self.repository else { return announced };
            for descriptor in self.referrers(&**repository, index_artifact::ARTIFACT_TYPE) {
                let packed = self
                    .document(&descriptor)
                    .and_then(|manifest| Ok(index_artifact::parse(&manifest)?));
                match packed {
                    Ok(packed) => announced.ours.extend(packed),
                    Err(e) => log::debug!("referrer {}: {e}", descriptor.digest),
                }
            }
            if !announced.ours.is_empty() {
                return announced;
            }
            for descriptor in self.referrers(&**repository, ztoc::ARTIFACT_TYPE_V1) {
                let index = self.document(&descriptor).and_then(|manifest| {
                    let index = SociIndex::parse(&manifest)?;
                    match index.version {
                        SociVersion::V1 { subject } if subject == Some(self.manifest) => Ok(index),
                        _ => Err(Error::OtherImage),
                    }
                });
                match index {
                    Ok(index) => announced.soci.extend(index.layers),
                    Err(e) => log::debug!("referrer {}: {e}", descriptor.digest),
                }
            }
            announced
        })
    }

    fn referrers(&self, repository: &dyn Repository, artifact_type: &str) -> Vec<Descriptor> {
        match repository.referrers(&self.manifest, Some(artifact_type)) {
            Ok(mut found) => {
                // The latest pushed comes last.
                found.reverse();
                found.truncate(MAX_ARTIFACTS);
                found
            }
            Err(e) => {
                log::warn!("the referrers of {} can't be listed: {e}", self.manifest);
                Vec::new()
            }
        }
    }

    /// A manifest by digest, from the cache or the source, verified.
    fn document(&self, descriptor: &Descriptor) -> Result<Vec<u8>, Error> {
        let digest = descriptor.digest;
        if let Some(bytes) = self.cache.blob(&digest) {
            return Ok(bytes);
        }
        let document = self.source.document(descriptor)?;
        let what = || format!("manifest {digest}");
        if document.bytes.len() as u64 > MAX_MANIFEST_BYTES || !digest.matches(&document.bytes) {
            return Err(Error::Digest(what()));
        }
        if self.source.is_remote() {
            self.cache.put_blob(&digest, &document.bytes);
        }
        Ok(document.bytes)
    }

    pub(super) fn fetch(
        &self,
        descriptor: &Descriptor,
        range: Range<u64>,
    ) -> Result<Vec<u8>, Error> {
        fetch(self.source.as_ref(), descriptor, range)
    }
}

/// The name of an index that a layer's own annotations bind.
fn bound_name(blob: Digest, promise: &TocAnnotation) -> LayerName {
    let bound_by = match promise {
        TocAnnotation::Estargz { json } => *json,
        TocAnnotation::ZstdChunked { digest, .. } => *digest,
    };
    LayerName::Bound { blob, bound_by }
}

/// Reads a part of a blob into memory, unverified.
fn fetch(
    source: &dyn Source,
    descriptor: &Descriptor,
    range: Range<u64>,
) -> Result<Vec<u8>, Error> {
    let read = |source| Error::Read { what: format!("blob {}", descriptor.digest), cause: source };
    let mut opened = source.blob(descriptor, range.clone())?;
    let skip = range.start - opened.start;
    io::copy(&mut (&mut opened.body).take(skip), &mut io::sink()).map_err(read)?;
    let wanted = range.end - range.start;
    let mut bytes = Vec::new();
    (&mut opened.body).take(wanted).read_to_end(&mut bytes).map_err(read)?;
    if bytes.len() as u64 != wanted {
        return Err(read(io::ErrorKind::UnexpectedEof.into()));
    }
    // Only a body that was read to its end gives its connection back.
    if opened.start == range.start {
        io::copy(&mut opened.body.take(1), &mut io::sink()).map_err(read)?;
    }
    Ok(bytes)
}
