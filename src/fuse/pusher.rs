//! Gives the kernel small files before it asks for them.
//!
//! What to give is the guess of [`crate::prefetch::Window`]; what is given are bytes that are cached, never
//! any that would have to be fetched. All of it is a hint: a file that did not arrive, or was dropped
//! again under memory pressure, is read as ever.
//!
//! # Why a thread of its own
//!
//! The kernel puts pushed bytes into the page cache under the lock of the page, and a page that is being
//! read stays locked until its READ is answered. The thread that pushes may therefore wait for the one
//! that answers; so this thread answers nothing, and no other waits for it. Its queue is short, and
//! what does not fit is forgotten. (libfuse, `README.notifications`, warns of the same.)
//!
//! # Why it is off by default
//!
//! The end of the process waits for this thread too, in the kernel, and closes the connection only
//! afterwards. A process that ends in order aborts the connection first (`kernel::Unmount::Abort`). But if the
//! process is killed while this thread waits for a page, then no thread answers the READ that has the page
//! locked, and the thread, the connection and the reader wait for each other until a process aborts it:
//! `ocifs umount` and `ocifs mount` do, once they have found that it does not answer. A test that kills
//! mounts in the middle of walks met this within a few dozen tries, and a hang is worse than slow.
//! (A second device descriptor in a table of descriptors of its own would not help: requests that no
//! thread has fetched yet are ended only with the last descriptor.)

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use super::notify::Notifier;
use crate::prefetch::{Listings, Window};
use crate::space::Volume;
use crate::tree::Ino;

/// Events that may wait.
const QUEUED: usize = 32;

/// How long the kernel may take to take in a listing that it was just sent.
const PATIENCE: Duration = Duration::from_micros(100);

enum Event {
    Listed(Ino),
    Read(Ino),
}

/// The end that the threads have which answer the kernel.
#[derive(Clone, Debug)]
pub(super) struct Pusher {
    events: SyncSender<Event>,
    listings: Arc<Listings>,
}

/// The other end, until there is a thread for it.
pub(super) struct Queue {
    events: Receiver<Event>,
    listings: Arc<Listings>,
}

/// A pusher and its queue.
pub(super) fn channel() -> (Pusher, Queue) {
    let (sender, events) = sync_channel(QUEUED);
    let listings = Arc::new(Listings::default());
    (Pusher { events: sender, listings: Arc::clone(&listings) }, Queue { events, listings })
}

impl Pusher {
    /// A directory is being listed from its start.
    pub(super) fn listed(&self, dir: Ino) {
        if self.listings.note(dir) {
            let _ = self.events.try_send(Event::Listed(dir));
        }
    }

    /// The start of a file was read.
    pub(super) fn read(&self, file: Ino) {
        if self.listings.wants_read() {
            let _ = self.events.try_send(Event::Read(file));
        }
    }
}

impl Queue {
    /// Starts a thread that gives files to the kernel until all [`Pusher`]s are gone, and counts
    /// them.
    pub(super) fn serve(
        self,
        volume: Volume,
        notifier: Notifier,
        pushed: impl Fn() + Send + 'static,
    ) -> io::Result<thread::JoinHandle<()>> {
        let work = move || {
            let tree = volume.filesystem().tree();
            let mut ahead = Window::new(tree.len());
            let mut buf = Vec::new();
            loop {
                let next = ahead.next(tree);
                if let Some(file) = next {
                    match push(&volume, &notifier, file, &mut buf) {
                        Ok(true) => pushed(),
                        Ok(false) => ahead.stop(),
                        Err(e) => {
                            log::debug!("pushing inode {file}: {e}");
                            ahead.stop();
                        }
                    }
                }
                // News come before the rest of a guess; only without any is there time to wait.
                let event = match next {
                    Some(_) => self.events.try_recv().ok(),
                    None => match self.events.recv() {
                        Ok(event) => Some(event),
                        Err(_) => return,
                    },
                };
                match event {
                    Some(Event::Listed(dir)) => ahead.listed(&self.listings, dir),
                    Some(Event::Read(file)) => ahead.read(tree, &self.listings, file),
                    None => {}
                }
            }
        };
        thread::Builder::new().name("push".into()).spawn(work)
    }
}

/// Pushes a file; false if it is not cached, or if the kernel does not know it.
fn push(volume: &Volume, notifier: &Notifier, file: Ino, buf: &mut Vec<u8>) -> io::Result<bool> {
    let number = volume.shown(file).number;
    let Ok(file) = volume.filesystem().file(file) else { return Ok(false) };
    buf.resize(file.readable(0, usize::MAX), 0);
    if !file.read_local(0, buf) {
        return Ok(false);
    }
    let begun = Instant::now();
    while !notifier.store(number, buf)? {
        if begun.elapsed() > PATIENCE {
            return Ok(false);
        }
        thread::yield_now();
    }
    Ok(true)
}
