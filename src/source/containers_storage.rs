//! What podman, buildah, skopeo and CRI-O keep (`containers-storage:`), read in place.
//!
//! ```text
//! ROOT/overlay-images/images.json               names, IDs, the top layer of each image
//! ROOT/overlay-images/ID/manifest, =BASE64      documents; other names are in base64
//! ROOT/overlay-layers/layers.json               each layer's parent, digest and size
//! ROOT/overlay-layers/LAYER.tar-split.gz        the layer's tar without the content of its files
//! ROOT/overlay/LAYER/diff/                      these files (vfs: ROOT/vfs/dir/LAYER/)
//! ```
//!
//! # Design
//!
//! No layer is stored as a tar, and two ways lead to what an image shows. The unpacked folders could be
//! read as overlayfs would, with its whiteouts, the opaque marks of two namespaces, the owners mapped
//! back, and no digest to check any of it. Or the tar is put together again (`tar_split`), which
//! gives the bytes that the diff ID in the config names: owners, times and whiteouts are those of
//! the image, whatever they became on disk, and all is verified like any other layer. So that is
//! done. The image's own manifest is of no use, as its compressed layers are gone; one is made here, of
//! uncompressed layers.
//!
//! A store may stand on others that it only reads (`additionalimagestores`): an image in it has its base
//! layers there, and its list of layers does not have them.
//!
//! Layers without such a description and those on composefs are refused. Only of the latter can the engine
//! make an archive: of the former it writes another tar than the image has, and finds that out.

use std::collections::HashMap;
use std::fmt;
use std::io::{ErrorKind, Read};
use std::marker::PhantomData;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::de::{Deserializer, IgnoredAny, SeqAccess, Visitor};
use serde::{Deserialize, de};
use serde_json::json;

use super::archive::open_regular;
use super::image::check_range;
use super::tar_split::SplitTar;
use super::{Error, Opened, RawDocument, Source};
use crate::bounded;
use crate::digest::Digest;
use crate::json::{self, Attempt};
use crate::oci::{
    Descriptor, Document, ImageConfig, MAX_CONFIG_BYTES, MAX_LAYERS, MAX_MANIFEST_BYTES, media_type,
};
use crate::reference::Reference;

/// Where root's store is.
pub(super) const USUAL_ROOT: &str = "/var/lib/containers/storage";

/// The drivers whose folders we know.
const DRIVERS: [&str; 2] = ["overlay", "vfs"];

/// Largest list of images or layers, in bytes and in rows: a hundred thousand of them, which are small.
const MAX_LIST_BYTES: u64 = 64 << 20;
const MAX_ROWS: usize = 100_000;

/// Fewest digits of an ID that count as one.
const MIN_ID_DIGITS: usize = 3;

const PULL_AGAIN: &str = "remove the image from the store and pull it again";

const DENIED: &str = "a store's files belong to its containers' users: run this as root for root's \
                      store, or within `podman unshare` for your own";

/// A row of `images.json`.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct ImageRow {
    id: String,
    #[serde(default, deserialize_with = "json::or_default")]
    digest: Option<Digest>,
    #[serde(default)]
    names: Vec<String>,
    #[serde(default)]
    layer: String,
    /// Of its documents. Those of an algorithm that is unknown here name nothing.
    #[serde(default)]
    big_data_digests: HashMap<String, Attempt<Digest>>,
}

/// A row of `layers.json`.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct LayerRow {
    id: String,
    #[serde(default)]
    parent: String,
    #[serde(default, deserialize_with = "json::or_default")]
    diff_digest: Option<Digest>,
    #[serde(default, deserialize_with = "json::or_default")]
    diff_size: Option<u64>,
    #[serde(default)]
    flags: HashMap<String, IgnoredAny>,
}

/// A layer of the image.
#[derive(Debug)]
struct Layer {
    split: PathBuf,
    folder: PathBuf,
    /// Where its bytes come from; opened by the first read.
    tar: Mutex<Option<Arc<SplitTar>>>,
}

/// An image in containers-storage.
#[derive(Debug)]
pub struct ContainersStorage {
    root: PathBuf,
    spool: PathBuf,
    manifest: Vec<u8>,
    config: (Digest, Vec<u8>),
    layers: HashMap<Digest, Layer>,
}

