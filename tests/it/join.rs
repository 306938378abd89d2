//! Several trees in one: each must look as it does on its own, and what is one inode must be equal.

use std::collections::BTreeMap;
use std::sync::Arc;

use ocifs::index::{Budget, LayerIndex, Proof};
use ocifs::tree::{self, Attributes, FileKind, Ino, Part, Sharing, Tree};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use crate::layers::{content, index, merge, snapshot, snapshot_below};
use crate::model::generators;
use crate::support::tarball::{Entry, TarWriter, tar};

/// Images to be joined, by their layers.
pub struct Images {
    /// Of each image, base first: numbers of layers.
    images: Vec<Vec<usize>>,
    /// Distinct layers.
    tars: Vec<Vec<u8>>,
    indexes: Vec<LayerIndex>,
}

impl Images {
    /// Of tars; equal ones are the same layer. `None` if an image is not valid on its own.
    pub fn new(stacks: &[Vec<Vec<u8>>]) -> Option<Images> {
        let mut images = Images { images: Vec::new(), tars: Vec::new(), indexes: Vec::new() };
        for stack in stacks {
            merge(stack).ok()?;
            let number = |tar: &Vec<u8>| {
                images.tars.iter().position(|other| other == tar).unwrap_or_else(|| {
                    images.tars.push(tar.clone());
                    images.indexes.push(index(tar).unwrap());
                    images.tars.len() - 1
                })
            };
            let numbers = stack.iter().map(number).collect();
            images.images.push(numbers);
        }
        Some(images)
    }

    /// One image a layer.
    fn of_layers(layers: &[&[Entry]]) -> Images {
        let stacks: Vec<_> = layers.iter().map(|layer| vec![tar(layer)]).collect();
        Images::new(&stacks).unwrap()
    }

    /// Claims no more of a layer than this.
    fn with_proof(mut self, layer: usize, proof: Proof) -> Images {
        self.indexes[layer] = self.indexes[layer].clone().with_proof(proof);
        self
    }

    fn names(&self) -> Vec<String> {
        // Not in the order of their bytes.
        (0..self.images.len()).map(|at| format!("image-{}", 9 - at)).collect()
    }

    pub fn join(&self, sharing: Sharing) -> Tree {
        let names = self.names();
        let parts = self.images.iter().zip(&names).map(|(layers, name)| {
            let indexes: Vec<&LayerIndex> = layers.iter().map(|at| &self.indexes[*at]).collect();
            let (tree, origins) =
                tree::merge_with_origins(&indexes, &Arc::new(Budget::of(u64::MAX))).unwrap();
            let layers = layers.iter().map(|at| *at as u32).collect();
            Part { name: name.as_bytes(), tree, origins, indexes, layers }
        });
        tree::join(parts.collect(), sharing).unwrap().0
    }

    fn alone(&self, image: usize) -> (Tree, Vec<Vec<u8>>) {
        let tars: Vec<Vec<u8>> =
            self.images[image].iter().map(|at| self.tars[*at].clone()).collect();
        (merge(&tars).unwrap(), tars)
    }

    /// Checks everything that holds whatever is shared.
    fn check(&self, joint: &Tree) {
        let root = joint.attributes(Ino::ROOT);
        let count = self.images.len();
        let expected = Attributes {
            ino: Ino::ROOT,
            kind: FileKind::Directory,
            mode: 0o755,
            nlink: 2 + count as u32,
            uid: 0,
            gid: 0,
            size: 4096,
            blocks: 8,
            mtime_seconds: 0,
            mtime_nanoseconds: 0,
            device: (0, 0),
        };
        assert_eq!(root, expected);
        assert_eq!(joint.parent(Ino::ROOT), Some(Ino::ROOT));
        assert_eq!(joint.layers_of(Ino::ROOT), None);
        let tops = joint.inos().filter(|ino| joint.is_top(*ino)).count();
        assert_eq!(tops, 1 + count);
        assert_eq!(joint.child_count(Ino::ROOT), count);
        let mut listed: Vec<Ino> = Vec::new();
        let mut total = BTreeMap::new();
        for (at, name) in self.names().iter().enumerate() {
            let top = joint.lookup(Ino::ROOT, name.as_bytes()).unwrap();
            assert_eq!(joint.parent(top), Some(Ino::ROOT));
            let (own, tars) = self.alone(at);
            assert_eq!(snapshot_below(joint, &self.tars, top), snapshot(&own, &tars));
            let mut walk = joint.walk(top, tree::Order::Data);
            listed.push(top);
            while let Some((_, ino)) = walk.next() {
                if !listed.contains(&ino) {
                    listed.push(ino);
                }
                let layers: Vec<usize> =
                    joint.layers_of(ino).unwrap().iter().map(|layer| *layer as usize).collect();
                let is_here = layers == self.images[at];
                // A shared inode is that of the first image that has it.
                assert!(is_here || joint.kind(ino) == FileKind::Regular);
                if let Some(content) = joint.content(ino) {
                    total.insert(ino, content.size);
                }
            }
        }
        // No gaps, and nothing that has no name.
        listed.push(Ino::ROOT);
        listed.sort();
        assert_eq!(listed, joint.inos().collect::<Vec<_>>());
        assert_eq!(joint.total_size(), total.values().sum::<u64>());
        for dir in joint.inos().filter(|ino| joint.kind(*ino) == FileKind::Directory) {
            let children: Vec<Ino> = joint.children(dir, 0).map(|child| child.ino).collect();
            assert!(children.is_sorted(), "{children:?}");
            for ino in &children {
                let behind: Vec<Ino> = joint.listed_after(dir, *ino).collect();
                let expected: Vec<Ino> = children.iter().copied().filter(|c| c > ino).collect();
                assert_eq!(behind, expected);
            }
        }
    }

