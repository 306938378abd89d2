//! Metrics for Prometheus: the text format, version 0.0.4, and a server of it.
//!
//! Programs say what they count; here is how it is written and who may ask for it. A server answers `GET /metrics` and nothing
//! else, over TCP or a Unix socket.

mod address;
mod server;
mod text;

pub use address::Address;
pub use server::{ListenError, Listener};
pub use text::{Kind, Text};
