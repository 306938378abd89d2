//! Where a walk is guessed to go.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use ocifs::prefetch::{Next, Step, Traversal};
use ocifs::tree::{FileKind, Ino, Sharing, Tree};

use crate::join::Images;
use crate::layers::merge;
use crate::support::tarball::{Entry, tar};

const FILE_BYTES: usize = 100;

/// The process that walks.
const CLIENT: u32 = 77;

/// Directories in two levels, so many in each, of so many files.
fn tree(tops: usize, subs: usize, files: usize) -> Tree {
    merge(&[layer(tops, subs, files)]).unwrap()
}

fn layer(tops: usize, subs: usize, files: usize) -> Vec<u8> {
    let mut entries = Vec::new();
    for top in 0..tops {
        entries.push(Entry::dir(format!("{top:03}")));
        for sub in 0..subs {
            let dir = format!("{top:03}/{sub:03}");
            entries.push(Entry::dir(&dir));
            for file in 0..files {
                entries.push(Entry::file(format!("{dir}/{file:04}"), vec![b'x'; FILE_BYTES]));
            }
            entries.push(Entry::symlink(format!("{dir}/link"), "0000"));
        }
        entries.push(Entry::file(format!("{top:03}/empty"), ""));
        entries.push(Entry::file(format!("{top:03}/large"), vec![b'x'; (128 << 10) + 1]));
    }
    tar(&entries)
}

fn ino_of(step: Step) -> Ino {
    match step {
        Step::List(ino) | Step::Read { file: ino, .. } | Step::Follow { link: ino, .. } => ino,
    }
}

/// A tool that walks, and the kernel's caches.
struct Walker {
    tree: Tree,
    traversal: Traversal,
    now: Instant,
    /// Time between two requests.
    pace: Duration,
    /// What the kernel has.
    cached: HashSet<Ino>,
    /// What the walker had to ask for, and what was named before.
    asked: Vec<Ino>,
    named: Vec<Step>,
    /// Steps that are taken for each request, and whether they are done at once.
    steps: usize,
    is_done: bool,
}

impl Walker {
    fn new(tree: Tree) -> Walker {
        let traversal = Traversal::new(&tree);
        Walker {
            tree,
            traversal,
            now: Instant::now(),
            pace: Duration::from_micros(50),
            cached: HashSet::new(),
            asked: Vec::new(),
            named: Vec::new(),
            steps: usize::MAX,
            is_done: true,
        }
    }

    fn ask(&mut self, ino: Ino) {
        if !self.cached.insert(ino) {
            return;
        }
        self.now += self.pace;
        self.asked.push(ino);
        let _ = match self.tree.kind(ino) {
            FileKind::Directory => self.traversal.listed(&self.tree, CLIENT, ino, self.now),
            FileKind::Symlink => {
                self.traversal.followed();
                false
            }
            _ => self.traversal.read(&self.tree, CLIENT, ino, self.now),
        };
        for _ in 0..self.steps {
            let Some(step) = self.next() else { break };
            self.named.push(step);
            if self.is_done {
                self.cached.insert(ino_of(step));
                self.traversal.done(1);
            }
        }
    }

    fn next(&mut self) -> Option<Step> {
        loop {
            match self.traversal.next(&self.tree) {
                Next::Step { client, step } => {
                    assert_eq!(client, CLIENT);
                    return Some(step);
                }
                Next::Again => {}
                Next::Nothing => return None,
            }
        }
    }

    /// Walks below a directory as `find` does, or `grep -r`, or `tar`.
    fn walk(&mut self, dir: Ino, reads: bool, follows: bool) {
        self.ask(dir);
        let children: Vec<Ino> = self.tree.children(dir, 0).map(|child| child.ino).collect();
        for child in children {
            match self.tree.kind(child) {
                FileKind::Directory => self.walk(child, reads, follows),
                FileKind::Symlink if follows => self.ask(child),
                FileKind::Regular if reads && self.size(child) > 0 => self.ask(child),
                _ => {}
            }
        }
    }

