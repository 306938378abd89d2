//! How an image is mounted.

use std::sync::Arc;

use crate::fuse::{Ownership, Suspects, kernel, prefetcher};

/// How the kernel is given what a walk will read next.
#[derive(Clone, Debug, Default)]
pub enum Prefetch {
    /// Not at all.
    #[default]
    Off,
    /// The serving process gives it small files of the cache before it asks for them.
    Push,
    /// This program, in a process of its own, asks before the walk does.
    Process(Arc<dyn prefetcher::Launcher>),
}

/// How an image is mounted.
#[derive(Clone, Debug, Default)]
pub struct MountOptions {
    /// Let other users in.
    pub allow_other: bool,
    /// Let the kernel check the image's permission bits; by default only where root mounts.
    pub strict_modes: bool,
    /// Whose the files are shown to be.
    pub ownership: Ownership,
    /// How the kernel is given what a walk will read next.
    pub prefetch: Prefetch,
    /// Let the kernel run no program of the image.
    pub no_exec: bool,
    /// Mount over another image that is mounted there.
    pub over: bool,
    /// Give the kernel names and attributes as an image of its own ([`crate::fuse::erofs_mount`]): any user may come
    /// in and permissions are checked, whatever the other options say; there is a prefetcher only if the
    /// image is in the cache.
    pub kernel_metadata: bool,
    /// Most bytes of memory for that image, if not a share of the machine's.
    pub max_kernel_metadata_bytes: Option<u64>,
    /// What has ended other processes that served the mount.
    pub suspects: Option<Arc<Suspects>>,
}

impl MountOptions {
    /// Whether the kernel checks the image's permission bits.
    pub(super) fn checks_modes(&self) -> bool {
        // Root of a user namespace has no rights to the files of users that the namespace lacks.
        let is_root = kernel::is_root() && kernel::has_all_ids();
        self.strict_modes || self.kernel_metadata || is_root
    }
}
