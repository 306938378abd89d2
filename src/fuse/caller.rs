//! Which attributes a process can get.
//!
//! # Problem
//!
//! The kernel gives values in `trusted.` only to processes that have `CAP_SYS_ADMIN` in the *initial* user
//! namespace (xattr(7), `capable()` in `xattr_permission`, fs/xattr.c). Disk file systems ask the same before
//! they list such a name; FUSE lists what it is told. A name that is listed and can't be read makes copying tools
//! fail: `rsync -X`, `cp --preserve=xattr`, and overlayfs when it copies a file up.
//!
//! # Design
//!
//! Neither user nor group of a request say anything about capabilities: root of a container has none, root of a
//! user namespace may be user 0 outside as well, and over idmapped mounts a request has no user at all. So the
//! process is looked at, by the number in the request: its effective capabilities in `/proc/PID/status`, its
//! namespace behind `/proc/PID/ns/user`. It waits for the answer and can't end before it has one (a request that
//! was read is waited for even by a process that is killed), so the number is still its own.
//!
//! This costs three system calls, and only where a file *has* an attribute in `trusted.`.
//!
//! # Limits
//!
//! overlayfs asks with the credentials of the process that mounted it, but on behalf of the process that uses it;
//! only the latter is looked at. In a user namespace both are without the capability. If root has mounted the overlay
//! and a process without the capability changes a file in it (root of a container), its copy in the upper directory
//! has no attributes in `trusted.`, which the container could not see before either.
//!
//! A process whose number is unknown here (another process namespace, `/proc` with `hidepid`) gets none.

use std::fs;
use std::os::unix::fs::MetadataExt;

use super::kernel::{CAP_SYS_ADMIN, INITIAL_USER_NAMESPACE, process_has_capability};

/// Begins the names in question.
pub(super) const TRUSTED: &[u8] = b"trusted.";

/// `/proc/PID/uid_map` of the initial user namespace.
const INITIAL_UID_MAP: [&str; 3] = ["0", "0", "4294967295"];

/// Looks at the processes that ask.
#[derive(Debug)]
pub(super) struct Callers {
    /// Whether `/proc` shows processes under the numbers that requests have.
    are_known: bool,
}

impl Callers {
    pub(super) fn new() -> Callers {
        let own = fs::read_link("/proc/self");
        let own = own.ok().and_then(|own| own.to_str()?.parse().ok());
        Callers { are_known: own == Some(std::process::id()) }
    }

    /// Whether the kernel gives this process, or thread, the values of attributes in `trusted.`.
    pub(super) fn get_trusted(&self, pid: u32) -> bool {
        self.are_known
            && pid != 0
            && process_has_capability(&pid.to_string(), CAP_SYS_ADMIN)
            && is_in_initial_namespace(pid)
    }
}

fn is_in_initial_namespace(pid: u32) -> bool {
    match fs::metadata(format!("/proc/{pid}/ns/user")) {
        Ok(namespace) => namespace.ino() == INITIAL_USER_NAMESPACE,
        // Only those who may trace a process see this. Its map is shown to all, and hardly any other namespace has
        // the same.
        Err(_) => fs::read_to_string(format!("/proc/{pid}/uid_map"))
            .is_ok_and(|map| map.split_whitespace().eq(INITIAL_UID_MAP)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_has_number_0() {
        assert!(!Callers { are_known: true }.get_trusted(0));
        assert!(!Callers { are_known: false }.get_trusted(std::process::id()));
    }
}
