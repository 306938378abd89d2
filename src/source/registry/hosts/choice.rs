//! Which hosts are asked about an image, in which order, and how each is reached.

use std::sync::Arc;

use ureq::http::{HeaderName, HeaderValue};

use super::agents::{AgentPool, Agents};
use super::certs::Certificates;
use super::containerd::{Found, Row};
use super::files::Error;
use super::proxy::Route;
use super::tls::Identity;
use crate::reference::Reference;
use crate::source::registry::options::RegistryOptions;
use crate::source::registry::url::{api_host, is_loopback};

/// One host that can be asked about a repository.
#[derive(Debug)]
pub(in crate::source::registry) struct Host {
    /// The image, as it is called there.
    pub(in crate::source::registry) reference: Reference,
    /// Scheme and host, in the order in which to try them.
    pub(in crate::source::registry) bases: Vec<String>,
    /// Where its API begins: `/v2` mostly.
    pub(in crate::source::registry) path: String,
    /// The registry it stands in for, if it has to be told: it may do so for many.
    pub(in crate::source::registry) namespace: Option<String>,
    /// What it wants to be told besides.
    pub(in crate::source::registry) headers: Vec<(HeaderName, HeaderValue)>,
    /// It may say what a tag means.
    pub(in crate::source::registry) resolves: bool,
    /// It may be asked for content by digest.
    pub(in crate::source::registry) pulls: bool,
    /// The host that is connected to, with its port.
    host: String,
    /// Whom to trust there, and who we are.
    identity: Arc<Identity>,
}

impl Host {
    /// The HTTP clients for it in a pool.
    pub(in crate::source::registry) fn agents(
        &self,
        pool: &AgentPool,
        options: &RegistryOptions,
    ) -> Arc<Agents> {
        pool.agents(&self.host, &self.identity, options)
    }
}

/// The hosts to ask about an image, in their order. The last is its registry.
///
/// # Errors
/// A file about them can't be used, or forbids this registry.
pub(in crate::source::registry) fn for_image(
    reference: &Reference,
    options: &RegistryOptions,
) -> Result<Vec<Host>, Error> {
    let config = &options.hosts;
    let name = format!("{}/{}", reference.registry(), reference.repository());
    let version = match (reference.digest(), reference.tag()) {
        (Some(digest), _) => format!("@{digest}"),
        (None, tag) => format!(":{}", tag.unwrap_or("latest")),
    };
    let registries = config.registries()?;
    if let Some(rule) = registries.rule(&name, &version) {
        if rule.blocked {
            return Err(Error::Blocked { name, path: rule.path.clone() });
        }
        let places = rule.locations(&name, &version);
        let last = places.len() - 1;
        let hosts = places.iter().enumerate().map(|(number, place)| {
            log::debug!("{name} is asked for at {}, as {} says", place.name, rule.path.display());
            let moved = moved(reference, &place.name)
                .map_err(|what| Error::Invalid { path: rule.path.clone(), what })?;
            host(moved, place.insecure, number == last, Certificates::default(), options)
        });
        return hosts.collect();
    }
    let registry = reference.registry();
    let given = match config.containerd(registry)? {
        Some(Found::Rows(rows)) => {
            let last = rows.len().saturating_sub(1);
            let rows = rows.into_iter().enumerate();
            let by_row = |(number, row)| by_row(reference, row, number == last, options);
            return rows.map(by_row).collect();
        }
        Some(Found::Certificates(found)) => found,
        None => Certificates::default(),
    };
    let daemon = config.daemon();
    let mirrors = daemon.mirrors(registry, options.connect_timeout).into_iter();
    // Docker's engine sends mirrors no `ns` parameter.
    let mirrors =
        mirrors.map(|row| Ok(Host { namespace: None, ..by_row(reference, row, false, options)? }));
    let insecure = daemon.is_insecure(registry, options.connect_timeout);
    let own = host(reference.clone(), insecure, true, given, options);
    mirrors.chain([own]).collect()
}

