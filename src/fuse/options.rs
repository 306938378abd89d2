//! How a file system is served.

use std::sync::Arc;

use super::prefetcher;
use super::suspects::Suspects;

/// Owner and group that files are shown with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ownership {
    /// As the image has it.
    #[default]
    Image,
    /// Everything belongs to this user and group.
    Squash {
        /// Owner.
        uid: u32,
        /// Group.
        gid: u32,
    },
}

/// How a file system is served.
#[derive(Clone, Debug, Default)]
pub struct ServeOptions {
    /// Whose the files are shown to be.
    pub ownership: Ownership,
    /// Whether it was mounted so that the kernel checks permissions.
    pub default_permissions: bool,
    /// What is done ahead of walks.
    pub prefetch: Prefetch,
    /// What has ended other processes that served the mount.
    pub suspects: Option<Arc<Suspects>>,
}

/// How what a walk will ask for is given to the kernel before it asks.
#[derive(Clone, Debug, Default)]
pub enum Prefetch {
    /// Nothing.
    #[default]
    Off,
    /// This process gives the kernel small files before it asks for them.
    Push,
    /// A process of its own asks before the walk does.
    Process(Arc<dyn prefetcher::Launcher>, prefetcher::Target),
}
