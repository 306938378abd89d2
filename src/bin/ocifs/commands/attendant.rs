//! The process that does for a contained verb what that one may not: it searches for credentials, and makes the files that
//! `explore` saves.
//!
//! # Problem
//!
//! Credential helpers are programs, and a contained process runs none. Nor may it write to where the user wants a
//! file to be saved, which is known long after it was contained.
//!
//! # Design
//!
//! ```text
//! verb             attendant
//! BEGIN   ->                     the logins of its flags
//! SEARCH  ->                     search for the credential of a repository
//!             <-  FOUND
//! MAKE    ->                     make a file
//!             <-  MADE           it, as a descriptor
//! REMOVE  ->                     remove a file that was made, as it is not whole
//!             <-  REMOVED
//!             <-  FAILED         any of it, and why
//!             <-  LOG            before each of these: what the verb is to write to its log
//! ```
//!
//! It is started before the verb gives anything up, over a socket, and ends with it. It reads nothing of an image, and does one
//! thing at a time.
//!
//! A verb that strangers have taken over gains by it credentials for the registries that it names, as it would have had
//! them; and new files, which are neither hidden nor replace others, below the directory that the verb was started in.
//!
//! A mount's supervisor does the first of these by itself, as it is there anyway.
//!
//! Not a verb for people: neither help nor completions have it, so it does not go through [`crate::args`].

use std::env;
use std::fs::File;
use std::io;
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Component, Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ocifs::reference::{ImageName, Reference};
use ocifs::source::registry::{CredentialKeeper, Found};
use rustix::fs::{AtFlags, Mode, OFlags, ResolveFlags, openat2, unlinkat};
use serde::{Deserialize, Serialize};

use super::mount::parcel::{Parcel, give, take, tell};
use super::secrets::hide_secrets;
use crate::args::{ImageArgs, Login};
use crate::environment::{self, Logins};
use crate::render::errors::AnyError;

const VERB: &str = "attend";

const BEGIN: u8 = b'b';
const SEARCH: u8 = b's';
const FOUND: u8 = b'S';
const MAKE: u8 = b'm';
const MADE: u8 = b'M';
const REMOVE: u8 = b'r';
const REMOVED: u8 = b'R';
const FAILED: u8 = b'F';
const LOG: u8 = b'l';

/// Longest that an answer takes: a few helpers, each of which has its own limit.
const LIMIT: Duration = Duration::from_secs(90);

/// The logins of the verb's flags. They go over the socket, as others can read words and environment.
#[derive(Debug, Default, Deserialize, Serialize)]
struct Flags {
    login: String,
    authfile: Vec<PathBuf>,
    timeout: Duration,
    /// What the verb logs ([`log::LevelFilter`]).
    log: String,
}

/// Whose credential is searched for.
#[derive(Debug, Deserialize, Serialize)]
struct Question {
    image: String,
    registry: String,
    repository: String,
}

/// A file to be made.
#[derive(Debug, Deserialize, Serialize)]
struct NewFile {
    path: PathBuf,
    mode: u32,
}

/// An attendant, as its verb sees it.
#[derive(Clone, Debug)]
pub(super) struct Attendant(Arc<Mutex<UnixStream>>);

impl Attendant {
    /// Starts one for a verb with these flags.
    ///
    /// # Errors
    /// It can't be started.
    pub(super) fn start(args: &ImageArgs) -> io::Result<Attendant> {
        let (ours, theirs) = UnixStream::pair()?;
        let mut command = Command::new("/proc/self/exe");
        command.arg0(env!("CARGO_BIN_NAME")).arg(VERB);
        command.stdin(Stdio::from(OwnedFd::from(theirs))).stdout(Stdio::null());
        // It ends when this process closes its end of the socket, and is not waited for.
        command.spawn()?;
        drop(command);
        ours.set_read_timeout(Some(LIMIT))?;
        let login = args.creds.as_ref().map(Login::to_text).unwrap_or_default();
        let (authfile, timeout) = (args.authfile.clone(), args.timeout);
        let flags = Flags { login, authfile, timeout, log: log::max_level().to_string() };
        tell(&ours, BEGIN, &flags, &[])?;
        Ok(Attendant(Arc::new(Mutex::new(ours))))
    }

    /// What searches for the credentials of an image.
    pub(super) fn keeper(&self, image: &ImageName) -> Arc<dyn CredentialKeeper> {
        Arc::new(Keeper { attendant: self.clone(), image: image.to_string() })
    }

