//! One image, wherever it lies: the trait [`Source`] and what it hands out.

use std::fmt;
use std::io::{Cursor, Read};
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::connections::Connections;
use super::error::Error;
use super::raw::RawDocument;
use super::repository::Repository;
use crate::digest::Digest;
use crate::oci::Descriptor;

/// The unverified bytes of a blob from some offset on.
pub type Body = Box<dyn Read + Send>;

/// The unverified bytes of a part of a blob: what was asked for, or more.
pub struct Opened {
    /// The bytes. A whole blob that was asked for may turn out longer than its descriptor says,
    /// for a verifying reader to refuse; any other body ends at `end` at the latest. Where a local
    /// file is too short, it ends earlier.
    pub body: Body,
    /// Offset in the blob of the first byte of `body`: what was asked for, or 0 where a server
    /// ignored the range and sends everything.
    pub start: u64,
    /// Just past the last byte that will come: the end asked for, or the blob's size.
    pub end: u64,
}

impl fmt::Debug for Opened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Opened { body: _, start, end } = self;
        f.debug_struct("Opened").field("start", start).field("end", end).finish_non_exhaustive()
    }
}

impl Opened {
    /// A range of a blob that lies in memory; less of it where the bytes end earlier.
    pub(super) fn of_bytes(bytes: &[u8], range: Range<u64>) -> Opened {
        let Range { start, end } = range;
        let bytes = usize::try_from(start).ok().and_then(|start| bytes.get(start..));
        let body = Cursor::new(bytes.unwrap_or_default().to_vec()).take(end - start);
        Opened { body: Box::new(body), start, end }
    }
}

/// What fetching costs, as measured over the last answers (moving averages).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Throughput {
    /// Time from asking to the first byte of an answer.
    pub round_trip: Duration,
    /// Bytes a second of one body.
    pub bytes_per_second: u64,
}

/// Refuses a range that is not within a blob.
pub(super) fn check_range(descriptor: &Descriptor, range: &Range<u64>) -> Result<(), Error> {
    let (digest, size) = (descriptor.digest, descriptor.size);
    let Range { start, end } = *range;
    match start <= end && end <= size {
        true => Ok(()),
        false => Err(Error::Range { digest, size, start, end }),
    }
}

/// One image, wherever it lies.
pub trait Source: fmt::Debug + Send + Sync {
    /// The document that the image name means.
    ///
    /// # Errors
    /// It can't be had.
    fn root(&self) -> Result<RawDocument, Error>;

    /// The digest of the document that [`Source::root`] would return, without fetching it;
    /// `None` where that saves nothing or the server can't say.
    ///
    /// # Errors
    /// The source can't be reached or refuses.
    fn head(&self) -> Result<Option<Digest>, Error> {
        Ok(None)
    }

    /// A further document by descriptor.
    ///
    /// # Errors
    /// It can't be had.
    fn document(&self, descriptor: &Descriptor) -> Result<RawDocument, Error>;

    /// The bytes of a blob in `range`, or more: see [`Opened`].
    ///
    /// # Errors
    /// They can't be had, or the range is not within the size that the descriptor says. Failures
    /// in the middle come as [`std::io::Error`] from the reader.
    fn blob(&self, descriptor: &Descriptor, range: Range<u64>) -> Result<Opened, Error>;

    /// The same for bytes that no reader waits for: what is refused or breaks off is not asked for again.
    ///
    /// # Errors
    /// As those of [`Source::blob`].
    fn blob_ahead(&self, descriptor: &Descriptor, range: Range<u64>) -> Result<Opened, Error> {
        self.blob(descriptor, range)
    }

    /// The connections to where blobs come from; `None` for local sources.
    fn connections(&self) -> Option<&Arc<Connections>> {
        None
    }

    /// What fetching costs here, measured or, as long as nothing was fetched, assumed; `None` for
    /// local sources.
    fn throughput(&self) -> Option<Throughput> {
        None
    }

    /// Asks the registry itself whether it has this blob and lets us read it, without fetching it.
    /// `false` where there is no registry to ask: then only reading shows it.
    ///
    /// # Errors
    /// It does not, or can't be asked.
    fn confirm(&self, _blob: &Descriptor) -> Result<bool, Error> {
        Ok(false)
    }

    /// What the image lies in beside others, where it does.
    fn repository(self: Arc<Self>) -> Option<Arc<dyn Repository>> {
        None
    }

    /// The registry that sends the bytes of blobs, if nothing else does.
    fn sender(&self) -> Option<&str> {
        None
    }

    /// Whether the blob is there at all. Archives of multi-platform images are often partial.
    fn has(&self, _descriptor: &Descriptor) -> bool {
        true
    }

    /// The root of the store on this machine that a blob is read from instead of from where the image
    /// is, if there is one that has it.
    fn local_copy(&self, _descriptor: &Descriptor) -> Option<PathBuf> {
        None
    }

    /// Takes note that what came for a digest is not what it should be. Whether another host can be
    /// asked for it: asking again then goes there.
    fn distrust(&self, _digest: &Digest) -> bool {
        false
    }

    /// Whether reading costs a network: such blobs are worth remembering by tag.
    fn is_remote(&self) -> bool {
        false
    }

    /// Whether everything that is asked for is refused, as it would cost a network.
    fn is_offline(&self) -> bool {
        false
    }
}
