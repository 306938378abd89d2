//! Requests that end the process which answers them.
//!
//! # Problem
//!
//! The kernel sends what a dead process has not answered to the next one. What has killed the first, by a fault of this
//! program or by the memory that it takes, kills that one too, and for ever.
//!
//! # Design
//!
//! When workers die one after the other, the supervisor has the next ones be *careful*. A careful worker does one thing
//! at a time, and writes down what, before it begins, in a page of memory that the supervisor hands from one to the next. It was
//! that, or nothing of the kind, if the worker dies. What several workers in a row were doing when they died is refused
//! with EIO from then on, by what it is about and not by its number: a program that has got an error asks again.
//!
//! A death by a signal of the processor or an abort is the worker's own. `SIGKILL` may be the kernel's, for want of memory, which
//! the worker or another process may have taken, and counts for less; and where the kernel has killed nobody it was some other
//! process, which knows nothing of requests, and counts for little: something that watches over memory in its place may be it.
//! Whatever is answered is suspected no more.
//!
//! For most of its life a worker is not careful, and all of this costs one look at a flag.
//!
//! One thing at a time must not mean that a slow registry keeps everything waiting: what has waited for its turn for
//! [`PATIENCE`] goes ahead without one, and is suspected of nothing.
//!
//! (Rejected: to write down every request always. Two system calls each, for what happens never. To refuse by the kernel's
//! number of the request, in the supervisor: it would read what strangers have asked for, and the same question would come
//! again under another number. To suspect all that was under way: a read that waits for the network would be refused, as it
//! is always under way.)
//!
//! # Invariants
//!
//! - What was refused stays refused as long as the mount lasts.
//! - The page has a fixed number of places: when all are taken, the least suspected loses its own.

use std::cell::RefCell;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
use xxhash_rust::xxh3::xxh3_64;

/// What one death counts, and how much makes a request refused.
const CRASH: u32 = 8;
const NO_MEMORY: u32 = 3;
const KILL: u32 = 1;
const LIMIT: u32 = 24;

/// How long a worker is careful.
const CAREFUL: Duration = Duration::from_secs(10);

/// How long something waits for its turn.
const PATIENCE: Duration = Duration::from_secs(1);

/// Requests that are remembered.
const PLACES: usize = 64;

/// The page: how the last worker ended and whether the next is careful, what is done by loops and by the pool, and rows.
const PAGE_BYTES: u64 = 4096;
const DOING_AT: [u64; 2] = [8, 16];
const ROWS_AT: u64 = 64;
const ROW_BYTES: u64 = 16;

/// How a worker has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Death {
    /// By a fault of its own.
    Crash,
    /// By `SIGKILL`, which may be for want of memory.
    NoMemory,
    /// By `SIGKILL` from another process.
    Kill,
}

/// What a request is about: a method, and a file or a part of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Subject(u64);

impl Subject {
    pub(super) fn new(method: &str, ino: u64, part: u64) -> Subject {
        let text = [method.as_bytes(), &ino.to_le_bytes(), &part.to_le_bytes()].concat();
        Subject(xxh3_64(&text).max(1))
    }
}

/// Who does something: a loop that reads requests, or a thread of the pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Doer {
    Loop,
    Pool,
}

/// What is suspected to end workers.
#[derive(Debug)]
pub struct Suspects {
    page: File,
    /// Whether there is something to look at: it is careful, or something is refused.
    watches: AtomicBool,
    careful_until: Option<Instant>,
    rows: Mutex<Vec<Row>>,
    turns: [Turnstile; 2],
}

#[derive(Clone, Copy, Debug)]
struct Row {
    subject: u64,
    counts: u32,
}

/// Lets one through at a time.
#[derive(Debug, Default)]
struct Turnstile {
    is_taken: Mutex<bool>,
    freed: Condvar,
}

thread_local! {
    /// What this thread answers, while it is careful.
    static ANSWERED: RefCell<Option<Answered>> = const { RefCell::new(None) };
}

