//! Processes that hold logins and tokens for long, or search for them, are not dumped.
//!
//! Another user's process can neither trace this one nor read its memory, its environment or its descriptors, whatever is done
//! here: the kernel asks for the same user. What not being dumpable (`PR_SET_DUMPABLE`) adds is for root:
//!
//! - no core file, and no systemd-coredump, has the secrets of a process that a fault ends;
//! - root of a container that shares the process namespace of the machine, but has not been given CAP_SYS_PTRACE, does not
//!   look into what root of the machine runs.
//!
//! Root of the machine can, and is trusted. Verbs that end after they have printed are left as they are: of those only
//! the process that searches for them has credentials of more than its own image.

use std::io;

use ocifs::fuse::kernel;
use rustix::process::{DumpableBehavior, set_dumpable_behavior};

/// Keeps logins and tokens from core dumps, and from processes without CAP_SYS_PTRACE.
///
/// Not for ordinary users: what they can read of this process they can read in their files, and its `/proc` would be
/// root's, so that neither they nor their other mounts could look at it (`watch`).
pub(super) fn hide_secrets() -> io::Result<()> {
    if kernel::is_root() && !kernel::is_in_user_namespace() {
        set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    }
    Ok(())
}
