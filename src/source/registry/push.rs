//! Pushing blobs and manifests (OCI distribution spec 1.1, "Push").
//!
//! A blob goes in one piece, as what is pushed from here is small next to layers. Its upload is
//! bound to a session that may be used up when the answer to it is lost, so what is tried again is
//! the whole of it, beginning with the question whether the blob is there by now. Where the registry
//! wants it uploaded is held to what redirects are held to: credentials go to the registry's own origin
//! and nowhere else, and a registry that anyone can run may not send us to an address in here.
//!
//! The registry is reached as it is for reading: by the same files, certificates, credentials and
//! schemes. Mirrors are not pushed to.
//!
//! A manifest is pushed by digest, which may be done any number of times. If it is about a subject
//! and the registry does not say that it took note of that, the client has to: by an image index
//! under a tag of the subject's digest ("Pushing Manifests with Subject"). Two clients that do so at
//! the same moment can lose one of the entries; the specification knows of no way around that.

use serde_json::{Value, json};
use ureq::Body as HttpBody;
use ureq::http::{Method, Response, header};

use super::client::{Client, manifest_request};
use super::error::{Error, Failure};
use super::image::Registry;
use super::referrers::parse_index;
use super::transport::request::{Answer, Request};
use super::transport::response::{drain, header_text, location};
use super::url::{encoded, redirect_target};
use crate::digest::Digest;
use crate::oci::{Descriptor, MAX_MANIFEST_BYTES, media_type};
use crate::source::referrers_tag::referrers_tag;

/// The media type of bytes that are only bytes.
const OCTETS: &str = "application/octet-stream";

impl Registry {
    /// Pushes a blob, unless the registry has it already. `digest` must be that of `bytes`, or the
    /// registry refuses them.
    ///
    /// # Errors
    /// The registry can't be reached, fails or refuses.
    pub fn push_blob(&self, digest: &Digest, bytes: &[u8]) -> Result<(), Error> {
        let client = self.0.origin();
        client.retry_in_its_scheme(|| match has_blob(client, digest, bytes.len())? {
            true => Ok(()),
            false => upload(client, digest, bytes),
        })
    }

    /// Pushes a manifest by its SHA-256 digest, which is returned; what it points to must have been
    /// pushed before. `subject` is the one that the manifest itself names: the manifest can then be
    /// found with [`Registry::referrers`], whether the registry has that API or not.
    ///
    /// # Errors
    /// The registry can't be reached, fails or refuses; or it has no API for referrers, and the tag
    /// that stands in for it is taken by something else or full.
    pub fn push_manifest(
        &self,
        manifest: &[u8],
        media_type: &str,
        subject: Option<&Descriptor>,
    ) -> Result<Digest, Error> {
        let client = self.0.origin();
        let digest = Digest::sha256(manifest);
        let what = format!("manifest {digest}");
        let response = client.retry_in_its_scheme(|| {
            let url = client.url(&format!("manifests/{digest}"));
            let payload = Some((manifest, media_type));
            let request = Request { payload, ..Request::new(Method::PUT, &url, &what) };
            let Answer { response, url, .. } = client.send(&request)?;
            check_stored(&response, &digest).map_err(|why| Error::new(&what, &url, why))?;
            Ok(response)
        })?;
        let noted = header_text(&response, "oci-subject").and_then(|text| text.parse().ok());
        drain(response);
        if let Some(subject) = subject
            && noted != Some(subject.digest)
        {
            let descriptor = descriptor(manifest, media_type, &digest);
            client.retry(|| add_to_tag(client, &subject.digest, &descriptor))?;
        }
        Ok(digest)
    }
}

/// Whether the registry says that it has a blob of that length.
fn has_blob(client: &Client, digest: &Digest, length: usize) -> Result<bool, Error> {
    let what = format!("blob {digest}");
    let url = client.url(&format!("blobs/{digest}"));
    let request = Request { may_be_absent: true, ..Request::new(Method::HEAD, &url, &what) };
    match client.send(&request) {
        Ok(Answer { response, .. }) => {
            let said = header_text(&response, header::CONTENT_LENGTH.as_str());
            Ok(said.is_none_or(|said| said.parse() == Ok(length)))
        }
        // Besides those that do not have it: a storage that knows no HEAD, a registry that refuses.
        // Pushing shows which, with the registry's words.
        Err(error) if error.status().is_some_and(|s| s < 500) && !error.is_temporary() => Ok(false),
        Err(error) => Err(error),
    }
}

