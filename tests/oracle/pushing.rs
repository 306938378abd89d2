//! Artifacts pushed to a real registry, which checks digests and sessions for itself.
//!
//! Version 2.8 has no API for referrers, so this is also the test of the tag that stands in for it.

use std::io::Read;

use ocifs::digest::Digest;
use ocifs::oci::Descriptor;
use ocifs::source::Source;
use ocifs::source::registry::{Registry as Client, RegistryOptions, Session};
use serde_json::{Value, json};

use crate::oracle::gzip_image;
use crate::servers::{Registry, program, run};
use crate::support::image::push;
use crate::support::tarball::{Entry, tar};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const TYPE: &str = "application/vnd.example.index.v1+json";

fn client(registry: &Registry, name: &str) -> Client {
    let reference = format!("{}/{name}:latest", registry.address()).parse().unwrap();
    Client::for_pushing(reference, &RegistryOptions::default(), &Session::default()).unwrap()
}

fn descriptor(value: Value) -> Descriptor {
    serde_json::from_value(value).unwrap()
}

#[test]
fn artifacts_are_pushed_and_found() {
    let registry = Registry::shared();
    let name = "pushing/artifacts";
    let image = gzip_image(&[tar(&[Entry::file("f", "content")])]);
    push(&image, registry.address(), name, "latest").unwrap();
    let client = client(&registry, name);
    let subject = descriptor(image.descriptor());
    assert!(client.referrers(&subject.digest, TYPE).unwrap().is_empty());

    let payload: Vec<u8> = (0..3_000_000u32).map(|n| (n.wrapping_mul(n) >> 7) as u8).collect();
    let blobs = [payload.as_slice(), b"{}"];
    let [payload_digest, config_digest] = blobs.map(Digest::sha256);
    for (digest, bytes) in [(payload_digest, blobs[0]), (config_digest, blobs[1])] {
        client.push_blob(&digest, bytes).unwrap();
        // It is there by now.
        client.push_blob(&digest, bytes).unwrap();
    }
    let manifest = |number: usize| {
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "artifactType": TYPE,
            "config": {
                "mediaType": "application/vnd.oci.empty.v1+json",
                "digest": config_digest,
                "size": 2,
            },
            "layers": [{ "mediaType": TYPE, "digest": payload_digest, "size": payload.len() }],
            "subject": image.descriptor(),
            "annotations": { "number": number.to_string() },
        });
        manifest.to_string().into_bytes()
    };
    let pushed = [0, 1, 0]
        .map(|number| client.push_manifest(&manifest(number), MANIFEST, Some(&subject)).unwrap());
    let found = client.referrers(&subject.digest, TYPE).unwrap();
    let digests: Vec<Digest> = found.iter().map(|descriptor| descriptor.digest).collect();
    assert_eq!(digests, pushed[..2]);
    assert_eq!(found[1].annotations["number"], "1");
    assert!(client.referrers(&subject.digest, "application/other").unwrap().is_empty());

    // What came back is what went in, whole and in parts.
    assert_eq!(client.document(&found[0]).unwrap().bytes, manifest(0));
    let blob = descriptor(json!({ "digest": payload_digest, "size": payload.len() }));
    for range in [0..payload.len(), 1_000_000..1_000_001, 2_900_000..payload.len()] {
        let opened = client.blob(&blob, range.start as u64..range.end as u64).unwrap();
        assert_eq!((opened.start, opened.end), (range.start as u64, range.end as u64));
        let mut body = opened.body;
        let mut bytes = Vec::new();
        body.read_to_end(&mut bytes).unwrap();
        assert!(bytes == payload[range]);
    }
    let tag = subject.digest.to_string().replace(':', "-");
    let reference = format!("docker://{}/{name}:{tag}", registry.address());
    let raw = run(program("skopeo", "skopeo").args([
        "inspect",
        "--raw",
        "--tls-verify=false",
        &reference,
    ]));
    let index: Value = serde_json::from_slice(&raw.stdout).unwrap();
    assert_eq!(index["manifests"].as_array().unwrap().len(), 2);
    assert_eq!(index["manifests"][0]["artifactType"], TYPE);

    // The registry itself looks at digests.
    let error = client.push_blob(&Digest::sha256(b"right"), b"wrong").unwrap_err().to_string();
    assert!(error.contains("DIGEST_INVALID"), "{error}");
}