impl ContainersStorage {
    /// Opens the first of several stores that has the image. Layers that are not there are taken from
    /// these and from `additional` stores, as engines share base layers (`additionalimagestores`).
    /// `spool` is a folder for temporary files.
    ///
    /// # Errors
    /// There is no store, none has the image, or what was typed means several.
    pub fn open(
        roots: &[PathBuf],
        additional: &[PathBuf],
        image: &str,
        spool: PathBuf,
    ) -> Result<ContainersStorage, Error> {
        let mut failure = None;
        let stores = roots.iter().flat_map(|root| DRIVERS.map(|driver| (root, driver)));
        for (root, driver) in stores {
            let store = Store { root, driver };
            let others = roots.iter().chain(additional).filter(|other| *other != root);
            let others: Vec<Store<'_>> = others.map(|root| Store { root, driver }).collect();
            let rows = match store.images() {
                Ok(rows) => rows,
                Err(e) if e.is_not_there() => continue,
                Err(e) => {
                    failure.get_or_insert(e);
                    continue;
                }
            };
            match choose(&rows, image, root) {
                Ok(row) => return store.open(row, &others, spool),
                Err(e @ Error::Ambiguous { .. }) => return Err(e),
                Err(e) => drop(failure.get_or_insert(e)),
            }
        }
        Err(failure.unwrap_or_else(|| {
            let places: Vec<String> = roots.iter().map(|r| r.display().to_string()).collect();
            let what = format!(
                "there is no store of podman here, looked for `overlay-images` and `vfs-images` in {}; \
                 name its root: containers-storage:[overlay@ROOT]{image}",
                places.join(", ")
            );
            Error::invalid("containers-storage", what)
        }))
    }

    fn tar(&self, descriptor: &Descriptor) -> Result<Arc<SplitTar>, Error> {
        let Some(layer) = self.layers.get(&descriptor.digest) else {
            let what = format!("blob {}", descriptor.digest);
            return Err(Error::Missing { path: self.root.clone(), what });
        };
        let mut tar = layer.tar.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(tar) = &*tar {
            return Ok(Arc::clone(tar));
        }
        let opened = SplitTar::open(&layer.split, &layer.folder, &self.spool, descriptor.size);
        // The engine reads the same description, so what is wrong with it is wrong for `podman save` too.
        let opened = Arc::new(opened.map_err(|e| match e.kind() {
            ErrorKind::PermissionDenied => Error::denied_or(&layer.split, e, DENIED),
            ErrorKind::Unsupported => Error::invalid(&layer.split, e),
            _ => Error::invalid(&layer.split, format!("{e}; {PULL_AGAIN}")),
        })?);
        *tar = Some(Arc::clone(&opened));
        Ok(opened)
    }
}

/// The names of all images in the stores that can be read; images without one are left out.
pub(super) fn names(roots: &[PathBuf]) -> Vec<String> {
    let stores = roots.iter().flat_map(|root| DRIVERS.map(|driver| Store { root, driver }));
    let found = stores.flat_map(|store| match store.images() {
        Ok(rows) => rows,
        Err(e) if e.is_not_there() => Vec::new(),
        Err(e) => {
            log::info!("{}: its images can't be listed: {e}", store.root.display());
            Vec::new()
        }
    });
    found.flat_map(|row| row.names).collect()
}

/// A store of one driver.
#[derive(Clone, Copy)]
struct Store<'a> {
    root: &'a Path,
    driver: &'a str,
}

