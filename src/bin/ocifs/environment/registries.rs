//! Everything that asking a registry needs.

use ocifs::reference::Reference;
use ocifs::source::registry::{self, Credentials, Proxies};

use super::credentials::{Logins, credentials};
use super::registry_files::{hosts_config, roots};
use crate::args::ImageArgs;
use crate::render::errors::AnyError;
use crate::variables::variable;

/// Everything that asking a registry needs.
pub(super) fn registry_options(
    name: &Reference,
    args: &ImageArgs,
) -> Result<registry::RegistryOptions, AnyError> {
    Ok(registry::RegistryOptions {
        plain_http: args.plain_http,
        tls_verify: args.tls_verify,
        credentials: match args.has_keeper {
            true => Credentials::default(),
            false => credentials(name, &Logins::of(args))?,
        },
        hosts: hosts_config(),
        roots: roots(),
        proxies: proxies()?,
        connections: args.connections as usize,
        ..registry::RegistryOptions::default().with_deadline(args.timeout)
    })
}

/// The proxies, by variables in either case.
fn proxies() -> Result<Proxies, AnyError> {
    let value = |name: &str| {
        let value = variable(name).or_else(|| variable(&name.to_ascii_lowercase()));
        value.map(|value| value.to_string_lossy().into_owned())
    };
    let (http, https, all) = (value("HTTP_PROXY"), value("HTTPS_PROXY"), value("ALL_PROXY"));
    let exceptions = value("NO_PROXY");
    Ok(Proxies::new(http.as_deref(), https.as_deref(), all.as_deref(), exceptions.as_deref())?)
}
