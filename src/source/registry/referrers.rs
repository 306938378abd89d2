//! Referrers: the artifacts that say of themselves that they are about a manifest (OCI distribution
//! spec 1.1, "Listing Referrers").
//!
//! The specification has an API for them, and for registries without one an image index under a tag
//! made of the subject's digest. Registries that lack the API show it in many ways: they answer
//! 404, 405 or 400, redirect to the web page of a login, or answer every path with some page. So
//! everything that is not an image index, and is no failure or refusal either, means the tag.
//!
//! Anyone who may push to a repository can add referrers: what is found here is a hint, never a
//! reason to believe something.

use std::sync::atomic::Ordering;

use serde::Deserialize;
use serde_json::Value;
use ureq::Body as HttpBody;
use ureq::http::{Method, Response, header};

use super::client::{Client, manifest_request};
use super::error::{Error, Failure};
use super::image::Registry;
use super::pages::{NextPage, next_page};
use super::transport::request::Request;
use super::transport::response::{header_text, is_page};
use super::url::encoded;
use crate::digest::Digest;
use crate::json;
use crate::oci::{Descriptor, media_type};
use crate::source::referrers_tag::referrers_tag;

/// Pages of one list that are read. A page has up to 4 MiB, thousands of referrers.
const MAX_PAGES: usize = 16;

/// Referrers returned; one image has a few of each type.
const MAX_REFERRERS: usize = 1024;

impl Registry {
    /// Descriptors of the artifacts that refer to `subject`: of one type, or of all.
    ///
    /// In the tag that stands in for the API the type may be missing: such descriptors are returned
    /// too, and their manifests have to tell. Nothing that comes from here is trusted: descriptors
    /// may lead to anything or nothing.
    ///
    /// # Errors
    /// The registry can't be reached, fails or refuses. That there is nothing is no error.
    pub fn referrers<'t>(
        &self,
        subject: &Digest,
        artifact_type: impl Into<Option<&'t str>>,
    ) -> Result<Vec<Descriptor>, Error> {
        let artifact_type = artifact_type.into();
        // A mirror may well have none where the registry has some.
        let mut result = Ok(Vec::new());
        for client in self.0.for_names() {
            result = listed(client, subject, artifact_type);
            if result.as_ref().is_ok_and(|found| !found.is_empty()) {
                break;
            }
        }
        result
    }
}

/// What one host says, all pages of it.
fn listed(
    client: &Client,
    subject: &Digest,
    artifact_type: Option<&str>,
) -> Result<Vec<Descriptor>, Error> {
    let what = format!("the list of referrers of {subject}");
    let filter = artifact_type.map(|wanted| format!("?artifactType={}", encoded(wanted)));
    let path = format!("referrers/{subject}{}", filter.unwrap_or_default());
    if client.lacks_referrers.load(Ordering::Relaxed) {
        return from_tag(client, subject, artifact_type);
    }
    let mut next: Option<String> = None;
    let mut found = Vec::new();
    for _ in 0..MAX_PAGES {
        let url = || next.clone().unwrap_or_else(|| client.url(&path));
        let page = match (page(client, url, &what)?, &next) {
            (Some(page), _) => page,
            (None, None) => {
                // Where there is the API, a subject without referrers has an empty list.
                client.lacks_referrers.store(true, Ordering::Relaxed);
                return from_tag(client, subject, artifact_type);
            }
            (None, Some(url)) => {
                let why = "a further page of it is not an image index".to_owned();
                return Err(Error::new(&what, url, Failure::Answer(why)));
            }
        };
        // Filtered again: servers may ignore the type, whatever they say.
        let of_type = |d: &Descriptor| {
            artifact_type.is_none_or(|wanted| d.artifact_type.as_deref() == Some(wanted))
        };
        found.extend(page.manifests.into_iter().filter(of_type));
        match page.next {
            more @ Some(_) if found.len() < MAX_REFERRERS => next = more,
            _ => {
                found.truncate(MAX_REFERRERS);
                return Ok(found);
            }
        }
    }
    log::warn!("{what} has more than {MAX_PAGES} pages: the rest is left out");
    Ok(found)
}

struct Page {
    manifests: Vec<Descriptor>,
    /// The URL of the next page, if there is one.
    next: Option<String>,
}

