//! HTTP clients: one for each way of connecting, so that each keeps its open connections.
//!
//! A way is whom we trust and who we are, and the proxy. What the user put down for a registry's host
//! is for that host, on any port. Where the registry sends us, to its storage or its token server, its
//! authorities are trusted as well, since one who has an authority of their own has it for all of
//! these; but no client certificate goes there, and everything is checked there, whatever is not
//! checked at the registry. A `certs.d` folder for such a host counts.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ureq::http::Uri;
use ureq::{Agent, Proxy, config::Config};

use super::files::Error;
use super::pace::PaceConnector;
use super::proxy::Route;
use super::resolver::{Addresses, Origin, Whose};
use super::tls::{self, Identity};
use crate::source::registry::options::RegistryOptions;
use crate::source::registry::url::{host_and_port, without_port};

/// The HTTP clients of a session, by the hosts that they are for: images of one registry use the same
/// connections.
#[derive(Debug, Default)]
pub(in crate::source::registry) struct AgentPool(Mutex<Vec<Arc<Agents>>>);

impl AgentPool {
    /// The clients for a registry at `host[:port]`.
    pub(super) fn agents(
        &self,
        host: &str,
        own: &Arc<Identity>,
        options: &RegistryOptions,
    ) -> Arc<Agents> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_same = |known: &&Arc<Agents>| {
            known.at == host && known.own == *own && known.options.connects_like(options)
        };
        if let Some(known) = all.iter().find(is_same) {
            return Arc::clone(known);
        }
        let agents = Arc::new(Agents::new(host, Arc::clone(own), options.clone()));
        all.push(Arc::clone(&agents));
        agents
    }
}

/// The HTTP clients for one registry and for where it sends us.
#[derive(Debug)]
pub(in crate::source::registry) struct Agents {
    /// The registry's host, with its port.
    at: String,
    /// The same without its port.
    host: String,
    own: Arc<Identity>,
    others: Arc<Identity>,
    origin: Arc<Origin>,
    options: RegistryOptions,
    made: Mutex<Vec<Made>>,
}

#[derive(Debug)]
struct Made {
    way: Way,
    agent: Agent,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Way {
    to: To,
    whose: Whose,
    proxy: Option<Proxy>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum To {
    Registry,
    Others,
    /// A host, with its port, that has certificates of its own.
    Host(String),
}

impl Agents {
    /// The clients for a registry at `host[:port]`.
    fn new(at: &str, own: Arc<Identity>, options: RegistryOptions) -> Agents {
        let authorities = own.authorities.clone();
        let others = Arc::new(Identity { authorities, ..Identity::default() });
        let (origin, host) = (Arc::new(Origin::new(at)), without_port(at).to_owned());
        Agents { at: at.to_owned(), host, own, others, origin, options, made: Mutex::default() }
    }

    /// The client for a URL.
    ///
    /// # Errors
    /// There are certificates for its host that can't be used.
    pub(in crate::source::registry) fn agent(&self, url: &Uri) -> Result<Agent, Error> {
        let is_own = url.host().is_some_and(|host| host.eq_ignore_ascii_case(&self.host));
        let to = match url.scheme_str() {
            // Without TLS there is nothing to tell apart.
            Some("https") if !is_own => self.elsewhere(url),
            _ => To::Registry,
        };
        let proxy = self.options.proxies.for_url(url);
        let whose = match (&proxy, is_own) {
            (Some(_), _) => Whose::Proxy,
            (None, true) => Whose::Own,
            (None, false) => Whose::Named,
        };
        let way = Way { to, whose, proxy };
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = made.iter().find(|made| made.way == way) {
            return Ok(known.agent.clone());
        }
        let identity = self.identity(&way.to)?;
        let config = config(&self.options, way.proxy.clone());
        let pace = PaceConnector::new(self.options.silence());
        let addresses = Addresses::new(whose, Arc::clone(&self.origin), self.options.plain_http);
        let agent = tls::agent(config, identity, Arc::clone(&self.options.roots), pace, addresses);
        made.push(Made { way, agent: agent.clone() });
        Ok(agent)
    }

    /// How a URL is reached.
    pub(in crate::source::registry) fn route(&self, url: &Uri) -> Route {
        self.options.proxies.route(url)
    }

    fn identity(&self, to: &To) -> Result<Arc<Identity>, Error> {
        Ok(match to {
            To::Registry => Arc::clone(&self.own),
            To::Others => Arc::clone(&self.others),
            To::Host(host) => {
                let mut found = self.options.hosts.certificates(host)?.unwrap_or_default();
                found.authorities.extend(self.others.authorities.iter().cloned());
                Arc::new(Identity::from(found))
            }
        })
    }

    /// Whose certificates count at a host that is not the registry's.
    fn elsewhere(&self, url: &Uri) -> To {
        let host = host_and_port(url).to_ascii_lowercase();
        match self.options.hosts.has_certificates(&host) {
            true => To::Host(host),
            false => To::Others,
        }
    }
}

/// Bytes that are taken in at a time, and the longest header of an answer. They are equal because `ureq` compares with that
/// all that has come, body and all, where a preliminary answer (1xx) comes before the real one.
const INPUT_BYTES: usize = 128 << 10;

fn config(options: &RegistryOptions, proxy: Option<Proxy>) -> Config {
    Agent::config_builder()
        .http_status_as_error(false)
        .input_buffer_size(INPUT_BYTES)
        .max_response_header_size(INPUT_BYTES)
        // Redirects are followed by us, so that Authorization does not travel.
        .max_redirects(0)
        .max_redirects_will_error(false)
        .user_agent(&options.user_agent)
        .accept_encoding("identity")
        .proxy(proxy)
        .timeout_resolve(Some(options.connecting()))
        .timeout_connect(Some(options.connecting()))
        .timeout_recv_response(Some(options.silence()))
        .timeout_per_read(Some(options.silence()))
        .timeout_per_write(Some(options.silence()))
        .max_idle_connections(64)
        .max_idle_connections_per_host(16)
        // Load balancers drop silent connections after about 30 s.
        .max_idle_age(Duration::from_secs(20))
        .build()
}
