//! What is known of a volume that was open, whether it is now or not.

use serde::{Deserialize, Serialize};

use super::directories::SeenRoot;
use crate::fs::Filesystem;
use crate::image::Opened;
use crate::tree::{Attributes, FileKind, Ino};

/// A volume that was open: how it is opened again, and what it is then.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) struct Entered {
    pub(super) opened: Opened,
    /// The checksum of its tree.
    tree: u64,
    /// The numbers of layers of which other volumes may have files.
    pub(super) layers: Vec<u32>,
    root: Root,
}

/// Attributes of its root.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
struct Root {
    mode: u16,
    nlink: u32,
    uid: u32,
    gid: u32,
    size: u64,
    blocks: u64,
    mtime: (i64, u32),
    has_xattrs: bool,
}

impl Entered {
    /// Of a volume that is open.
    pub(super) fn new(opened: Opened, filesystem: &Filesystem) -> Entered {
        let tree = filesystem.tree();
        let Attributes { mode, nlink, uid, gid, size, blocks, .. } = tree.attributes(Ino::ROOT);
        let Attributes { mtime_seconds, mtime_nanoseconds, .. } = tree.attributes(Ino::ROOT);
        let mtime = (mtime_seconds, mtime_nanoseconds);
        let has_xattrs = !filesystem.xattr_names(Ino::ROOT, |_| true).is_empty();
        let root = Root { mode, nlink, uid, gid, size, blocks, mtime, has_xattrs };
        let layers = filesystem.shared_layers();
        Entered { opened, tree: tree.checksum(), layers, root }
    }

    /// Whether something that was opened again is what it was: the kernel remembers numbers and names of it.
    ///
    /// # Errors
    /// A sentence.
    pub(super) fn check(&self, filesystem: &Filesystem) -> Result<(), String> {
        match filesystem.tree().checksum() == self.tree {
            true => Ok(()),
            false => {
                Err("it can't be shown as it was shown before: unmount and mount it again"
                    .to_owned())
            }
        }
    }

    /// Its root.
    pub(super) fn root(&self) -> SeenRoot {
        let Root { mode, nlink, uid, gid, size, blocks, mtime, has_xattrs } = self.root;
        let (mtime_seconds, mtime_nanoseconds) = mtime;
        let (ino, kind, device) = (Ino::ROOT, FileKind::Directory, (0, 0));
        let attributes = Attributes {
            ino,
            kind,
            mode,
            nlink,
            uid,
            gid,
            size,
            blocks,
            mtime_seconds,
            mtime_nanoseconds,
            device,
        };
        SeenRoot { attributes, has_xattrs }
    }
}
