//! Downloading a layer, from where an interrupted pass has stopped.

use std::io::{self, Read};

use crate::cache::{Cache, Partial};
use crate::oci::Descriptor;
use crate::source::{self, Body, Source};

/// Smallest blob of which an interrupted download is kept, in bytes.
const MIN_KEPT_BYTES: u64 = 8 << 20;

/// The compressed bytes of a layer: those that an earlier, interrupted pass has kept, then the rest
/// from the source, which is kept as it comes.
pub(super) struct Download {
    kept: Option<Box<dyn Read + Send>>,
    rest: Body,
    partial: Option<Partial>,
}

impl Download {
    /// All of it, of which nothing was kept or will be.
    pub(super) fn from_start(
        descriptor: &Descriptor,
        source: &dyn Source,
    ) -> Result<Download, source::Error> {
        let rest = source.blob(descriptor, 0..descriptor.size)?.body;
        Ok(Download { kept: None, rest, partial: None })
    }

    /// What was kept of it, and the rest, if that is worth it; or all of it.
    pub(super) fn open(
        descriptor: &Descriptor,
        source: &dyn Source,
        cache: &Cache,
    ) -> Result<Download, source::Error> {
        let size = descriptor.size;
        let is_worth_it =
            source.is_remote() && size >= MIN_KEPT_BYTES && source.local_copy(descriptor).is_none();
        let partial = is_worth_it.then(|| cache.partial(&descriptor.digest)).flatten();
        let start = partial.as_ref().map_or(0, Partial::len);
        let reader = partial.as_ref().and_then(|partial| partial.reader().ok());
        if let Some(reader) = reader.filter(|_| (1..=size).contains(&start)) {
            let kept: Option<Box<dyn Read + Send>> = Some(Box::new(reader));
            if start == size {
                return Ok(Download { kept, rest: Box::new(io::empty()), partial });
            }
            let opened = source.blob(descriptor, start..size)?;
            if opened.start == start {
                log::info!("blob {}: going on at {start} bytes", descriptor.digest);
                return Ok(Download { kept, rest: opened.body, partial });
            }
            // The server sends everything again: what is kept is of no use.
            forget(partial);
            return Ok(Download { kept: None, rest: opened.body, partial: None });
        }
        let rest = source.blob(descriptor, 0..size)?.body;
        if start > 0 {
            // Longer than the blob, or unreadable.
            forget(partial);
            return Ok(Download { kept: None, rest, partial: None });
        }
        Ok(Download { kept: None, rest, partial })
    }

    /// Whether some of it was kept by an earlier pass. Reading to the end of that part changes it.
    pub(super) fn is_resumed(&self) -> bool {
        self.kept.is_some()
    }

    /// Nothing of it has to be kept any longer.
    pub(super) fn finish(self) {
        forget(self.partial);
    }
}

/// Removes what was kept of a download.
fn forget(partial: Option<Partial>) {
    if let Some(partial) = partial {
        partial.finish();
    }
}

impl Read for Download {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if let Some(kept) = &mut self.kept {
            match kept.read(buf)? {
                0 => self.kept = None,
                n => return Ok(n),
            }
        }
        let n = self.rest.read(buf)?;
        if let Some(partial) = &mut self.partial {
            partial.append(&buf[..n]);
        }
        Ok(n)
    }
}
