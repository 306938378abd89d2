//! The registry protocol over HTTP (OCI distribution spec 1.1): manifests by tag or digest, blobs and
//! ranges of them, referrers, and pushing.
//!
//! # Design
//!
//! Written by hand over a synchronous HTTP client, as every lazy puller does: reads come on threads
//! that have to wait anyway, and what a file system needs (redirects followed by us so that
//! credentials stay with the registry, bodies resumed where they broke, answers checked to the
//! byte) no registry crate offers. `ureq` has the timeouts for each phase that a deadline needs and
//! brings no runtime.
//!
//! # Invariants
//!
//! - Every wait has a limit: one question with all its requests (`patience`), silence, and a body that
//!   brings too little.
//! - Credentials go to the registry and to its token server, never to where a redirect points, be it
//!   fresh or remembered. Each of several hosts for an image gets its own, and so does another registry
//!   that a redirect leads to, for reading alone.
//! - A certificate that can't be checked ends the request. What the user exempts is one host.
//! - Nothing that a server sends is trusted for size: documents are cut at a limit, bodies are
//!   counted by their reader.
//! - URLs in messages have no query: signed URLs are secrets.

mod auth_file;
mod body;
mod client;
mod credential;
mod credentials;
mod error;
mod helper;
mod hosts;
mod image;
mod mirrors;
mod options;
mod push;
mod referrers;
mod retry_after;
mod session;
mod traffic;
mod transport;
mod url;

pub use auth_file::AuthFileError;
pub use credential::Credential;
pub use credentials::{Credentials, Found};
pub use error::{Error, Failure};
pub use hosts::{
    Aliased, ConfigFiles, Error as HostsError, HostsConfig, LoginPlace, Proxies, ProxyError,
    ProxyRoute, Roots, Route, routes,
};
pub use image::Registry;
pub use options::RegistryOptions;
pub use session::Session;
pub use traffic::{Clock, Traffic};
pub use transport::challenge::Challenge;
pub use url::is_loopback;
