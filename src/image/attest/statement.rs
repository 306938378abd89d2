//! Statements and the envelopes that they come in: in-toto, DSSE, sigstore bundles, cosign's simple signing.
//!
//! Formats: in-toto attestation framework (`Statement` v0.1 and v1), DSSE, sigstore's `bundle.proto` in JSON, and
//! containers/image's `containers-signature(5)`.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use serde::Deserialize;
use serde_json::Value;

use crate::digest::Digest;
use crate::json;
use crate::oci::{Descriptor, Manifest};

/// Subjects that are told of a statement about something else.
const MAX_TOLD: usize = 4;

/// What an attestation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttestationKind {
    /// A list of software.
    Sbom,
    /// How it was built.
    Provenance,
    /// A signature of the image.
    Signature,
    /// A statement of another kind, or an artifact that is none.
    Other,
}

/// What an attestation says it is about, held against what it is attached to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    /// It names what it is attached to.
    Matches,
    /// It names something else: names or digests.
    Differs(Vec<String>),
    /// It does not say.
    Unsaid,
}

/// What was read from a blob.
pub(super) struct Said {
    pub(super) predicate_type: Option<String>,
    pub(super) subject: Subject,
    pub(super) is_signed: bool,
    /// The statement without its envelope, as it came.
    pub(super) statement: Vec<u8>,
    /// The predicate, or the document itself.
    pub(super) content: Value,
}

/// An in-toto statement.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", expecting = "an in-toto statement")]
struct Statement {
    #[serde(default, deserialize_with = "json::or_default")]
    predicate_type: Option<String>,
    #[serde(default, deserialize_with = "json::or_default")]
    subject: Vec<StatementSubject>,
    #[serde(default)]
    predicate: Value,
}

#[derive(Deserialize)]
#[serde(expecting = "a subject")]
struct StatementSubject {
    #[serde(default, deserialize_with = "json::or_default")]
    name: String,
    #[serde(default)]
    digest: Value,
}

/// A DSSE envelope.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default, expecting = "a DSSE envelope")]
struct Envelope {
    #[serde(deserialize_with = "json::or_default")]
    payload: Option<String>,
    #[serde(deserialize_with = "json::or_default")]
    signatures: Vec<Value>,
    /// In a sigstore bundle, the envelope.
    #[serde(deserialize_with = "json::or_default")]
    dsse_envelope: Option<Box<Envelope>>,
    /// Or a signature of the image's digest.
    message_signature: Option<Value>,
}

/// What a blob of an artifact is by its media type; nothing, if it is none that is read.
pub(super) fn kind_of_blob(layer: &Descriptor, manifest: &Manifest) -> Option<AttestationKind> {
    let media_type = layer.media_type.split(';').next().unwrap_or_default().trim();
    let is = |words: &[&str]| words.iter().any(|word| media_type.contains(word));
    if is(&["in-toto+json", "dsse.envelope", "sigstore.bundle"]) {
        let predicate_type = predicate_of_blob(layer, manifest);
        return Some(kind_of_predicate(&predicate_type));
    }
    if is(&["cosign.simplesigning", "jose+json", "/cose"]) {
        return Some(AttestationKind::Signature);
    }
    is(&["spdx", "cyclonedx", "vnd.syft"]).then_some(AttestationKind::Sbom)
}

/// The type of a blob's predicate by its annotations, or else its media type.
pub(super) fn predicate_of_blob(layer: &Descriptor, manifest: &Manifest) -> String {
    let of_layer = ["in-toto.io/predicate-type", "predicateType"];
    let of_layer = of_layer.iter().find_map(|key| layer.annotations.get(*key));
    let of_manifest = manifest.annotations.get("dev.sigstore.bundle.predicateType");
    of_layer.or(of_manifest).unwrap_or(&layer.media_type).clone()
}

/// What a predicate is, by its type.
pub(super) fn kind_of_predicate(predicate_type: &str) -> AttestationKind {
    let lower = predicate_type.to_ascii_lowercase();
    let has = |words: &[&str]| words.iter().any(|word| lower.contains(word));
    match () {
        () if has(&["provenance"]) => AttestationKind::Provenance,
        () if has(&["spdx", "cyclonedx", "sbom"]) => AttestationKind::Sbom,
        () if has(&["cosign/sign", "simplesigning", "cosign.sigstore.dev/signature"]) => {
            AttestationKind::Signature
        }
        () => AttestationKind::Other,
    }
}

/// Reads a blob of a media type that is attached to `about`.
///
/// # Errors
/// It is not what its type says.
pub(super) fn read(bytes: &[u8], media_type: &str, about: &Digest) -> Result<Said, String> {
    let is = |word: &str| media_type.contains(word);
    if is("simplesigning") {
        let payload: Value = parsed(bytes)?;
        let named = payload["critical"]["image"]["docker-manifest-digest"].as_str();
        let subject = match named {
            Some(digest) if digest == about.to_string() => Subject::Matches,
            Some(digest) => Subject::Differs(vec![digest.to_owned()]),
            None => Subject::Unsaid,
        };
        return Ok(Said { subject, is_signed: true, content: payload, ..Said::of(bytes) });
    }
    if is("dsse.envelope") || is("sigstore.bundle") {
        let outer: Envelope = parsed(bytes)?;
        let is_message = outer.message_signature.is_some();
        let envelope = outer.dsse_envelope.map_or_else(
            || Envelope {
                payload: outer.payload,
                signatures: outer.signatures,
                ..Envelope::default()
            },
            |envelope| *envelope,
        );
        let Some(payload) = envelope.payload else {
            return Ok(Said { is_signed: is_message, ..Said::of(bytes) });
        };
        let payload = STANDARD.decode(&payload).or_else(|_| URL_SAFE.decode(&payload));
        let payload = payload.map_err(|e| format!("the payload is not base64: {e}"))?;
        let is_signed = !envelope.signatures.is_empty();
        return Ok(Said { is_signed, ..statement(&payload, about)? });
    }
    if is("in-toto") {
        return statement(bytes, about);
    }
    // A list of software, or a signature in a form that is not read.
    let content = json::from_slice(bytes).unwrap_or_default();
    Ok(Said { content, ..Said::of(bytes) })
}

