//! What a worker may not do, and its supervisor does for it.
//!
//! ```text
//! worker          supervisor
//! LAUNCH  ->                     start a prefetcher with these words
//!             <-  LAUNCHED       its number, where batches go, and where answers come from
//! END     ->                     end it
//!             <-  ENDED
//! SEARCH  ->                     search for the credential of a repository
//!             <-  SEARCHING      where the answer will come
//!             <-  FAILED         any of it, and why
//! ```
//!
//! Each is answered before the next is asked for, and at once: what takes time is done by a process that is started for it.
//! A worker that strangers have taken over gains by it a prefetcher, which tells nothing of what it reads, and credentials
//! for the registries that it names, as every worker has them.

use std::ffi::OsString;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::net::UnixStream;
use std::process::Child;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ocifs::fuse::prefetcher::{self, Launched, Launcher};
use ocifs::source::registry::{CredentialKeeper, Found};

use super::parcel::{Parcel, give, take, tell};
use super::search::Question;
use crate::commands::prefetch;

const LAUNCH: u8 = b'l';
const LAUNCHED: u8 = b'L';
const END: u8 = b'e';
const ENDED: u8 = b'E';
const SEARCH: u8 = b's';
const SEARCHING: u8 = b'S';
const FAILED: u8 = b'F';

/// Longest that a search takes: a few helpers, each of which has its own limit.
const SEARCH_LIMIT: Duration = Duration::from_secs(90);

/// Longest answer of a search, in bytes.
const MAX_FOUND_BYTES: u64 = 1 << 20;

/// The worker's end.
#[derive(Debug)]
pub(super) struct Errands(Mutex<UnixStream>);

impl Errands {
    pub(super) fn new(socket: OwnedFd) -> Arc<Errands> {
        Arc::new(Errands(Mutex::new(socket.into())))
    }

    /// Asks, and waits for the answer of this kind.
    fn ask(&self, kind: u8, bytes: &[u8], answer: u8) -> io::Result<Parcel> {
        let socket = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        give(&socket, kind, bytes, &[])?;
        let parcel = take(&socket)?.ok_or(io::ErrorKind::UnexpectedEof)?;
        match parcel.kind {
            FAILED => Err(io::Error::other(parcel.read::<String>()?)),
            kind if kind == answer => Ok(parcel),
            _ => Err(io::ErrorKind::InvalidData.into()),
        }
    }
}

/// A prefetcher that the supervisor starts.
#[derive(Debug)]
pub(super) struct FarPrefetcher(pub(super) Arc<Errands>);

impl Launcher for FarPrefetcher {
    fn launch(&self, target: &[OsString]) -> io::Result<Launched> {
        let words: Vec<&[u8]> = target.iter().map(|word| word.as_bytes()).collect();
        let parcel = self.0.ask(LAUNCH, &serde_json::to_vec(&words)?, LAUNCHED)?;
        let pid = parcel.read()?;
        let [batches, answers] = parcel.descriptors()?;
        Ok(Launched { pid, batches: batches.into(), answers: answers.into(), child: None })
    }

    fn end(&self, launched: Launched) -> io::Result<()> {
        drop(launched);
        self.0.ask(END, &[], ENDED).map(drop)
    }
}

/// The credentials of an image, searched for by a process of the supervisor.
#[derive(Debug)]
pub(super) struct FarCredentials {
    pub(super) errands: Arc<Errands>,
    /// The name of the image.
    pub(super) image: String,
}

impl CredentialKeeper for FarCredentials {
    fn find(&self, registry: &str, repository: &str) -> io::Result<Found> {
        let question = Question {
            image: self.image.clone(),
            registry: registry.to_owned(),
            repository: repository.to_owned(),
        };
        let parcel = self.errands.ask(SEARCH, &serde_json::to_vec(&question)?, SEARCHING)?;
        let [answer] = parcel.descriptors()?;
        let answer = UnixStream::from(answer);
        answer.set_read_timeout(Some(SEARCH_LIMIT))?;
        let mut found = Vec::new();
        answer.take(MAX_FOUND_BYTES).read_to_end(&mut found)?;
        match found.is_empty() {
            true => Err(io::Error::other("the process that searches has ended without an answer")),
            false => Ok(serde_json::from_slice(&found)?),
        }
    }
}

/// The supervisor's end: the processes that it has started for its worker.
#[derive(Debug, Default)]
pub(super) struct Helpers {
    prefetcher: Option<Child>,
    /// What ends by itself, or has been ended.
    ending: Vec<Child>,
}

impl Helpers {
    /// Does what a worker asks for next; false if it asks for nothing any more. `search` starts a process that
    /// searches.
    pub(super) fn serve(
        &mut self,
        socket: &UnixStream,
        search: impl FnOnce(&[u8]) -> io::Result<(Child, UnixStream)>,
    ) -> io::Result<bool> {
        self.reap();
        let Some(parcel) = take(socket)? else { return Ok(false) };
        let done = match parcel.kind {
            LAUNCH => self.launch(&parcel).and_then(|(pid, batches, answers)| {
                tell(socket, LAUNCHED, &pid, &[batches.as_fd(), answers.as_fd()])
            }),
            END => {
                self.end_prefetcher();
                give(socket, ENDED, &[], &[])
            }
            SEARCH => search(parcel.bytes()).and_then(|(child, answer)| {
                self.ending.push(child);
                give(socket, SEARCHING, &[], &[answer.as_fd()])
            }),
            _ => return Err(io::ErrorKind::InvalidData.into()),
        };
        done.or_else(|e| tell(socket, FAILED, &e.to_string(), &[])).map(|()| true)
    }

    fn launch(&mut self, parcel: &Parcel) -> io::Result<(u32, std::fs::File, std::fs::File)> {
        let words: Vec<Vec<u8>> = parcel.read()?;
        let words: Vec<OsString> = words.into_iter().map(OsString::from_vec).collect();
        if prefetcher::Target::parse(words.iter().cloned()).is_none() {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        self.end_prefetcher();
        let Launched { pid, batches, answers, child } = prefetch::program().launch(&words)?;
        self.prefetcher = child;
        Ok((pid, batches, answers))
    }

    /// Ends the prefetcher, in the middle of what it does.
    pub(super) fn end_prefetcher(&mut self) {
        if let Some(mut child) = self.prefetcher.take() {
            // It may wait for a request that a worker has to answer first: so it is waited for later.
            if let Err(e) = child.kill() {
                log::debug!("the prefetcher: {e}");
            }
            self.ending.push(child);
        }
        self.reap();
    }

    /// Takes a process that was killed, to wait for it when it has ended.
    pub(super) fn await_end(&mut self, child: Child) {
        self.ending.push(child);
    }

    /// Waits for those that have ended.
    pub(super) fn reap(&mut self) {
        self.ending.retain_mut(|child| matches!(child.try_wait(), Ok(None)));
    }
}
