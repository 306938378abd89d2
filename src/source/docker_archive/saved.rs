//! One image by a config and layer files: what `manifest.json` lists.
//!
//! There is no manifest of the OCI's at all, so one is made here: the digest of an uncompressed layer is its
//! diff ID, which the config lists; a compressed one is hashed once, when the archive is opened.

use std::collections::HashMap;
use std::io::{self, Read};
use std::ops::Range;
use std::path::Path;

use serde::Deserialize;
use serde_json::Value;

use crate::codec::{Compression, SNIFF_BYTES};
use crate::digest::{Algorithm, Digest, Hasher};
use crate::json;
use crate::oci::{Descriptor, ImageConfig, MAX_CONFIG_BYTES, MAX_MANIFEST_BYTES, media_type};
use crate::reference::Reference;
use crate::source::archive::{Files, Section};
use crate::source::image::check_range;
use crate::source::{Error, Opened, RawDocument};

/// One row of `manifest.json`.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Row {
    config: String,
    #[serde(default)]
    repo_tags: Vec<String>,
    #[serde(default)]
    layers: Vec<String>,
}

/// Where the bytes of a blob are.
#[derive(Debug)]
pub(super) enum Blob {
    /// In the file of that name.
    File(String),
    /// Made here.
    Made(Vec<u8>),
}

/// One image of an old-style archive.
#[derive(Debug)]
pub(super) struct SavedImage {
    files: Files,
    manifest: Vec<u8>,
    /// Where each digest of the manifest lies.
    blobs: HashMap<Digest, Blob>,
}

impl SavedImage {
    pub(super) fn open(files: Files, selector: Option<&str>) -> Result<SavedImage, Error> {
        let path = files.path().to_owned();
        let row = select(rows(&files)?, selector, &path)?;
        let missing = |what: String| Error::Missing { path: path.clone(), what };
        let config = files
            .open_named(&row.config)?
            .ok_or_else(|| missing(format!("config `{}`", row.config)))?
            .read_all(MAX_CONFIG_BYTES)
            .map_err(|e| Error::file(path.join(&row.config), e))?;
        let parsed = ImageConfig::parse(&config, row.layers.len())
            .map_err(|e| Error::invalid(&path, format!("`{}`: {e}", row.config)))?;
        let mut layers: Vec<(Digest, u64, String)> = Vec::new();
        let mut digests: HashMap<String, Digest> = HashMap::new();
        for (name, diff_id) in row.layers.into_iter().zip(parsed.rootfs.diff_ids) {
            let section = files.open_named(&name)?;
            let section = section.ok_or_else(|| missing(format!("layer `{name}`")))?;
            let digest = match digests.get(&name) {
                Some(digest) => *digest,
                None => layer_digest(&section, diff_id.0).map_err(|e| Error::file(&path, e))?,
            };
            digests.insert(name.clone(), digest);
            layers.push((digest, section.len(), name));
        }
        let config = (Digest::sha256(&config), config.len() as u64, Blob::File(row.config));
        Ok(SavedImage::new(files, config, layers))
    }

    /// An image of a config and of layers, base first; each with digest and size.
    pub(super) fn new(
        files: Files,
        (config_digest, config_size, config): (Digest, u64, Blob),
        layers: Vec<(Digest, u64, String)>,
    ) -> SavedImage {
        let descriptors: Vec<Value> = layers
            .iter()
            .map(|(digest, size, _)| {
                serde_json::json!({ "mediaType": media_type::DOCKER_LAYER, "digest": digest, "size": size })
            })
            .collect();
        let manifest = serde_json::json!({
            "schemaVersion": 2,
            "mediaType": media_type::DOCKER_MANIFEST,
            "config": {
                "mediaType": media_type::DOCKER_CONFIG,
                "digest": config_digest,
                "size": config_size,
            },
            "layers": descriptors,
        });
        let mut blobs = HashMap::from([(config_digest, config)]);
        blobs.extend(layers.into_iter().map(|(digest, _, name)| (digest, Blob::File(name))));
        SavedImage { files, manifest: manifest.to_string().into_bytes(), blobs }
    }

