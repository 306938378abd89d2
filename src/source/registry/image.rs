//! An image in a registry: its documents, blobs and tags.

use std::ops::Range;
use std::sync::Arc;

use ureq::http::{Method, header};

use super::body::{self, Effort};
use super::client::{Client, manifest_request};
use super::error::{Error, Failure};
use super::hosts::{self, Error as HostsError};
use super::mirrors::{Mirrors, Wanted};
use super::options::RegistryOptions;
use super::session::Session;
use super::transport::observed::Observed;
use super::transport::request::{Access, Answer, Request};
use super::transport::response::{digest_in_header, header_text};
use crate::digest::Digest;
use crate::oci::Descriptor;
use crate::reference::Reference;
use crate::source::image::check_range;
use crate::source::{
    self, Connections, Named, Opened, RawDocument, Repository, Source, Tags, Throughput, nearest,
};

/// Tags listed when the wanted one does not exist.
const LISTED_TAGS: usize = 20;

/// An image in a registry.
#[derive(Clone, Debug)]
pub struct Registry(pub(super) Arc<Mirrors>);

impl Registry {
    /// An image by its reference. Nothing is sent yet.
    ///
    /// # Errors
    /// A file about its registry can't be used.
    pub fn new(
        reference: Reference,
        options: &RegistryOptions,
        session: &Session,
    ) -> Result<Registry, HostsError> {
        Registry::with(reference, Access::Read, options, session)
    }

    /// The same, asking for the right to push as well.
    ///
    /// # Errors
    /// A file about its registry can't be used.
    pub fn for_pushing(
        reference: Reference,
        options: &RegistryOptions,
        session: &Session,
    ) -> Result<Registry, HostsError> {
        Registry::with(reference, Access::Push, options, session)
    }

    /// The registry of an image alone, to ask it for its repositories.
    ///
    /// # Errors
    /// A file about it can't be used.
    pub fn for_listing(
        reference: Reference,
        options: &RegistryOptions,
        session: &Session,
    ) -> Result<Registry, HostsError> {
        Registry::with(reference, Access::Catalog, options, session)
    }

    fn with(
        reference: Reference,
        access: Access,
        options: &RegistryOptions,
        session: &Session,
    ) -> Result<Registry, HostsError> {
        let mut hosts = hosts::for_image(&reference, options)?;
        if access != Access::Read {
            // What is pushed goes to the registry itself, and it knows what it has.
            hosts.drain(..hosts.len().saturating_sub(1));
        }
        let connections = session.connections(reference.registry(), options);
        let observed = Arc::new(Observed::new(connections));
        let clients = hosts.into_iter();
        let clients =
            clients.map(|host| Arc::new(Client::new(host, access, options, session, &observed)));
        Ok(Registry(Arc::new(Mirrors::new(reference, clients.collect()))))
    }

    /// What the image is called.
    pub fn reference(&self) -> &Reference {
        &self.0.reference
    }

    /// What a tag means now, by its header; `None` where that does not tell.
    fn describe_tag(&self, tag: &str) -> Result<Option<Descriptor>, source::Error> {
        let what = format!("manifest `{tag}`");
        let response = self.0.try_hosts(Wanted::Name, |client| {
            let url = client.url(&format!("manifests/{tag}"));
            Ok(client.send(&manifest_request(Method::HEAD, &url, &what))?.response)
        });
        let response = match response {
            Ok(response) => response,
            // Some registries refuse HEAD, and its answers carry no reason: GET tells more.
            Err(error) if error.is_answer() => return Ok(None),
            Err(error) => return Err(Box::new(error).into()),
        };
        let header = |name: &str| header_text(&response, name);
        let digest = digest_in_header(&response);
        let size = header(header::CONTENT_LENGTH.as_str());
        Ok(digest.map(|digest| Descriptor {
            media_type: header(header::CONTENT_TYPE.as_str()).unwrap_or_default(),
            size: size.and_then(|size| size.trim().parse().ok()).unwrap_or_default(),
            ..Descriptor::of_manifest(digest)
        }))
    }

