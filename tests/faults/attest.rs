//! `ocifs attest`: what is attached to an image in each way, and attestations that lie.

use serde_json::{Value, json};

use crate::inspect::Repository;
use crate::shell::Home;
use crate::support::content::{
    Content, IN_TOTO, envelope, image_for, multi, provenance, spdx, statement,
};
use crate::support::registry::{Fault, Referrers, Times};

const PLATFORM: [&str; 2] = ["--platform", "linux/amd64"];
const BUNDLE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";
const SIMPLE: &str = "application/vnd.dev.cosign.simplesigning.v1+json";

/// An image with a statement attached in each way.
fn content() -> (Content, Value) {
    let mut content = Content::default();
    let (index, images) = multi(&mut content);
    content.tag("t", &index);
    let about = images[0].descriptor();
    let tag = |of: &Value, end: &str| {
        format!("{}.{end}", of["digest"].as_str().unwrap().replace(':', "-"))
    };
    // cosign's tags: a signature of the index, an attestation of the manifest.
    let payload = json!({ "critical": { "image": { "docker-manifest-digest": index["digest"] } } });
    let blob = content.blob(SIMPLE, payload.to_string().as_bytes());
    let signature = content.artifact("", &Value::Null, &[blob]);
    content.tag(&tag(&index, "sig"), &signature);
    let cyclone = json!({
        "bomFormat": "CycloneDX", "specVersion": "1.5",
        "components": [{ "name": "sqlalchemy", "version": "2.0.36", "purl": "pkg:pypi/sqlalchemy@2.0.36" }],
    });
    let inner = statement(&about, "https://cyclonedx.org/bom", &cyclone);
    let media_type = "application/vnd.dsse.envelope.v1+json";
    let blob = content.blob(media_type, envelope(&inner).to_string().as_bytes());
    let attestation = content.artifact("", &Value::Null, &[blob]);
    content.tag(&tag(&about, "att"), &attestation);
    // A sigstore bundle that refers to the index.
    let inner = statement(&index, "https://slsa.dev/provenance/v1", &provenance());
    let bundle = json!({ "mediaType": BUNDLE, "dsseEnvelope": envelope(&inner) });
    let blob = content.blob(BUNDLE, bundle.to_string().as_bytes());
    content.artifact(BUNDLE, &index, &[blob]);
    // Something else that refers to it.
    let blob = content.blob("application/example", b"hello");
    content.artifact("application/vnd.example", &index, &[blob]);
    (content, index)
}

/// Type, place, subject and whether there is a signature, of each.
fn rows(document: &Value) -> Vec<(String, String, String, bool)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let row = |row: &Value| {
        let [kind, place, subject] = ["type", "attached", "subject"].map(|key| text(&row[key]));
        (kind, place, subject, row["signed"] == true)
    };
    let mut rows: Vec<_> = document["attestations"].as_array().unwrap().iter().map(row).collect();
    rows.sort();
    rows
}

#[test]
fn everything_that_is_attached() {
    let (content, _) = content();
    let expected: Vec<(String, String, String, bool)> = [
        ("other", "referrer", "unsaid", false),
        ("provenance", "index", "matches", false),
        ("provenance", "referrer", "matches", true),
        ("sbom", "index", "matches", false),
        ("sbom", "tag", "matches", true),
        ("signature", "tag", "matches", true),
    ]
    .map(|(kind, place, subject, signed)| (kind.into(), place.into(), subject.into(), signed))
    .to_vec();
    let repository = Repository::new(&content);
    for referrers in [Referrers::Filtered, Referrers::Paged(1)] {
        repository.registry.set_referrers(referrers);
        let document = repository.json("attest", ":t", &PLATFORM);
        assert_eq!(rows(&document), expected, "{referrers:?}");
        assert!(!repository.asked().iter().any(|path| path.contains("example")));
    }
    let shown = repository.run("attest", ":t", &PLATFORM);
    shown.succeeded();
    for words in ["SPDX-2.3 (2 packages)", "CycloneDX 1.5 (1 package)", "signature not checked"] {
        assert!(shown.stdout.contains(words), "{words}: {}", shown.stdout);
    }
    assert!(!shown.stdout.contains("valid"), "{}", shown.stdout);
    let packages = repository.run("attest", ":t", &[&PLATFORM[..], &["--packages"]].concat());
    packages.succeeded();
    assert!(
        packages.stdout.contains("openssl\t3.0.15\tApache-2.0\tpkg:deb/debian/openssl@3.0.15\n")
    );
    assert!(packages.stdout.contains("sqlalchemy\t2.0.36\t\tpkg:pypi/sqlalchemy@2.0.36\n"));
    let flags = [&PLATFORM[..], &["--print", "--type", "provenance"]].concat();
    let printed = repository.run("attest", ":t", &flags);
    printed.succeeded();
    let statements = serde_json::Deserializer::from_str(&printed.stdout).into_iter::<Value>();
    let types: Vec<Value> = statements.map(|s| s.unwrap()["predicateType"].take()).collect();
    assert_eq!(
        types,
        [json!("https://slsa.dev/provenance/v1"), json!("https://slsa.dev/provenance/v1")]
    );
    // The second time nothing is fetched but lists.
    let document = repository.json("attest", ":t", &PLATFORM);
    assert_eq!(rows(&document), expected);
    assert!(
        !repository.asked().iter().any(|path| path.contains("blobs")),
        "{:?}",
        repository.asked()
    );
}