    /// Makes a file that was not there.
    ///
    /// # Errors
    /// It can't be made, or may not.
    pub(super) fn make(&self, path: &Path, mode: u32) -> io::Result<File> {
        let file = NewFile { path: path.to_owned(), mode };
        let [file] = self.ask(MAKE, &file, MADE)?.descriptors()?;
        Ok(file.into())
    }

    /// Removes a file that was made.
    ///
    /// # Errors
    /// It can't be removed.
    pub(super) fn remove(&self, path: &Path) -> io::Result<()> {
        self.ask(REMOVE, &path, REMOVED).map(drop)
    }

    fn ask(&self, kind: u8, content: &impl Serialize, answer: u8) -> io::Result<Parcel> {
        let socket = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let answered = exchange(&socket, kind, content, answer).map_err(|e| match e.kind() {
            io::ErrorKind::WouldBlock => {
                io::Error::new(io::ErrorKind::TimedOut, "no answer came in time")
            }
            _ => e,
        });
        if answered.is_err() {
            // What came later would be taken for the answer to the next question: the credential of another registry.
            let _ = socket.shutdown(Shutdown::Both);
        }
        answered?.map_err(io::Error::other)
    }
}

/// Asks over a socket; the answer, or why the attendant has none.
fn exchange(
    socket: &UnixStream,
    kind: u8,
    content: &impl Serialize,
    answer: u8,
) -> io::Result<Result<Parcel, String>> {
    tell(socket, kind, content, &[])?;
    loop {
        let parcel = take(socket)?.ok_or(io::ErrorKind::UnexpectedEof)?;
        match parcel.kind {
            LOG => {
                let (level, text) = parcel.read::<(String, String)>()?;
                log::log!(level.parse().unwrap_or(log::Level::Warn), "{text}");
            }
            FAILED => return Ok(Err(parcel.read()?)),
            kind if kind == answer => return Ok(Ok(parcel)),
            _ => return Err(io::ErrorKind::InvalidData.into()),
        }
    }
}

/// The way to a verb, for threads that each have something to say.
#[derive(Debug)]
struct Wire(Mutex<UnixStream>);

impl Wire {
    fn tell(&self, kind: u8, content: &impl Serialize) -> io::Result<()> {
        tell(&self.0.lock().unwrap_or_else(PoisonError::into_inner), kind, content, &[])
    }

    fn give(&self, kind: u8, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        give(&self.0.lock().unwrap_or_else(PoisonError::into_inner), kind, &[], descriptors)
    }
}

/// The log of an attendant, which its verb writes.
#[derive(Debug)]
struct Relay(Arc<Wire>);

impl log::Log for Relay {
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        metadata.target().starts_with("ocifs")
    }

    fn log(&self, record: &log::Record<'_>) {
        if self.enabled(record.metadata()) {
            let line = (record.level().to_string(), record.args().to_string());
            // Without a verb there is no log.
            let _ = self.0.tell(LOG, &line);
        }
    }

    fn flush(&self) {}
}

/// What searches for the credentials of an image.
#[derive(Debug)]
struct Keeper {
    attendant: Attendant,
    image: String,
}

impl CredentialKeeper for Keeper {
    fn find(&self, registry: &str, repository: &str) -> io::Result<Found> {
        let (registry, repository) = (registry.to_owned(), repository.to_owned());
        let question = Question { image: self.image.clone(), registry, repository };
        self.attendant.ask(SEARCH, &question, FOUND)?.read()
    }
}

/// Whether this process is one.
pub(crate) fn is_asked() -> bool {
    env::args_os().nth(1).is_some_and(|word| word == VERB) && env::args_os().len() == 2
}

