//! What the images of one process share about registries.
//!
//! The images of one mount often come from one registry. So there is one session for all of them: connections are
//! used again, a host that asks to be left alone is left alone by all, and a token that was fetched for a
//! repository serves every image in it. A session is of one user: where it has logged in, it is logged in for
//! every image that is opened with it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::hosts::{AgentPool, Agents, Host};
use super::options::RegistryOptions;
use super::traffic::Traffic;
use super::transport::auth::repository_auth::RepositoryAuth;
use super::transport::rate_limits::RateLimits;
use super::transport::request::Access;
use crate::source::Connections;

/// Connections and their number, rate limits, tokens, and a count of what goes over the network.
#[derive(Debug, Default)]
pub struct Session {
    agents: AgentPool,
    limits: Arc<RateLimits>,
    tokens: Mutex<Vec<Tokens>>,
    traffic: Arc<Traffic>,
    /// By registry.
    connections: Mutex<HashMap<String, Arc<Connections>>>,
}

/// Authentication with one host for one repository.
#[derive(Debug)]
struct Tokens {
    /// How the host is reached: a token goes nowhere else.
    agents: Arc<Agents>,
    /// Scheme and host of the API, and where it begins.
    api: (Vec<String>, String),
    registry: String,
    repository: String,
    access: Access,
    auth: Arc<RepositoryAuth>,
}

impl Session {
    /// What has gone over the network.
    pub fn traffic(&self) -> &Arc<Traffic> {
        &self.traffic
    }

    /// The HTTP clients for a host.
    pub(super) fn agents(&self, host: &Host, options: &RegistryOptions) -> Arc<Agents> {
        host.agents(&self.agents, options)
    }

    /// The rate limits of all hosts.
    pub(super) fn limits(&self) -> &Arc<RateLimits> {
        &self.limits
    }

    /// The connections to a registry over which blobs come.
    pub(super) fn connections(
        &self,
        registry: &str,
        options: &RegistryOptions,
    ) -> Arc<Connections> {
        let mut all = self.connections.lock().unwrap_or_else(PoisonError::into_inner);
        let new = || Arc::new(Connections::new(options.connections));
        Arc::clone(all.entry(registry.to_owned()).or_insert_with(new))
    }

    /// Authentication with a host for the repository that it is asked about.
    pub(super) fn auth(
        &self,
        host: &Host,
        agents: &Arc<Agents>,
        access: Access,
        options: &RegistryOptions,
    ) -> Arc<RepositoryAuth> {
        let (registry, repository) = (host.reference.registry(), host.reference.repository());
        let mut all = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
        let is_same = |known: &&Tokens| {
            Arc::ptr_eq(&known.agents, agents)
                && (&known.api.0, &known.api.1) == (&host.bases, &host.path)
                && (&*known.registry, &*known.repository) == (registry, repository)
                && known.access == access
        };
        if let Some(known) = all.iter().find(is_same) {
            return Arc::clone(&known.auth);
        }
        let credentials = options.credentials.clone();
        let auth = Arc::new(RepositoryAuth::new(registry, repository, access, credentials));
        all.push(Tokens {
            agents: Arc::clone(agents),
            api: (host.bases.clone(), host.path.clone()),
            registry: registry.to_owned(),
            repository: repository.to_owned(),
            access,
            auth: Arc::clone(&auth),
        });
        auth
    }
}
