use std::cell::Cell;

use super::*;

fn folder() -> (tempfile::TempDir, Snapshots) {
    let folder = tempfile::tempdir().unwrap();
    let snapshots = Snapshots::new(folder.path());
    (folder, snapshots)
}

fn active(snapshots: &Snapshots, key: &str, parent: &str) -> Result<Snapshot, Error> {
    snapshots.create(Kind::Active, key, parent, Labels::new(), |_| Ok(()))
}

fn commit(snapshots: &Snapshots, name: &str, key: &str) -> Result<(), Error> {
    snapshots.commit(name, key, Labels::new(), |_| Ok(Usage { bytes: 7, inodes: 1 }))
}

fn remote(chain_id: &str, count: usize) -> Remote {
    let image = "r.example/app@sha256:0".to_owned();
    Remote { image, chain_id: chain_id.to_owned(), count, layers: 2 }
}

#[test]
fn directories_become_layers() {
    let (_folder, snapshots) = folder();
    assert_eq!(active(&snapshots, "a", "").unwrap().number, 1);
    commit(&snapshots, "A", "a").unwrap();
    assert_eq!(snapshots.get("a"), Err(Error::NotFound("a".to_owned())));
    let committed = snapshots.get("A").unwrap();
    assert_eq!((committed.kind, committed.usage.bytes), (Kind::Committed, 7));
    active(&snapshots, "b", "A").unwrap();
    commit(&snapshots, "B", "b").unwrap();
    let view = snapshots.create(Kind::View, "v", "B", Labels::new(), |_| Ok(())).unwrap();
    assert_eq!(view.number, 3);
    let (_, below) = snapshots.lineage("v").unwrap();
    assert_eq!(below.iter().map(|snapshot| snapshot.number).collect::<Vec<_>>(), [2, 1]);
    // Numbers are never used again.
    snapshots.remove("v").unwrap();
    assert_eq!(active(&snapshots, "c", "B").unwrap().number, 4);
}

#[test]
fn what_is_not_possible_is_refused_and_changes_nothing() {
    let (_folder, snapshots) = folder();
    let is_absent = |name: &str| matches!(snapshots.get(name), Err(Error::NotFound(_)));
    assert!(matches!(active(&snapshots, "a", "none"), Err(Error::NotFound(_))));
    assert!(matches!(active(&snapshots, "", ""), Err(Error::Invalid(_))));
    active(&snapshots, "a", "").unwrap();
    assert!(matches!(active(&snapshots, "a", ""), Err(Error::Exists(_))));
    assert!(matches!(active(&snapshots, "b", "a"), Err(Error::Invalid(_))), "not committed");
    commit(&snapshots, "A", "a").unwrap();
    assert!(matches!(commit(&snapshots, "B", "A"), Err(Error::Precondition(_))), "not active");
    active(&snapshots, "b", "A").unwrap();
    assert!(matches!(commit(&snapshots, "A", "b"), Err(Error::Exists(_))));
    assert!(matches!(snapshots.remove("A"), Err(Error::Precondition(_))), "it has a child");
    assert!(matches!(snapshots.remove("none"), Err(Error::NotFound(_))));
    let failed = || Error::Io("no directory".to_owned());
    let made = snapshots.create(Kind::Active, "c", "A", Labels::new(), |_| Err(failed()));
    assert_eq!(made, Err(failed()));
    assert!(is_absent("c") && is_absent("B"));
    let measured = snapshots.commit("B", "b", Labels::new(), |_| Err(failed()));
    assert_eq!(measured, Err(failed()));
    assert_eq!(snapshots.get("b").unwrap().kind, Kind::Active);
    let long = Labels::from([("label".to_owned(), "x".repeat(MAX_TEXT_BYTES + 1))]);
    assert!(matches!(snapshots.update("b", Change::All(long)), Err(Error::Invalid(_))));
    snapshots.remove("b").unwrap();
    snapshots.remove("A").unwrap();
}

#[test]
fn a_chain_id_is_there_once_on_each_parent() {
    let (_folder, snapshots) = folder();
    for _ in 0..2 {
        snapshots.add_remote("", Labels::new(), remote("sha256:1", 1)).unwrap();
    }
    let all = snapshots.all().unwrap();
    assert_eq!(all.len(), 1);
    let first = &all[0].0;
    snapshots.add_remote(first, Labels::new(), remote("sha256:2", 2)).unwrap();
    active(&snapshots, "a", "").unwrap();
    commit(&snapshots, "A", "a").unwrap();
    assert_eq!(snapshots.remote("sha256:2", "A").unwrap(), None);
    snapshots.add_remote("A", Labels::new(), remote("sha256:2", 2)).unwrap();
    assert_eq!(snapshots.all().unwrap().len(), 4);
    assert_eq!(snapshots.remote("sha256:2", first).unwrap(), Some(remote("sha256:2", 2)));
    let (numbers, chain_ids) = snapshots.in_use().unwrap();
    assert_eq!((numbers.len(), chain_ids.len()), (1, 2));
    // What is below a tree is in the tree.
    let top = snapshots.all().unwrap().into_iter().find(|(_, row)| row.parent == *first).unwrap().0;
    active(&snapshots, "c", &top).unwrap();
    let (_, below) = snapshots.lineage("c").unwrap();
    assert_eq!(below.len(), 1);
    assert!(matches!(snapshots.remove(first), Err(Error::Precondition(_))));
}

#[test]
fn labels_change() {
    let (_folder, snapshots) = folder();
    active(&snapshots, "a", "").unwrap();
    let labels = |rows: &[(&str, &str)]| {
        rows.iter().map(|(label, value)| ((*label).to_owned(), (*value).to_owned())).collect()
    };
    let all: Labels = labels(&[("x", "1"), ("y", "2")]);
    assert_eq!(snapshots.update("a", Change::All(all.clone())).unwrap().labels, all);
    let changes = vec![("x".to_owned(), None), ("z".to_owned(), Some("3".to_owned()))];
    let changed = snapshots.update("a", Change::Some(changes)).unwrap();
    assert_eq!(changed.labels, labels(&[("y", "2"), ("z", "3")]));
    assert!(changed.updated >= changed.created);
    assert!(matches!(snapshots.update("b", Change::All(all)), Err(Error::NotFound(_))));
}

#[test]
fn another_process_finds_all_of_it() {
    let (folder, snapshots) = folder();
    snapshots.add_remote("", Labels::new(), remote("sha256:1", 1)).unwrap();
    active(&snapshots, "a/../..", "").unwrap();
    let all = snapshots.all().unwrap();
    drop(snapshots);
    assert_eq!(Snapshots::new(folder.path()).all().unwrap(), all);
}

#[test]
fn directories_are_made_before_their_rows() {
    let (_folder, snapshots) = folder();
    let made = Cell::new(0);
    let make = |number| {
        made.set(number);
        Ok(())
    };
    let snapshot = snapshots.create(Kind::Active, "a", "", Labels::new(), make).unwrap();
    assert_eq!(snapshot.number, made.get());
}
