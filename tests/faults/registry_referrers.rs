//! Lists of referrers, in all the ways in which registries do and do not have them.

use ocifs::digest::Digest;
use ocifs::source::registry::{Registry as Client, Session};
use serde_json::{Value, json};

use crate::fixture::{Verdict, has_words, options, within};
use crate::logs;
use crate::support::image::sha256;
use crate::support::registry::{Fault, Referrers, Registry, Times};

const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// A type with characters that mean something in a query.
const TYPE: &str = "application/vnd.example.a&b=c+json";
const OTHER: &str = "application/vnd.example.other";

fn subject() -> Digest {
    Digest::sha256(b"the subject")
}

fn tag() -> String {
    subject().to_string().replace(':', "-")
}

/// A manifest about the subject, told apart by a number.
fn artifact(artifact_type: &str, number: usize) -> Vec<u8> {
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "artifactType": artifact_type,
        "config": { "mediaType": "application/vnd.oci.empty.v1+json", "digest": sha256(b"{}"), "size": 2 },
        "layers": [],
        "subject": { "mediaType": MANIFEST, "digest": subject(), "size": 11 },
        "annotations": { "number": number.to_string() },
    });
    manifest.to_string().into_bytes()
}

fn add(registry: &Registry, manifest: &[u8]) {
    registry.add_manifest("r", &sha256(manifest), MANIFEST, manifest);
}

fn start(referrers: Referrers) -> Registry {
    logs::install();
    let registry = Registry::start();
    registry.set_referrers(referrers);
    registry
}

/// The list as `ocifs` reads it: the numbers of the artifacts, in order.
fn list(registry: &Registry) -> Result<Vec<usize>, String> {
    let reference = format!("{}/r:t", registry.addr()).parse().unwrap();
    let client = Client::new(reference, &options().registry, &Session::default()).unwrap();
    let found = within(crate::fixture::HANG, move || client.referrers(&subject(), TYPE));
    let found = found.map_err(|e| e.to_string())?;
    let mut numbers: Vec<usize> =
        found.iter().map(|descriptor| descriptor.annotations["number"].parse().unwrap()).collect();
    numbers.sort_unstable();
    Ok(numbers)
}

/// An index for the tag, of entries with these types, numbered.
fn index(types: &[Option<&str>]) -> Value {
    let entry = |(number, artifact_type): (usize, &Option<&str>)| {
        let mut entry = json!({
            "mediaType": MANIFEST, "digest": sha256(&[number as u8]), "size": 1,
            "annotations": { "number": number.to_string() },
        });
        if let Some(artifact_type) = artifact_type {
            entry["artifactType"] = (*artifact_type).into();
        }
        entry
    };
    let manifests: Vec<Value> = types.iter().enumerate().map(entry).collect();
    json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": manifests })
}

fn requests(registry: &Registry) -> Vec<String> {
    registry.requests().into_iter().map(|request| request.path).collect()
}

#[test]
fn lists_of_the_api() {
    for kind in [Referrers::Filtered, Referrers::Unfiltered, Referrers::Paged(2)] {
        let registry = start(kind);
        assert!(list(&registry).unwrap().is_empty(), "{kind:?}");
        for number in 0..5 {
            add(&registry, &artifact(TYPE, number));
            add(&registry, &artifact(OTHER, 100 + number));
        }
        registry.clear_log();
        assert_eq!(list(&registry).unwrap(), [0, 1, 2, 3, 4], "{kind:?}");
        let asked = requests(&registry);
        assert_eq!(asked.len(), if kind == Referrers::Paged(2) { 3 } else { 1 }, "{asked:?}");
        let query = "?artifactType=application%2Fvnd.example.a%26b%3Dc%2Bjson";
        assert_eq!(asked[0], format!("/v2/r/referrers/{}{query}", subject()));
    }
}

