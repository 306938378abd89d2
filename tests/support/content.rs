//! What a repository holds, made in memory: images, indexes, artifacts about them, tags; then served, pushed or laid out.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use serde_json::{Value, json};

use crate::support::formats::{
    add_layout_files, blob_path, push_all_blobs, put_manifest, with_ref_name, write_files,
};
use crate::support::image::{
    Built, Compression, ImageBuilder, OCI_CONFIG, OCI_INDEX, OCI_MANIFEST, sha256,
};
use crate::support::registry::Registry;
use crate::support::tarball::{Entry, tar};

pub const IN_TOTO: &str = "application/vnd.in-toto+json";
pub const EMPTY: &str = "application/vnd.oci.empty.v1+json";

/// Documents and blobs of a repository.
#[derive(Debug, Default)]
pub struct Content {
    /// Media type and bytes, in the order in which they are pushed.
    manifests: Vec<(String, Vec<u8>)>,
    blobs: BTreeMap<String, Vec<u8>>,
    tags: Vec<(String, Value)>,
}

impl Content {
    /// Adds a blob; its descriptor.
    pub fn blob(&mut self, media_type: &str, bytes: &[u8]) -> Value {
        let digest = sha256(bytes);
        self.blobs.insert(digest.clone(), bytes.to_vec());
        json!({ "mediaType": media_type, "digest": digest, "size": bytes.len() })
    }

    /// Adds a manifest or image index; its descriptor.
    pub fn manifest(&mut self, document: &Value) -> Value {
        let (bytes, media_type) = (document.to_string().into_bytes(), &document["mediaType"]);
        let descriptor =
            json!({ "mediaType": media_type, "digest": sha256(&bytes), "size": bytes.len() });
        self.manifests.push((media_type.as_str().unwrap().to_owned(), bytes));
        descriptor
    }

    /// Adds an image; its descriptor.
    pub fn image(&mut self, image: &Built) -> Value {
        self.blobs.extend(image.blobs.clone());
        self.manifests.push((image.manifest_media_type.clone(), image.manifest.clone()));
        image.descriptor()
    }

