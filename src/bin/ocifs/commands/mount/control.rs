//! What a supervisor and its worker say to each other, over a socket that is gone when one of them is.
//!
//! ```text
//! worker      supervisor
//! OPENED  ->              the image is open: what /proc/mounts is to show as the source
//!         <-  MOUNTED     it is mounted, and to be served: the connection, and what is known of the mount
//! or      <-  STAGE       names and attributes are to be written and contents to be served: three descriptors
//! BEGUN   ->                they are
//!         <-  PLACED        it is mounted
//! KEPT    ->              requests are answered: the connection, and what is known of the mount
//!
//! or, where another worker has been before:
//! OPENED  ->
//!         <-  GO          (the supervisor reads no request any more)
//! SERVES  ->              requests are answered
//! KEPT    ->              images were added
//!
//!         <-  CLIENT      a client of the status socket, as a descriptor, and how often workers were started again
//! ```
//!
//! The supervisor takes signals from MOUNTED or STAGE on.

use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::parent_id;
use std::thread;

use ocifs::fuse::erofs_mount::{self, Contents, Parts, Stage};
use ocifs::fuse::kernel::Mounted;
use ocifs::image::Process;
use ocifs::mount::{Attached, Kept, StatusSource, Supervision};
use serde::{Deserialize, Serialize};

use super::parcel::{Parcel, give, offer, take, tell};

const OPENED: u8 = b'o';
const MOUNTED: u8 = b'm';
const STAGE: u8 = b't';
const BEGUN: u8 = b'b';
const PLACED: u8 = b'p';
const KEPT: u8 = b'k';
const GO: u8 = b'g';
const SERVES: u8 = b's';
const CLIENT: u8 = b'c';

/// A word of a worker.
pub(super) enum Word {
    Opened(OpenedImage),
    Begun(Contents),
    /// Something is mounted.
    Kept(Box<Kept>),
    Serves,
}

/// What a worker has opened.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct OpenedImage {
    /// What is to be shown as the source.
    pub(super) source: String,
    /// The digest of its manifest, if it is one image.
    pub(super) digest: Option<String>,
    /// The program that is to run in it, if it is for one.
    pub(super) process: Option<Process>,
}

/// The supervisor's end.
pub(super) struct WorkerSocket(UnixStream);

impl WorkerSocket {
    pub(super) fn new(socket: UnixStream) -> WorkerSocket {
        WorkerSocket(socket)
    }

    /// The next word; `None` if there will be none.
    pub(super) fn word(&self) -> io::Result<Option<Word>> {
        let Some(parcel) = take(&self.0)? else { return Ok(None) };
        Ok(Some(match parcel.kind {
            OPENED => Word::Opened(parcel.read()?),
            BEGUN => Word::Begun(parcel.read()?),
            SERVES => Word::Serves,
            KEPT => {
                let bytes = parcel.bytes().to_owned();
                let [device] = parcel.descriptors()?;
                Word::Kept(Box::new(Kept::from_parts(device, &bytes)?))
            }
            _ => return Err(ErrorKind::InvalidData.into()),
        }))
    }

    /// Has it serve what was mounted.
    pub(super) fn mounted(&self, attached: &Attached) -> io::Result<()> {
        give(&self.0, MOUNTED, &attached.to_bytes()?, &[attached.as_fd()])
    }

    /// Has it serve the contents of what is to be mounted.
    pub(super) fn stage(&self, stage: &Stage) -> io::Result<()> {
        give(&self.0, STAGE, &[], &stage.descriptors())
    }

    /// Says that this is mounted.
    pub(super) fn placed(
        &self,
        mounted: &Mounted,
        attached: erofs_mount::Attached,
    ) -> io::Result<()> {
        tell(&self.0, PLACED, &(mounted, attached), &[])
    }

    /// Lets it go on.
    pub(super) fn go(&self) -> io::Result<()> {
        give(&self.0, GO, &[], &[])
    }

    /// Hands a client of the status socket on.
    pub(super) fn hand_on(&self, client: &UnixStream, restarts: u32) -> io::Result<()> {
        // Not at any price: it may be stopped, and the client has been told that we live.
        offer(&self.0, CLIENT, &restarts.to_le_bytes(), &[client.as_fd()])
    }
}

