//! Which small files will be read next.
//!
//! # Problem
//!
//! The first READ of a file costs a round trip between two processes, 25 to 40 microseconds, however
//! soon it is answered. Over a tree of small files that is most of what `grep -r` takes. The kernel
//! accepts bytes that it has not asked for, but it has to be known which.
//!
//! # Design
//!
//! A walk lists a directory and reads what is in it. Both are seen here, if only the first time: what
//! the kernel has in memory it does not ask for, and so a guess that was right leaves no trace.
//!
//! - A file is read in a directory that was listed just before: the files listed behind it are
//!   next, up to a *burst*. The first file behind the burst is asked for again, and so on.
//! - Files are read in a directory that was not listed (`cat`, a program that opens what it
//!   needs): nothing at first, then a burst that grows with each such read.
//! - Directory after directory is listed and read: the walk is *hot*, and files are next as soon as
//!   their directory is listed. As right guesses are silent, one directory in
//!   [`PROBE`] is left to be asked for; if none of these reads comes, the walk has ended.
//!
//! A burst is not a list that is made and worked off: reader and pusher run at the same time, and a
//! read further on moves the burst's place forward. The file just behind the one that is read is left
//! out, as its reader is likely to be there first.
//!
//! Readers that are faster than all guesses (`rg` reads what it has listed from the end) only lose by them: when
//! more was read than named in [`TRIAL`] directories, there is silence for [`SILENCE`] reads.
//!
//! Each file is named once. When a directory is come back to and one of its files is read again,
//! because the kernel has dropped it, they may be named again. So what can be wasted is bounded by
//! the small files of the image, whatever the readers do.
//!
//! (Rejected: the order of reads across directories as the criterion. Walkers differ in it, `rg` has
//! none, and all of them list before they read. And for readers that come from the end, files from the start,
//! until they meet: that halves the READs of `rg`, and leaves its time as it is, since both of its threads
//! and this one want the same processors. Where one READ can bring many files, something can be done:
//! `fuse::blobs`.)

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use super::inos::{InoSet, is_small, size};
use crate::tree::{Ino, Tree};

/// Limits of a burst: files and bytes named, and names looked at, as no walk wants to pass over the
/// subdirectories and large files of a huge directory.
const MAX_FILES: usize = 64;
const MAX_BYTES: u64 = 1 << 20;
const MAX_LOOKS: usize = 4 * MAX_FILES;

/// The first burst in a directory that was not listed, at the second read in it.
const FIRST_FILES: usize = 4;

/// Directories whose reads are remembered, and directories listed last.
const VISITS: usize = 16;
const LISTINGS: usize = 16;

/// Directories that must be read after they were listed for a walk to be hot, and as how many a
/// long walk counts.
const WARM_UP: u32 = 2;
const MAX_STREAK: u32 = 8;

/// One in so many directories of a hot walk has to be asked for.
const PROBE: u32 = 8;

/// A hot walk has ended when so many directories were listed and nothing was read.
const COOL_DOWN: u32 = 3 * PROBE;

/// Directories after which it is seen whether the guesses were of use, and reads without any if not.
const TRIAL: u32 = 64;
const SILENCE: u32 = 4096;

/// What the threads that answer the kernel share with [`Window`], which lives on a thread of its own.
#[derive(Debug, Default)]
pub struct Listings {
    /// Inode numbers of the directories listed last, in a ring.
    ring: [AtomicU32; LISTINGS],
    next: AtomicU32,
    is_hot: AtomicBool,
    /// Reads that [`Window::read`] does not want to know of.
    silence: AtomicU32,
}

impl Listings {
    /// Remembers that a directory is being listed; true if [`Window::listed`] wants to know.
    pub fn note(&self, dir: Ino) -> bool {
        let at = self.next.fetch_add(1, Ordering::Relaxed) as usize % LISTINGS;
        self.ring[at].store(dir.number() as u32, Ordering::Relaxed);
        self.is_hot.load(Ordering::Relaxed)
    }

    /// Whether [`Window::read`] wants to know of a read.
    pub fn wants_read(&self) -> bool {
        let less = |left: u32| left.checked_sub(1);
        self.silence.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less).is_err()
    }

    fn contains(&self, dir: Ino) -> bool {
        self.ring.iter().any(|listed| u64::from(listed.load(Ordering::Relaxed)) == dir.number())
    }
}

/// Reads in one directory.
#[derive(Clone, Copy, Debug)]
struct Visit {
    dir: Ino,
    /// Small files that were read, and that were named.
    reads: u32,
    named: u32,
    /// The inode up to which its files were named or overtaken.
    place: Ino,
    /// What is left of the burst: files to name, bytes, and names to look at.
    files: usize,
    bytes: u64,
    looks: usize,
}

impl Visit {
    fn begin_burst(&mut self, files: usize) {
        self.files = files;
        self.bytes = MAX_BYTES;
        self.looks = MAX_LOOKS;
    }
}

