//! OCI image layouts (image-layout.md), in a folder (`oci:`) or a tar (`oci-archive:`).
//!
//! Tools disagree on what the annotation `org.opencontainers.image.ref.name` holds: a tag
//! (containerd, the spec's habit), a full name (podman), or whatever the user typed (skopeo). So
//! a selector is tried three ways: exactly, as a full name, as a tag, and must be unique: of two
//! images of one name skopeo takes the first and containerd the last, so neither is taken here. `@N`
//! is the entry at that position (from 0), and a digest also names what no entry of `index.json`
//! points to, such as an image or an attestation further down.

mod images;
mod repository;

use std::collections::HashSet;
use std::ops::Range;
use std::sync::Arc;

use serde::Deserialize;

use self::images::REF_NAME;
use super::archive::Files;
use super::{Error, Opened, RawDocument, Repository, Source};
use crate::digest::Digest;
use crate::json;
use crate::oci::{Descriptor, Entry, ImageIndex, MAX_MANIFEST_BYTES, Unusable, media_type};
use crate::reference::Reference;

/// The full name that containerd and Docker >= 25 add.
const IMAGE_NAME: &str = "io.containerd.image.name";
/// containerd's mark of a referrer, which is no image of its own.
const MANIFEST_SUBJECT: &str = "io.containerd.manifest.subject";

/// One image of an OCI layout.
#[derive(Debug)]
pub struct Layout {
    files: Files,
    selector: Option<String>,
}

#[derive(Deserialize)]
struct LayoutFile {
    #[serde(default, rename = "imageLayoutVersion")]
    version: String,
}

impl Layout {
    /// Opens a layout; `selector` as in `oci:PATH:SELECTOR`.
    ///
    /// # Errors
    /// It is no layout.
    pub fn open(files: Files, selector: Option<String>) -> Result<Layout, Error> {
        let path = files.path().to_owned();
        match files.open("oci-layout")? {
            Some(marker) => {
                let marker =
                    marker.read_all(MAX_MANIFEST_BYTES).map_err(|e| Error::file(&path, e))?;
                let marker: LayoutFile = json::from_slice(&marker)
                    .map_err(|e| Error::invalid(&path, format!("`oci-layout`: {e}")))?;
                if !marker.version.is_empty() && !marker.version.starts_with("1.") {
                    let what = format!("OCI image layout of unknown version {}", marker.version);
                    return Err(Error::invalid(path, what));
                }
            }
            // What skopeo reads as well.
            None if files.open("index.json")?.is_some() => {}
            None => {
                let what = "not an OCI image layout: it has no file `oci-layout`";
                return Err(Error::invalid(path, what));
            }
        }
        Ok(Layout { files, selector })
    }

    /// Whether the selector names an image of the layout.
    pub fn has_image(&self) -> bool {
        self.select().is_ok()
    }

    fn index(&self) -> Result<ImageIndex, Error> {
        let bytes = self.files.read("index.json", MAX_MANIFEST_BYTES)?;
        ImageIndex::parse(&bytes)
            .map_err(|e| Error::invalid(self.files.path(), format!("`index.json`: {e}")))
    }

