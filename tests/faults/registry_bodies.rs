//! Blobs that break off, stall, drip or come framed oddly.
//!
//! What is already there is not fetched again, and no body is believed beyond its digest.

use std::time::{Duration, Instant};

use ocifs::image::ImageOptions;
use ocifs::source::registry::RegistryOptions;

use crate::fixture::{
    Sandbox, Verdict, fails, good, image_of, name_in, noise, open, opens, options, read,
};
use crate::support::image::{Built, Compression};
use crate::support::registry::{Fault, Registry, Times};
use crate::support::tarball::{Entry, tar};

const LENGTH: usize = 3 << 20;

/// An image of one plain layer of 3 MiB, and the digest of that.
fn large() -> (Built, String) {
    let image = image_of(&tar(&[Entry::file("f", noise(LENGTH, 7))]), Compression::None);
    let digest = image.layer_digests().remove(0);
    (image, digest)
}

fn serving() -> (Registry, String) {
    let (image, digest) = large();
    let registry = Registry::start();
    registry.add_image("r", "t", &image);
    (registry, digest)
}

/// Opens and reads the large image, and says how often its blob was asked for and how many of its
/// bytes were sent.
fn fetch(registry: &Registry, digest: &str) -> Result<(usize, u64), String> {
    let sandbox = Sandbox::new();
    let image = open(&name_in(registry), &sandbox.cache(), &options())?;
    if read(&image, "f")? != noise(LENGTH, 7) {
        return Err("wrong bytes".into());
    }
    let log = registry.requests();
    let blobs = log.iter().filter(|request| request.path.contains(digest));
    let sent = blobs.clone().map(|request| request.body_bytes_sent).sum();
    Ok((blobs.count(), sent))
}

#[test]
fn broken_connections_are_resumed() {
    let mib = 1 << 20;
    let rows = [
        ("reset at the start", Fault::Reset(0), Times::First(1)),
        ("reset in the middle", Fault::Reset(2 * mib), Times::First(1)),
        ("reset near the end", Fault::Reset(LENGTH), Times::First(1)),
        ("closed at the start", Fault::Truncate(0), Times::First(1)),
        ("closed in the middle", Fault::Truncate(mib + 1), Times::First(1)),
        ("closed thrice", Fault::Truncate(mib / 2), Times::First(3)),
        ("stalled", Fault::Stall(mib, Duration::from_secs(30)), Times::First(1)),
        ("stalled at the start", Fault::Stall(0, Duration::from_secs(30)), Times::First(1)),
    ];
    let mut verdict = Verdict::default();
    for (what, fault, times) in rows {
        let (registry, digest) = serving();
        registry.fault(("GET", &digest, times), fault);
        verdict.row(
            what,
            fetch(&registry, &digest).and_then(|(requests, sent)| {
                // What the kernel's buffers hold when a stall is given up on counts as sent.
                match requests <= 4 && sent < 2 * LENGTH as u64 {
                    true => Ok(()),
                    false => Err(format!("{requests} requests, {sent} bytes")),
                }
            }),
        );
    }
    verdict.end();
}

#[test]
fn odd_framing_is_accepted() {
    let rows = [
        ("no length", Fault::NoLength),
        ("slow", Fault::Drip(LENGTH / 100)),
        ("wrong digest header", Fault::WrongDigestHeader),
        ("short stall", Fault::Stall(1 << 20, Duration::from_millis(300))),
        ("label", Fault::ContentEncoding("identity".into())),
        ("unknown label", Fault::ContentEncoding("x-unknown".into())),
    ];
    let mut verdict = Verdict::default();
    for (what, fault) in rows {
        let (registry, digest) = serving();
        registry.fault(("GET", &digest, Times::Always), fault);
        verdict.row(
            what,
            fetch(&registry, &digest).and_then(|(requests, _)| match requests {
                1 => Ok(()),
                n => Err(format!("{n} requests")),
            }),
        );
    }
    // Broken off, and the server does not know ranges: the known part is sent again and skipped.
    let (registry, digest) = serving();
    registry.fault(("GET", &digest, Times::First(1)), Fault::Truncate(1 << 20));
    registry.fault(("GET", &digest, Times::Always), Fault::IgnoreRange);
    verdict.row("no ranges", fetch(&registry, &digest).map(drop));
    verdict.end();
}

/// What servers and proxies say before an answer (RFC 9110, 15.2) is no part of it, however much comes at once.
#[test]
fn preliminary_answers_are_passed_over() {
    let mut verdict = Verdict::default();
    for before in [
        "HTTP/1.1 100 Continue\r\n\r\n",
        "HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n",
        "HTTP/1.1 103 Early Hints\r\nLink: </x>; rel=preload\r\n\r\n",
    ] {
        let (registry, digest) = serving();
        registry.fault(("", "", Times::Always), Fault::Preliminary(before));
        for _ in 0..5 {
            verdict.row(before, fetch(&registry, &digest).map(drop));
        }
    }
    verdict.end();
}