fn statement(bytes: &[u8], about: &Digest) -> Result<Said, String> {
    let statement: Statement = parsed(bytes)?;
    let algorithm = about.algorithm().name();
    let is_about = |subject: &StatementSubject| subject.digest[algorithm] == *about.hex();
    let subject = match &statement.subject[..] {
        [] => Subject::Unsaid,
        subjects if subjects.iter().any(is_about) => Subject::Matches,
        subjects => Subject::Differs(subjects.iter().take(MAX_TOLD).map(told).collect()),
    };
    let content = match statement.predicate {
        // Early tools put the document there as a text, or as a text in an object.
        Value::String(text) => json::from_slice(text.as_bytes()).unwrap_or_default(),
        Value::Object(mut object) => match object.get("Data") {
            Some(Value::String(text)) => json::from_slice(text.as_bytes()).unwrap_or_default(),
            Some(Value::Object(_)) if object.len() <= 2 => {
                object.remove("Data").unwrap_or_default()
            }
            _ => Value::Object(object),
        },
        other => other,
    };
    let predicate_type = statement.predicate_type;
    Ok(Said { predicate_type, subject, content, ..Said::of(bytes) })
}

/// A subject in a few words.
fn told(subject: &StatementSubject) -> String {
    let digests = subject.digest.as_object().into_iter().flatten();
    let mut digests = digests.filter_map(|(key, hex)| Some(format!("{key}:{}", hex.as_str()?)));
    digests.next_back().unwrap_or_else(|| subject.name.clone())
}

fn parsed<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    json::from_slice(bytes).map_err(|e| format!("it is not the JSON that its type says: {e}"))
}

impl Said {
    /// Something of which nothing is known but the bytes.
    fn of(bytes: &[u8]) -> Said {
        Said {
            predicate_type: None,
            subject: Subject::Unsaid,
            is_signed: false,
            statement: bytes.to_vec(),
            content: Value::Null,
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;

    use super::*;

    fn said(document: &Value, media_type: &str, about: &Digest) -> Said {
        read(document.to_string().as_bytes(), media_type, about).unwrap()
    }

    #[test]
    fn envelopes_hold_statements() {
        let about = Digest::sha256(b"x");
        let inner = json!({
            "predicateType": "https://slsa.dev/provenance/v1", "predicate": { "a": 1 },
            "subject": [{ "name": "n", "digest": { "sha256": about.hex() } }],
        });
        let envelope = json!({ "payload": STANDARD.encode(inner.to_string()), "signatures": [{}] });
        let bundle = json!({ "dsseEnvelope": envelope });
        for (document, media_type, is_signed) in [
            (&inner, "application/vnd.in-toto+json", false),
            (&envelope, "application/vnd.dsse.envelope.v1+json", true),
            (&bundle, "application/vnd.dev.sigstore.bundle.v0.3+json", true),
        ] {
            let said = said(document, media_type, &about);
            assert_eq!((said.is_signed, said.subject), (is_signed, Subject::Matches));
            assert_eq!(said.statement, inner.to_string().as_bytes());
            assert_eq!(said.content, json!({ "a": 1 }));
            let kind = kind_of_predicate(&said.predicate_type.unwrap());
            assert_eq!(kind, AttestationKind::Provenance);
        }
        let other = said(&inner, "application/vnd.in-toto+json", &Digest::sha256(b"y"));
        assert_eq!(other.subject, Subject::Differs(vec![about.to_string()]));
        assert!(read(b"[", "application/vnd.in-toto+json", &about).is_err());
    }

    #[test]
    fn subjects_of_odd_statements() {
        let about = Digest::sha256(b"x");
        let in_toto = "application/vnd.in-toto+json";
        for subject in [json!(null), json!([]), json!("x"), json!([7])] {
            let document = json!({ "subject": subject, "predicate": "{\"b\":2}" });
            let said = said(&document, in_toto, &about);
            assert_eq!((said.subject, said.content), (Subject::Unsaid, json!({ "b": 2 })));
        }
        let document = json!({ "subject": [{ "name": "other", "digest": null }] });
        let expected = Subject::Differs(vec!["other".to_owned()]);
        assert_eq!(said(&document, in_toto, &about).subject, expected);
        let simple = json!({ "critical": { "image": { "docker-manifest-digest": about } } });
        let said = said(&simple, "application/vnd.dev.cosign.simplesigning.v1+json", &about);
        assert_eq!((said.subject, said.is_signed), (Subject::Matches, true));
    }
}
