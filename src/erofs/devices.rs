//! What lies on the extra devices of an image.

use std::ops::Range;

use super::format::{BLOCK_BYTES, Error, path};
use crate::tree::{Ino, Tree};

/// The largest chunk has so many blocks.
const MAX_FILE_BLOCKS: u64 = 1 << 31;

/// Numbers of blocks have 32 bits, and the last one means a hole.
const MAX_DEVICE_BLOCKS: u64 = u32::MAX as u64;

/// The devices of an image: one for each layer that has content. Without any content there is one of
/// nothing but zeros, as devices tell whether their image is in use.
#[derive(Debug, Default)]
pub struct Devices {
    devices: Vec<Device>,
    /// Device and first block of each inode, where it has content.
    places: Vec<(u16, u32)>,
}

/// The files of a layer, each in blocks of its own, with zeros behind its end.
#[derive(Debug)]
pub struct Device {
    files: Vec<Placed>,
    blocks: u32,
}

/// A file on a device, 8 bytes.
#[derive(Clone, Copy, Debug)]
struct Placed {
    block: u32,
    ino: Ino,
}

/// A part of a device: these bytes of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Offset in what was asked for.
    pub at: usize,
    /// The file.
    pub ino: Ino,
    /// Offset in the file.
    pub offset: u64,
    /// Number of bytes, at most up to the end of the file.
    pub length: usize,
}

impl Devices {
    pub(super) fn of(tree: &Tree) -> Result<Devices, Error> {
        let mut layers: Vec<Vec<(u64, Ino)>> = Vec::new();
        for ino in tree.inos() {
            let Some(content) = tree.content(ino).filter(|content| content.size > 0) else {
                continue;
            };
            if layers.len() <= content.layer {
                layers.resize_with(content.layer + 1, Vec::new);
            }
            layers[content.layer].push((content.start(), ino));
        }
        let mut devices = Devices { devices: Vec::new(), places: vec![(0, 0); tree.len()] };
        for (layer, mut files) in layers.into_iter().enumerate().filter(|(_, f)| !f.is_empty()) {
            files.sort_unstable();
            devices.add(tree, layer, &files)?;
        }
        if devices.devices.is_empty() {
            devices.devices.push(Device { files: Vec::new(), blocks: 1 });
        }
        Ok(devices)
    }

    fn add(&mut self, tree: &Tree, layer: usize, files: &[(u64, Ino)]) -> Result<(), Error> {
        let number = u16::try_from(self.devices.len()).map_err(|_| Error::TooManyLayers)?;
        let mut placed = Vec::with_capacity(files.len());
        let mut end = 0;
        for (_, ino) in files {
            let size = tree.attributes(*ino).size;
            let blocks = size.div_ceil(BLOCK_BYTES);
            if blocks > MAX_FILE_BLOCKS {
                return Err(Error::FileTooLarge { path: path(tree, *ino), size });
            }
            let block = end as u32;
            end += blocks;
            if end >= MAX_DEVICE_BLOCKS {
                return Err(Error::LayerTooLarge { layer });
            }
            placed.push(Placed { block, ino: *ino });
            self.places[ino.number() as usize - 1] = (number, block);
        }
        self.devices.push(Device { files: placed, blocks: end as u32 });
        Ok(())
    }

    /// Number of devices, at least 1.
    #[allow(clippy::len_without_is_empty, reason = "it never is")]
    pub fn len(&self) -> usize {
        self.devices.len()
    }

    /// The device of a number; they count from 0.
    pub fn get(&self, number: usize) -> Option<&Device> {
        self.devices.get(number)
    }

    /// All devices in order.
    pub fn iter(&self) -> impl Iterator<Item = &Device> {
        self.devices.iter()
    }

    /// Device and first block of a file that has content.
    pub(super) fn place(&self, ino: Ino) -> (u16, u32) {
        self.places[ino.number() as usize - 1]
    }
}

impl Device {
    pub(super) fn blocks(&self) -> u32 {
        self.blocks
    }

    /// Size in bytes.
    pub fn bytes(&self) -> u64 {
        u64::from(self.blocks) * BLOCK_BYTES
    }

    /// How many files begin in a range.
    pub fn files_in(&self, range: Range<u64>) -> usize {
        let before = |offset: u64| {
            self.files.partition_point(|file| u64::from(file.block) * BLOCK_BYTES < offset)
        };
        before(range.end).saturating_sub(before(range.start))
    }

    /// What lies in a range of the device; all that is in none of the pieces is zero.
    pub fn pieces<'a>(
        &'a self,
        tree: &'a Tree,
        offset: u64,
        length: usize,
    ) -> impl Iterator<Item = Piece> + 'a {
        let end = offset.saturating_add(length as u64);
        let start = |file: &Placed| u64::from(file.block) * BLOCK_BYTES;
        let first = self.files.partition_point(|file| start(file) <= offset).saturating_sub(1);
        let files = self.files[first..].iter().take_while(move |file| start(file) < end);
        files.filter_map(move |file| {
            let size = tree.content(file.ino)?.size;
            let from = start(file).max(offset);
            let to = (start(file) + size).min(end);
            (from < to).then(|| Piece {
                at: (from - offset) as usize,
                ino: file.ino,
                offset: from - start(file),
                length: (to - from) as usize,
            })
        })
    }
}