/// Does what the verb asks for, until it has ended.
pub(crate) fn run() -> Result<ExitCode, AnyError> {
    hide_secrets()?;
    rustix::thread::set_name(c"ocifs")?;
    let socket = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    let wire = Arc::new(Wire(Mutex::new(socket.try_clone()?)));
    log::set_boxed_logger(Box::new(Relay(Arc::clone(&wire))))?;
    let mut made = Files { directory: File::open(".").ok(), made: Vec::new() };
    let mut flags = Flags::default();
    while let Some(parcel) = take(&socket)? {
        let done = match parcel.kind {
            BEGIN => {
                flags = parcel.read()?;
                log::set_max_level(flags.log.parse().unwrap_or(log::LevelFilter::Warn));
                continue;
            }
            SEARCH => {
                search(&flags, &parcel.read()?).and_then(|found| Ok(wire.tell(FOUND, &found)?))
            }
            MAKE => {
                made.make(parcel.read()?).and_then(|file| Ok(wire.give(MADE, &[file.as_fd()])?))
            }
            REMOVE => {
                made.remove(&parcel.read::<PathBuf>()?).and_then(|()| Ok(wire.give(REMOVED, &[])?))
            }
            _ => return Err("the verb asks for what it can't have".into()),
        };
        if let Err(error) = done {
            wire.tell(FAILED, &error.to_string())?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn search(flags: &Flags, question: &Question) -> Result<Found, AnyError> {
    let logins = Logins {
        creds: Login::parse(&flags.login),
        authfile: flags.authfile.clone(),
        auth_read: None,
        auth_config: None,
        timeout: flags.timeout,
    };
    let image: Reference = question.image.parse()?;
    let credentials = environment::credentials(&image, &logins)?;
    Ok(credentials.for_repository(&question.registry, &question.repository))
}

/// The files that were made.
struct Files {
    /// The directory that this process was started in.
    directory: Option<File>,
    made: Vec<PathBuf>,
}

impl Files {
    fn make(&mut self, NewFile { path, mode }: NewFile) -> Result<OwnedFd, AnyError> {
        if path.components().any(|part| !is_plain(part)) {
            let text = "files are saved in the directory that explore was started in, or below it, and not under hidden \
                        names: `ocifs cp` copies to any place";
            return Err(text.into());
        }
        let directory = self.directory.as_ref().ok_or("the current directory can't be opened")?;
        let flags =
            OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        let mode = Mode::from_raw_mode(mode) & (Mode::RWXU | Mode::RWXG | Mode::RWXO);
        let file = openat2(directory, &path, flags, mode, resolve).map_err(io::Error::from)?;
        self.made.push(path);
        Ok(file)
    }

    fn remove(&mut self, path: &Path) -> Result<(), AnyError> {
        let at = self.made.iter().position(|made| made == path).ok_or("it was not made here")?;
        let directory = self.directory.as_ref().ok_or("the current directory can't be opened")?;
        self.made.remove(at);
        Ok(unlinkat(directory, path, AtFlags::empty()).map_err(io::Error::from)?)
    }
}

/// Whether a part of a path leads down, and is not hidden.
fn is_plain(part: Component<'_>) -> bool {
    match part {
        Component::Normal(name) => !name.as_encoded_bytes().starts_with(b"."),
        Component::CurDir => true,
        _ => false,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::mpsc;
    use std::thread;

    use super::*;

    #[test]
    fn a_late_answer_is_not_one_to_the_next_question() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        ours.set_read_timeout(Some(Duration::from_millis(10))).unwrap();
        let attendant = Attendant(Arc::new(Mutex::new(ours)));
        let (too_late, wait) = mpsc::channel::<()>();
        let answers = thread::spawn(move || {
            let question = take(&theirs).unwrap().unwrap();
            wait.recv().unwrap();
            // By then it may be over.
            assert_eq!(question.kind, SEARCH);
            let _ = tell(&theirs, FOUND, &"of the first", &[]);
            theirs
        });
        let late = attendant.ask(SEARCH, &"first", FOUND).unwrap_err();
        assert_eq!(late.kind(), io::ErrorKind::TimedOut, "{late}");
        too_late.send(()).unwrap();
        let _theirs = answers.join().unwrap();
        let next = attendant.ask(SEARCH, &"second", FOUND).map(|parcel| parcel.read::<String>());
        assert!(next.is_err(), "{next:?}");
    }

    #[test]
    fn a_refusal_is_an_answer() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let attendant = Attendant(Arc::new(Mutex::new(ours)));
        let answers = thread::spawn(move || {
            for kind in [FAILED, FOUND] {
                take(&theirs).unwrap().unwrap();
                tell(&theirs, kind, &"text", &[]).unwrap();
            }
        });
        let refused = attendant.ask(SEARCH, &"first", FOUND).unwrap_err();
        assert_eq!(refused.to_string(), "text");
        assert!(attendant.ask(SEARCH, &"second", FOUND).is_ok());
        answers.join().unwrap();
    }
}