/// Whether this machine's files let a registry be asked in plain HTTP, which other than the one of the
/// command is meant.
pub(in crate::source::registry) fn speaks_plain(
    reference: &Reference,
    options: &RegistryOptions,
) -> bool {
    // The name may come from a redirect, so it must not lead anywhere else.
    if reference.registry().starts_with('.') {
        return false;
    }
    let options = RegistryOptions { plain_http: false, tls_verify: true, ..options.clone() };
    let hosts = for_image(reference, &options).unwrap_or_default();
    let bases = hosts.last().map_or(&[][..], |host| &host.bases);
    bases.iter().any(|base| base.starts_with("http://"))
}

/// How the hosts are reached that have an image: scheme and host of each, in the order in which they are
/// asked. Where storage and token servers are, only they can say.
///
/// # Errors
/// A file about them can't be used, or forbids this registry.
pub fn routes(
    reference: &Reference,
    options: &RegistryOptions,
) -> Result<Vec<(String, Route)>, Error> {
    let hosts = for_image(reference, options)?.into_iter();
    let bases = hosts.filter_map(|host| host.bases.into_iter().next());
    let routed = bases.filter_map(|base| {
        let route = options.proxies.route(&base.parse().ok()?);
        Some((base, route))
    });
    Ok(routed.collect())
}

/// The same image under another name, `host[:port]/path`.
fn moved(reference: &Reference, name: &str) -> Result<Reference, String> {
    let is_part = |part: &str, more: &str| {
        let fits = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c) || more.contains(c);
        !part.is_empty() && part.chars().all(fits)
    };
    match name.split_once('/') {
        Some((host, path)) if is_part(host, ":[]") && is_part(path, "/") => {
            Ok(reference.at(host, path))
        }
        _ => Err(format!("`{name}`, where an image would be, is not a registry and a repository")),
    }
}

/// A host by its name alone. `given` are certificates that are said elsewhere to be for it.
fn host(
    reference: Reference,
    insecure: bool,
    is_registry: bool,
    given: Certificates,
    options: &RegistryOptions,
) -> Result<Host, Error> {
    let registry = reference.registry();
    let found = options.hosts.certificates(registry)?;
    let is_unchecked = is_registry && !options.tls_verify;
    let has_tls = found.is_some() || !given.is_empty() || is_unchecked;
    let schemes: &[&str] = match (is_registry && options.plain_http, is_loopback(registry)) {
        (true, _) => &["http"],
        (false, true) if !has_tls => &["http", "https"],
        (false, false) if insecure => &["https", "http"],
        _ => &["https"],
    };
    let certificates = found.unwrap_or_default().and(given);
    let identity = identity(registry, certificates, insecure, is_unchecked);
    let host = api_host(registry).to_owned();
    Ok(Host {
        bases: schemes.iter().map(|scheme| format!("{scheme}://{host}")).collect(),
        path: "/v2".to_owned(),
        namespace: None,
        headers: Vec::new(),
        resolves: true,
        pulls: true,
        host,
        identity,
        reference,
    })
}

/// A host of a `hosts.toml`.
fn by_row(
    reference: &Reference,
    row: Row,
    is_registry: bool,
    options: &RegistryOptions,
) -> Result<Host, Error> {
    let registry = reference.registry();
    let is_same = row.host == registry || row.host == api_host(registry);
    let name = if is_same { registry } else { &row.host };
    let found = options.hosts.certificates(name)?.unwrap_or_default();
    let is_unchecked = is_registry && !options.tls_verify;
    let identity = identity(name, row.certificates.and(found), row.unverified, is_unchecked);
    let plain = row.plain || is_registry && options.plain_http;
    Ok(Host {
        reference: reference.at(name, reference.repository()),
        bases: vec![format!("{}://{}", if plain { "http" } else { "https" }, row.host)],
        path: row.path,
        namespace: (!is_same).then(|| registry.to_owned()),
        headers: row.headers,
        resolves: row.resolve,
        pulls: row.pull,
        host: row.host,
        identity,
    })
}

/// Whom to trust at a host, with a warning where that is everybody because the user said so just now.
fn identity(
    name: &str,
    certificates: Certificates,
    insecure: bool,
    is_unchecked: bool,
) -> Arc<Identity> {
    if is_unchecked {
        log::warn!("whose certificate {name} shows is not checked");
    }
    let unverified = insecure || is_unchecked;
    Arc::new(Identity { unverified, ..Identity::from(certificates) })
}
