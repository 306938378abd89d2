//! Metrics for Prometheus: the text format, version 0.0.4, and what a server of it answers.
//!
//! Programs say what they count; here is how it is written, and that it is asked for by `GET /metrics` and nothing
//! else.

mod server;
mod text;

pub use server::{MAX_CLIENTS, answer};
pub use text::{Kind, Text};