/// A server that labels a blob gzip, as some do with layers that are gzip themselves.
#[test]
fn gzip_labels_do_not_decode() {
    let image = good();
    let digest = image.layer_digests().remove(0);
    let registry = Registry::start();
    registry.add_image("r", "t", &image);
    // The label without the encoding: the bytes are right as they are.
    let headers = vec![("Content-Encoding".to_owned(), "gzip".to_owned())];
    let fault = Fault::Status(200, headers, image.blobs[&digest].clone());
    registry.fault(("GET", &digest, Times::Always), fault);
    opens(&Sandbox::new(), &name_in(&registry), &options()).unwrap();
    // The encoding itself, which nobody asked for: not the blob, and never served as such.
    registry.clear_faults();
    registry.fault(("GET", &digest, Times::Always), Fault::ContentEncoding("gzip".into()));
    let words = ["its descriptor says", "`Content-Encoding: gzip`, which was not asked for"];
    fails(&Sandbox::new(), &name_in(&registry), &options(), &words).unwrap();
}

#[test]
fn wrong_bodies_are_refused() {
    let page = |content_type: &str| {
        let headers = vec![("Content-Type".to_owned(), content_type.to_owned())];
        Fault::Status(200, headers, b"<html>Please log in</html>".to_vec())
    };
    let rows: Vec<(&str, Fault, &[&str])> = vec![
        ("flipped byte", Fault::FlipByte(2_000_000), &["does not match its digest"]),
        ("extra bytes", Fault::ExtraBytes(10), &["its descriptor says"]),
        ("a page", page("text/html; charset=utf-8"), &["web page"]),
        ("a page in disguise", page("application/octet-stream"), &["its descriptor says"]),
        ("nothing", Fault::Status(200, Vec::new(), Vec::new()), &["its descriptor says"]),
        ("no content", Fault::Status(204, Vec::new(), Vec::new()), &[]),
        ("partial unasked", Fault::Status(206, Vec::new(), vec![0; 100]), &["Content-Range"]),
        ("length one less", Fault::WrongLength, &["its descriptor says"]),
    ];
    let mut verdict = Verdict::default();
    for (what, fault, words) in rows {
        let (registry, digest) = serving();
        let sandbox = Sandbox::new();
        registry.fault(("GET", &digest, Times::Always), fault);
        verdict.row(what, fails(&sandbox, &name_in(&registry), &options(), words));
        registry.clear_faults();
        verdict.row(what, open(&name_in(&registry), &sandbox.cache(), &options()).map(drop));
    }
    verdict.end();
}

/// A range that is answered with another one would shift all that follows.
#[test]
fn wrong_ranges_are_refused() {
    let sandbox = Sandbox::new();
    let (registry, digest) = serving();
    registry.fault(("GET", &digest, Times::First(1)), Fault::Truncate(1 << 20));
    registry.fault(("GET", &digest, Times::Always), Fault::WrongContentRange);
    let words = ["asked for bytes 1048576-", "got `bytes 1048577-"];
    fails(&sandbox, &name_in(&registry), &options(), &words).unwrap();
    for (status, words) in [(416, "416"), (404, "not found"), (403, "access denied")] {
        registry.clear_faults();
        registry.fault(("GET", &digest, Times::First(1)), Fault::Truncate(1 << 20));
        let fault = Fault::Status(status, Vec::new(), Vec::new());
        registry.fault(("GET", &digest, Times::Always), fault);
        fails(&sandbox, &name_in(&registry), &options(), &[words]).unwrap();
    }
}

/// Bodies that never get anywhere end in an error, in bounded time and with few requests.
#[test]
fn endless_trouble_ends() {
    let usual = options();
    let read_timeout = Duration::from_millis(300);
    let options =
        ImageOptions { registry: RegistryOptions { read_timeout, ..usual.registry }, ..usual };
    for (fault, words) in [
        (Fault::Truncate(0), ""),
        (Fault::Reset(0), ""),
        (Fault::Stall(0, Duration::from_secs(60)), ""),
    ] {
        let (registry, digest) = serving();
        registry.fault(("GET", &digest, Times::Always), fault.clone());
        let started = Instant::now();
        let failed = fails(&Sandbox::new(), &name_in(&registry), &options, &[words]);
        assert_eq!(failed, Ok(()), "{fault:?}");
        assert!(started.elapsed() < Duration::from_secs(15), "{fault:?}: {:?}", started.elapsed());
        assert!(registry.requests().len() < 40, "{fault:?}: {}", registry.requests().len());
    }
}

/// A registry that gives one more byte at each try makes progress only in name: a blob of 3 MiB
/// would take days.
#[test]
fn a_byte_at_a_time_is_no_progress() {
    let (registry, digest) = serving();
    registry.fault(("GET", &digest, Times::Always), Fault::Truncate(1));
    let failed = fails(&Sandbox::new(), &name_in(&registry), &options(), &[]);
    assert_eq!(failed, Ok(()));
}
