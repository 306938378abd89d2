//! Pushing: sessions, credentials, answers that get lost, and the index that stands in for an API.

use ocifs::digest::Digest;
use ocifs::oci::Descriptor;
use ocifs::source::registry::{Credentials, Registry as Client, RegistryOptions, Session};
use serde_json::{Value, json};

use crate::fixture::{HANG, Verdict, has_words, noise, options, within};
use crate::logs;
use crate::support::image::sha256;
use crate::support::registry::{Fault, Logged, Referrers, Registry, Times};

const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const TYPE: &str = "application/vnd.example.type";
const PASSWORD: &str = "pa55word-of-a-pusher";

fn start() -> Registry {
    logs::install();
    Registry::start()
}

fn client(registry: &Registry) -> Client {
    client_with(registry, options().registry)
}

fn client_with(registry: &Registry, options: RegistryOptions) -> Client {
    let reference = format!("{}/a/r:t", registry.addr()).parse().unwrap();
    Client::for_pushing(reference, &options, &Session::default()).unwrap()
}

fn with_password(registry: &Registry) -> RegistryOptions {
    let mut credentials = Credentials::default();
    let entry = json!({ "username": "me", "password": PASSWORD });
    let file = json!({ "auths": { registry.addr().to_string(): entry } });
    credentials.add_text("a file", file.to_string().as_bytes()).unwrap();
    RegistryOptions { credentials, ..options().registry }
}

fn blob() -> (Digest, Vec<u8>) {
    let bytes = noise(200_000, 5);
    (Digest::sha256(&bytes), bytes)
}

fn push(client: &Client) -> Result<(), String> {
    let client = client.clone();
    within(HANG, move || {
        let (digest, bytes) = blob();
        client.push_blob(&digest, &bytes).map_err(|e| e.to_string())
    })
}

/// Checks that a push succeeds and the blob is there.
fn pushes(registry: &Registry, client: &Client) -> Result<(), String> {
    push(client)?;
    let (digest, bytes) = blob();
    match registry.blob("a/r", &digest.to_string()) == Some(bytes) {
        true => Ok(()),
        false => Err("the blob is not there".to_owned()),
    }
}

fn methods(registry: &Registry) -> Vec<String> {
    registry.requests().into_iter().map(|request| request.method).collect()
}

fn subject() -> Descriptor {
    let digest = sha256(b"the subject");
    serde_json::from_value(json!({ "mediaType": MANIFEST, "digest": digest, "size": 11 })).unwrap()
}

fn tag() -> String {
    sha256(b"the subject").replace(':', "-")
}

fn artifact(number: usize, artifact_type: Option<&str>) -> Vec<u8> {
    let mut manifest = json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": { "mediaType": "application/vnd.example.config", "digest": sha256(b"{}"), "size": 2 },
        "layers": [],
        "subject": { "mediaType": MANIFEST, "digest": sha256(b"the subject"), "size": 11 },
        "annotations": { "number": number.to_string() },
    });
    if let Some(artifact_type) = artifact_type {
        manifest["artifactType"] = artifact_type.into();
    }
    manifest.to_string().into_bytes()
}

fn push_artifact(client: &Client, manifest: &[u8]) -> Result<Digest, String> {
    let (client, manifest) = (client.clone(), manifest.to_vec());
    within(HANG, move || {
        client.push_manifest(&manifest, MANIFEST, Some(&subject())).map_err(|e| e.to_string())
    })
}

/// What the tag holds.
fn tagged(registry: &Registry) -> Value {
    serde_json::from_slice(&registry.manifest("a/r", &tag()).unwrap()).unwrap()
}

#[test]
fn a_blob_is_pushed_once() {
    let registry = start();
    let client = client(&registry);
    pushes(&registry, &client).unwrap();
    assert_eq!(methods(&registry), ["HEAD", "POST", "PUT"]);
    assert_eq!(registry.connections(), 1);
    pushes(&registry, &client).unwrap();
    assert_eq!(methods(&registry), ["HEAD", "POST", "PUT", "HEAD"]);
    // An empty one.
    let empty = Digest::sha256(b"");
    client.push_blob(&empty, b"").unwrap();
    assert_eq!(registry.blob("a/r", &empty.to_string()), Some(Vec::new()));
}

