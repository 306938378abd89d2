//! What a supervisor and its worker say to each other, over a socket that is gone when one of them is.
//!
//! ```text
//! worker      supervisor
//! OPENED  ->              the image is open
//!         <-  GO          (the supervisor takes signals from here on, and reads no request)
//! KEPT    ->              it is mounted: length, the connection as a descriptor, what is known of the mount
//! SERVES  ->              or, where another worker has been before: requests are answered
//!         <-  restarts    a client of the status socket, as a descriptor
//! ```

use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::parent_id;
use std::thread;

use ocifs::mount::{Kept, StatusSource, Supervision};
use rustix::net::SendFlags;

use super::descriptor::{receive, send};

const OPENED: u8 = b'o';
const GO: u8 = b'g';
const KEPT: u8 = b'k';
const SERVES: u8 = b's';

/// A word of a worker.
pub(super) enum Word {
    Opened,
    /// Something is mounted.
    Kept(Box<Kept>),
    Serves,
}

/// The supervisor's end.
pub(super) struct WorkerSocket(UnixStream);

impl WorkerSocket {
    pub(super) fn new(socket: UnixStream) -> WorkerSocket {
        WorkerSocket(socket)
    }

    /// The next word; `None` if there will be none.
    pub(super) fn word(&self) -> io::Result<Option<Word>> {
        let mut first = [0; 5];
        let (length, descriptor) = match receive(self.0.as_fd(), &mut first) {
            Err(e) if e.kind() == ErrorKind::ConnectionReset => return Ok(None),
            result => result?,
        };
        match (&first[..length], descriptor) {
            ([], _) => Ok(None),
            ([OPENED], _) => Ok(Some(Word::Opened)),
            ([SERVES], _) => Ok(Some(Word::Serves)),
            ([KEPT, bytes @ ..], Some(device)) => {
                let length = bytes.try_into().map_or(0, u32::from_le_bytes);
                let mut kept = Vec::new();
                (&self.0).take(length.into()).read_to_end(&mut kept)?;
                Ok(Some(Word::Kept(Box::new(Kept::from_parts(device, &kept)?))))
            }
            _ => Err(ErrorKind::InvalidData.into()),
        }
    }

    /// Lets it go on.
    pub(super) fn go(&self) -> io::Result<()> {
        (&self.0).write_all(&[GO])
    }

    /// Hands a client of the status socket on.
    pub(super) fn hand_on(&self, client: &UnixStream, restarts: u32) -> io::Result<()> {
        // Not at any price: it may be stopped, and the client has been told that we live.
        send(self.0.as_fd(), &restarts.to_le_bytes(), client.as_fd(), SendFlags::DONTWAIT)
    }
}

impl AsFd for WorkerSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// The worker's end.
pub(super) struct SupervisorSocket(UnixStream);

impl SupervisorSocket {
    /// Takes it from the standard output.
    pub(super) fn of_stdout() -> io::Result<SupervisorSocket> {
        let socket = rustix::io::fcntl_dupfd_cloexec(io::stdout(), 3)?;
        Ok(SupervisorSocket(socket.into()))
    }

    /// Says that the image is open, and waits until it is to be served.
    pub(super) fn opened(&self) -> io::Result<()> {
        (&self.0).write_all(&[OPENED])?;
        let mut word = [0];
        (&self.0).read_exact(&mut word)?;
        if word == [GO] { Ok(()) } else { Err(ErrorKind::InvalidData.into()) }
    }

    /// Gives what outlives this process.
    pub(super) fn give(&self, kept: &Kept) -> io::Result<()> {
        let bytes = kept.to_bytes()?;
        let length = u32::try_from(bytes.len()).map_err(io::Error::other)?;
        let mut first = vec![KEPT];
        first.extend(length.to_le_bytes());
        send(self.0.as_fd(), &first, kept.as_fd(), SendFlags::empty())?;
        (&self.0).write_all(&bytes)
    }

    /// Says that requests are answered.
    pub(super) fn serves(&self) -> io::Result<()> {
        (&self.0).write_all(&[SERVES])
    }

    /// Answers clients of the status socket on a thread of its own.
    pub(super) fn answer_clients(self, source: StatusSource) -> io::Result<()> {
        let work = move || {
            loop {
                let mut restarts = [0; 4];
                let client = match receive(self.0.as_fd(), &mut restarts) {
                    Ok((4, Some(client))) => client,
                    // The supervisor has ended, and the kernel ends this process with it.
                    _ => return,
                };
                let restarts = u32::from_le_bytes(restarts);
                let supervision = Supervision { pid: parent_id(), restarts };
                if let Err(e) = source.answer(client.into(), Some(supervision)) {
                    log::debug!("status: {e}");
                }
            }
        };
        thread::Builder::new().name("status".into()).spawn(work)?;
        Ok(())
    }
}
