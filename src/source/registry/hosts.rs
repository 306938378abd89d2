//! What this machine's files say about reaching registries: certificates, and which hosts to ask.
//!
//! Engines have many places for it, and users have filled them in for the engine that they use. All
//! of these are read, so that what works there works here with nothing to configure. Which files
//! there are is the caller's business ([`ConfigFiles`]); what they mean is told in the modules below.
//!
//! Where files of two engines are about the same registry, `registries.conf` counts, which is said for
//! single images too, then containerd's `hosts.toml`, and then Docker's `daemon.json`. Certificates count for the host whose folder
//! they lie in, whatever sends us there.
//!
//! A host is asked over TLS, with two exceptions. On loopback plain HTTP comes first, and TLS if the
//! server says that it wants that; if there are certificates for it, or it is not to be checked, only
//! TLS. And a host that is `insecure` in `registries.conf` or `daemon.json` is asked in plain HTTP where
//! TLS fails, as podman and Docker do it: that is what the word means there.

mod agents;
mod aliases;
mod certs;
mod choice;
mod config;
mod containerd;
mod docker;
mod elsewhere;
mod files;
mod network;
mod pace;
mod proxy;
mod registries;
mod resolver;
mod tls;

pub(super) use agents::{AgentPool, Agents};
pub use choice::routes;
pub(super) use choice::{Host, for_image, speaks_plain};
pub use config::{Aliased, HostsConfig, LoginPlace};
pub use files::{ConfigFiles, Error};
pub use proxy::{Proxies, ProxyError, ProxyRoute, Route};
pub(super) use resolver::{Refused, refused};
pub use tls::Roots;
pub(super) use tls::{CLIENT_WANTED, SPEAKS_TLS, hint, is_lasting, is_not_tls, page_words, words};