#[test]
fn uploads_may_go_elsewhere() {
    let (registry, storage) = (start(), start());
    // Sessions are counted from 1 in both: the one of the storage is opened by hand.
    let opener = client(&storage);
    storage
        .fault(("PUT", "/uploads/", Times::First(1)), Fault::Status(400, Vec::new(), Vec::new()));
    push(&opener).unwrap_err();
    storage.clear_log();
    registry.require_basic("me", PASSWORD);
    registry.set_upload_origin(&format!("http://{}", storage.addr()));
    push(&client_with(&registry, with_password(&registry))).unwrap();
    let (digest, bytes) = blob();
    assert_eq!(storage.blob("a/r", &digest.to_string()), Some(bytes));
    let sent = storage.requests();
    assert!(sent.len() == 1 && sent[0].authorization.is_none(), "{sent:?}");
    // The registry's own origin, spelled out: credentials are for it.
    registry.set_upload_origin(&format!("http://{}", registry.addr()));
    pushes(&registry, &client_with(&registry, with_password(&registry))).unwrap();
    for origin in ["ftp://x", "http://"] {
        registry.set_upload_origin(origin);
        let other = Digest::sha256(b"x");
        let client = client_with(&registry, with_password(&registry));
        let error = client.push_blob(&other, b"x").expect_err(origin).to_string();
        has_words(&error, &["where to upload to"]).unwrap();
    }
}

#[test]
fn redirects_of_uploads() {
    let location = "/v2/a/r/blobs/uploads/?x=y".to_owned();
    for (status, is_followed) in
        [(307, true), (308, true), (301, false), (302, false), (303, false)]
    {
        let registry = start();
        registry.fault(("POST", "", Times::First(1)), Fault::Redirect(status, location.clone()));
        let result = pushes(&registry, &client(&registry));
        assert_eq!(result.is_ok(), is_followed, "{status}: {result:?}");
    }
    // The bytes go along.
    let registry = start();
    let location =
        "/v2/a/r/blobs/uploads/1?_state=a%2Bb&digest=".to_owned() + &blob().0.to_string();
    registry.fault(("PUT", "", Times::First(1)), Fault::Redirect(307, location));
    pushes(&registry, &client(&registry)).unwrap();
}

/// Sessions die, answers get lost: the whole is begun again, and never ends in doubt.
#[test]
fn lost_answers() {
    let status = |status: u16| Fault::Status(status, Vec::new(), Vec::new());
    let mut verdict = Verdict::default();
    for method in ["HEAD", "POST", "PUT"] {
        for (what, fault) in
            [("503", status(503)), ("429", status(429)), ("no answer", Fault::CloseBeforeResponse)]
        {
            let registry = start();
            registry.fault((method, "", Times::First(2)), fault);
            verdict.row(&format!("{what} to {method}"), pushes(&registry, &client(&registry)));
        }
    }
    // It was stored all the same: there is no second upload.
    let registry = start();
    registry.fault(("PUT", "", Times::First(1)), Fault::CloseBeforeResponse);
    verdict.row("stored", pushes(&registry, &client(&registry)));
    assert_eq!(methods(&registry), ["HEAD", "POST", "PUT", "HEAD"]);
    // A registry that can't say is told.
    for code in [403, 404, 405] {
        let registry = start();
        registry.fault(("HEAD", "", Times::Always), status(code));
        verdict.row("HEAD is refused", pushes(&registry, &client(&registry)));
    }
    verdict.end();
}