    /// The descriptor that the selector means, or the only image; several with platforms and the
    /// same name, or none, are one multi-platform image.
    fn select(&self) -> Result<Selection, Error> {
        let path = || self.files.path().to_owned();
        let entries = self.index()?.entries.0;
        let usable = || entries.iter().filter_map(|entry| entry.as_ref().ok());
        let Some(selector) = &self.selector else {
            let is_meant =
                |d: &&Descriptor| !d.annotations.contains_key(MANIFEST_SUBJECT) && self.has(d);
            let found: Vec<Descriptor> = usable().filter(is_meant).cloned().collect();
            if found.is_empty() {
                return Err(match entries.iter().find_map(|entry| entry.as_ref().err()) {
                    Some(unusable) => Error::invalid(path(), format!("its image: {unusable}")),
                    None => Error::Empty { path: path() },
                });
            }
            return self.only(found, &entries);
        };
        // skopeo's way to name what has no name.
        let position = selector.strip_prefix('@').and_then(|n| n.parse::<usize>().ok());
        match position.and_then(|at| entries.get(at)) {
            Some(Ok(descriptor)) => return Ok(Selection::One(Box::new(descriptor.clone()))),
            Some(Err(unusable)) => return Err(self.unusable(selector, unusable)),
            None => {}
        }
        let found = find(usable().collect(), selector);
        if !found.is_empty() {
            return self.only(found, &entries);
        }
        if let Ok(digest) = selector.parse::<Digest>()
            && let Some(descriptor) = self.unlisted(digest)?
        {
            return Ok(Selection::One(Box::new(descriptor)));
        }
        let unusable = || entries.iter().filter_map(|entry| Some(&**entry.as_ref().err()?));
        let named =
            |key| unusable().find(|u| u.annotations.get(key).is_some_and(|n| n == selector));
        let all = || unusable().next().filter(|_| usable().next().is_none());
        if let Some(unusable) = named(REF_NAME).or_else(|| named(IMAGE_NAME)).or_else(all) {
            return Err(self.unusable(selector, unusable));
        }
        let available = images::images(self, usable().cloned().collect());
        let available = selectors(&available, &entries);
        Err(Error::NoSuchImage { path: path(), wanted: selector.clone(), available })
    }

    fn unusable(&self, selector: &str, unusable: &Unusable) -> Error {
        Error::invalid(self.files.path(), format!("image `{selector}`: {unusable}"))
    }

    /// The image that these entries are.
    fn only(&self, mut found: Vec<Descriptor>, entries: &[Entry]) -> Result<Selection, Error> {
        let mut seen = HashSet::new();
        found.retain(|d| seen.insert(d.digest));
        if found.len() > 1 {
            found = images::images(self, found);
        }
        let is_one = |d: &Descriptor| d.platform.is_some() && name_of(d) == name_of(&found[0]);
        match &found[..] {
            [one] => Ok(Selection::One(Box::new(one.clone()))),
            several if several.iter().all(is_one) => Ok(Selection::Platforms(found)),
            _ => Err(Error::Ambiguous {
                path: self.files.path().to_owned(),
                available: selectors(&found, entries),
            }),
        }
    }

    /// A descriptor for a document that `index.json` does not list.
    fn unlisted(&self, digest: Digest) -> Result<Option<Descriptor>, Error> {
        let Some(section) = self.files.open(&blob_path(&digest))? else { return Ok(None) };
        // What it is, it says itself.
        let (media_type, size) = (String::new(), section.len());
        Ok(Some(Descriptor { media_type, size, ..Descriptor::of_manifest(digest) }))
    }
}

enum Selection {
    One(Box<Descriptor>),
    Platforms(Vec<Descriptor>),
}

fn name_of(descriptor: &Descriptor) -> Option<&str> {
    let annotation = |key| descriptor.annotations.get(key).map(String::as_str);
    annotation(IMAGE_NAME).or_else(|| annotation(REF_NAME))
}

/// How each of several images can be selected: by name where that is enough.
fn selectors(images: &[Descriptor], entries: &[Entry]) -> Vec<String> {
    let names: Vec<Option<&str>> = images.iter().map(name_of).collect();
    let is_unique = |name| names.iter().filter(|other| **other == Some(name)).count() == 1;
    let mut found: Vec<String> = images
        .iter()
        .zip(&names)
        .map(|(image, name)| match name {
            Some(name) if is_unique(*name) => (*name).to_owned(),
            name => {
                let is_same =
                    |entry: &Entry| entry.as_ref().is_ok_and(|d| d.digest == image.digest);
                let at = entries.iter().position(is_same).unwrap_or_default();
                let name = name.map(|name| format!("`{name}`, ")).unwrap_or_default();
                format!("`@{at}` ({name}{})", image.digest)
            }
        })
        .collect();
    found.sort();
    found
}

