//! Registries that refuse, limit, fail, redirect or are not there.
//!
//! What may pass is tried again, what may not is told at once, and nothing is tried for ever.

use std::fs;
use std::net::TcpListener;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use ocifs::image::ImageOptions;
use ocifs::source::registry::RegistryOptions;

use crate::fixture::{
    GOOD, Sandbox, Verdict, fails, good, has_words, name_in, noise, open, opens, options, read,
};
use crate::support::image::{Compression, ImageBuilder};
use crate::support::registry::{Fault, Registry, Times};
use crate::support::tarball::{Entry, tar};

fn status(status: u16) -> Fault {
    Fault::Status(status, Vec::new(), Vec::new())
}

fn with_header(status: u16, name: &str, value: &str) -> Fault {
    Fault::Status(status, vec![(name.into(), value.into())], Vec::new())
}

fn serving() -> Registry {
    let registry = Registry::start();
    registry.add_image("r", "t", &good());
    registry
}

/// The paths whose requests are spoiled in turn.
const PLACES: [&str; 2] = ["/manifests/", "/blobs/"];

#[test]
fn what_passes_is_tried_again() {
    let soon = httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(2));
    let past = httpdate::fmt_http_date(SystemTime::now() - Duration::from_secs(1000));
    let ahead = |seconds: u64| {
        let time = SystemTime::now() + Duration::from_secs(3600 + seconds);
        httpdate::fmt_http_date(time)
    };
    let headers = [("Date", ahead(0)), ("Retry-After", ahead(1))];
    let headers = headers.map(|(name, value)| (name.to_owned(), value)).to_vec();
    let rows = [
        ("429 at a date by a clock that is fast", Fault::Status(429, headers, Vec::new()), 1),
        ("429 without a time", status(429), 2),
        ("429 after 0 s", with_header(429, "Retry-After", "0"), 3),
        ("429 after 1 s", with_header(429, "Retry-After", "1"), 2),
        ("429 at a date", with_header(429, "Retry-After", &soon), 1),
        ("429 at a date that was", with_header(429, "Retry-After", &past), 2),
        ("429 at nonsense", with_header(429, "Retry-After", "tomorrow"), 2),
        ("429 at a negative time", with_header(429, "Retry-After", "-5"), 2),
        ("500", status(500), 2),
        ("502", status(502), 2),
        ("503", status(503), 3),
        ("503 after 1 s", with_header(503, "Retry-After", "1"), 1),
        ("504", status(504), 2),
        ("408", status(408), 2),
        ("closed without an answer", Fault::CloseBeforeResponse, 2),
    ];
    let mut verdict = Verdict::default();
    for place in PLACES {
        for (what, fault, times) in &rows {
            let registry = serving();
            registry.fault(("GET", place, Times::First(*times)), fault.clone());
            let opened = opens(&Sandbox::new(), &name_in(&registry), &options());
            verdict.row(&format!("{what} at {place}"), opened);
        }
    }
    verdict.end();
}

#[test]
fn what_stays_is_told_within_the_deadline() {
    let limited = ["429", "rate limited"];
    let rows: Vec<(&str, Fault, &[&str])> = vec![
        ("429", status(429), &limited),
        ("429 after 1 s", with_header(429, "Retry-After", "1"), &limited),
        ("429 after an hour", with_header(429, "Retry-After", "3600"), &limited),
        ("429 after 2^64 s", with_header(429, "Retry-After", "18446744073709551616"), &limited),
        ("500", status(500), &["the registry failed (500)"]),
        ("501", status(501), &["the registry failed (501)"]),
        ("503", status(503), &["the registry failed (503)"]),
        ("418", status(418), &["unexpected answer (418)"]),
        ("403", status(403), &["access denied (403)"]),
        ("410", status(410), &["410"]),
        ("304", status(304), &[]),
        ("204", status(204), &[]),
        ("closed", Fault::CloseBeforeResponse, &[]),
        (
            "words of the server",
            Fault::Status(
                403,
                Vec::new(),
                br#"{"errors":[{"code":"DENIED","message":"go \u001b[31maway"}]}"#.to_vec(),
            ),
            &["DENIED: go [31maway"],
        ),
        ("a page", Fault::Status(502, Vec::new(), b"<html>Bad gateway</html>".to_vec()), &["502"]),
        ("a long page", Fault::Status(404, Vec::new(), vec![b'x'; 1 << 20]), &["not found"]),
    ];
    let mut verdict = Verdict::default();
    for place in PLACES {
        for (what, fault, words) in &rows {
            let (sandbox, registry) = (Sandbox::new(), serving());
            registry.fault(("GET", place, Times::Always), fault.clone());
            let (name, started) = (name_in(&registry), Instant::now());
            let failed = fails(&sandbox, &name, &options(), words);
            let took = started.elapsed();
            let in_time = match took < options().registry.deadline + Duration::from_secs(2) {
                true => failed,
                false => Err(format!("it took {took:?}")),
            };
            verdict.row(&format!("{what} at {place}"), in_time);
            registry.clear_faults();
            verdict.row(what, opens(&sandbox, &name, &options()));
        }
    }
    verdict.end();
}