    /// A manifest by tag or digest. Of several hosts, one that sends the right bytes is looked for.
    fn manifest(&self, reference: &str, expected: Option<Digest>) -> Result<RawDocument, Error> {
        let what = format!("manifest `{reference}`");
        let wanted = expected.map_or(Wanted::Name, Wanted::Content);
        loop {
            let (media_type, said, bytes) = self.0.try_hosts(wanted, |client| {
                let url = client.url(&format!("manifests/{reference}"));
                let answer = client.send(&manifest_request(Method::GET, &url, &what))?;
                let media_type = header_text(&answer.response, header::CONTENT_TYPE.as_str());
                let said = digest_in_header(&answer.response);
                match client.document(answer.response, &what) {
                    // Another host may send all of it, or the same one the next time.
                    Err(error) if error.is_transport() => Err(error),
                    bytes => Ok((media_type, said, bytes)),
                }
            })?;
            if let (None, Some(said), Ok(bytes)) = (expected, said, &bytes)
                && !said.matches(bytes)
            {
                // Either the bytes are wrong or, as with some registries, the header: then there is no such manifest.
                match self.manifest(&said.to_string(), Some(said)) {
                    Err(error) if error.is_answer() => {
                        log::info!("{what}: the registry says that it is {said}, which it has not");
                    }
                    said => return said,
                }
            }
            if let Some(digest) = expected
                && !bytes.as_ref().is_ok_and(|bytes| digest.matches(bytes))
                && self.0.distrust(&digest)
            {
                continue;
            }
            return Ok(RawDocument { bytes: bytes?, media_type, digest: expected });
        }
    }
}

impl Repository for Registry {
    fn named(&self, name: Named<'_>) -> Result<RawDocument, source::Error> {
        let found = match name {
            Named::Tag(tag) => self.manifest(tag, None),
            Named::Digest(digest) => self.manifest(&digest.to_string(), Some(*digest)),
        };
        found.map_err(|e| Box::new(e).into())
    }

    fn tags(&self) -> Result<Tags, source::Error> {
        self.tags().map_err(|e| Box::new(e).into())
    }

    fn describe_tag(&self, tag: &str) -> Result<Option<Descriptor>, source::Error> {
        self.describe_tag(tag)
    }

    fn referrers(
        &self,
        subject: &Digest,
        artifact_type: Option<&str>,
    ) -> Result<Vec<Descriptor>, source::Error> {
        self.referrers(subject, artifact_type).map_err(|e| Box::new(e).into())
    }

    fn describe(&self, digest: &Digest) -> Result<Option<Descriptor>, source::Error> {
        let what = format!("blob {digest}");
        for kind in ["manifests", "blobs"] {
            let response = self.0.try_hosts(Wanted::Content(*digest), |client| {
                let url = client.url(&format!("{kind}/{digest}"));
                let request = match kind {
                    "manifests" => manifest_request(Method::HEAD, &url, &what),
                    _ => Request::new(Method::HEAD, &url, &what),
                };
                Ok(client.send(&Request { may_be_absent: true, ..request })?.response)
            });
            let response = match response {
                Ok(response) => response,
                Err(error) if error.is_not_found() => continue,
                Err(error) => return Err(Box::new(error).into()),
            };
            let header = |name: header::HeaderName| header_text(&response, name.as_str());
            let media_type = match kind {
                "manifests" => header(header::CONTENT_TYPE).unwrap_or_default(),
                // Of a blob, a registry knows none.
                _ => String::new(),
            };
            let size = header(header::CONTENT_LENGTH).and_then(|size| size.trim().parse().ok());
            if let Some(size) = size {
                let descriptor = Descriptor::of_manifest(*digest);
                return Ok(Some(Descriptor { media_type, size, ..descriptor }));
            }
        }
        Ok(None)
    }
}

