//! Which directories and small files a walk comes to next.
//!
//! # Problem
//!
//! Whatever a first pass over a mount asks for costs a round trip between two processes, 25 to 40
//! microseconds however soon it is answered, and while one of them works the other waits. A tool
//! that walks a tree (`find`, `grep -r`, `tar`, `diff -r`) could find everything in the kernel's
//! caches, if a process ran ahead of it on another processor (`fuse::prefetcher`). This module says
//! where to.
//!
//! # Design
//!
//! Seen here are only the walker's own requests, and those only the first time: what the kernel has in
//! memory it does not ask for. So a guess that was right leaves no trace, and how far the walker has
//! come is not known unless something is *left* for it to ask for.
//!
//! - A walk is taken for one when [`SURE`] directories or files are asked for in directories that have
//!   been listed, each within [`HASTE`] of the one before.
//! - From there a *cursor* goes through the tree as walkers do: in the order in which directories list,
//!   and into each directory as it is met. It covers listings; files as well while files are being
//!   read, and symlinks while those are.
//! - After every [`BATCH`] something small is left. The walker that asks for it has *reached* it, and
//!   the cursor may go on to [`AHEAD`] beyond it. A walker that stops costs no more than that.
//! - A walker that is as fast as the cursor would only meet it at every step. When it asks for what is being
//!   fetched for it at this moment, the cursor jumps: the next [`LEAD`] things are left for the walker
//!   to do, while the cursor does those behind them. So does a cursor that begins.
//! - Asking for something that was neither left nor covered begins a new cursor: walkers differ in the
//!   order of siblings (`diff` goes by name), and several may be under way. One that does this all the
//!   time (`rg` reads what it has listed from the end) has no use for cursors, and there is silence for
//!   [`SILENCE`] requests.
//!
//! Files that several images of a mount share are left alone at first, as if they were covered: who compares the
//! images does not open them. Who reads them nevertheless is understood after [`STRAYS`] of them.
//!
//! # Where the kernel lists
//!
//! The requests of a mount with `--kernel-metadata` tell nothing but which *stretches* of contents are
//! read, many files at a time. But the kernel asks for the next one when a reader has come to the one
//! before: what lies in it is what that reader comes to ([`Traversal::shown`]), and how far ahead that is needs no
//! guess. (What several images share is shown with the rest: who comes by is seen, but not what he opens.)
//!
//! # Limits
//!
//! Everything is covered once. When many things that were covered are asked for nevertheless, the kernel has
//! dropped them or never had them, and all is as in the beginning. So what can be wasted is bounded by the
//! small files of the image, whatever the walkers do; and of what is shown, by what the kernel reads.
//!
//! (Rejected: remembering the order in which tools came by before. It would have to be right for all
//! of them, and the first pass is the one that counts.)

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::inos::{InoSet, is_small, size};
use crate::tree::{FileKind, Ino, Tree};

/// Directories with more names are left to the walker.
const MAX_NAMES: usize = 4096;

/// Requests of a walk before it is taken for one, and the longest time between two of them.
const SURE: u32 = 4;
const HASTE: Duration = Duration::from_millis(50);

/// Work, in units of about one request: between two things that are left, how far a cursor may be ahead
/// of the walker, and what is left where it meets it. (A small directory is left with its files, though that
/// is more requests: where a walker is fast, its files are as near as it is. Measured.)
const BATCH: u64 = 64;
const AHEAD: u64 = 512;
const LEAD: u64 = 32;

/// So many more bytes are one more unit.
const UNIT_BYTES: u64 = 16 << 10;

/// A directory that is left has no more names than this, and no directories.
const MAX_LEFT_NAMES: usize = 16;

/// Runs at a time: those of a `diff` of two trees, twice.
const CURSORS: usize = 4;

/// Names that are passed over in search of something to cover, at a time and before a cursor is given up.
const LOOKS: u32 = 256;
const MAX_LOOKS: u32 = 1 << 14;

/// Listings without a file (or a symlink) being read until none is covered.
const UNREAD: u32 = 6;
const UNFOLLOWED: u32 = 24;

/// Covered things that are asked for until it is clear that the kernel has dropped them.
const STRAYS: u32 = 64;

/// Files that were shown and not yet taken; the first ones are forgotten, as their reader may be there by now.
const MAX_SHOWN: usize = 512;

/// Runs that begin, less those that are of use, before there is silence for so many requests.
const RESTARTS: u32 = 16;
const SILENCE: u32 = 512;

