//! Ranges of blobs: what servers answer instead, connections that are used again, and redirects
//! that are remembered for as long as they hold.

use std::io::Read;
use std::ops::Range;
use std::time::{Duration, SystemTime};

use ocifs::oci::Descriptor;
use ocifs::source::registry::{Credentials, Registry as Client, RegistryOptions, Session};
use ocifs::source::{Opened, Source};
use serde_json::json;

use crate::fixture::{Verdict, has_words, noise, options, within};
use crate::logs;
use crate::support::image::sha256;
use crate::support::registry::{Fault, Logged, Registry, Times};

const LENGTH: usize = 300_000;

/// The range that most tests here ask for.
const RANGE: Range<u64> = 100_000..150_000;

/// How errors tell it.
const WANTED: &str = "asked for bytes 100000-149999/300000";

/// Nothing here takes longer than some tries with their pauses.
const SOON: Duration = Duration::from_secs(15);

fn content() -> Vec<u8> {
    noise(LENGTH, 11)
}

fn descriptor() -> Descriptor {
    let (digest, size) = (sha256(&content()), LENGTH);
    serde_json::from_value(json!({ "digest": digest, "size": size })).unwrap()
}

fn part(range: Range<u64>) -> Vec<u8> {
    content()[range.start as usize..range.end as usize].to_vec()
}

fn serving() -> Registry {
    logs::install();
    let registry = Registry::start();
    registry.add_blob("r", &sha256(&content()), &content());
    registry
}

fn client_with(registry: &Registry, options: RegistryOptions) -> Client {
    let reference = format!("{}/r:t", registry.addr()).parse().unwrap();
    Client::new(reference, &options, &Session::default()).unwrap()
}

fn client(registry: &Registry) -> Client {
    client_with(registry, options().registry)
}

/// Opens a range and reads all that comes: its start and end as told, and the bytes.
fn fetch(client: &Client, range: Range<u64>) -> Result<(Range<u64>, Vec<u8>), String> {
    let client = client.clone();
    within(SOON, move || {
        let opened = client.blob(&descriptor(), range).map_err(|e| e.to_string())?;
        let Opened { mut body, start, end } = opened;
        let mut bytes = Vec::new();
        body.read_to_end(&mut bytes).map_err(|e| e.to_string())?;
        Ok((start..end, bytes))
    })
}

/// Checks that exactly a range comes.
fn fetches(client: &Client, range: Range<u64>) -> Result<(), String> {
    let (told, bytes) = fetch(client, range.clone())?;
    match told == range && bytes == part(range.clone()) {
        true => Ok(()),
        false => Err(format!("asked for {range:?}, told {told:?}, {} bytes came", bytes.len())),
    }
}

/// The requests for the blob that a registry has seen.
fn asked(registry: &Registry) -> Vec<Logged> {
    registry.requests().into_iter().filter(|request| request.path.contains("/blobs/")).collect()
}

