//! A file system with its place among the inode numbers of a space.
//!
//! The lower 32 bits of a number are the inode's in the volume, the upper ones the volume's. Files that several
//! volumes have ([`FileKey`]) have one number in all of them: in place of the volume stands
//! [`FILES`] with the layer and the number of names, and below it the entry. So the kernel has one inode for them, with one
//! copy of its pages, and any volume that has the file can answer for it. What does not fit in there
//! ([`MAX_LAYERS`], [`MAX_NAMES`]) has a number in each volume.

use std::sync::Arc;

use super::directories::VOLUME_SHIFT;
use crate::fs::{Error, FileKey, Filesystem};
use crate::tree::{Attributes, Ino, Shown};

/// In place of a volume: files that several have. The bits above stay free for overlayfs (`xino`).
const FILES: u32 = 1 << 27;

/// Layers and names of a file that have room there.
const NAME_BITS: u32 = 11;
const MAX_NAMES: u32 = 1 << NAME_BITS;
pub(super) const MAX_LAYERS: u32 = FILES >> NAME_BITS;

/// A file system in a [`Space`](super::Space).
#[derive(Clone, Debug)]
pub struct Volume {
    number: u32,
    filesystem: Arc<Filesystem>,
}

impl Volume {
    /// One that is open now.
    pub fn new(number: u32, filesystem: Arc<Filesystem>) -> Volume {
        Volume { number, filesystem }
    }

    /// Its names, attributes and bytes.
    pub fn filesystem(&self) -> &Arc<Filesystem> {
        &self.filesystem
    }

    /// Its number in the space.
    pub(super) fn number(&self) -> u32 {
        self.number
    }

    /// The inode with a number in the volume.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub fn ino(&self, number: u32) -> Result<Ino, Error> {
        let found = match Files::of_volume(self.number) {
            Some(files) => self.filesystem.file_made_from(files.layer, number),
            None => self.filesystem.tree().ino_of(number.into()),
        };
        found.ok_or(Error::NotFound)
    }

    /// How one of its inodes is known in the space.
    pub fn shown(&self, ino: Ino) -> Shown {
        if let Some(key) = self.filesystem.shared_file(ino) {
            let files = match Files::of_volume(self.number) {
                Some(files) => Some(files),
                None => Files::of_key(key),
            };
            if let Some(files) = files {
                let number = u64::from(files.volume()) << VOLUME_SHIFT | u64::from(key.entry);
                return Shown { number, generation: 0 };
            }
        }
        let Shown { number, generation } = self.filesystem.tree().shown(ino);
        Shown { number: u64::from(self.number) << VOLUME_SHIFT | number, generation }
    }

    /// The attributes of one of its inodes: those of the inode that is known by the number.
    pub fn attributes(&self, ino: Ino) -> Attributes {
        let attributes = self.filesystem.tree().attributes(ino);
        match Files::of_volume(self.number) {
            Some(Files { names, .. }) => Attributes { nlink: names, ..attributes },
            None => attributes,
        }
    }
}

/// Files of one layer, with so many names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Files {
    pub(super) layer: u32,
    names: u32,
}

impl Files {
    /// Those that stand in place of a volume, if they do.
    pub(super) fn of_volume(number: u32) -> Option<Files> {
        let files = number.checked_sub(FILES).filter(|files| *files < FILES)?;
        Some(Files { layer: files >> NAME_BITS, names: files % MAX_NAMES })
    }

    fn of_key(FileKey { layer, names, .. }: FileKey) -> Option<Files> {
        (layer < MAX_LAYERS && names < MAX_NAMES).then_some(Files { layer, names })
    }

    fn volume(self) -> u32 {
        FILES | self.layer << NAME_BITS | self.names
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_have_numbers_of_their_own() {
        for (layer, names) in [(0, 1), (1, 2), (MAX_LAYERS - 1, MAX_NAMES - 1)] {
            let files = Files::of_key(FileKey { layer, entry: 7, names });
            assert_eq!(files, Some(Files { layer, names }));
            assert_eq!(files.map(Files::volume).and_then(Files::of_volume), files);
        }
        for (layer, names) in [(MAX_LAYERS, 1), (1, MAX_NAMES)] {
            assert_eq!(Files::of_key(FileKey { layer, entry: 7, names }), None);
        }
        for number in [0, 1, FILES - 1, 2 * FILES, u32::MAX] {
            assert_eq!(Files::of_volume(number), None, "{number}");
        }
    }
}
