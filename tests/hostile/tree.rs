//! What is merged of any layer indexes, by every accessor.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;

use ocifs::erofs;
use ocifs::extent::Pieces;
use ocifs::index::{Budget, LayerIndex};
use ocifs::tree::{self, FileKind, Ino, Order, Part, Question, Sharing, Symlinks, Tree, Want};

use super::Verdict;

/// The largest image for the kernel that is written to see whether it can be.
const MAX_IMAGE_BYTES: u64 = 1 << 20;

/// Merges layers, base first, and checks the tree in all its forms.
pub fn check(layers: &[&LayerIndex]) -> Verdict {
    let merged = tree::merge_with_origins(layers, &Arc::new(Budget::of(u64::MAX)));
    let verdict = Verdict::from(&merged);
    let Ok((mut tree, origins)) = merged else { return verdict };
    check_tree(&tree, layers);
    tree.number(&origins, layers);
    check_numbers(&tree);
    check_upper(&tree, layers);
    check_image(&tree);
    let numbers: Vec<u32> = (0..layers.len() as u32).collect();
    let part = Part { name: b"image", tree, origins, indexes: layers.to_vec(), layers: numbers };
    if let Ok((joint, _)) = tree::join(vec![part], Sharing::Equal) {
        check_tree(&joint, layers);
        check_numbers(&joint);
    }
    verdict
}

fn check_tree(tree: &Tree, layers: &[&LayerIndex]) {
    let mut listed = BTreeSet::from([Ino::ROOT]);
    let mut total = 0;
    for ino in tree.inos() {
        let attributes = tree.attributes(ino);
        assert_eq!((attributes.ino, attributes.kind), (ino, tree.kind(ino)));
        assert!(attributes.mode <= 0o7777 && attributes.nlink > 0, "{attributes:?}");
        assert!(attributes.mtime_nanoseconds < 1_000_000_000, "{attributes:?}");
        // What the kernel keeps sizes in.
        assert!(attributes.size <= i64::MAX as u64 && attributes.blocks <= 1 << 54);
        assert!(tree.readable_xattrs(ino).count() <= tree.xattrs(ino).count());
        assert_eq!(tree.symlink(ino).is_some(), attributes.kind == FileKind::Symlink);
        if attributes.kind == FileKind::Regular {
            check_content(tree, ino, layers);
            total = u64::saturating_add(total, attributes.size);
        }
        let names: Vec<_> = tree.children_by_name(ino).collect();
        assert!(names.is_sorted_by(|a, b| a.name < b.name), "names are sorted and unique");
        assert_eq!(names.len(), tree.children(ino, 0).len());
        for child in names {
            assert!(!matches!(child.name, b"" | b"." | b"..") && !child.name.contains(&b'/'));
            assert_eq!(tree.lookup(ino, child.name), Some(child.ino));
            assert!(tree.name_in(ino, child.ino).is_some());
            if tree.kind(child.ino) == FileKind::Directory {
                assert_eq!(tree.parent(child.ino), Some(ino));
                assert!(listed.insert(child.ino), "a directory is listed twice");
            } else {
                listed.insert(child.ino);
            }
        }
    }
    assert_eq!(listed.len(), tree.len(), "every inode has a name");
    assert_eq!(tree.total_size(), total);
    for order in [Order::Name, Order::Data] {
        let mut walk = tree.walk(Ino::ROOT, order);
        while let Some((path, ino)) = walk.next() {
            assert_eq!(tree.resolve(path, Symlinks::Keep), Ok(ino));
        }
    }
}

/// The bytes of a file lie in its layer, and its pieces in the file.
fn check_content(tree: &Tree, ino: Ino, layers: &[&LayerIndex]) {
    let content = tree.content(ino).expect("a regular file has content");
    let end = layers[content.layer].uncompressed_size();
    match content.pieces {
        Pieces::Whole(start) => {
            let is_inside = start.checked_add(content.size).is_some_and(|past| past.0 <= end);
            assert!(is_inside, "{content:?} in {end} bytes");
        }
        Pieces::Sparse(runs) => {
            let mut file_end = 0;
            for run in runs {
                assert!(run.file_offset >= file_end, "{content:?}");
                file_end = run.file_end();
                let is_inside = run.start.checked_add(run.length).is_some_and(|past| past.0 <= end);
                assert!(file_end <= content.size && is_inside, "{content:?} in {end} bytes");
            }
        }
    }
}

/// The numbers that are shown are of one inode each.
fn check_numbers(tree: &Tree) {
    for ino in tree.inos() {
        assert_eq!(tree.ino_of(tree.shown(ino).number), Some(ino));
    }
}

/// What the upper layers decide alone can be asked for.
fn check_upper(tree: &Tree, layers: &[&LayerIndex]) {
    let paths = tree.inos().take(5).map(|ino| tree.path(ino));
    let questions: Vec<Question> = paths
        .map(|path| Question { path, last: Symlinks::Follow, want: Want::Attributes })
        .collect();
    for from in 0..layers.len() {
        if let Some((upper, _)) = tree::merge_upper(&layers[from..], &questions) {
            for question in &questions {
                let _ = upper.resolve(&question.path, question.last);
            }
        }
    }
}

/// The image for the kernel has the size that was announced.
fn check_image(tree: &Tree) {
    let Ok(image) = erofs::Image::of(tree) else { return };
    let said = image.bytes();
    if said <= MAX_IMAGE_BYTES {
        let mut counted = Counter(0);
        image.write(None, [7; 16], &mut counted).expect("a counter takes everything");
        assert_eq!(counted.0, said);
    }
}

struct Counter(u64);

impl io::Write for Counter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