#[derive(Clone, Debug)]
struct Answered {
    suspects: Arc<Suspects>,
    subject: Subject,
    /// Whether another thread goes on with it.
    is_handed_on: bool,
}

impl Suspects {
    /// None.
    ///
    /// # Errors
    /// There is no memory for the page.
    pub fn new() -> io::Result<Suspects> {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let page = memfd_create(c"ocifs-suspects", flags)?;
        rustix::fs::ftruncate(&page, PAGE_BYTES)?;
        fcntl_add_seals(&page, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?;
        Suspects::read(page.into())
    }

    /// Those that another process hands over, with what this one has to know of the last worker.
    ///
    /// # Errors
    /// It is no such page.
    pub fn of(page: OwnedFd) -> io::Result<Suspects> {
        let suspects = Suspects::read(page.into())?;
        let how = suspects.word(0)?;
        let counts = match how & 0xff {
            0 => 0,
            1 => KILL,
            2 => NO_MEMORY,
            _ => CRASH,
        };
        for at in DOING_AT {
            let subject = suspects.word(at)?;
            if subject != 0 && counts > 0 {
                suspects.charge(subject, counts)?;
            }
            suspects.write(at, 0)?;
        }
        let is_careful = how >> 8 != 0;
        let careful_until = is_careful.then(|| Instant::now() + CAREFUL);
        let watches = AtomicBool::new(is_careful || suspects.refused() > 0);
        Ok(Suspects { careful_until, watches, ..suspects })
    }

    fn read(page: File) -> io::Result<Suspects> {
        let mut suspects = Suspects {
            page,
            watches: AtomicBool::new(false),
            careful_until: None,
            rows: Mutex::default(),
            turns: Default::default(),
        };
        let mut rows = Vec::new();
        for at in 0..PLACES as u64 {
            let at = ROWS_AT + at * ROW_BYTES;
            let (subject, counts) = (suspects.word(at)?, suspects.word(at + 8)?);
            rows.push(Row { subject, counts: counts.min(u64::from(LIMIT)) as u32 });
        }
        suspects.rows = Mutex::new(rows);
        Ok(suspects)
    }

    /// Says how the last worker has ended, and whether the next one is to be careful.
    ///
    /// # Errors
    /// It can't be written.
    pub fn died(&self, how: Death, next_is_careful: bool) -> io::Result<()> {
        let how = match how {
            Death::Kill => 1,
            Death::NoMemory => 2,
            Death::Crash => 3,
        };
        self.write(0, how | u64::from(next_is_careful) << 8)
    }

    fn word(&self, at: u64) -> io::Result<u64> {
        let mut word = [0; 8];
        self.page.read_exact_at(&mut word, at)?;
        Ok(u64::from_le_bytes(word))
    }

    fn write(&self, at: u64, word: u64) -> io::Result<()> {
        self.page.write_all_at(&word.to_le_bytes(), at)
    }

    fn rows(&self) -> MutexGuard<'_, Vec<Row>> {
        self.rows.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many subjects are refused.
    pub fn refused(&self) -> usize {
        self.rows().iter().filter(|row| row.counts >= LIMIT).count()
    }

    fn is_refused(&self, subject: Subject) -> bool {
        self.rows().iter().any(|row| row.subject == subject.0 && row.counts >= LIMIT)
    }

    fn charge(&self, subject: u64, counts: u32) -> io::Result<()> {
        let mut rows = self.rows();
        let known = rows.iter().position(|row| row.subject == subject);
        let least = || (0..rows.len()).min_by_key(|at| rows[*at].counts);
        let Some(at) = known.or_else(least) else { return Ok(()) };
        let before = if known.is_some() { rows[at].counts } else { 0 };
        rows[at] = Row { subject, counts: (before + counts).min(LIMIT) };
        self.write_row(at, rows[at])
    }

    /// What was answered has killed nobody.
    fn clear(&self, subject: Subject) {
        let mut rows = self.rows();
        let known = rows.iter().position(|row| row.subject == subject.0);
        if let Some(at) = known.filter(|at| rows[*at].counts < LIMIT) {
            rows[at] = Row { subject: 0, counts: 0 };
            self.tell(self.write_row(at, rows[at]));
        }
    }

    fn write_row(&self, at: usize, row: Row) -> io::Result<()> {
        let at = ROWS_AT + at as u64 * ROW_BYTES;
        self.write(at + 8, row.counts.into())?;
        self.write(at, row.subject)
    }

    fn tell(&self, result: io::Result<()>) {
        if let Err(e) = result {
            log::debug!("suspects: {e}");
        }
    }

    fn is_careful(&self) -> bool {
        self.careful_until.is_some_and(|until| Instant::now() < until)
    }

    /// Waits for the turn of a doer, and writes down what it does.
    fn begin(self: &Arc<Self>, subject: Subject, doer: Doer) -> Option<Doing> {
        if !self.turns[doer as usize].take() {
            return None;
        }
        self.tell(self.write(DOING_AT[doer as usize], subject.0));
        Some(Doing { suspects: Arc::clone(self), subject, doer })
    }

    /// Begins to answer a request.
    pub(super) fn enter(self: &Arc<Self>, subject: impl FnOnce() -> Subject) -> Entry {
        if !self.watches.load(Ordering::Relaxed) {
            return Entry::Free;
        }
        let subject = subject();
        if self.is_refused(subject) {
            return Entry::Refused;
        }
        if !self.is_careful() {
            self.watches.store(self.refused() > 0, Ordering::Relaxed);
            return Entry::Free;
        }
        let doing = self.begin(subject, Doer::Loop);
        let suspects = Arc::clone(self);
        ANSWERED.replace(Some(Answered { suspects, subject, is_handed_on: false }));
        Entry::Careful(Answering(doing))
    }
}

impl AsFd for Suspects {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.page.as_fd()
    }
}

