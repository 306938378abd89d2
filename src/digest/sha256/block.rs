//! What the compression function works on (FIPS 180-4).

/// Length of a block in bytes.
pub(super) const BLOCK_BYTES: usize = 64;

/// What is compressed at a time.
pub(super) type Block = [u8; BLOCK_BYTES];

/// The words a to h of a running hash.
pub(super) type State = [u32; 8];
