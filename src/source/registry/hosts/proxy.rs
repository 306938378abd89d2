//! Which proxy a URL is fetched through.
//!
//! The rules are those of Go's `net/http`, which Docker, podman and containerd follow: by the scheme
//! of the URL that is asked, this machine itself never, and exceptions by host, suffix, port and
//! network. `ALL_PROXY` is curl's. Each URL is decided on its own, since the storage that a registry
//! redirects to may lie on the other side of the wall.

use std::net::IpAddr;

use ureq::Proxy;
use ureq::http::Uri;

use crate::source::registry::url::is_loopback;

/// The proxies of a user, as the usual variables give them. By default none.
#[derive(Clone, Debug, Default)]
pub struct Proxies {
    http: Option<Proxy>,
    https: Option<Proxy>,
    exceptions: Exceptions,
}

/// A proxy that can't be used. Its URL may hold a password and is not told.
#[derive(Debug, thiserror::Error)]
#[error(
    "{variable} is not the URL of a proxy: it should be like http://[USER:PASSWORD@]HOST:PORT, or \
     with https, socks4, socks4a, socks5 or socks5h"
)]
pub struct ProxyError {
    variable: &'static str,
}

impl Proxies {
    /// Proxies by the values of the usual variables, of which each may be missing or empty.
    ///
    /// # Errors
    /// One is not the URL of a proxy.
    pub fn new(
        http: Option<&str>,
        https: Option<&str>,
        all: Option<&str>,
        exceptions: Option<&str>,
    ) -> Result<Proxies, ProxyError> {
        let all = proxy("ALL_PROXY", all)?;
        Ok(Proxies {
            http: proxy("HTTP_PROXY", http)?.or_else(|| all.clone()),
            https: proxy("HTTPS_PROXY", https)?.or(all),
            exceptions: Exceptions::parse(exceptions.unwrap_or_default()),
        })
    }

    /// The proxy for a URL, if it goes through one.
    pub(super) fn for_url(&self, url: &Uri) -> Option<&Proxy> {
        let (proxy, port) = match url.scheme_str() {
            Some("https") => (self.https.as_ref()?, 443),
            _ => (self.http.as_ref()?, 80),
        };
        let host = url.host()?;
        let port = url.port_u16().unwrap_or(port);
        (!is_loopback(host) && !self.exceptions.has(host, port)).then_some(proxy)
    }
}

fn proxy(variable: &'static str, value: Option<&str>) -> Result<Option<Proxy>, ProxyError> {
    let Some(value) = value.map(str::trim).filter(|value| !value.is_empty()) else {
        return Ok(None);
    };
    let value = match value.contains("://") {
        true => value.to_owned(),
        false => format!("http://{value}"),
    };
    Proxy::new(&value).map(Some).map_err(|_| ProxyError { variable })
}