/// An answer without a length, its body in one chunk.
fn chunked(status: u16, headers: &[(&str, &str)], bytes: &[u8]) -> Fault {
    let mut headers: Vec<(String, String)> =
        headers.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
    headers.push(("Transfer-Encoding".into(), "chunked".into()));
    let body = [format!("{:x}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n0\r\n\r\n"].concat();
    Fault::Status(status, headers, body)
}

#[test]
fn exact_ranges_are_asked_for() {
    let registry = serving();
    let client = client(&registry);
    let size = LENGTH as u64;
    for range in [RANGE, 0..1, size - 1..size, 7..size, 0..size - 1] {
        fetches(&client, range.clone()).unwrap();
        let asked = asked(&registry).pop().unwrap();
        assert_eq!(asked.range, Some(format!("bytes={}-{}", range.start, range.end - 1)));
        assert_eq!((asked.status, asked.body_bytes_sent), (206, range.end - range.start));
    }
    fetches(&client, 0..size).unwrap();
    assert_eq!(asked(&registry).pop().unwrap().range, None);
    let before = asked(&registry).len();
    fetches(&client, 5..5).unwrap();
    assert_eq!(asked(&registry).len(), before, "nothing is asked for nothing");
    for range in [0..size + 1, size + 1..size + 1, Range { start: 2, end: 1 }] {
        let error = fetch(&client, range).unwrap_err();
        has_words(&error, &["there is no range", "300000 bytes"]).unwrap();
    }
    assert_eq!(asked(&registry).len(), before);
}

/// Answers that are for something else than what was asked, with what came in the message.
#[test]
fn wrong_answers_are_refused() {
    let answer = |headers: &[(&str, &str)], bytes: Range<u64>| {
        let headers = headers.iter().map(|(name, value)| (name.to_string(), value.to_string()));
        Fault::Status(206, headers.collect(), part(bytes))
    };
    let range = |value: &'static str| ("Content-Range", value);
    let right = range("bytes 100000-149999/300000");
    let rows: Vec<(&str, Fault, &[&str])> = vec![
        ("shifted", Fault::WrongContentRange, &[WANTED, "got `bytes 100001-150000/300000`"]),
        (
            "longer",
            answer(&[range("bytes 100000-199999/300000")], 100_000..200_000),
            &[WANTED, "got `bytes 100000-199999/300000`"],
        ),
        (
            "shorter than its length",
            answer(&[range("bytes 100000-149998/300000")], RANGE),
            &[WANTED, "-149998", "50000 bytes"],
        ),
        (
            "nothing",
            answer(&[range("bytes 100000-99999/300000")], 0..0),
            &[WANTED, "got `bytes 100000-99999/300000`"],
        ),
        ("another total", answer(&[range("bytes 100000-149999/300001")], RANGE), &["/300001"]),
        ("two headers", answer(&[right, right], RANGE), &[WANTED, "several ranges"]),
        ("no header", answer(&[], RANGE), &[WANTED, "without Content-Range"]),
        (
            "multipart",
            answer(&[("Content-Type", "multipart/byteranges; boundary=x")], RANGE),
            &[WANTED, "multipart/byteranges"],
        ),
        ("a length that contradicts", answer(&[right], 0..49_999), &[WANTED, "49999 bytes"]),
        ("extra bytes announced", Fault::ExtraBytes(3), &[WANTED, "50003 bytes"]),
        ("a short whole", Fault::Status(200, Vec::new(), part(RANGE)), &["its descriptor says"]),
        (
            "a page",
            Fault::Status(
                200,
                vec![("Content-Type".into(), "text/html".into())],
                vec![b'x'; LENGTH - 1],
            ),
            &["its descriptor says", "web page"],
        ),
    ];
    let mut verdict = Verdict::default();
    for (what, fault, words) in rows {
        let registry = serving();
        registry.fault(("GET", "/blobs/", Times::First(1)), fault);
        let client = client(&registry);
        let refused = match fetch(&client, RANGE) {
            Ok((told, bytes)) => Err(format!("{told:?} with {} bytes", bytes.len())),
            Err(error) => has_words(&error, words),
        };
        verdict.row(what, refused);
        verdict.row(what, fetches(&client, RANGE));
    }
    verdict.end();
}

#[test]
fn answers_without_a_total_or_length_are_accepted() {
    let registry = serving();
    let header = ("Content-Range".to_owned(), "bytes 100000-149999/*".to_owned());
    let fault = Fault::Status(206, vec![header], part(RANGE));
    registry.fault(("GET", "/blobs/", Times::Nth(1)), fault);
    registry.fault(("GET", "/blobs/", Times::Nth(2)), Fault::NoLength);
    let client = client(&registry);
    for _ in 0..3 {
        fetches(&client, RANGE).unwrap();
    }
    assert_eq!((asked(&registry).len(), registry.connections()), (3, 1));
}

/// A server that sends a part of what it is asked for, and says which, is asked for the rest.
#[test]
fn shorter_parts_are_accepted() {
    let range = |request: &Logged| request.range.clone().unwrap_or_default();
    let registry = serving();
    registry.fault(("GET", "/blobs/", Times::Always), Fault::ShortRange(20_000));
    fetches(&client(&registry), RANGE).unwrap();
    let ranges: Vec<String> = asked(&registry).iter().map(range).collect();
    assert_eq!(ranges, ["bytes=100000-149999", "bytes=120000-149999", "bytes=140000-149999"]);
    assert_eq!(registry.connections(), 1);
    // Also of a blob whose transfer broke off.
    let registry = serving();
    registry.fault(("GET", "/blobs/", Times::First(1)), Fault::Truncate(20_000));
    registry.fault(("GET", "/blobs/", Times::Always), Fault::ShortRange(150_000));
    fetches(&client(&registry), 0..LENGTH as u64).unwrap();
    assert_eq!(asked(&registry).len(), 3);
    // One that sends next to nothing at a time is not asked for each byte.
    let registry = serving();
    registry.fault(("GET", "/blobs/", Times::Always), Fault::ShortRange(10));
    let error = fetch(&client(&registry), RANGE).unwrap_err();
    has_words(&error, &["next to nothing at a time"]).unwrap();
    assert!(asked(&registry).len() < 20, "{}", asked(&registry).len());
}

/// A server that sends everything is taken at its word, and asked with a range the next time.
#[test]
fn a_whole_answer_is_adopted() {
    for fault in [Fault::IgnoreRange, chunked(200, &[], &content())] {
        let registry = serving();
        registry.fault(("GET", "/blobs/", Times::First(1)), fault);
        let client = client(&registry);
        let (told, bytes) = fetch(&client, RANGE).unwrap();
        assert_eq!(told, 0..LENGTH as u64);
        assert!(bytes == content());
        fetches(&client, RANGE).unwrap();
        let statuses: Vec<u16> = asked(&registry).iter().map(|request| request.status).collect();
        assert_eq!((statuses, registry.connections()), (vec![200, 206], 1));
    }
}

/// A server that refuses a range of what it has is asked for everything.
#[test]
fn a_refused_range_is_part_of_the_whole() {
    let refusal = || Fault::Status(416, Vec::new(), Vec::new());
    let registry = serving();
    registry.fault(("GET", "/blobs/", Times::First(1)), refusal());
    let (told, bytes) = fetch(&client(&registry), RANGE).unwrap();
    assert!(told == (0..LENGTH as u64) && bytes == content());
    // In the middle of a blob as well.
    let registry = serving();
    registry.fault(("GET", "/blobs/", Times::First(1)), Fault::Truncate(20_000));
    registry.fault(("GET", "/blobs/", Times::Nth(2)), refusal());
    fetches(&client(&registry), 0..LENGTH as u64).unwrap();
    let ranges: Vec<Option<String>> = asked(&registry).into_iter().map(|r| r.range).collect();
    assert_eq!(ranges, [None, Some("bytes=20000-299999".to_owned()), None]);
    // What is refused altogether, and what is shorter than it should be.
    let registry = serving();
    registry.fault(("GET", "/blobs/", Times::Always), refusal());
    has_words(&fetch(&client(&registry), RANGE).unwrap_err(), &["416"]).unwrap();
    let registry = serving();
    registry.fault(("GET", "/blobs/", Times::First(1)), refusal());
    registry.fault(("GET", "/blobs/", Times::Always), Fault::Status(200, Vec::new(), part(RANGE)));
    has_words(&fetch(&client(&registry), RANGE).unwrap_err(), &["its descriptor says"]).unwrap();
}

/// What breaks is asked for from where it broke, to the same end.
#[test]
fn broken_ranges_are_resumed() {
    let range = |request: &Logged| request.range.clone().unwrap_or_default();
    for fault in [Fault::Truncate(20_000), Fault::Stall(20_000, Duration::from_secs(60))] {
        let registry = serving();
        registry.fault(("GET", "/blobs/", Times::First(1)), fault);
        fetches(&client(&registry), RANGE).unwrap();
        let ranges: Vec<String> = asked(&registry).iter().map(range).collect();
        assert_eq!(ranges, ["bytes=100000-149999", "bytes=120000-149999"]);
    }
    // The rest comes with everything before and after it.
    let registry = serving();
    registry.fault(("GET", "/blobs/", Times::First(1)), Fault::Truncate(20_000));
    registry.fault(("GET", "/blobs/", Times::Nth(2)), Fault::IgnoreRange);
    let client = client(&registry);
    fetches(&client, RANGE).unwrap();
    fetches(&client, RANGE).unwrap();
    // A whole blob that is adopted is resumed as well.
    let registry = serving();
    registry.fault(("GET", "/blobs/", Times::Nth(1)), Fault::Status(200, Vec::new(), content()));
    let client = self::client(&registry);
    assert!(fetch(&client, RANGE).unwrap().1 == content());
}

/// A range that broke and can't be had any more is an error, once and for all.
#[test]
fn an_error_stays_one() {
    let registry = serving();
    registry.fault(("GET", "/blobs/", Times::First(1)), Fault::Truncate(20_000));
    registry.fault(("GET", "/blobs/", Times::Always), Fault::WrongContentRange);
    let client = client(&registry);
    within(SOON, move || {
        let mut body = client.blob(&descriptor(), RANGE).unwrap().body;
        let mut bytes = Vec::new();
        let error = body.read_to_end(&mut bytes).unwrap_err().to_string();
        has_words(&error, &["asked for bytes 120000-149999", "120001"]).unwrap();
        assert!(bytes == part(100_000..120_000));
        assert!(body.read(&mut [0; 10]).is_err(), "an end would look like success");
    });
}

#[test]
fn connections_are_used_again() {
    let registry = serving();
    let client = client(&registry);
    // Read to the end, and read to the last byte.
    for at in 0..10 {
        fetches(&client, at * 1000..at * 1000 + 5000).unwrap();
        let mut body = client.blob(&descriptor(), RANGE).unwrap().body;
        let mut bytes = vec![0; 50_000];
        body.read_exact(&mut bytes).unwrap();
        assert!(bytes == part(RANGE));
    }
    assert_eq!((asked(&registry).len(), registry.connections()), (20, 1));
    // One that is not read to its end can't be used again.
    let mut body = client.blob(&descriptor(), 0..LENGTH as u64).unwrap().body;
    body.read_exact(&mut [0; 100]).unwrap();
    drop(body);
    fetches(&client, RANGE).unwrap();
    assert_eq!(registry.connections(), 2);
}

/// More bytes than the header says can't be told from the next answer: nothing of them comes out.
#[test]
fn extra_bytes_are_cut() {
    let registry = serving();
    let header = ("Content-Range", "bytes 100000-149999/300000");
    let fault = chunked(206, &[header], &part(100_000..150_003));
    registry.fault(("GET", "/blobs/", Times::First(1)), fault);
    // Adopted, and longer than the descriptor says.
    let mut longer = content();
    longer.extend(b"xyz");
    registry.fault(("GET", "/blobs/", Times::Nth(2)), chunked(200, &[], &longer));
    let client = client(&registry);
    fetches(&client, RANGE).unwrap();
    assert!(fetch(&client, RANGE).unwrap() == (0..LENGTH as u64, content()));
    assert_eq!(registry.connections(), 2, "a connection with something left is not used again");
    // Of a whole blob the verifying reader is to see what is too much.
    registry.fault(("GET", "/blobs/", Times::First(1)), chunked(200, &[], &longer));
    assert!(fetch(&client, 0..LENGTH as u64).unwrap().1 == longer);
}

/// A registry that redirects to a storage, and the storage.
fn redirecting(query: &str) -> (Registry, Registry) {
    let (registry, storage) = (serving(), serving());
    redirect(&registry, &storage, query);
    (registry, storage)
}

fn redirect(registry: &Registry, storage: &Registry, query: &str) {
    let (address, digest) = (storage.addr(), sha256(&content()));
    let location = format!("http://{address}/v2/r/blobs/{digest}{query}");
    registry.fault(("GET", "/blobs/", Times::Always), Fault::Redirect(307, location));
}

#[test]
fn redirects_are_remembered() {
    let (registry, storage) = redirecting("?sig=s3cret-signature");
    let client = client(&registry);
    for _ in 0..5 {
        fetches(&client, RANGE).unwrap();
    }
    fetches(&client, 0..LENGTH as u64).unwrap();
    assert_eq!((asked(&registry).len(), asked(&storage).len()), (1, 6));
    assert_eq!((registry.connections(), storage.connections()), (1, 1));
    assert!(logs::with("s3cret-signature").is_empty());
    // Another client knows nothing of it.
    fetches(&self::client(&registry), RANGE).unwrap();
    assert_eq!(asked(&registry).len(), 2);
}

#[test]
fn redirects_are_used_until_their_end() {
    let unix = |seconds: i64| {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
        now.saturating_add_signed(seconds)
    };
    for (query, asks) in [
        (format!("?Expires={}&Signature=x", unix(600)), 1),
        (format!("?Expires={}&Signature=x", unix(-5)), 4),
        (format!("?Expires={}&Signature=x", unix(5)), 4),
        ("?X-Amz-Date=20200101T000000Z&X-Amz-Expires=600".to_owned(), 4),
        ("?se=2020-01-01T00%3A00%3A00Z&sig=x".to_owned(), 4),
        ("?se=2999-01-01T00%3A00%3A00Z&sig=x".to_owned(), 1),
    ] {
        let (registry, storage) = redirecting(&query);
        let client = client(&registry);
        for _ in 0..4 {
            fetches(&client, RANGE).unwrap();
        }
        assert_eq!((asked(&registry).len(), asked(&storage).len()), (asks, 4), "{query}");
    }
}

/// A signed URL that ends sooner than it said costs one more question to the registry, and no try.
#[test]
fn ended_redirects_are_renewed() {
    let page = || {
        let headers = vec![("Content-Type".to_owned(), "text/HTML; charset=x".to_owned())];
        Fault::Status(200, headers, b"<html>".to_vec())
    };
    let status = |status: u16| Fault::Status(status, Vec::new(), b"<Error/>".to_vec());
    let mut verdict = Verdict::default();
    for (what, fault) in [
        ("400", status(400)),
        ("401", status(401)),
        ("403", status(403)),
        ("404", status(404)),
        ("410", status(410)),
        ("503", status(503)),
        ("a page", page()),
        ("closed", Fault::CloseBeforeResponse),
        ("another redirect", Fault::Redirect(302, "http://127.0.0.1:1/".into())),
    ] {
        let (registry, storage) = redirecting("?sig=1");
        let client = client(&registry);
        fetches(&client, RANGE).unwrap();
        storage.fault(("GET", "/blobs/", Times::First(1)), fault);
        verdict.row(what, fetches(&client, RANGE));
        verdict.row(what, fetches(&client, RANGE));
        let counts = (asked(&registry).len(), asked(&storage).len());
        if counts != (2, 4) {
            verdict.row(what, Err(format!("{counts:?} requests")));
        }
    }
    verdict.end();
}

/// The storage that was known is gone, and the registry knows another one.
#[test]
fn a_storage_may_go_away() {
    let (registry, storage) = redirecting("?sig=1");
    let client = client(&registry);
    fetches(&client, RANGE).unwrap();
    drop(storage);
    let other = serving();
    registry.clear_faults();
    redirect(&registry, &other, "?sig=2");
    fetches(&client, RANGE).unwrap();
    assert_eq!((asked(&registry).len(), asked(&other).len()), (2, 1));
    // A wrong range from there is an error, but not the next time.
    other.fault(("GET", "/blobs/", Times::First(1)), Fault::WrongContentRange);
    fetch(&client, RANGE).unwrap_err();
    registry.clear_faults();
    fetches(&client, RANGE).unwrap();
    assert_eq!(asked(&registry).len(), 3);
}

/// Where both refuse, it is told after one round, not tried over and over.
#[test]
fn a_refusal_behind_a_redirect_is_told() {
    let (registry, storage) = redirecting("?sig=1");
    let client = client(&registry);
    fetches(&client, RANGE).unwrap();
    storage.fault(("GET", "/blobs/", Times::Always), Fault::Status(403, Vec::new(), Vec::new()));
    let error = fetch(&client, RANGE).unwrap_err();
    has_words(&error, &["403"]).unwrap();
    assert_eq!((asked(&registry).len(), asked(&storage).len()), (2, 3));
}

/// Credentials stay with the registry: on the way to a storage, from memory, and when it asks.
#[test]
fn no_credentials_for_the_storage() {
    let (registry, storage) = redirecting("?sig=1");
    registry.require_basic("me", "pa55word");
    let entry = json!({ "auths": { registry.addr().to_string(): { "auth": "bWU6cGE1NXdvcmQ=" } } });
    let mut credentials = Credentials::default();
    credentials.add_text("a file", entry.to_string().as_bytes()).unwrap();
    let client = client_with(&registry, RegistryOptions { credentials, ..options().registry });
    for _ in 0..3 {
        fetches(&client, RANGE).unwrap();
    }
    storage.require_basic("me", "pa55word");
    fetch(&client, RANGE).unwrap_err();
    storage.require_bearer(None);
    fetch(&client, RANGE).unwrap_err();
    let sent: Vec<Logged> = storage.requests();
    assert!(sent.len() >= 5 && sent.iter().all(|request| request.authorization.is_none()));
    assert!(registry.requests().iter().any(|request| request.authorization.is_some()));
}

#[test]
fn the_link_is_measured() {
    let registry = serving();
    let client = client(&registry);
    let assumed = client.throughput().unwrap();
    registry.fault(("GET", "/blobs/", Times::Always), Fault::Drip(10_000));
    fetches(&client, 0..LENGTH as u64).unwrap();
    let link = client.throughput().unwrap();
    // 10 kB every 10 ms are a million bytes a second, or less on a busy machine.
    assert!((10_000..3_000_000).contains(&link.bytes_per_second), "{link:?}");
    assert!(link.round_trip < assumed.round_trip, "{link:?}");
}
