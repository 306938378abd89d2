//! Which user IDs and group IDs this process's user namespace has (user_namespaces(7)), and what this process may do there.
//!
//! Root of a user namespace is not what root is for the files of an image: IDs that the namespace does not map
//! have no owner there. With `default_permissions` the kernel refuses such a root the files of other users
//! (`privileged_wrt_inode_uidgid`), and an ACL that names an unmapped ID is EINVAL. So only a process for which
//! every ID exists has the image's permission bits checked by default.

/// The number of IDs there are: 2^32 - 1 is none.
const ALL_IDS: u64 = u32::MAX as u64;

/// Whether every user ID and group ID exists here. It is so in the initial user namespace, and in one that maps all
/// of its parent's.
pub fn has_all_ids() -> bool {
    let is_full = |map: &str| std::fs::read_to_string(map).map_or(true, |map| maps_all(&map));
    // A kernel without user namespaces has no such files.
    is_full("/proc/self/uid_map") && is_full("/proc/self/gid_map")
}

/// Lines of an ID inside, an ID outside, and how many follow. They do not overlap.
fn maps_all(map: &str) -> bool {
    let counts = map.lines().filter_map(|line| line.split_whitespace().nth(2)?.parse::<u64>().ok());
    counts.sum::<u64>() >= ALL_IDS
}

/// The initial user namespace has this number (`PROC_USER_INIT_INO` of `linux/proc_ns.h`).
pub(in crate::fuse) const INITIAL_USER_NAMESPACE: u64 = 0xEFFF_FFFD;

/// Whether this process is in another user namespace than the first. A kernel without them has no such file.
pub fn is_in_user_namespace() -> bool {
    std::fs::read_link("/proc/self/ns/user")
        .is_ok_and(|link| link.as_os_str() != format!("user:[{INITIAL_USER_NAMESPACE}]").as_str())
}

/// Capabilities by their numbers in the masks of `/proc/PID/status` (capabilities(7)).
pub(super) const CAP_SYS_PTRACE: u32 = 19;
pub(in crate::fuse) const CAP_SYS_ADMIN: u32 = 21;

/// Whether this process has a capability, over its user namespace.
pub(super) fn has_capability(number: u32) -> bool {
    process_has_capability("self", number)
}

/// Whether a process (`self`, or its number) has a capability, over its user namespace.
pub(in crate::fuse) fn process_has_capability(process: &str, number: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{process}/status"))
        .is_ok_and(|status| effective_capabilities(&status) & (1 << number) != 0)
}

/// The capabilities in the text of `/proc/PID/status`; none if they are not there.
fn effective_capabilities(status: &str) -> u64 {
    let row = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    row.and_then(|text| u64::from_str_radix(text.trim(), 16).ok()).unwrap_or(0)
}

/// Whether this process mounts with `mount(2)` itself. That it is root for the files of an image too, says
/// [`has_all_ids`].
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps() {
        assert!(maps_all("         0          0 4294967295\n"));
        assert!(maps_all("0 1 1000\n1000 2000 4294966295\n"));
        for map in ["", "0 1000 1\n", "0 1000 1\n1 100000 65536\n", "0 0 65536\n", "nonsense"] {
            assert!(!maps_all(map), "{map:?}");
        }
    }

    #[test]
    fn capabilities_in_a_status() {
        let status =
            "Name:\tls\nCapPrm:\t000001ffffffffff\nCapEff:\t0000000000200000\nCapBnd:\t0\n";
        assert_eq!(effective_capabilities(status), 1 << CAP_SYS_ADMIN);
        for other in ["", "CapEff:\n", "CapEff:\tx\n", "CapBnd:\t000001ffffffffff\n"] {
            assert_eq!(effective_capabilities(other), 0, "{other}");
        }
    }
}
