//! What the kernel below the tests can do, found out without the crate under test.

use std::fs;
use std::io::{self, Write};

/// From here on EROFS says when it could not read something. (So do older kernels with this fix backported.)
const HONEST_EROFS: [u32; 3] = [6, 18, 21];

/// Whether `--kernel-metadata` is tested, by what trying it gave: where it has to work it does, and where
/// this kernel lacks something it is said what.
pub fn has_kernel_metadata(checked: Result<(), String>, is_lack: bool) -> bool {
    assert!(checked.is_ok() || is_lack && !has_honest_erofs(), "{checked:?}");
    checked.inspect_err(|why| note(&format!("not tested: {why}"))).is_ok()
}

/// Whether EROFS is here and does all that is needed. Elsewhere it may: that can only be found out by trying.
fn has_honest_erofs() -> bool {
    let known = fs::read_to_string("/proc/filesystems").unwrap();
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|n| n.parse().unwrap_or(0));
    let version = [(); 3].map(|()| numbers.next().unwrap_or(0));
    known.split_whitespace().any(|name| name == "erofs") && version >= HONEST_EROFS
}

/// Says why something is not tested, past the test harness, which keeps the words of tests that pass to itself.
pub fn note(text: &str) {
    io::stderr().write_all(format!("note: {text}\n").as_bytes()).unwrap();
}
