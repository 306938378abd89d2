//! Writes sparse files into tar archives, in each of the four encodings that GNU tar has had.
//!
//! A sparse file is given as its size and its regions of data. In all encodings the data of the
//! regions follow each other without padding between them. Readers agree on that only for regions
//! of whole blocks (the last may be shorter), since GNU tar starts each region on a block. GNU tar
//! also needs an empty last region at the real size when the file ends in a hole.

use crate::support::tarball::{BLOCK, TarWriter, octal, put};

impl TarWriter {
    /// Appends a sparse file in the old GNU format, with extension blocks from the fifth region.
    pub fn sparse_old_gnu(
        &mut self,
        path: &str,
        real_size: u64,
        regions: &[(u64, &[u8])],
    ) -> &mut TarWriter {
        let map: Vec<[u8; 24]> = regions
            .iter()
            .map(|(offset, bytes)| {
                let mut pair = [0; 24];
                octal(&mut pair[..12], *offset);
                octal(&mut pair[12..], bytes.len() as u64);
                pair
            })
            .collect();
        let (first, rest) = map.split_at(map.len().min(4));
        let data = region_data(regions);
        self.raw_header(|header| {
            header.gnu();
            put(&mut header.name, path);
            header.typeflag = b'S';
            octal(&mut header.size, data.len() as u64);
            // Within the prefix: three times, an unused field, the map from byte 41, the flag
            // that says whether extension blocks follow, and the expanded size.
            header.prefix[41..41 + first.len() * 24].copy_from_slice(first.as_flattened());
            header.prefix[137] = u8::from(!rest.is_empty());
            octal(&mut header.prefix[138..150], real_size);
        });
        let blocks = rest.len().div_ceil(21);
        for (index, pairs) in rest.chunks(21).enumerate() {
            let mut block = pairs.as_flattened().to_vec();
            block.resize(504, 0);
            block.push(u8::from(index + 1 < blocks));
            self.data(&block);
        }
        self.data(&data)
    }

    /// Appends a sparse file whose map is in repeated pax records, as GNU tar 1.14 wrote them.
    pub fn sparse_pax_0_0(
        &mut self,
        path: &str,
        real_size: u64,
        regions: &[(u64, &[u8])],
    ) -> &mut TarWriter {
        let mut records = vec![
            ("GNU.sparse.size", real_size.to_string()),
            ("GNU.sparse.numblocks", regions.len().to_string()),
        ];
        for (offset, bytes) in regions {
            records.push(("GNU.sparse.offset", offset.to_string()));
            records.push(("GNU.sparse.numbytes", bytes.len().to_string()));
        }
        self.pax(&records);
        self.sparse_member(path, &region_data(regions))
    }

    /// Appends a sparse file whose map is in one pax record, as GNU tar 1.15 wrote it.
    pub fn sparse_pax_0_1(
        &mut self,
        path: &str,
        real_size: u64,
        regions: &[(u64, &[u8])],
    ) -> &mut TarWriter {
        let map: Vec<String> =
            regions.iter().map(|(offset, bytes)| format!("{offset},{}", bytes.len())).collect();
        self.pax(&[
            ("GNU.sparse.size", real_size.to_string()),
            ("GNU.sparse.numblocks", regions.len().to_string()),
            ("GNU.sparse.map", map.join(",")),
            ("GNU.sparse.name", path.to_string()),
        ]);
        self.sparse_member(&sparse_name(path), &region_data(regions))
    }

    /// Appends a sparse file whose map is at the start of its data, as GNU tar writes it today.
    pub fn sparse_pax_1_0(
        &mut self,
        path: &str,
        real_size: u64,
        regions: &[(u64, &[u8])],
    ) -> &mut TarWriter {
        let mut data = format!("{}\n", regions.len()).into_bytes();
        for (offset, bytes) in regions {
            data.extend_from_slice(format!("{offset}\n{}\n", bytes.len()).as_bytes());
        }
        data.resize(data.len().next_multiple_of(BLOCK), 0);
        data.extend_from_slice(&region_data(regions));
        self.pax(&[
            ("GNU.sparse.major", "1".to_string()),
            ("GNU.sparse.minor", "0".to_string()),
            ("GNU.sparse.name", path.to_string()),
            ("GNU.sparse.realsize", real_size.to_string()),
        ]);
        self.sparse_member(&sparse_name(path), &data)
    }

    fn sparse_member(&mut self, name: &str, data: &[u8]) -> &mut TarWriter {
        self.raw_header(|header| {
            put(&mut header.name, name);
            octal(&mut header.size, data.len() as u64);
        });
        self.data(data)
    }
}

/// The name that GNU tar gives the member that holds a sparse file, for readers without pax.
fn sparse_name(path: &str) -> String {
    match path.rsplit_once('/') {
        Some((parent, name)) => format!("{parent}/GNUSparseFile.1/{name}"),
        None => format!("./GNUSparseFile.1/{path}"),
    }
}

fn region_data(regions: &[(u64, &[u8])]) -> Vec<u8> {
    regions.iter().flat_map(|(_, bytes)| bytes.iter().copied()).collect()
}
