//! Extended attributes, which stand behind their inode.
//!
//! A header of 12 bytes, then for each attribute a row of 4 bytes, its name without the prefix, which
//! is a number, and its value, padded to a multiple of 4. Format: `struct erofs_xattr_ibody_header`
//! and `struct erofs_xattr_entry`. (Attributes that several inodes share are not looked for: the
//! few kinds there are come on few files.)

use super::{Error, path};
use crate::index::PROOF_XATTR;
use crate::tree::{Ino, Tree};

const HEADER_BYTES: usize = 12;
const ROW_BYTES: usize = 4;

/// What the count in the inode can express, in units of 4 bytes behind the header.
const MAX_UNITS: usize = u16::MAX as usize - 1;

/// `EROFS_XATTR_INDEX_USER` and so on. The ACLs have nothing behind the prefix.
const PREFIXES: [(&[u8], u8); 5] = [
    (b"user.", 1),
    (b"system.posix_acl_access", 2),
    (b"system.posix_acl_default", 3),
    (b"trusted.", 4),
    (b"security.", 6),
];

/// The extended attributes of an inode, as far as they can be expressed.
pub(super) struct Body<'a> {
    tree: &'a Tree,
    ino: Ino,
    /// Without the header.
    units: usize,
}

impl<'a> Body<'a> {
    pub(super) fn of(tree: &'a Tree, ino: Ino) -> Result<Body<'a>, Error> {
        let mut units = 0;
        for (_, name, value) in rows(tree, ino) {
            if value.len() > u16::MAX as usize {
                return Err(Error::XattrsTooLarge { path: path(tree, ino) });
            }
            units += (ROW_BYTES + name.len() + value.len()).div_ceil(4);
        }
        match units <= MAX_UNITS {
            true => Ok(Body { tree, ino, units }),
            false => Err(Error::XattrsTooLarge { path: path(tree, ino) }),
        }
    }

    /// The count in the inode.
    pub(super) fn count(&self) -> u16 {
        match self.units {
            0 => 0,
            units => units as u16 + 1,
        }
    }

    pub(super) fn bytes(&self) -> u64 {
        match self.units {
            0 => 0,
            units => (HEADER_BYTES + units * 4) as u64,
        }
    }

    pub(super) fn write(&self, out: &mut Vec<u8>) {
        if self.units == 0 {
            return;
        }
        out.extend_from_slice(&[0; HEADER_BYTES]);
        for (prefix, name, value) in rows(self.tree, self.ino) {
            out.extend_from_slice(&[name.len() as u8, prefix]);
            out.extend_from_slice(&(value.len() as u16).to_le_bytes());
            out.extend_from_slice(name);
            out.extend_from_slice(value);
            out.resize(out.len().next_multiple_of(4), 0);
        }
    }
}

/// Prefix, rest of the name, and value of those that can be expressed. The kernel lists all that there are of a
/// file, so those whose values it refuses to give are left out.
fn rows(tree: &Tree, ino: Ino) -> impl Iterator<Item = (u8, &[u8], &[u8])> {
    tree.readable_xattrs(ino).filter_map(|(name, value)| {
        let (prefix, number) = PREFIXES.iter().find(|(prefix, _)| name.starts_with(prefix))?;
        let rest = &name[prefix.len()..];
        let is_acl = prefix.starts_with(b"system.");
        // No system call takes a longer name, nor an empty one.
        // What was checked is nothing for an image to say.
        let is_ours = name == PROOF_XATTR;
        let is_valid = is_acl == rest.is_empty() && name.len() <= u8::MAX as usize && !is_ours;
        is_valid.then_some((*number, rest, value))
    })
}