impl Store<'_> {
    fn folder(&self, kind: &str) -> PathBuf {
        self.root.join(format!("{}-{kind}", self.driver))
    }

    fn images(&self) -> Result<Vec<ImageRow>, Error> {
        list(&self.folder("images").join("images.json"))
    }

    fn open(
        &self,
        row: &ImageRow,
        others: &[Store<'_>],
        spool: PathBuf,
    ) -> Result<ContainersStorage, Error> {
        let name = row.names.first().unwrap_or(&row.id);
        let remedy = format!("write it to an archive with `podman save -o FILE {name}`");
        let documents = self.folder("images").join(&row.id);
        let manifest = read(&documents.join("manifest"), MAX_MANIFEST_BYTES)?;
        let manifest = match Document::parse(&manifest, None) {
            Ok(Document::Manifest(manifest)) => manifest,
            Ok(Document::Index(_)) => {
                let what = format!("`{name}` is a manifest list, not an image");
                return Err(Error::invalid(documents, what));
            }
            Err(e) => return Err(Error::invalid(documents.join("manifest"), e)),
        };
        let digest = manifest.config.digest;
        let config_path = documents.join(format!("={}", STANDARD.encode(digest.to_string())));
        let config = read(&config_path, MAX_CONFIG_BYTES)?;
        let layers = self.layers(row, others, &remedy)?;
        let parsed = ImageConfig::parse(&config, layers.len())
            .map_err(|e| Error::invalid(&config_path, format!("{e}; {remedy}")))?;
        let diff_ids = parsed.rootfs.diff_ids.iter().map(|diff_id| diff_id.0);
        if let Some((((_, wrong), _, _), _)) =
            layers.iter().zip(diff_ids).find(|((_, digest, _), diff_id)| digest != diff_id)
        {
            let what = format!("layer {wrong} is not the one that the config names; {PULL_AGAIN}");
            return Err(Error::invalid(self.folder("layers"), what));
        }
        let descriptors: Vec<_> = layers
            .iter()
            .map(|(_, digest, size)| {
                json!({ "mediaType": media_type::DOCKER_LAYER, "digest": digest, "size": size })
            })
            .collect();
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": media_type::DOCKER_MANIFEST,
            "config": {
                "mediaType": media_type::DOCKER_CONFIG,
                "digest": digest,
                "size": config.len(),
            },
            "layers": descriptors,
        });
        let layers = layers.into_iter().map(|((store, id), digest, _)| (digest, store.layer(&id)));
        Ok(ContainersStorage {
            root: self.root.to_owned(),
            spool,
            manifest: manifest.to_string().into_bytes(),
            config: (digest, config),
            layers: layers.collect(),
        })
    }

    fn layer(&self, id: &str) -> Layer {
        let driver = self.root.join(self.driver);
        Layer {
            split: self.folder("layers").join(format!("{id}.tar-split.gz")),
            folder: match self.driver {
                "vfs" => driver.join("dir").join(id),
                _ => driver.join(id).join("diff"),
            },
            tar: Mutex::default(),
        }
    }

    fn rows(&self) -> Result<HashMap<String, LayerRow>, Error> {
        let mut rows: Vec<LayerRow> = list(&self.folder("layers").join("layers.json"))?;
        match list(&self.folder("layers").join("volatile-layers.json")) {
            Ok(more) => rows.extend::<Vec<LayerRow>>(more),
            Err(e) if e.is_not_there() => {}
            Err(e) => return Err(e),
        }
        Ok(rows.into_iter().map(|row| (row.id.clone(), row)).collect())
    }

    /// The layers of an image, base first: the store that each is in, its ID, and digest and size of its tar.
    fn layers<'a>(
        &'a self,
        image: &ImageRow,
        others: &[Store<'a>],
        remedy: &str,
    ) -> Result<Vec<PlacedLayer<'a>>, Error> {
        let path = self.folder("layers").join("layers.json");
        let mut known = vec![(*self, self.rows()?)];
        let mut unread = others.iter();
        let mut found: Vec<PlacedLayer<'_>> = Vec::new();
        let named = |id: &str| Some(id.to_owned()).filter(|id| !id.is_empty());
        let mut next = named(&image.layer);
        while let Some(id) = next {
            let wrong = |what: &str, remedy: &str| {
                Error::invalid(&path, format!("layer {id} {what}; {remedy}"))
            };
            if found.len() >= MAX_LAYERS {
                return Err(wrong("has too many parents", PULL_AGAIN));
            }
            let (store, row) = loop {
                let has = known.iter().find_map(|(store, rows)| Some((*store, rows.get(&id)?)));
                if let Some((store, row)) = has {
                    break (store, row.clone());
                }
                // The lists of other stores are read once they are needed.
                let Some(other) = unread.next() else {
                    return Err(wrong(
                        "is not there, nor in another store that is known here",
                        PULL_AGAIN,
                    ));
                };
                match other.rows() {
                    Ok(rows) => known.push((*other, rows)),
                    // One that can't be read may have nothing to do with this image.
                    Err(e) => log::info!("looking for layer {id}: {e}"),
                }
            };
            if !is_hex(&id) {
                return Err(wrong("has a name that is no ID", PULL_AGAIN));
            }
            if row.flags.contains_key("incomplete") {
                return Err(wrong("is incomplete", PULL_AGAIN));
            }
            let (Some(digest), Some(size)) = (row.diff_digest, row.diff_size) else {
                return Err(wrong("has no digest of its tar", remedy));
            };
            // Without its description the engine makes another tar of the layer, and refuses it itself.
            if !store.layer(&id).split.is_file() {
                let what = "can't be put together again, as the store does not say how";
                return Err(wrong(what, "name the image by its registry"));
            }
            if store.root.join("overlay").join(&id).join("composefs-data").exists() {
                return Err(wrong("is on composefs, which ocifs does not read", remedy));
            }
            found.push(((store, id), digest, size));
            next = named(&row.parent);
        }
        found.reverse();
        Ok(found)
    }
}

