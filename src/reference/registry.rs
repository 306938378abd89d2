//! References into registries: `[host[:port]/]path[:tag][@digest]` with Docker's defaults.
//!
//! The grammar is that of the `distribution/reference` project, which every engine embeds; its
//! vectors are among the tests. The `Reference` type of the `oci-spec` crate follows an older
//! version of it (no IPv6, other rules for hosts with uppercase letters), so this one is our own.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;

use super::error::ParseError;
use crate::digest::Digest;

/// The registry that a name without a host means.
pub const DEFAULT_REGISTRY: &str = "docker.io";

/// The longest repository path in bytes (`distribution/reference`, `NameTotalLengthMax`).
const MAX_PATH_BYTES: usize = 255;

/// The longest tag in bytes (distribution spec, "Pulling manifests").
const MAX_TAG_BYTES: usize = 128;

/// A parsed reference into a registry.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Reference {
    registry: String,
    repository: String,
    tag: Option<String>,
    digest: Option<Digest>,
    short: Short,
}

/// The name of a repository as it was written, if that was without a registry. What a reference
/// means does not depend on it, and so all of them are equal.
#[derive(Clone, Debug, Default)]
struct Short(Option<String>);

impl PartialEq for Short {
    fn eq(&self, _: &Short) -> bool {
        true
    }
}

impl Eq for Short {}

impl Hash for Short {
    fn hash<H: Hasher>(&self, _: &mut H) {}
}

impl Reference {
    /// Host and port as the user means them: `docker.io`, `127.0.0.1:5000`, `[::1]:5000`.
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// The repository path with Docker's `library/` filled in: `library/debian`.
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// The tag, `latest` when neither tag nor digest was written.
    ///
    /// `None` when the reference has a digest: with both, the digest decides.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The manifest digest, if the reference is pinned to one.
    pub fn digest(&self) -> Option<Digest> {
        self.digest
    }

    /// The name without tag and digest as it was written, if that was without a registry: `debian`,
    /// `library/debian`. Aliases are for these; that they mean Docker Hub is only a default.
    pub fn short_name(&self) -> Option<&str> {
        self.short.0.as_deref()
    }

    /// The same tag and digest in another place, whose names are taken as they are.
    pub(crate) fn at(&self, registry: &str, repository: &str) -> Reference {
        let (registry, repository) = (registry.to_owned(), repository.to_owned());
        Reference { registry, repository, short: Short::default(), ..self.clone() }
    }

    /// The same, as if it had been written with its registry.
    pub(super) fn in_full(self) -> Reference {
        Reference { short: Short::default(), ..self }
    }

    /// A repository that is not in a registry; its parts are valid.
    pub(super) fn bare(repository: &str, tag: Option<&str>, digest: Option<Digest>) -> Reference {
        Reference {
            registry: String::new(),
            repository: repository.to_owned(),
            tag: digest.is_none().then(|| tag.unwrap_or("latest").to_owned()),
            digest,
            short: Short::default(),
        }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.repository)?;
        match (self.digest, self.tag()) {
            (Some(digest), _) => write!(f, "@{digest}"),
            (None, Some(tag)) => write!(f, ":{tag}"),
            (None, None) => Ok(()),
        }
    }
}

impl FromStr for Reference {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Reference, ParseError> {
        if text.is_empty() {
            return Err(ParseError::Empty);
        }
        if let Some((scheme, _)) = text.split_once("://")
            && scheme.bytes().all(|b| b.is_ascii_alphanumeric())
        {
            return Err(ParseError::Url { text: text.to_owned(), meant: "host/name:tag".into() });
        }
        let (name, tag, digest) = split_selectors(text)?;
        let (registry, path) = split_host(name);
        check_host(text, registry)?;
        check_path(text, path)?;
        let short = Short(registry.is_none().then(|| path.to_owned()));
        let registry = match registry {
            None | Some("index.docker.io" | "registry-1.docker.io") => DEFAULT_REGISTRY,
            Some(host) => host,
        };
        let repository = if registry == DEFAULT_REGISTRY && !path.contains('/') {
            format!("library/{path}")
        } else {
            path.to_owned()
        };
        if repository.len() > MAX_PATH_BYTES {
            return Err(ParseError::TooLong { text: text.to_owned() });
        }
        Ok(Reference {
            registry: registry.to_owned(),
            repository,
            tag: digest.is_none().then(|| tag.unwrap_or("latest").to_owned()),
            digest,
            short,
        })
    }
}

