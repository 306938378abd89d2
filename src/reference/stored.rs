//! Images in the stores of other programs: the words for them ([`STORES`]), what stands behind each, and what it
//! means.

use std::fmt;
use std::path::PathBuf;

use super::error::ParseError;
use super::registry::{Reference, check_path, split_selectors};

/// An image in a store of another program on this machine.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum StoredImage {
    /// `containerd:[ROOT//][NAMESPACE/]IMAGE`: containerd's content store.
    Containerd {
        /// Its folder, if it is not one of the usual ones.
        root: Option<PathBuf>,
        /// The image as the user named it. Whether it begins with a namespace, the store knows.
        image: String,
    },
    /// `containers-storage:[[DRIVER@ROOT[:DRIVER.imagestore=ROOT…]]]IMAGE`: what podman, buildah and CRI-O
    /// keep.
    ContainersStorage {
        /// Its folder, if it is not the usual one.
        root: Option<PathBuf>,
        /// Further stores in which its base layers may be.
        additional: Vec<PathBuf>,
        /// A name, an image ID or the start of one.
        image: String,
    },
    /// `docker-daemon:IMAGE`: an engine, asked over its socket.
    DockerDaemon {
        /// A name or an image ID, of the letters of a reference.
        image: String,
    },
    /// `registry-storage:PATH//REPOSITORY[:TAG][@DIGEST]`: the folder of a registry.
    RegistryStorage {
        /// The folder.
        path: PathBuf,
        /// The image. Its registry is empty.
        image: Reference,
    },
}

impl StoredImage {
    /// The folder that the user named.
    pub fn path(&self) -> Option<&std::path::Path> {
        match self {
            StoredImage::Containerd { root, .. } | StoredImage::ContainersStorage { root, .. } => {
                root.as_deref()
            }
            StoredImage::DockerDaemon { .. } => None,
            StoredImage::RegistryStorage { path, .. } => Some(path),
        }
    }

    /// The image without the store.
    pub(super) fn image(&self) -> String {
        match self {
            StoredImage::Containerd { image, .. }
            | StoredImage::ContainersStorage { image, .. }
            | StoredImage::DockerDaemon { image } => image.clone(),
            StoredImage::RegistryStorage { image, .. } => {
                image.to_string().trim_start_matches('/').to_owned()
            }
        }
    }
}

/// How images of a store are named.
#[derive(Clone, Copy)]
pub(super) struct Store {
    /// The word before the colon.
    pub(super) word: &'static str,
    /// How a name is written, with the word.
    pub(super) form: &'static str,
    /// Reads what stands behind the colon; nothing for what is not of the form.
    pub(super) parse: fn(&str) -> Result<Option<StoredImage>, ParseError>,
}

/// All stores, in the order in which they are shown.
pub(super) const STORES: [Store; 4] = [
    Store { word: "containerd", form: "containerd:[ROOT//][NAMESPACE/]IMAGE", parse: containerd },
    Store {
        word: "containers-storage",
        form: "containers-storage:[[overlay@ROOT]]IMAGE",
        parse: containers_storage,
    },
    Store { word: "docker-daemon", form: "docker-daemon:IMAGE", parse: docker_daemon },
    Store {
        word: "registry-storage",
        form: "registry-storage:DIR//NAME[:TAG]",
        parse: registry_storage,
    },
];

/// Whether a text may be the name of an image in a store: anything that can be typed.
fn is_image_text(text: &str) -> bool {
    !text.is_empty() && text.len() <= 1024 && text.bytes().all(|b| b.is_ascii_graphic())
}

/// `[ROOT//][NAMESPACE/]IMAGE`.
fn containerd(rest: &str) -> Result<Option<StoredImage>, ParseError> {
    let (root, image) = match rest.rsplit_once("//") {
        Some((root, image)) => (Some(root), image),
        None => (None, rest),
    };
    if root == Some("") || !is_image_text(image) {
        return Ok(None);
    }
    let image = image.to_owned();
    Ok(Some(StoredImage::Containerd { root: root.map(PathBuf::from), image }))
}

