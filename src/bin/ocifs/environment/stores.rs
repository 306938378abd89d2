//! Where the stores of other programs are, as those programs would find them.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use ocifs::reference::{ImageName, StoredImage};
use ocifs::source::LocalStores;
use ocifs::source::containerd::CONTENT_FOLDER;
use serde::Deserialize;

use super::users::is_root;
use crate::args::ContentStore;
use crate::render::errors::AnyError;
use crate::variables::{config_home, data_home, home, variable};

/// The part of `storage.conf` (containers-storage.conf(5)) that says where things are.
#[derive(Debug, Default, Deserialize)]
struct StorageConf {
    #[serde(default)]
    storage: Storage,
}

#[derive(Debug, Default, Deserialize)]
struct Storage {
    graphroot: Option<String>,
    imagestore: Option<String>,
    rootless_storage_path: Option<String>,
    #[serde(default)]
    options: StorageOptions,
}

#[derive(Debug, Default, Deserialize)]
struct StorageOptions {
    #[serde(default)]
    additionalimagestores: Vec<String>,
}

/// The usual places, and those that the user's settings name.
///
/// # Errors
/// The image is in a store whose settings can't be read.
pub(super) fn locate(
    name: &ImageName,
    content_stores: &[ContentStore],
    configured_stores: Option<&[PathBuf]>,
) -> Result<LocalStores, AnyError> {
    let mut places = LocalStores::default();
    let is_root = is_root();
    if !is_root {
        places.containerd.splice(..0, own_containerd());
    }
    let stored = match name {
        ImageName::Stored(stored) => stored,
        ImageName::Registry(_) => {
            places.content_stores = match (content_stores, configured_stores) {
                ([], None) => places.containerd.clone(),
                ([], Some(roots)) => absolute(roots)?,
                (named, _) => named_stores(named)?,
            };
            return Ok(places);
        }
        ImageName::Local(_) => return Ok(places),
    };
    match stored {
        StoredImage::ContainersStorage { root: None, .. } => {
            places.containers_storage = containers_storage(is_root)?;
        }
        // They may have base layers of what is in the store that is named; if not, they do not matter.
        StoredImage::ContainersStorage { root: Some(_), .. } => {
            places.containers_storage = containers_storage(is_root).unwrap_or_default();
        }
        StoredImage::DockerDaemon { .. } => places.docker_sockets = docker_sockets(is_root)?,
        _ => {}
    }
    Ok(places)
}

/// The roots of a user's own containerd, alone, under Docker and under k3s.
fn own_containerd() -> impl Iterator<Item = PathBuf> {
    let data = ["containerd", "docker/containerd/daemon"].map(|name| Some(data_home()?.join(name)));
    let k3s = home().map(|home| home.join(".rancher/k3s/agent/containerd"));
    data.into_iter().chain([k3s]).flatten()
}

/// The stores that flags name.
///
/// # Errors
/// There is none at such a place.
fn named_stores(named: &[ContentStore]) -> Result<Vec<PathBuf>, AnyError> {
    let mut roots = Vec::new();
    for store in named {
        let ContentStore::Root(root) = store else { continue };
        let root = std::path::absolute(root).map_err(|e| format!("--content-store: {e}"))?;
        let content = root.join(CONTENT_FOLDER);
        fs::metadata(&content)
            .map_err(|e| format!("--content-store: {}: {e}", content.display()))?;
        roots.push(root);
    }
    Ok(roots)
}

/// The stores of the settings, which may be for several machines.
///
/// # Errors
/// A path is relative.
fn absolute(roots: &[PathBuf]) -> Result<Vec<PathBuf>, AnyError> {
    match roots.iter().find(|root| !root.is_absolute()) {
        Some(root) => Err(format!("content-stores: `{}` is not absolute", root.display()).into()),
        None => Ok(roots.to_vec()),
    }
}

/// The files that say where the stores of podman are, the first of which counts. There are no secrets in them.
pub(crate) fn storage_files() -> Vec<PathBuf> {
    let user = || config_home().map(|folder| folder.join("containers/storage.conf"));
    let files = [
        variable("CONTAINERS_STORAGE_CONF"),
        if is_root() { None } else { user() },
        Some(PathBuf::from("/etc/containers/storage.conf")),
        Some(PathBuf::from("/usr/share/containers/storage.conf")),
    ];
    files.into_iter().flatten().collect()
}

fn containers_storage(is_root: bool) -> Result<Vec<PathBuf>, AnyError> {
    let mut roots = Vec::new();
    for path in storage_files() {
        let Some(StorageConf { storage }) = storage_conf(&path)? else { continue };
        // The system's own setting is for root.
        let is_ours = is_root || !path.starts_with("/etc") && !path.starts_with("/usr");
        let own = match is_ours {
            true => storage.graphroot,
            false => storage.rootless_storage_path,
        };
        let all = own.into_iter().chain(storage.imagestore);
        let all = all.chain(storage.options.additionalimagestores);
        // Those with variables in them are for podman to know.
        roots.extend(all.filter(|root| root.starts_with('/') && !root.contains('$')));
        break;
    }
    let usual = match is_root {
        true => LocalStores::default().containers_storage.first().cloned(),
        false => data_home().map(|folder| folder.join("containers/storage")),
    };
    let mut roots: Vec<PathBuf> = roots.into_iter().map(PathBuf::from).collect();
    roots.extend(usual.filter(|usual| !roots.contains(usual)).into_iter().collect::<Vec<_>>());
    Ok(roots)
}

fn storage_conf(path: &Path) -> Result<Option<StorageConf>, AnyError> {
    match fs::read_to_string(path) {
        Ok(text) => {
            let conf = toml::from_str(&text);
            let conf = conf.map_err(|e| format!("{}: {}", path.display(), e.message()))?;
            Ok(Some(conf))
        }
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            Ok(None)
        }
        Err(e) => Err(format!("{}: {e}", path.display()).into()),
    }
}

fn docker_sockets(is_root: bool) -> Result<Vec<PathBuf>, AnyError> {
    if let Some(host) = variable("DOCKER_HOST") {
        let text = host.to_string_lossy().into_owned();
        return match text.strip_prefix("unix://") {
            Some(path) if path.starts_with('/') => Ok(vec![PathBuf::from(path)]),
            _ => {
                let what = "only engines on this machine can be asked, by `unix:///PATH`";
                Err(format!("DOCKER_HOST is `{text}`: {what}").into())
            }
        };
    }
    let runtime = variable("XDG_RUNTIME_DIR").map(|folder| folder.join("docker.sock"));
    let own = [
        runtime,
        home().map(|home| home.join(".docker/run/docker.sock")),
        home().map(|home| home.join(".docker/desktop/docker.sock")),
    ];
    let mut sockets = LocalStores::default().docker_sockets;
    // A user's own engine is tried before the system's, and root's after it.
    let at = if is_root { sockets.len() } else { 0 };
    sockets.splice(at..at, own.into_iter().flatten());
    Ok(sockets)
}
