//! Users and groups as an image's own files name them.

use std::collections::{BTreeMap, BTreeSet};

use super::expression::Owner;

/// What `/etc/passwd` and `/etc/group` say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Accounts {
    users: BTreeMap<Vec<u8>, u32>,
    groups: BTreeMap<Vec<u8>, u32>,
}

impl Accounts {
    /// Reads both files. Lines that are none of such a file are passed over, and of several with one name the first
    /// counts, as in the C library.
    pub fn parse(passwd: &[u8], group: &[u8]) -> Accounts {
        Accounts { users: names(passwd), groups: names(group) }
    }

    /// The number of a name.
    pub fn id(&self, owner: Owner, name: &[u8]) -> Option<u32> {
        self.of(owner).get(name).copied()
    }

    /// All numbers that have a name.
    pub fn ids(&self, owner: Owner) -> BTreeSet<u32> {
        self.of(owner).values().copied().collect()
    }

    fn of(&self, owner: Owner) -> &BTreeMap<Vec<u8>, u32> {
        match owner {
            Owner::User => &self.users,
            Owner::Group => &self.groups,
        }
    }
}

fn names(file: &[u8]) -> BTreeMap<Vec<u8>, u32> {
    let mut names = BTreeMap::new();
    for line in file.split(|byte| *byte == b'\n') {
        let mut fields = line.split(|byte| *byte == b':');
        let (Some(name), Some(id)) = (fields.next(), fields.nth(1)) else { continue };
        let id = std::str::from_utf8(id).ok().and_then(|id| id.parse().ok());
        if let Some(id) = id.filter(|_| !name.is_empty() && !name.starts_with(b"#")) {
            names.entry(name.to_vec()).or_insert(id);
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_accounts() {
        let passwd = b"root:x:0:0:root:/root:/bin/sh\n#no:x:1:1::\nbad\nx:y\napp:x:1000:5::/:\napp:x:7:7\nb:x:q:1";
        let accounts = Accounts::parse(passwd, b"adm:x:4:a,b\n");
        assert_eq!(accounts.id(Owner::User, b"app"), Some(1000));
        assert_eq!(accounts.id(Owner::Group, b"adm"), Some(4));
        assert_eq!(accounts.id(Owner::User, b"adm"), None);
        assert_eq!(accounts.ids(Owner::User), BTreeSet::from([0, 1000]));
    }
}
