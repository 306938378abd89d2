//! Reading what should be small: never more of it than so many bytes, whatever it turns out to be.

use std::io::{self, Read};

/// Reads all of something that has no more than `limit` bytes.
///
/// # Errors
/// It can't be read, or has more ([`io::ErrorKind::FileTooLarge`]).
pub(crate) fn read_all(from: impl Read, limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    from.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
    match bytes.len() as u64 > limit {
        true => {
            let what = format!("it has more than the {limit} bytes that are read of it");
            Err(io::Error::new(io::ErrorKind::FileTooLarge, what))
        }
        false => Ok(bytes),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_is_longer_is_refused() {
        assert_eq!(read_all(&b"abc"[..], 3).unwrap(), b"abc");
        assert_eq!(read_all(&b""[..], 0).unwrap(), b"");
        let error = read_all(io::repeat(0), 3).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::FileTooLarge);
        assert!(error.to_string().contains("more than the 3 bytes"), "{error}");
    }
}
