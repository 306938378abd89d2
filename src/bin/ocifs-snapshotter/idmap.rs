//! Who the users of a container with users of its own are outside (a pod with `hostUsers: false`).
//!
//! # Problem
//!
//! Root of such a container is another user outside, who owns no file of an image. What is below the container has to be shown
//! with other owners.
//!
//! # Design
//!
//! The maps come in labels of the snapshot that is prepared for the container. What is below is mounted with these owners
//! (`mapped`), and the directory that is written to belongs to root of the container.
//!
//! The labels also come where containerd has seen to the owners by itself: it makes a copy of all layers for each map, if
//! its configuration does not say that the snapshotter can do without (`capabilities = ["remap-ids"]`). Nothing in a call tells these
//! apart, so a flag says what the configuration says.

use std::fmt::Write;

use crate::snapshots::Labels;

const USERS: &str = "containerd.io/snapshot/uidmapping";
const GROUPS: &str = "containerd.io/snapshot/gidmapping";

/// Most ranges of a map: those that the kernel takes.
const MAX_RANGES: usize = 340;

/// The users and groups of a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct IdMap {
    users: Ranges,
    groups: Ranges,
}

/// IDs in a container, and the same IDs outside.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Ranges(Vec<Range>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Range {
    inside: u32,
    outside: u32,
    count: u32,
}

impl IdMap {
    /// What labels say; nothing if the container has the users of this machine.
    pub(crate) fn of(labels: &Labels) -> Result<Option<IdMap>, String> {
        let (users, groups) = match (labels.get(USERS), labels.get(GROUPS)) {
            (None, None) => return Ok(None),
            (Some(users), Some(groups)) => (users, groups),
            _ => return Err(format!("the labels {USERS} and {GROUPS} go together")),
        };
        let read = |label: &str, text: &str| {
            let wrong = || format!("the label {label} is no map of IDs: {text}");
            Ranges::read(text).ok_or_else(wrong)
        };
        Ok(Some(IdMap { users: read(USERS, users)?, groups: read(GROUPS, groups)? }))
    }

    /// As the kernel takes them, of users and of groups (user_namespaces(7)).
    pub(crate) fn lines(&self) -> [String; 2] {
        [self.users.lines(), self.groups.lines()]
    }

    /// The user and group outside that these are in the container, or else root of the container.
    pub(crate) fn outside(&self, user: u32, group: u32) -> Result<(u32, u32), String> {
        let of = |ranges: &Ranges, id| ranges.outside(id).or_else(|| ranges.outside(0));
        match (of(&self.users, user), of(&self.groups, group)) {
            (Some(user), Some(group)) => Ok((user, group)),
            _ => Err(format!("the labels {USERS} and {GROUPS} leave out root")),
        }
    }
}

impl Ranges {
    fn read(text: &str) -> Option<Ranges> {
        let ranges: Option<Vec<Range>> =
            text.split(',').take(MAX_RANGES + 1).map(Range::read).collect();
        ranges.filter(|ranges| ranges.len() <= MAX_RANGES).map(Ranges)
    }

    fn lines(&self) -> String {
        let mut lines = String::new();
        for Range { inside, outside, count } in &self.0 {
            // A text takes all that is written to it.
            let _ = writeln!(lines, "{inside} {outside} {count}");
        }
        lines
    }

    fn outside(&self, id: u32) -> Option<u32> {
        self.0.iter().find_map(|range| {
            let offset = id.checked_sub(range.inside).filter(|offset| *offset < range.count)?;
            range.outside.checked_add(offset)
        })
    }
}

impl Range {
    fn read(text: &str) -> Option<Range> {
        let number = |text: &str| {
            let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
            text.parse::<u32>().ok().filter(|_| is_number)
        };
        let mut parts = text.split(':').map(number);
        let (inside, outside, count) = (parts.next()??, parts.next()??, parts.next()??);
        // The last ID, -1 of chown(2), is no user's.
        let fits = |first: u32| first.checked_add(count).is_some();
        let is_range = parts.next().is_none() && count > 0 && fits(inside) && fits(outside);
        is_range.then_some(Range { inside, outside, count })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn map(users: &str, groups: &str) -> Result<Option<IdMap>, String> {
        let rows = [(USERS, users), (GROUPS, groups)];
        IdMap::of(&rows.map(|(label, value)| (label.to_owned(), value.to_owned())).into())
    }

    #[test]
    fn maps_are_read() {
        let map = map("0:666:1000,1000:6666:64536", "00:0100000:65536").unwrap().unwrap();
        assert_eq!(map.lines(), ["0 666 1000\n1000 6666 64536\n", "0 100000 65536\n"]);
        assert_eq!(map.outside(0, 0), Ok((666, 100_000)));
        assert_eq!(map.outside(999, 65_535), Ok((1665, 165_535)));
        assert_eq!(map.outside(1000, 7), Ok((6666, 100_007)));
        // Who is not in the container at all.
        assert_eq!(map.outside(70_000, 70_000), Ok((666, 100_000)));
        assert_eq!(IdMap::of(&Labels::new()), Ok(None));
    }

    #[test]
    fn what_is_no_map_is_refused() {
        for wrong in [
            "",
            "0",
            "0:1",
            "0:1:2:3",
            "0:1:0",
            "-1:1:1",
            "+0:1:1",
            " 0:1:1",
            "0:1:1,",
            "0:1:1,lowerdir=/etc",
            "0:1:1\nx",
            "4294967295:1:1",
            "0:4294967295:1",
            "1:0:4294967295",
            "0:1:99999999999",
        ] {
            assert!(map(wrong, "0:1:1").is_err() && map("0:1:1", wrong).is_err(), "{wrong}");
        }
        let ranges = |count: usize| vec!["0:1:1"; count].join(",");
        assert!(map(&ranges(MAX_RANGES), "0:1:1").is_ok());
        assert!(map(&ranges(MAX_RANGES + 1), "0:1:1").is_err());
        let one = Labels::from([(USERS.to_owned(), "0:1:1".to_owned())]);
        assert!(IdMap::of(&one).unwrap_err().ends_with("go together"));
        let rootless = map("1:1:1", "0:1:1").unwrap().unwrap();
        assert!(rootless.outside(5, 5).unwrap_err().ends_with("leave out root"));
    }
}
