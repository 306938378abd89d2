//! Reading a blob that is checked on the way.

use std::io::{self, Read};

use super::{Digest, Hasher};

/// What went wrong while a blob of known digest and size was read.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// The stream ended early.
    #[error("{digest} is truncated: got {got} bytes, its descriptor says {expected}")]
    Short {
        /// The digest asked for.
        digest: Digest,
        /// Bytes received.
        got: u64,
        /// Bytes promised by the descriptor.
        expected: u64,
    },
    /// The stream went on past the descriptor's size.
    #[error("{digest} is longer than the {expected} bytes its descriptor says")]
    Long {
        /// The digest asked for.
        digest: Digest,
        /// Bytes promised by the descriptor.
        expected: u64,
    },
    /// All bytes came, and they are other bytes.
    #[error("content does not match its digest: expected {expected}, got {got}")]
    Mismatch {
        /// The digest asked for.
        expected: Digest,
        /// The digest of what came.
        got: Digest,
    },
}

/// Reads a blob and checks its size and digest before it lets end-of-file out.
///
/// A caller that sees `Ok(0)` has read exactly the bytes that the descriptor names; every
/// deviation is an error of kind [`io::ErrorKind::InvalidData`] that wraps a [`VerifyError`].
#[derive(Debug)]
pub struct VerifyingReader<R> {
    inner: R,
    expected: Digest,
    size: u64,
    seen: u64,
    /// `None` once the digest has been checked.
    hasher: Option<Hasher>,
}

impl<R: Read> VerifyingReader<R> {
    /// Wraps `inner`, which should deliver `size` bytes with digest `expected`.
    pub fn new(inner: R, expected: Digest, size: u64) -> VerifyingReader<R> {
        let hasher = Some(Hasher::new(expected.algorithm()));
        VerifyingReader { inner, expected, size, seen: 0, hasher }
    }

    fn at_end(&mut self) -> Result<(), VerifyError> {
        let Some(hasher) = self.hasher.take() else { return Ok(()) };
        if self.seen < self.size {
            let (digest, got, expected) = (self.expected, self.seen, self.size);
            return Err(VerifyError::Short { digest, got, expected });
        }
        let got = hasher.finish();
        if got != self.expected {
            return Err(VerifyError::Mismatch { expected: self.expected, got });
        }
        Ok(())
    }
}

impl<R: Read> Read for VerifyingReader<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if buf.is_empty() {
            return Ok(0);
        }
        let n = self.inner.read(buf)?;
        if n == 0 {
            self.at_end().map_err(invalid_data)?;
            return Ok(0);
        }
        self.seen += n as u64;
        if self.seen > self.size {
            let (digest, expected) = (self.expected, self.size);
            return Err(invalid_data(VerifyError::Long { digest, expected }));
        }
        if let Some(hasher) = &mut self.hasher {
            hasher.update(&buf[..n]);
        }
        Ok(n)
    }
}

fn invalid_data(error: VerifyError) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn verifying_reader_holds_back_eof() {
        let read = |bytes: &[u8], digest: Digest, size: u64| {
            let mut out = Vec::new();
            VerifyingReader::new(bytes, digest, size).read_to_end(&mut out).map(|_| out)
        };
        let digest = Digest::sha256(b"hello");
        assert_eq!(read(b"hello", digest, 5).unwrap(), b"hello");
        for (bytes, size, word) in
            [(&b"hell"[..], 5, "truncated"), (b"hello!", 5, "longer"), (b"hellO", 5, "match")]
        {
            let error = read(bytes, digest, size).unwrap_err().to_string();
            assert!(error.contains(word), "{error}");
        }
    }
}