    /// The directories of the root.
    fn tops(&self) -> Vec<Ino> {
        self.tree.children(Ino::ROOT, 0).map(|child| child.ino).collect()
    }

    fn size(&self, file: Ino) -> u64 {
        self.tree.content(file).unwrap().size
    }

    fn asked_of(&self, kind: FileKind) -> usize {
        self.asked.iter().filter(|ino| self.tree.kind(**ino) == kind).count()
    }
}

#[test]
fn a_walk_over_directories_asks_for_few_of_them() {
    let mut walker = Walker::new(tree(40, 20, 3));
    walker.walk(Ino::ROOT, false, false);
    let dirs = 1 + 40 * 21;
    let asked = walker.asked_of(FileKind::Directory);
    assert!(asked <= dirs / 8, "{asked} of {dirs}");
    assert!(walker.named.iter().all(|step| matches!(step, Step::List(_))), "nothing is read");
    let named: HashSet<Ino> = walker.named.iter().map(|step| ino_of(*step)).collect();
    assert_eq!(named.len(), walker.named.len(), "each is named once");
    assert!(walker.asked.iter().all(|ino| !named.contains(ino)), "and not what was asked for");
}

#[test]
fn a_walk_that_reads_asks_for_few_files() {
    let mut walker = Walker::new(tree(10, 10, 30));
    walker.walk(Ino::ROOT, true, true);
    let large = walker
        .asked
        .iter()
        .filter(|ino| walker.tree.kind(**ino) == FileKind::Regular && walker.size(**ino) > 1 << 10);
    assert_eq!(large.count(), 10, "a large file is nobody else's business");
    let (files, links) = (10 * 10 * 30, 10 * 10);
    assert!(walker.asked_of(FileKind::Regular) <= files / 8, "{:?}", walker.asked.len());
    assert!(walker.asked_of(FileKind::Symlink) <= links / 2);
    assert!(walker.asked_of(FileKind::Directory) <= 1 + 10 * 11);
}

/// What was named is what the walk comes to next, and no more than so much of it.
#[test]
fn a_walk_that_stops_has_cost_little() {
    let mut walker = Walker::new(tree(200, 20, 3));
    let tops = walker.tops();
    walker.ask(Ino::ROOT);
    for top in &tops[..5] {
        walker.walk(*top, false, false);
    }
    let beyond = walker.named.iter().filter(|step| ino_of(**step) > tops[5]).count();
    assert!((100..=512).contains(&beyond), "{beyond}");
    assert!(walker.named.iter().all(|step| ino_of(*step) < tops[5 + 30]));
}

/// A user who looks around, a program that opens what it needs, and one that jumps about.
#[test]
fn what_is_no_walk_is_left_alone() {
    let mut slow = Walker::new(tree(20, 5, 5));
    slow.pace = Duration::from_millis(200);
    slow.walk(Ino::ROOT, true, false);
    assert_eq!(slow.named, []);

    let mut picky = Walker::new(tree(20, 5, 5));
    let files: Vec<Ino> = picky.tree.inos().filter(|i| picky.tree.content(*i).is_some()).collect();
    for file in files.iter().step_by(7) {
        picky.ask(*file);
    }
    assert_eq!(picky.named, [], "nothing was listed");
}