/// Something that a walk will ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The listing of this directory.
    List(Ino),
    /// The content of a regular file.
    Read {
        /// The directory that lists it.
        dir: Ino,
        /// The file.
        file: Ino,
    },
    /// The target of a symlink.
    Follow {
        /// The directory that lists it.
        dir: Ino,
        /// The symlink.
        link: Ino,
    },
}

impl Step {
    /// What is asked for.
    fn ino(self) -> Ino {
        match self {
            Step::List(ino) | Step::Read { file: ino, .. } | Step::Follow { link: ino, .. } => ino,
        }
    }
}

/// What comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// A step before this process. It counts as under way until it is [done](Traversal::done).
    Step {
        /// The process that walks.
        client: u32,
        /// What it will ask for.
        step: Step,
    },
    /// Nothing yet, but there may be: this has taken long enough for once.
    Again,
    /// Nothing until there is news.
    Nothing,
}

/// A way through the tree.
#[derive(Debug)]
struct Cursor {
    /// The process that walks.
    client: u32,
    /// It has passed this inode in this directory.
    dir: Ino,
    place: Ino,
    /// Units passed so far, of which the walker is known to have reached so many.
    passed: u64,
    reached: u64,
    since_left: u64,
    /// Things to be left before anything else.
    lead: u64,
    /// Where it last jumped, in units.
    jumped: u64,
    /// What was left, and where.
    left: VecDeque<(Ino, u64)>,
    /// Names that it has passed over since its last step.
    looks: u32,
    /// It has come to the end.
    is_over: bool,
}

impl Cursor {
    fn new(client: u32, dir: Ino, place: Ino) -> Cursor {
        Cursor {
            client,
            dir,
            place,
            passed: 0,
            reached: 0,
            since_left: 0,
            lead: LEAD,
            jumped: 0,
            left: VecDeque::new(),
            looks: 0,
            is_over: false,
        }
    }

    fn may_go_on(&self) -> bool {
        !self.is_over && self.passed - self.reached < AHEAD
    }

    /// Takes note of the walker asking for something; whether it had been left for it.
    fn reach(&mut self, ino: Ino) -> bool {
        let Some(at) = self.left.iter().position(|(left, _)| *left == ino) else { return false };
        self.reached = self.left[at].1;
        self.left.drain(..=at);
        true
    }

    /// Leaves room for a walker that has come up to it.
    fn jump(&mut self) {
        self.reached = self.passed;
        if self.passed >= self.jumped + BATCH {
            self.jumped = self.passed;
            self.lead = LEAD;
        }
    }

    /// Whether the next thing, of so many units, is left for the walker.
    fn leaves(&mut self, ino: Ino, units: u64, is_small: bool) -> bool {
        self.passed += units;
        let leaves = is_small && (self.lead > 0 || self.since_left >= BATCH);
        if leaves {
            self.lead = self.lead.saturating_sub(1);
            self.since_left = 0;
            self.left.push_back((ino, self.passed));
        } else {
            self.since_left += units;
        }
        leaves
    }
}

/// Follows the walks over an image.
#[derive(Debug)]
pub struct Traversal {
    /// Whose listing, content or target was asked for or named.
    covered: InoSet,
    /// The latest last.
    cursors: Vec<Cursor>,
    /// What was shown, and who comes to it.
    shown: VecDeque<(u32, Ino)>,
    /// Steps that were taken and are not done.
    under_way: VecDeque<Ino>,
    /// Requests that look like a walk, and when the last one came.
    streak: u32,
    last: Option<Instant>,
    reads_files: bool,
    follows_links: bool,
    unread: u32,
    unfollowed: u32,
    strays: u32,
    restarts: u32,
    silence: u32,
}

impl Traversal {
    /// For walks over this tree.
    pub fn new(tree: &Tree) -> Traversal {
        let mut traversal = Traversal {
            covered: InoSet::new(tree.len()),
            cursors: Vec::with_capacity(CURSORS),
            shown: VecDeque::new(),
            under_way: VecDeque::new(),
            streak: 0,
            last: None,
            reads_files: false,
            follows_links: false,
            unread: 0,
            unfollowed: 0,
            strays: 0,
            restarts: 0,
            silence: 0,
        };
        tree.shared_files().for_each(|file| traversal.covered.insert(file));
        traversal
    }