/// What becomes of a request.
#[derive(Debug)]
pub(super) enum Entry {
    /// It is answered like any other.
    Free,
    /// It is answered while nothing else is.
    Careful(#[allow(dead_code, reason = "it is kept until the answer")] Answering),
    /// It is not answered but by an error.
    Refused,
}

/// A loop answers a request, until this is dropped.
#[derive(Debug)]
pub(super) struct Answering(Option<Doing>);

impl Drop for Answering {
    fn drop(&mut self) {
        if let Some(answered) = ANSWERED.replace(None)
            && !answered.is_handed_on
        {
            answered.suspects.clear(answered.subject);
        }
        drop(self.0.take());
    }
}

/// Something is done, until this is dropped.
#[derive(Debug)]
pub(super) struct Doing {
    suspects: Arc<Suspects>,
    subject: Subject,
    doer: Doer,
}

impl Drop for Doing {
    fn drop(&mut self) {
        let Doing { suspects, subject, doer } = self;
        suspects.tell(suspects.write(DOING_AT[*doer as usize], 0));
        // The rest of it is another thread's.
        if *doer == Doer::Pool {
            suspects.clear(*subject);
        }
        suspects.turns[*doer as usize].leave();
    }
}

/// A job for another thread, which is part of the answer that this thread is giving.
pub(super) fn part_of_answer(job: impl FnOnce() + Send + 'static) -> Box<dyn FnOnce() + Send> {
    let answered = ANSWERED.with_borrow_mut(|answered| {
        let answered = answered.as_mut()?;
        answered.is_handed_on = true;
        Some(answered.clone())
    });
    match answered {
        None => Box::new(job),
        Some(Answered { suspects, subject, .. }) => Box::new(move || {
            let _doing = suspects.begin(subject, Doer::Pool);
            job();
        }),
    }
}

impl Turnstile {
    /// Waits for its turn; false if it does not come soon.
    fn take(&self) -> bool {
        let is_taken = self.is_taken.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.freed.wait_timeout_while(is_taken, PATIENCE, |is_taken| *is_taken);
        let (mut is_taken, _) = waited.unwrap_or_else(PoisonError::into_inner);
        !std::mem::replace(&mut *is_taken, true)
    }

