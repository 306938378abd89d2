//! Inode numbers of a connection: each leads to the volume and the inode that it was made from, and all others to
//! nothing. What is found is a file once, and not for each read.

use std::sync::Arc;
use std::time::Duration;

use ocifs::content::Contents;
use ocifs::fs::{Error, Filesystem};
use ocifs::index::{Budget, LayerIndex};
use ocifs::space::{Found, Space};
use ocifs::tree::{self, Ino, Order};

use crate::layers::index;
use crate::support::tarball::{Entry, tar};

fn filesystem(entries: &[Entry]) -> Arc<Filesystem> {
    let index = index(&tar(entries)).unwrap();
    let layers: [&LayerIndex; 1] = [&index];
    let (mut tree, origins) =
        tree::merge_with_origins(&layers, &Arc::new(Budget::of(u64::MAX))).unwrap();
    tree.number(&origins, &layers);
    Arc::new(Filesystem::new(tree, Contents::new(Vec::new()), Duration::ZERO))
}

#[test]
fn numbers_lead_back_and_are_those_of_the_tree() {
    let files = (0..100).map(|at| Entry::file(format!("d/{at:02}"), format!("{at}")));
    let entries: Vec<Entry> = [Entry::dir("d")].into_iter().chain(files).collect();
    let space = Space::new(filesystem(&entries));
    let tree = space.root().unwrap().filesystem().tree();
    assert_eq!(space.root().unwrap().shown(Ino::ROOT).number, 1);
    let (mut walk, mut seen) = (tree.walk(Ino::ROOT, Order::Data), 0);
    while let Some((_, ino)) = walk.next() {
        let shown = space.root().unwrap().shown(ino);
        assert_eq!(shown, tree.shown(ino), "tools that know 32 bits get what they got");
        let Ok(Found::File(volume, found)) = space.find(shown.number) else { panic!("{shown:?}") };
        assert!(
            found == ino && Arc::ptr_eq(volume.filesystem(), space.root().unwrap().filesystem())
        );
        seen += 1;
        for volume in [1, 2, u64::from(u32::MAX)] {
            let elsewhere = space.find(volume << 32 | shown.number);
            assert!(matches!(elsewhere, Err(Error::NotFound)), "{volume}: {elsewhere:?}");
        }
    }
    assert_eq!(seen, 101);
    for number in [0, 2, u64::from(u32::MAX), 1 << 32, u64::MAX] {
        assert!(matches!(space.find(number), Err(Error::NotFound)), "{number}");
    }
}

#[test]
fn regular_files_alone_are_files() {
    let filesystem =
        filesystem(&[Entry::file("f", "some words"), Entry::dir("d"), Entry::symlink("l", "f")]);
    let ino = |name: &[u8]| filesystem.tree().lookup(Ino::ROOT, name).unwrap();
    let file = filesystem.file(ino(b"f")).unwrap();
    assert_eq!([0, 4, 9, 10, u64::MAX].map(|at| file.readable(at, 6)), [6, 6, 1, 0, 0]);
    assert_eq!(file.readable(0, usize::MAX), 10);
    assert!(matches!(filesystem.file(ino(b"d")), Err(Error::IsADirectory)));
    assert!(matches!(filesystem.file(ino(b"l")), Err(Error::WrongKind)));
}