/// `[[overlay@ROOT]]IMAGE`.
fn containers_storage(rest: &str) -> Result<Option<StoredImage>, ParseError> {
    let (store, image) = match rest.strip_prefix('[').map(|rest| rest.split_once(']')) {
        Some(None) => return Ok(None),
        Some(Some((store, image))) => (Some(store), image),
        None => (None, rest),
    };
    // The folder of running containers does not matter, nor do other options.
    let store = store.map(without_driver);
    let root = store.map(|store| store.split(['+', ':']).next().unwrap_or_default());
    let options = store.and_then(|store| store.split_once(':')).map_or("", |(_, options)| options);
    let additional = options.split(',').filter_map(|option| {
        let (name, path) = option.split_once('=')?;
        let name = name.rsplit_once('.').map_or(name, |(_, name)| name);
        let is_store = matches!(name, "imagestore" | "additionalimagestore");
        (is_store && path.starts_with('/')).then(|| PathBuf::from(path))
    });
    if root == Some("") || !is_image_text(image) || image.starts_with("//") {
        return Ok(None);
    }
    Ok(Some(StoredImage::ContainersStorage {
        root: root.map(PathBuf::from),
        additional: additional.collect(),
        image: image.to_owned(),
    }))
}

/// What stands behind the driver, which is found in the store itself.
fn without_driver(store: &str) -> &str {
    match store.split_once('@') {
        Some((driver, root)) if driver.bytes().all(|b| b.is_ascii_lowercase()) => root,
        _ => store,
    }
}

/// A reference, or `sha256:` and an ID.
fn docker_daemon(rest: &str) -> Result<Option<StoredImage>, ParseError> {
    if rest.is_empty() || rest.starts_with("//") {
        return Ok(None);
    }
    let id = rest.strip_prefix("sha256:").unwrap_or(rest);
    let is_hex = id.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    if is_hex && (id.len() == 64 || (id.len() < 64 && id.len() != rest.len() && !id.is_empty())) {
        return Ok(Some(StoredImage::DockerDaemon { image: rest.to_owned() }));
    }
    let image = rest.parse::<Reference>()?.to_string();
    Ok(Some(StoredImage::DockerDaemon { image }))
}

/// `PATH//REPOSITORY[:TAG][@DIGEST]`.
fn registry_storage(rest: &str) -> Result<Option<StoredImage>, ParseError> {
    let parts = rest.rsplit_once("//");
    let Some((path, image)) = parts.filter(|(path, image)| !path.is_empty() && !image.is_empty())
    else {
        return Ok(None);
    };
    let (repository, tag, digest) = split_selectors(image)?;
    check_path(image, repository)?;
    let image = Reference::bare(repository, tag, digest);
    Ok(Some(StoredImage::RegistryStorage { path: PathBuf::from(path), image }))
}

impl fmt::Display for StoredImage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let image = self.image();
        match self {
            StoredImage::Containerd { root: None, .. } => write!(f, "containerd:{image}"),
            StoredImage::Containerd { root: Some(root), .. } => {
                write!(f, "containerd:{}//{image}", root.display())
            }
            StoredImage::ContainersStorage { root: None, .. } => {
                write!(f, "containers-storage:{image}")
            }
            StoredImage::ContainersStorage { root: Some(root), additional, .. } => {
                let root = root.display().to_string();
                let driver = if without_driver(&root) == root { "" } else { "overlay@" };
                write!(f, "containers-storage:[{driver}{root}")?;
                for (at, store) in additional.iter().enumerate() {
                    let before = if at == 0 { ':' } else { ',' };
                    write!(f, "{before}overlay.imagestore={}", store.display())?;
                }
                write!(f, "]{image}")
            }
            StoredImage::DockerDaemon { .. } => write!(f, "docker-daemon:{image}"),
            StoredImage::RegistryStorage { path, .. } => {
                write!(f, "registry-storage:{}//{image}", path.display())
            }
        }
    }
}