fn upload(client: &Client, digest: &Digest, bytes: &[u8]) -> Result<(), Error> {
    let what = format!("upload of blob {digest}");
    let url = client.url("blobs/uploads/");
    let payload = Some((&[][..], OCTETS));
    let request = Request { payload, ..Request::new(Method::POST, &url, &what) };
    let Answer { response, url: from, .. } = client.send(&request)?;
    let location = location(&response);
    drain(response);
    let target = location.and_then(|location| redirect_target(&from, &location));
    let target = target.ok_or_else(|| {
        let why = "the registry does not say where to upload to, or not over https".to_owned();
        Error::new(&what, &from, Failure::Answer(why))
    })?;
    // Its query is the session's state and has to come back as it is.
    let and = if target.query().is_some() { '&' } else { '?' };
    let url = format!("{target}{and}digest={}", encoded(&digest.to_string()));
    let payload = Some((bytes, OCTETS));
    let request = Request { payload, ..Request::new(Method::PUT, &url, &what) };
    let Answer { response, url, .. } = client.send(&request)?;
    check_stored(&response, digest).map_err(|why| Error::new(&what, &url, why))?;
    drain(response);
    Ok(())
}

/// A registry may say under which digest it has stored something.
fn check_stored(response: &Response<HttpBody>, digest: &Digest) -> Result<(), Failure> {
    let said = header_text(response, "docker-content-digest");
    match said.and_then(|said| said.parse::<Digest>().ok()) {
        Some(said) if said != *digest => {
            Err(Failure::Answer(format!("the registry has stored it as {said}, not as {digest}")))
        }
        _ => Ok(()),
    }
}

/// The descriptor of a manifest for the tag's index: with its type, which is that of the config
/// where there is no other, and its annotations.
fn descriptor(manifest: &[u8], media_type: &str, digest: &Digest) -> Value {
    let document: Value = serde_json::from_slice(manifest).unwrap_or_default();
    let text = |value: &Value| value.as_str().filter(|text| !text.is_empty()).map(str::to_owned);
    let artifact_type =
        text(&document["artifactType"]).or_else(|| text(&document["config"]["mediaType"]));
    let mut descriptor =
        json!({ "mediaType": media_type, "digest": digest, "size": manifest.len() });
    if let Some(artifact_type) = artifact_type {
        descriptor["artifactType"] = artifact_type.into();
    }
    if let Some(annotations) = document.get("annotations").filter(|a| a.is_object()) {
        descriptor["annotations"] = annotations.clone();
    }
    descriptor
}

/// Adds a descriptor to the index in the tag that stands in for the API, unless it is there.
fn add_to_tag(client: &Client, subject: &Digest, descriptor: &Value) -> Result<(), Error> {
    let tag = referrers_tag(subject);
    let what = format!("manifest `{tag}`");
    let url = client.url(&format!("manifests/{tag}"));
    let failed = |failure| Error::new(&what, &url, failure);
    let mut index = match client.send(&manifest_request(Method::GET, &url, &what)) {
        Ok(Answer { response, .. }) => {
            let media_type = header_text(&response, header::CONTENT_TYPE.as_str());
            let bytes = client.document(response, &what)?;
            parse_index(&bytes, media_type.as_deref()).ok_or_else(|| {
                let why = "it should hold the list of referrers, but is not an image index";
                failed(Failure::Answer(why.to_owned()))
            })?
        }
        Err(error) if error.is_not_found() => {
            json!({ "schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": [] })
        }
        Err(error) => return Err(error),
    };
    let mut manifests = index["manifests"].as_array().cloned().unwrap_or_default();
    if manifests.iter().any(|known| known["digest"] == descriptor["digest"]) {
        return Ok(());
    }
    manifests.push(descriptor.clone());
    index["manifests"] = manifests.into();
    let bytes = index.to_string().into_bytes();
    if bytes.len() as u64 > MAX_MANIFEST_BYTES {
        return Err(failed(Failure::DocumentTooLarge));
    }
    let payload = Some((&bytes[..], media_type::OCI_INDEX));
    let request = Request { payload, ..Request::new(Method::PUT, &url, &what) };
    drain(client.send(&request)?.response);
    Ok(())
}