/// A page of the list; `None` if the answer is not one.
fn page(client: &Client, url: impl Fn() -> String, what: &str) -> Result<Option<Page>, Error> {
    let response = client.retry_in_its_scheme(|| {
        let (url, accept) = (url(), &[media_type::OCI_INDEX]);
        let request =
            Request { accept, may_be_absent: true, ..Request::new(Method::GET, &url, what) };
        Ok(client.send(&request)?.response)
    });
    let Some(response) = found(response)? else { return Ok(None) };
    let next = match next_page(&response, &url()) {
        NextPage::None => None,
        NextPage::At(url) => Some(url),
        NextPage::Elsewhere => {
            log::warn!("the registry's list of referrers goes on at another host: left out");
            None
        }
    };
    let manifests = descriptors(client, response, what)?;
    Ok(manifests.map(|manifests| Page { manifests, next }))
}

/// The index in the tag that stands in for the API; empty if there is none.
fn from_tag(
    client: &Client,
    subject: &Digest,
    artifact_type: Option<&str>,
) -> Result<Vec<Descriptor>, Error> {
    let tag = referrers_tag(subject);
    let what = format!("manifest `{tag}`");
    let response = client.retry_in_its_scheme(|| {
        let url = client.url(&format!("manifests/{tag}"));
        let request = manifest_request(Method::GET, &url, &what);
        Ok(client.send(&Request { may_be_absent: true, ..request })?.response)
    });
    let Some(response) = found(response)? else { return Ok(Vec::new()) };
    let mut found = descriptors(client, response, &what)?.unwrap_or_default();
    found.retain(|d| {
        let own = d.artifact_type.as_deref();
        own.is_none_or(|own| artifact_type.is_none_or(|wanted| own == wanted))
    });
    found.truncate(MAX_REFERRERS);
    Ok(found)
}

/// Sorts "there is no such thing", in the ways that registries say it, from failures.
fn found(result: Result<Response<HttpBody>, Error>) -> Result<Option<Response<HttpBody>>, Error> {
    match result {
        Ok(response) if is_page(&response) => Ok(None),
        Ok(response) => Ok(Some(response)),
        Err(error) if matches!(error.status(), Some(400 | 404 | 405)) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Reads the descriptors of an image index; `None` if it is something else.
fn descriptors(
    client: &Client,
    response: Response<HttpBody>,
    what: &str,
) -> Result<Option<Vec<Descriptor>>, Error> {
    let media_type = header_text(&response, header::CONTENT_TYPE.as_str());
    let bytes = client.document(response, what)?;
    let Some(index) = parse_index(&bytes, media_type.as_deref()) else {
        log::debug!("{what} is not an image index");
        return Ok(None);
    };
    // One that is not understood, of another digest algorithm say, is none that can be used; it
    // does not spoil the others.
    let descriptors = index["manifests"].as_array().into_iter().flatten();
    Ok(Some(descriptors.filter_map(|d| Descriptor::deserialize(d).ok()).collect()))
}

/// An image index as JSON, so that a change keeps all that is in it; `None` if it is something
/// else. Laxer than [`Document::parse`](crate::oci::Document::parse): nothing depends on it.
pub(super) fn parse_index(bytes: &[u8], announced: Option<&str>) -> Option<Value> {
    let index: Value = json::from_slice(bytes).ok().filter(Value::is_object)?;
    let manifests = &index["manifests"];
    let announced = announced.map(|t| t.split(';').next().unwrap_or_default().trim());
    let is_index = match index["mediaType"].as_str().filter(|own| !own.is_empty()) {
        Some(own) => own == media_type::OCI_INDEX,
        None => announced == Some(media_type::OCI_INDEX) || manifests.is_array(),
    };
    let is_list = manifests.is_array() || manifests.is_null();
    (is_index && is_list && index.get("config").is_none()).then_some(index)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn kinds_of_indexes() {
        let oci = Some("application/vnd.oci.image.index.v1+json; charset=utf-8");
        let is_index = |text: &str, announced| parse_index(text.as_bytes(), announced).is_some();
        let index = format!(r#"{{"mediaType":"{}","manifests":[]}}"#, media_type::OCI_INDEX);
        let manifest = format!(r#"{{"mediaType":"{}","manifests":[]}}"#, media_type::OCI_MANIFEST);
        assert!(is_index(&index, None) && is_index(&index, Some("text/plain")));
        assert!(is_index("{}", oci) && is_index(r#"{"manifests":null}"#, oci));
        assert!(is_index(r#"{"manifests":[]}"#, None));
        assert!(!is_index(&manifest, oci) && !is_index("{}", None) && !is_index("[]", oci));
        assert!(!is_index(r#"{"manifests":[],"config":{}}"#, oci));
        assert!(!is_index(r#"{"manifests":{}}"#, oci) && !is_index("<html>", oci));
    }
}
