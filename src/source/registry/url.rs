//! URLs: where a registry's API is, and where a redirect leads.

use std::net::{IpAddr, Ipv4Addr};

use ureq::http::Uri;

use crate::reference::DEFAULT_REGISTRY;

/// Where Docker Hub's API answers.
const DOCKER_HUB_HOST: &str = "registry-1.docker.io";

/// Where it used to, as files of logins still call it.
const OLD_DOCKER_HUB_HOST: &str = "index.docker.io";

/// Top-level domains that the public name system does not have (RFC 6761, 6762, 8375, and ICANN's
/// reservation of 2024).
const INSIDE: [&str; 5] = ["local", "internal", "test", "localhost", "home.arpa"];

/// The host of a registry's API.
pub(super) fn api_host(registry: &str) -> &str {
    match registry {
        DEFAULT_REGISTRY => DOCKER_HUB_HOST,
        host => host,
    }
}

/// What a registry is called in references and logins whose API answers at `host[:port]`, in lower case.
pub(super) fn registry_name(host: &str) -> String {
    match &*host.to_ascii_lowercase() {
        DOCKER_HUB_HOST | OLD_DOCKER_HUB_HOST => DEFAULT_REGISTRY.to_owned(),
        host => host.to_owned(),
    }
}

/// The host of a URL with its port, as it is written there, without a user and password.
pub(super) fn host_and_port(url: &Uri) -> &str {
    let authority = url.authority().map_or("", |authority| authority.as_str());
    authority.rsplit_once('@').map_or(authority, |(_, host)| host)
}

/// A host's name and its port, if it has one.
pub(super) fn split_port(host: &str) -> (&str, Option<&str>) {
    match host.rsplit_once(':') {
        Some((name, port)) if !port.contains(']') => (name, Some(port)),
        _ => (host, None),
    }
}

/// A host's name without its port.
pub(super) fn without_port(host: &str) -> &str {
    split_port(host).0
}

/// A host's name without the brackets that an IPv6 address has in a URL.
pub(super) fn without_brackets(host: &str) -> &str {
    host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
}

/// Whether a host means this machine.
pub fn is_loopback(host: &str) -> bool {
    let name = without_port(host);
    let name = without_brackets(name);
    let is_ip = name.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback());
    is_ip || name == "localhost" || name.ends_with(".localhost")
}

/// Whether a host is one that no server outside can mean: this machine, an address of a private
/// network, or a name that only a network of one's own can know.
pub(super) fn is_inside(host: &str) -> bool {
    let name = without_port(host).trim_end_matches('.').to_ascii_lowercase();
    match without_brackets(&name).parse::<IpAddr>() {
        Ok(ip) => is_inside_address(ip),
        Err(_) => {
            is_loopback(&name)
                || is_short_address(&name)
                || !name.contains('.')
                || is_below(&name, &INSIDE)
        }
    }
}

/// Whether an address is one that means something else, or nothing, to everybody else: of this machine, of a private
/// network, of a link, of a cloud's services for its machines, of no single machine, or one of IPv6 that may be
/// translated or tunnelled to such an address (the registries of RFC 6890 and of IANA after it).
pub(super) fn is_inside_address(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => is_inside_v4(ip),
        IpAddr::V6(ip) => match ip.segments() {
            // Networks without IPv4 give the whole world such addresses (RFC 6052).
            [0x64, 0xff9b, 0, 0, 0, 0, high, low] => {
                is_inside_v4(Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low)))
            }
            // Translation of a network's own (RFC 8215); Teredo (RFC 4380); 6to4 (RFC 7526: historic).
            [0x64, 0xff9b, 1, ..] | [0x2001, 0, ..] | [0x2002, ..] => true,
            // IPv4-compatible (RFC 4291: deprecated), with `::` and `::1` among them.
            [0, 0, 0, 0, 0, 0, ..] => true,
            // Site-local (RFC 3879: deprecated).
            [first, ..] if first & 0xffc0 == 0xfec0 => true,
            _ => ip.is_unique_local() || ip.is_unicast_link_local() || ip.is_multicast(),
        },
    }
}

