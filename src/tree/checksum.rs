//! Whether two trees are the same to who remembers one of them.
//!
//! The kernel remembers names, attributes and numbers for as long as a mount lasts, and where in a directory a
//! listing has come to. So a process that goes on with a mount must have the very tree that was mounted. The digest of the
//! manifest alone does not say so: a layer may have been shown by a table of contents of others, and be known by a first
//! pass of our own since, which numbers files by their contents.
//!
//! Rejected: comparing which layer indexes were used. Their formats have versions, and what is read from the same
//! index may change with those.

use xxhash_rust::xxh3::Xxh3Default;

use super::inode::FileKind;
use super::table::Tree;

impl Tree {
    /// A checksum of everything that is shown of the tree, and of the places of its contents. It keeps mistakes apart, and
    /// no attackers: what is read is checked by itself.
    pub fn checksum(&self) -> u64 {
        let mut hash = Xxh3Default::new();
        let mut add = |bytes: &[u8]| {
            hash.update(&(bytes.len() as u64).to_le_bytes());
            hash.update(bytes);
        };
        for ino in self.inos() {
            let (shown, of) = (self.shown(ino), self.attributes(ino));
            let numbers = [
                shown.number,
                shown.generation.into(),
                of.kind as u64,
                of.mode.into(),
                of.nlink.into(),
                of.uid.into(),
                of.gid.into(),
                of.size,
                of.blocks,
                of.mtime_seconds as u64,
                of.mtime_nanoseconds.into(),
                of.device.0.into(),
                of.device.1.into(),
                self.layer(ino) as u64,
            ];
            add(numbers.map(u64::to_le_bytes).as_flattened());
            add(self.symlink(ino).unwrap_or_default());
            for (name, value) in self.xattrs(ino) {
                add(name);
                add(value);
            }
            if let Some(content) = self.content(ino) {
                add(&content.start().to_le_bytes());
            }
            if of.kind == FileKind::Directory {
                for child in self.children(ino, 0) {
                    add(child.name);
                    add(&child.ino.number().to_le_bytes());
                }
            }
        }
        hash.digest()
    }
}
