//! Whether a tag still means what is mounted.
//!
//! A mount shows what its name meant when it was made, and goes on to. A user who looks at its status
//! wants to know that there is something newer: the registry is asked then, with one HEAD request,
//! and at no other time. It gets a short while, since a status is for when things do not work.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::thread;

use crate::digest::Digest;
use crate::reference::ImageName;
use crate::resolve::ResolvedImage;
use crate::source::Source;

/// A tag that was mounted.
#[derive(Debug)]
pub(crate) struct Tag {
    source: Arc<dyn Source>,
    /// What it meant.
    pub(crate) digest: Digest,
    /// A thread is asking. A registry that is slow to answer is not asked twice.
    is_asked: AtomicBool,
}

impl Tag {
    /// The tag of a name, if it is one of a registry and may be asked for.
    pub(super) fn of(
        name: &ImageName,
        resolved: &ResolvedImage,
        source: &Arc<dyn Source>,
    ) -> Option<Arc<Tag>> {
        let ImageName::Registry(reference) = name else { return None };
        let is_tag = reference.digest().is_none() && !source.is_offline();
        let (source, digest) = (Arc::clone(source), resolved.root);
        is_tag.then(|| Arc::new(Tag { source, digest, is_asked: AtomicBool::new(false) }))
    }

    /// Asks what it means now, on a thread of its own. Nothing comes if the registry does not say.
    pub(crate) fn ask(self: &Arc<Tag>) -> Receiver<Digest> {
        let (sender, receiver) = mpsc::channel();
        if self.is_asked.swap(true, Ordering::Relaxed) {
            return receiver;
        }
        let tag = Arc::clone(self);
        let started = thread::Builder::new().name("tag".into()).spawn(move || {
            let answer = tag.source.head();
            tag.is_asked.store(false, Ordering::Relaxed);
            match answer {
                // The caller may have stopped waiting.
                Ok(Some(digest)) => drop(sender.send(digest)),
                Ok(None) => {}
                Err(e) => log::info!("asking what the tag means now: {e}"),
            }
        });
        if started.is_err() {
            self.is_asked.store(false, Ordering::Relaxed);
        }
        receiver
    }
}