    /// Adds an image index of these entries; its descriptor.
    pub fn index(&mut self, entries: &[Value]) -> Value {
        self.manifest(&json!({ "schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries }))
    }

    /// Adds an artifact about `subject` of these blobs; its descriptor.
    pub fn artifact(&mut self, artifact_type: &str, subject: &Value, layers: &[Value]) -> Value {
        let config = self.blob(EMPTY, b"{}");
        let mut manifest = json!({
            "schemaVersion": 2, "mediaType": OCI_MANIFEST, "artifactType": artifact_type,
            "config": config, "layers": layers,
        });
        if !subject.is_null() {
            manifest["subject"] = subject.clone();
        }
        self.manifest(&manifest)
    }

    /// Adds what BuildKit attests of an image, in-toto statements; the entry for the image index.
    pub fn attestation(&mut self, about: &Value, statements: &[Value]) -> Value {
        let rows: Vec<Value> = statements
            .iter()
            .map(|statement| {
                let mut row = self.blob(IN_TOTO, statement.to_string().as_bytes());
                let predicate = statement["predicateType"].clone();
                row["annotations"] = json!({ "in-toto.io/predicate-type": predicate });
                row
            })
            .collect();
        let diff_ids: Vec<&Value> = rows.iter().map(|row| &row["digest"]).collect();
        let config = json!({
            "architecture": "unknown", "os": "unknown",
            "rootfs": { "type": "layers", "diff_ids": diff_ids },
        });
        let config = self.blob(OCI_CONFIG, config.to_string().as_bytes());
        let mut entry = self.manifest(&json!({
            "schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": config, "layers": rows,
        }));
        entry["platform"] = json!({ "os": "unknown", "architecture": "unknown" });
        entry["annotations"] = json!({
            "vnd.docker.reference.type": "attestation-manifest",
            "vnd.docker.reference.digest": about["digest"],
        });
        entry
    }

    /// Tags what a descriptor names.
    pub fn tag(&mut self, tag: &str, descriptor: &Value) {
        self.tags.push((tag.to_owned(), descriptor.clone()));
    }

    /// The media type and bytes of a manifest or index that was added.
    pub fn bytes(&self, descriptor: &Value) -> (&str, &[u8]) {
        let is_named = |(_, bytes): &&(String, Vec<u8>)| sha256(bytes) == descriptor["digest"];
        let found = self.manifests.iter().find(is_named);
        let (media_type, bytes) = found.expect("what is tagged was added");
        (media_type, bytes)
    }

    /// Puts all of it into a registry of this process.
    pub fn serve(&self, registry: &Registry, repo: &str) {
        for (digest, blob) in &self.blobs {
            registry.add_blob(repo, digest, blob);
        }
        for (media_type, bytes) in &self.manifests {
            registry.add_manifest(repo, &sha256(bytes), media_type, bytes);
        }
        for (tag, descriptor) in &self.tags {
            let (media_type, bytes) = self.bytes(descriptor);
            registry.add_manifest(repo, tag, media_type, bytes);
        }
    }

    /// Pushes all of it to a registry.
    pub fn push(&self, address: &str, repo: &str) -> io::Result<()> {
        push_all_blobs(&self.blobs, address, repo)?;
        for (media_type, bytes) in &self.manifests {
            put_manifest(address, repo, &sha256(bytes), media_type, bytes)?;
        }
        for (tag, descriptor) in &self.tags {
            let (media_type, bytes) = self.bytes(descriptor);
            put_manifest(address, repo, tag, media_type, bytes)?;
        }
        Ok(())
    }

    /// Writes all of it as an OCI layout.
    pub fn write_layout(&self, folder: &Path) -> io::Result<()> {
        let blobs = self.blobs.iter().map(|(digest, blob)| (blob_path(digest), blob.clone()));
        let manifests = self.manifests.iter();
        let manifests = manifests.map(|(_, bytes)| (blob_path(&sha256(bytes)), bytes.clone()));
        let mut files = blobs.chain(manifests).collect();
        let tagged = |(tag, row): &(String, Value)| with_ref_name(row.clone(), Some(tag));
        add_layout_files(&mut files, self.tags.iter().map(tagged).collect());
        write_files(folder, &files)
    }
}

/// An image for a platform, of a layer that all have and one of its own, with everything that a config can say.
pub fn image_for(architecture: &str) -> Built {
    let shared = tar(&[Entry::dir("etc"), Entry::file("etc/os-release", "ID=test\n")]);
    let own = tar(&[Entry::file("etc/architecture", architecture)]);
    let run = json!({
        "User": "1000:1000", "ExposedPorts": { "8000/tcp": {} }, "Env": ["PATH=/bin", "A=b"],
        "Entrypoint": ["gunicorn"], "Cmd": ["-b", ":8000"], "WorkingDir": "/srv",
        "Labels": { "org.opencontainers.image.version": "1.4" }, "StopSignal": "SIGTERM",
    });
    let history = json!([
        { "created": "2024-01-02T03:04:05Z", "created_by": "ADD rootfs /" },
        { "created": "2024-01-02T03:04:06Z", "created_by": "COPY architecture /etc/" },
    ]);
    let image = ImageBuilder::new().platform("linux", architecture, None);
    let image = image.config("created", "2024-01-02T03:04:06Z").config("author", "A. U. Thor");
    let image = image.config("config", run).config("history", history);
    image.layer(&shared, Compression::Gzip).layer(&own, Compression::Gzip).build()
}

/// A row of an image index for a platform.
pub fn for_platform(mut descriptor: Value, architecture: &str) -> Value {
    descriptor["platform"] = json!({ "os": "linux", "architecture": architecture });
    descriptor
}

/// An in-toto statement about a manifest.
pub fn statement(about: &Value, predicate_type: &str, predicate: &Value) -> Value {
    let digest = about["digest"].as_str().unwrap().trim_start_matches("sha256:");
    json!({
        "_type": "https://in-toto.io/Statement/v0.1",
        "predicateType": predicate_type,
        "subject": [{ "name": "pkg:docker/app@1.4", "digest": { "sha256": digest } }],
        "predicate": predicate,
    })
}

/// An image for two platforms, whose index has an attestation for each: SPDX and provenance. What the index is.
pub fn multi(content: &mut Content) -> (Value, [Built; 2]) {
    let images = ["amd64", "arm64"].map(image_for);
    let mut entries: Vec<Value> = Vec::new();
    for (image, architecture) in images.iter().zip(["amd64", "arm64"]) {
        entries.push(for_platform(content.image(image), architecture));
    }
    for at in 0..images.len() {
        let about = entries[at].clone();
        let statements = [
            statement(&about, "https://spdx.dev/Document", &spdx()),
            statement(&about, "https://slsa.dev/provenance/v1", &provenance()),
        ];
        let attestation = content.attestation(&about, &statements);
        entries.push(attestation);
    }
    (content.index(&entries), images)
}

/// A small SPDX document.
pub fn spdx() -> Value {
    json!({
        "spdxVersion": "SPDX-2.3", "name": "app", "SPDXID": "SPDXRef-DOCUMENT",
        "packages": [
            {
                "name": "openssl", "versionInfo": "3.0.15", "SPDXID": "SPDXRef-1",
                "licenseConcluded": "Apache-2.0",
                "externalRefs": [{
                    "referenceCategory": "PACKAGE-MANAGER", "referenceType": "purl",
                    "referenceLocator": "pkg:deb/debian/openssl@3.0.15",
                }],
            },
            { "name": "django", "versionInfo": "4.2.16", "SPDXID": "SPDXRef-2" },
        ],
    })
}

/// A small provenance.
pub fn provenance() -> Value {
    json!({
        "buildDefinition": { "buildType": "https://example.test/build" },
        "runDetails": { "builder": { "id": "https://example.test/builder" } },
    })
}

/// A DSSE envelope around a statement, with a signature that nothing has made.
pub fn envelope(statement: &Value) -> Value {
    use base64::Engine;
    let payload = base64::engine::general_purpose::STANDARD.encode(statement.to_string());
    json!({
        "payloadType": IN_TOTO, "payload": payload, "signatures": [{ "keyid": "", "sig": "AA==" }],
    })
}
