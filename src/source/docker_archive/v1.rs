//! What `docker save` wrote before version 1.10: images that are chains of layers with IDs.
//!
//! ```text
//! repositories        {"team/app": {"v1": "ab12…"}}       names; not there for an image without one
//! ab12…/json          {"id": "ab12…", "parent": "cd34…", "created": …, "config": {…}}
//! ab12…/layer.tar
//! ```
//!
//! There are no digests: an ID is a random number. So the layers are hashed when the archive is opened, and
//! a config is made of these diff IDs and of what the `json` of the uppermost layer says, which is
//! what Docker 1.10 itself did when it met such an image. What is made is the same each time, so that
//! the cache knows the image again.

use std::collections::{HashMap, HashSet};
use std::fs;

use serde::Deserialize;
use serde_json::{Value, json};

use super::saved::{Blob, SavedImage, hash, is_compressed};
use crate::digest::Digest;
use crate::json::{self, Text};
use crate::oci::{MAX_LAYERS, MAX_MANIFEST_BYTES};
use crate::reference::Reference;
use crate::source::Error;
use crate::source::archive::Files;

/// Length of an ID in hexadecimal digits.
const ID_DIGITS: usize = 64;

/// IDs that are looked at for one that has no name.
const MAX_IDS: usize = MAX_LAYERS;

/// Largest `json` of a layer, in bytes. Most have one or two thousand.
const MAX_JSON_BYTES: u64 = 1 << 20;

/// A layer's `json`. What is of another kind than it should be counts as absent.
#[derive(Default, Deserialize)]
#[serde(default)]
struct LayerJson {
    #[serde(deserialize_with = "json::or_default")]
    parent: Text,
    #[serde(deserialize_with = "json::or_default")]
    architecture: Text,
    #[serde(deserialize_with = "json::or_default")]
    os: Text,
    #[serde(deserialize_with = "json::or_default")]
    created: Value,
    #[serde(deserialize_with = "json::or_default")]
    author: Value,
    #[serde(deserialize_with = "json::or_default")]
    config: Value,
}

impl LayerJson {
    fn parent(&self) -> Option<String> {
        Some(self.parent.0.clone()).filter(|id| is_id(id))
    }
}

/// Opens the image that a selector names, by a name or the start of its ID.
pub(super) fn open(files: Files, selector: Option<&str>) -> Result<SavedImage, Error> {
    let id = select(&files, selector)?;
    let path = files.path().to_owned();
    let top = layer(&files, &id)?;
    let mut chain = vec![id.clone()];
    let mut parent = top.parent();
    while let Some(id) = parent {
        if chain.len() >= MAX_LAYERS || chain.contains(&id) {
            return Err(Error::invalid(path, format!("layer {id} has too many parents")));
        }
        parent = layer(&files, &id)?.parent();
        chain.push(id);
    }
    chain.reverse();
    let mut layers = Vec::new();
    for id in chain {
        let name = format!("{id}/layer.tar");
        let Some(section) = files.open_named(&name)? else {
            return Err(Error::Missing { path, what: format!("layer `{name}`") });
        };
        let failed = |e| Error::file(&path, e);
        if is_compressed(&section).map_err(failed)? {
            let what = format!("`{name}` is compressed, which no Docker of that age wrote");
            return Err(Error::invalid(path, what));
        }
        layers.push((hash(section.reader(0)).map_err(failed)?, section.len(), name));
    }
    let diff_ids: Vec<Digest> = layers.iter().map(|(digest, ..)| *digest).collect();
    let or = |text: Text, usual: &str| match text.0.is_empty() {
        true => usual.to_owned(),
        false => text.0,
    };
    let config = json!({
        "architecture": or(top.architecture, "amd64"),
        "os": or(top.os, "linux"),
        "created": top.created,
        "author": top.author,
        "config": top.config,
        "rootfs": { "type": "layers", "diff_ids": diff_ids },
    });
    let config = config.to_string().into_bytes();
    let config = (Digest::sha256(&config), config.len() as u64, Blob::Made(config));
    Ok(SavedImage::new(files, config, layers))
}

