//! Tests of the test registry: what a client sees on the wire, with and without faults.
//!
//! The client here is a bare socket, since an HTTP library would hide or repair what the faults do.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use super::image::{Built, Compression, ImageBuilder};
use super::registry::{Fault, Registry, Times};

const BLOB: &str = "/v2/r/blobs/sha256:b";

/// What came back on a connection, up to its end.
struct Reply {
    head: String,
    body: Vec<u8>,
    error: Option<ErrorKind>,
}

impl Reply {
    fn status(&self) -> &str {
        self.head.split(' ').nth(1).unwrap_or_default()
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }
}

fn request(address: SocketAddr, method: &str, path: &str, headers: &str) -> Reply {
    let mut stream = TcpStream::connect(address).expect("connect");
    let head = format!("{method} {path} HTTP/1.1\r\nConnection: close\r\n{headers}\r\n");
    stream.write_all(head.as_bytes()).expect("send");
    let mut bytes = Vec::new();
    let error = stream.read_to_end(&mut bytes).err().map(|error| error.kind());
    let end =
        bytes.windows(4).position(|four| four == b"\r\n\r\n").map_or(bytes.len(), |at| at + 4);
    let body = bytes.split_off(end);
    Reply { head: String::from_utf8(bytes).expect("heads are text"), body, error }
}

fn get(registry: &Registry, path: &str, headers: &str) -> Reply {
    request(registry.addr(), "GET", path, headers)
}

fn with_blob() -> Registry {
    let registry = Registry::start();
    registry.add_blob("r", "sha256:b", b"0123456789");
    registry
}

fn image() -> Built {
    ImageBuilder::new().layer(b"no archive", Compression::Gzip).build()
}

