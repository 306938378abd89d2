//! Guesses of what will be read next.

use ocifs::prefetch::{Listings, Window};
use ocifs::tree::{Ino, Tree};

use crate::layers::merge;
use crate::support::tarball::{Entry, tar};

/// Directories `d0`, `d1` ... of so many files each, and among them what is never named.
fn tree(dirs: usize, files: usize, size: usize) -> Tree {
    let mut entries = Vec::new();
    for dir in 0..dirs {
        entries.push(Entry::dir(format!("d{dir}")));
        entries.push(Entry::file(format!("d{dir}/empty"), ""));
        for file in 0..files {
            entries.push(Entry::file(format!("d{dir}/{file:04}"), vec![b'x'; size]));
        }
        entries.push(Entry::dir(format!("d{dir}/sub")));
        entries.push(Entry::file(format!("d{dir}/large"), vec![b'x'; (128 << 10) + 1]));
        entries.push(Entry::symlink(format!("d{dir}/link"), "0000"));
    }
    merge(&[tar(&entries)]).unwrap()
}

struct Reader {
    tree: Tree,
    listings: Listings,
    ahead: Window,
}

impl Reader {
    fn new(tree: Tree) -> Reader {
        Reader { ahead: Window::new(tree.len()), listings: Listings::default(), tree }
    }

    fn ino(&self, path: &str) -> Ino {
        path.split('/').fold(Ino::ROOT, |dir, name| self.tree.lookup(dir, name.as_bytes()).unwrap())
    }

    /// Lists a directory as the kernel does; whether that is of interest.
    fn list(&mut self, path: &str) -> bool {
        let dir = self.ino(path);
        let is_wanted = self.listings.note(dir);
        if is_wanted {
            self.ahead.listed(&self.listings, dir);
        }
        is_wanted
    }

    fn read(&mut self, path: &str) {
        let file = self.ino(path);
        self.ahead.read(&self.tree, &self.listings, file);
    }

    /// All that is named now, by name.
    fn rest(&mut self) -> Vec<String> {
        let inos: Vec<Ino> = std::iter::from_fn(|| self.ahead.next(&self.tree)).collect();
        inos.into_iter().map(|ino| self.name(ino)).collect()
    }

    fn name(&self, ino: Ino) -> String {
        let dir = self.tree.directory_of(ino).expect("only files are named");
        let entry = self.tree.children(dir, 0).find(|entry| entry.ino == ino).unwrap();
        String::from_utf8(entry.name.to_vec()).unwrap()
    }

    /// Lists and reads a directory the way `grep -r` does; whether anything of it was named before
    /// it was read.
    fn walk(&mut self, dir: &str, files: usize) -> bool {
        self.list(dir);
        let mut named = self.rest();
        let was_named = !named.is_empty();
        for file in 0..files {
            let name = format!("{file:04}");
            if !named.contains(&name) {
                self.read(&format!("{dir}/{name}"));
                named.extend(self.rest());
            }
        }
        was_named
    }
}

fn names(range: std::ops::Range<usize>) -> Vec<String> {
    range.map(|file| format!("{file:04}")).collect()
}

#[test]
fn in_a_listed_directory_the_files_behind_come_next() {
    let mut reader = Reader::new(tree(2, 10, 100));
    reader.list("d0");
    reader.read("d0/0000");
    // All but the very next one, and what is empty, large or no file.
    assert_eq!(reader.rest(), names(2..10));
    assert_eq!(reader.rest(), names(0..0), "each once");
    reader.read("d0/0001");
    assert_eq!(reader.rest(), names(0..0), "each once");
}

#[test]
fn where_nothing_was_listed_trust_grows_with_reads() {
    let mut reader = Reader::new(tree(1, 200, 100));
    reader.read("d0/0010");
    assert_eq!(reader.rest(), names(0..0));
    reader.read("d0/0011");
    assert_eq!(reader.rest(), names(13..17));
    reader.read("d0/0012");
    assert_eq!(reader.rest(), names(17..25), "on behind what was named");
    reader.read("d0/0100");
    assert_eq!(reader.rest(), names(102..118));
    // Back to where nothing was named.
    reader.read("d0/0050");
    assert_eq!(reader.rest(), names(52..84));
}