/// IDs of the images of an archive that are no other one's parent.
pub(super) fn images(files: &Files) -> Vec<String> {
    let mut ids: Vec<String> = match files {
        Files::Archive(archive) => {
            let ids = archive.names().filter_map(|name| name.strip_suffix("/json"));
            ids.filter(|id| is_id(id)).take(MAX_IDS).map(str::to_owned).collect()
        }
        Files::Folder(folder) => {
            let entries = fs::read_dir(folder).into_iter().flatten().flatten().take(MAX_IDS);
            let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
            names.filter(|name| is_id(name)).collect()
        }
    };
    ids.sort();
    let parents = ids.iter().filter_map(|id| layer(files, id).ok()?.parent());
    let parents: HashSet<String> = parents.collect();
    ids.retain(|id| !parents.contains(id) && layer(files, id).is_ok());
    ids
}

fn is_id(text: &str) -> bool {
    text.len() == ID_DIGITS && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// What a layer's `json` says.
fn layer(files: &Files, id: &str) -> Result<LayerJson, Error> {
    let name = format!("{id}/json");
    let missing = || Error::Missing { path: files.path().to_owned(), what: format!("`{name}`") };
    let section = files.open_named(&name)?.ok_or_else(missing)?;
    let wrong = |e: &dyn std::fmt::Display| Error::invalid(files.path(), format!("`{name}`: {e}"));
    let bytes = section.read_all(MAX_JSON_BYTES).map_err(|e| wrong(&e))?;
    json::from_slice(&bytes).map_err(|e| wrong(&e))
}

/// The names of an archive's images.
pub(super) fn names(files: &Files) -> Result<Vec<String>, Error> {
    Ok(named(files)?.into_iter().map(|(name, _)| name).collect())
}

/// The names of an archive's images in order, each with an ID.
fn named(files: &Files) -> Result<Vec<(String, String)>, Error> {
    let mut named: Vec<(String, String)> = Vec::new();
    if files.open("repositories")?.is_some() {
        let bytes = files.read("repositories", MAX_MANIFEST_BYTES)?;
        let repositories: HashMap<String, HashMap<String, String>> = json::from_slice(&bytes)
            .map_err(|e| Error::invalid(files.path(), format!("`repositories`: {e}")))?;
        for (repository, tags) in repositories {
            let rows = tags.into_iter().filter(|(_, id)| is_id(id));
            named.extend(rows.map(|(tag, id)| (format!("{repository}:{tag}"), id)));
        }
    }
    named.sort();
    Ok(named)
}

/// The ID of the image that a selector names.
fn select(files: &Files, selector: Option<&str>) -> Result<String, Error> {
    let path = || files.path().to_owned();
    let named = named(files)?;
    let mut ids: Vec<&str> = named.iter().map(|(_, id)| id.as_str()).collect();
    let unnamed = if ids.is_empty() { images(files) } else { Vec::new() };
    ids.extend(unnamed.iter().map(String::as_str));
    ids.sort_unstable();
    ids.dedup();
    let mut available: Vec<String> = named.iter().map(|(name, _)| name.clone()).collect();
    available.extend(unnamed.iter().cloned());
    let Some(wanted) = selector else {
        return match ids[..] {
            [] => Err(Error::Empty { path: path() }),
            [id] => Ok(id.to_owned()),
            _ => Err(Error::Ambiguous { path: path(), available }),
        };
    };
    let full = |name: &str| name.parse::<Reference>().ok().map(|r| r.to_string());
    let by_name = named
        .iter()
        .find(|(name, _)| *name == wanted || (full(name).is_some() && full(name) == full(wanted)));
    let by_id = || ids.iter().find(|id| wanted.len() >= 3 && id.starts_with(wanted)).copied();
    match by_name.map(|(_, id)| id.as_str()).or_else(by_id) {
        Some(id) => Ok(id.to_owned()),
        None => Err(Error::NoSuchImage { path: path(), wanted: wanted.to_owned(), available }),
    }
}
