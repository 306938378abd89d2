//! Which addresses of a host may be connected to.
//!
//! A server that anyone can run may send us to a name, and a name may lead anywhere: to this machine, to its
//! network, to where a cloud hands out secrets to those who ask from within (server-side request forgery).
//! What the name says decides nothing; so the addresses that it has are looked at when it is connected to, and
//! those connections are made to the addresses that passed and to no others. A look at them before the request
//! was rejected: the second question to the name system may be answered in another way (DNS rebinding).
//!
//! # Invariants
//!
//! - Where a registry sends us, no connection is made to an address inside, unless the registry's own addresses
//!   are inside, or its name can only be known there.
//! - A registry with any address outside is outside, for as long as its clients live.
//! - A name of this machine (`localhost`, `x.localhost`) gets plain HTTP, if that was not asked for, at loopback addresses
//!   only.
//! - Behind a proxy names are the proxy's to resolve, and nothing is looked at.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::NextTimeout;

use crate::source::registry::url::{is_inside, is_inside_address, is_loopback};

/// Where a registry is, as far as that has been seen.
#[derive(Debug, Default)]
pub(super) struct Origin {
    /// Its name says that it is inside.
    is_named_inside: bool,
    was_inside: AtomicBool,
    was_outside: AtomicBool,
}

impl Origin {
    /// Of a registry at `host`, which was not connected to yet.
    pub(super) fn new(host: &str) -> Origin {
        Origin { is_named_inside: is_inside(host), ..Origin::default() }
    }

    fn note(&self, addresses: &[SocketAddr]) {
        for address in addresses {
            let seen = match is_inside_address(address.ip()) {
                true => &self.was_inside,
                false => &self.was_outside,
            };
            seen.store(true, Ordering::Relaxed);
        }
    }

    /// Whether it may send us to addresses inside.
    fn is_inside(&self) -> bool {
        let was = |seen: &AtomicBool| seen.load(Ordering::Relaxed);
        self.is_named_inside || was(&self.was_inside) && !was(&self.was_outside)
    }
}

/// Whose name is resolved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Whose {
    /// The registry's.
    Own,
    /// That of a host which the registry has named.
    Named,
    /// A proxy's.
    Proxy,
}

/// Resolves the names of hosts to addresses that may be connected to.
#[derive(Debug)]
pub(super) struct Addresses<R = DefaultResolver> {
    names: R,
    whose: Whose,
    origin: Arc<Origin>,
    /// The user has asked for plain HTTP.
    may_be_plain: bool,
}

impl Addresses {
    pub(super) fn new(whose: Whose, origin: Arc<Origin>, may_be_plain: bool) -> Addresses {
        Addresses { names: DefaultResolver::default(), whose, origin, may_be_plain }
    }
}

impl<R: Resolver> Resolver for Addresses<R> {
    fn resolve(
        &self,
        uri: &Uri,
        config: &Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let mut found = self.names.resolve(uri, config, timeout)?;
        if self.whose == Whose::Proxy {
            return Ok(found);
        }
        let host = uri.host().unwrap_or_default();
        if uri.scheme_str() == Some("http") && !self.may_be_plain && is_loopback(host) {
            found =
                self.only(&found, &|ip| ip.to_canonical().is_loopback(), Refused::NotLoopback)?;
        }
        if self.whose == Whose::Own {
            self.origin.note(&found);
        } else if !self.origin.is_inside() {
            found = self.only(&found, &|ip| !is_inside_address(ip), Refused::LeadsInside)?;
        }
        Ok(found)
    }
}

impl<R: Resolver> Addresses<R> {
    fn only(
        &self,
        found: &[SocketAddr],
        is_good: &dyn Fn(IpAddr) -> bool,
        refused: Refused,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let mut kept = self.names.empty();
        for address in found.iter().filter(|address| is_good(address.ip())) {
            kept.push(*address);
        }
        match kept.is_empty() {
            true => Err(io::Error::other(refused).into()),
            false => Ok(kept),
        }
    }
}

/// Why none of a name's addresses is connected to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::source::registry) enum Refused {
    /// They are inside.
    LeadsInside,
    /// The name says that they are this machine's, and they are not.
    NotLoopback,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Refused::LeadsInside => "the name leads to an address in this machine's own network",
            Refused::NotLoopback => "the name leads to another machine",
        })
    }
}

impl std::error::Error for Refused {}