    /// A process lists a directory from its start; true if there may be steps to take.
    pub fn listed(&mut self, tree: &Tree, client: u32, dir: Ino, now: Instant) -> bool {
        self.unread = self.unread.saturating_add(1);
        self.unfollowed = self.unfollowed.saturating_add(1);
        self.reads_files &= self.unread < UNREAD;
        self.follows_links &= self.unfollowed < UNFOLLOWED;
        let Some(parent) = tree.parent(dir) else { return false };
        match self.take(tree, client, dir) {
            Asked::News => {
                let goes_on = dir != Ino::ROOT && self.covered.contains(parent);
                // No directory lists the root: everything lies behind it.
                self.walked(goes_on, now) && self.begin(Cursor::new(client, dir, Ino::ROOT))
            }
            asked => asked == Asked::Progress,
        }
    }

    /// A process reads a file from its start; true if there may be steps to take.
    pub fn read(&mut self, tree: &Tree, client: u32, file: Ino, now: Instant) -> bool {
        if !is_small(tree, file) {
            return false;
        }
        (self.reads_files, self.unread) = (true, 0);
        match (self.take(tree, client, file), tree.directory_of(file)) {
            (Asked::News, Some(dir)) => {
                let goes_on = self.covered.contains(dir);
                self.walked(goes_on, now) && self.begin(Cursor::new(client, dir, file))
            }
            (asked, _) => asked == Asked::Progress,
        }
    }

    /// A symlink is read.
    pub fn followed(&mut self) {
        (self.follows_links, self.unfollowed) = (true, 0);
    }

    /// A process comes to these files next, in this order; true if there may be steps to take.
    pub fn shown(
        &mut self,
        tree: &Tree,
        client: u32,
        files: impl IntoIterator<Item = Ino>,
    ) -> bool {
        let small = files.into_iter().filter(|file| is_small(tree, *file));
        self.shown.extend(small.map(|file| (client, file)));
        self.shown.drain(..self.shown.len().saturating_sub(MAX_SHOWN));
        !self.shown.is_empty()
    }

    /// The next step.
    pub fn next(&mut self, tree: &Tree) -> Next {
        while let Some((client, file)) = self.shown.pop_front() {
            if let Some(dir) = tree.directory_of(file) {
                self.under_way.push_back(file);
                return Next::Step { client, step: Step::Read { dir, file } };
            }
        }
        for _ in 0..LOOKS {
            let Some(at) = self.cursors.iter().rposition(Cursor::may_go_on) else {
                return Next::Nothing;
            };
            let way = self.advance(tree, at);
            let cursor = &mut self.cursors[at];
            match way {
                Way::Step(step) => {
                    cursor.looks = 0;
                    self.under_way.push_back(step.ino());
                    return Next::Step { client: cursor.client, step };
                }
                // The walker has yet to come to what was left, so it stays.
                Way::Over => cursor.is_over = true,
                Way::On => {
                    cursor.looks += 1;
                    cursor.is_over = cursor.looks > MAX_LOOKS;
                }
            }
        }
        Next::Again
    }

    /// The first steps of those under way are done.
    pub fn done(&mut self, steps: usize) {
        self.under_way.drain(..steps.min(self.under_way.len()));
    }

    /// What a step asks for is not to be had without harm: its cursor ends.
    pub fn stop(&mut self, step: Step) {
        let ino = step.ino();
        self.cursors.retain(|cursor| cursor.place != ino);
        self.covered.remove(ino);
    }

    /// Ends what is done for processes that have ended.
    pub fn retain(&mut self, is_alive: impl Fn(u32) -> bool) {
        self.cursors.retain(|cursor| is_alive(cursor.client));
        // As a rule they are all one's.
        let mut asked = (0, false);
        self.shown.retain(|(client, _)| {
            if asked.0 != *client {
                asked = (*client, is_alive(*client));
            }
            asked.1
        });
    }

    /// What it means that something is asked for.
    fn take(&mut self, tree: &Tree, client: u32, ino: Ino) -> Asked {
        if self.silence > 0 {
            self.silence -= 1;
            return Asked::Nothing;
        }
        if let Some(at) = self.cursors.iter_mut().position(|cursor| cursor.reach(ino)) {
            let cursor = self.cursors.remove(at);
            self.cursors.push(cursor);
            self.covered.insert(ino);
            self.strays = 0;
            self.restarts = self.restarts.saturating_sub(2);
            return Asked::Progress;
        }
        if !self.covered.contains(ino) {
            self.covered.insert(ino);
            return Asked::News;
        }
        if self.under_way.contains(&ino) {
            self.cursors.iter_mut().rfind(|cursor| cursor.client == client).map(Cursor::jump);
            return Asked::Progress;
        }
        self.strays += 1;
        if self.strays > STRAYS {
            self.forget(tree, ino);
        }
        Asked::Nothing
    }