    fn leave(&self) {
        *self.is_taken.lock().unwrap_or_else(PoisonError::into_inner) = false;
        self.freed.notify_one();
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn next(last: &Suspects) -> Arc<Suspects> {
        Arc::new(Suspects::of(last.page.try_clone().unwrap().into()).unwrap())
    }

    /// A worker that dies while it does this.
    fn dies(suspects: &Arc<Suspects>, subject: Subject, how: Death) -> Arc<Suspects> {
        match suspects.enter(|| subject) {
            Entry::Careful(answering) => std::mem::forget(answering),
            other => panic!("{other:?}"),
        }
        ANSWERED.replace(None);
        suspects.died(how, true).unwrap();
        next(suspects)
    }

    fn careful() -> Arc<Suspects> {
        let supervisor = Suspects::new().unwrap();
        assert!(matches!(next(&supervisor).enter(|| panic!("it is not asked")), Entry::Free));
        supervisor.died(Death::Crash, true).unwrap();
        next(&supervisor)
    }

    #[test]
    fn what_ends_several_workers_is_refused() {
        for (how, deaths) in [(Death::Crash, 3), (Death::NoMemory, 8), (Death::Kill, 24)] {
            let (bad, good) = (Subject::new("read", 7, 0), Subject::new("read", 8, 0));
            let mut suspects = careful();
            for _ in 0..deaths {
                assert_eq!(suspects.refused(), 0);
                assert!(!matches!(suspects.enter(|| good), Entry::Refused));
                suspects = dies(&suspects, bad, how);
            }
            assert!(matches!(suspects.enter(|| bad), Entry::Refused), "{how:?}");
            assert!(!matches!(suspects.enter(|| good), Entry::Refused), "{how:?}");
            // Also by those who are not careful any more.
            suspects.died(Death::Kill, false).unwrap();
            let later = next(&suspects);
            assert!(matches!(later.enter(|| bad), Entry::Refused), "{how:?}");
            assert!(matches!(later.enter(|| good), Entry::Free), "{how:?}");
        }
    }

    #[test]
    fn what_was_answered_is_suspected_no_more() {
        let subject = Subject::new("read", 7, 0);
        let mut suspects = careful();
        for _ in 0..20 {
            suspects = dies(&suspects, subject, Death::Crash);
            let entry = suspects.enter(|| subject);
            assert!(matches!(entry, Entry::Careful(_)));
            let (job, done) = (part_of_answer(|| {}), std::sync::mpsc::channel());
            drop(entry);
            std::thread::spawn(move || {
                job();
                done.0.send(()).unwrap();
            });
            done.1.recv().unwrap();
        }
        assert_eq!(suspects.refused(), 0);
    }

    #[test]
    fn a_slow_one_keeps_the_others_waiting_for_a_moment_only() {
        let suspects = careful();
        let slow = suspects.begin(Subject::new("read", 7, 0), Doer::Pool);
        assert!(slow.is_some());
        assert!(suspects.begin(Subject::new("read", 8, 0), Doer::Pool).is_none());
        drop(slow);
        assert!(suspects.begin(Subject::new("read", 9, 0), Doer::Pool).is_some());
    }

    #[test]
    fn many_suspects_take_no_more_room() {
        let mut suspects = careful();
        for ino in 0..2 * PLACES as u64 {
            suspects = dies(&suspects, Subject::new("read", ino, 0), Death::Kill);
        }
        assert_eq!(suspects.refused(), 0);
        assert_eq!(suspects.rows().len(), PLACES);
    }
}