#[test]
fn layouts_have_attestations_too() {
    let (content, _) = content();
    let home = Home::new();
    let layout = home.path().join("layout");
    content.write_layout(&layout).unwrap();
    let name = format!("oci:{}:t", layout.display());
    let shown = home.run(&["attest", "--json", PLATFORM[0], PLATFORM[1], &name]);
    let document: Value = serde_json::from_str(&shown.stdout).unwrap();
    // What refers to it is listed nowhere there.
    let found = rows(&document).into_iter().map(|row| (row.0, row.1)).collect::<Vec<_>>();
    let expected =
        [("provenance", "index"), ("sbom", "index"), ("sbom", "tag"), ("signature", "tag")];
    assert_eq!(found, expected.map(|(kind, place)| (kind.to_owned(), place.to_owned())));
}

/// Each says that it is about something else than what it is attached to.
#[test]
fn attestations_that_lie_about_their_subject() {
    let mut content = Content::default();
    let image = content.image(&image_for("amd64"));
    let other = content.image(&image_for("arm64"));
    let lie = statement(&other, "https://spdx.dev/Document", &spdx());
    let mut entries = vec![crate::support::content::for_platform(image.clone(), "amd64")];
    entries.push(content.attestation(&image, std::slice::from_ref(&lie)));
    let index = content.index(&entries);
    content.tag("t", &index);
    let tag = |end: &str| format!("{}.{end}", image["digest"].as_str().unwrap().replace(':', "-"));
    let blob = content.blob(IN_TOTO, lie.to_string().as_bytes());
    let attestation = content.artifact("", &Value::Null, std::slice::from_ref(&blob));
    content.tag(&tag("att"), &attestation);
    let payload = json!({ "critical": { "image": { "docker-manifest-digest": other["digest"] } } });
    let simple = content.blob(SIMPLE, payload.to_string().as_bytes());
    let signature = content.artifact("x", &Value::Null, &[simple]);
    content.tag(&tag("sig"), &signature);
    // It refers to another image than the list says that it refers to.
    let elsewhere = content.artifact("application/vnd.example", &other, &[blob]);
    let list = content.index(&[elsewhere]);
    content.tag(&image["digest"].as_str().unwrap().replace(':', "-"), &list);
    let repository = Repository::new(&content);
    let document = repository.json("attest", ":t", &PLATFORM);
    let differs = rows(&document).iter().filter(|row| row.2 == "differs").count();
    assert_eq!(differs, 4, "{document:#}");
    let shown = repository.run("attest", ":t", &PLATFORM);
    assert_eq!(shown.stdout.matches("ABOUT SOMETHING ELSE").count(), 4, "{}", shown.stdout);
    assert!(shown.stderr.contains(other["digest"].as_str().unwrap()), "{}", shown.stderr);
    // What is about something else is not printed as being about this image.
    for flag in ["--print", "--packages"] {
        repository.run("attest", ":t", &[PLATFORM[0], PLATFORM[1], flag]).failed(1, &["attested"]);
    }
}

#[test]
fn attestations_that_are_wrong_or_endless() {
    let mut content = Content::default();
    let image = content.image(&image_for("amd64"));
    content.tag("t", &image);
    for n in 0..100 {
        let blob = content.blob(IN_TOTO, format!("{{\"predicate\":{n}").as_bytes());
        content.artifact("application/vnd.in-toto+json", &image, &[blob]);
    }
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let deep = content.blob("application/spdx+json", deep.as_bytes());
    let escape = spdx().to_string().replace("openssl", "\u{9b}2J\\u001b");
    let escape = content.blob("application/spdx+json", escape.as_bytes());
    let mut large = content.blob("application/spdx+json", b"{}");
    large["size"] = json!(1u64 << 40);
    let sbom = content.artifact("y", &Value::Null, &[deep, large, escape]);
    let tag = format!("{}.sbom", image["digest"].as_str().unwrap().replace(':', "-"));
    content.tag(&tag, &sbom);
    let repository = Repository::new(&content);
    let document = repository.json("attest", ":t", &PLATFORM);
    let found = document["attestations"].as_array().unwrap();
    assert_eq!(found.len(), 3, "{document:#}");
    assert!(found[1]["error"].as_str().unwrap().contains("bytes"), "{document:#}");
    let packages = repository.run("attest", ":t", &[PLATFORM[0], PLATFORM[1], "--packages"]);
    packages.succeeded();
    assert!(!packages.stdout.contains(['\u{9b}', '\u{1b}']), "{packages:?}");

    repository.registry.set_referrers(Referrers::Filtered);
    let outcome = repository.run("attest", ":t", &[PLATFORM[0], PLATFORM[1], "--json"]);
    assert!(outcome.code == 0 && outcome.stderr.contains("more than 64"), "{}", outcome.stderr);
    assert!(outcome.stdout.contains("not the JSON"), "{}", outcome.stdout);
    assert!(repository.asked().len() < 64 * 2 + 12, "{}", repository.asked().len());

    // A registry that has other bytes for a statement than its digest says.
    let (content, _) = self::content();
    let repository = Repository::new(&content);
    repository.registry.fault(("GET", "/blobs/", Times::Always), Fault::FlipByte(40));
    repository.run("attest", ":t", &PLATFORM).failed(1, &["match"]);
}
