//! What reading images needs, and the containment of verbs that read them and print, or write one file.
//!
//! They have no supervisor: what is read of files of credentials was read before. A helper could not be run any
//! more, so where one is named in the user's files a verb is not contained.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use ocifs::cache::Cache;
use ocifs::image::ImageOptions;
use ocifs::reference::{ImageName, StoredImage};

use crate::args::CacheArgs;
use crate::contain::{Needs, contain};
use crate::environment;

/// Contains a process that is about to open images, and writes to no file but the cache's and at most one, which is begun.
pub(super) fn reader(
    images: &mut [(ImageName, ImageOptions)],
    cache: &Cache,
    args: &CacheArgs,
    file: Option<&Path>,
) {
    let all = images.iter().flat_map(|(_, options)| with_base(options));
    if all.into_iter().any(|options| options.registry.credentials.have_helpers()) {
        log::debug!("not contained: credential helpers may have to be run");
        return;
    }
    let mut needs = needs(images, cache, args);
    needs.write.extend(file.and_then(folder_of));
    change_each(images, |_, options| options.registry.credentials.keep_as_read());
    contain(&needs);
}

/// Changes the options of each image, and of those that they are shown without.
pub(super) fn change_each(
    images: &mut [(ImageName, ImageOptions)],
    mut change: impl FnMut(&ImageName, &mut ImageOptions),
) {
    for (name, options) in images {
        change(name, options);
        if let Some(exclusion) = &mut options.exclude {
            let base = Arc::make_mut(exclusion);
            change(&base.name, &mut base.options);
        }
    }
}

/// What reading images needs.
pub(super) fn needs(
    images: &[(ImageName, ImageOptions)],
    cache: &Cache,
    args: &CacheArgs,
) -> Needs {
    let mut needs = Needs::default();
    needs.write.extend(environment::cache_folder(args));
    if cache.temporary_folder().is_none() {
        // Where the cache can't be used, whole layers lie there.
        needs.write.extend(images.iter().map(|(_, options)| options.temporary_folder.clone()));
    }
    needs.read.extend(environment::registry_folders());
    for (name, options) in images {
        add(&mut needs, name, options);
        if let Some(exclusion) = &options.exclude {
            add(&mut needs, &exclusion.name, &exclusion.options);
        }
    }
    needs
}

/// The folder of a file that will be moved to its place; none of what is no file.
fn folder_of(file: &Path) -> Option<PathBuf> {
    let file = file.canonicalize().unwrap_or_else(|_| file.to_owned());
    let above = file.parent().filter(|above| !above.as_os_str().is_empty());
    let is_file = !file.exists() || file.is_file();
    is_file.then(|| above.unwrap_or(Path::new(".")).to_owned())
}

/// The options of an image, and of the one that it is shown without.
fn with_base(options: &ImageOptions) -> impl Iterator<Item = &ImageOptions> {
    std::iter::once(options).chain(options.exclude.as_ref().map(|base| &base.options))
}

/// What an image needs.
fn add(needs: &mut Needs, name: &ImageName, options: &ImageOptions) {
    let stores = &options.stores;
    needs.read.extend(stores.content_stores.iter().cloned());
    match name {
        ImageName::Registry(_) => {}
        ImageName::Local(local) => needs.read.push(local.path.clone()),
        ImageName::Stored(stored) => {
            needs.read.extend(stored.path().map(PathBuf::from));
            match stored {
                StoredImage::Containerd { .. } => needs.read.extend(stores.containerd.clone()),
                StoredImage::ContainersStorage { additional, .. } => {
                    needs.read.extend(stores.containers_storage.iter().chain(additional).cloned());
                }
                StoredImage::DockerDaemon { .. } => needs.engine = true,
                StoredImage::RegistryStorage { .. } => {}
            }
        }
    }
}