impl Source for Registry {
    fn root(&self) -> Result<RawDocument, source::Error> {
        let reference = &self.0.reference;
        let result = match (reference.digest(), reference.tag()) {
            (Some(digest), _) => self.manifest(&digest.to_string(), Some(digest)),
            (None, tag) => self.manifest(tag.unwrap_or("latest"), None),
        };
        result.map_err(|mut error| {
            if error.is_not_found() && reference.digest().is_none() {
                let mut tags = self.first_tags().unwrap_or_default();
                tags.retain(|tag| !nearest::is_of_referrer(tag));
                nearest::sort(&mut tags, reference.tag().unwrap_or("latest"));
                let more = tags.len().saturating_sub(LISTED_TAGS);
                tags.truncate(LISTED_TAGS);
                error.available_tags(tags, more);
            }
            Box::new(error).into()
        })
    }

    fn head(&self) -> Result<Option<Digest>, source::Error> {
        let Some(tag) = self.0.reference.tag() else { return Ok(self.0.reference.digest()) };
        Ok(self.describe_tag(tag)?.map(|descriptor| descriptor.digest))
    }

    fn confirm(&self, blob: &Descriptor) -> Result<bool, source::Error> {
        let (what, digest) = (format!("blob {}", blob.digest), blob.digest);
        // Mirrors have their own mind about who may read.
        let client = self.0.origin();
        let ask = |method: Method| {
            let url = client.url(&format!("blobs/{digest}"));
            let range = (method == Method::GET).then(|| 0..blob.size.min(1));
            let request =
                Request { blob: Some(digest), range, ..Request::new(method, &url, &what) };
            client.send(&request)
        };
        let head = client.retry_in_its_scheme(|| ask(Method::HEAD));
        // Not by its media type: servers of static files label blobs as they like, and so do login portals.
        let is_told = |answer: &Answer| {
            let header = |name: header::HeaderName| header_text(&answer.response, name.as_str());
            let total = match header(header::CONTENT_RANGE) {
                Some(range) => range.rsplit_once('/').map(|(_, total)| total.to_owned()),
                None => header(header::CONTENT_LENGTH),
            };
            total.is_some_and(|total| total.trim().parse() == Ok(blob.size))
        };
        match head {
            Ok(answer) if is_told(&answer) => return Ok(true),
            Err(error) if !error.is_answer() => return Err(Box::new(error).into()),
            // Storage behind a registry may know no HEAD, and its answers carry no reason: GET tells more.
            _ => {}
        }
        let answer = client.retry_in_its_scheme(|| {
            let answer = ask(Method::GET)?;
            match is_told(&answer) {
                true => Ok(()),
                false => {
                    let why = "the registry does not say that it has it".to_owned();
                    Err(Error::new(&what, &answer.url, Failure::Answer(why)))
                }
            }
        });
        answer.map(|()| true).map_err(|e| Box::new(e).into())
    }

    fn repository(self: Arc<Self>) -> Option<Arc<dyn Repository>> {
        Some(self)
    }

    fn sender(&self) -> Option<&str> {
        Some(self.0.reference.registry())
    }

    fn document(&self, descriptor: &Descriptor) -> Result<RawDocument, source::Error> {
        let digest = descriptor.digest;
        self.manifest(&digest.to_string(), Some(digest)).map_err(|e| Box::new(e.listed()).into())
    }

    fn blob(&self, descriptor: &Descriptor, range: Range<u64>) -> Result<Opened, source::Error> {
        check_range(descriptor, &range)?;
        let opened = body::open(&self.0, descriptor, range, Effort::Patient);
        Ok(opened.map_err(|e| Box::new(e.listed()))?)
    }

    fn blob_ahead(
        &self,
        descriptor: &Descriptor,
        range: Range<u64>,
    ) -> Result<Opened, source::Error> {
        check_range(descriptor, &range)?;
        let opened = body::open(&self.0, descriptor, range, Effort::Once);
        Ok(opened.map_err(|e| Box::new(e.listed()))?)
    }

    fn connections(&self) -> Option<&Arc<Connections>> {
        Some(&self.0.origin().observed.connections)
    }

    fn throughput(&self) -> Option<Throughput> {
        Some(self.0.origin().observed.meter.throughput())
    }

    fn is_remote(&self) -> bool {
        true
    }

    fn distrust(&self, digest: &Digest) -> bool {
        self.0.distrust(digest)
    }
}