/// Asking again is for what may pass: a refusal costs one request, and one for what the root of the API
/// asks for; a failure a few.
#[test]
fn tries_are_counted() {
    for (fault, most) in [(status(404), 3), (status(403), 2), (status(418), 1), (status(500), 5)] {
        let registry = serving();
        registry.fault(("GET", "", Times::Always), fault.clone());
        open(&name_in(&registry), &Sandbox::new().cache(), &options()).unwrap_err();
        assert!(registry.requests().len() <= most, "{fault:?}: {:?}", registry.requests());
    }
}

#[test]
fn nobody_listens() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let started = Instant::now();
    let words = ["connection refused", "nothing listens"];
    fails(&Sandbox::new(), &format!("127.0.0.1:{port}/r:t"), &options(), &words).unwrap();
    assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
    let started = Instant::now();
    let unknown = "no-such-host.invalid/r:t";
    assert!(open(unknown, &Sandbox::new().cache(), &options()).is_err());
    assert!(started.elapsed() < Duration::from_secs(12), "{:?}", started.elapsed());
}

/// A listener that takes connections and says nothing.
#[test]
fn nobody_answers() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let name = format!("{}/r:t", listener.local_addr().unwrap());
    let started = Instant::now();
    fails(&Sandbox::new(), &name, &options(), &["in time"]).unwrap();
    assert!(started.elapsed() < Duration::from_secs(12), "{:?}", started.elapsed());
}

/// Servers that are no HTTP servers at all.
#[test]
fn other_protocols() {
    for words in ["SSH-2.0-OpenSSH_9.2\r\n", "\x15\x03\x03\x00\x02\x02\x46", "HTTP/1.1 abc\r\n\r\n"]
    {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let name = format!("{}/r:t", listener.local_addr().unwrap());
        std::thread::spawn(move || {
            for stream in listener.incoming().take(10) {
                // The client may be gone already.
                let _ = std::io::Write::write_all(&mut stream.unwrap(), words.as_bytes());
            }
        });
        let error = open(&name, &Sandbox::new().cache(), &options()).unwrap_err();
        has_words(&error, &["127.0.0.1"]).unwrap();
    }
}

#[test]
fn redirects() {
    let digest = good().layer_digests().remove(0);
    let follow = |location: &dyn Fn(&Registry) -> String, status| {
        let (sandbox, registry) = (Sandbox::new(), serving());
        registry.add_image("other", "t", &good());
        let location = location(&registry);
        let path = format!("/v2/r/blobs/{digest}");
        registry.fault(("GET", &path, Times::Always), Fault::Redirect(status, location));
        let result = open(&name_in(&registry), &sandbox.cache(), &options());
        assert!(registry.requests().len() < 30, "{:?}", registry.requests());
        result.map(drop)
    };
    for status in [301, 302, 303, 307, 308] {
        follow(&|r| format!("http://{}/v2/other/blobs/{digest}", r.addr()), status).unwrap();
        follow(&|_| format!("/v2/other/blobs/{digest}"), status).unwrap();
    }
    for (location, words) in [
        ("", "redirects to an invalid address"),
        ("http://", "redirects to an invalid address"),
        ("::not a url::", "redirects to an invalid address"),
        ("ftp://127.0.0.1/x", "another protocol"),
        ("file:///etc/passwd", "redirects to an invalid address"),
    ] {
        let error = follow(&|_| location.to_owned(), 307).unwrap_err();
        assert!(error.contains(words), "{location}: {error}");
    }
    let error = follow(&|_| format!("/v2/r/blobs/{digest}?again"), 302).unwrap_err();
    assert!(error.contains("more than 10 redirects"), "{error}");
    // Without a Location there is nowhere to go.
    let registry = serving();
    registry.fault(("GET", "/blobs/", Times::Always), status(302));
    fails(&Sandbox::new(), &name_in(&registry), &options(), &["redirects to an invalid address"])
        .unwrap();
    // Manifests are followed in the same way.
    let registry = serving();
    registry.add_image("other", "t", &good());
    let fault = Fault::Redirect(307, "/v2/other/manifests/t".into());
    registry.fault(("", "/v2/r/manifests/t", Times::Always), fault);
    opens(&Sandbox::new(), &name_in(&registry), &options()).unwrap();
}

