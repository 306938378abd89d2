//! How much of it there may be.

/// Most packages of an image. Distributions have some tens of thousands in all.
pub const MAX_PACKAGES: usize = 100_000;

/// Longest name, version or architecture, in bytes. Names on PyPI and in file systems are no longer.
pub const MAX_FIELD_BYTES: usize = 256;