    fn top(&self, joint: &Tree, image: usize) -> Ino {
        joint.lookup(Ino::ROOT, self.names()[image].as_bytes()).unwrap()
    }

    /// The regular files of an image and the paths of each.
    fn files(&self, joint: &Tree, image: usize) -> BTreeMap<Ino, Vec<Vec<u8>>> {
        let mut files: BTreeMap<Ino, Vec<Vec<u8>>> = BTreeMap::new();
        let mut walk = joint.walk(self.top(joint, image), tree::Order::Name);
        while let Some((path, ino)) = walk.next() {
            if joint.kind(ino) == FileKind::Regular {
                files.entry(ino).or_default().push(path.to_vec());
            }
        }
        files
    }

    /// Whether the file at a path of the first image is that of the second image at another.
    fn shares(&self, paths: [&str; 2]) -> bool {
        let joint = self.join(Sharing::Equal);
        self.check(&joint);
        let at = |image: usize| {
            let top = self.top(&joint, image);
            let step = |dir, name: &str| joint.lookup(dir, name.as_bytes()).unwrap();
            paths[image].split('/').fold(top, step)
        };
        at(0) == at(1)
    }
}

/// All that has to be equal of two files, in one value.
fn identity(tree: &Tree, tars: &[Vec<u8>], ino: Ino) -> impl Ord + Clone + std::fmt::Debug + use<> {
    let a = tree.attributes(ino);
    let owner = (a.mode, a.uid, a.gid, a.nlink);
    let xattrs: Vec<_> = tree.xattrs(ino).map(|(n, v)| (n.to_vec(), v.to_vec())).collect();
    (owner, a.mtime_seconds, a.mtime_nanoseconds, xattrs, a.blocks, content(tree, tars, ino))
}

