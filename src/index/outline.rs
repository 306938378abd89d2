//! What an index says of names, attributes and places, without the index.

/// What the tables of an index say of names, attributes and places: a checksum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outline {
    pub(super) checksum: [u8; 32],
    /// What they cost, as a [`Budget`](super::Budget) counts it.
    pub metadata_bytes: u64,
}
