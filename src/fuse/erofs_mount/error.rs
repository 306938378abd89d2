//! Why the kernel does not take names and attributes as an image.

use std::io;

use crate::erofs;

/// Why such a mount does not work.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the messages are the documentation")]
pub enum Error {
    #[error("--kernel-metadata needs root: mount without it")]
    NotRoot,
    #[error(
        "--kernel-metadata needs root of the machine, not of a container or a user namespace: mount \
         without it"
    )]
    NotPermitted,
    #[error(
        "--kernel-metadata needs a kernel that has EROFS (`modprobe erofs`, CONFIG_EROFS_FS): mount \
         without it"
    )]
    NoErofs,
    #[error(
        "--kernel-metadata needs a kernel that mounts EROFS from a file (Linux 6.12 with \
         CONFIG_EROFS_FS_BACKED_BY_FILE): mount without it"
    )]
    NotFromFile,
    #[error(
        "--kernel-metadata needs a kernel whose EROFS says when it can't read something (Linux 6.18.21 \
         or later, for example): this one would show zeros instead; mount without it"
    )]
    ShortReads,
    #[error("--kernel-metadata: {0}: mount without it")]
    Image(#[from] erofs::Error),
    #[error(
        "--kernel-metadata: the image's names and attributes would take {bytes} bytes of memory that can't be \
         swapped out, more than {limit}: mount without it, or raise the limit with --max-kernel-metadata"
    )]
    TooLarge { bytes: u64, limit: u64 },
    #[error("--kernel-metadata: {what}: {source}")]
    Step { what: &'static str, source: io::Error },
}

/// Says what was being done when something failed.
pub(super) fn step<E: Into<io::Error>>(what: &'static str) -> impl Fn(E) -> Error {
    move |e| Error::Step { what, source: e.into() }
}