impl AsFd for WorkerSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// What a worker is told when it has opened the image.
pub(super) enum Told {
    /// Serve this.
    Mounted(Attached),
    /// Serve the contents of this.
    Stage(Parts),
    /// Go on with what you know.
    Go,
}

/// The worker's end.
pub(super) struct SupervisorSocket(UnixStream);

impl SupervisorSocket {
    /// Takes it from the standard output.
    pub(super) fn of_stdout() -> io::Result<SupervisorSocket> {
        let socket = rustix::io::fcntl_dupfd_cloexec(io::stdout(), 3)?;
        Ok(SupervisorSocket(socket.into()))
    }

    /// Another one for the same supervisor, to tell it what becomes of what it keeps.
    pub(super) fn duplicate(&self) -> io::Result<SupervisorSocket> {
        self.0.try_clone().map(SupervisorSocket)
    }

    /// Says that the image is open, and what to show as its source; and waits until it is to be served. `None` if the
    /// supervisor has given up, which says why.
    pub(super) fn opened(&self, opened: &OpenedImage) -> io::Result<Option<Told>> {
        let Some(parcel) = self.ask(OPENED, opened)? else { return Ok(None) };
        let told = match parcel.kind {
            GO => Told::Go,
            MOUNTED => {
                let bytes = parcel.bytes().to_owned();
                let [device] = parcel.descriptors()?;
                Told::Mounted(Attached::from_parts(device, &bytes)?)
            }
            STAGE => {
                let [device, image, folder] = parcel.descriptors()?;
                Told::Stage(Parts { device, image: image.into(), folder })
            }
            _ => return Err(ErrorKind::InvalidData.into()),
        };
        Ok(Some(told))
    }

    /// Says that contents are served, and waits until that is mounted; `None` as above.
    pub(super) fn begun(
        &self,
        contents: Contents,
    ) -> io::Result<Option<(Mounted, erofs_mount::Attached)>> {
        let Some(parcel) = self.ask(BEGUN, &contents)? else { return Ok(None) };
        match parcel.kind {
            PLACED => parcel.read().map(Some),
            _ => Err(ErrorKind::InvalidData.into()),
        }
    }

    /// Gives what outlives this process.
    pub(super) fn give(&self, kept: &Kept) -> io::Result<()> {
        give(&self.0, KEPT, &kept.to_bytes()?, &[kept.as_fd()])
    }

    /// Says that requests are answered.
    pub(super) fn serves(&self) -> io::Result<()> {
        give(&self.0, SERVES, &[], &[])
    }

    /// Says something and waits for what comes next; `None` if the supervisor is there no more.
    fn ask(&self, kind: u8, content: &impl Serialize) -> io::Result<Option<Parcel>> {
        match tell(&self.0, kind, content, &[]) {
            Err(e) if e.kind() == ErrorKind::BrokenPipe => Ok(None),
            told => told.and_then(|()| take(&self.0)),
        }
    }

    /// Answers clients of the status socket on a thread of its own.
    pub(super) fn answer_clients(self, source: StatusSource) -> io::Result<()> {
        let work = move || {
            // Without a supervisor the kernel ends this process.
            while let Ok(Some(parcel)) = take(&self.0) {
                if let Err(e) = answer(parcel, &source) {
                    log::debug!("status: {e}");
                }
            }
        };
        thread::Builder::new().name("status".into()).spawn(work)?;
        Ok(())
    }
}

fn answer(parcel: Parcel, source: &StatusSource) -> io::Result<()> {
    let restarts = parcel.bytes().try_into().map_err(io::Error::other)?;
    let supervision = Supervision { pid: parent_id(), restarts: u32::from_le_bytes(restarts) };
    let [client] = parcel.descriptors()?;
    source.answer(client.into(), Some(supervision))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// It says why, and no worker does beside it.
    #[test]
    fn a_supervisor_that_gives_up_is_no_error_of_the_worker() {
        let opened = OpenedImage { source: "x".to_owned(), digest: None, process: None };
        let (ours, theirs) = UnixStream::pair().unwrap();
        let supervisor = SupervisorSocket(ours);
        let worker = WorkerSocket::new(theirs);
        let gives_up =
            thread::spawn(move || assert!(matches!(worker.word(), Ok(Some(Word::Opened(_))))));
        assert!(supervisor.opened(&opened).unwrap().is_none());
        gives_up.join().unwrap();
        // It has ended before it was told.
        assert!(supervisor.opened(&opened).unwrap().is_none());
    }
}
