//! Checking an image whole: what is not proven is streamed, and what others say of a layer is held
//! against its tar.
//!
//! What a table says of names and attributes is compared as it stands. What it would *show* as the
//! content of a file is not in its words: chunks may be those of another file under the right
//! digest, and a wrong window makes other bytes of the right compressed ones. So each file is read by
//! way of the table, as a mount would, and its SHA-256 compared with that of the file in the tar. That
//! fetches such a layer a second time; layers without a table are streamed once or not at all.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use sha2::{Digest as _, Sha256};

use super::{Error, ImageOptions, Opening};
use crate::blob::{Scope, Spans};
use crate::cache::Cache;
use crate::content::{Contents, Place};
use crate::digest::{ContentHash, DiffId, Digest};
use crate::extent::Run;
use crate::foreign::{Claim, Difference};
use crate::index::{EntryKind, LayerIndex, Runs};
use crate::layer::{self, Known, Progress};
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
    pub diff_id: DiffId,
    /// Size of the blob in bytes.
    pub size: u64,
    /// Number of entries, if the layer could be read.
    pub entries: usize,
    /// What is wrong with it: the digest of the blob, the diff ID, the stream or the tar.
    pub error: Option<String>,
    /// Where a table of contents in the layer, or an index that somebody made of it, tells something
    /// else than the tar: a split view.
    pub differences: Vec<Difference>,
}

impl Verification {
    /// Whether everything is as the manifest says, and as every table of contents says.
    pub fn is_good(&self) -> bool {
        self.layers.iter().all(|layer| layer.error.is_none() && layer.differences.is_empty())
    }
}

/// Verifies an image: blob digests, diff IDs, and every table of contents against the tar.
///
/// # Errors
/// The image can't be resolved. What is wrong with layers is in the result.
pub fn verify(
    name: &ImageName,
    cache: &Arc<Cache>,
    options: &ImageOptions,
    progress: &dyn Progress,
) -> Result<Verification, Error> {
    // What is checked is what the registry has, and not a file of somebody else's store.
    let options = ImageOptions { prove: true, ..options.asking_only_where_it_is() };
    let opening = Opening::new(name, cache, &options)?;
    // All at once, as that is fastest; one by one if not all are good, to know each.
    let layers = &opening.resolved.layers;
    let together = opening.layers(layers, &Known::default(), progress).ok();
    let mut verified = Vec::new();
    for (at, layer) in layers.iter().enumerate() {
        let open = match &together {
            Some(open) => Ok(open[at].clone()),
            None => {
                let layers = std::slice::from_ref(layer);
                opening.layers(layers, &Known::default(), &layer::Quiet).and_then(|mut open| {
                    let digest = layer.descriptor.digest;
                    open.pop().ok_or(layer::Error { digest, kind: layer::ErrorKind::Worker })
                })
            }
        };
        let mut result = LayerVerification {
            digest: layer.descriptor.digest,
            diff_id: layer.diff_id,
            size: layer.descriptor.size,
            entries: 0,
            error: None,
            differences: Vec::new(),
        };
        match open {
            Ok(open) => {
                result.entries = open.index.entries().len();
                match opening.finder.claim(layer) {
                    Ok(Some(claim)) => {
                        result.differences = claim.differences(&open.index);
                        let reading = Reading { opening: &opening, layer, options: &options };
                        reading.compare(&claim, &open.index, &mut result.differences);
                        if !result.differences.is_empty() {
                            cache.reject_layer_index(&claim.name);
                        }
                    }
                    Ok(None) => {}
                    Err(e) => result.error = Some(e.to_string()),
                }
            }
            Err(e) => result.error = Some(e.kind.to_string()),
        }
        verified.push(result);
    }
    Ok(Verification { image: opening.resolved, layers: verified })
}

/// Reads files of a layer as a table has them.
struct Reading<'a> {
    opening: &'a Opening<'a>,
    layer: &'a ResolvedLayer,
    options: &'a ImageOptions,
}

impl Reading<'_> {
    /// Adds the files whose content by the table is not that of the tar.
    fn compare(&self, claim: &Claim, actual: &LayerIndex, differences: &mut Vec<Difference>) {
        let hashes: BTreeMap<Vec<u8>, &ContentHash> = actual
            .entries()
            .filter_map(|entry| {
                let hash = actual.content_hash(&entry)?;
                Some((actual.path(entry.dir, entry.name), hash))
            })
            .collect();
        let contents = self.contents(claim);
        // Of several entries of one name the last counts.
        let claimed = || claim.index.entries().enumerate().filter(|(_, entry)| !entry.hidden);
        let last: BTreeMap<Vec<u8>, usize> =
            claimed().map(|(at, entry)| (claim.index.path(entry.dir, entry.name), at)).collect();
        let mut known: HashSet<String> = differences.iter().map(|d| d.path.clone()).collect();
        let mut unreadable = 0;
        for (at, entry) in claimed() {
            let EntryKind::File { size, runs } = entry.kind else { continue };
            let path = claim.index.path(entry.dir, entry.name);
            let expected = hashes.get(&path).filter(|_| last.get(&path) == Some(&at));
            let Some(expected) = expected else { continue };
            let sparse: Vec<Run>;
            let place = match runs {
                Runs::Whole(start) => Place::Whole(start),
                Runs::Sparse { first, count } => {
                    sparse = claim.index.sparse_runs(first, count).collect();
                    Place::Sparse(&sparse)
                }
            };
            let what = match hash(&contents, place, size, self.options.read_deadline) {
                Ok(hash) if hash == **expected => continue,
                Ok(_) => "shows other content than the tar has",
                Err(e) => {
                    log::warn!("{}: {e}", String::from_utf8_lossy(&path));
                    unreadable += 1;
                    "can't be read by what the table of contents says"
                }
            };
            let path = String::from_utf8_lossy(&path).into_owned();
            if known.insert(path.clone()) {
                differences.push(Difference { path, what });
            }
            if unreadable >= MAX_UNREADABLE {
                return;
            }
        }
    }

    fn contents(&self, claim: &Claim) -> Contents {
        let Reading { opening, layer, options } = self;
        let spans = Arc::new(Spans::new(Arc::clone(opening.cache), options.open_files));
        Contents::new(vec![opening.reader(layer, &claim.index, claim.name, &spans)])
    }
}

fn hash(
    contents: &Contents,
    place: Place<'_>,
    size: u64,
    deadline: Duration,
) -> Result<ContentHash, crate::blob::Error> {
    let mut hasher = Sha256::new();
    let mut buf = vec![0; size.min(CHUNK_BYTES as u64) as usize];
    let mut offset = 0;
    while offset < size {
        let part = &mut buf[..(size - offset).min(CHUNK_BYTES as u64) as usize];
        let scope = |_| Scope::Until(u64::MAX);
        contents.read(0, place, offset, part, Instant::now() + deadline, &scope)?;
        hasher.update(&*part);
        offset += part.len() as u64;
    }
    Ok(hasher.finalize().into())
}
