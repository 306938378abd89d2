//! Other registries, to which redirects lead: moved ones, those behind a gateway or a download counter.
//!
//! Such a registry may want a token or a login of its own. It gets the one that the user has for it, looked
//! up under its own name, or an anonymous token: never the login of the registry that redirects, which
//! for its part sees nothing of this one's. Storage is no registry: what is asked for there is not at a
//! path of the API, or it is a blob at a signed URL.
//!
//! - Only what is read is authorised here. A registry that anyone can run must not make us write
//!   somewhere else with the user's login.
//! - A login goes out in plain HTTP only on loopback, or to a host that a file of the user's calls insecure:
//!   `--plain-http` is said of one registry, not of those that it redirects to.
//! - Token servers are held to what both registries may name.

use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use lru::LruCache;
use ureq::http::Uri;

use super::refusal::Refusal;
use super::repository_auth::RepositoryAuth;
use crate::reference::Reference;
use crate::source::registry::credentials::Credentials;
use crate::source::registry::hosts;
use crate::source::registry::options::RegistryOptions;
use crate::source::registry::transport::challenge::Challenge;
use crate::source::registry::transport::request::Access;
use crate::source::registry::url::{host_and_port, is_loopback, registry_name};

/// Registries and repositories in them that are remembered. One image is in one or two.
const MAX_KNOWN: usize = 16;

/// Authentication with the registries that one registry redirects to.
pub(in crate::source::registry) struct Elsewhere {
    known: Mutex<LruCache<RepositoryAt, Arc<RepositoryAuth>>>,
}

/// A repository in a registry.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct RepositoryAt {
    /// The root of its API.
    root: String,
    repository: String,
}

impl std::fmt::Debug for Elsewhere {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.lock().iter().map(|(place, _)| place)).finish()
    }
}

impl Default for Elsewhere {
    fn default() -> Elsewhere {
        let size = NonZeroUsize::new(MAX_KNOWN).unwrap_or(NonZeroUsize::MIN);
        Elsewhere { known: Mutex::new(LruCache::new(size)) }
    }
}

impl Elsewhere {
    /// Authentication with the registry at a URL, if it has asked for some.
    pub(in crate::source::registry) fn known(&self, url: &Uri) -> Option<Arc<RepositoryAuth>> {
        let mut known = self.lock();
        if known.is_empty() {
            return None;
        }
        known.get(&RepositoryAt::of(url)?).cloned()
    }

    /// The same for one that has just refused something, or may have: `None` if that is no registry or
    /// does not say what it wants. `from` is the origin of the registry whose redirect led there, at which
    /// the image is called `reference`.
    pub(in crate::source::registry) fn refusing(
        &self,
        url: &Uri,
        refusal: &Refusal,
        from: &Uri,
        reference: &Reference,
        options: &RegistryOptions,
    ) -> Option<Arc<RepositoryAuth>> {
        let challenges = &refusal.challenges;
        if !challenges.is_empty() && !challenges.iter().any(Challenge::is_answerable) {
            return None;
        }
        let place = RepositoryAt::of(url)?;
        let host = name(url);
        let moved = reference.at(&host, &place.repository);
        let may_have_login = url.scheme_str() == Some("https")
            || is_loopback(&host)
            || hosts::speaks_plain(&moved, options);
        let credentials = match may_have_login {
            true => options.credentials.clone(),
            false => Credentials::default(),
        };
        let mut auth = RepositoryAuth::new(&host, &place.repository, Access::Read, credentials);
        auth.via = Some(from.clone());
        auth.root = Some(place.root.clone());
        auth.is_withheld = !may_have_login;
        // Another thread may have been faster, and knows more by now.
        Some(Arc::clone(self.lock().get_or_insert(place, || Arc::new(auth))))
    }

    fn lock(&self) -> MutexGuard<'_, LruCache<RepositoryAt, Arc<RepositoryAuth>>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl RepositoryAt {
    /// The place that a URL is about, if it is one of a registry's API.
    fn of(url: &Uri) -> Option<RepositoryAt> {
        let (api, repository) = split(url.path())?;
        let origin = format!("{}://{}", url.scheme_str()?, url.authority()?).to_ascii_lowercase();
        Some(RepositoryAt { root: format!("{origin}{api}"), repository: repository.to_owned() })
    }
}

/// The root of the API and the repository in a path that is about something of a repository.
fn split(path: &str) -> Option<(&str, &str)> {
    let (api, rest) = path.split_at(path.find("/v2/")? + "/v2/".len());
    let kinds = ["/manifests/", "/blobs/", "/referrers/", "/tags/"];
    let end = kinds.into_iter().filter_map(|kind| rest.rfind(kind)).max()?;
    Some((api, &rest[..end])).filter(|(_, repository)| !repository.is_empty())
}

/// What a registry is called for which the user has a login.
fn name(url: &Uri) -> String {
    let host = host_and_port(url);
    let usual = if url.scheme_str() == Some("https") { ":443" } else { ":80" };
    registry_name(host.strip_suffix(usual).unwrap_or(host))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn repositories_in_paths() {
        for (path, expected) in [
            ("/v2/app/manifests/v1", Some(("/v2/", "app"))),
            ("/v2/a/b/c/blobs/sha256:0", Some(("/v2/", "a/b/c"))),
            ("/v2/blobs/blobs/blobs/x", Some(("/v2/", "blobs/blobs"))),
            ("/v2/a/manifests/blobs/manifests/v1", Some(("/v2/", "a/manifests/blobs"))),
            ("/v2/a/tags/list", Some(("/v2/", "a"))),
            ("/api/docker/v2/a/v2/blobs/x", Some(("/api/docker/v2/", "a/v2"))),
            ("/v2/", None),
            ("/v2//blobs/x", None),
            ("/bucket/blobs/x", None),
            ("/token", None),
        ] {
            assert_eq!(split(path), expected, "{path}");
        }
    }

    #[test]
    fn names_of_registries() {
        for (url, expected) in [
            ("https://R.example/v2/x", "r.example"),
            ("https://r.example:443/x", "r.example"),
            ("http://r.example:443/x", "r.example:443"),
            ("http://r.example:80/x", "r.example"),
            ("https://me:pw@r.example:5000/x", "r.example:5000"),
            ("https://registry-1.docker.io/v2/", "docker.io"),
            ("http://[::1]:5000/v2/", "[::1]:5000"),
        ] {
            assert_eq!(name(&url.parse().unwrap()), expected, "{url}");
        }
    }
}