#[test]
fn bursts_have_limits() {
    let mut reader = Reader::new(tree(1, 200, 100));
    reader.list("d0");
    reader.read("d0/0000");
    assert_eq!(reader.rest(), names(2..66));
    reader.read("d0/0066");
    assert_eq!(reader.rest(), names(68..132));

    let mut reader = Reader::new(tree(1, 40, 100_000));
    reader.list("d0");
    reader.read("d0/0000");
    let bytes = 100_000 * reader.rest().len();
    assert!((1_000_000..=(1 << 20) + 100_000).contains(&bytes), "{bytes}");
}

#[test]
fn a_reader_that_is_faster_is_not_run_after() {
    let mut reader = Reader::new(tree(1, 60, 100));
    reader.list("d0");
    reader.read("d0/0000");
    let next = reader.ahead.next(&reader.tree).unwrap();
    assert_eq!(reader.name(next), "0002");
    reader.read("d0/0030");
    assert_eq!(reader.rest(), names(32..60));
}

#[test]
fn what_is_not_local_ends_a_burst() {
    let mut reader = Reader::new(tree(1, 60, 100));
    reader.list("d0");
    reader.read("d0/0000");
    assert!(reader.ahead.next(&reader.tree).is_some());
    reader.ahead.stop();
    assert_eq!(reader.rest(), names(0..0));
    reader.read("d0/0020");
    assert_eq!(reader.rest(), names(22..60));
}

#[test]
fn a_walk_gets_hot_and_cools_down() {
    let mut reader = Reader::new(tree(200, 3, 100));
    let named: Vec<bool> = (0..100).map(|dir| reader.walk(&format!("d{dir}"), 3)).collect();
    assert_eq!(named[..3], [false; 3], "it has to be seen first");
    let asked_for = named[3..].iter().filter(|was_named| !**was_named).count();
    assert!((97 / 9..=97 / 7).contains(&asked_for), "probes: {asked_for}");
    // `find` goes on alone.
    let named = (100..200).filter(|dir| {
        reader.list(&format!("d{dir}"));
        !reader.rest().is_empty()
    });
    let named = named.count();
    assert!((1..24).contains(&named), "{named}");
    assert!(!reader.list("d0"), "nobody is waked any more");
}

#[test]
fn a_second_walk_of_what_the_kernel_has_dropped() {
    let mut reader = Reader::new(tree(40, 10, 100));
    for dir in 0..40 {
        reader.walk(&format!("d{dir}"), 10);
    }
    reader.list("d0");
    assert_eq!(reader.rest(), names(0..0), "they may all be there");
    reader.read("d1/0000");
    reader.rest();
    reader.list("d2");
    reader.read("d2/0000");
    assert_eq!(reader.rest(), names(2..10));
}

#[test]
fn a_visit_is_forgotten_after_many_others() {
    let mut reader = Reader::new(tree(40, 10, 100));
    reader.read("d0/0000");
    for dir in 1..40 {
        reader.read(&format!("d{dir}/0000"));
    }
    reader.read("d0/0001");
    assert_eq!(reader.rest(), names(0..0), "this is a first read again");
}

#[test]
fn guesses_that_are_always_late_end_for_a_while() {
    let mut reader = Reader::new(tree(200, 6, 100));
    let mut named = Vec::new();
    for dir in 0..200 {
        reader.list(&format!("d{dir}"));
        let before = named.len();
        // All of them are under way before the first one is named.
        for file in 0..6 {
            if reader.listings.wants_read() {
                reader.read(&format!("d{dir}/{file:04}"));
            }
            named.extend(reader.ahead.next(&reader.tree));
        }
        if dir > 100 {
            assert_eq!(named.len(), before, "d{dir}");
        }
    }
    assert!(!named.is_empty());
    // Thousands of reads later there is another trial.
    assert!((0..10_000).any(|_| reader.listings.wants_read()));
}
