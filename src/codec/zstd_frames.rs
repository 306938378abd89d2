//! Zstd: frames one after the other, within a limit of memory.
//!
//! A frame whose content is not as large as it says is corrupt (RFC 8878, 3.1.1.1.4). The library says so or does not, by the sizes
//! of the pieces that it is given, so that what can be read would depend on who reads it: it is checked here.

use zstd::stream::raw::{self, Operation};

use super::boundary::Progress;
use super::error::Error;
use super::limits::{Limits, MAX_ZSTD_WINDOW_LOG};
use super::zstd_header;

/// A decompressor of zstd frames.
pub(super) struct Zstd {
    decoder: raw::Decoder<'static>,
    limits: Limits,
    inside_frame: bool,
    /// The first bytes of the frame, as far as they have been taken.
    start: Vec<u8>,
    /// What has come out of the frame, in bytes.
    produced: u64,
}

impl Zstd {
    /// A decompressor at the start of a frame.
    pub(super) fn within(limits: Limits) -> Result<Zstd, Error> {
        let error = |e: std::io::Error| Error::Zstd(e.to_string());
        let mut decoder = raw::Decoder::new().map_err(error)?;
        let log = limits.zstd_window_log.min(MAX_ZSTD_WINDOW_LOG);
        decoder.set_parameter(raw::DParameter::WindowLogMax(log)).map_err(error)?;
        Ok(Zstd { decoder, limits, inside_frame: false, start: Vec::new(), produced: 0 })
    }

    /// Whether the frame that was begun has not ended.
    pub(super) fn is_inside_frame(&self) -> bool {
        self.inside_frame
    }

    /// Whether a frame that has ended holds what it has said.
    fn check_size(&self) -> Result<(), Error> {
        if self.inside_frame {
            return Ok(());
        }
        match zstd_header::content_bytes(&self.start) {
            Some(said) if said != self.produced => Err(Error::Zstd(format!(
                "a frame says that it has {said} bytes, and has {}",
                self.produced
            ))),
            _ => Ok(()),
        }
    }

    pub(super) fn decode(&mut self, input: &[u8], output: &mut [u8]) -> Result<Progress, Error> {
        if output.is_empty() || (input.is_empty() && !self.inside_frame) {
            return Ok(Progress { consumed: 0, produced: 0 });
        }
        if !self.inside_frame {
            self.start.clear();
            self.produced = 0;
        }
        let seen = self.start.len();
        let missing = zstd_header::MAX_BYTES.saturating_sub(seen);
        self.start.extend_from_slice(&input[..input.len().min(missing)]);
        let status = self.decoder.run_on_buffers(input, output).map_err(|e| {
            let limit = 1 << self.limits.zstd_window_log.min(MAX_ZSTD_WINDOW_LOG);
            match zstd_header::window_bytes(&self.start) {
                Some(window) if window > limit => Error::ZstdWindow { window, limit },
                _ => Error::Zstd(e.to_string()),
            }
        })?;
        self.start.truncate(seen + status.bytes_read);
        self.produced += status.bytes_written as u64;
        if status.bytes_read > 0 || status.bytes_written > 0 {
            self.inside_frame = status.remaining != 0;
            self.check_size()?;
        }
        Ok(Progress { consumed: status.bytes_read, produced: status.bytes_written })
    }
}