/// What is no list means the tag, and what is no tag means nothing.
#[test]
fn the_tag_stands_in() {
    let status = |status: u16| Fault::Status(status, Vec::new(), b"no".to_vec());
    let typed = |media_type: &str, body: &str| {
        let headers = vec![("Content-Type".to_owned(), media_type.to_owned())];
        Fault::Status(200, headers, body.as_bytes().to_vec())
    };
    let manifest = String::from_utf8(artifact(TYPE, 0)).unwrap();
    let mut verdict = Verdict::default();
    for (what, fault) in [
        ("absent", None),
        ("400", Some(status(400))),
        ("405", Some(status(405))),
        ("a page", Some(typed("text/html; charset=utf-8", "<html>"))),
        ("a page in disguise", Some(typed(INDEX, "<html>"))),
        ("JSON", Some(typed("application/json", "{}"))),
        ("a list", Some(typed("application/json", "[]"))),
        ("a manifest", Some(typed(MANIFEST, &manifest))),
        ("nothing", Some(typed("text/plain", ""))),
    ] {
        let registry = start(Referrers::Absent);
        if let Some(fault) = fault {
            registry.fault(("GET", "/referrers/", Times::Always), fault);
        }
        let check = |expected: &[usize]| match list(&registry)? {
            found if found == expected => Ok(()),
            found => Err(format!("{found:?}")),
        };
        verdict.row(what, check(&[]));
        let index = index(&[Some(TYPE), Some(OTHER), None, Some(TYPE)]).to_string();
        registry.add_manifest("r", &tag(), INDEX, index.as_bytes());
        registry.clear_log();
        verdict.row(what, check(&[0, 2, 3]));
        assert_eq!(requests(&registry).len(), 2, "{what}");
        // Something else under that name.
        registry.add_manifest("r", &tag(), MANIFEST, manifest.as_bytes());
        verdict.row(what, check(&[]));
    }
    verdict.end();
    // An entry that can't be read does not hide the others.
    let registry = start(Referrers::Absent);
    let mut odd = index(&[Some(TYPE), Some(TYPE)]);
    odd["manifests"][0] = json!({ "digest": "blake3:00", "size": -1, "artifactType": TYPE });
    registry.add_manifest("r", &tag(), INDEX, odd.to_string().as_bytes());
    assert_eq!(list(&registry).unwrap(), [1]);
    // Of an API the types are known, and a missing one is not the one that is wanted.
    let registry = start(Referrers::Absent);
    let list_of_api = typed(INDEX, &index(&[None, Some(TYPE)]).to_string());
    registry.fault(("GET", "/referrers/", Times::Always), list_of_api);
    assert_eq!(list(&registry).unwrap(), [1]);
}

/// A registry of which nobody knows what it has is an error, not an empty list.
#[test]
fn failures_are_told() {
    let status = |status: u16| Fault::Status(status, Vec::new(), Vec::new());
    let large = vec![b' '; (4 << 20) + 1];
    let mut verdict = Verdict::default();
    for place in ["/referrers/", "/manifests/"] {
        for (what, fault, word) in [
            ("401", status(401), "unknown kind"),
            ("403", status(403), "access denied"),
            ("500", status(500), "failed (500)"),
            ("closed", Fault::CloseBeforeResponse, ""),
            ("too large", Fault::Status(200, Vec::new(), large.clone()), "larger than 4 MiB"),
        ] {
            let registry = start(Referrers::Absent);
            registry.fault(("GET", place, Times::Always), fault);
            verdict.row(
                what,
                match list(&registry) {
                    Ok(found) => Err(format!("{place}: {found:?}")),
                    Err(error) => has_words(&error, &[word]),
                },
            );
        }
    }
    // What passes is tried again.
    let registry = start(Referrers::Filtered);
    add(&registry, &artifact(TYPE, 7));
    registry.fault(("GET", "/referrers/", Times::First(2)), status(503));
    verdict.row("503 twice", list(&registry).map(|found| assert_eq!(found, [7])));
    verdict.end();
}

#[test]
fn pages_have_bounds() {
    // A list that goes on for ever.
    let registry = start(Referrers::Absent);
    let page = |link: String, types: &[Option<&str>]| {
        let headers = vec![("Content-Type".into(), INDEX.into()), ("Link".into(), link)];
        Fault::Status(200, headers, index(types).to_string().into_bytes())
    };
    let again = format!("</v2/r/referrers/{}?again>; rel=next", subject());
    registry.fault(("GET", "/referrers/", Times::Always), page(again, &[Some(TYPE)]));
    assert_eq!(list(&registry).unwrap(), [0; 16]);
    assert_eq!(requests(&registry).len(), 16);
    // One that goes on elsewhere.
    let (registry, other) = (start(Referrers::Absent), start(Referrers::Filtered));
    let elsewhere = format!("<http://{}/v2/r/referrers/{}>; rel=\"next\"", other.addr(), subject());
    registry.fault(("GET", "/referrers/", Times::Always), page(elsewhere, &[Some(TYPE)]));
    assert_eq!(list(&registry).unwrap(), [0]);
    assert_eq!(other.requests().len(), 0);
    // One whose second page is none.
    let registry = start(Referrers::Absent);
    let next = format!("</v2/r/referrers/{}?second>; rel=next", subject());
    registry.fault(("GET", "/referrers/", Times::First(1)), page(next, &[Some(TYPE)]));
    has_words(&list(&registry).unwrap_err(), &["a further page"]).unwrap();
    // One with very many entries.
    let registry = start(Referrers::Filtered);
    let many = vec![Some(TYPE); 3000];
    registry.fault(("GET", "/referrers/", Times::Always), page(String::new(), &many));
    assert_eq!(list(&registry).unwrap().len(), 1024);
}