    /// What was covered and is asked for again has been dropped, and so has everything like it: listings go
    /// last.
    fn forget(&mut self, tree: &Tree, dropped: Ino) {
        self.strays = 0;
        self.cursors.clear();
        match tree.kind(dropped) {
            FileKind::Directory => self.covered.clear(),
            _ => {
                for ino in tree.inos().filter(|ino| tree.kind(*ino) != FileKind::Directory) {
                    self.covered.remove(ino);
                }
            }
        }
    }

    /// Takes a request for news into account; whether it is part of a walk.
    fn walked(&mut self, goes_on: bool, now: Instant) -> bool {
        let is_hasty = self.last.is_some_and(|last| now.duration_since(last) < HASTE);
        self.last = Some(now);
        self.streak = match (goes_on, is_hasty) {
            (true, true) => self.streak.saturating_add(1),
            // The first of a walk, or a file that has another name in a directory that was listed.
            (false, true) => self.streak,
            (_, false) => u32::from(goes_on),
        };
        goes_on && self.streak >= SURE
    }

    fn begin(&mut self, cursor: Cursor) -> bool {
        self.restarts += 1;
        if self.restarts > RESTARTS {
            self.restarts = 0;
            self.silence = SILENCE;
            self.cursors.clear();
            return false;
        }
        if self.cursors.len() == CURSORS {
            self.cursors.remove(0);
        }
        self.cursors.push(cursor);
        true
    }

    /// Goes on by one name.
    fn advance(&mut self, tree: &Tree, at: usize) -> Way {
        let cursor = &mut self.cursors[at];
        let Some(ino) = tree.listed_after(cursor.dir, cursor.place).next() else {
            // Upwards, behind the directory that was come from.
            return match tree.parent(cursor.dir).filter(|_| cursor.dir != Ino::ROOT) {
                Some(parent) => {
                    (cursor.place, cursor.dir) = (cursor.dir, parent);
                    Way::On
                }
                None => Way::Over,
            };
        };
        let dir = cursor.dir;
        cursor.place = ino;
        let is_covered = self.covered.contains(ino);
        let step = match tree.kind(ino) {
            FileKind::Directory => {
                if tree.child_count(ino) > MAX_NAMES {
                    return Way::On;
                }
                (cursor.dir, cursor.place) = (ino, Ino::ROOT);
                Step::List(ino)
            }
            FileKind::Regular if self.reads_files && is_small(tree, ino) => {
                Step::Read { dir, file: ino }
            }
            FileKind::Symlink if self.follows_links => Step::Follow { dir, link: ino },
            _ => return Way::On,
        };
        if is_covered {
            return Way::On;
        }
        let (units, is_small) = match step {
            Step::List(dir) => (1 + tree.child_count(dir) as u64 / 64, is_leaf(tree, dir)),
            Step::Read { file, .. } => (1 + size(tree, file) / UNIT_BYTES, true),
            // Asking for it is not seen with its directory.
            Step::Follow { .. } => (1, false),
        };
        if cursor.leaves(ino, units, is_small) {
            if let Step::List(_) = step {
                // With all that is in it, of which the kernel knows nothing yet.
                (cursor.dir, cursor.place) = (dir, ino);
                tree.children(ino, 0).for_each(|child| self.covered.insert(child.ino));
            }
            return Way::On;
        }
        self.covered.insert(ino);
        Way::Step(step)
    }
}

/// What a request tells.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Asked {
    /// Of something that has not been asked for or named before.
    News,
    /// How far a walker has come.
    Progress,
    /// Nothing, or nothing that is wanted to be known.
    Nothing,
}

/// Where a cursor has come to.
enum Way {
    Step(Step),
    On,
    Over,
}

/// Whether a directory can be left with all that is in it.
fn is_leaf(tree: &Tree, dir: Ino) -> bool {
    tree.child_count(dir) <= MAX_LEFT_NAMES
        && tree.children(dir, 0).all(|child| tree.kind(child.ino) != FileKind::Directory)
}
