//! Checking an image whole: what is not proven is streamed, and what others say of a layer is held
//! against its tar.
//!
//! What a table says of names and attributes is compared as it stands. What it would *show* as the
//! content of a file is not in its words: chunks may be those of another file under the right
//! digest, and a wrong window makes other bytes of the right compressed ones. So each file is read by
//! way of the table, as a mount would, and its digest compared with that of the file in the tar, holes
//! included. That fetches such a layer a second time; layers without a table are streamed once or not at all.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use super::opening::Opening;
use super::{Error, ImageOptions};
use crate::blob::{self, ReadAhead, Spans};
use crate::cache::Cache;
use crate::content::Contents;
use crate::digest::{ContentDigest, ContentHasher, DiffId, Digest};
use crate::extent::{Pieces, Run};
use crate::external::{self, Difference, ExternalIndex};
use crate::hint::Hint;
use crate::index::{EntryKind, LayerIndex, Runs};
use crate::layer::{self, OpenedLayers, Progress};
use crate::reference::ImageName;
use crate::resolve::{ResolvedImage, ResolvedLayer};

/// Bytes of a file that are read at a time.
const CHUNK_BYTES: usize = 1 << 20;

/// Files that can't be read by way of a table before it is given up: each may cost a deadline.
const MAX_UNREADABLE: usize = 4;

/// What came out of verifying an image.
#[derive(Clone, Debug)]
pub struct Verification {
    /// The image; its manifest and config have the right digests.
    pub image: ResolvedImage,
    /// The layers, base first.
    pub layers: Vec<LayerVerification>,
}

/// What came out of verifying a layer.
#[derive(Clone, Debug)]
pub struct LayerVerification {
    /// The blob.
    pub digest: Digest,
    /// What the config says of the tar in it.
    pub diff_id: Option<DiffId>,
    /// Size of the blob in bytes.
    pub size: u64,
    /// That it was proven before this time of asking, and not read again.
    pub before: Option<ProvenBefore>,
    /// Number of entries, if the layer could be read.
    pub entries: usize,
    /// What is wrong with it: the digest of the blob, the diff ID, the stream or the tar.
    pub error: Option<String>,
    /// What helps against that, if anything is known to.
    pub hint: Option<Hint>,
    /// Where a table of contents in the layer, or an index that was pushed for it, tells something
    /// else than the tar: a split view.
    pub differences: Vec<Difference>,
}

/// A layer that was streamed and found good earlier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProvenBefore {
    /// When, if the file system of the cache tells.
    pub at: Option<SystemTime>,
}

impl Verification {
    /// Whether everything is as the manifest says, and as every table of contents says.
    pub fn is_good(&self) -> bool {
        self.layers.iter().all(LayerVerification::is_good)
    }
}

impl LayerVerification {
    /// Whether everything of this layer is as the manifest says, and as every table of contents says.
    pub fn is_good(&self) -> bool {
        self.error.is_none() && self.differences.is_empty()
    }
}

/// Verifies an image: blob digests, diff IDs, and every table of contents against the tar. What was proven before is
/// not read again, unless the options say so.
///
/// # Errors
/// The image can't be resolved. What is wrong with layers is in the result.
pub fn verify(
    name: &ImageName,
    cache: &Arc<Cache>,
    options: &ImageOptions,
    progress: &dyn Progress,
) -> Result<Verification, Error> {
    // What is checked is what the registry has, and not a file in another program's store.
    let options = ImageOptions { prove: true, ..options.asking_only_where_it_is() };
    let opening = Opening::new(name, cache, &options)?;
    // All at once, as that is fastest; one by one if not all are good, to know each.
    let layers = &opening.resolved.layers;
    let mut known = OpenedLayers::default();
    let mut before = Vec::with_capacity(layers.len());
    for layer in layers {
        // One layer may stand in an image many times.
        let open = known.get(layer, &opening.finder)?.or_else(|| opening.cached(layer));
        before.push(
            open.as_ref().map(|open| ProvenBefore { at: cache.layer_index_time(&open.name) }),
        );
        known.add(open.iter().map(|open| (layer, open)));
    }
    let together = opening.layers(layers, &known, progress).ok();
    let mut verified = Vec::new();
    for (at, layer) in layers.iter().enumerate() {
        let open = match &together {
            Some(open) => Ok(open[at].clone()),
            None => {
                let layers = std::slice::from_ref(layer);
                opening.layers(layers, &known, &layer::Quiet).and_then(|mut open| {
                    let digest = layer.descriptor.digest;
                    open.pop().ok_or(layer::Error { digest, kind: layer::ErrorKind::Worker })
                })
            }
        };
        let mut result = LayerVerification {
            digest: layer.descriptor.digest,
            diff_id: layer.diff_id,
            size: layer.descriptor.size,
            before: before[at],
            entries: 0,
            error: None,
            hint: None,
            differences: Vec::new(),
        };
        match open {
            Ok(open) => {
                result.entries = open.index.entries().len();
                result.error = missing_padding(&open.index);
                match opening.finder.claim(layer) {
                    Ok(Some(claim)) => {
                        let compared = external::compare(&claim.index, &open.index);
                        result.differences = compared.differences;
                        let reading = Reading { opening: &opening, layer, options: &options };
                        let differences = &mut result.differences;
                        let read =
                            reading.compare(&claim, &open.index, &compared.files, differences);
                        if let Err(e) = read {
                            (result.error, result.hint) = (Some(e.to_string()), e.hint());
                        }
                        if !result.differences.is_empty() {
                            cache.reject_layer_index(&claim.name);
                        }
                    }
                    Ok(None) => {}
                    Err(e) => result.error = Some(e.to_string()),
                }
            }
            Err(e) => (result.error, result.hint) = (Some(e.kind.to_string()), e.kind.hint()),
        }
        verified.push(result);
    }
    Ok(Verification { image: opening.resolved, layers: verified })
}

