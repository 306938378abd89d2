//! What the flags of `ocifs mount` mean for the library.

use std::sync::Arc;
use std::thread;

use ocifs::fuse::Ownership;
use ocifs::mount::MountOptions;
use ocifs::tree::Sharing;

use crate::args;
use crate::commands::prefetch;
use crate::variables;

/// What the flags say of the mount.
pub(super) fn options(args: &args::Mount) -> MountOptions {
    MountOptions {
        allow_other: args.flags.allow_other,
        strict_modes: args.flags.strict_modes,
        ownership: match args.flags.owner_me {
            _ if variables::has_one_id() => Ownership::Squash { uid: 0, gid: 0 },
            true => Ownership::Squash {
                uid: rustix::process::getuid().as_raw(),
                gid: rustix::process::getgid().as_raw(),
            },
            false => Ownership::Image,
        },
        prefetch: match args.prefetch {
            // It would look for the mount at its place, where the overlay is.
            _ if args.is_writable() => ocifs::mount::Prefetch::Off,
            args::Prefetch::Process if has_another_processor() => {
                ocifs::mount::Prefetch::Process(Arc::new(prefetch::program()))
            }
            args::Prefetch::Process | args::Prefetch::Off => ocifs::mount::Prefetch::Off,
            args::Prefetch::Push => ocifs::mount::Prefetch::Push,
        },
        no_exec: args.flags.noexec,
        over: args.over,
        kernel_metadata: args.kernel_metadata,
        max_kernel_metadata_bytes: args.max_kernel_metadata,
        // Those are for workers.
        suspects: None,
    }
}

pub(super) fn sharing(args: &args::Mount) -> Sharing {
    if args.separate_inodes { Sharing::Nothing } else { Sharing::Equal }
}

/// Whether there is a second processor for the prefetcher to run on.
fn has_another_processor() -> bool {
    thread::available_parallelism().is_ok_and(|processors| processors.get() > 1)
}
