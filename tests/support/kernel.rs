//! What the kernel below the tests can do, found out without the crate under test.

use std::fs;

/// The first version that mounts EROFS from a file.
const EROFS_FROM_FILES: (u32, u32) = (6, 12);

/// Whether the kernel mounts EROFS from files: it knows EROFS, and is new enough.
pub fn mounts_erofs_from_files() -> bool {
    let known = fs::read_to_string("/proc/filesystems").unwrap();
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|n| n.parse().unwrap_or(0));
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    known.split_whitespace().any(|name| name == "erofs") && version >= EROFS_FROM_FILES
}
