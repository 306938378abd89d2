//! Which proxy a URL is fetched through.
//!
//! The rules are those of Go's `net/http`, which Docker, podman and containerd follow: by the scheme
//! of the URL that is asked, this machine itself never, and exceptions by host, suffix, port and
//! network. `ALL_PROXY` is curl's. Each URL is decided on its own, since the storage that a registry
//! redirects to may lie on the other side of the wall.
//!
//! Through an HTTP proxy everything goes by a tunnel (`CONNECT`), plain HTTP too. Browsers ask a proxy for
//! `http://` URLs by an ordinary request with the whole URL in its first line (RFC 9112, 3.2.2), and
//! there are proxies that allow tunnels to port 443 alone; but `ureq` writes the path alone into that
//! line, and has no setting for it. The message for a proxy that refuses says what helps.

use std::fmt;
use std::io;
use std::net::{IpAddr, TcpStream, ToSocketAddrs};
use std::time::Duration;

use ureq::Proxy;
use ureq::http::Uri;

use super::network::Network;
use crate::source::registry::url::{is_loopback, split_port, without_brackets};

/// The proxies of a user, as the usual variables give them. By default none.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Proxies {
    http: Option<Chosen>,
    https: Option<Chosen>,
    exceptions: Exceptions,
}

/// A proxy, and the variable that says so.
#[derive(Clone, Debug, PartialEq)]
struct Chosen {
    proxy: Proxy,
    variable: &'static str,
}

/// How a URL is reached.
#[derive(Clone, Debug)]
pub enum Route {
    /// No proxy is set for its scheme.
    Direct,
    /// It is this machine, which is never asked through a proxy.
    Loopback,
    /// It is exempt, by this entry of `NO_PROXY`.
    Exempt(String),
    /// Through a proxy.
    Proxy(ProxyRoute),
}

/// A way through a proxy. Its text is the proxy's URL without user and password.
#[derive(Clone, Debug)]
pub struct ProxyRoute(Chosen);

impl ProxyRoute {
    /// The variable that names the proxy.
    pub fn variable(&self) -> &'static str {
        self.0.variable
    }

    /// Connects to the proxy, and no more; each of its addresses may take so long.
    ///
    /// # Errors
    /// There is no answer.
    pub fn check(&self, timeout: Duration) -> io::Result<()> {
        let proxy = &self.0.proxy;
        let bare = without_brackets(proxy.host());
        let mut failed = io::Error::new(io::ErrorKind::NotFound, "its name has no address");
        for address in (bare, proxy.port()).to_socket_addrs()? {
            match TcpStream::connect_timeout(&address, timeout) {
                Ok(_) => return Ok(()),
                Err(e) => failed = e,
            }
        }
        Err(failed)
    }
}

impl fmt::Display for ProxyRoute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let proxy = &self.0.proxy;
        let scheme = proxy.uri().scheme_str().unwrap_or("http");
        write!(f, "{scheme}://{}:{}", proxy.host(), proxy.port())
    }
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
    pub(super) fn for_url(&self, url: &Uri) -> Option<Proxy> {
        match self.route(url) {
            Route::Proxy(ProxyRoute(chosen)) => Some(chosen.proxy),
            Route::Direct | Route::Loopback | Route::Exempt(_) => None,
        }
    }

    /// How a URL is reached, and why.
    pub(super) fn route(&self, url: &Uri) -> Route {
        let (chosen, port) = match url.scheme_str() {
            Some("https") => (&self.https, 443),
            _ => (&self.http, 80),
        };
        let (Some(chosen), Some(host)) = (chosen, url.host()) else { return Route::Direct };
        if is_loopback(host) {
            return Route::Loopback;
        }
        match self.exceptions.find(host, url.port_u16().unwrap_or(port)) {
            Some(entry) => Route::Exempt(entry.to_owned()),
            None => Route::Proxy(ProxyRoute(chosen.clone())),
        }
    }
}