    /// The manifest that is made for the image.
    pub(super) fn root(&self) -> RawDocument {
        let media_type = Some(media_type::DOCKER_MANIFEST.to_owned());
        RawDocument { bytes: self.manifest.clone(), media_type, digest: None }
    }

    /// Whether it has this layer or config.
    pub(super) fn has(&self, blob: &Digest) -> bool {
        self.blobs.contains_key(blob)
    }

    /// The bytes of a layer, or of the config.
    pub(super) fn blob(&self, descriptor: &Descriptor, range: Range<u64>) -> Result<Opened, Error> {
        check_range(descriptor, &range)?;
        let missing = || {
            let what = format!("blob {}", descriptor.digest);
            Error::Missing { path: self.files.path().to_owned(), what }
        };
        let name = match self.blobs.get(&descriptor.digest).ok_or_else(missing)? {
            Blob::File(name) => name,
            Blob::Made(bytes) => return Ok(Opened::of_bytes(bytes, range)),
        };
        let section = self.files.open_named(name)?.ok_or_else(missing)?;
        Ok(section.opened(descriptor, range))
    }

    /// What names that manifest.
    pub(super) fn descriptor(&self) -> Descriptor {
        let (media_type, size) =
            (media_type::DOCKER_MANIFEST.to_owned(), self.manifest.len() as u64);
        Descriptor { media_type, size, ..Descriptor::of_manifest(Digest::sha256(&self.manifest)) }
    }
}

/// The names of an archive's images, as they are written there.
pub(super) fn names(files: &Files) -> Result<Vec<String>, Error> {
    Ok(rows(files)?.into_iter().flat_map(|row| row.repo_tags).collect())
}

fn rows(files: &Files) -> Result<Vec<Row>, Error> {
    let bytes = files.read("manifest.json", MAX_MANIFEST_BYTES)?;
    json::from_slice(&bytes)
        .map_err(|e| Error::invalid(files.path(), format!("`manifest.json`: {e}")))
}

/// The row that a selector names: `name:tag`, or `@N` by position.
fn select(rows: Vec<Row>, selector: Option<&str>, path: &Path) -> Result<Row, Error> {
    let available: Vec<String> = rows.iter().flat_map(|row| row.repo_tags.clone()).collect();
    let Some(wanted) = selector else {
        let mut rows = rows.into_iter();
        return match (rows.next(), rows.next()) {
            (Some(row), None) => Ok(row),
            (None, _) => Err(Error::Empty { path: path.to_owned() }),
            (Some(_), Some(_)) => Err(Error::Ambiguous { path: path.to_owned(), available }),
        };
    };
    let full = |name: &str| name.parse::<Reference>().ok().map(|r| r.to_string());
    let position = wanted.strip_prefix('@').and_then(|n| n.parse::<usize>().ok());
    let found = rows.into_iter().enumerate().find(|(at, row)| {
        position == Some(*at)
            || row
                .repo_tags
                .iter()
                .any(|t| t == wanted || (full(t).is_some() && full(t) == full(wanted)))
    });
    match found {
        Some((_, row)) => Ok(row),
        None => {
            let (path, wanted) = (path.to_owned(), wanted.to_owned());
            Err(Error::NoSuchImage { path, wanted, available })
        }
    }
}

fn layer_digest(section: &Section, diff_id: Digest) -> io::Result<Digest> {
    match is_compressed(section)? {
        false => Ok(diff_id),
        true => hash(section.reader(0)),
    }
}

pub(super) fn is_compressed(section: &Section) -> io::Result<bool> {
    let mut start = Vec::new();
    section.reader(0).take(SNIFF_BYTES as u64).read_to_end(&mut start)?;
    Ok(!matches!(Compression::sniff(&start), Ok(Compression::None)))
}

pub(super) fn hash(mut reader: impl Read) -> io::Result<Digest> {
    let mut hasher = Hasher::new(Algorithm::Sha256);
    let mut buffer = vec![0; 1 << 20];
    loop {
        match reader.read(&mut buffer)? {
            0 => return Ok(hasher.finish()),
            n => hasher.update(&buffer[..n]),
        }
    }
}
