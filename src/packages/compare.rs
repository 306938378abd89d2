//! What changed between the packages of two images.
//!
//! # What is one change
//!
//! Several versions of one package may be installed side by side: kernels of rpm, libraries of dpkg for two architectures,
//! a Python distribution in several environments. So packages of one manager and name are matched in steps:
//!
//! 1. Packages of the same architecture and, for Python, in the same directory belong together. If they have the same versions,
//!    nothing changed; else this is a change from the old versions to the new.
//! 2. What is left, on one side only, and has a counterpart of the same architecture and versions was moved, which is no change:
//!    `python3.11/site-packages` became `python3.12/site-packages`.
//! 3. If after that there is one left on either side, it changed its architecture or moved with a new version. That is one change
//!    too.
//! 4. Everything else was removed, or is new.
//!
//! Databases of other managers than Python's are in places that do not matter: a `status` that becomes a `status.d` changes
//! nothing.

use std::collections::BTreeMap;

use super::inventory::{Inventory, Manager, Package};

/// A package that changed: it is on both sides with a difference, or on one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// What installed it.
    pub manager: Manager,
    /// Its name.
    pub name: String,
    /// What there was; none if it is new.
    pub old: Option<Side>,
    /// What there is; none if it was removed.
    pub new: Option<Side>,
}

/// A package on one side.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Side {
    /// For what it was built, where the database says so.
    pub architecture: Option<String>,
    /// The directory of a Python distribution, without a slash in front.
    pub directory: Option<Vec<u8>>,
    /// Its versions, at least one, in the order of their bytes.
    pub versions: Vec<String>,
}

/// What packages of one name belong together by: architecture, and directory of a Python distribution.
type Place = (Option<String>, Option<Vec<u8>>);

/// The packages of one name, with their versions.
type Group = BTreeMap<Place, Vec<String>>;

/// The packages that changed, by manager and name. Managers of which one side is
/// [not known](Inventory::knows) are left out.
pub fn compare(old: &Inventory, new: &Inventory) -> Vec<Change> {
    let mut changes = Vec::new();
    let (mut old_groups, new_groups) = (groups(old), groups(new));
    let mut all = BTreeMap::new();
    for (key, new) in new_groups {
        let old = old_groups.remove(&key).unwrap_or_default();
        all.insert(key, (old, new));
    }
    all.extend(old_groups.into_iter().map(|(key, old)| (key, (old, Group::new()))));
    for ((manager, name), (left, right)) in all {
        if !old.knows(manager) || !new.knows(manager) {
            continue;
        }
        let change = |(old, new)| Change { manager, name: name.to_owned(), old, new };
        changes.extend(matched(left, right).into_iter().map(change));
    }
    changes
}

fn groups(inventory: &Inventory) -> BTreeMap<(Manager, &str), Group> {
    let mut groups: BTreeMap<_, Group> = BTreeMap::new();
    for package in &inventory.packages {
        let Package { manager, name, architecture, place, version } = package;
        let directory = (*manager == Manager::Python).then(|| place.to_vec());
        let group = groups.entry((*manager, &name[..])).or_default();
        group.entry((architecture.clone(), directory)).or_default().push(version.clone());
    }
    for versions in groups.values_mut().flat_map(BTreeMap::values_mut) {
        versions.sort();
        versions.dedup();
    }
    groups
}

