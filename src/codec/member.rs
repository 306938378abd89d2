//! What stands behind a gzip member (RFC 1952, 2.3.1), and whether it is true.

use flate2::Crc;

use super::error::Error;

/// What the trailer of a gzip member says of its output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemberEnd {
    /// Its CRC-32.
    pub crc: u32,
    /// Its length modulo 2³², in bytes.
    pub length: u32,
}

impl MemberEnd {
    /// Reads a trailer.
    pub(super) fn of([a, b, c, d, e, f, g, h]: [u8; 8]) -> MemberEnd {
        MemberEnd {
            crc: u32::from_le_bytes([a, b, c, d]),
            length: u32::from_le_bytes([e, f, g, h]),
        }
    }
}

/// CRC-32 and length of the output of gzip members, one after the other.
#[derive(Debug, Default)]
pub struct MemberSum(Crc);

impl MemberSum {
    /// More output of the member.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The member ends here, and another may begin.
    ///
    /// # Errors
    /// Its output is not what its trailer says.
    pub fn check(&mut self, end: MemberEnd) -> Result<(), Error> {
        if self.0.sum() != end.crc {
            return Err(Error::Gzip("checksum mismatch"));
        }
        if self.0.amount() != end.length {
            return Err(Error::Gzip("length mismatch"));
        }
        self.0.reset();
        Ok(())
    }
}