/// A walker that is at the heels of the run is given room: it hardly ever asks for what is being asked for.
#[test]
fn a_fast_walker_and_its_run_share_the_work() {
    let mut walker = Walker::new(tree(60, 20, 3));
    (walker.steps, walker.is_done) = (2, false);
    let dirs = walker.tree.inos().filter(|ino| walker.tree.parent(*ino).is_some());
    let (mut met, mut done) = (0, 0);
    for dir in dirs.collect::<Vec<_>>() {
        // What was named is done two requests later.
        let named: Vec<Ino> = walker.named.iter().map(|step| ino_of(*step)).collect();
        met += usize::from(named[done..].contains(&dir));
        walker.ask(dir);
        let ready = named.len().saturating_sub(2);
        walker.cached.extend(&named[done..ready.max(done)]);
        walker.traversal.done(ready.saturating_sub(done));
        done = ready.max(done);
    }
    let (asked, named) = (walker.asked.len(), walker.named.len());
    assert!(named > 60 * 21 / 3, "{named} named, {asked} asked for");
    assert!(met < named / 8, "{met} of {named}");
    let distinct: HashSet<Ino> = walker.named.iter().map(|step| ino_of(*step)).collect();
    assert_eq!(distinct.len(), named, "each is named once");
}

/// `diff -r` of two trees, by name and in turns.
#[test]
fn two_walks_in_turns() {
    let mut walker = Walker::new(tree(2, 300, 2));
    let tops = walker.tops();
    let of = |top: Ino| walker.tree.children_by_name(top).map(|row| row.ino).collect::<Vec<_>>();
    let pairs: Vec<_> = of(tops[0]).into_iter().zip(of(tops[1])).collect();
    [Ino::ROOT, tops[0], tops[1]].into_iter().for_each(|dir| walker.ask(dir));
    for (left, right) in pairs {
        if walker.tree.kind(left) == FileKind::Directory {
            walker.ask(left);
            walker.ask(right);
        }
    }
    assert!(walker.asked.len() <= 600 / 4, "{}", walker.asked.len());
}

/// When the kernel drops everything, all begins anew.
#[test]
fn what_the_kernel_has_dropped_is_named_again() {
    let mut walker = Walker::new(tree(20, 20, 3));
    walker.walk(Ino::ROOT, false, false);
    let first = walker.asked.len();
    walker.cached.clear();
    walker.asked.clear();
    walker.walk(Ino::ROOT, false, false);
    let second = walker.asked.len();
    assert!(second <= 2 * first + 100, "{first}, then {second} of {}", 1 + 20 * 21);
}

/// A walker that goes everywhere at the same time has no use for runs: they end for a while.
#[test]
fn walks_without_order_are_left_alone() {
    let mut walker = Walker::new(tree(400, 2, 1));
    walker.steps = 1;
    let tops = walker.tops();
    walker.ask(Ino::ROOT);
    for at in 0..400 {
        // Each is far from the one before.
        walker.ask(tops[at * 211 % 400]);
    }
    assert!(walker.named.len() < 100, "{}", walker.named.len());
}

/// What is named and not to be had ends its run and no other; the end of a process ends those of its own.
#[test]
fn runs_end() {
    let mut walker = Walker::new(tree(40, 20, 3));
    walker.steps = 0;
    let tops = walker.tops();
    walker.ask(Ino::ROOT);
    tops[..5].iter().for_each(|top| walker.ask(*top));
    let first = walker.next().unwrap();
    walker.traversal.stop(first);
    let second = walker.next().unwrap();
    assert_ne!(first, second);
    walker.traversal.retain(|client| client == CLIENT);
    assert!(walker.next().is_some());
    walker.traversal.retain(|client| client != CLIENT);
    assert_eq!(walker.next(), None);
}

/// A directory of nothing to cover does not hold anybody up, and ends only the run that has come there.
#[test]
fn a_directory_of_nothing_to_cover() {
    let mut entries = vec![Entry::dir("many")];
    entries.extend((0..40_000).map(|file| Entry::file(format!("many/{file}"), "")));
    let rest = (0..10).map(|dir| Entry::dir(format!("z{dir}")));
    entries.extend(rest);
    let mut walker = Walker::new(merge(&[tar(&entries)]).unwrap());
    walker.steps = 0;
    walker.ask(Ino::ROOT);
    let dirs: Vec<Ino> = walker.tree.children(Ino::ROOT, 0).map(|child| child.ino).collect();
    dirs[1..6].iter().for_each(|dir| walker.ask(*dir));
    walker.ask(dirs[0]);
    let turns = (0..1000).map(|_| walker.traversal.next(&walker.tree)).collect::<Vec<_>>();
    assert!(turns.contains(&Next::Again), "{turns:?}");
    assert_eq!(turns.last(), Some(&Next::Nothing));
}