fn proxy(variable: &'static str, value: Option<&str>) -> Result<Option<Chosen>, ProxyError> {
    let Some(value) = value.map(str::trim).filter(|value| !value.is_empty()) else {
        return Ok(None);
    };
    let value = match value.contains("://") {
        true => value.to_owned(),
        false => format!("http://{value}"),
    };
    let proxy = Proxy::new(&value).map_err(|_| ProxyError { variable })?;
    Ok(Some(Chosen { proxy, variable }))
}

/// `NO_PROXY`: what is reached directly.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Exceptions {
    /// With their texts.
    rules: Vec<(Rule, String)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Rule {
    hosts: Hosts,
    port: Option<u16>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Hosts {
    All,
    /// Addresses whose first bits are these.
    Network(Network),
    /// A name and all below it.
    Domain(String),
    /// All names below one.
    Below(String),
}

impl Exceptions {
    /// Entries between commas or blanks; what can't be understood matches nothing.
    fn parse(text: &str) -> Exceptions {
        let entries = text.split([',', ' ', '\t']).map(str::trim).filter(|e| !e.is_empty());
        let rules = entries.filter_map(|entry| {
            Some((Rule::parse(&entry.to_ascii_lowercase())?, entry.to_owned()))
        });
        Exceptions { rules: rules.collect() }
    }

    /// The entry that a host is exempt by, if it is.
    fn find(&self, host: &str, port: u16) -> Option<&str> {
        let found = self.rules.iter().find(|(rule, _)| rule.matches(host, port));
        found.map(|(_, entry)| entry.as_str())
    }
}

impl Rule {
    fn parse(entry: &str) -> Option<Rule> {
        if entry == "*" {
            return Some(Rule { hosts: Hosts::All, port: None });
        }
        if entry.contains('/') {
            return Some(Rule { hosts: Hosts::Network(Network::parse(entry)?), port: None });
        }
        let (host, port) = match entry.parse::<IpAddr>() {
            Ok(_) => (entry, None),
            Err(_) => {
                let (host, port) = split_port(entry);
                (host, port.map(str::parse).transpose().ok()?)
            }
        };
        let hosts = match without_brackets(host).parse::<IpAddr>() {
            Ok(address) => Hosts::Network(Network::of(address)),
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
        match (&self.hosts, without_brackets(&host).parse::<IpAddr>()) {
            (Hosts::All, _) => true,
            (Hosts::Network(network), Ok(address)) => network.contains(&address),
            (Hosts::Domain(domain), Err(_)) => {
                let below = host.strip_suffix(domain.as_str());
                below.is_some_and(|below| below.is_empty() || below.ends_with('.'))
            }
            (Hosts::Below(domain), Err(_)) => host.ends_with(domain.as_str()),
            _ => false,
        }
    }
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
    fn reasons_are_told() {
        let proxies = Proxies::new(
            Some("http://me:s%40cret@a:1"),
            None,
            Some("socks5h://me:s%40cret@b"),
            Some("c.example, *.D.example:443"),
        );
        let proxies = proxies.unwrap();
        let told = |url: &str| match proxies.route(&url.parse().unwrap()) {
            Route::Direct => "direct".to_owned(),
            Route::Loopback => "loopback".to_owned(),
            Route::Exempt(entry) => entry,
            Route::Proxy(route) => format!("{} {route}", route.variable()),
        };
        for (url, expected) in [
            ("http://x/", "HTTP_PROXY http://a:1"),
            ("https://x/", "ALL_PROXY socks5h://b:1080"),
            ("https://x.c.example/", "c.example"),
            ("https://x.d.example/", "*.D.example:443"),
            ("http://x.d.example/", "HTTP_PROXY http://a:1"),
            ("http://localhost/", "loopback"),
        ] {
            assert_eq!(told(url), expected, "{url}");
        }
        let none = Proxies::new(None, Some("a:1"), None, Some("*")).unwrap();
        let route = |url: &str| none.route(&url.parse().unwrap());
        assert!(matches!(route("http://x/"), Route::Direct));
        assert!(matches!(route("https://x/"), Route::Exempt(entry) if entry == "*"));
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
            let _ = exceptions.find(&host, 443);
        }

        #[test]
        fn no_proxy_url_panics(text in "\\PC{0,40}") {
            let _ = Proxies::new(Some(&text), None, Some(&text), Some(&text));
        }
    }
}
