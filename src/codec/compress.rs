//! How much bytes tell, whatever their number.

use std::io::{self, Write};

/// Bytes that are compressed between two looks at what came out.
const CHUNK_BYTES: usize = 128 << 10;

/// How many bytes the fastest zstd makes of some; no more are compressed once that is `enough`.
pub fn compressed_bytes(bytes: &[u8], enough: u64) -> u64 {
    let count = || -> io::Result<u64> {
        let mut encoder = zstd::Encoder::new(Counter(0), 1)?;
        for chunk in bytes.chunks(CHUNK_BYTES) {
            encoder.write_all(chunk)?;
            if encoder.get_ref().0 >= enough {
                break;
            }
        }
        Ok(encoder.finish()?.0)
    };
    // Without memory for it nothing is known of them.
    count().unwrap_or(0)
}

/// Counts what is written.
struct Counter(u64);

impl Write for Counter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repetitions_tell_nothing() {
        let zeros = compressed_bytes(&vec![0; 10 << 20], u64::MAX);
        assert!(zeros < 10_000, "{zeros}");
        let noise: Vec<u8> =
            (0..1u32 << 16).flat_map(|n| *blake3::hash(&n.to_le_bytes()).as_bytes()).collect();
        let all = compressed_bytes(&noise, u64::MAX);
        assert!(all >= 2 << 20, "{all}");
        let some = compressed_bytes(&noise, 300 << 10);
        assert!((300 << 10..1 << 20).contains(&some), "{some}");
    }
}
