//! What the test registry does with pushes, and its lists of referrers.
//!
//! Uploads are strict about what clients get wrong: the session's state in the query has to come
//! back, and what arrives must have the digest that it is said to have.

use serde_json::{Value, json};

use crate::support::image::sha256;
use crate::support::registry::{Place, State};
use crate::support::wire::{Request, Response, decode};

const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// What a registry makes of requests for referrers, and of manifests with a subject.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Referrers {
    /// 404, as of a registry that does not know the path.
    Absent,
    /// A web page with status 200.
    Page,
    /// The list of one type, as asked for.
    Filtered,
    /// The list of all types, whatever is asked for.
    Unfiltered,
    /// The list of one type, with so many entries a page.
    Paged(usize),
}

/// How a list of tags is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TagPages {
    /// All at once.
    Whole,
    /// So many a page, with a relative link to the next one, or an absolute one.
    Paged { count: usize, is_absolute: bool },
    /// Pages without end, of new tags each.
    Endless,
    /// Each page leads to the first one.
    Circle,
    /// The next page is at this place.
    Elsewhere(String),
}

/// A page of a list of tags, or of repositories.
pub(super) fn list_names(
    pages: &TagPages,
    names: &[&str],
    request: &Request,
    path: &str,
) -> Response {
    let query = request.target.split_once('?').map_or("", |(_, query)| query);
    let last = value(query, "last");
    let rest: Vec<String> = names
        .iter()
        .filter(|name| last.as_deref().is_none_or(|last| **name > last))
        .map(|name| (*name).to_owned())
        .collect();
    let (page, next) = match pages {
        TagPages::Whole => (rest, None),
        TagPages::Paged { count, is_absolute } => {
            let page: Vec<String> = rest.iter().take(*count).cloned().collect();
            let next = (rest.len() > *count).then(|| {
                let host = request.header("host").unwrap_or_default();
                let origin = if *is_absolute { format!("http://{host}") } else { String::new() };
                format!("{origin}{path}?last={}&n={count}", page[page.len() - 1])
            });
            (page, next)
        }
        TagPages::Endless => {
            let number: usize = last.and_then(|last| last.parse().ok()).unwrap_or(0);
            let page = (0..100).map(|n| format!("t{}", number + n)).collect();
            (page, Some(format!("{path}?last={}", number + 100)))
        }
        TagPages::Circle => {
            (names.iter().map(|name| (*name).to_owned()).collect(), Some(path.into()))
        }
        TagPages::Elsewhere(place) => (rest, Some(place.clone())),
    };
    let name = path.strip_prefix("/v2/").and_then(|path| path.strip_suffix("/tags/list"));
    let body = match name {
        Some(name) => json!({ "name": name, "tags": page }),
        None => json!({ "repositories": page }),
    };
    let response = Response::new(200, "application/json", body.to_string());
    match next {
        Some(next) => response.with("Link", format!("<{next}>; rel=\"next\"")),
        None => response,
    }
}

/// Sessions of uploads.
#[derive(Debug, Default)]
pub struct Uploads {
    /// What stands in front of the path in `Location`.
    pub origin: String,
    begun: usize,
    open: Vec<String>,
}

impl State {
    /// A request that changes something.
    pub(super) fn write(&mut self, request: &Request, place: &Place, query: &str) -> Response {
        match (&request.method[..], place.kind, &place.reference[..]) {
            ("POST", "blobs", "uploads/") => {
                self.uploads.begun += 1;
                let id = format!("uploads/{}", self.uploads.begun);
                let origin = &self.uploads.origin;
                let location = format!("{origin}/v2/{}/blobs/{id}?_state=a%2Bb", place.repo);
                self.uploads.open.push(id);
                Response::new(202, "text/plain", "").with("Location", location)
            }
            ("PUT", "blobs", id) => {
                let digest = value(query, "digest").unwrap_or_default();
                if !self.uploads.open.iter().any(|open| open == id) {
                    return Response::error(404, "BLOB_UPLOAD_UNKNOWN");
                }
                if value(query, "_state").as_deref() != Some("a+b") {
                    return Response::error(400, "BLOB_UPLOAD_INVALID");
                }
                if digest != sha256(&request.body) {
                    return Response::error(400, "DIGEST_INVALID");
                }
                self.uploads.open.retain(|open| open != id);
                self.blobs.insert((place.repo.clone(), digest.clone()), request.body.clone());
                created(&digest)
            }
            ("PUT", "manifests", reference) => self.put_manifest(request, place, reference),
            _ => Response::error(405, "UNSUPPORTED"),
        }
    }

