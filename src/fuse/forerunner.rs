//! A process that goes before walks.
//!
//! # Problem
//!
//! Over a tree of small things the first `find`, `grep -r` or `tar` asks for each of them, waits, and
//! has the processor that it runs on idle meanwhile. Had somebody else asked before it, the answers would
//! be in the kernel's caches.
//!
//! # Design
//!
//! That somebody is a process of our own, the *forerunner*: it lists directories of the mount, opens small
//! files and has the kernel read them ahead (`posix_fadvise(2)`), as any user might. [`Course`] says where
//! to, from the requests of others; what of it is at hand goes to the forerunner as *stages* of a
//! few steps, and it answers each with a byte. At most two stages are under way, so that the
//! course can still be changed. It is started when the first walk is seen.
//!
//! # Why a process
//!
//! Whoever asks this process for something must not be part of it. If it is killed, the kernel closes the
//! connection only when all its threads have ended, and a thread that waits for an answer in
//! the kernel does not end. For the same reason the forerunner must not have the device open: all
//! our descriptors are closed when a program is started.
//!
//! # Invariants
//!
//! - All of it is a hint. What the forerunner asks for is answered like everything else; nobody waits for it.
//! - Only what is at hand is named, so it makes nothing be fetched.
//! - A mount that is in use can't be unmounted. The forerunner uses it only while it has stages to work on, a
//!   few milliseconds, and stops as soon as the process that walks has ended.
//! - Its process number, in every request, keeps it from being taken for a walk itself. If that number is not
//!   seen (another namespace), it is given up.
//!
//! (Rejected: pushing contents with FUSE_NOTIFY_STORE, which `fuse::pusher` does and which saves the request
//! altogether. It was slower in each bench, as it does nothing about listings, and a reader may hang when
//! the process is killed.)

mod process;
mod stage;

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Instant;

use crate::fs::{Course, Filesystem, Step};
use crate::tree::Ino;

pub use process::run;
use stage::Stage;

/// Steps of a stage.
const STAGE_STEPS: usize = 16;

/// Stages under way.
const WINDOW: usize = 2;

/// Stages in which nothing is asked for under the process number of the forerunner, if it is known. (In
/// one, everything may have been in the kernel's caches.)
const MAX_UNSEEN: u32 = 8;

/// How the forerunner is started.
#[derive(Clone, Debug)]
pub struct Program {
    /// The program, which calls [`run`].
    pub path: PathBuf,
    /// Its arguments; those that [`run`] needs follow: the connection and the mount point.
    pub arguments: Vec<String>,
}

/// A mount to go over.
#[derive(Clone, Debug)]
pub struct Place {
    /// Where it is.
    pub mount_point: PathBuf,
    /// Its connection: the minor number of its device.
    pub connection: u32,
}

/// What the threads that answer the kernel tell, and whom.
#[derive(Debug)]
pub(super) struct Forerunner(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    filesystem: Arc<Filesystem>,
    state: Mutex<State>,
    news: Condvar,
    /// The process, 0 while there is none.
    pid: AtomicU32,
    /// Whether a request of it has come.
    is_seen: AtomicBool,
    /// Whether anything is done any more.
    is_off: AtomicBool,
}

#[derive(Debug)]
struct State {
    course: Course,
    has_news: bool,
    /// Who has asked for something last.
    client: u32,
}

impl Forerunner {
    /// Begins to wait for walks.
    pub(super) fn new(
        filesystem: &Arc<Filesystem>,
        program: Program,
        place: Place,
    ) -> io::Result<Forerunner> {
        let course = Course::new(filesystem.tree());
        let shared = Arc::new(Shared {
            filesystem: Arc::clone(filesystem),
            state: Mutex::new(State { course, has_news: false, client: 0 }),
            news: Condvar::new(),
            pid: AtomicU32::new(0),
            is_seen: AtomicBool::new(false),
            is_off: AtomicBool::new(false),
        });
        let own = Arc::clone(&shared);
        let work = move || {
            if let Err(e) = serve(&own, &program, &place) {
                log::info!("nobody goes before walks: {e}");
            }
            own.is_off.store(true, Ordering::Relaxed);
        };
        thread::Builder::new().name("forerunner".into()).spawn(work)?;
        Ok(Forerunner(shared))
    }

    /// Whether this is the number of the forerunner.
    pub(super) fn asks(&self, pid: u32) -> bool {
        let is_own = pid == self.0.pid.load(Ordering::Relaxed) && pid != 0;
        if is_own && !self.0.is_seen.load(Ordering::Relaxed) {
            self.0.is_seen.store(true, Ordering::Relaxed);
        }
        is_own
    }

    /// A directory is listed from its start, by this process.
    pub(super) fn listed(&self, pid: u32, dir: Ino) {
        self.tell(pid, |course| course.listed(self.0.filesystem.tree(), dir, Instant::now()));
    }