/// The descriptors that a selector names, by the first way of reading it that names any.
fn find(descriptors: Vec<&Descriptor>, selector: &str) -> Vec<Descriptor> {
    let annotation = |d: &Descriptor, key| d.annotations.get(key).cloned();
    let full = |name: &str| name.parse::<Reference>().ok().map(|r| r.to_string());
    let wanted = full(selector);
    let same_name =
        |name: Option<String>| name.and_then(|n| full(&n)).is_some_and(|n| Some(n) == wanted);
    let tag = |name: String| match name.contains(['/', ':']) {
        true => name.parse::<Reference>().ok()?.tag().map(str::to_owned),
        false => Some(name),
    };
    let has_tag = |name: Option<String>| name.and_then(tag).is_some_and(|tag| tag == selector);
    let digest = selector.parse::<Digest>().ok();
    let rules: [&dyn Fn(&Descriptor) -> bool; 4] = [
        &|d| digest.is_some_and(|wanted| wanted == d.digest),
        &|d| annotation(d, REF_NAME).as_deref() == Some(selector),
        &|d| same_name(annotation(d, IMAGE_NAME)) || same_name(annotation(d, REF_NAME)),
        &|d| has_tag(annotation(d, REF_NAME)) || has_tag(annotation(d, IMAGE_NAME)),
    ];
    let named = |rule: &&dyn Fn(&Descriptor) -> bool| {
        let found = descriptors.iter().filter(|d| rule(d));
        let found: Vec<Descriptor> = found.map(|d| Descriptor::clone(d)).collect();
        (!found.is_empty()).then_some(found)
    };
    rules.iter().find_map(named).unwrap_or_default()
}

fn blob_path(digest: &Digest) -> String {
    format!("blobs/{}/{}", digest.algorithm().name(), digest.hex())
}

impl Source for Layout {
    fn root(&self) -> Result<RawDocument, Error> {
        match self.select()? {
            Selection::One(descriptor) => self.document(&descriptor),
            Selection::Platforms(descriptors) => {
                // A document of our own over descriptors that stand in the layout: their digests
                // are checked when one of them is chosen.
                let manifests: Vec<serde_json::Value> = descriptors
                    .iter()
                    .map(|d| {
                        let platform = d.platform.clone().unwrap_or_default();
                        serde_json::json!({
                            "mediaType": d.media_type,
                            "digest": d.digest,
                            "size": d.size,
                            "annotations": d.annotations,
                            "artifactType": d.artifact_type,
                            "platform": {
                                "os": platform.os,
                                "architecture": platform.architecture,
                                "variant": platform.variant,
                                "os.version": platform.os_version,
                                "os.features": platform.os_features,
                            },
                        })
                    })
                    .collect();
                let document = serde_json::json!({ "schemaVersion": 2, "manifests": manifests });
                Ok(RawDocument {
                    bytes: document.to_string().into_bytes(),
                    media_type: Some(media_type::OCI_INDEX.to_owned()),
                    digest: None,
                })
            }
        }
    }

    fn document(&self, descriptor: &Descriptor) -> Result<RawDocument, Error> {
        Ok(RawDocument {
            bytes: self.files.read(&blob_path(&descriptor.digest), MAX_MANIFEST_BYTES)?,
            media_type: Some(descriptor.media_type.clone()).filter(|t| !t.is_empty()),
            digest: Some(descriptor.digest),
        })
    }

    fn blob(&self, descriptor: &Descriptor, range: Range<u64>) -> Result<Opened, Error> {
        self.files.blob(&blob_path(&descriptor.digest), descriptor, range)
    }

    fn repository(self: Arc<Self>) -> Option<Arc<dyn Repository>> {
        Some(self)
    }

    fn has(&self, descriptor: &Descriptor) -> bool {
        // What is there and can't be opened is not left out: to say that there is no image would hide why.
        !matches!(self.files.open(&blob_path(&descriptor.digest)), Ok(None))
    }
}