/// `NO_PROXY`: what is reached directly.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Exceptions {
    all: bool,
    rules: Vec<Rule>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Rule {
    hosts: Hosts,
    port: Option<u16>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Hosts {
    /// Addresses whose first bits are these.
    Network(IpAddr, u32),
    /// A name and all below it.
    Domain(String),
    /// All names below one.
    Below(String),
}

impl Exceptions {
    /// Entries between commas or blanks; what can't be understood matches nothing.
    fn parse(text: &str) -> Exceptions {
        let entries = text.split([',', ' ', '\t']).map(str::trim).filter(|e| !e.is_empty());
        let mut exceptions = Exceptions::default();
        for entry in entries {
            match entry {
                "*" => exceptions.all = true,
                entry => exceptions.rules.extend(Rule::parse(&entry.to_ascii_lowercase())),
            }
        }
        exceptions
    }

    fn has(&self, host: &str, port: u16) -> bool {
        self.all || self.rules.iter().any(|rule| rule.matches(host, port))
    }
}

impl Rule {
    fn parse(entry: &str) -> Option<Rule> {
        if let Some((address, bits)) = entry.split_once('/') {
            let address: IpAddr = address.parse().ok()?;
            let bits = bits.parse().ok().filter(|bits| *bits <= width(&address))?;
            return Some(Rule { hosts: Hosts::Network(address, bits), port: None });
        }
        let (host, port) = match entry.parse::<IpAddr>() {
            Ok(_) => (entry, None),
            Err(_) => match entry.rsplit_once(':') {
                Some((host, port)) if !port.contains(']') => (host, Some(port.parse().ok()?)),
                _ => (entry, None),
            },
        };
        let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
        let hosts = match bare.parse::<IpAddr>() {
            Ok(address) => Hosts::Network(address, width(&address)),
            Err(_) => match host.strip_prefix("*.").or_else(|| host.strip_prefix('.')) {
                Some("") => return None,
                Some(domain) => Hosts::Below(format!(".{domain}")),
                None => Hosts::Domain(host.trim_end_matches('.').to_owned()),
            },
        };
        Some(Rule { hosts, port })
    }

    fn matches(&self, host: &str, port: u16) -> bool {
        if self.port.is_some_and(|wanted| wanted != port) {
            return false;
        }
        let host = host.trim_end_matches('.').to_ascii_lowercase();
        let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(&host);
        match (&self.hosts, bare.parse::<IpAddr>()) {
            (Hosts::Network(network, bits), Ok(address)) => within(&address, network, *bits),
            (Hosts::Domain(domain), Err(_)) => {
                let below = host.strip_suffix(domain.as_str());
                below.is_some_and(|below| below.is_empty() || below.ends_with('.'))
            }
            (Hosts::Below(domain), Err(_)) => host.ends_with(domain.as_str()),
            _ => false,
        }
    }
}

/// Bits of an address.
fn width(address: &IpAddr) -> u32 {
    match address {
        IpAddr::V4(_) => u32::BITS,
        IpAddr::V6(_) => u128::BITS,
    }
}

fn within(address: &IpAddr, network: &IpAddr, bits: u32) -> bool {
    // An IPv4 address may be written as one of IPv6.
    let (address, canonical) = (address.to_canonical(), network.to_canonical());
    let bits = match (network, canonical) {
        (IpAddr::V6(_), IpAddr::V4(_)) => bits.saturating_sub(u128::BITS - u32::BITS),
        _ => bits,
    };
    let differ = match (address, canonical) {
        (IpAddr::V4(a), IpAddr::V4(b)) => (a.to_bits() ^ b.to_bits()).leading_zeros(),
        (IpAddr::V6(a), IpAddr::V6(b)) => (a.to_bits() ^ b.to_bits()).leading_zeros(),
        _ => return false,
    };
    differ >= bits
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn through(proxies: &Proxies, url: &str) -> Option<String> {
        let proxy = proxies.for_url(&url.parse().unwrap())?;
        Some(format!("{}:{}", proxy.host(), proxy.port()))
    }

    #[test]
    fn by_the_scheme_of_the_url() {
        let proxies = |http, https, all| Proxies::new(http, https, all, None).unwrap();
        let both = proxies(Some("http://a:1"), Some("b:2"), None);
        assert_eq!(through(&both, "http://x/").unwrap(), "a:1");
        assert_eq!(through(&both, "https://x/").unwrap(), "b:2");
        let https = proxies(None, Some("socks5h://b"), None);
        assert_eq!(through(&https, "http://x/"), None);
        assert_eq!(through(&https, "https://x/").unwrap(), "b:1080");
        let all = proxies(Some("http://a:1"), Some(" "), Some("https://c"));
        assert_eq!(through(&all, "http://x/").unwrap(), "a:1");
        assert_eq!(through(&all, "https://x/").unwrap(), "c:443");
        for own in ["http://localhost:5000/", "https://127.9.0.1/", "https://[::1]:5000/"] {
            assert_eq!(through(&all, own), None, "{own}");
        }
    }

    #[test]
    fn passwords_of_proxies_are_not_printed() {
        let proxies =
            Proxies::new(None, Some("http://me:s%40cret@proxy:3128"), None, None).unwrap();
        let proxy = proxies.for_url(&"https://x/".parse().unwrap()).unwrap();
        assert_eq!((proxy.username(), proxy.password()), (Some("me"), Some("s@cret")));
        assert!(!format!("{proxies:?}").contains("cret"), "{proxies:?}");
        for wrong in ["ftp://me:secret@proxy", "http://", "http://me:secret@", "http://a b"] {
            let error = Proxies::new(None, Some(wrong), None, None).unwrap_err().to_string();
            assert!(error.contains("HTTPS_PROXY") && !error.contains("secret"), "{error}");
        }
    }

    /// The cases of Go's `httpproxy`, and what curl and Docker users write besides.
    #[test]
    fn exceptions() {
        for (text, url, exempt) in [
            ("", "https://example.com/", false),
            ("*", "https://example.com/", true),
            ("a,*,b", "https://example.com/", true),
            ("example.com", "https://example.com/", true),
            ("example.com", "https://EXAMPLE.com:5000/", true),
            ("Example.COM", "https://www.example.com/", true),
            ("example.com", "https://notexample.com/", false),
            ("example.com", "https://example.com.evil/", false),
            ("example.com.", "https://example.com/", true),
            (".example.com", "https://example.com/", false),
            (".example.com", "https://www.example.com/", true),
            ("*.example.com", "https://a.b.example.com/", true),
            ("*.example.com", "https://example.com/", false),
            ("example.com:5000", "https://example.com:5000/", true),
            ("example.com:5000", "https://example.com/", false),
            ("example.com:443", "https://example.com/", true),
            ("example.com:80", "https://example.com/", false),
            ("x, example.com ,y", "https://example.com/", true),
            ("x example.com", "https://example.com/", true),
            ("10.0.0.0/8", "https://10.1.2.3:5000/", true),
            ("10.0.0.0/8", "https://11.1.2.3/", false),
            ("10.0.0.0/8", "https://10.example.com/", false),
            ("10.1.2.3", "https://10.1.2.3/", true),
            ("10.1.2.3:80", "https://10.1.2.3/", false),
            ("0.0.0.0/0", "https://1.2.3.4/", true),
            ("fd00::/8", "https://[fd12::1]:5000/", true),
            ("fd00::/8", "https://[fe80::1]/", false),
            ("fd12::1", "https://[fd12::1]/", true),
            ("[fd12::1]:443", "https://[fd12::1]/", true),
            ("[fd12::1]:444", "https://[fd12::1]/", false),
            ("10.0.0.0/8", "https://[::ffff:10.0.0.1]/", true),
            ("10.0.0.0/33", "https://10.0.0.1/", false),
            ("10.0.0.0/x", "https://10.0.0.1/", false),
            (",,", "https://example.com/", false),
            (".", "https://example.com/", false),
            ("example.com:port", "https://example.com/", false),
        ] {
            let proxies = Proxies::new(None, Some("p:1"), None, Some(text)).unwrap();
            let went = through(&proxies, url).is_none();
            assert_eq!(went, exempt, "NO_PROXY={text} {url}");
        }
    }

    proptest! {
        #[test]
        fn no_list_of_exceptions_panics(text in "[a-z0-9.:*/\\[\\], ]{0,40}", host in "\\PC{0,20}") {
            let exceptions = Exceptions::parse(&text);
            let _ = exceptions.has(&host, 443);
        }

        #[test]
        fn no_proxy_url_panics(text in "\\PC{0,40}") {
            let _ = Proxies::new(Some(&text), None, Some(&text), Some(&text));
        }
    }
}
