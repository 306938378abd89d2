//! How files are copied.

/// How files are copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CopyOptions {
    /// Whether owners are kept, and what only root may make is made.
    pub as_root: bool,
}
