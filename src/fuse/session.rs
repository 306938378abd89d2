//! A connection to the kernel, and the threads that answer on it.

use std::io;
use std::os::fd::OwnedFd;

use fuser::{Config, Filesystem as FuseFilesystem, Session, SessionACL};

use super::panics::Guarded;

/// Threads that read requests from the kernel.
pub(super) const LOOP_THREADS: usize = 2;

/// Requests that the kernel may have under way in the background (readahead).
pub(super) const MAX_BACKGROUND: u16 = 64;

/// Accepts a connection and answers its requests, on so many threads.
pub(super) fn start(
    adapter: impl FuseFilesystem,
    device: OwnedFd,
    threads: usize,
) -> io::Result<Server> {
    let mut config = Config::default();
    config.n_threads = Some(threads);
    // The kernel decides who may come in (`allow_other`); fuser need not check again.
    let session = Session::from_fd(Guarded(adapter), device, SessionACL::All, config)?;
    let thread = std::thread::Builder::new().name("fuse".into()).spawn(move || session.run())?;
    Ok(Server { thread })
}

/// A served mount.
#[derive(Debug)]
pub struct Server {
    thread: std::thread::JoinHandle<io::Result<()>>,
}

impl Server {
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
