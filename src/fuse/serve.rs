//! Serving a file system on a connection, with what is ahead of walks.

use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;

use super::adapter::Adapter;
use super::gate::Gate;
use super::guide::Guide;
use super::notify::Notifier;
use super::options::{Prefetch, ServeOptions};
use super::prefetcher::Prefetcher;
use super::pusher;
use super::requests::{Requests, count};
use super::session::{LOOP_THREADS, Link, Server, start};
use crate::space::Space;

/// Serves a space on a mounted `/dev/fuse` descriptor until it is unmounted. A connection that is [begun](Link::Begun)
/// must have been served with a space of the same numbers, names and attributes, as the kernel remembers them.
///
/// Returns once the kernel has accepted the connection; the requests are answered by threads of
/// their own, which [`Server::wait`] joins.
///
/// # Errors
/// The kernel's first request does not come, or its version is too old.
pub fn serve(
    link: Link,
    space: Space,
    options: &ServeOptions,
    requests: Arc<Requests>,
) -> io::Result<Server> {
    let root = space.root().cloned();
    let (guide, queue) = match (&options.prefetch, &root) {
        // Of what is opened later no walk is known.
        (Prefetch::Off, _) | (_, None) => (None, None),
        (Prefetch::Push, Some(_)) => {
            let (pusher, queue) = pusher::channel();
            (Some(Guide::Pusher(pusher)), Some(queue))
        }
        (Prefetch::Process(program, place), Some(root)) => {
            let started =
                Prefetcher::start(root.filesystem(), Arc::clone(program), Ok(place.clone()));
            (started.map(Guide::Prefetcher), None)
        }
    };
    let gate = Arc::new(Gate::default());
    let adapter = Adapter::new(space, options, &requests, guide, &gate);
    let notifier = queue.is_some().then(|| Notifier::new(link.as_fd())).transpose()?;
    let server = start(adapter, options.suspects.clone(), &gate, link, LOOP_THREADS)?;
    if let Some(((queue, notifier), root)) = queue.zip(notifier).zip(root) {
        // It ends with the session, which owns the other end of its queue.
        queue.serve(root, notifier, move || count(&requests.pushed))?;
    }
    Ok(server)
}
