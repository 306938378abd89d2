//! Which user and group IDs the program's user namespace has (user_namespaces(7)).
//!
//! Root who may mount needs no namespace. Other users get one: with the IDs that the administrator has given them
//! (subuid(5)) if the set-user-ID programs that write such maps are installed, as for rootless containers; or else with
//! one, their own. Root of the namespace is the user.

use std::fs;
use std::io::{self, Write};
use std::process::{Command, Stdio};

use ocifs::fuse::kernel;
use rustix::process::{getegid, geteuid};
use rustix::thread::{CapabilitySet, capabilities};
use serde::{Deserialize, Serialize};

use crate::environment;
use crate::render::errors::AnyError;

/// The IDs that a program has.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub(super) enum Ids {
    /// Those of this process's user namespace.
    Here,
    /// Its user and group, as root of a user namespace.
    One {
        uid: u32,
        gid: u32,
    },
    Many {
        uids: Map,
        gids: Map,
    },
}

/// ID 0 is one of a process's own, and the following are these ranges.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub(super) struct Map {
    own: u32,
    /// The first, and how many.
    ranges: Vec<(u32, u32)>,
}

impl Ids {
    /// Those that this process can give a program.
    pub(super) fn available() -> Ids {
        let may_mount =
            capabilities(None).is_ok_and(|sets| sets.effective.contains(CapabilitySet::SYS_ADMIN));
        let (uid, gid) = (geteuid().as_raw(), getegid().as_raw());
        if may_mount && uid == 0 {
            // Root of a namespace that a user has made (`unshare -r`) is no other user or group there.
            return if may_set_groups() { Ids::Here } else { Ids::own() };
        }
        let name = environment::user_name(uid);
        let ranges = |file: &str| {
            let text = fs::read_to_string(file).unwrap_or_default();
            ranges(&text, &name, uid)
        };
        let (uids, gids) = (ranges("/etc/subuid"), ranges("/etc/subgid"));
        let are_given = !uids.is_empty() && !gids.is_empty();
        match are_given && [Kind::User, Kind::Group].iter().all(|kind| kind.has_helper()) {
            true => Ids::Many {
                uids: Map { own: uid, ranges: uids },
                gids: Map { own: gid, ranges: gids },
            },
            false => Ids::One { uid, gid },
        }
    }

    /// Whether a program has one ID only.
    pub(super) fn is_one(&self) -> bool {
        matches!(self, Ids::One { .. })
    }

    /// Whether other programs have to give them.
    pub(super) fn are_many(&self) -> bool {
        matches!(self, Ids::Many { .. })
    }

    /// Instead of those that could not be had.
    pub(super) fn own() -> Ids {
        Ids::One { uid: geteuid().as_raw(), gid: getegid().as_raw() }
    }

    /// Whether the user namespace is a new one.
    pub(super) fn are_new(&self) -> bool {
        !matches!(self, Ids::Here)
    }

    /// Whether overlays have the marks of user namespaces (`userxattr`).
    pub(super) fn are_of_users(&self) -> bool {
        self.are_new() || kernel::is_in_user_namespace()
    }

    /// Gives a process with a new user namespace the IDs that only set-user-ID programs can.
    pub(super) fn give(&self, pid: u32) -> Result<(), AnyError> {
        let Ids::Many { uids, gids } = self else { return Ok(()) };
        Kind::User.give(pid, uids)?;
        Kind::Group.give(pid, gids)
    }
}

/// Whether groups can be given up in this user namespace. A kernel without them has no such file.
fn may_set_groups() -> bool {
    fs::read_to_string("/proc/self/setgroups").map_or(true, |text| text.trim() != "deny")
}

/// Makes one ID of a new user namespace, which this process is in, that of a user and a group outside.
pub(super) fn map_one(inside: (u32, u32), outside: (u32, u32)) -> io::Result<()> {
    let write = |name: &str, text: String| {
        fs::File::options()
            .write(true)
            .open(format!("/proc/self/{name}"))?
            .write_all(text.as_bytes())
    };
    write("uid_map", format!("{} {} 1\n", inside.0, outside.0))?;
    // Without it a user could leave groups that keep files from them.
    write("setgroups", "deny\n".to_owned())?;
    write("gid_map", format!("{} {} 1\n", inside.1, outside.1))
}

#[derive(Clone, Copy)]
enum Kind {
    User,
    Group,
}

impl Kind {
    fn helper(self) -> &'static str {
        match self {
            Kind::User => "newuidmap",
            Kind::Group => "newgidmap",
        }
    }

    fn has_helper(self) -> bool {
        let mut command = Command::new(self.helper());
        let command = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        // Without arguments it says how it is used.
        command.status().is_ok()
    }

    fn give(self, pid: u32, map: &Map) -> Result<(), AnyError> {
        let helper = self.helper();
        let mut command = Command::new(helper);
        command.arg(pid.to_string()).args(["0", &map.own.to_string(), "1"]);
        let mut inside = 1;
        for (first, count) in &map.ranges {
            command.args([inside, *first, *count].map(|number| number.to_string()));
            inside += count;
        }
        let output = command.stdin(Stdio::null()).output().map_err(|e| format!("{helper}: {e}"))?;
        if output.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        Err(format!("{helper} failed ({}): {}", output.status, said.trim()).into())
    }
}

/// The ranges of a user: `NAME-OR-ID:FIRST:COUNT` a line (subuid(5)).
fn ranges(text: &str, name: &str, uid: u32) -> Vec<(u32, u32)> {
    let uid = uid.to_string();
    let mut left = u32::MAX - 1;
    let lines = text.lines().filter_map(|line| {
        let mut fields = line.trim().split(':');
        let (user, first, count) = (fields.next()?, fields.next()?, fields.next()?);
        let (first, count) = (first.parse::<u32>().ok()?, count.parse::<u32>().ok()?);
        let is_range = count > 0 && first.checked_add(count).is_some();
        (is_range && (user == name || user == uid)).then_some((first, count))
    });
    lines
        .take_while(|(_, count)| {
            let fits = *count <= left;
            left -= if fits { *count } else { 0 };
            fits
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_of_a_user() {
        let text = "a:100:5\nb:7:1\n1000:4294967290:3\n# a:1:1\na:x:2\na:300:0\na:4294967295:2\n";
        assert_eq!(ranges(text, "a", 1000), [(100, 5), (4_294_967_290, 3)]);
        assert_eq!(ranges(text, "c", 5), []);
        assert_eq!(ranges("a:1:4294967293\na:1:2\n", "a", 5), [(1, 4_294_967_293)]);
    }
}