/// Why a request was not made, if its host's addresses are the reason.
pub(in crate::source::registry) fn refused(error: &ureq::Error) -> Option<Refused> {
    match error {
        ureq::Error::Io(error) => error.get_ref()?.downcast_ref().copied(),
        _ => None,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use ureq::Timeout;

    use super::*;

    /// Has these addresses for every name.
    #[derive(Debug)]
    struct Names(Vec<&'static str>);

    impl Resolver for Names {
        fn resolve(
            &self,
            _: &Uri,
            _: &Config,
            _: NextTimeout,
        ) -> Result<ResolvedSocketAddrs, ureq::Error> {
            let mut found = self.empty();
            self.0.iter().for_each(|text| found.push(SocketAddr::new(text.parse().unwrap(), 443)));
            Ok(found)
        }
    }

    fn resolve(
        whose: Whose,
        origin: &Arc<Origin>,
        url: &str,
        names: &[&'static str],
    ) -> Result<Vec<String>, Option<Refused>> {
        let (names, origin) = (Names(names.to_vec()), Arc::clone(origin));
        let addresses = Addresses { names, whose, origin, may_be_plain: false };
        let after = ureq::unversioned::transport::time::Duration::NotHappening;
        let timeout = NextTimeout { after, reason: Timeout::Global, ..NextTimeout::default() };
        let found = addresses.resolve(&url.parse().unwrap(), &Config::default(), timeout);
        found
            .map(|found| found.iter().map(|address| address.ip().to_string()).collect())
            .map_err(|e| refused(&e))
    }

    const CDN: &str = "https://cdn.example/x";
    const OWN: &str = "https://registry.example/v2/";

    #[test]
    fn names_of_a_public_registry_lead_outside() {
        for seen in [&["8.8.8.8"][..], &["10.0.0.1", "8.8.8.8"], &["::ffff:8.8.8.8"]] {
            let origin = Arc::new(Origin::new("registry.example"));
            let named = |names: &[&'static str]| resolve(Whose::Named, &origin, CDN, names);
            assert_eq!(resolve(Whose::Own, &origin, OWN, seen).unwrap().len(), seen.len());
            for inside in ["127.0.0.1", "10.0.0.1", "169.254.169.254", "::1", "64:ff9b::a00:1"] {
                assert_eq!(named(&[inside]), Err(Some(Refused::LeadsInside)), "{inside}");
                assert_eq!(named(&[inside, "9.9.9.9"]).unwrap(), ["9.9.9.9"], "{inside}");
            }
            assert_eq!(named(&["64:ff9b::808:808"]).unwrap(), ["64:ff9b::808:808"]);
            // It has become one inside, which it did not seem to be before.
            resolve(Whose::Own, &origin, OWN, &["10.0.0.1"]).unwrap();
            assert_eq!(named(&["10.0.0.1"]), Err(Some(Refused::LeadsInside)));
        }
        // It was reached through a proxy, so that its addresses are not known.
        let origin = Arc::new(Origin::new("registry.example"));
        let named = resolve(Whose::Named, &origin, CDN, &["10.0.0.1"]);
        assert_eq!(named, Err(Some(Refused::LeadsInside)));
        assert_eq!(resolve(Whose::Proxy, &origin, CDN, &["10.0.0.1"]).unwrap(), ["10.0.0.1"]);
    }

    #[test]
    fn a_registry_inside_may_lead_there() {
        for (host, seen) in [
            ("registry.example", &["10.0.0.1"][..]),
            ("registry.internal", &[]),
            ("127.0.0.1:5000", &[]),
            ("registry:5000", &["8.8.8.8"]),
        ] {
            let origin = Arc::new(Origin::new(host));
            resolve(Whose::Own, &origin, OWN, seen).unwrap();
            let named = resolve(Whose::Named, &origin, CDN, &["10.0.0.2", "9.9.9.9"]);
            assert_eq!(named.unwrap().len(), 2, "{host}");
        }
    }

    #[test]
    fn names_of_this_machine() {
        let origin = Arc::new(Origin::new("a.localhost"));
        let own = |url: &str, names: &[&'static str]| resolve(Whose::Own, &origin, url, names);
        for url in ["http://a.localhost:5000/", "http://localhost/"] {
            assert_eq!(own(url, &["8.8.8.8"]), Err(Some(Refused::NotLoopback)), "{url}");
            assert_eq!(own(url, &["10.0.0.1", "127.0.0.2"]).unwrap(), ["127.0.0.2"], "{url}");
            assert_eq!(own(url, &["::1"]).unwrap(), ["::1"], "{url}");
        }
        assert_eq!(own("https://a.localhost/", &["8.8.8.8"]).unwrap(), ["8.8.8.8"]);
        assert_eq!(own("http://registry.example/", &["8.8.8.8"]).unwrap(), ["8.8.8.8"]);
    }
}