#[test]
fn refusals_are_told() {
    let words = |status: u16, code: &str| {
        let body = json!({ "errors": [{ "code": code, "message": "no" }] }).to_string();
        Fault::Status(status, Vec::new(), body.into_bytes())
    };
    let digest = || {
        let headers = vec![("Docker-Content-Digest".to_owned(), sha256(b"else"))];
        Fault::Status(201, headers, Vec::new())
    };
    let mut verdict = Verdict::default();
    for (method, fault, expected) in [
        ("POST", words(403, "DENIED"), &["access denied (403)", "DENIED"][..]),
        ("POST", words(405, "UNSUPPORTED"), &["unexpected answer (405)", "UNSUPPORTED"]),
        ("POST", words(404, "NAME_UNKNOWN"), &["not found", "NAME_UNKNOWN"]),
        ("POST", Fault::Status(202, Vec::new(), Vec::new()), &["where to upload to"]),
        ("PUT", words(413, "SIZE_INVALID"), &["413", "SIZE_INVALID"]),
        ("PUT", words(404, "BLOB_UPLOAD_UNKNOWN"), &["BLOB_UPLOAD_UNKNOWN"]),
        ("PUT", digest(), &["has stored it as sha256:"]),
        ("PUT", words(500, "UNKNOWN"), &["the registry failed (500)"]),
    ] {
        let registry = start();
        registry.fault((method, "", Times::Always), fault);
        verdict.row(
            expected[0],
            match push(&client(&registry)) {
                Ok(()) => Err("it was pushed".to_owned()),
                Err(error) => has_words(&error, &[expected, &["blob sha256:"]].concat()),
            },
        );
    }
    // Other bytes than were promised.
    let registry = start();
    let error = client(&registry).push_blob(&blob().0, b"other").unwrap_err().to_string();
    verdict.row("digest", has_words(&error, &["DIGEST_INVALID"]));
    verdict.end();
}

/// Both kinds of authentication, and that a token for pulling is not what is asked for.
#[test]
fn pushing_needs_another_token() {
    let registry = start();
    registry.require_basic("me", PASSWORD);
    pushes(&registry, &client_with(&registry, with_password(&registry))).unwrap();
    has_words(&push(&client(&registry)).unwrap_err(), &["access denied", "login"]).unwrap();

    for password in [None, Some(("me", PASSWORD))] {
        let registry = start();
        registry.require_bearer(password);
        let client = client_with(&registry, with_password(&registry));
        pushes(&registry, &client).unwrap();
        push_artifact(&client, &artifact(0, None)).unwrap();
        let tokens: Vec<Logged> =
            registry.requests().into_iter().filter(|r| r.path.contains("/token")).collect();
        assert_eq!(tokens.len(), 1, "one token serves all of it: {tokens:?}");
        assert!(tokens[0].path.contains("pull%2Cpush") || tokens[0].path.contains("pull,push"));
    }
    // A reader is not given more than it asks for.
    let registry = start();
    registry.require_bearer(None);
    let reference = format!("{}/a/r:t", registry.addr()).parse().unwrap();
    let reader = Client::new(reference, &options().registry, &Session::default()).unwrap();
    assert!(reader.referrers(&blob().0, TYPE).unwrap().is_empty());
    let requests = registry.requests();
    assert!(requests.iter().all(|request| !request.path.contains("push")), "{requests:?}");
    let lines = logs::with(PASSWORD);
    assert!(lines.is_empty(), "{lines:?}");
}

