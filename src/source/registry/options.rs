//! How a registry is reached: by which files of this machine, with which credentials, and within which time.

use std::sync::Arc;
use std::time::Duration;

use super::credentials::Credentials;
use super::hosts::{HostsConfig, Proxies, Roots};
use crate::source::DEFAULT_CONNECTIONS;

/// How long the first answer may take where half the deadline is less.
const FIRST_ANSWER: Duration = Duration::from_secs(30);

/// How a registry is reached.
#[derive(Clone, Debug)]
pub struct RegistryOptions {
    /// Plain HTTP, for hosts other than loopback.
    pub plain_http: bool,
    /// Credentials found by the caller.
    pub credentials: Credentials,
    /// Time to resolve a name and connect; not more than half the `deadline`.
    pub connect_timeout: Duration,
    /// Time until the response's header is there, and longest silence while a body is read; not more
    /// than half the `deadline`, so that what is not answered can be asked for again.
    pub read_timeout: Duration,
    /// Time for all that it takes to answer one question: tries, hosts, tokens, and of a blob the
    /// header. Also how long a blob may take to bring as much as a link that is of use would.
    pub deadline: Duration,
    /// Check whose certificate the registry shows. Only the registry itself is ever exempt.
    pub tls_verify: bool,
    /// What this machine's files say about registries.
    pub hosts: Arc<HostsConfig>,
    /// The authorities that are trusted for every host.
    pub roots: Arc<Roots>,
    /// The proxies for hosts other than loopback.
    pub proxies: Proxies,
    /// Connections over which blobs come from one registry at the same time, besides what a reader waits for.
    pub connections: usize,
    /// What we call ourselves.
    pub user_agent: String,
}

impl Default for RegistryOptions {
    fn default() -> RegistryOptions {
        RegistryOptions {
            plain_http: false,
            credentials: Credentials::default(),
            connect_timeout: Duration::from_secs(10),
            read_timeout: Duration::from_secs(30),
            deadline: Duration::from_secs(60),
            tls_verify: true,
            hosts: Arc::default(),
            roots: Arc::default(),
            proxies: Proxies::default(),
            connections: DEFAULT_CONNECTIONS,
            user_agent: concat!("ocifs/", env!("CARGO_PKG_VERSION")).to_owned(),
        }
    }
}

impl RegistryOptions {
    /// The same with another deadline, from which the other limits follow.
    #[must_use]
    pub fn with_deadline(self, deadline: Duration) -> RegistryOptions {
        let usual = RegistryOptions::default();
        let connect_timeout = usual.connect_timeout.min(deadline / 2);
        RegistryOptions { connect_timeout, read_timeout: deadline / 2, deadline, ..self }
    }

    /// Whether connections made by these options may be used by those. Credentials are no part of a connection.
    pub(super) fn connects_like(&self, other: &RegistryOptions) -> bool {
        let times = |options: &RegistryOptions| {
            (options.connect_timeout, options.read_timeout, options.deadline)
        };
        times(self) == times(other)
            && (self.plain_http, self.tls_verify) == (other.plain_http, other.tls_verify)
            && Arc::ptr_eq(&self.hosts, &other.hosts)
            && Arc::ptr_eq(&self.roots, &other.roots)
            && self.proxies == other.proxies
            && self.user_agent == other.user_agent
    }

    /// Time to resolve a name, and then to connect.
    pub(super) fn connecting(&self) -> Duration {
        self.connect_timeout.min(self.deadline / 2)
    }

    /// Time until the first answer of all. It may be more than half the deadline, if that is short, as
    /// there is no second try.
    pub(super) fn first_answer(&self) -> Duration {
        match self.read_timeout < self.deadline / 2 {
            true => self.read_timeout,
            false => self.silence().max(FIRST_ANSWER).min(self.deadline),
        }
    }

    /// Longest silence.
    pub(super) fn silence(&self) -> Duration {
        self.read_timeout.min(self.deadline / 2)
    }
}
