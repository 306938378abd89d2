//! Connections that crawl, seen below TLS and HTTP.
//!
//! The reader of a body sees only what HTTP hands on. A record of TLS that never becomes whole, or a
//! line in front of a chunk that never ends, hands on nothing while bytes keep coming, so that no limit on
//! silence ends it. So the bytes themselves are watched, by the [`Floor`] that all connections of one agent
//! share: several of them may have to share a slow link.
//!
//! This file, `tls.rs` and `resolver.rs` are the only ones that use what `ureq` calls unversioned.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use ureq::Timeout;
use ureq::unversioned::transport::{Buffers, ConnectionDetails, Connector, NextTimeout, Transport};

use crate::source::floor::Floor;

/// Watches the connections of one agent.
#[derive(Debug)]
pub(super) struct PaceConnector {
    limit: Duration,
    brought: Arc<AtomicU64>,
}

impl PaceConnector {
    /// So long may too little come.
    pub(super) fn new(limit: Duration) -> PaceConnector {
        PaceConnector { limit, brought: Arc::default() }
    }
}

impl<In: Transport> Connector<In> for PaceConnector {
    type Out = Paced<In>;

    fn connect(
        &self,
        _details: &ConnectionDetails<'_>,
        chained: Option<In>,
    ) -> Result<Option<Paced<In>>, ureq::Error> {
        let brought = Arc::clone(&self.brought);
        let floor = Floor::new(self.limit, brought.load(Ordering::Relaxed));
        Ok(chained.map(|inner| Paced { inner, floor, brought, is_asked: true }))
    }
}

/// A connection that is watched.
pub(super) struct Paced<T> {
    inner: T,
    floor: Floor,
    brought: Arc<AtomicU64>,
    /// Something was sent, to which no answer has begun.
    is_asked: bool,
}

impl<T> fmt::Debug for Paced<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Paced").field("floor", &self.floor).finish_non_exhaustive()
    }
}

impl<T: Transport> Transport for Paced<T> {
    fn buffers(&mut self) -> &mut dyn Buffers {
        self.inner.buffers()
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), ureq::Error> {
        self.is_asked = true;
        self.inner.transmit_output(amount, timeout)
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, ureq::Error> {
        let (asked, before) = (Instant::now(), self.inner.buffers().input().len());
        let progress = self.inner.await_input(timeout)?;
        let came = self.inner.buffers().input().len().saturating_sub(before) as u64;
        let brought = self.brought.fetch_add(came, Ordering::Relaxed) + came;
        if std::mem::take(&mut self.is_asked) {
            // Until an answer begins there is another limit.
            self.floor = Floor::new(self.floor.limit(), brought);
        } else {
            self.floor.waited(asked.elapsed(), came, brought, self.floor.limit());
        }
        match self.floor.is_dead() {
            true => Err(ureq::Error::Timeout(Timeout::RecvBody)),
            false => Ok(progress),
        }
    }

    fn is_open(&mut self) -> bool {
        self.inner.is_open()
    }

    fn is_tls(&self) -> bool {
        self.inner.is_tls()
    }
}
