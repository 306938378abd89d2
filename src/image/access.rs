//! Whether an image's own registry lets us read what this machine has of it already.
//!
//! # Problem
//!
//! The cache, and the stores of other programs, know content by its digest, and not which users may read it where it
//! came from; and a manifest that its author was allowed to push may name layers of a repository that he may not
//! read. A service that mounts images for users with different rights must not show one what another has
//! fetched.
//!
//! # Design
//!
//! With [`ImageOptions::check_access`](super::ImageOptions) the registry of the image is asked with the rights of
//! the user it is opened for: documents are fetched anew, and for each layer there is a HEAD request, to the
//! registry itself and not to its mirrors. A registry may be the user's own and say yes to everything, so that
//! is not enough: of the cache only what this very registry has once sent counts ([`LayerName::Sent`]), and what
//! it has not sent it has to send. An image that is in no registry is read whole, for the same reason. Tables of
//! contents, local stores and downloads that others began are not used, as they lead to content by its digest.
//!
//! # Rejected
//!
//! Asking only for what is in the cache: it would save requests on a first use, and make what is checked depend
//! on what others have mounted.
//!
//! [`LayerName::Sent`]: crate::cache::LayerName::Sent

use std::collections::HashSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use super::Error;
use crate::resolve::ResolvedImage;
use crate::source::{self, Source};

/// Asks for each layer, up to `parallel` at a time. Whether there was a registry to ask.
///
/// # Errors
/// The registry does not have one of them for us, or can't be asked.
pub(super) fn confirm(
    image: &ResolvedImage,
    source: &dyn Source,
    parallel: usize,
) -> Result<bool, Error> {
    let mut seen = HashSet::new();
    let mut layers: Vec<_> = image.layers.iter().map(|layer| &layer.descriptor).collect();
    layers.retain(|descriptor| seen.insert(descriptor.digest));
    let next = AtomicUsize::new(0);
    let ask = || -> Result<bool, source::Error> {
        let mut is_known = true;
        while let Some(descriptor) = layers.get(next.fetch_add(1, Ordering::Relaxed)) {
            let answer = source.confirm(descriptor);
            if answer.is_err() {
                next.store(layers.len(), Ordering::Relaxed);
            }
            is_known &= answer?;
        }
        Ok(is_known)
    };
    thread::scope(|scope| {
        let others = parallel.min(layers.len()).saturating_sub(1);
        let others: Vec<_> = (0..others).map(|_| scope.spawn(ask)).collect();
        let mut is_known = ask()?;
        for other in others {
            let answer = other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            is_known &= answer?;
        }
        Ok(is_known)
    })
}
