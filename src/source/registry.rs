//! The registry protocol over HTTP (OCI distribution spec 1.1): manifests by tag or digest, blobs and
//! ranges of them, referrers, and pushing.
//!
//! # Layers
//!
//! ```text
//! Registry (image)         one image: manifests, blobs, tags, referrers, pushes
//!   │  body                a blob's bytes, resumed where they broke
//!   ▼
//! Mirrors                  several hosts for it, one after the other
//!   ▼
//! Client                   one host and one repository: URLs and documents
//!   │
//!   │  transport: each layer adds one thing to the next lower one
//!   ├─ Retries             tries again, until a deadline               retry
//!   ├─ Schemes             https, then http, or the other way          in_its_scheme
//!   └─ Located             goes to where a blob lay before             send_directly
//!       Authorized         answers a 401: login or token               authorize
//!       Redirects          goes on to where the registry says          follow_redirects
//!       Messages           headers, to one place                       send_to
//!       RateLimited        waits for hosts that want to be left alone  round_trip_in_turn
//!       Http               one exchange, with its time-outs            round_trip
//!   ▼
//! hosts                    agents: TLS, proxies, names; what this machine's files say
//!
//! Session                  shared by all images: agents, rate limits, tokens, traffic
//! ```
//!
//! # One request
//!
//! `Registry::document` asks the `Mirrors`, which retry with one deadline for everything. They choose a host, whose
//! `Client` makes the URL in the scheme that is current and sends the request down: without a known location it
//! is sent without a login; a 401 comes back up to `Authorized`, which has a token fetched (that exchange goes
//! through `RateLimited` too), and sends the request again. A redirect is followed with what the place that it leads
//! to may see. The answer's header comes back up; the `Client` reads the document, and a blob is left to its reader.
//! Whatever fails comes back as an [`Error`], of which the layers above ask one question each: whether it
//! is temporary, whether another scheme or another host may help.
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
//! - Every wait has a limit: one question with all its requests (`transport::deadline`), silence, and a body that
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
mod catalog;
mod client;
mod credential;
mod credentials;
mod error;
mod helper;
mod hosts;
mod image;
mod mirrors;
mod options;
mod pages;
mod push;
mod referrers;
mod retry_after;
mod session;
mod tags;
mod traffic;
mod transport;
mod url;

pub use auth_file::AuthFileError;
pub use credential::Credential;
pub use credentials::{CredentialKeeper, Credentials, Found};
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