/// A layer in the store that has it: ID, digest and size of its tar.
type PlacedLayer<'a> = ((Store<'a>, String), Digest, u64);

/// Whether a text is an ID, and so no path.
fn is_hex(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

fn read(path: &Path, limit: u64) -> Result<Vec<u8>, Error> {
    let file = open_regular(path).map_err(|e| Error::denied_or(path, e, DENIED))?;
    bounded::read_all(file, limit).map_err(|e| Error::file(path, e))
}

fn list<T: serde::de::DeserializeOwned>(path: &Path) -> Result<Vec<T>, Error> {
    let bytes = read(path, MAX_LIST_BYTES)?;
    let rows: Rows<T> = json::from_slice(&bytes).map_err(|e| Error::invalid(path, e))?;
    Ok(rows.0)
}

/// At most [`MAX_ROWS`] rows: a few bytes of JSON may take hundreds in memory.
struct Rows<T>(Vec<T>);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Rows<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Rows<T>, D::Error> {
        struct Limited<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Limited<T> {
            type Value = Rows<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Rows<T>, A::Error> {
                let mut rows = Vec::new();
                while let Some(row) = list.next_element()? {
                    if rows.len() >= MAX_ROWS {
                        let what = format!("it has more than {MAX_ROWS} rows");
                        return Err(de::Error::custom(what));
                    }
                    rows.push(row);
                }
                Ok(Rows(rows))
            }
        }
        deserializer.deserialize_seq(Limited(PhantomData))
    }
}

/// The image that a user means: by name, by ID, by digest, or by the start of an ID.
fn choose<'a>(rows: &'a [ImageRow], image: &str, root: &Path) -> Result<&'a ImageRow, Error> {
    let id = image.strip_prefix("sha256:").or(image.strip_prefix('@')).unwrap_or(image);
    // podman puts images that it has built under `localhost/`, and leaves that out.
    let texts = [image.to_owned(), format!("localhost/{image}")];
    let wanted: Vec<Reference> = texts.iter().filter_map(|text| text.parse().ok()).collect();
    let has_digest = |row: &ImageRow, digest: Digest| {
        let is_it = |of: &Attempt<Digest>| of.0.as_ref().is_ok_and(|of| *of == digest);
        let mut of_documents = row.big_data_digests.iter();
        row.digest == Some(digest)
            || of_documents.any(|(name, of)| name.starts_with("manifest") && is_it(of))
    };
    let is_named = |row: &ImageRow, wanted: &Reference| {
        let parsed = row.names.iter().filter_map(|name| name.parse::<Reference>().ok());
        let repository = |r: &Reference| (r.registry().to_owned(), r.repository().to_owned());
        let mut same = parsed.filter(|name| repository(name) == repository(wanted));
        match wanted.digest() {
            Some(digest) => same.next().is_some() && has_digest(row, digest),
            None => same.any(|name| name.tag() == wanted.tag()),
        }
    };
    let digest = image.parse::<Digest>().ok();
    let rules: [&dyn Fn(&ImageRow) -> bool; 6] = [
        &|row| row.names.iter().any(|name| name == image),
        &|row| wanted.first().is_some_and(|wanted| is_named(row, wanted)),
        &|row| wanted.get(1).is_some_and(|wanted| is_named(row, wanted)),
        &|row| row.id == id,
        &|row| digest.is_some_and(|digest| has_digest(row, digest)),
        &|row| id.len() >= MIN_ID_DIGITS && is_hex(id) && row.id.starts_with(id),
    ];
    let available = |rows: &[&ImageRow]| {
        let mut all: Vec<String> = rows
            .iter()
            .flat_map(|row| match &row.names[..] {
                [] => vec![row.id.clone()],
                names => names.to_vec(),
            })
            .collect();
        all.sort();
        all
    };
    let path = || root.to_owned();
    for rule in rules {
        let found: Vec<&ImageRow> =
            rows.iter().filter(|row| is_hex(&row.id) && rule(row)).collect();
        match found[..] {
            [] => {}
            [row] => return Ok(row),
            _ => return Err(Error::Ambiguous { path: path(), available: available(&found) }),
        }
    }
    let available = available(&rows.iter().collect::<Vec<_>>());
    Err(Error::NoSuchImage { path: path(), wanted: image.to_owned(), available })
}