/// A process that compares two images that share their files does not read them; one that reads them
/// nevertheless is run ahead of like any other.
#[test]
fn files_that_several_images_share() {
    let changed = (0..10).map(|top| Entry::file(format!("{top:03}/007/0003"), "changed"));
    let upper = tar(&changed.collect::<Vec<_>>());
    let images = Images::new(&[vec![layer(10, 20, 20)], vec![layer(10, 20, 20), upper]]).unwrap();
    let joint = || images.join(Sharing::Equal);
    let mut compares = Walker::new(joint());
    let tree = joint();
    let tops: Vec<Ino> = tree.children(Ino::ROOT, 0).map(|child| child.ino).collect();
    let files = tree.inos().filter(|ino| tree.kind(*ino) == FileKind::Regular);
    assert_eq!(tree.shared_files().count() + 10, files.filter(|file| *file < tops[1]).count());

    compares.ask(Ino::ROOT);
    let mut pairs = vec![(tops[0], tops[1])];
    while let Some((left, right)) = pairs.pop() {
        if left == right {
            continue;
        }
        compares.ask(left);
        compares.ask(right);
        let [left, right] = [left, right].map(|dir| tree.children_by_name(dir).map(|row| row.ino));
        pairs.extend(left.zip(right));
    }
    let read = compares.named.iter().filter(|step| matches!(step, Step::Read { .. }));
    assert!(read.count() <= 2 * 10, "what is equal is not read");

    let mut reads = Walker::new(joint());
    reads.walk(Ino::ROOT, true, false);
    assert!(reads.asked_of(FileKind::Regular) <= 10 * 20 * 20 / 2, "{}", reads.asked.len());
}

/// Where the kernel reads ahead by itself, what it brings is what a walk comes to.
#[test]
fn what_is_shown_is_next() {
    let mut walker = Walker::new(tree(2, 2, 300));
    let tops = walker.tops();
    let subs: Vec<Ino> = walker.tree.children(tops[0], 0).map(|child| child.ino).collect();
    let files: Vec<Ino> = walker.tree.children(subs[0], 0).map(|child| child.ino).collect();
    let large = subs.iter().copied().find(|ino| walker.tree.kind(*ino) == FileKind::Regular);
    let stretch = [files[1], large.unwrap(), files[0]];
    assert!(walker.traversal.shown(&walker.tree, CLIENT, stretch));
    for file in [files[1], files[0]] {
        assert_eq!(walker.next(), Some(Step::Read { dir: subs[0], file }));
    }
    assert_eq!(walker.next(), None);
    assert!(!walker.traversal.shown(&walker.tree, CLIENT, large));

    // What was shown long ago has been passed by; of what was shown again, the kernel has let go.
    let of_all: Vec<Ino> =
        walker.tree.inos().filter(|ino| walker.tree.kind(*ino) == FileKind::Regular).collect();
    for _ in 0..2 {
        for part in of_all.chunks(100) {
            walker.traversal.shown(&walker.tree, CLIENT, part.iter().copied());
        }
        let named: Vec<Ino> = std::iter::from_fn(|| walker.next()).map(ino_of).collect();
        assert_eq!(named.len(), 512);
        let small = |ino: &Ino| (1..1 << 10).contains(&walker.size(*ino));
        let last: Vec<Ino> = of_all.iter().copied().filter(small).collect();
        assert!(last.ends_with(&named));
    }
    walker.traversal.shown(&walker.tree, CLIENT, of_all);
    walker.traversal.retain(|client| client != CLIENT);
    assert_eq!(walker.next(), None, "it has ended");
}