#[test]
fn a_registry_with_the_api_needs_no_tag() {
    let registry = start();
    registry.set_referrers(Referrers::Filtered);
    let client = client(&registry);
    let manifest = artifact(3, Some(TYPE));
    let digest = push_artifact(&client, &manifest).unwrap();
    assert_eq!(registry.manifest("a/r", &digest.to_string()), Some(manifest));
    assert_eq!(methods(&registry), ["PUT"]);
    let found = client.referrers(&subject().digest, TYPE).unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!((found[0].digest, &found[0].annotations["number"][..]), (digest, "3"));
    // Without a subject there is nothing to note, API or not.
    registry.set_referrers(Referrers::Absent);
    registry.clear_log();
    client.push_manifest(br#"{"schemaVersion":2}"#, MANIFEST, None).unwrap();
    assert_eq!(methods(&registry), ["PUT"]);
    // An API that noted another subject has not noted this one.
    let headers = vec![("OCI-Subject".to_owned(), sha256(b"else"))];
    registry
        .fault(("PUT", "/manifests/sha256:", Times::First(1)), Fault::Status(201, headers, vec![]));
    push_artifact(&client, &artifact(4, None)).unwrap();
    assert_eq!(tagged(&registry)["manifests"].as_array().unwrap().len(), 1);
}

#[test]
fn the_tag_is_kept() {
    for kind in [Referrers::Absent, Referrers::Page] {
        let registry = start();
        registry.set_referrers(kind);
        let client = client(&registry);
        let pushed: Vec<Digest> = [artifact(0, Some(TYPE)), artifact(1, None)]
            .iter()
            .map(|manifest| push_artifact(&client, manifest).unwrap())
            .collect();
        let expected = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [
            {
                "mediaType": MANIFEST, "digest": pushed[0], "size": artifact(0, Some(TYPE)).len(),
                "artifactType": TYPE, "annotations": { "number": "0" },
            },
            {
                "mediaType": MANIFEST, "digest": pushed[1], "size": artifact(1, None).len(),
                "artifactType": "application/vnd.example.config", "annotations": { "number": "1" },
            },
        ]});
        assert_eq!(tagged(&registry), expected);
        // Again: nothing new.
        registry.clear_log();
        push_artifact(&client, &artifact(0, Some(TYPE))).unwrap();
        assert_eq!(methods(&registry), ["PUT", "GET"]);
        let found = client.referrers(&subject().digest, TYPE).unwrap();
        assert_eq!(found.iter().map(|d| d.digest).collect::<Vec<_>>(), pushed[..1]);
    }
}

/// What others have written under the tag stays, and what is no index is not overwritten.
#[test]
fn the_tag_of_others() {
    let registry = start();
    let theirs = json!({
        "schemaVersion": 2,
        "manifests": [{ "mediaType": "x", "digest": "md5:1", "size": 1.5, "theirs": [null] }],
        "annotations": { "theirs": "too" },
    });
    registry.add_manifest("a/r", &tag(), INDEX, theirs.to_string().as_bytes());
    let client = client(&registry);
    let digest = push_artifact(&client, &artifact(0, Some(TYPE))).unwrap();
    let now = tagged(&registry);
    assert_eq!(now["manifests"][0], theirs["manifests"][0]);
    assert_eq!(now["annotations"], theirs["annotations"]);
    assert_eq!(now["manifests"][1]["digest"], digest.to_string());
    for (what, media_type, body) in [
        ("a manifest", MANIFEST, artifact(9, None)),
        ("a page", "text/html", b"<html>".to_vec()),
        ("a list", INDEX, b"[]".to_vec()),
        ("full", INDEX, {
            let filler = "x".repeat((4 << 20) - 100);
            json!({ "manifests": [], "x": filler }).to_string().into_bytes()
        }),
    ] {
        let registry = start();
        registry.add_manifest("a/r", &tag(), media_type, &body);
        let error = push_artifact(&self::client(&registry), &artifact(0, None)).unwrap_err();
        let word = if what == "full" { "4 MiB" } else { "not an image index" };
        has_words(&error, &[word, &tag()]).unwrap();
        assert_eq!(registry.manifest("a/r", &tag()), Some(body), "{what}");
    }
    // A failure to read it must not empty it.
    let registry = start();
    push_artifact(&self::client(&registry), &artifact(0, None)).unwrap();
    let before = tagged(&registry);
    registry.fault(("GET", &tag(), Times::Always), Fault::Status(500, Vec::new(), Vec::new()));
    push_artifact(&self::client(&registry), &artifact(1, None)).unwrap_err();
    assert_eq!(tagged(&registry), before);
    // One that passes is no reason to give up, at reading or at writing.
    registry.clear_faults();
    registry.fault(("GET", &tag(), Times::First(1)), Fault::Status(503, Vec::new(), Vec::new()));
    registry.fault(("PUT", &tag(), Times::First(1)), Fault::Status(503, Vec::new(), Vec::new()));
    push_artifact(&self::client(&registry), &artifact(1, None)).unwrap();
    assert_eq!(tagged(&registry)["manifests"].as_array().unwrap().len(), 2);
}