/// Name, tag and digest of a reference; the latter two are valid.
pub(super) fn split_selectors(
    text: &str,
) -> Result<(&str, Option<&str>, Option<Digest>), ParseError> {
    let (rest, digest) = match text.split_once('@') {
        Some((rest, digest)) => {
            let digest = digest
                .parse()
                .map_err(|cause| ParseError::Digest { text: text.to_owned(), cause })?;
            (rest, Some(digest))
        }
        None => (text, None),
    };
    // A colon after the last slash starts a tag, unless it belongs to a bare `host:port`,
    // which is not a reference anyway, or sits inside an IPv6 literal.
    let slash = rest.rfind('/').map_or(0, |at| at + 1);
    let (name, tag) = match rest[slash..].rfind(':') {
        Some(colon) => (&rest[..slash + colon], Some(&rest[slash + colon + 1..])),
        None => (rest, None),
    };
    if name.is_empty() {
        let part = if tag.is_some() { "tag" } else { "digest" };
        return Err(ParseError::MissingName { text: text.to_owned(), part });
    }
    if tag.is_none() && digest.is_none() && is_image_id(name) {
        return Err(ParseError::ImageId(name.to_owned()));
    }
    if let Some(tag) = tag {
        check_tag(text, tag)?;
    }
    Ok((name, tag, digest))
}

fn is_image_id(name: &str) -> bool {
    name.len() == 64 && name.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// Splits off the registry host: the first component is one iff it cannot be a path component of
/// Docker Hub (`distribution/reference`, `splitDockerDomain`).
fn split_host(name: &str) -> (Option<&str>, &str) {
    match name.split_once('/') {
        Some((first, rest))
            if first == "localhost"
                || first.contains(['.', ':', '['])
                || first.bytes().any(|b| b.is_ascii_uppercase()) =>
        {
            (Some(first), rest)
        }
        _ => (None, name),
    }
}

fn check_host(text: &str, host: Option<&str>) -> Result<(), ParseError> {
    let Some(host) = host else { return Ok(()) };
    let valid = match host.strip_prefix('[') {
        Some(rest) => rest.split_once(']').is_some_and(|(address, port)| {
            // Zones and mapped IPv4 addresses are refused, as the reference grammar does.
            address.contains(':')
                && address.bytes().all(|b| b.is_ascii_hexdigit() || b == b':')
                && (port.is_empty() || port.strip_prefix(':').is_some_and(is_port))
        }),
        None => {
            let (name, port) = match host.split_once(':') {
                Some((name, port)) => (name, Some(port)),
                None => (host, None),
            };
            name.split('.').all(is_host_label) && port.is_none_or(is_port)
        }
    };
    if valid {
        return Ok(());
    }
    Err(ParseError::Host { text: text.to_owned(), host: host.to_owned() })
}

pub(super) fn is_port(text: &str) -> bool {
    text.parse::<u16>().is_ok() && text.bytes().all(|b| b.is_ascii_digit())
}

pub(super) fn is_host_label(label: &str) -> bool {
    !label.is_empty()
        && !label.starts_with('-')
        && !label.ends_with('-')
        && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
}

pub(super) fn check_path(text: &str, path: &str) -> Result<(), ParseError> {
    if path.len() > MAX_PATH_BYTES {
        return Err(ParseError::TooLong { text: text.to_owned() });
    }
    let lower = path.to_ascii_lowercase();
    if lower != path && lower.split('/').all(is_path_component) {
        let lower = text.replacen(path, &lower, 1);
        return Err(ParseError::Uppercase { text: text.to_owned(), name: path.to_owned(), lower });
    }
    match path.split('/').find(|c| !is_path_component(c)) {
        Some(component) => {
            let (text, component) = (text.to_owned(), component.to_owned());
            Err(ParseError::Component { text, component })
        }
        None => Ok(()),
    }
}

/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`
pub(super) fn is_path_component(component: &str) -> bool {
    let bytes = component.as_bytes();
    let word = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let ends = [bytes.first(), bytes.last()];
    if !ends.iter().all(|b| b.is_some_and(|b| word(*b))) {
        return false;
    }
    component
        .split(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
        .all(|gap| matches!(gap, "" | "." | "_" | "__") || gap.bytes().all(|b| b == b'-'))
}

/// Whether a text can be a tag.
pub fn is_tag(text: &str) -> bool {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    text.len() <= MAX_TAG_BYTES
        && text.bytes().next().is_some_and(word)
        && text.bytes().all(|b| word(b) || b == b'.' || b == b'-')
}

fn check_tag(text: &str, tag: &str) -> Result<(), ParseError> {
    if is_tag(tag) {
        return Ok(());
    }
    Err(ParseError::Tag { text: text.to_owned(), tag: tag.to_owned() })
}
