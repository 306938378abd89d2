//! URLs: where a registry's API is, and where a redirect leads.

use ureq::http::Uri;

use crate::reference::DEFAULT_REGISTRY;

/// Where Docker Hub's API answers.
const DOCKER_HUB_HOST: &str = "registry-1.docker.io";

/// Scheme and host of a registry's API: plain HTTP on loopback and where the user says so. There
/// is no falling back from TLS anywhere.
pub(super) fn base_url(registry: &str, plain_http: bool) -> String {
    let host = match registry {
        DEFAULT_REGISTRY => DOCKER_HUB_HOST,
        host => host,
    };
    let scheme = if plain_http || is_loopback(host) { "http" } else { "https" };
    format!("{scheme}://{host}")
}

/// Whether a host means this machine.
pub fn is_loopback(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    let is_ip = name.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback());
    is_ip || name == "localhost" || name.ends_with(".localhost")
}

pub(super) fn same_origin(a: &Uri, b: &Uri) -> bool {
    a.scheme() == b.scheme() && a.authority() == b.authority()
}

/// Resolves a Location header (RFC 3986, 5.2). A registry that is asked over TLS may not send us to
/// plain HTTP.
pub(super) fn redirect_target(from: &Uri, location: &str) -> Option<Uri> {
    let from_scheme = from.scheme_str()?;
    let absolute = match location {
        "" => return None,
        location if has_scheme(location) => location.to_owned(),
        location if location.starts_with("//") => format!("{from_scheme}:{location}"),
        location => {
            let (path, query) = match location.split_once('?') {
                Some((path, query)) => (path, format!("?{query}")),
                None => (location, String::new()),
            };
            let folder = from.path().rsplit_once('/').map_or("", |(folder, _)| folder);
            let path = match path {
                "" => from.path().to_owned(),
                path if path.starts_with('/') => path.to_owned(),
                path => format!("{folder}/{path}"),
            };
            format!("{from_scheme}://{}{}{query}", from.authority()?, without_dots(&path))
        }
    };
    let target: Uri = absolute.parse().ok()?;
    let scheme = target.scheme_str()?;
    let downgrade = from_scheme == "https" && scheme != "https";
    (!downgrade && matches!(scheme, "http" | "https") && target.host().is_some()).then_some(target)
}

/// Whether a reference is absolute: a scheme stands before any other delimiter.
pub(super) fn has_scheme(location: &str) -> bool {
    let before = location.split(['/', '?', '#']).next().unwrap_or_default();
    before.strip_suffix(':').is_some_and(|s| s.bytes().all(|b| b.is_ascii_alphanumeric()))
}

/// A value for a query: all but unreserved characters as percent escapes (RFC 3986, 2.3).
pub(super) fn encoded(value: &str) -> String {
    let mut text = String::with_capacity(value.len());
    for byte in value.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                text.push(char::from(byte));
            }
            _ => text.push_str(&format!("%{byte:02X}")),
        }
    }
    text
}

/// Takes `.` and `..` out of an absolute path (RFC 3986, 5.2.4).
fn without_dots(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/').skip(1) {
        match part {
            "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn loopback_hosts() {
        for host in [
            "localhost",
            "localhost:5000",
            "127.0.0.1:5000",
            "127.9.9.9",
            "[::1]:5000",
            "a.localhost",
        ] {
            assert!(is_loopback(host), "{host}");
        }
        for host in ["docker.io", "10.0.0.1", "localhost.example", "[fc00::1]", "192.168.0.1:5000"]
        {
            assert!(!is_loopback(host), "{host}");
        }
    }

    #[test]
    fn query_values() {
        assert_eq!(encoded("application/vnd.a-b+json"), "application%2Fvnd.a-b%2Bjson");
        assert_eq!(encoded("sha256:0a ä"), "sha256%3A0a%20%C3%A4");
    }

    #[test]
    fn redirects() {
        let target = |from: &str, to: &str| {
            redirect_target(&from.parse().unwrap(), to).map(|uri| uri.to_string())
        };
        let from = "https://reg.example/v2/x/blobs/d";
        assert_eq!(target(from, "https://cdn/x?sig=1").unwrap(), "https://cdn/x?sig=1");
        assert_eq!(target(from, "/other?a=b").unwrap(), "https://reg.example/other?a=b");
        assert_eq!(target(from, "/a?o=https://b").unwrap(), "https://reg.example/a?o=https://b");
        assert_eq!(target(from, "?s=1").unwrap(), "https://reg.example/v2/x/blobs/d?s=1");
        assert_eq!(target(from, "//cdn/x").unwrap(), "https://cdn/x");
        assert_eq!(target(from, "../y?q=/../z").unwrap(), "https://reg.example/v2/x/y?q=/../z");
        assert_eq!(target(from, "./y").unwrap(), "https://reg.example/v2/x/blobs/y");
        assert_eq!(target(from, "http://cdn/x"), None);
        assert_eq!(target(from, "ftp://cdn/x"), None);
        assert_eq!(target("http://a/b", "http://cdn/x").unwrap(), "http://cdn/x");
    }
}
