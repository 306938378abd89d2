//! A user's secret for one registry.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A user's secret for one registry. Never printed.
#[derive(Clone, PartialEq, Eq, Deserialize, Serialize)]
pub enum Credential {
    /// User name and password.
    Basic {
        /// User name.
        user: String,
        /// Password or access token.
        password: String,
    },
    /// A refresh token, exchanged at the token server.
    IdentityToken {
        /// Whom it is for, where that is known; for token servers that want it as a password.
        user: Option<String>,
        /// The token.
        token: String,
    },
    /// A token that the registry takes as it is.
    RegistryToken(String),
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credential(hidden)")
    }
}
