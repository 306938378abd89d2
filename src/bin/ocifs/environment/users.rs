//! Users: their names, and their IDs outside a user namespace.

use std::fs;

use crate::variables::variable;

/// The number of this user in the parent of the user namespace, where there is one: root of a namespace is not the
/// root whose folder lies in `/tmp`.
pub(super) fn user_outside() -> u32 {
    let user = rustix::process::geteuid().as_raw();
    let map = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    // Lines of an ID inside, an ID outside, and how many follow (user_namespaces(7)).
    let mut outside = map.lines().filter_map(|line| {
        let mut numbers = line.split_whitespace().map(|number| number.parse::<u32>().ok());
        let (inside, outside, count) = (numbers.next()??, numbers.next()??, numbers.next()??);
        let nth = user.checked_sub(inside).filter(|nth| *nth < count)?;
        outside.checked_add(nth)
    });
    outside.next().unwrap_or(user)
}

/// The name of a user, or the number.
pub(crate) fn user_name(uid: u32) -> String {
    let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let mut users = passwd.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then(|| name.to_owned())
    });
    users.next().unwrap_or_else(|| uid.to_string())
}

/// Whether we are root. Within `podman unshare` a user looks like root and has the files of a user.
pub(super) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
        && variable("_CONTAINERS_ROOTLESS_UID").is_none_or(|id| id.as_os_str() == "0")
}
