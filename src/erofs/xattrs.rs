//! Extended attributes, which stand behind their inode, or once for all inodes that have the same.
//!
//! Behind an inode: a header of 12 bytes, the places of shared attributes, then the others. Of an attribute: a row of
//! 4 bytes, its name without the prefix, which is a number, and its value, padded to a multiple of 4.
//! Format: `struct erofs_xattr_ibody_header` and `struct erofs_xattr_entry`.
//!
//! Shared are all that come more than once, such as SELinux labels: what is in the image is in memory that can't be
//! swapped out, and a tar repeats a value of 64 KiB at the price of a few bytes.

use std::collections::HashMap;

use super::format::{Error, path};
use crate::index::PROOF_XATTR;
use crate::tree::{Ino, Tree};

const HEADER_BYTES: usize = 12;
/// Where the header has the number of shared ones.
const SHARED_COUNT: usize = 4;
const ROW_BYTES: usize = 4;

/// What the header can count.
const MAX_SHARED: usize = u8::MAX as usize;

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

/// Prefix, rest of the name, and value.
type Row<'a> = (u8, &'a [u8], &'a [u8]);

/// The attributes that several inodes have.
#[derive(Debug)]
pub(super) struct Shared<'a> {
    /// Where each begins among them, in units of 4 bytes.
    places: HashMap<Row<'a>, u32>,
    rows: Vec<Row<'a>>,
    units: u64,
}

impl<'a> Shared<'a> {
    pub(super) fn of(tree: &'a Tree) -> Result<Shared<'a>, Error> {
        let mut seen: HashMap<Row<'a>, bool> = HashMap::new();
        let mut shared = Shared { places: HashMap::new(), rows: Vec::new(), units: 0 };
        if !tree.has_xattrs() {
            return Ok(shared);
        }
        for row in tree.inos().flat_map(|ino| rows(tree, ino)) {
            let is_again = seen.entry(row).and_modify(|again| *again = true).or_insert(false);
            if !*is_again || shared.places.contains_key(&row) {
                continue;
            }
            let place = u32::try_from(shared.units).map_err(|_| Error::TooLarge)?;
            shared.places.insert(row, place);
            shared.rows.push(row);
            shared.units += units(row) as u64;
        }
        Ok(shared)
    }

    pub(super) fn bytes(&self) -> u64 {
        self.units * 4
    }

    /// Each of them as it stands in the image, in order.
    pub(super) fn encoded(&self) -> impl Iterator<Item = Vec<u8>> {
        self.rows.iter().map(|row| {
            let mut bytes = Vec::new();
            encode(*row, &mut bytes);
            bytes
        })
    }
}

/// The extended attributes of an inode, as far as they can be expressed.
pub(super) struct Body<'a> {
    /// Places of shared ones.
    shared: Vec<u32>,
    own: Vec<Row<'a>>,
    /// Without the header.
    units: usize,
}

impl<'a> Body<'a> {
    pub(super) fn of(tree: &'a Tree, shared: &Shared<'a>, ino: Ino) -> Result<Body<'a>, Error> {
        let mut body = Body { shared: Vec::new(), own: Vec::new(), units: 0 };
        for row in rows(tree, ino) {
            if row.2.len() > u16::MAX as usize {
                return Err(Error::XattrsTooLarge { path: path(tree, ino) });
            }
            match shared.places.get(&row) {
                Some(place) if body.shared.len() < MAX_SHARED => {
                    body.shared.push(*place);
                    body.units += 1;
                }
                _ => {
                    body.own.push(row);
                    body.units += units(row);
                }
            }
        }
        match body.units <= MAX_UNITS {
            true => Ok(body),
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
        let mut header = [0; HEADER_BYTES];
        header[SHARED_COUNT] = self.shared.len() as u8;
        out.extend_from_slice(&header);
        self.shared.iter().for_each(|place| out.extend_from_slice(&place.to_le_bytes()));
        self.own.iter().for_each(|row| encode(*row, out));
    }
}

/// What an attribute takes, in units of 4 bytes.
fn units((_, name, value): Row<'_>) -> usize {
    (ROW_BYTES + name.len() + value.len()).div_ceil(4)
}

/// Adds an attribute where `out` ends at a multiple of 4.
fn encode((prefix, name, value): Row<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(&[name.len() as u8, prefix]);
    out.extend_from_slice(&(value.len() as u16).to_le_bytes());
    out.extend_from_slice(name);
    out.extend_from_slice(value);
    out.resize(out.len().next_multiple_of(4), 0);
}

/// Those that can be expressed. The kernel lists all that there are of a
/// file, so those whose values it refuses to give are left out.
fn rows(tree: &Tree, ino: Ino) -> impl Iterator<Item = Row<'_>> {
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
