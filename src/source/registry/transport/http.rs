//! One HTTP exchange through an agent, with its time-outs.

use std::sync::Arc;
use std::time::Duration;

use ureq::http::{Request as Message, Response, Uri};
use ureq::{AsSendBody, Body as HttpBody};

use super::deadline;
use super::observed::Observed;
use crate::source::MIN_BYTES_PER_SECOND;
use crate::source::registry::error::{Error, Failure};
use crate::source::registry::hosts::{self, Agents, Refused};
use crate::source::registry::options::RegistryOptions;
use crate::source::registry::traffic::Traffic;
use crate::source::registry::url::without_query;

/// How long the parts of an exchange may take.
#[derive(Clone, Copy, Debug)]
pub(in crate::source::registry) enum Waits {
    /// A document has to come in time.
    Document,
    /// So many bytes are sent, for as long as it keeps going.
    Upload(u64),
    /// A blob may come for as long as it keeps going, which its reader watches.
    Blob,
    /// A token has to come in time.
    Token,
}

/// The agents for one host and for where it sends us.
#[derive(Debug)]
pub(in crate::source::registry) struct Http {
    agents: Arc<Agents>,
    options: RegistryOptions,
    observed: Arc<Observed>,
    traffic: Arc<Traffic>,
}

impl Http {
    pub(in crate::source::registry) fn new(
        agents: Arc<Agents>,
        options: RegistryOptions,
        observed: Arc<Observed>,
        traffic: Arc<Traffic>,
    ) -> Http {
        Http { agents, options, observed, traffic }
    }

    pub(in crate::source::registry) fn options(&self) -> &RegistryOptions {
        &self.options
    }

    pub(in crate::source::registry) fn observed(&self) -> &Observed {
        &self.observed
    }

    pub(in crate::source::registry) fn traffic(&self) -> &Traffic {
        &self.traffic
    }

    /// An error of an exchange, with the way that it took.
    pub(in crate::source::registry) fn failed(
        &self,
        what: &str,
        url: &Uri,
        failure: Failure,
    ) -> Error {
        Error::new(what, url, failure).through(self.agents.route(url))
    }

    /// Sends a message to where its URL says, and receives the header of the answer.
    pub(in crate::source::registry) fn round_trip(
        &self,
        what: &str,
        message: Message<impl AsSendBody>,
        waits: Waits,
    ) -> Result<Response<HttpBody>, Error> {
        let url = message.uri().clone();
        self.traffic.count_request();
        log::debug!("{} {}", message.method(), without_query(&url));
        let agent = self.agents.agent(&url);
        let agent =
            agent.map_err(|e| Error::new("connecting", &url, Failure::Hosts(Arc::new(e))))?;
        let left = deadline::left(self.options.deadline);
        let (connecting, silence) = (self.options.connecting(), self.options.silence());
        // The first answer is not asked for again, and may take longer: it wakes caches and servers.
        let header = match self.observed.has_answered() {
            true => silence.min(left),
            false => self.options.first_answer().min(left),
        };
        let config = agent.configure_request(message);
        let config = match waits {
            Waits::Token => config.timeout_global(Some(left)),
            Waits::Document => config
                .timeout_recv_response(Some(header))
                .timeout_global(Some(left))
                .timeout_per_read(Some(header)),
            Waits::Upload(bytes) => {
                let at_least = Duration::from_secs(bytes / MIN_BYTES_PER_SECOND);
                config
                    .timeout_recv_response(Some(header))
                    .timeout_send_body(Some(left + at_least))
                    .timeout_recv_body(Some(silence.min(left)))
            }
            Waits::Blob => config
                .timeout_recv_response(Some(header))
                .timeout_resolve(Some(connecting.min(left)))
                .timeout_connect(Some(connecting.min(left)))
                .timeout_per_read(Some(
                    silence.min(self.observed.patience.limit(self.options.deadline)),
                )),
        };
        let response = agent.run(config.build()).map_err(|e| {
            let failure = match hosts::refused(&e) {
                Some(Refused::LeadsInside) => Failure::LeadsInside,
                Some(Refused::NotLoopback) => Failure::NotLoopback,
                None => Failure::Transport(e.into()),
            };
            self.failed(what, &url, failure)
        })?;
        log::debug!("{} {}", response.status(), without_query(&url));
        Ok(response)
    }
}
