//! `ocifs attest` of what lies in a real registry, beside what skopeo reads of it.

use ocifs::source::registry::{Registry as Client, RegistryOptions, Session};
use serde_json::Value;

use crate::inspect::{json, skopeo};
use crate::mounted::Home;
use crate::servers::{Registry, run};
use crate::support::content::{Content, multi};
use crate::support::image::sha256;

/// Version 2.8 of the registry has no API for referrers: the tag stands in for it.
#[test]
fn statements_are_those_that_skopeo_reads() {
    let (registry, home) = (Registry::shared(), Home::new());
    let mut content = Content::default();
    let (index, images) = multi(&mut content);
    content.tag("1.4", &index);
    let blob =
        content.blob("application/spdx+json", br#"{"spdxVersion":"SPDX-2.3","packages":[]}"#);
    content.push(registry.address(), "attest/app").unwrap();
    let name = format!("{}/attest/app:1.4", registry.address());
    let config = content.blob("application/vnd.oci.empty.v1+json", b"{}");
    content.push(registry.address(), "attest/app").unwrap();
    let manifest = serde_json::json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "artifactType": "application/spdx+json", "config": config, "layers": [blob], "subject": index,
    });
    let client = Client::for_pushing(
        name.parse().unwrap(),
        &RegistryOptions::default(),
        &Session::default(),
    );
    let subject = serde_json::from_value(index.clone()).unwrap();
    let media_type = "application/vnd.oci.image.manifest.v1+json";
    client
        .unwrap()
        .push_manifest(manifest.to_string().as_bytes(), media_type, Some(&subject))
        .unwrap();

    let platform = ["--platform", "linux/arm64"];
    let document = json(home.ocifs().args(["attest", "--json"]).args(platform).arg(&name));
    let found = document["attestations"].as_array().unwrap();
    assert_eq!((found.len(), &document["digest"]), (3, &Value::from(&*images[1].manifest_digest)));
    let raw = |digest: &Value| {
        let name = format!("{}/attest/app@{}", registry.address(), digest.as_str().unwrap());
        json(&mut skopeo(&["inspect", "--raw"], &name))
    };
    // The index says which attestation is about the image, as skopeo reads it.
    let entries = raw(&index["digest"])["manifests"].take();
    let about = "vnd.docker.reference.digest";
    let is_about = |row: &&Value| row["annotations"][about] == images[1].manifest_digest;
    let entry = entries.as_array().unwrap().iter().find(is_about).unwrap()["digest"].clone();
    let layers = raw(&entry)["layers"].take();
    for (at, row) in found[..2].iter().enumerate() {
        assert_eq!((&row["manifest"], &row["digest"]), (&entry, &layers[at]["digest"]));
        assert_eq!(row["predicate_type"], layers[at]["annotations"]["in-toto.io/predicate-type"]);
        assert_eq!((&row["subject"], &row["attached"]), (&"matches".into(), &"index".into()));
    }
    assert_eq!((&found[2]["attached"], &found[2]["digest"]), (&"referrer".into(), &blob["digest"]));
    let words = ["attest", "--print", "--type", "provenance"];
    let printed = run(home.ocifs().args(words).args(platform).arg(&name)).stdout;
    let statement = printed.strip_suffix(b"\n").unwrap();
    assert_eq!(sha256(statement), layers[1]["digest"].as_str().unwrap());
}
