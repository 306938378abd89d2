//! Whom the adapter tells what readers ask for: the thread or the process that is ahead of walks.

use super::prefetcher::Prefetcher;
use super::pusher::Pusher;
use crate::tree::Ino;

/// Whom walks are told.
#[derive(Debug)]
pub(super) enum Guide {
    Pusher(Pusher),
    Prefetcher(Prefetcher),
}

impl Guide {
    /// Whether the process with this number asks for us.
    pub(super) fn asks(&self, pid: u32) -> bool {
        match self {
            Guide::Pusher(_) => false,
            Guide::Prefetcher(prefetcher) => prefetcher.asks(pid),
        }
    }

    /// The process with this number lists a directory from its start: the sooner it is known, the less
    /// the prefetcher meets it there.
    pub(super) fn before_listing(&self, pid: u32, dir: Ino) {
        match self {
            Guide::Pusher(_) => {}
            Guide::Prefetcher(prefetcher) => prefetcher.listed(pid, dir),
        }
    }

    /// The kernel has the listing of a directory from its start.
    pub(super) fn after_listing(&self, dir: Ino) {
        match self {
            Guide::Pusher(pusher) => pusher.listed(dir),
            Guide::Prefetcher(_) => {}
        }
    }

    /// It has read the start of a file.
    pub(super) fn read(&self, pid: u32, file: Ino) {
        match self {
            Guide::Pusher(pusher) => pusher.read(file),
            Guide::Prefetcher(prefetcher) => prefetcher.read(pid, file),
        }
    }

    /// It has read a symlink.
    pub(super) fn followed(&self, pid: u32) {
        match self {
            Guide::Pusher(_) => {}
            Guide::Prefetcher(prefetcher) => prefetcher.followed(pid),
        }
    }
}
