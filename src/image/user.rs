//! The user that a program of an image runs as: `USER[:GROUP]`, by names or numbers.
//!
//! As container engines read it: a number is one whether the image has a user of it or not; a name has to be there. The
//! group is the user's own unless one is named, and the further groups of the user are those that list its name,
//! unless a group is named. A user that the image does not know has group 0 and the home `/`.

use serde::{Deserialize, Serialize};

/// Who a program runs as.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct User {
    /// The user ID.
    pub uid: u32,
    /// The group ID.
    pub gid: u32,
    /// IDs of further groups.
    pub groups: Vec<u32>,
    /// The home directory.
    pub home: Vec<u8>,
}

/// The image does not have the user or group.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UserError {
    /// No such user.
    #[error("the image has no user `{0}`: /etc/passwd does not name it")]
    User(String),
    /// No such group.
    #[error("the image has no group `{0}`: /etc/group does not name it")]
    Group(String),
}

/// A line of a file of accounts, as its fields.
type Fields<'a> = Vec<&'a [u8]>;

impl User {
    /// Reads `USER[:GROUP]`; nothing means root.
    ///
    /// # Errors
    /// See [`UserError`].
    pub(super) fn find(text: &str, passwd: &[u8], group: &[u8]) -> Result<User, UserError> {
        let (user, wanted_group) = match text.split_once(':') {
            Some((user, group)) => (user, Some(group).filter(|group| !group.is_empty())),
            None => (text, None),
        };
        let user = if user.is_empty() { "0" } else { user };
        let known = match number(user.as_bytes()) {
            Some(uid) => lines(passwd).find(|fields| field_number(fields, 2) == Some(uid)),
            None => lines(passwd).find(|fields| fields[0] == user.as_bytes()),
        };
        let uid = number(user.as_bytes())
            .or_else(|| field_number(known.as_ref()?, 2))
            .ok_or_else(|| UserError::User(user.to_owned()))?;
        let home = known.as_ref().and_then(|fields| fields.get(5)).copied();
        let home = home.filter(|home| !home.is_empty()).unwrap_or(b"/").to_owned();
        if let Some(wanted) = wanted_group {
            let by_name = || {
                let line = lines(group).find(|fields| fields[0] == wanted.as_bytes())?;
                field_number(&line, 2)
            };
            let gid = number(wanted.as_bytes()).or_else(by_name);
            let gid = gid.ok_or_else(|| UserError::Group(wanted.to_owned()))?;
            return Ok(User { uid, gid, groups: Vec::new(), home });
        }
        let gid = known.as_ref().and_then(|fields| field_number(fields, 3)).unwrap_or(0);
        let name = known.map(|fields| fields[0]);
        let has_member = |fields: &Fields<'_>| {
            let members = fields.get(3).copied().unwrap_or_default();
            members.split(|b| *b == b',').any(|member| Some(member) == name)
        };
        let groups = lines(group).filter(has_member);
        let mut groups: Vec<u32> = groups.filter_map(|fields| field_number(&fields, 2)).collect();
        groups.sort_unstable();
        groups.dedup();
        Ok(User { uid, gid, groups, home })
    }
}

/// Lines with a name, which are no comments.
fn lines(file: &[u8]) -> impl Iterator<Item = Fields<'_>> {
    let lines = file.split(|byte| *byte == b'\n').map(|line| line.split(|b| *b == b':').collect());
    lines.filter(|fields: &Fields<'_>| !fields[0].is_empty() && !fields[0].starts_with(b"#"))
}

/// The last ID is none.
fn number(text: &[u8]) -> Option<u32> {
    let is_number = text.iter().all(u8::is_ascii_digit);
    let number = std::str::from_utf8(text).ok().filter(|_| is_number)?.parse().ok();
    number.filter(|number| *number != u32::MAX)
}

fn field_number(fields: &Fields<'_>, at: usize) -> Option<u32> {
    number(fields.get(at)?)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const PASSWD: &[u8] =
        b"root:x:0:0:root:/root:/bin/sh\n#no:x:9:9::/\nbad\napp:x:1000:5:,:/home/app:/bin/sh\n7up:x:70:70::\n";
    const GROUP: &[u8] = b"root:x:0:\nadm:x:4:app,x\napp:x:5:\nwheel:x:10:x,app\n";

    #[test]
    fn users_and_groups() {
        let app = |gid, groups: &[u32]| (1000, gid, groups.to_vec(), "/home/app");
        for (text, expected) in [
            ("", (0, 0, vec![], "/root")),
            ("root", (0, 0, vec![], "/root")),
            ("app", app(5, &[4, 10])),
            ("1000", app(5, &[4, 10])),
            ("app:adm", app(4, &[])),
            ("app:77", app(77, &[])),
            ("app:", app(5, &[4, 10])),
            (":adm", (0, 4, vec![], "/root")),
            ("3", (3, 0, vec![], "/")),
            ("3:wheel", (3, 10, vec![], "/")),
            ("7up", (70, 70, vec![], "/")),
        ] {
            let User { uid, gid, groups, home } = User::find(text, PASSWD, GROUP).unwrap();
            let home = String::from_utf8(home).unwrap();
            assert_eq!((uid, gid, groups, &*home), expected, "{text}");
        }
        for (text, expected) in [
            ("nobody", UserError::User("nobody".into())),
            ("no", UserError::User("no".into())),
            ("bad", UserError::User("bad".into())),
            ("-1", UserError::User("-1".into())),
            ("4294967295", UserError::User("4294967295".into())),
            ("app:none", UserError::Group("none".into())),
        ] {
            assert_eq!(User::find(text, PASSWD, GROUP), Err(expected), "{text}");
        }
        assert_eq!(User::find("", b"", b"").unwrap().home, b"/");
    }
}
