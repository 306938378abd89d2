//! A worker of another version of this program, or another one of the same, which is to take over from the one that serves.
//!
//! After `SIGUSR2` the file that lies where the supervisor was started from is started beside the worker, with what any worker is
//! started with. When it has opened the images, and found that they are what is mounted, the old one is killed, the
//! kernel sends again what that had read, and the new one goes on: as after any death, but for the time that opening
//! takes. Until then the old one serves; if the new one does not come so far, it goes on doing so. If it dies later, the
//! next one is of the old version again, which the supervisor is and stays. Where the one that serves may not read what it
//! needs by now ([`NameFiles`]), another one of its own version takes over in the same way.
//!
//! (Rejected: to replace the supervisor as well, by execve(2) of itself. It would have to hand over all it knows, for a
//! program that does next to nothing.)

use std::io::{self, Read};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use ocifs::mount::Kept;

use super::control::Word;
use super::errands::Helpers;
use super::signals::upgrades_by_pipe;
use super::start::Program;
use super::workers::{Worker, Workers};
use crate::contain::NameFiles;

/// What is added to the time that requests wait, for opening the images.
const GRACE: Duration = Duration::from_secs(60);

/// The way to a newer version.
#[derive(Default)]
pub(super) struct Upgrade {
    /// There is something to read when it is wanted.
    pub(super) wanted: Option<UnixStream>,
    candidate: Option<Candidate>,
}

struct Candidate {
    worker: Worker,
    program: Program,
    /// What it may look names up with.
    names: NameFiles,
    until: Instant,
}

/// A worker that can take over.
pub(super) struct Ready {
    pub(super) worker: Worker,
    pub(super) program: Program,
    pub(super) names: NameFiles,
}

impl Upgrade {
    /// One that is started by a signal.
    pub(super) fn by_signal() -> io::Result<Upgrade> {
        Ok(Upgrade { wanted: Some(upgrades_by_pipe()?), candidate: None })
    }

    /// The worker that is being started.
    pub(super) fn worker(&self) -> Option<&Worker> {
        self.candidate.as_ref().map(|candidate| &candidate.worker)
    }

    /// Begins, if there is another version.
    pub(super) fn begin(&mut self, workers: &Workers, kept: &Kept) {
        let mut signals = [0; 64];
        if let Some(wanted) = &mut self.wanted {
            // Several mean the same.
            let _ = wanted.read(&mut signals);
        }
        if self.candidate.is_some() {
            return;
        }
        match workers.program.installed() {
            Ok(None) => log::info!("the program that is installed is the one that runs"),
            Ok(Some(program)) => self.begin_with(program, workers, kept),
            Err(error) => log::warn!("the program that is installed can't be started: {error}"),
        }
    }

    /// Begins with another worker of the same version, if none is being started.
    pub(super) fn begin_anew(&mut self, workers: &Workers, kept: &Kept) {
        if self.candidate.is_none() {
            self.begin_with(workers.program.clone(), workers, kept);
        }
    }

    fn begin_with(&mut self, program: Program, workers: &Workers, kept: &Kept) {
        let names = NameFiles::now();
        match workers.start_with(&program, Some(kept)) {
            Ok(worker) => {
                let until = Instant::now() + workers.patience + GRACE;
                self.candidate = Some(Candidate { worker, program, names, until });
            }
            Err(error) => log::warn!("another process for the mount can't be started: {error}"),
        }
    }

    /// How long until it is given up.
    pub(super) fn wait(&self, now: Instant) -> Option<Duration> {
        self.candidate.as_ref().map(|candidate| candidate.until.saturating_duration_since(now))
    }

    /// Sees how far it has come; the worker, if it is ready.
    pub(super) fn look(&mut self, workers: &Workers, helpers: &mut Helpers) -> Option<Ready> {
        let mut candidate = self.candidate.take()?;
        let is_late = Instant::now() >= candidate.until;
        let word = match candidate.worker.next_word(workers, helpers) {
            Ok(None) if !is_late => {
                self.candidate = Some(candidate);
                return None;
            }
            word => word,
        };
        match word {
            Ok(Some(Some(Word::Opened(_)))) => {
                let Candidate { worker, program, names, .. } = candidate;
                return Some(Ready { worker, program, names });
            }
            Ok(Some(_)) => {
                log::warn!("the process that was to take over did not come to serve the mount")
            }
            Ok(None) => log::warn!(
                "the process that was to take over takes too long to come to serve the mount"
            ),
            Err(e) => log::warn!("the process that was to take over: {e}"),
        }
        // It has ended, or does so now.
        let _ = candidate.worker.child.kill().and_then(|()| candidate.worker.child.wait());
        None
    }
}
