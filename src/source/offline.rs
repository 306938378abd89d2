//! A source that refuses whatever would go to the network.
//!
//! Who opens an image without a network puts this around its source, and nothing below has to know: what is in
//! the cache is used, and what is not is refused here.

use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use super::connections::Connections;
use super::error::Error;
use super::image::{Opened, Source, Throughput};
use super::raw::RawDocument;
use super::repository::Repository;
use crate::digest::Digest;
use crate::oci::Descriptor;

/// A source whose content is not fetched where that would cost a network.
#[derive(Debug)]
pub struct Offline(Arc<dyn Source>);

impl Offline {
    /// The same image, without a network.
    pub fn new(source: Arc<dyn Source>) -> Offline {
        Offline(source)
    }

    /// The source, if it may be asked.
    fn local(&self, what: impl FnOnce() -> String) -> Result<&dyn Source, Error> {
        match self.is_offline() {
            true => Err(Error::Offline(what())),
            false => Ok(&*self.0),
        }
    }
}

impl Source for Offline {
    fn root(&self) -> Result<RawDocument, Error> {
        self.local(|| "what the name means".to_owned())?.root()
    }

    fn head(&self) -> Result<Option<Digest>, Error> {
        self.local(|| "what the name means".to_owned())?.head()
    }

    fn document(&self, descriptor: &Descriptor) -> Result<RawDocument, Error> {
        self.local(|| format!("manifest {}", descriptor.digest))?.document(descriptor)
    }

    fn blob(&self, descriptor: &Descriptor, range: Range<u64>) -> Result<Opened, Error> {
        self.local(|| format!("blob {}", descriptor.digest))?.blob(descriptor, range)
    }

    fn blob_ahead(&self, descriptor: &Descriptor, range: Range<u64>) -> Result<Opened, Error> {
        self.local(|| format!("blob {}", descriptor.digest))?.blob_ahead(descriptor, range)
    }

    fn connections(&self) -> Option<&Arc<Connections>> {
        self.0.connections()
    }

    fn throughput(&self) -> Option<Throughput> {
        self.0.throughput()
    }

    fn confirm(&self, blob: &Descriptor) -> Result<bool, Error> {
        self.local(|| format!("blob {}", blob.digest))?.confirm(blob)
    }

    fn repository(self: Arc<Self>) -> Option<Arc<dyn Repository>> {
        Arc::clone(&self.0).repository().filter(|_| !self.is_offline())
    }

    fn has(&self, descriptor: &Descriptor) -> bool {
        self.0.has(descriptor)
    }

    fn local_copy(&self, descriptor: &Descriptor) -> Option<PathBuf> {
        self.0.local_copy(descriptor)
    }

    fn distrust(&self, digest: &Digest) -> bool {
        self.0.distrust(digest)
    }

    fn is_remote(&self) -> bool {
        self.0.is_remote()
    }

    fn is_offline(&self) -> bool {
        self.0.is_remote()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    /// A source that counts what it is asked.
    #[derive(Debug, Default)]
    struct Counted {
        asked: AtomicUsize,
        is_remote: bool,
    }

    impl Counted {
        fn answer(&self) -> RawDocument {
            self.asked.fetch_add(1, Ordering::Relaxed);
            RawDocument { bytes: Vec::new(), media_type: None, digest: None }
        }
    }

    impl Source for Counted {
        fn root(&self) -> Result<RawDocument, Error> {
            Ok(self.answer())
        }

        fn head(&self) -> Result<Option<Digest>, Error> {
            self.answer();
            Ok(None)
        }

        fn document(&self, _: &Descriptor) -> Result<RawDocument, Error> {
            Ok(self.answer())
        }

        fn blob(&self, _: &Descriptor, range: Range<u64>) -> Result<Opened, Error> {
            Ok(Opened::of_bytes(&self.answer().bytes, range))
        }

        fn confirm(&self, _: &Descriptor) -> Result<bool, Error> {
            self.answer();
            Ok(true)
        }

        fn is_remote(&self) -> bool {
            self.is_remote
        }
    }

    #[test]
    fn a_network_is_refused_and_a_disk_is_not() {
        let digest = Digest::sha256(b"x");
        let descriptor = Descriptor::of_manifest(digest);
        for (is_remote, expected) in [(true, 0), (false, 5)] {
            let counted = Arc::new(Counted { is_remote, ..Counted::default() });
            let source = Offline::new(Arc::clone(&counted) as Arc<dyn Source>);
            let results = [
                source.root().map(drop),
                source.head().map(drop),
                source.document(&descriptor).map(drop),
                source.blob(&descriptor, 0..0).map(drop),
                source.confirm(&descriptor).map(drop),
            ];
            assert!(results.iter().all(|result| result.is_err() == is_remote), "{results:?}");
            assert_eq!(counted.asked.load(Ordering::Relaxed), expected);
            assert_eq!((source.is_remote(), source.is_offline()), (is_remote, is_remote));
        }
    }
}