/// Guesses what will be read.
#[derive(Debug)]
pub struct Window {
    /// What was named or read.
    named: InoSet,
    /// The latest last; only its burst goes on.
    visits: Vec<Visit>,
    /// Directories that were read after they were listed, less those that were not listed before.
    streak: u32,
    /// Directories listed since anything was read.
    unread: u32,
    is_hot: bool,
    /// Past visits of the trial, and what was read and named in them.
    trial: (u32, u32, u32),
}

impl Window {
    /// For a tree of so many inodes.
    pub fn new(inodes: usize) -> Window {
        Window {
            named: InoSet::new(inodes),
            visits: Vec::with_capacity(VISITS),
            streak: 0,
            unread: 0,
            is_hot: false,
            trial: (0, 0, 0),
        }
    }

    /// The kernel has asked for the start of a file.
    pub fn read(&mut self, tree: &Tree, listings: &Listings, file: Ino) {
        let Some(dir) = tree.directory_of(file) else { return };
        self.unread = 0;
        let was_listed = listings.contains(dir);
        let (mut visit, is_new) = self.take_visit(listings, dir);
        if is_new {
            // A walk comes back to directories that it has listed long ago.
            self.streak = match was_listed {
                true => (self.streak + 1).min(MAX_STREAK),
                false => self.streak.saturating_sub(1),
            };
            self.set_hot(listings, self.streak > WARM_UP);
        }
        if visit.reads == 0 && visit.named == 0 && self.named.contains(file) {
            // On an earlier visit. The kernel has dropped it, and probably those listed with it.
            for sibling in tree.listed_after(dir, file).take(MAX_LOOKS) {
                self.named.remove(sibling);
            }
        }
        if file > visit.place || !self.named.contains(file) {
            let mut behind = tree.listed_after(dir, file).take(MAX_LOOKS);
            let behind = behind.find(|ino| is_small(tree, *ino));
            visit.place = behind.unwrap_or(file);
        }
        self.named.insert(file);
        visit.begin_burst(match (was_listed, visit.reads) {
            (true, _) => MAX_FILES,
            (false, 0) => 0,
            (false, reads) => (FIRST_FILES << (reads - 1).min(8)).min(MAX_FILES),
        });
        visit.reads = visit.reads.saturating_add(u32::from(is_small(tree, file)));
        self.visits.push(visit);
    }

    /// The kernel lists a directory.
    pub fn listed(&mut self, listings: &Listings, dir: Ino) {
        self.unread += 1;
        if self.unread > COOL_DOWN {
            self.streak = 0;
            self.set_hot(listings, false);
        }
        if self.is_hot && !self.unread.is_multiple_of(PROBE) {
            let (mut visit, _) = self.take_visit(listings, dir);
            visit.begin_burst(MAX_FILES);
            self.visits.push(visit);
        }
    }

    /// The file that is next to be given to the kernel, if any.
    pub fn next(&mut self, tree: &Tree) -> Option<Ino> {
        let mut visit = self.visits.pop()?;
        let mut found = None;
        while found.is_none() && visit.files > 0 && visit.looks > 0 {
            let Some(ino) = tree.listed_after(visit.dir, visit.place).next() else { break };
            visit.place = ino;
            visit.looks -= 1;
            if is_small(tree, ino) && !self.named.contains(ino) {
                let size = size(tree, ino);
                visit.files = if size > visit.bytes { 0 } else { visit.files - 1 };
                visit.bytes = visit.bytes.saturating_sub(size);
                visit.named = visit.named.saturating_add(1);
                self.named.insert(ino);
                found = Some(ino);
            }
        }
        self.visits.push(visit);
        found
    }

    /// Ends the burst: the next file is not cached, or the kernel does not take it.
    pub fn stop(&mut self) {
        if let Some(visit) = self.visits.last_mut() {
            visit.files = 0;
        }
    }

    /// The visit of a directory, taken out of the list, and whether it is a new one.
    fn take_visit(&mut self, listings: &Listings, dir: Ino) -> (Visit, bool) {
        if let Some(at) = self.visits.iter().position(|visit| visit.dir == dir) {
            return (self.visits.remove(at), false);
        }
        if self.visits.len() == VISITS {
            let past = self.visits.remove(0);
            self.judge(listings, &past);
        }
        // No directory lists the root: all it lists lies behind.
        let place = Ino::ROOT;
        (Visit { dir, reads: 0, named: 0, place, files: 0, bytes: 0, looks: 0 }, true)
    }

    /// Takes a visit into account that is over.
    fn judge(&mut self, listings: &Listings, past: &Visit) {
        let (visits, reads, named) = &mut self.trial;
        *visits += 1;
        *reads = reads.saturating_add(past.reads);
        *named = named.saturating_add(past.named);
        if *visits < TRIAL {
            return;
        }
        // Where nothing was named there is nothing to be lost.
        if *named > 0 && reads > named {
            self.streak = 0;
            self.set_hot(listings, false);
            listings.silence.store(SILENCE, Ordering::Relaxed);
        }
        self.trial = (0, 0, 0);
    }

    fn set_hot(&mut self, listings: &Listings, is_hot: bool) {
        self.is_hot = is_hot;
        listings.is_hot.store(is_hot, Ordering::Relaxed);
    }
}
