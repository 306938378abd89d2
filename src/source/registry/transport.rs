//! How a request gets to a registry and an answer comes back: layers, each of which knows the next lower one.
//!
//! A drawing of them is in the [parent](super).

pub(super) mod auth;
pub(super) mod challenge;
pub(super) mod deadline;
pub(super) mod encoding;
pub(super) mod error_body;
pub(super) mod http;
pub(super) mod jitter;
pub(super) mod location;
pub(super) mod locations;
pub(super) mod message;
pub(super) mod observed;
pub(super) mod past_cache;
pub(super) mod patience;
pub(super) mod rate_limit;
pub(super) mod rate_limits;
pub(super) mod redirect;
pub(super) mod request;
pub(super) mod response;
pub(super) mod retry;
pub(super) mod scheme;
pub(super) mod throughput;
