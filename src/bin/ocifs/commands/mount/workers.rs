//! The processes that serve a mount, one after the other, as their supervisor sees them.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, ExitCode, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use ocifs::fuse::Suspects;
use ocifs::mount::Kept;
use ocifs::space::Journal;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::retry_on_intr;
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::control::{Word, WorkerSocket};
use super::errands::Helpers;
use super::handover::{self, Handed, Secrets};
use super::start::{Program, ended_early};
use crate::commands::process::GRACE;
use crate::render::errors::AnyError;
use crate::variables;

/// A folder, whatever its path leads to: device and inode.
pub(super) type FolderId = (u64, u64);

/// A version of a file: its time in seconds and nanoseconds, size and inode.
pub(super) type ListId = (i64, i64, u64, u64);

/// How long the rest of a word may take that has begun. The longest is written at once.
const WITHIN_A_WORD: Duration = Duration::from_secs(10);

/// The name under which workers are shown.
const NAME: &str = "ocifs-worker";

/// Whether the kernel tells of the end of a process as it is to be told here (Linux 5.3).
pub(super) fn is_possible() -> bool {
    pidfd_open(rustix::process::getpid(), PidfdFlags::empty()).is_ok()
}

/// What workers are started with.
pub(super) struct Workers {
    pub(super) program: Program,
    pub(super) secrets: Secrets,
    /// How long requests wait for one.
    pub(super) patience: Duration,
    pub(super) has_log_file: bool,
    /// The folder of the cache, which is looked at now and then.
    pub(super) cache: Option<PathBuf>,
    /// Whether the mount is for a user namespace with one ID.
    pub(super) has_one_id: bool,
    /// A file that is looked at now and then, too: what is shown depends on it.
    pub(super) list: Option<PathBuf>,
    /// What was looked up, where that counts: workers write there, and this process reads nothing of it.
    pub(super) journal: Option<Journal>,
    /// What has ended workers: they write there, and this process only how each of them has ended.
    pub(super) suspects: Suspects,
    /// Whether a worker that has died is replaced.
    pub(super) are_replaced: bool,
    /// Whether the image comes on the standard input.
    pub(super) have_input: bool,
}

/// A worker that was started and not yet waited for.
pub(super) struct Worker {
    pub(super) child: Child,
    /// It becomes readable when the process has ended, all threads of it.
    pub(super) end: OwnedFd,
    /// Until it is closed at the other end.
    pub(super) socket: Option<WorkerSocket>,
    /// The same, of what it asks for.
    pub(super) errands: Option<UnixStream>,
    /// Whether it may read requests.
    pub(super) may_read: bool,
}

impl Workers {
    /// Starts the first worker, or another for a mount.
    pub(super) fn start(&self, kept: Option<&Kept>) -> Result<Worker, AnyError> {
        self.start_with(&self.program, kept)
    }

    /// The same with another version of this program.
    pub(super) fn start_with(
        &self,
        program: &Program,
        kept: Option<&Kept>,
    ) -> Result<Worker, AnyError> {
        let starting = |e| format!("starting the serving process: {e}");
        let (errands, asked) = UnixStream::pair().map_err(starting)?;
        bound(&errands).map_err(starting)?;
        let text = kept.map(Kept::to_bytes).transpose().map_err(starting)?.unwrap_or_default();
        let mut descriptors = vec![asked.as_fd(), self.suspects.as_fd()];
        descriptors.extend(kept.map(Kept::as_fd));
        descriptors.extend(self.journal.as_ref().map(Journal::as_fd));
        let handed = Handed { descriptors: &descriptors, secrets: &self.secrets, kept: &text };
        let (child, ours) =
            self.spawn(program, NAME, variables::WORKER, &handed).map_err(starting)?;
        let pid = Pid::from_child(&child);
        let end = pidfd_open(pid, PidfdFlags::empty()).map_err(|e| starting(e.into()))?;
        let socket = Some(WorkerSocket::new(ours));
        Ok(Worker { child, end, socket, errands: Some(errands), may_read: false })
    }

    /// The folder of the cache that there is now.
    pub(super) fn cache_folder(&self) -> Option<FolderId> {
        let metadata = self.cache.as_ref()?.metadata().ok()?;
        Some((metadata.dev(), metadata.ino()))
    }

    /// What is known of the list without reading it.
    pub(super) fn list_now(&self) -> Option<ListId> {
        let metadata = self.list.as_ref()?.metadata().ok()?;
        Some((metadata.mtime(), metadata.mtime_nsec(), metadata.size(), metadata.ino()))
    }

    /// Starts a process that searches for a credential; where its answer will come.
    fn search(&self, question: &[u8]) -> io::Result<(Child, UnixStream)> {
        let (ours, theirs) = UnixStream::pair()?;
        let descriptors = &[theirs.as_fd()];
        let handed = Handed { descriptors, secrets: &self.secrets, kept: question };
        let name = env!("CARGO_BIN_NAME");
        let (child, _) = self.spawn(&self.program, name, variables::SEARCH, &handed)?;
        Ok((child, ours))
    }

