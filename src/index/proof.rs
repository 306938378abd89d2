//! What of a layer was checked, and what it turned out to be.

use crate::codec::Compression;
use crate::digest::{DiffId, Digest};

/// An extended attribute that every file has and none lists: `full`, `tar`, `toc`, `hint` or `transport`. It is not
/// listed so that copies and archives of a mount do not take it along.
pub const PROOF_XATTR: &[u8] = b"user.ocifs.proof";

/// What of a layer was checked against digests that the manifest commits to.
///
/// Ordered: a later variant proves more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Proof {
    /// Nothing yet: bytes of a blob that is a file itself, or a plain tar of which only the headers were read, are shown as
    /// their source sends them, until all of them have come and have its digest.
    Transport,
    /// Nothing: found through referrers, which anybody with push rights can change.
    Hint,
    /// The table of contents has a digest in the manifest; content is verified against it.
    Toc,
    /// A layer of the same diff ID was streamed, and every span digest is our own. The blob that the manifest
    /// names was not seen, nor whether there is one.
    Tar,
    /// The whole layer was streamed: blob digest or diff ID, and every span digest is our own.
    Full,
}

impl Proof {
    /// Whether the index was made here, of a layer that was streamed.
    pub fn is_own(self) -> bool {
        self >= Proof::Tar
    }

    /// The word shown to users.
    pub fn name(self) -> &'static str {
        match self {
            Proof::Transport => "transport",
            Proof::Hint => "hint",
            Proof::Toc => "toc",
            Proof::Tar => "tar",
            Proof::Full => "full",
        }
    }
}

/// What the whole layer turned out to be, once it has been streamed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Digest of the blob.
    pub blob: Digest,
    /// Size of the blob in bytes.
    pub blob_size: u64,
    /// Digest of the tar.
    pub diff_id: DiffId,
    /// Size of the tar in bytes.
    pub uncompressed_size: u64,
    /// Compression of the blob.
    pub compression: Compression,
    /// What of this was checked.
    pub proof: Proof,
}
