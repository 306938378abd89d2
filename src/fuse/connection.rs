//! A connection to the kernel, apart from the process that serves it.
//!
//! # Problem
//!
//! A connection ends with the last descriptor of it, and INIT comes once for each: a process that is to go on with a
//! connection which another has begun gets no INIT, and can't do without what INIT said. What the other had read and
//! not answered is never sent again by itself.
//!
//! # Design
//!
//! What has to outlive a process is a descriptor and the request of INIT. The descriptor is a duplicate (dup(2)) of the one
//! that is served and no clone of it (`FUSE_DEV_IOC_CLONE`): the kernel keeps what was read and not answered with the
//! open file that it was read from, and ends it when that is closed. A process that goes on has FUSE's library read
//! the old INIT once more (`fuse::session`), and its answer stays here.
//!
//! With `FUSE_NOTIFY_RESEND` (Linux 6.9) the kernel puts what was read and not answered back into its queue, whichever process
//! has read it. A request keeps its number then but for the highest bit, and its caller notices nothing.
//!
//! (Rejected: to answer ESTALE or EIO for what was under way on older kernels, whose callers mostly ask again. Not
//! all do (READDIRPLUS, fstat), and the numbers of these requests would have to be written down before each is read.)
//!
//! # Invariants
//!
//! - Requests are resent after the process that has read them is dead: it could still answer the same ones.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::OFlags;
use rustix::io::Errno;

/// `struct fuse_in_header`: length, opcode, number of the request.
const OPCODE_AT: usize = 4;
const UNIQUE_AT: usize = 8;
const IN_HEADER_BYTES: usize = 40;

/// `struct fuse_out_header`: length, error, number of the request.
const OUT_HEADER_BYTES: usize = 16;

/// `enum fuse_opcode`: INIT, and what is not answered (FORGET, INTERRUPT, BATCH_FORGET).
const INIT: u32 = 26;
const UNANSWERED: [u32; 3] = [2, 36, 42];

/// `FUSE_NOTIFY_RESEND` of `enum fuse_notify_code`.
const RESEND: i32 = 7;

/// The major version of the protocol that is spoken here, and by every kernel so far.
const MAJOR: u32 = 7;

/// Room for a request, in bytes: the kernel wants as much as it was told that it may write at once, though no request of
/// a mount that can't be written to has more than a page.
const REQUEST_BYTES: usize = (16 << 20) + 4096;

/// A connection to the kernel that has been begun.
#[derive(Debug)]
pub struct Connection {
    device: OwnedFd,
    /// The request that began it.
    init: Vec<u8>,
}

impl Connection {
    /// A connection that another process has begun, by what it has handed over.
    pub fn new(device: OwnedFd, init: Vec<u8>) -> Connection {
        Connection { device, init }
    }

    /// Begins a new one: reads INIT, whose answer is [`Connection::accept`].
    pub(super) fn begin(device: OwnedFd) -> io::Result<Connection> {
        let mut init = vec![0; REQUEST_BYTES];
        let length = loop {
            match rustix::io::read(&device, &mut init[..]) {
                Err(Errno::INTR | Errno::AGAIN | Errno::NOENT) => {}
                result => break result?,
            }
        };
        init.truncate(length);
        init.shrink_to_fit();
        if word(&init, OPCODE_AT) != Some(INIT) || word(&init, IN_HEADER_BYTES) != Some(MAJOR) {
            return Err(io::Error::other("the kernel does not begin with the INIT of FUSE 7"));
        }
        Ok(Connection { device, init })
    }

    /// Answers INIT.
    pub(super) fn accept(&self, answer: &[u8]) -> io::Result<()> {
        rustix::io::write(&self.device, answer)?;
        Ok(())
    }

    /// The request that began it.
    pub fn init(&self) -> &[u8] {
        &self.init
    }

    /// The same connection by another descriptor of the same open file.
    ///
    /// # Errors
    /// There are too many descriptors.
    pub fn duplicate(&self) -> io::Result<Connection> {
        Ok(Connection { device: self.device.try_clone()?, init: self.init.clone() })
    }

    /// Whether the file system was unmounted everywhere, or the connection aborted.
    ///
    /// # Errors
    /// It can't be asked.
    pub fn has_ended(&self) -> io::Result<bool> {
        Ok(self.state(PollFlags::empty())?.contains(PollFlags::ERR))
    }

