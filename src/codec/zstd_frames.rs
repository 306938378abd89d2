//! Zstd: frames one after the other, within a limit of memory.

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
}

impl Zstd {
    /// A decompressor at the start of a frame.
    pub(super) fn within(limits: Limits) -> Result<Zstd, Error> {
        let error = |e: std::io::Error| Error::Zstd(e.to_string());
        let mut decoder = raw::Decoder::new().map_err(error)?;
        let log = limits.zstd_window_log.min(MAX_ZSTD_WINDOW_LOG);
        decoder.set_parameter(raw::DParameter::WindowLogMax(log)).map_err(error)?;
        Ok(Zstd { decoder, limits, inside_frame: false, start: Vec::new() })
    }

    /// Whether the frame that was begun has not ended.
    pub(super) fn is_inside_frame(&self) -> bool {
        self.inside_frame
    }

    pub(super) fn decode(&mut self, input: &[u8], output: &mut [u8]) -> Result<Progress, Error> {
        if output.is_empty() || (input.is_empty() && !self.inside_frame) {
            return Ok(Progress { consumed: 0, produced: 0 });
        }
        if !self.inside_frame {
            self.start.clear();
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
        if status.bytes_read > 0 || status.bytes_written > 0 {
            self.inside_frame = status.remaining != 0;
        }
        Ok(Progress { consumed: status.bytes_read, produced: status.bytes_written })
    }
}
