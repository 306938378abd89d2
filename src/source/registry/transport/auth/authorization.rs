//! The value of an `Authorization` header, and how long it holds.

use std::time::Instant;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// What is sent with requests.
#[derive(Clone)]
pub(super) enum Authorization {
    /// It has no end of its own.
    Fixed(String),
    Bearer {
        header: String,
        /// When to ask for another one; some time before it expires.
        renewal: Instant,
        expiry: Instant,
    },
}

impl Authorization {
    pub(super) fn header(&self) -> &str {
        match self {
            Authorization::Fixed(header) | Authorization::Bearer { header, .. } => header,
        }
    }
}

/// The value for a user and a password (RFC 7617).
pub(super) fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{user}:{password}")))
}