    /// Whether requests wait that no process has read.
    ///
    /// # Errors
    /// It can't be asked.
    pub fn has_requests(&self) -> io::Result<bool> {
        Ok(self.state(PollFlags::IN)?.contains(PollFlags::IN))
    }

    fn state(&self, events: PollFlags) -> io::Result<PollFlags> {
        let mut device = [PollFd::new(&self.device, events)];
        // A signal that comes just then counts although nothing is waited for.
        rustix::io::retry_on_intr(|| poll(&mut device, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })))?;
        Ok(device[0].revents())
    }

    /// Has the kernel send again what was read and not answered; false if it can't (before Linux 6.9). The process
    /// that has read it must be dead.
    ///
    /// # Errors
    /// It can't be told.
    pub fn resend(&self) -> io::Result<bool> {
        let mut message = [0; OUT_HEADER_BYTES];
        message[..4].copy_from_slice(&(OUT_HEADER_BYTES as u32).to_ne_bytes());
        message[4..8].copy_from_slice(&RESEND.to_ne_bytes());
        match rustix::io::write(&self.device, &message) {
            Ok(_) => Ok(true),
            Err(Errno::INVAL) => Ok(false),
            Err(e) => Err(e.into()),
        }
    }

    /// Answers everything that waits with EIO. No other process may serve the connection meanwhile.
    ///
    /// # Errors
    /// The connection has ended.
    pub fn refuse(&self) -> io::Result<()> {
        // What waited a moment ago may have been given up by its caller, and there may be nothing to wait for any more.
        let flags = rustix::fs::fcntl_getfl(&self.device)?;
        rustix::fs::fcntl_setfl(&self.device, flags | OFlags::NONBLOCK)?;
        let refused = self.refuse_all();
        rustix::fs::fcntl_setfl(&self.device, flags)?;
        refused
    }

    fn refuse_all(&self) -> io::Result<()> {
        let mut request = Vec::new();
        while self.state(PollFlags::IN)?.contains(PollFlags::IN) {
            request.resize(REQUEST_BYTES, 0);
            let length = match rustix::io::read(&self.device, &mut request[..]) {
                Ok(length) => length,
                Err(Errno::AGAIN | Errno::INTR | Errno::NOENT) => continue,
                Err(e) => return Err(e.into()),
            };
            let Some(answer) = refusal(&request[..length]) else { continue };
            match rustix::io::write(&self.device, &answer) {
                // Its caller has given it up.
                Ok(_) | Err(Errno::NOENT) => {}
                Err(e) => return Err(e.into()),
            }
        }
        Ok(())
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.device.as_fd()
    }
}

/// EIO for a request, if it wants an answer.
fn refusal(request: &[u8]) -> Option<[u8; OUT_HEADER_BYTES]> {
    let opcode = word(request, OPCODE_AT)?;
    if UNANSWERED.contains(&opcode) {
        return None;
    }
    let unique = request.get(UNIQUE_AT..UNIQUE_AT + 8)?;
    let mut answer = [0; OUT_HEADER_BYTES];
    answer[..4].copy_from_slice(&(OUT_HEADER_BYTES as u32).to_ne_bytes());
    answer[4..8].copy_from_slice(&(-Errno::IO.raw_os_error()).to_ne_bytes());
    answer[8..].copy_from_slice(unique);
    Some(answer)
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..at + 4)?;
    Some(u32::from_ne_bytes(bytes.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_endian = "little")]
    fn requests_are_refused_by_their_numbers() {
        let request = |opcode: u8| {
            let mut request = [0; IN_HEADER_BYTES];
            request[OPCODE_AT] = opcode;
            request[UNIQUE_AT] = 9;
            request[UNIQUE_AT + 7] = 0x80;
            request
        };
        let expected = [16, 0, 0, 0, 251, 255, 255, 255, 9, 0, 0, 0, 0, 0, 0, 0x80];
        assert_eq!(refusal(&request(15)), Some(expected));
        for unanswered in UNANSWERED {
            assert_eq!(refusal(&request(unanswered as u8)), None);
        }
        assert_eq!(refusal(&request(15)[..10]), None);
    }
}
