//! Answers whose headers are odd: labels that are wrong or nobody asked for, headers that old servers read
//! in their own way, locations that are no URLs, and what is no HTTP at all.

use crate::fixture::{
    Sandbox, Verdict, fails, good, image_of, name_in, noise, open, opens, options, read,
};
use crate::support::image::Compression;
use crate::support::registry::{Fault, Registry, Times};
use crate::support::tarball::{Entry, tar};

fn serving() -> Registry {
    let registry = Registry::start();
    registry.add_image("r", "t", &good());
    registry
}

/// A web page with this label, with or without a length.
fn page(length: usize, has_length: bool) -> Fault {
    let page = [b"<!DOCTYPE html>".to_vec(), vec![b' '; length]].concat();
    let mut headers = vec![("Content-Type".to_owned(), "text/html; charset=utf-8".to_owned())];
    let body = match has_length {
        true => page,
        false => {
            headers.push(("Transfer-Encoding".to_owned(), "chunked".to_owned()));
            let size = format!("{:x}\r\n", page.len());
            [size.as_bytes(), &page, b"\r\n0\r\n\r\n"].concat()
        }
    };
    Fault::Status(200, headers, body)
}

/// Digest and length decide what something is, not its label.
#[test]
fn labels_do_not_matter() {
    let labels =
        ["text/html", "TEXT/HTML; charset=utf-8", "text/plain", "", "image/png", "no type"];
    let mut verdict = Verdict::default();
    for place in ["/manifests/", "/blobs/"] {
        for label in labels {
            let registry = serving();
            registry.fault(("", place, Times::Always), Fault::ContentType(label.to_owned()));
            let opened = opens(&Sandbox::new(), &name_in(&registry), &options());
            verdict.row(&format!("{place} as `{label}`"), opened);
        }
    }
    // Also where the registry redirects to, which is asked again for the next part.
    let (registry, storage) = (serving(), serving());
    let layer = good().layer_digests().remove(0);
    let to = format!("http://{}/v2/r/blobs/{layer}", storage.addr());
    registry.fault(("GET", &layer, Times::Always), Fault::Redirect(307, to));
    storage.fault(("", "", Times::Always), Fault::ContentType("text/html".to_owned()));
    verdict.row("in storage", opens(&Sandbox::new(), &name_in(&registry), &options()));
    verdict.end();
}

/// What is no blob is told as what it is.
#[test]
fn pages_are_told() {
    let mut verdict = Verdict::default();
    for (what, fault) in [
        ("short", page(10, true)),
        ("long", page(100_000, true)),
        ("short, without a length", page(10, false)),
        ("long, without a length", page(100_000, false)),
    ] {
        let registry = serving();
        registry.fault(("GET", "/blobs/", Times::Always), fault);
        let failed = fails(&Sandbox::new(), &name_in(&registry), &options(), &["web page"]);
        verdict.row(what, failed);
        // It may have been a captive portal that the user has logged in to meanwhile.
        registry.clear_faults();
        verdict.row(what, opens(&Sandbox::new(), &name_in(&registry), &options()));
    }
    verdict.end();
}

/// Manifests that come compressed, though nobody asked for that.
#[test]
fn encoded_manifests_are_decoded() {
    let registry = serving();
    registry.fault(("GET", "/manifests/", Times::Always), Fault::ContentEncoding("gzip".into()));
    opens(&Sandbox::new(), &name_in(&registry), &options()).unwrap();
    // By digest too, and what comes out is checked like anything else.
    let registry = serving();
    let by_digest = format!("{}/r@{}", registry.addr(), good().manifest_digest);
    registry.fault(("GET", "/manifests/", Times::First(1)), Fault::ContentEncoding("gzip".into()));
    opens(&Sandbox::new(), &by_digest, &options()).unwrap();
    let other = image_of(&tar(&[Entry::file("f", b"other")]), Compression::Gzip);
    let registry = serving();
    let body = crate::support::image::compress(&other.manifest, Compression::Gzip);
    let label = vec![("Content-Encoding".to_owned(), "gzip".to_owned())];
    registry.fault(("GET", "/manifests/", Times::Always), Fault::Status(200, label, body));
    let by_digest = format!("{}/r@{}", registry.addr(), good().manifest_digest);
    fails(&Sandbox::new(), &by_digest, &options(), &["digest"]).unwrap();
    // One that grows without bounds, and one that is not what it says.
    for (body, words) in [
        (crate::support::image::compress(&vec![b' '; 64 << 20], Compression::Gzip), "encoded"),
        (b"\x1f\x8bjunk".to_vec(), "encoded"),
    ] {
        let registry = serving();
        let label = vec![("Content-Encoding".to_owned(), "gzip".to_owned())];
        registry.fault(("GET", "/manifests/", Times::Always), Fault::Status(200, label, body));
        fails(&Sandbox::new(), &name_in(&registry), &options(), &[words]).unwrap();
    }
}