fn is_inside_v4(ip: Ipv4Addr) -> bool {
    // Azure's services for its machines have an address like any other.
    const AZURE: Ipv4Addr = Ipv4Addr::new(168, 63, 129, 16);
    let special = match ip.octets() {
        // "This network"; IETF protocols, where Oracle's cloud has its services; benchmarks; multicast and
        // reserved, with the broadcast address.
        [0, ..] | [192, 0, 0, _] | [198, 18 | 19, ..] | [224..=255, ..] => true,
        _ => ip == AZURE,
    };
    special || ip.is_loopback() || ip.is_private() || ip.is_link_local() || is_shared(ip)
}

/// Whether resolvers may take a name for an address: `127.1`, `0x7f000001`.
fn is_short_address(name: &str) -> bool {
    name.rsplit('.')
        .next()
        .is_some_and(|last| last.starts_with("0x") || last.bytes().all(|b| b.is_ascii_digit()))
}

/// Addresses between a provider and its customers (RFC 6598), which clouds use for themselves.
fn is_shared(ip: Ipv4Addr) -> bool {
    let [a, b, ..] = ip.octets();
    a == 100 && b & 0xc0 == 64
}

fn is_below(name: &str, domains: &[&str]) -> bool {
    domains.iter().any(|domain| name.strip_suffix(domain).is_some_and(|rest| rest.ends_with('.')))
}

/// Whether a server at one host may send us to another: none that anyone can run may send us to an
/// address in here, where something may listen that trusts any client that can reach it (server-side request
/// forgery).
pub(super) fn may_lead_to(from: &Uri, to: &Uri) -> bool {
    let (from, to) = (from.host().unwrap_or_default(), to.host().unwrap_or_default());
    let to = &*to.to_ascii_lowercase();
    let is_address = without_brackets(to).parse::<IpAddr>().is_ok();
    let is_literal = is_address || is_loopback(to) || is_short_address(to);
    !is_literal || !is_inside(to) || is_inside(from)
}

pub(super) fn same_origin(a: &Uri, b: &Uri) -> bool {
    a.scheme() == b.scheme() && a.authority() == b.authority()
}

/// Whether two URLs are of the same server, so that a secret that went to the one may go to the other: of
/// the same origin, or of the same host, which sends us from plain HTTP to TLS and so to another port.
pub(super) fn same_server(from: &Uri, to: &Uri) -> bool {
    let port = |uri: &Uri| match (uri.port_u16(), uri.scheme_str()) {
        (None, Some("https")) => 443,
        (port, _) => port.unwrap_or(80),
    };
    let is_same_host = match (from.host(), to.host()) {
        (Some(from), Some(to)) => from.eq_ignore_ascii_case(to),
        _ => false,
    };
    is_same_host
        && match (from.scheme_str(), to.scheme_str()) {
            (Some("http"), Some("https")) => true,
            (from_scheme, to_scheme) => from_scheme == to_scheme && port(from) == port(to),
        }
}

/// The same place over TLS, if a server that is reached over TLS names itself by `http://`. One behind a
/// proxy that ends TLS does not know better.
pub(super) fn own_over_tls(from: &Uri, location: &str) -> Option<Uri> {
    let named: Uri = location.parse().ok()?;
    let is_downgrade = from.scheme_str() == Some("https") && named.scheme_str() == Some("http");
    if !is_downgrade || !named.host()?.eq_ignore_ascii_case(from.host()?) {
        return None;
    }
    let authority = match named.port_u16() {
        None | Some(80) => from.authority()?,
        Some(_) => named.authority()?,
    };
    let has_login =
        [from.authority()?, named.authority()?].iter().any(|a| a.as_str().contains('@'));
    let path = named.path_and_query().map_or("/", |path| path.as_str());
    format!("https://{authority}{path}").parse().ok().filter(|_| !has_login)
}

