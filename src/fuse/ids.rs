//! Users and groups that the kernel knows in a mount.
//!
//! # Problem
//!
//! A mount that is made in a user namespace has users and groups of that namespace. A file whose owner is none of them
//! is shown with the overflow IDs (65534); but an ACL that names one is refused as a whole, with EINVAL (`posix_acl_from_xattr` in
//! fs/posix_acl.c), though it is listed. So it is left out.
//!
//! This process is in the namespace of the mount: it made it, or had `fusermount3` make it, which is in the same.
//! `/proc/self/uid_map` and `gid_map` (user_namespaces(7)) say what is known.

use std::fs;
use std::ops::Range;

const ACLS: &[u8] = b"system.posix_acl_";

/// Tags of rows that name a user or a group (include/uapi/linux/posix_acl.h).
const USER: u16 = 0x02;
const GROUP: u16 = 0x08;

/// As wide as numbers are.
const EVERY: Range<u64> = 0..u64::MAX;

/// Ranges of numbers.
#[derive(Debug)]
pub(super) struct Ids {
    users: Vec<Range<u64>>,
    groups: Vec<Range<u64>>,
}

impl Ids {
    /// Of this process; all if that can't be told.
    pub(super) fn of_this_process() -> Ids {
        let read = |name: &str| {
            let map = fs::read_to_string(format!("/proc/self/{name}"));
            map.ok().and_then(|text| parse(&text)).unwrap_or_else(|| Vec::from([EVERY]))
        };
        Ids { users: read("uid_map"), groups: read("gid_map") }
    }

    /// Whether an attribute is no ACL, or names only users and groups that are known.
    pub(super) fn know_all(&self, name: &[u8], value: &[u8]) -> bool {
        if !name.starts_with(ACLS) {
            return true;
        }
        let is_in = |ranges: &[Range<u64>], id: [u8; 4]| {
            let id = u64::from(u32::from_le_bytes(id));
            ranges.iter().any(|range| range.contains(&id))
        };
        // Version, then rows of tag, permissions and id.
        value.get(4..).unwrap_or_default().chunks_exact(8).all(|row| {
            let id = [row[4], row[5], row[6], row[7]];
            match u16::from_le_bytes([row[0], row[1]]) {
                USER => is_in(&self.users, id),
                GROUP => is_in(&self.groups, id),
                _ => true,
            }
        })
    }
}

/// The numbers inside: rows of the first one, the one outside, and how many.
fn parse(text: &str) -> Option<Vec<Range<u64>>> {
    let row = |line: &str| {
        let mut words = line.split_whitespace();
        let first: u64 = words.next()?.parse().ok()?;
        let count: u64 = words.nth(1)?.parse().ok()?;
        Some(first..first + count)
    };
    text.lines().map(row).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn maps() {
        let only = |text: &str| {
            let ranges = parse(text).unwrap();
            assert_eq!(ranges.len(), 1);
            ranges[0].clone()
        };
        assert_eq!(only("         0       1000          1\n"), 0..1);
        assert_eq!(parse("0 1000 1\n1 100000 65536\n").unwrap(), [0..1, 1..65537]);
        assert_eq!(only("0 0 4294967295\n"), 0..u64::from(u32::MAX));
        assert_eq!(parse("").unwrap(), []);
        assert!(parse("0 0\n").is_none() && parse("x").is_none());
    }

    #[test]
    fn lists_name_known_ones() {
        let row = |tag: u16, id: u32| [&tag.to_le_bytes()[..], &[4, 0], &id.to_le_bytes()].concat();
        let acl = |rows: &[Vec<u8>]| [&2u32.to_le_bytes()[..], &rows.concat()].concat();
        let ids = Ids { users: parse("0 1000 1").unwrap(), groups: parse("5 5 2").unwrap() };
        let know = |rows: &[Vec<u8>]| ids.know_all(b"system.posix_acl_access", &acl(rows));
        // The owner and others have no number.
        assert!(know(&[row(1, u32::MAX), row(32, u32::MAX)]));
        assert!(know(&[row(USER, 0), row(GROUP, 5), row(GROUP, 6)]));
        assert!(!know(&[row(USER, 1)]) && !know(&[row(USER, 0), row(GROUP, 7)]));
        assert!(!know(&[row(GROUP, 0)]));
        assert!(ids.know_all(b"user.x", &acl(&[row(USER, 1)])));
    }
}