/// Old registries compare each line of `Accept` with a type.
#[test]
fn each_type_has_a_line() {
    let line = "application/vnd.oci.image.manifest.v1+json".to_owned();
    let registry = serving();
    registry.fault(("", "/manifests/", Times::Always), Fault::WantsAcceptLine(line));
    let sandbox = Sandbox::new();
    opens(&sandbox, &name_in(&registry), &options()).unwrap();
    registry.clear_log();
    // The second time a HEAD request says that nothing has changed.
    opens(&sandbox, &name_in(&registry), &options()).unwrap();
    let methods: Vec<String> = registry.requests().into_iter().map(|r| r.method).collect();
    assert_eq!(methods, ["HEAD"]);
}

#[test]
fn locations_need_not_be_escaped() {
    let layer = good().layer_digests().remove(0);
    let mut verdict = Verdict::default();
    for query in ["a b", "\"quoted\"", "größe", "<>{}|^`\\", " trailing "] {
        let (registry, storage) = (serving(), serving());
        let to = format!("http://{}/v2/r/blobs/{layer}?sig={query}", storage.addr());
        registry.fault(("GET", &layer, Times::Always), Fault::Redirect(307, to));
        verdict.row(query, opens(&Sandbox::new(), &name_in(&registry), &options()));
        assert!(!storage.requests().is_empty(), "{query}: the storage is asked");
    }
    verdict.end();
}

/// Something else than HTTP will be the same the next time.
#[test]
fn malformed_answers_are_not_asked_for_again_and_again() {
    let mut verdict = Verdict::default();
    for place in ["/manifests/", "/blobs/"] {
        let registry = serving();
        let headers = vec![("Bad Name".to_owned(), "x".to_owned())];
        registry.fault(("", place, Times::Always), Fault::Status(200, headers, Vec::new()));
        let failed = fails(&Sandbox::new(), &name_in(&registry), &options(), &["not valid HTTP"]);
        verdict.row(place, failed);
        let asked = registry.requests().iter().filter(|r| r.path.contains(place)).count();
        assert_eq!(asked, 2, "{place}");
    }
    verdict.end();
}

/// A cache that answers ranges with everything is asked past, once it has shown that it is one.
#[test]
fn caches_without_ranges_are_passed() {
    let content = noise(3 << 20, 5);
    let image = image_of(&tar(&[Entry::file("f", content.clone())]), Compression::None);
    let layer = image.layer_digests().remove(0);
    // Broken off in the middle: what is missing is a range.
    for (fault, requests, at_most) in [
        (Fault::CachedWhole, 3, 4 << 20),
        // A server without ranges that is no cache gets no request more.
        (Fault::IgnoreRange, 2, 6 << 20),
    ] {
        let registry = Registry::start();
        registry.add_image("r", "t", &image);
        registry.fault(("GET", &layer, Times::First(1)), Fault::Truncate(1 << 20));
        registry.fault(("GET", &layer, Times::Always), fault.clone());
        let sandbox = Sandbox::new();
        let image = open(&name_in(&registry), &sandbox.cache(), &options()).unwrap();
        assert!(read(&image, "f").unwrap() == content, "wrong bytes");
        let log = registry.requests();
        let blobs: Vec<_> = log.iter().filter(|request| request.path.contains(&layer)).collect();
        assert_eq!(blobs.len(), requests, "{fault:?}");
        let last = blobs[requests - 1];
        assert!(last.body_bytes_sent <= at_most, "{fault:?}: {last:?}");
    }
}