/// What changed between packages of one name: both sides of each change.
fn matched(old: Group, mut new: Group) -> Vec<(Option<Side>, Option<Side>)> {
    let side = |((architecture, directory), versions)| Side { architecture, directory, versions };
    let mut changes = Vec::new();
    let mut left = Vec::new();
    for (place, versions) in old {
        match new.remove_entry(&place) {
            Some((_, same)) if same == versions => {}
            Some(other) => changes.push((Some(side((place, versions))), Some(side(other)))),
            None => left.push(side((place, versions))),
        }
    }
    // What is left on the new side, by what does not change where it is moved.
    let mut moved: BTreeMap<_, Vec<Side>> = BTreeMap::new();
    for new in new.into_iter().map(side) {
        moved.entry((new.architecture.clone(), new.versions.clone())).or_default().push(new);
    }
    left.retain(|old| {
        let same = moved.get_mut(&(old.architecture.clone(), old.versions.clone()));
        same.and_then(Vec::pop).is_none()
    });
    let mut added: Vec<Side> = moved.into_values().flatten().collect();
    match (&left[..], &added[..]) {
        ([_], [_]) => changes.push((left.pop(), added.pop())),
        _ => {
            changes.extend(left.into_iter().map(|old| (Some(old), None)));
            changes.extend(added.into_iter().map(|new| (None, Some(new))));
        }
    }
    changes
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::packages::{Error, Missing, Problem};

    /// Packages as `manager name version architecture place`, with `-` for no architecture.
    fn inventory(lines: &[&str]) -> Inventory {
        let package = |line: &&str| {
            let words: Vec<&str> = line.split(' ').collect();
            let [manager, name, version, architecture, place] = words[..] else { panic!("{line}") };
            let all = [Manager::Dpkg, Manager::Apk, Manager::Rpm, Manager::Python];
            let manager = all.into_iter().find(|m| m.name() == manager).expect("a manager");
            let architecture = Some(architecture.to_owned()).filter(|text| text != "-");
            let (name, version) = (name.to_owned(), version.to_owned());
            Package { manager, name, architecture, place: Arc::from(place.as_bytes()), version }
        };
        Inventory { packages: lines.iter().map(package).collect(), problems: Vec::new() }
    }

    /// Changes as `manager name old -> new`.
    fn compare(old: &Inventory, new: &Inventory) -> Vec<String> {
        let side = |side: &Option<Side>| {
            side.as_ref().map_or("none".to_owned(), |side| {
                let architecture = side.architecture.as_deref().unwrap_or("-");
                let directory = side.directory.as_deref().unwrap_or_default();
                let directory = String::from_utf8_lossy(directory);
                format!("{} {architecture} {directory}", side.versions.join(",")).trim().to_owned()
            })
        };
        let line = |change: &Change| {
            let Change { manager, name, old, new } = change;
            format!("{manager} {name} {} -> {}", side(old), side(new))
        };
        super::compare(old, new).iter().map(line).collect()
    }

    #[test]
    fn changes() {
        for (old, new, expected) in [
            (&["dpkg a 1 amd64 s"][..], &["dpkg a 1 amd64 s"][..], &[][..]),
            (&["dpkg a 1 amd64 s"], &["dpkg a 1 amd64 d/a"], &[]),
            (&["dpkg a 1 amd64 s"], &["dpkg a 2 amd64 s"], &["dpkg a 1 amd64 -> 2 amd64"]),
            (&["dpkg a 1 amd64 s"], &[], &["dpkg a 1 amd64 -> none"]),
            (&[], &["apk a 1 - s"], &["apk a none -> 1 -"]),
            // The same name of two managers.
            (&["apk a 1 - s"], &["dpkg a 1 - s"], &["dpkg a none -> 1 -", "apk a 1 - -> none"]),
            // Another architecture, alone and beside one that stays.
            (&["dpkg a 1 amd64 s"], &["dpkg a 1 arm64 s"], &["dpkg a 1 amd64 -> 1 arm64"]),
            (
                &["dpkg a 1 amd64 s"],
                &["dpkg a 2 amd64 s", "dpkg a 2 i386 s"],
                &["dpkg a 1 amd64 -> 2 amd64", "dpkg a none -> 2 i386"],
            ),
            (
                &["dpkg a 1 amd64 s", "dpkg a 1 i386 s"],
                &["dpkg a 1 arm64 s"],
                &["dpkg a 1 amd64 -> none", "dpkg a 1 i386 -> none", "dpkg a none -> 1 arm64"],
            ),
            // Side by side.
            (
                &["rpm k 2 - s", "rpm k 1 - s"],
                &["rpm k 3 - s", "rpm k 2 - s"],
                &["rpm k 1,2 - -> 2,3 -"],
            ),
            (&["rpm k 2 - s", "rpm k 1 - s"], &["rpm k 1 - s", "rpm k 2 - s"], &[]),
            // Python: the same place counts first, then what was moved.
            (
                &["python a 1 - v1", "python a 2 - v2"],
                &["python a 2 - v1", "python a 1 - v2"],
                &["python a 1 - v1 -> 2 - v1", "python a 2 - v2 -> 1 - v2"],
            ),
            (&["python a 1 - 3.11"], &["python a 1 - 3.12"], &[]),
            (&["python a 1 - 3.11"], &["python a 2 - 3.12"], &["python a 1 - 3.11 -> 2 - 3.12"]),
            (
                &["python a 1 - 3.11", "python a 1 - venv"],
                &["python a 1 - 3.12", "python a 2 - venv"],
                &["python a 1 - venv -> 2 - venv"],
            ),
            (
                &["python a 1 - 3.11"],
                &["python a 1 - 3.12", "python a 1 - venv"],
                &["python a none -> 1 - 3.12"],
            ),
        ] {
            let (old, new) = (inventory(old), inventory(new));
            assert_eq!(compare(&old, &new), expected, "{old:?} {new:?}");
        }
    }

    /// Half an inventory would tell half of the packages as removed.
    #[test]
    fn what_is_not_known_is_not_compared() {
        let old = inventory(&["dpkg a 1 - s", "python b 1 - s"]);
        for (missing, expected) in [
            (Missing::Many, &["python b 1 - s -> none"][..]),
            (Missing::One, &["dpkg a 1 - -> none", "python b 1 - s -> none"]),
        ] {
            let (manager, place) = (Manager::Dpkg, b"s".to_vec());
            let problem = Problem { manager, place, why: Error::NotAFile, missing };
            let new = Inventory { packages: Vec::new(), problems: vec![problem] };
            assert_eq!(compare(&old, &new), expected, "{missing:?}");
        }
    }

    /// A stranger's database may give one name any number of architectures.
    #[test]
    fn many_of_one_name() {
        let lines = |of: &str| (0..20_000).map(|n| format!("dpkg a {n} {of}{n} s")).collect();
        let (old, new): (Vec<String>, Vec<String>) = (lines("x"), lines("y"));
        let refs = |lines: &[String]| inventory(&lines.iter().map(|l| &l[..]).collect::<Vec<_>>());
        assert_eq!(super::compare(&refs(&old), &refs(&new)).len(), 40_000);
    }
}
