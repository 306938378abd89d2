//! The kernel's page cache, where it holds what has turned out to be wrong.
//!
//! The kernel opens files without asking and keeps what it has read for as long as it likes. That is right for bytes
//! that were verified. Those of a layer that was shown before are wrong in the end, now and then, and the kernel has
//! to be told.
//!
//! The thread that tells waits for pages that are being read, as the pusher's does (`fuse::pusher` says what may
//! become of that): it must be none that answers the kernel.

use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;

use super::connection::Connection;
use super::notify::Notifier;
use crate::fs::Filesystem;
use crate::space::Space;

/// The kernel's page cache, of the files of a connection that shows one file system.
#[derive(Debug)]
pub struct PageCache(Notifier);

impl PageCache {
    /// Of a connection.
    ///
    /// # Errors
    /// There are too many descriptors.
    pub fn of(connection: &Connection) -> io::Result<PageCache> {
        Notifier::new(connection.as_fd()).map(PageCache)
    }

    /// Has what it holds of a layer's files forgotten.
    pub fn forget_layer(&self, filesystem: &Arc<Filesystem>, layer: usize) {
        let space = Space::new(Arc::clone(filesystem));
        let Some(volume) = space.root() else { return };
        let tree = filesystem.tree();
        let files = tree.inos().filter(|ino| tree.content(*ino).is_some_and(|c| c.layer == layer));
        for ino in files {
            if let Err(e) = self.0.forget(volume.shown(ino).number) {
                log::warn!("what was read of inode {ino} may still be in the page cache: {e}");
                return;
            }
        }
    }
}