/// The forms of a Location that are rare and lawful (RFC 3986, 4.2).
#[test]
fn relative_redirects() {
    let digest = good().layer_digests().remove(0);
    let mut verdict = Verdict::default();
    for form in ["//HOST/v2/other/blobs/DIGEST", "../../other/blobs/DIGEST", "./DIGEST?again"] {
        let registry = serving();
        registry.add_image("other", "t", &good());
        let location =
            form.replace("HOST", &registry.addr().to_string()).replace("DIGEST", &digest);
        let path = format!("/v2/r/blobs/{digest}");
        registry.fault(("GET", &path, Times::First(1)), Fault::Redirect(307, location));
        verdict.row(form, opens(&Sandbox::new(), &name_in(&registry), &options()));
    }
    verdict.end();
}

/// A registry that refuses HEAD, as some do, costs a GET and no more.
#[test]
fn head_is_refused() {
    for fault in [status(405), status(404), status(403), status(500), Fault::WrongDigestHeader] {
        let (sandbox, registry) = (Sandbox::new(), serving());
        let name = name_in(&registry);
        opens(&sandbox, &name, &options()).unwrap();
        registry.fault(("HEAD", "", Times::Always), fault.clone());
        opens(&sandbox, &name, &options()).map_err(|e| format!("{fault:?}: {e}")).unwrap();
        let blobs = registry
            .requests()
            .iter()
            .filter(|r| r.path.contains(&good().layer_digests()[0]))
            .count();
        assert_eq!(blobs, 1, "the layer is not fetched again: {fault:?}");
    }
}

/// The deadline holds for the tries together, not for each.
#[test]
fn the_deadline_is_for_all_tries() {
    let registry = serving();
    registry.fault(("", "", Times::Always), with_header(503, "Retry-After", "1"));
    let usual = options();
    let deadline = Duration::from_secs(2);
    let options =
        ImageOptions { registry: RegistryOptions { deadline, ..usual.registry }, ..usual };
    let started = Instant::now();
    open(&name_in(&registry), &Sandbox::new().cache(), &options).unwrap_err();
    assert!(started.elapsed() < Duration::from_secs(4), "{:?}", started.elapsed());
}

/// A registry that limits requests is left alone by all threads: one of them tries whether the limit
/// still holds, and the others follow it.
#[test]
fn threads_do_not_stampede() {
    const THREADS: usize = 8;
    let layer = |n: usize| tar(&[Entry::file(format!("f{n}"), noise(50_000, n as u64 + 1))]);
    let layers: Vec<Vec<u8>> = (0..THREADS).map(layer).collect();
    let built =
        layers.iter().fold(ImageBuilder::new(), |b, l| b.layer(l, Compression::None)).build();
    let (sandbox, registry) = (Sandbox::new(), Registry::start());
    registry.add_image("r", "t", &built);
    let image = Arc::new(open(&name_in(&registry), &sandbox.cache(), &options()).unwrap());
    fs::remove_dir_all(sandbox.path().join("cache/v1/spans")).unwrap();
    registry.clear_log();
    let limited = with_header(429, "Retry-After", "1");
    registry.fault(("GET", "/blobs/", Times::Always), limited);
    let read_all = || {
        let readers = (0..THREADS).map(|n| {
            let image = Arc::clone(&image);
            thread::spawn(move || read(&image, &format!("f{n}")))
        });
        let readers: Vec<_> = readers.collect();
        readers.into_iter().map(|reader| reader.join().unwrap()).collect::<Vec<_>>()
    };
    assert!(read_all().iter().all(Result::is_err));
    // Each may have asked before the first was told; then one asks at a time. Were it not so, each
    // would have tries of its own: five.
    let requests = registry.requests().len();
    assert!(requests < 3 * THREADS, "{requests} requests of {THREADS} threads");
    registry.clear_faults();
    for (n, bytes) in read_all().into_iter().enumerate() {
        assert!(bytes.unwrap() == noise(50_000, n as u64 + 1), "f{n}");
    }
}

/// A registry that was there and is not comes back, as a rule: within the deadline of one read, however
/// many tries that takes.
#[test]
fn a_restart_is_waited_for() {
    let (sandbox, registry) = (Sandbox::new(), serving());
    let port = registry.addr().port();
    let patient = ImageOptions {
        registry: RegistryOptions { deadline: Duration::from_secs(60), ..options().registry },
        read_deadline: Duration::from_secs(60),
        ..options()
    };
    let image = open(&name_in(&registry), &sandbox.cache(), &patient).unwrap();
    fs::remove_dir_all(sandbox.path().join("cache/v1/spans")).unwrap();
    drop(registry);
    let reader = thread::spawn(move || read(&image, "f"));
    // Five tries take three seconds and a half.
    thread::sleep(Duration::from_secs(5));
    let registry = Registry::start_on(port);
    registry.add_image("r", "t", &good());
    assert_eq!(reader.join().unwrap().unwrap(), GOOD);
}
