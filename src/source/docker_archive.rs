//! The output of `docker save`, podman's and skopeo's `docker-archive`, old and new.
//!
//! Since version 25 Docker writes an OCI layout *and* the old `manifest.json`; then the layout is
//! used, because it has digests. The old form lists a config and layer files by name and has no
//! manifest at all, so one is made here: the digest of an uncompressed layer is its diff ID, which
//! the config lists; a compressed one is hashed once, when the archive is opened.

use std::collections::HashMap;
use std::io::{self, Read};
use std::ops::Range;
use std::path::Path;

use serde::Deserialize;

use super::archive::{Archive, Files, Section};
use super::layout::Layout;
use super::{Error, Opened, RawDocument, Source};
use crate::codec::{Compression, SNIFF_BYTES};
use crate::digest::{Algorithm, Digest, Hasher};
use crate::image::{Descriptor, ImageConfig, MAX_CONFIG_BYTES, MAX_MANIFEST_BYTES, media_type};
use crate::json;
use crate::reference::Reference;

/// Opens a `docker save` archive of either kind.
///
/// # Errors
/// It is neither.
pub fn open(path: &Path, spool: &Path, selector: Option<String>) -> Result<Box<dyn Source>, Error> {
    open_archive(Archive::open_file(path, spool)?, selector)
}

/// The same of an archive that is open.
pub(super) fn open_archive(
    archive: Archive,
    selector: Option<String>,
) -> Result<Box<dyn Source>, Error> {
    let has_rows = archive.has("manifest.json");
    if archive.has("oci-layout") && archive.has("index.json") {
        let layout = Layout::open(Files::Archive(archive), selector.clone())?;
        // Some writers put the full name into `manifest.json` alone.
        if !has_rows || layout.has_image() {
            return Ok(Box::new(layout));
        }
        return Ok(Box::new(DockerArchive::open(layout.into_files(), selector)?));
    }
    if !has_rows {
        let what = "not the output of `docker save`: it has no `manifest.json`";
        return Err(Error::invalid(archive.path(), what));
    }
    Ok(Box::new(DockerArchive::open(Files::Archive(archive), selector)?))
}

/// One row of `manifest.json`.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Row {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    #[serde(default)]
    layers: Option<Vec<String>>,
}

/// One image of an old-style archive.
#[derive(Debug)]
pub struct DockerArchive {
    files: Files,
    manifest: Vec<u8>,
    /// Where each digest of the manifest lies.
    blobs: HashMap<Digest, String>,
}

impl DockerArchive {
    fn open(files: Files, selector: Option<String>) -> Result<DockerArchive, Error> {
        let path = files.path().to_owned();
        let bytes = files.read("manifest.json", MAX_MANIFEST_BYTES)?;
        let rows: Vec<Row> = json::from_slice(&bytes)
            .map_err(|e| Error::invalid(&path, format!("`manifest.json`: {e}")))?;
        let row = select(rows, selector, &path)?;
        let config = files.read(&row.config, MAX_CONFIG_BYTES)?;
        let layers = row.layers.unwrap_or_default();
        let parsed = ImageConfig::parse(&config, layers.len())
            .map_err(|e| Error::invalid(&path, format!("`{}`: {e}", row.config)))?;
        let config_digest = Digest::sha256(&config);
        let mut blobs = HashMap::from([(config_digest, row.config)]);
        let mut digests: HashMap<String, Digest> = HashMap::new();
        let mut descriptors = Vec::new();
        for (name, diff_id) in layers.into_iter().zip(parsed.rootfs.diff_ids) {
            let Some(section) = files.open(&name)? else {
                return Err(Error::Missing { path, what: format!("layer `{name}`") });
            };
            let digest = match digests.get(&name) {
                Some(digest) => *digest,
                None => layer_digest(&section, diff_id.0).map_err(|e| Error::file(&path, e))?,
            };
            digests.insert(name.clone(), digest);
            descriptors.push(serde_json::json!({
                "mediaType": media_type::DOCKER_LAYER,
                "digest": digest,
                "size": section.len(),
            }));
            blobs.insert(digest, name);
        }
        let manifest = serde_json::json!({
            "schemaVersion": 2,
            "mediaType": media_type::DOCKER_MANIFEST,
            "config": {
                "mediaType": media_type::DOCKER_CONFIG,
                "digest": config_digest,
                "size": config.len(),
            },
            "layers": descriptors,
        });
        Ok(DockerArchive { files, manifest: manifest.to_string().into_bytes(), blobs })
    }
}

/// The row that a selector names: `name:tag`, or `@N` by position.
fn select(rows: Vec<Row>, selector: Option<String>, path: &Path) -> Result<Row, Error> {
    let tags = |row: &Row| row.repo_tags.clone().unwrap_or_default();
    let available: Vec<String> = rows.iter().flat_map(tags).collect();
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
            || tags(row)
                .iter()
                .any(|t| *t == wanted || (full(t).is_some() && full(t) == full(&wanted)))
    });
    match found {
        Some((_, row)) => Ok(row),
        None => Err(Error::NoSuchImage { path: path.to_owned(), wanted, available }),
    }
}

fn layer_digest(section: &Section, diff_id: Digest) -> io::Result<Digest> {
    let mut start = Vec::new();
    section.reader(0).take(SNIFF_BYTES as u64).read_to_end(&mut start)?;
    if matches!(Compression::sniff(&start), Ok(Compression::None)) {
        return Ok(diff_id);
    }
    let mut hasher = Hasher::new(Algorithm::Sha256);
    let mut reader = section.reader(0);
    let mut buffer = vec![0; 1 << 20];
    loop {
        match reader.read(&mut buffer)? {
            0 => return Ok(hasher.finish()),
            n => hasher.update(&buffer[..n]),
        }
    }
}

impl Source for DockerArchive {
    fn root(&self) -> Result<RawDocument, Error> {
        let media_type = Some(media_type::DOCKER_MANIFEST.to_owned());
        Ok(RawDocument { bytes: self.manifest.clone(), media_type, digest: None })
    }

    fn document(&self, descriptor: &Descriptor) -> Result<RawDocument, Error> {
        let what = format!("document {}", descriptor.digest);
        Err(Error::Missing { path: self.files.path().to_owned(), what })
    }

    fn blob(&self, descriptor: &Descriptor, range: Range<u64>) -> Result<Opened, Error> {
        let name = self.blobs.get(&descriptor.digest).map_or("", String::as_str);
        self.files.blob(name, descriptor, range)
    }
}