    fn put_manifest(&mut self, request: &Request, place: &Place, reference: &str) -> Response {
        let digest = sha256(&request.body);
        let Ok(manifest) = serde_json::from_slice::<Value>(&request.body) else {
            return Response::error(400, "MANIFEST_INVALID");
        };
        if reference.contains(':') && reference != digest {
            return Response::error(400, "DIGEST_INVALID");
        }
        let media_type = request.header("content-type").unwrap_or_default().to_string();
        for reference in [reference, &digest] {
            let value = (media_type.clone(), request.body.clone());
            self.manifests.insert((place.repo.clone(), reference.to_string()), value);
        }
        let has_api = !matches!(self.referrers, Referrers::Absent | Referrers::Page);
        match manifest["subject"]["digest"].as_str() {
            Some(subject) if has_api => created(&digest).with("OCI-Subject", subject),
            _ => created(&digest),
        }
    }

    /// The manifests of a repository that name a subject, by digest so that pages have an order.
    pub(super) fn list_referrers(&self, place: &Place, query: &str) -> Response {
        match self.referrers {
            Referrers::Absent => return Response::error(404, "NOT_FOUND"),
            Referrers::Page => return Response::new(200, "text/html", "<html>Log in</html>"),
            _ => {}
        }
        let wanted = value(query, "artifactType");
        let mut descriptors = Vec::new();
        for ((repo, reference), (media_type, bytes)) in &self.manifests {
            let manifest: Value = serde_json::from_slice(bytes).unwrap_or_default();
            let is_about = manifest["subject"]["digest"] == place.reference[..];
            if *repo != place.repo || *reference != sha256(bytes) || !is_about {
                continue;
            }
            let artifact_type = match manifest["artifactType"].as_str() {
                Some(artifact_type) => artifact_type,
                None => manifest["config"]["mediaType"].as_str().unwrap_or_default(),
            };
            if self.referrers != Referrers::Unfiltered
                && wanted.as_deref().is_some_and(|wanted| wanted != artifact_type)
            {
                continue;
            }
            descriptors.push(json!({
                "mediaType": media_type, "digest": reference, "size": bytes.len(),
                "artifactType": artifact_type, "annotations": manifest["annotations"],
            }));
        }
        descriptors.sort_by_key(|descriptor| descriptor["digest"].to_string());
        let first = value(query, "n").and_then(|n| n.parse().ok()).unwrap_or(0);
        let mut rest = descriptors.split_off(first.min(descriptors.len()));
        let mut response = Response::new(200, INDEX, "");
        if let Referrers::Paged(count) = self.referrers
            && rest.len() > count
        {
            rest.truncate(count);
            let (repo, subject) = (&place.repo, &place.reference);
            // In front of what was asked for, as only the first value of a name counts.
            let next = format!("/v2/{repo}/referrers/{subject}?n={}&{query}", first + count);
            response = response.with("Link", format!("<{next}>; rel=\"next\""));
        }
        let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": rest });
        response.body = index.to_string().into_bytes();
        response
    }
}

fn created(digest: &str) -> Response {
    Response::new(201, "text/plain", "").with("Docker-Content-Digest", digest)
}

/// A value of a query, decoded.
fn value(query: &str, wanted: &str) -> Option<String> {
    let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    pairs.find(|(key, _)| *key == wanted).map(|(_, value)| decode(value))
}
