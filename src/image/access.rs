//! Whether an image's own registry lets us read what this machine has of it already.
//!
//! The cache, and the stores of other programs, know content by its digest, whoever may read it where it came
//! from; and a manifest that its author was allowed to push may name layers of a repository that he may not
//! read. A service that mounts images for users with different rights therefore has the registry asked,
//! with the rights of the user it works for, before anything is shown: for the manifest and for each layer,
//! with a HEAD request. (Asking only for what is in the cache would save requests on a first sight, and
//! make what is checked depend on what others have mounted.)

use std::collections::HashSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use super::Error;
use crate::oci::Descriptor;
use crate::resolve::ResolvedImage;
use crate::source::{Content, Source};

/// Asks for the manifest and for each layer, up to `parallel` at a time.
///
/// # Errors
/// The registry does not have one of them for us, or can't be asked.
pub(super) fn confirm(
    image: &ResolvedImage,
    source: &dyn Source,
    parallel: usize,
) -> Result<(), Error> {
    let manifest = Descriptor::of_manifest(image.digest);
    source.confirm(Content::Document(&Descriptor { size: image.size(), ..manifest }))?;
    let mut seen = HashSet::new();
    let mut layers: Vec<_> = image.layers.iter().map(|layer| &layer.descriptor).collect();
    layers.retain(|descriptor| seen.insert(descriptor.digest));
    let next = AtomicUsize::new(0);
    thread::scope(|scope| {
        let ask = || {
            while let Some(descriptor) = layers.get(next.fetch_add(1, Ordering::Relaxed)) {
                let answer = source.confirm(Content::Blob(descriptor));
                if answer.is_err() {
                    next.store(layers.len(), Ordering::Relaxed);
                    return answer;
                }
            }
            Ok(())
        };
        let others = parallel.min(layers.len()).saturating_sub(1);
        let others: Vec<_> = (0..others).map(|_| scope.spawn(ask)).collect();
        let mut outcome = ask();
        for other in others {
            outcome =
                outcome.and(other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        }
        Ok(outcome?)
    })
}