impl Source for ContainersStorage {
    fn root(&self) -> Result<RawDocument, Error> {
        let media_type = Some(media_type::DOCKER_MANIFEST.to_owned());
        Ok(RawDocument { bytes: self.manifest.clone(), media_type, digest: None })
    }

    fn document(&self, descriptor: &Descriptor) -> Result<RawDocument, Error> {
        let what = format!("document {}", descriptor.digest);
        Err(Error::Missing { path: self.root.clone(), what })
    }

    fn blob(&self, descriptor: &Descriptor, range: Range<u64>) -> Result<Opened, Error> {
        check_range(descriptor, &range)?;
        let (digest, bytes) = &self.config;
        if descriptor.digest == *digest {
            return Ok(Opened::of_bytes(bytes, range));
        }
        let Range { start, end } = range;
        let tar = self.tar(descriptor)?;
        Ok(Opened { body: Box::new(tar.reader(start).take(end - start)), start, end })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_a_name_means() {
        let digest = |text: &str| Digest::sha256(text.as_bytes());
        let row = |id: &str, names: &[&str]| {
            let (id, names) = (id.to_owned(), names.iter().map(|n| n.to_string()).collect());
            let big_data_digests =
                HashMap::from([("manifest".to_owned(), Attempt(Ok(digest(&id))))]);
            ImageRow { id, digest: None, names, layer: String::new(), big_data_digests }
        };
        let rows = [
            row("aaaa1111", &["docker.io/library/debian:12", "localhost/mine:latest"]),
            row("aaaa2222", &["localhost/debian:13", "docker.io/library/mine:1"]),
            row("bbbb3333", &[]),
            row("../../etc", &["docker.io/library/evil:1"]),
        ];
        let id = |text: &str| choose(&rows, text, Path::new("/")).map(|row| row.id.clone());
        for (text, expected) in [
            ("debian:12", "aaaa1111"),
            ("docker.io/library/debian:12", "aaaa1111"),
            ("debian:13", "aaaa2222"),
            ("mine", "aaaa1111"),
            ("mine:1", "aaaa2222"),
            ("bbb", "bbbb3333"),
            ("sha256:bbbb3333", "bbbb3333"),
            ("@aaaa2222", "aaaa2222"),
            (&digest("bbbb3333").to_string(), "bbbb3333"),
            (&format!("debian@{}", digest("aaaa1111")), "aaaa1111"),
        ] {
            assert_eq!(id(text).unwrap(), expected, "{text}");
        }
        for (text, words) in [
            ("aaaa", "several images"),
            ("bb", "there is no image"),
            ("evil:1", "there is no image"),
            ("debian:14", "there is localhost/debian:13, docker.io/library/debian:12"),
            (&format!("debian@{}", digest("other")), "there is no image"),
        ] {
            let error = id(text).unwrap_err().to_string();
            assert!(error.contains(words), "{text}: {error}");
        }
    }
}
