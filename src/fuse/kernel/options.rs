//! How a file system is mounted and unmounted.

/// How to mount.
#[derive(Clone, Debug)]
pub struct FuseMountOptions {
    /// What `/proc/mounts` shows as the source: the image's reference.
    pub source: String,
    /// Let other users in.
    pub allow_other: bool,
    /// Let the kernel check the image's permission bits.
    pub default_permissions: bool,
    /// Let the kernel run no program of the image.
    pub no_exec: bool,
}

/// Options that are spelt alike for mount(2) and `fusermount3`, and whether they are wanted.
pub(super) fn common_options(options: &FuseMountOptions) -> [(bool, &'static str); 2] {
    [(options.allow_other, "allow_other"), (options.default_permissions, "default_permissions")]
}

/// How to unmount.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unmount {
    /// Refuse while the mount is in use.
    Now,
    /// Detach at once; it ends when the last user is gone.
    Lazy,
    /// Detach at once, and where root does it end the connection too: processes that use it get an error.
    Abort,
}
