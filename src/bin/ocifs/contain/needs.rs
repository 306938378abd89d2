//! What a contained process may still do.

use std::path::PathBuf;

/// What a process goes on to need.
#[derive(Debug, Default)]
pub(crate) struct Needs {
    /// Files and folders to read, with all below them. Those that do not exist are left out.
    pub(crate) read: Vec<PathBuf>,
    /// Folders to write to, with all below them.
    pub(crate) write: Vec<PathBuf>,
    /// Folders to make files of any kind in, with all attributes that the user may give them.
    pub(crate) make: Vec<PathBuf>,
    /// Whether an engine is asked through its socket.
    pub(crate) engine: bool,
}