    /// A file was read from its start.
    pub(super) fn read(&self, pid: u32, file: Ino) {
        self.tell(pid, |course| course.read(self.0.filesystem.tree(), file, Instant::now()));
    }

    /// A symlink was read.
    pub(super) fn followed(&self, pid: u32) {
        self.tell(pid, |course| {
            course.followed();
            false
        });
    }

    fn tell(&self, pid: u32, news: impl FnOnce(&mut Course) -> bool) {
        // A process of another namespace has no number, and so can't be seen to end.
        if self.0.is_off.load(Ordering::Relaxed) || self.asks(pid) || pid == 0 {
            return;
        }
        let mut state = self.0.lock();
        state.client = pid;
        if news(&mut state.course) {
            state.has_news = true;
            drop(state);
            self.0.news.notify_one();
        }
    }
}

impl Drop for Forerunner {
    fn drop(&mut self) {
        self.0.is_off.store(true, Ordering::Relaxed);
        self.0.lock().has_news = true;
        self.0.news.notify_one();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for news.
    fn wait(&self) {
        let state = self.lock();
        let waited = self.news.wait_while(state, |state| !state.has_news);
        waited.unwrap_or_else(PoisonError::into_inner).has_news = false;
    }

    /// The next stage, and how many steps it took; it may have fewer, as not all is at hand.
    fn next_stage(&self) -> (Stage, usize) {
        let tree = self.filesystem.tree();
        let client = self.lock().client;
        let mut stage = Stage::new(client);
        if !process::is_alive(client) {
            self.lock().course.stop_all();
        }
        for steps in 0..STAGE_STEPS {
            let Some(step) = self.lock().course.next(tree) else { return (stage, steps) };
            match step {
                Step::Read { file, .. } if !self.filesystem.is_at_hand(file) => {
                    self.lock().course.stop();
                }
                step => stage.add(tree, step),
            }
        }
        (stage, STAGE_STEPS)
    }
}

/// Sends stages until there is nobody any more to tell of walks.
fn serve(shared: &Shared, program: &Program, place: &Place) -> io::Result<()> {
    let mut process = None;
    loop {
        shared.wait();
        while !shared.is_off.load(Ordering::Relaxed) {
            let (stage, steps) = shared.next_stage();
            if steps == 0 {
                break;
            }
            let process = match &mut process {
                Some(process) => process,
                none => none.insert(Process::start(shared, program, place)?),
            };
            process.send(shared, stage, steps)?;
        }
        if let Some(process) = &mut process {
            process.wait_for_all(shared)?;
        }
        if shared.is_off.load(Ordering::Relaxed) {
            return Ok(());
        }
    }
}

/// The process, as we see it.
#[derive(Debug)]
struct Process {
    child: Child,
    stages: Option<ChildStdin>,
    answers: ChildStdout,
    /// Steps of the stages under way.
    under_way: VecDeque<usize>,
    /// Stages that were done before a request of it was seen.
    unseen: u32,
}

impl Process {
    fn start(shared: &Shared, program: &Program, place: &Place) -> io::Result<Process> {
        let mut child = Command::new(&program.path)
            .args(&program.arguments)
            .arg(place.connection.to_string())
            .arg(&place.mount_point)
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        shared.pid.store(child.id(), Ordering::Relaxed);
        let (Some(stages), Some(answers)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(io::Error::other("a process without pipes"));
        };
        Ok(Process { child, stages: Some(stages), answers, under_way: VecDeque::new(), unseen: 0 })
    }

    /// Sends a stage, as soon as there is room for it.
    fn send(&mut self, shared: &Shared, stage: Stage, steps: usize) -> io::Result<()> {
        if self.under_way.len() == WINDOW {
            self.wait_for_one(shared)?;
        }
        if let Some(stages) = &mut self.stages {
            stages.write_all(&stage.finish())?;
        }
        self.under_way.push_back(steps);
        Ok(())
    }

    fn wait_for_one(&mut self, shared: &Shared) -> io::Result<()> {
        self.answers.read_exact(&mut [0])?;
        if !shared.is_seen.load(Ordering::Relaxed) {
            self.unseen += 1;
            if self.unseen == MAX_UNSEEN {
                return Err(io::Error::other("its requests come under another process number"));
            }
        }
        if let Some(steps) = self.under_way.pop_front() {
            shared.lock().course.done(steps);
        }
        Ok(())
    }

    fn wait_for_all(&mut self, shared: &Shared) -> io::Result<()> {
        while !self.under_way.is_empty() {
            self.wait_for_one(shared)?;
        }
        Ok(())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // The end of its input is its end.
        drop(self.stages.take());
        if let Err(e) = self.child.wait() {
            log::debug!("the forerunner: {e}");
        }
    }
}