/// Resolves a Location header (RFC 3986, 5.2). A registry that is asked over TLS may not send us to
/// plain HTTP; where it means itself, TLS is kept.
pub(super) fn redirect_target(from: &Uri, location: &str) -> Option<Uri> {
    let from_scheme = from.scheme_str()?;
    let absolute = match location {
        "" => return None,
        // Before a slash a colon ends a scheme and nothing else (4.2).
        location if !has_scheme(location) && first_part(location).contains(':') => return None,
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
    if from_scheme == "https" && scheme == "http" {
        return own_over_tls(from, &absolute);
    }
    let downgrade = from_scheme == "https" && scheme != "https";
    (!downgrade && matches!(scheme, "http" | "https") && target.host().is_some()).then_some(target)
}

/// A URL for people.
pub(super) fn without_query(url: &Uri) -> String {
    without_secrets(&url.to_string())
}

/// The URL without its query, which may hold a signature, and without a user and password.
pub(super) fn without_secrets(url: &str) -> String {
    let url = url.split('?').next().unwrap_or_default();
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    format!("{scheme}://{host}/{path}")
}

/// What stands before any delimiter but the colon.
fn first_part(location: &str) -> &str {
    location.split(['/', '?', '#']).next().unwrap_or_default()
}

/// Whether a reference is absolute: a scheme stands before any other delimiter.
pub(super) fn has_scheme(location: &str) -> bool {
    first_part(location)
        .strip_suffix(':')
        .is_some_and(|s| s.bytes().all(|b| b.is_ascii_alphanumeric()))
}

/// A URL as a server has written it, with all that may not stand in one as percent escapes: blanks,
/// quotes and text in UTF-8, which browsers and Go's `net/url` escape as well. What is an escape stays
/// one. A host's name can't be escaped, so that such a URL is none.
pub(super) fn escaped(url: &[u8]) -> String {
    let url = url.trim_ascii();
    let mut text = String::with_capacity(url.len());
    for &byte in url {
        match byte {
            b'!' | b'#'..=b';' | b'=' | b'?'..=b'[' | b']' | b'_' | b'a'..=b'z' | b'~' => {
                text.push(char::from(byte));
            }
            _ => text.push_str(&format!("%{byte:02X}")),
        }
    }
    text
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
    fn secrets_are_not_printed() {
        assert_eq!(without_secrets("https://me:secret@cdn/x?y"), "https://cdn/x");
    }

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
    fn hosts_in_here() {
        for host in [
            "localhost",
            "127.0.0.1:5000",
            "0.0.0.0",
            "10.1.2.3:5000",
            "172.16.0.1",
            "192.168.0.1",
            "169.254.169.254",
            "100.100.100.200",
            "[::1]:5000",
            "[fd00::1]",
            "[fe80::1]:80",
            "[::ffff:10.0.0.1]",
            "0.1.2.3",
            "192.0.0.192",
            "198.18.0.1",
            "198.19.255.255",
            "168.63.129.16",
            "224.0.0.1",
            "239.1.1.1",
            "240.0.0.1",
            "255.255.255.255",
            "[::]",
            "[::10.0.0.1]",
            "[::8.8.8.8]",
            "[64:ff9b::169.254.169.254]",
            "[64:ff9b::7f00:1]",
            "[64:ff9b:1::808:808]",
            "[2002:a9fe:a9fe::1]",
            "[2001::1]",
            "[2001:0:808:808::1]",
            "[fec0::1]",
            "[feff::1]",
            "[ff02::1]",
            "[::ffff:198.18.0.1]",
            "registry",
            "registry:5000",
            "registry.local",
            "Registry.Internal.",
            "nas.home.arpa",
        ] {
            assert!(is_inside(host), "{host}");
        }
        for host in [
            "docker.io",
            "8.8.8.8",
            "172.32.0.1",
            "100.128.0.1",
            "[2001:db8::1]:5000",
            "[2001:4860:4860::8888]",
            "[2606:4700::1111]:443",
            "[64:ff9b::8.8.8.8]",
            "198.20.0.1",
            "192.0.1.1",
            "223.255.255.255",
            "1.0.0.1",
            "168.63.129.17",
            "registry.example:5000",
            "notlocal.example",
            "my-local.example",
        ] {
            assert!(!is_inside(host), "{host}");
        }
    }

    #[test]
    fn where_servers_may_send_us() {
        let may = |from: &str, to: &str| may_lead_to(&from.parse().unwrap(), &to.parse().unwrap());
        for to in [
            "https://169.254.169.254/x",
            "https://127.0.0.1/",
            "https://[::1]:80/x",
            "https://localhost/",
            "https://10.0.0.1:9000/b",
            "https://127.1/",
            "https://0X7f000001/",
            "https://LOCALHOST/",
        ] {
            assert!(!may("https://registry.example/v2/", to), "{to}");
            assert!(may("https://10.9.9.9:5000/v2/", to), "{to}");
            assert!(may("https://registry.internal/v2/", to), "{to}");
        }
        // A name is not known to lead in here, and the registry may have one of its own: its addresses are
        // looked at when it is connected to.
        for to in ["https://cdn.example/x", "https://minio.internal/x", "https://8.8.8.8/"] {
            assert!(may("https://registry.example/v2/", to), "{to}");
        }
    }

    #[test]
    fn secrets_stay_with_their_server() {
        let same = |from: &str, to: &str| same_server(&from.parse().unwrap(), &to.parse().unwrap());
        for (from, to) in [
            ("https://a.example/t", "https://A.example:443/u"),
            ("http://a.example/t", "https://a.example/t"),
            ("http://a.example:5000/t", "https://a.example:5001/t"),
            ("http://127.0.0.1:5000/t", "http://127.0.0.1:5000/u"),
        ] {
            assert!(same(from, to), "{from} {to}");
        }
        for (from, to) in [
            ("https://a.example/t", "https://b.a.example/t"),
            ("https://a.example/t", "https://a.example:8443/t"),
            ("https://a.example/t", "http://a.example/t"),
            ("http://a.example/t", "https://b.example/t"),
            ("http://127.0.0.1:5000/t", "http://127.0.0.1:5001/t"),
        ] {
            assert!(!same(from, to), "{from} {to}");
        }
    }

    #[test]
    fn query_values() {
        assert_eq!(encoded("application/vnd.a-b+json"), "application%2Fvnd.a-b%2Bjson");
        assert_eq!(encoded("sha256:0a ä"), "sha256%3A0a%20%C3%A4");
    }

    #[test]
    fn escapes_that_servers_forget() {
        for (written, right) in [
            ("https://cdn/a b?q=\"x\"", "https://cdn/a%20b?q=%22x%22"),
            (" https://cdn/ä/<x>|{y}^`\\ ", "https://cdn/%C3%A4/%3Cx%3E%7C%7By%7D%5E%60%5C"),
            ("/a%20b%2fc?sig=a%2Bb+c&d=[1]#f", "/a%20b%2fc?sig=a%2Bb+c&d=[1]#f"),
            ("a\tb", "a%09b"),
            ("", ""),
        ] {
            assert_eq!(escaped(written.as_bytes()), right);
        }
        assert_eq!(escaped(b"/\xff"), "/%FF");
        let from = "https://reg.example/v2/x".parse().unwrap();
        let target = |location: &str| redirect_target(&from, &escaped(location.as_bytes()));
        assert_eq!(target("/größe x").unwrap(), "https://reg.example/gr%C3%B6%C3%9Fe%20x");
        for host in ["https://a b/x", "https://münchen.example/", "https://a\\b/"] {
            assert_eq!(target(host), None, "{host}");
        }
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
        assert_eq!(target(from, "http://REG.example/x?y").unwrap(), "https://reg.example/x?y");
        assert_eq!(target("https://r:8443/a", "http://r/x").unwrap(), "https://r:8443/x");
        assert_eq!(target(from, "http://reg.example.evil/x"), None);
        assert_eq!(target(from, "ftp://cdn/x"), None);
        assert_eq!(target(from, "::no%20url::"), None);
        assert_eq!(target(from, "a:b/c"), None);
        assert_eq!(target(from, "a/b:c").unwrap(), "https://reg.example/v2/x/blobs/a/b:c");
        assert_eq!(target("http://a/b", "http://cdn/x").unwrap(), "http://cdn/x");
    }
}
