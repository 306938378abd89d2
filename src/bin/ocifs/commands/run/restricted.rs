//! Why this machine does not let a user have namespaces, and what helps.

use std::fs;
use std::io::{self, ErrorKind};

use rustix::io::Errno;

use crate::render::errors::AnyError;

/// Where a machine says what it allows: the value by which it does not, and what helps.
const SETTINGS: [(&str, &str, &str); 3] = [
    (
        "/proc/sys/kernel/unprivileged_userns_clone",
        "0",
        "root allows it with `sysctl kernel.unprivileged_userns_clone=1`",
    ),
    (
        "/proc/sys/user/max_user_namespaces",
        "0",
        "root allows it with `sysctl user.max_user_namespaces=10000`",
    ),
    (
        "/proc/sys/kernel/apparmor_restrict_unprivileged_userns",
        "1",
        "root allows it with `sysctl kernel.apparmor_restrict_unprivileged_userns=0`, or an AppArmor profile for \
         ocifs with `userns`",
    ),
];

/// The namespaces could not be made, or give no rights.
pub(super) fn namespaces(error: io::Error) -> AnyError {
    let hint = match Errno::from_io_error(&error) {
        Some(Errno::PERM | Errno::ACCESS | Errno::NOSPC | Errno::USERS) => hint(),
        Some(Errno::INVAL | Errno::NOSYS) => "this kernel has been built without namespaces",
        _ => return format!("namespaces for the program: {error}").into(),
    };
    format!("namespaces for the program are not allowed here ({error}); {hint}").into()
}

fn hint() -> &'static str {
    let is_set =
        |path: &str, value: &str| fs::read_to_string(path).is_ok_and(|is| is.trim() == value);
    let setting = SETTINGS.iter().find(|(path, value, _)| is_set(path, value));
    let in_container =
        "a container needs `--cap-add SYS_ADMIN`, or `--security-opt seccomp=unconfined` for users";
    setting.map_or(in_container, |(_, _, hint)| hint)
}

/// The overlay could not be mounted.
pub(super) fn overlay(error: io::Error, has_upper: bool) -> AnyError {
    let hint = match error.kind() {
        ErrorKind::InvalidInput if has_upper => {
            "; what is written can't be kept on this file system (NFS, FUSE, another overlay): choose another directory"
        }
        ErrorKind::PermissionDenied => "; users need Linux 5.11 for it",
        _ if Errno::from_io_error(&error) == Some(Errno::NODEV) => {
            "; the kernel needs it: `modprobe overlay`"
        }
        _ => "",
    };
    format!("mounting an overlay over the image: {error}{hint}").into()
}