/// A tar without the zeros at its end is as good as whole for all that it shows, but engines that
/// compare its diff ID refuse it.
fn missing_padding(index: &LayerIndex) -> Option<String> {
    match index.missing_padding() {
        0 => None,
        bytes => Some(format!(
            "only padding is missing: with {bytes} bytes of zeros more its tar would have the diff ID \
             in the config. All files in it are right, but engines that check diff IDs refuse the layer; old \
             Podman and Buildah have written zstd:chunked so"
        )),
    }
}

/// Reads files of a layer as a table has them.
struct Reading<'a> {
    opening: &'a Opening<'a>,
    layer: &'a ResolvedLayer,
    options: &'a ImageOptions,
}

impl Reading<'_> {
    /// Adds the files whose content by the table is not that of the tar, of the pairs `files`.
    ///
    /// # Errors
    /// What is to be compared can't be had now, for which the table can't be blamed.
    fn compare(
        &self,
        claim: &ExternalIndex,
        actual: &LayerIndex,
        files: &[(usize, usize)],
        differences: &mut Vec<Difference>,
    ) -> Result<(), blob::Error> {
        let contents = self.contents(claim);
        let mut known: HashSet<Vec<u8>> =
            differences.iter().map(|d| d.exact_path.clone()).collect();
        let mut unreadable = 0;
        if differences.len() >= external::MAX_DIFFERENCES {
            return Ok(());
        }
        for (claimed, actual_at) in files {
            let entry = claim.index.entry_at(*claimed);
            let EntryKind::File { size, runs } = entry.kind else { continue };
            // The index is our own: it has a digest of every file.
            let expected = actual.content_digest(&actual.entry_at(*actual_at));
            let Some(expected) = expected.filter(|_| size > 0) else { continue };
            let path = || claim.index.path(entry.dir, entry.name);
            let sparse: Vec<Run>;
            let place = match runs {
                Runs::Whole(start) => Pieces::Whole(start),
                Runs::Sparse { first, count } => {
                    sparse = claim.index.sparse_runs(first, count).collect();
                    Pieces::Sparse(&sparse)
                }
            };
            let hasher = expected.hasher(size);
            let what = match digest(&contents, place, size, hasher, self.options.read_deadline) {
                Ok(digest) if digest == expected => continue,
                Ok(_) => "shows other content than the tar has",
                Err(e) if !is_by_table(&e) => return Err(e),
                Err(e) => {
                    log::warn!("{}: {e}", String::from_utf8_lossy(&path()));
                    unreadable += 1;
                    "can't be read by what the table of contents says"
                }
            };
            let path = path();
            if known.insert(path.clone()) {
                differences.push(Difference::new(&path, what));
            }
            if unreadable >= MAX_UNREADABLE || differences.len() >= external::MAX_DIFFERENCES {
                return Ok(());
            }
        }
        Ok(())
    }

    fn contents(&self, claim: &ExternalIndex) -> Contents {
        let Reading { opening, layer, options } = self;
        let spans = Arc::new(Spans::new(Arc::clone(opening.cache), options.open_files));
        Contents::new(vec![opening.reader(layer, &claim.index, claim.name, &spans)])
    }
}

/// Whether bytes can't be had because they are not what a table says, and not because they do not come.
fn is_by_table(error: &blob::Error) -> bool {
    match error {
        blob::Error::Codec { .. }
        | blob::Error::Mismatch { .. }
        | blob::Error::Digest { .. }
        | blob::Error::OtherFiles { .. }
        | blob::Error::Short { .. }
        | blob::Error::Windows(_) => true,
        blob::Error::Source(_)
        | blob::Error::Read { .. }
        | blob::Error::Deadline(_)
        | blob::Error::Offline(_)
        | blob::Error::Died(_) => false,
    }
}

/// The digest of a file of `size` bytes. Holes are not read, only told to the hasher.
fn digest(
    contents: &Contents,
    pieces: Pieces<'_>,
    size: u64,
    mut hasher: ContentHasher,
    deadline: Duration,
) -> Result<ContentDigest, blob::Error> {
    let whole = |start| [Run { file_offset: 0, start, length: size }];
    let only;
    let runs = match pieces {
        Pieces::Whole(start) => {
            only = whole(start);
            &only[..]
        }
        Pieces::Sparse(runs) => runs,
    };
    let mut buf = vec![0; size.min(CHUNK_BYTES as u64) as usize];
    let mut offset = 0;
    for run in runs {
        hasher.zeros(run.file_offset - offset);
        offset = run.file_offset;
        while offset < run.file_end() {
            let part = &mut buf[..(run.file_end() - offset).min(CHUNK_BYTES as u64) as usize];
            let scope = |_| ReadAhead::Files(0..u64::MAX);
            contents.read(0, pieces, offset, part, Instant::now() + deadline, &scope)?;
            hasher.data(part);
            offset += part.len() as u64;
        }
    }
    hasher.zeros(size - offset);
    Ok(hasher.finish())
}