    /// Starts this program with the variable that says what as, and hands something over.
    fn spawn(
        &self,
        program: &Program,
        name: &str,
        variable: &str,
        handed: &Handed<'_>,
    ) -> io::Result<(Child, UnixStream)> {
        let (ours, theirs) = handover::send(handed)?;
        bound(&ours)?;
        let mut command = program.command(name);
        if self.has_one_id {
            command.env(variables::ONE_ID, "1");
        }
        if self.have_input && variable == variables::WORKER {
            command.stdin(Stdio::inherit());
        }
        let mut child = command.env(variable, variables::WORKER_VERSION).stdout(theirs).spawn()?;
        // It has the other end, too.
        drop(command);
        // If it ends before it has read them, that is seen later; if it does not read them, it is to end.
        if handover::send_texts(&ours, handed).is_err() {
            let _ = child.kill();
        }
        Ok((child, ours))
    }
}

/// Bounds how long this process waits within a word, of a worker that is stopped or taken over by strangers.
fn bound(socket: &UnixStream) -> io::Result<()> {
    socket.set_read_timeout(Some(WITHIN_A_WORD))?;
    socket.set_write_timeout(Some(WITHIN_A_WORD))
}

impl Worker {
    pub(super) fn word(&mut self) -> io::Result<Option<Word>> {
        let Some(socket) = &self.socket else { return Ok(None) };
        let word = socket.word()?;
        if word.is_none() {
            self.socket = None;
        }
        Ok(word)
    }

    /// Waits for its next word, and does what it asks for meanwhile.
    pub(super) fn word_while(
        &mut self,
        workers: &Workers,
        helpers: &mut Helpers,
    ) -> io::Result<Option<Word>> {
        while let Some(socket) = &self.socket {
            let mut waits = vec![PollFd::new(socket, PollFlags::IN)];
            waits.extend(self.errands.as_ref().map(|errands| PollFd::new(errands, PollFlags::IN)));
            match poll(&mut waits, None) {
                Err(rustix::io::Errno::INTR) => continue,
                ready => ready?,
            };
            let is_asked = waits.get(1).is_some_and(|wait| !wait.revents().is_empty());
            let has_word = !waits[0].revents().is_empty();
            if is_asked {
                self.help(workers, helpers)?;
            }
            if has_word {
                return self.word();
            }
        }
        Ok(None)
    }

    /// What it says now, doing what it asks for: nothing yet, a word, or that there will be none.
    pub(super) fn next_word(
        &mut self,
        workers: &Workers,
        helpers: &mut Helpers,
    ) -> io::Result<Option<Option<Word>>> {
        let Some(socket) = &self.socket else { return Ok(Some(None)) };
        let mut waits = vec![PollFd::new(socket, PollFlags::IN)];
        waits.extend(self.errands.as_ref().map(|errands| PollFd::new(errands, PollFlags::IN)));
        retry_on_intr(|| poll(&mut waits, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })))?;
        let is_asked = waits.get(1).is_some_and(|wait| !wait.revents().is_empty());
        let has_word = !waits[0].revents().is_empty();
        if is_asked {
            self.help(workers, helpers)?;
        }
        if has_word { self.word().map(Some) } else { Ok(None) }
    }

    /// Does what it asks for next.
    pub(super) fn help(&mut self, workers: &Workers, helpers: &mut Helpers) -> io::Result<()> {
        let Some(errands) = &self.errands else { return Ok(()) };
        if !helpers.serve(errands, |question| workers.search(question))? {
            self.errands = None;
        }
        Ok(())
    }

    /// Tells it something. If it has died meanwhile, that is seen next.
    pub(super) fn tell(&self, say: impl FnOnce(&WorkerSocket) -> io::Result<()>) -> io::Result<()> {
        match self.socket.as_ref().map(say) {
            Some(Err(e)) if e.kind() != io::ErrorKind::BrokenPipe => Err(e),
            _ => Ok(()),
        }
    }

    /// Whether it ends within a time.
    pub(super) fn has_ended(&self, limit: Duration) -> bool {
        let until = Instant::now() + limit;
        let mut end = [PollFd::new(&self.end, PollFlags::IN)];
        let ended = retry_on_intr(|| {
            let left = until.saturating_duration_since(Instant::now());
            poll(&mut end, Timespec::try_from(left).ok().as_ref())
        });
        ended.is_ok_and(|ready| ready > 0)
    }

    pub(super) fn go(&mut self) -> io::Result<()> {
        self.may_read = true;
        self.tell(WorkerSocket::go)
    }

    /// The end of the program, if the first worker has not come to serve.
    pub(super) fn failed(mut self) -> Result<ExitCode, AnyError> {
        ended_early(self.child.wait()?)
    }

    /// Ends it, as it says what no worker does.
    pub(super) fn give_up(&mut self, error: &io::Error) -> io::Result<()> {
        log::warn!("the serving process: {error}");
        (self.socket, self.errands) = (None, None);
        self.child.kill()
    }

    /// Waits for its end, which is to come by itself.
    pub(super) fn finish(mut self) -> io::Result<ExitStatus> {
        if !self.has_ended(GRACE) {
            self.child.kill()?;
        }
        self.child.wait()
    }
}
