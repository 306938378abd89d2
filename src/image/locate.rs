//! From an image's name to the place that it is read from.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::ImageOptions;
use crate::cache::{Asked, Cache};
use crate::digest::Digest;
use crate::oci::{Document, Platform};
use crate::reference::{ImageName, StoredImage};
use crate::source::containerd::Containerd;
use crate::source::containers_storage::ContainersStorage;
use crate::source::docker_daemon::{DockerDaemon, Documents};
use crate::source::local_copies::LocalCopies;
use crate::source::registry::{Registry, Session};
use crate::source::registry_storage::RegistryStorage;
use crate::source::{self, Offline, Source, on_disk};

/// The source that a name stands for, without a network if that is wanted.
pub(super) fn open_source(
    name: &ImageName,
    cache: &Cache,
    options: &ImageOptions,
    session: &Session,
) -> Result<Arc<dyn Source>, source::Error> {
    let source = open_online(name, cache, options, session)?;
    Ok(match options.offline {
        true => Arc::new(Offline::new(source)),
        false => source,
    })
}

/// The same with a network, where the image is not on this machine.
fn open_online(
    name: &ImageName,
    cache: &Cache,
    options: &ImageOptions,
    session: &Session,
) -> Result<Arc<dyn Source>, source::Error> {
    match name {
        ImageName::Registry(reference) => {
            let registry = Registry::new(reference.clone(), &options.registry, session)?;
            let roots = &options.stores.content_stores[..];
            let roots = if options.check_access { &[] } else { roots };
            Ok(Arc::new(LocalCopies::new(Arc::new(registry), roots)))
        }
        ImageName::Local(local) => on_disk::open(local, &spool(cache, options)),
        ImageName::Stored(stored) => open_stored(stored, cache, options),
    }
}

/// A folder for temporary files.
fn spool(cache: &Cache, options: &ImageOptions) -> PathBuf {
    cache.temporary_folder().unwrap_or_else(|| options.temporary_folder.clone())
}

/// An image in a store of another program.
fn open_stored(
    stored: &StoredImage,
    cache: &Cache,
    options: &ImageOptions,
) -> Result<Arc<dyn Source>, source::Error> {
    let spool = spool(cache, options);
    Ok(match stored {
        StoredImage::Containerd { root, image } => {
            let named = root.as_deref().map(absolute).transpose()?.map(|root| vec![root]);
            let roots = named.as_ref().unwrap_or(&options.stores.containerd);
            Arc::new(Containerd::open(roots, image)?)
        }
        StoredImage::RegistryStorage { path, image } => {
            Arc::new(RegistryStorage::open(&absolute(path)?, image.clone())?)
        }
        StoredImage::ContainersStorage { root, additional, image } => {
            let named = root.as_deref().map(absolute).transpose()?.map(|root| vec![root]);
            let usual = &options.stores.containers_storage;
            let roots = named.as_ref().unwrap_or(usual);
            let additional = [&additional[..], usual].concat();
            Arc::new(ContainersStorage::open(roots, &additional, image, spool)?)
        }
        StoredImage::DockerDaemon { image } => {
            let daemon = DockerDaemon::open(
                &options.stores.docker_sockets,
                image,
                spool,
                options.read_deadline,
            )?;
            Arc::new(remembered(daemon, cache, options.platform.as_ref())?)
        }
    })
}

/// An engine's image with its documents from the cache, so that it is not taken from the engine again
/// while its layers are in the cache as well; or else with its documents put there.
fn remembered(
    daemon: DockerDaemon,
    cache: &Cache,
    platform: Option<&Platform>,
) -> Result<DockerDaemon, source::Error> {
    let key = format!("docker-daemon:{}", daemon.id());
    if let Some(root) = cache.tag(&key).and_then(|record| cache.blob(&record.digest))
        && is_final(&root, platform)
    {
        return Ok(daemon.remembering(root));
    }
    if let Some(Documents { root, others }) = daemon.documents()? {
        for document in others.iter().chain([&root]) {
            cache.put_blob(&Digest::sha256(document), document);
        }
        cache.put_tag(&key, Digest::sha256(&root), Asked::Checked);
    }
    Ok(daemon)
}

/// Whether nothing that an engine may pull under the same ID later would be shown instead: of an index
/// it lists what the engine had, and what was not wanted then may have been all.
fn is_final(root: &[u8], platform: Option<&Platform>) -> bool {
    let host = Platform::host();
    let wanted = platform.unwrap_or(&host);
    match Document::parse(root, None) {
        Ok(Document::Manifest(_)) => true,
        Ok(Document::Index(index)) => {
            let images = index.entries.usable().filter(|entry| !entry.is_typed());
            let mut listed = images.filter_map(|image| image.platform.as_ref());
            listed.any(|platform| wanted.rank(platform) == Some(0))
        }
        Err(_) => false,
    }
}

/// An absolute path, because a mount in the background leaves the current directory.
fn absolute(path: &Path) -> Result<PathBuf, source::Error> {
    std::path::absolute(path)
        .map_err(|source| source::Error::File { path: path.to_owned(), cause: source })
}