#[test]
fn serves_manifests_and_lists() {
    let registry = Registry::start();
    let image = image();
    registry.add_image("a/b", "v1", &image);
    for reference in ["v1", &image.manifest_digest, &image.manifest_digest.replace(':', "%3A")] {
        let reply = get(&registry, &format!("/v2/a/b/manifests/{reference}"), "");
        assert_eq!((reply.status(), &reply.body), ("200", &image.manifest));
        assert_eq!(reply.header("Content-Type"), Some(&image.manifest_media_type[..]));
        assert_eq!(reply.header("Docker-Content-Digest"), Some(&image.manifest_digest[..]));
    }
    let reply = get(&registry, "/v2/a/b/manifests/v2", "");
    assert_eq!(reply.status(), "404");
    assert!(String::from_utf8_lossy(&reply.body).contains("MANIFEST_UNKNOWN"));
    let tags = get(&registry, "/v2/a/b/tags/list", "");
    assert_eq!(tags.body, br#"{"name":"a/b","tags":["v1"]}"#);
    assert_eq!(get(&registry, "/v2/a/c/tags/list", "").status(), "404");
    let referrers = format!("/v2/a/b/referrers/{}", image.manifest_digest);
    assert_eq!(get(&registry, &referrers, "").status(), "404");
    assert_eq!(get(&registry, "/v2/", "").status(), "200");
}

#[test]
fn serves_ranges() {
    let registry = with_blob();
    for (range, status, content_range, body) in [
        ("bytes=0-0", "206", Some("bytes 0-0/10"), "0"),
        ("bytes=3-5", "206", Some("bytes 3-5/10"), "345"),
        ("bytes=8-99", "206", Some("bytes 8-9/10"), "89"),
        ("bytes=7-", "206", Some("bytes 7-9/10"), "789"),
        ("bytes=-4", "206", Some("bytes 6-9/10"), "6789"),
        ("bytes=-40", "206", Some("bytes 0-9/10"), "0123456789"),
        ("bytes=0-1,3-4", "200", None, "0123456789"),
        ("lines=1-2", "200", None, "0123456789"),
    ] {
        let reply = get(&registry, BLOB, &format!("Range: {range}\r\n"));
        assert_eq!((reply.status(), reply.header("Content-Range")), (status, content_range));
        assert_eq!(reply.body, body.as_bytes(), "{range}");
    }
    let reply = get(&registry, BLOB, "Range: bytes=10-\r\n");
    assert_eq!((reply.status(), reply.header("Content-Range")), ("416", Some("bytes */10")));
    let reply = request(registry.addr(), "HEAD", BLOB, "");
    assert_eq!((reply.header("Content-Length"), reply.body.len()), (Some("10"), 0));
    let log = registry.requests();
    assert_eq!((log.len(), log[1].status, log[1].body_bytes_sent), (10, 206, 3));
    assert_eq!(log[1].range.as_deref(), Some("bytes=3-5"));
    registry.clear_log();
    assert!(registry.requests().is_empty());
}

#[test]
fn keeps_connections_open() {
    let registry = with_blob();
    let mut stream = TcpStream::connect(registry.addr()).expect("connect");
    for _ in 0..3 {
        write!(stream, "GET {BLOB} HTTP/1.1\r\nContent-Length: 4\r\n\r\nbody").expect("send");
        let mut bytes = Vec::new();
        while !bytes.ends_with(b"0123456789") {
            let mut byte = [0];
            stream.read_exact(&mut byte).expect("receive");
            bytes.push(byte[0]);
        }
    }
    assert_eq!(registry.requests().len(), 3);
    // Dropping the registry ends connections that are idle, and frees the port.
    let port = registry.addr().port();
    drop(registry);
    assert_eq!(stream.read(&mut [0]).expect("see the end"), 0);
    assert_eq!(Registry::start_on(port).addr().port(), port);
}

#[test]
fn asks_for_credentials() {
    let registry = with_blob();
    registry.require_basic("u", "p");
    let refused = get(&registry, BLOB, "");
    assert_eq!(
        (refused.status(), refused.header("WWW-Authenticate")),
        ("401", Some("Basic realm=\"test-registry\""))
    );
    assert_eq!(get(&registry, BLOB, "Authorization: Basic dTpw\r\n").status(), "200");

    registry.require_bearer(Some(("u", "p")));
    let challenge = get(&registry, BLOB, "");
    let expected = format!(
        "Bearer realm=\"http://{}/token\",service=\"test-registry\",scope=\"repository:r:pull\"",
        registry.addr()
    );
    assert_eq!(challenge.header("WWW-Authenticate"), Some(&expected[..]));
    let token = |scope: &str| {
        let path = format!("/token?service=test-registry&scope={scope}");
        let reply = get(&registry, &path, "Authorization: Basic dTpw\r\n");
        let value: serde_json::Value = serde_json::from_slice(&reply.body).expect("JSON");
        format!("Authorization: Bearer {}\r\n", value["token"].as_str().expect("a token"))
    };
    assert_eq!(get(&registry, "/token?scope=x", "").status(), "401");
    let good = token("repository%3Ar:pull,push");
    assert_eq!(get(&registry, BLOB, &good).status(), "200");
    let other = get(&registry, BLOB, &token("repository:q:pull"));
    assert!(other.head.contains("insufficient_scope"), "{}", other.head);
    registry.revoke_tokens();
    assert!(get(&registry, BLOB, &good).head.contains("invalid_token"));
    registry.set_token_lifetime(Duration::ZERO);
    assert_eq!(get(&registry, BLOB, &token("repository:r:pull")).status(), "401");
    registry.require_bearer(None);
    assert_eq!(get(&registry, "/token?scope=x", "").status(), "200");
}

#[test]
fn spoils_responses() {
    let range = "Range: bytes=2-5\r\n";
    let spoiled = |fault: Fault, headers: &str| {
        let registry = with_blob();
        registry.fault(("GET", "/blobs/", Times::Always), fault);
        let reply = get(&registry, BLOB, headers);
        let log = registry.requests();
        assert_eq!(log.len(), 1);
        (reply, log[0].clone())
    };
    let headers = vec![("Retry-After".to_string(), "1".to_string())];
    let (reply, log) = spoiled(Fault::Status(503, headers, b"busy".to_vec()), "");
    assert_eq!((reply.status(), reply.header("Retry-After")), ("503", Some("1")));
    assert_eq!((&reply.body[..], log.status), (&b"busy"[..], 503));

    let (reply, log) = spoiled(Fault::Truncate(4), "");
    assert_eq!((reply.header("Content-Length"), &reply.body[..]), (Some("10"), &b"0123"[..]));
    assert_eq!((reply.error, log.body_bytes_sent), (None, 4));

    let (reply, _) = spoiled(Fault::Reset(4), "");
    assert_eq!((reply.error, &reply.body[..]), (Some(ErrorKind::ConnectionReset), &b"0123"[..]));

    let (reply, log) = spoiled(Fault::CloseBeforeResponse, "");
    assert_eq!((&reply.head[..], reply.error, log.status), ("", None, 0));

    assert_eq!(spoiled(Fault::FlipByte(1), range).0.body, [b'2', !b'3', b'4', b'5']);
    let (reply, _) = spoiled(Fault::WrongContentRange, range);
    assert_eq!(reply.header("Content-Range"), Some("bytes 3-6/10"));
    let (reply, _) = spoiled(Fault::ExtraBytes(2), range);
    assert_eq!((reply.header("Content-Length"), &reply.body[..]), (Some("6"), &b"2345xx"[..]));
    let (reply, _) = spoiled(Fault::WrongLength, range);
    assert_eq!((reply.header("Content-Length"), &reply.body[..]), (Some("3"), &b"2345"[..]));
    let (reply, _) = spoiled(Fault::IgnoreRange, range);
    assert_eq!((reply.status(), &reply.body[..]), ("200", &b"0123456789"[..]));
    let (reply, _) = spoiled(Fault::NoLength, range);
    assert_eq!(reply.header("Content-Length"), None);
    assert_eq!(reply.body, b"4\r\n2345\r\n0\r\n\r\n");
    let (reply, _) = spoiled(Fault::Redirect(307, "/elsewhere".to_string()), "");
    assert_eq!((reply.status(), reply.header("Location")), ("307", Some("/elsewhere")));
    let (reply, _) = spoiled(Fault::ContentEncoding("gzip".to_string()), "");
    assert_eq!(reply.header("Content-Encoding"), Some("gzip"));
    assert_eq!(reply.body[..2], [0x1f, 0x8b]);
    let (reply, _) = spoiled(Fault::WrongDigestHeader, "");
    assert_ne!(reply.header("Docker-Content-Digest"), Some("sha256:b"));

    let start = Instant::now();
    assert_eq!(spoiled(Fault::Stall(5, Duration::from_millis(60)), "").0.body, b"0123456789");
    assert!(start.elapsed() >= Duration::from_millis(60));
    let start = Instant::now();
    assert_eq!(spoiled(Fault::Drip(2), "").0.body, b"0123456789");
    assert!(start.elapsed() >= Duration::from_millis(50));
}

#[test]
fn counts_requests_for_faults() {
    let registry = with_blob();
    let unavailable = || Fault::Status(503, Vec::new(), Vec::new());
    registry.fault(("GET", "/blobs/", Times::Nth(2)), unavailable());
    registry.fault(("", "/v2/", Times::First(1)), Fault::Status(500, Vec::new(), Vec::new()));
    registry.fault(("HEAD", "", Times::Always), unavailable());
    let status = |method: &str| request(registry.addr(), method, BLOB, "").status().to_string();
    let seen = ["GET", "GET", "GET", "HEAD", "HEAD"].map(status);
    assert_eq!(seen, ["500", "503", "200", "503", "503"]);
    registry.clear_faults();
    assert_eq!(request(registry.addr(), "HEAD", BLOB, "").status(), "200");
}

#[test]
fn stops_in_the_middle_of_a_stall() {
    let registry = with_blob();
    registry.fault(("", "", Times::Always), Fault::Stall(1, Duration::from_secs(600)));
    let mut stream = TcpStream::connect(registry.addr()).expect("connect");
    write!(stream, "GET {BLOB} HTTP/1.1\r\n\r\n").expect("send");
    let mut byte = [0];
    stream.read_exact(&mut byte).expect("receive");
    let start = Instant::now();
    drop(registry);
    assert!(start.elapsed() < Duration::from_secs(60));
}