#[test]
fn random_images_look_as_they_do_alone() {
    let cases =
        std::env::var("OCIFS_MODEL_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(1500);
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    // The second image has the first one's base, the third is the second's top.
    let images = (generators::stacks(), generators::stacks(), 0..3usize);
    let result = TestRunner::new(config).run(&images, |(first, other, common)| {
        let base = first.iter().take(common).cloned();
        let second: Vec<_> = base.chain(other.iter().cloned()).collect();
        let stacks: Vec<Vec<Vec<u8>>> = [first, second, other]
            .iter()
            .map(|stack| stack.iter().map(|layer| tar(layer)).collect())
            .collect();
        let Some(images) = Images::new(&stacks) else { return Ok(()) };
        let apart = images.join(Sharing::Nothing);
        images.check(&apart);
        let sum: usize = (0..3).map(|image| images.alone(image).0.len()).sum();
        prop_assert_eq!(apart.len(), 1 + sum);

        let joint = images.join(Sharing::Equal);
        images.check(&joint);
        let files: Vec<_> = (0..3).map(|image| images.files(&joint, image)).collect();
        for (a, b) in [(0, 1), (0, 2), (1, 2)] {
            // Files at the same paths are one if they are equal.
            for (ino, paths) in &files[a] {
                let same = files[b].iter().find(|(_, others)| *others == paths);
                let Some((other, _)) = same else { continue };
                let mine = identity(&joint, &images.tars, *ino);
                let theirs = identity(&joint, &images.tars, *other);
                prop_assert_eq!(ino == other, mine == theirs, "{:?}", paths);
            }
        }
        // Of two images, all that find a partner have one.
        let two = Images::new(&stacks[..2]).expect("they were valid before");
        let joint = two.join(Sharing::Equal);
        two.check(&joint);
        let [a, b] = [0, 1].map(|image| two.files(&joint, image));
        let mut counts = BTreeMap::new();
        for (image, files) in [&a, &b].into_iter().enumerate() {
            for ino in files.keys() {
                let count = counts.entry(identity(&joint, &two.tars, *ino)).or_insert([0, 0]);
                count[image] += 1;
            }
        }
        let expected: usize = counts.values().map(|[a, b]| a.min(b)).sum();
        prop_assert_eq!(a.keys().filter(|ino| b.contains_key(ino)).count(), expected);
        Ok(())
    });
    result.unwrap();
}

fn file() -> Entry {
    Entry::file("f", "content").mode(0o640).owner(7, 8).mtime(1000, 5).xattr("user.a", "1")
}

#[test]
fn what_differs_in_anything_is_not_shared() {
    // The other file of each layer makes the layers different.
    let pair = |other: Entry| Images::of_layers(&[&[file()], &[other, Entry::file("g", "")]]);
    assert!(pair(file()).shares(["f", "f"]));
    for (what, other) in [
        ("content", Entry { kind: Entry::file("", "CONTENT").kind, ..file() }),
        ("size", Entry { kind: Entry::file("", "content!").kind, ..file() }),
        ("mode", file().mode(0o644)),
        ("set-user-ID", file().mode(0o4640)),
        ("uid", file().owner(9, 8)),
        ("gid", file().owner(7, 9)),
        ("seconds", file().mtime(1001, 5)),
        ("nanoseconds", file().mtime(1000, 6)),
        ("another attribute", file().xattr("user.b", "1")),
        ("no attribute", Entry { xattrs: Vec::new(), ..file() }),
        ("value", Entry { xattrs: Vec::new(), ..file() }.xattr("user.a", "2")),
        ("cut elsewhere", Entry { xattrs: Vec::new(), ..file() }.xattr("user.a1", "")),
        ("kind", Entry::symlink("f", "content")),
    ] {
        assert!(!pair(other).shares(["f", "f"]), "{what}");
    }
}

#[test]
fn the_number_of_names_counts() {
    let linked = |name: &str| [file(), Entry::hardlink(name, "f")];
    let images = |a: &[Entry], b: &[Entry]| Images::of_layers(&[a, b]);
    assert!(!images(&[file()], &linked("g")).shares(["f", "f"]));
    assert!(images(&linked("g"), &linked("h")).shares(["g", "h"]));
    // Joined, the inode has four names, and each image says two.
    let joint = images(&linked("g"), &linked("h")).join(Sharing::Equal);
    let file = joint.inos().find(|ino| joint.kind(*ino) == FileKind::Regular).unwrap();
    assert_eq!(joint.attributes(file).nlink, 2);
}

#[test]
fn directories_and_symlinks_are_never_shared() {
    let layer = [Entry::dir("d"), Entry::symlink("l", "d"), Entry::fifo("p")];
    let images = Images::of_layers(&[&layer, &layer]);
    assert_eq!(images.tars.len(), 1, "one layer in two images");
    for path in ["d", "l", "p"] {
        assert!(!images.shares([path, path]), "{path}");
    }
}

#[test]
fn a_digest_counts_only_where_it_is_our_own() {
    let other = [file(), Entry::file("e", ""), Entry::file("g", "")];
    let images = || Images::of_layers(&[&[file(), Entry::file("e", "")], &other]);
    assert!(images().shares(["f", "f"]) && images().shares(["e", "e"]));
    let proofs = [Proof::Full, Proof::Toc, Proof::Hint];
    for (a, b) in proofs.iter().flat_map(|a| proofs.map(|b| (*a, b))) {
        if (a, b) == (Proof::Full, Proof::Full) {
            continue;
        }
        let images = images().with_proof(0, a).with_proof(1, b);
        let hash = |layer: usize| {
            let index = &images.indexes[layer];
            index.content_digest(&index.entry_at(0))
        };
        assert!(hash(0).is_some() && hash(0) == hash(1), "the same is claimed");
        // Empty ones neither: they would have the proof of the other's layer.
        assert!(!images.shares(["f", "f"]) && !images.shares(["e", "e"]), "{a:?} {b:?}");
    }
}

#[test]
fn the_same_place_of_a_layer_needs_no_digest() {
    let base = tar(&[file(), Entry::file("e", ""), Entry::dir("d"), Entry::file("d/f", "x")]);
    let top = tar(&[Entry::file("new", "x")]);
    for proof in [Proof::Full, Proof::Toc, Proof::Hint] {
        let images = Images::new(&[vec![base.clone()], vec![base.clone(), top.clone()]]);
        let images = images.unwrap().with_proof(0, proof);
        for path in ["f", "e", "d/f"] {
            assert!(images.shares([path, path]), "{proof:?} {path}");
        }
        // The same bytes, but not the same place.
        assert!(!images.shares(["d/f", "new"]), "{proof:?}");
    }
    // The upper layer's attributes make it another file.
    let changed = tar(&[file().mode(0o600)]);
    let images = Images::new(&[vec![base.clone()], vec![base, changed]]).unwrap();
    assert!(!images.shares(["f", "f"]));
}

#[test]
fn sparse_files_are_equal_by_content_and_holes() {
    let sparse = |more: &[u8], runs: &[(u64, &[u8])]| {
        let mut writer = TarWriter::new();
        writer.entry(&Entry::file("more", more));
        writer.sparse_pax_1_0("s", 9000, runs);
        writer.finish()
    };
    let runs: [(u64, &[u8]); 2] = [(0, &[1; 512]), (5000, &[2; 100])];
    let a = sparse(b"1", &runs);
    let shares = |b: Vec<u8>| Images::new(&[vec![a.clone()], vec![b]]).unwrap().shares(["s", "s"]);
    let top = tar(&[Entry::file("new", "x")]);
    let same = Images::new(&[vec![a.clone()], vec![a.clone(), top]]).unwrap();
    assert!(same.shares(["s", "s"]));
    // At another place of another layer.
    assert!(shares(sparse(&[2; 600], &runs)));
    // Other content of the same length, or at another place.
    assert!(!shares(sparse(b"1", &[(0, &[1; 512]), (5000, &[3; 100])])));
    assert!(!shares(sparse(b"1", &[(0, &[1; 512]), (5001, &[2; 100])])));
    // With other holes, or none, it is another file to lseek(2) and stat(2).
    let stored = [[2; 100], [0; 100]].concat();
    assert!(!shares(sparse(b"1", &[(0, &[1; 512]), (5000, &stored)])));
    let filled = [vec![1; 512], vec![0; 4488], vec![2; 100], vec![0; 3900]].concat();
    assert!(!shares(tar(&[Entry::file("s", filled)])));
}

#[test]
fn files_of_one_image_stay_apart_and_find_those_at_their_path() {
    let same = |name: &str| Entry { path: name.into(), ..file() };
    // The first of five goes: by order alone, all would be off by one.
    let five: Vec<Entry> = ["a", "b", "c", "d", "e"].map(same).to_vec();
    let images = Images::of_layers(&[&five, &five[1..]]);
    let joint = images.join(Sharing::Equal);
    images.check(&joint);
    assert_eq!(images.files(&joint, 0).len(), 5);
    for name in ["b", "c", "d", "e"] {
        assert!(images.shares([name, name]), "{name}");
    }
    assert_eq!(joint.len(), 1 + 1 + 5 + 1);

    // What has moved is found too, and in three images as in two.
    let moved = [Entry::dir("to"), same("to/x"), Entry::file("n", "1")];
    let images = Images::of_layers(&[&[same("x")], &moved, &[same("z"), Entry::file("n", "2")]]);
    assert!(images.shares(["x", "to/x"]));
    let joint = images.join(Sharing::Equal);
    let everywhere = |ino: &Ino| (0..3).all(|image| images.files(&joint, image).contains_key(ino));
    assert_eq!(images.files(&joint, 2).keys().filter(|ino| everywhere(ino)).count(), 1);
}

#[test]
fn a_child_that_is_shared_moves_in_its_directory() {
    // In the second image the shared files come last, and so have lower numbers than what is listed
    // before them.
    let old: Vec<Entry> = ["c", "a", "b"].map(|n| Entry::file(format!("d/{n}"), n)).to_vec();
    let mut new = vec![Entry::file("d/z", "z"), Entry::file("d/0", "0"), Entry::file("d/m", "m")];
    new.extend(old.iter().rev().cloned());
    new.push(Entry::hardlink("d/y", "d/0"));
    let images = Images::of_layers(&[&old, &new]);
    for name in ["d/a", "d/b", "d/c"] {
        assert!(images.shares([name, name]));
    }
}

#[test]
fn one_image_can_stand_alone_in_a_directory() {
    let images = Images::of_layers(&[&[file()]]);
    images.check(&images.join(Sharing::Equal));
}

/// An image `FROM scratch` that adds nothing, beside others.
#[test]
fn images_without_layers() {
    let base = vec![tar(&[Entry::file("f", "x")])];
    for stacks in [[vec![], base.clone()], [base, vec![]], [vec![], vec![]]] {
        let images = Images::new(&stacks).unwrap();
        let joint = images.join(Sharing::Equal);
        images.check(&joint);
    }
}
