//! CRC-64 with the polynomial of ISO 3309, as Go's `hash/crc64` computes it: the checksum of tar-split.

/// The polynomial, its lowest power in the highest bit.
const POLYNOMIAL: u64 = 0xd800_0000_0000_0000;

/// For a byte that has so many bytes behind it: what it adds.
const TABLES: [[u64; 256]; 8] = tables();

const fn tables() -> [[u64; 256]; 8] {
    let mut tables = [[0; 256]; 8];
    let mut byte = 0;
    while byte < 256 {
        let (mut crc, mut bit) = (byte as u64, 0);
        while bit < 8 {
            crc = if crc & 1 == 1 { crc >> 1 ^ POLYNOMIAL } else { crc >> 1 };
            bit += 1;
        }
        tables[0][byte] = crc;
        byte += 1;
    }
    let mut behind = 1;
    while behind < 8 {
        let mut byte = 0;
        while byte < 256 {
            let before: u64 = tables[behind - 1][byte];
            tables[behind][byte] = tables[0][(before & 0xff) as usize] ^ before >> 8;
            byte += 1;
        }
        behind += 1;
    }
    tables
}

/// A checksum of bytes that come piece by piece.
#[derive(Clone, Copy, Debug)]
pub struct Crc64(u64);

impl Default for Crc64 {
    fn default() -> Crc64 {
        Crc64(u64::MAX)
    }
}

impl Crc64 {
    /// Takes the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        let (eights, rest) = bytes.as_chunks::<8>();
        for eight in eights {
            let mixed = (self.0 ^ u64::from_le_bytes(*eight)).to_le_bytes();
            let added = mixed.iter().zip(TABLES.iter().rev());
            self.0 = added.fold(0, |crc, (byte, table)| crc ^ table[usize::from(*byte)]);
        }
        for byte in rest {
            self.0 = TABLES[0][usize::from(self.0 as u8 ^ byte)] ^ self.0 >> 8;
        }
    }

    /// The checksum.
    pub fn finish(self) -> u64 {
        !self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_are_those_of_go() {
        let sum = |pieces: &[&[u8]]| {
            let mut crc = Crc64::default();
            pieces.iter().for_each(|piece| crc.update(piece));
            crc.finish()
        };
        assert_eq!(sum(&[]), 0);
        assert_eq!(sum(&[b"123456789"]), 0xb909_56c7_75a4_1001);
        assert_eq!(sum(&[b"1234", b"", b"56789"]), 0xb909_56c7_75a4_1001);
        let long: Vec<u8> = (0..=255).cycle().take(1000).collect();
        let bytes: Vec<&[u8]> = long.chunks(1).collect();
        assert_eq!(sum(&[&long]), sum(&bytes));
    }
}
