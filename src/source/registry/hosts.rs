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
mod containerd;
mod docker;
mod files;
mod network;
mod pace;
mod proxy;
mod registries;
mod resolver;
mod tls;

use std::path::PathBuf;
use std::sync::Arc;

use ureq::http::{HeaderName, HeaderValue};

use super::RegistryOptions;
use super::url::{api_host, is_loopback};
use crate::reference::Reference;
use aliases::Aliases;
use certs::Certificates;
use containerd::{Found, Row};
use docker::Daemon;
use registries::Registries;
use tls::Identity;

pub(super) use agents::Agents;
pub use files::{ConfigFiles, Error};
pub use proxy::{Proxies, ProxyError, ProxyRoute, Route};
pub(super) use resolver::{Refused, refused};
pub use tls::Roots;
pub(super) use tls::{CLIENT_WANTED, SPEAKS_TLS, hint, is_lasting, is_not_tls, page_words, words};

/// What stands for the files of logins among credential helpers (containers-registries.conf(5)).
const AUTH_FILES: &str = "containers-auth.json";

/// What a short name means by an alias.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Aliased {
    /// The name as it was written, without tag and digest.
    pub name: String,
    /// The image, with the tag or digest that the user wrote.
    pub reference: Reference,
    /// The file that says so.
    pub path: PathBuf,
}

/// What a reference means by the aliases of this machine's files, if it is a short name that has one.
/// Nothing below this knows aliases: it is for the caller that reads what a user wrote.
///
/// # Errors
/// A file can't be used.
pub fn aliased(reference: &Reference, places: &ConfigFiles) -> Result<Option<Aliased>, Error> {
    let Some(name) = reference.short_name() else { return Ok(None) };
    let own = places.short_name_aliases.as_deref();
    let own = own.map(Aliases::read).transpose()?.unwrap_or_default();
    let Registries { aliases, .. } =
        Registries::read(&places.registries, &places.registries_drop_ins)?;
    // One that is empty takes back what other files say.
    let Some(alias) = own.get(name).or_else(|| aliases.get(name)) else { return Ok(None) };
    Ok(alias.target.as_ref().map(|target| Aliased {
        name: name.to_owned(),
        reference: reference.at(target.registry(), target.repository()),
        path: alias.path.clone(),
    }))
}

/// A place where the `credential-helpers` of `registries.conf` say that logins are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LoginPlace {
    /// The files of logins (`containers-auth.json`).
    Files,
    /// A helper, by its name, and the file that names it.
    Helper(String, PathBuf),
}

/// Where logins are, in the order in which `registries.conf` lists it. Where the files are not listed,
/// they come last: they may be Docker's, which does not know that list.
///
/// # Errors
/// A file can't be used.
pub fn login_places(places: &ConfigFiles) -> Result<Vec<LoginPlace>, Error> {
    let Registries { helpers, .. } =
        Registries::read(&places.registries, &places.registries_drop_ins)?;
    let (names, path) = helpers;
    let place = |name: String| match &*name {
        AUTH_FILES => LoginPlace::Files,
        _ => LoginPlace::Helper(name, path.clone()),
    };
    let mut listed: Vec<LoginPlace> = names.into_iter().map(place).collect();
    if !listed.contains(&LoginPlace::Files) {
        listed.push(LoginPlace::Files);
    }
    Ok(listed)
}

/// One host that can be asked about a repository.
#[derive(Debug)]
pub(super) struct Host {
    /// The image, as it is called there.
    pub(super) reference: Reference,
    /// Scheme and host, in the order in which to try them.
    pub(super) bases: Vec<String>,
    /// Where its API begins: `/v2` mostly.
    pub(super) path: String,
    /// The registry it stands in for, if it has to be told: it may do so for many.
    pub(super) namespace: Option<String>,
    /// What it wants to be told besides.
    pub(super) headers: Vec<(HeaderName, HeaderValue)>,
    /// It may say what a tag means.
    pub(super) resolves: bool,
    /// It may be asked for content by digest.
    pub(super) pulls: bool,
    pub(super) agents: Agents,
}

/// The hosts to ask about an image, in their order. The last is its registry.
///
/// # Errors
/// A file about them can't be used, or forbids this registry.
pub(super) fn for_image(
    reference: &Reference,
    options: &RegistryOptions,
) -> Result<Vec<Host>, Error> {
    let places = &options.places;
    let name = format!("{}/{}", reference.registry(), reference.repository());
    let version = match (reference.digest(), reference.tag()) {
        (Some(digest), _) => format!("@{digest}"),
        (None, tag) => format!(":{}", tag.unwrap_or("latest")),
    };
    let registries = Registries::read(&places.registries, &places.registries_drop_ins)?;
    if let Some(rule) = registries.rule(&name, &version) {
        if rule.blocked {
            return Err(Error::Blocked { name, path: rule.path.clone() });
        }
        let places = rule.places(&name, &version);
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
    let given = match containerd::of_registry(&places.containerd, registry)? {
        Some(Found::Rows(rows)) => {
            let last = rows.len().saturating_sub(1);
            let rows = rows.into_iter().enumerate();
            let by_row = |(number, row)| by_row(reference, row, number == last, options);
            return rows.map(by_row).collect();
        }
        Some(Found::Certificates(found)) => found,
        None => Certificates::default(),
    };
    let daemon = Daemon::read(&places.docker);
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
pub(super) fn speaks_plain(reference: &Reference, options: &RegistryOptions) -> bool {
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
    let found = certs::of_host(&options.places.certificates, registry)?;
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
        agents: Agents::new(&host, identity, options.clone()),
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
    let found = certs::of_host(&options.places.certificates, name)?.unwrap_or_default();
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
        agents: Agents::new(&row.host, identity, options.clone()),
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
