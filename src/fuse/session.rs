//! The threads that answer on a connection to the kernel.
//!
//! # Problem
//!
//! `fuser` (0.18) serves what begins with INIT, and a connection that another process has begun does not
//! ([`Connection`]). And it gives each of its threads a buffer of which no page is there yet: if the process is killed
//! while the kernel writes a request into such a page, its caller gets EIO, and the request is not resent.
//!
//! # Design
//!
//! `fuser` is given one end of a pair of sockets. From the other end it gets INIT, which was kept, and then for each of its
//! threads a FORGET of nothing, which is not answered. The threads come with it to a [`Gate`], with their buffers
//! written to. While all of them wait there, the socket's place among the descriptors is given to the device (dup3(2)).
//! They go on, and read from the device as if they had always done so. A new connection takes the same way, except that the
//! answer to INIT goes on to the kernel.
//!
//! (Rejected: a loop of our own. It could take over without INIT, and would be all that `fuser` does.)

#![allow(unsafe_code, reason = "one place; see there")]

use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::Arc;

use fuser::{Config, Session, SessionACL};
use rustix::io::DupFlags;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socketpair,
};

use super::connection::Connection;
use super::gate::Gate;
use super::guarded::{Guarded, Watched};
use super::suspects::Suspects;

/// Threads that read requests from the kernel.
pub(super) const LOOP_THREADS: usize = 2;

/// Requests that the kernel may have under way in the background (readahead).
pub(super) const MAX_BACKGROUND: u16 = 64;

/// Longest answer to INIT, in bytes; it has 80.
const MAX_ANSWER_BYTES: usize = 4096;

/// A connection that is to be served.
#[derive(Debug)]
pub enum Link {
    /// It is new: INIT is still to come.
    New(OwnedFd),
    /// Another process has served it.
    Begun(Connection),
}

impl AsFd for Link {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Link::New(device) => device.as_fd(),
            Link::Begun(connection) => connection.as_fd(),
        }
    }
}

/// Accepts a connection and answers its requests, on so many threads, but for those that are refused. The adapter has each
/// FORGET pass the gate.
pub(super) fn start(
    inner: impl Watched,
    suspects: Option<Arc<Suspects>>,
    gate: &Gate,
    link: Link,
    threads: usize,
) -> io::Result<Server> {
    let (connection, is_new) = match link {
        Link::New(device) => (Connection::begin(device)?, true),
        Link::Begun(connection) => (connection, false),
    };
    let (kind, flags) = (SocketType::SEQPACKET, SocketFlags::CLOEXEC);
    let (ours, theirs) = socketpair(AddressFamily::UNIX, kind, flags, None)?;
    send(&ours, connection.init(), SendFlags::NOSIGNAL)?;
    let number = theirs.as_raw_fd();
    let mut config = Config::default();
    config.n_threads = Some(threads);
    // The kernel decides who may come in (`allow_other`); fuser need not check again.
    let session = Session::from_fd(Guarded { inner, suspects }, theirs, SessionACL::All, config)?;
    let mut answer = [0; MAX_ANSWER_BYTES];
    let (length, _) = recv(&ours, &mut answer[..], RecvFlags::DONTWAIT)?;
    if is_new {
        connection.accept(&answer[..length])?;
    }
    let thread = std::thread::Builder::new().name("fuse".into()).spawn(move || session.run())?;
    let server = Server { thread, connection };
    for _ in 0..threads {
        send(&ours, &FORGET_NOTHING.bytes(), SendFlags::NOSIGNAL)?;
    }
    gate.wait_for(threads)?;
    replace(number, server.connection.as_fd())?;
    gate.open();
    Ok(server)
}

/// Makes the descriptor that the threads of a session read from one of the device.
fn replace(number: RawFd, device: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: the number is that of the socket which the session owns, and it is open: all threads of the session hold it
    // and are at the gate, where they use it for nothing. It is not closed here, and stays the session's.
    let mut theirs = ManuallyDrop::new(unsafe { OwnedFd::from_raw_fd(number) });
    Ok(rustix::io::dup3(device, &mut theirs, DupFlags::CLOEXEC)?)
}

/// `struct fuse_in_header` and `struct fuse_forget_in`.
struct Forget {
    opcode: u32,
    unique: u64,
    inode: u64,
}

/// A FORGET of the root, zero times.
const FORGET_NOTHING: Forget = Forget { opcode: 2, unique: 2, inode: 1 };

impl Forget {
    fn bytes(&self) -> [u8; 48] {
        let mut bytes = [0; 48];
        let length = bytes.len() as u32;
        bytes[..4].copy_from_slice(&length.to_ne_bytes());
        bytes[4..8].copy_from_slice(&self.opcode.to_ne_bytes());
        bytes[8..16].copy_from_slice(&self.unique.to_ne_bytes());
        bytes[16..24].copy_from_slice(&self.inode.to_ne_bytes());
        bytes
    }
}

/// A served mount.
#[derive(Debug)]
pub struct Server {
    thread: std::thread::JoinHandle<io::Result<()>>,
    connection: Connection,
}

impl Server {
    /// What is served.
    pub fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Waits until the file system has been unmounted, by this process or another.
    ///
    /// # Errors
    /// The connection broke.
    pub fn wait(self) -> io::Result<()> {
        match self.thread.join() {
            // An aborted connection (`/sys/fs/fuse/connections/N/abort`) is an end like another.
            Ok(Err(e))
                if e.raw_os_error() == Some(rustix::io::Errno::CONNABORTED.raw_os_error()) =>
            {
                Ok(())
            }
            Ok(result) => result,
            Err(_) => Err(io::Error::other("a FUSE thread died")),
        }
    }
}
