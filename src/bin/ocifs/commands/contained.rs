//! What reading images needs, and the containment of verbs that read them and print, or write one file.
//!
//! They have no supervisor: what is read of files of credentials was read before. Where a helper is named in the user's
//! files, another process runs it ([`Attendant`]).

use std::path::{Path, PathBuf};
use std::sync::Arc;

use ocifs::cache::Cache;
use ocifs::image::ImageOptions;
use ocifs::reference::{ImageName, StoredImage};
use ocifs::source::{blob_links, store_links};

use super::attendant::Attendant;
use crate::args::{CacheArgs, ImageArgs};
use crate::contain::{Needs, contain};
use crate::environment::{self, is_read_once};
use crate::render::errors::AnyError;

/// What becomes of the content of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outlet<'a> {
    /// It is printed, or written to one file, which is begun.
    One(Option<&'a Path>),
    /// Files are made, at this place.
    Files(&'a Path),
}

/// Contains a process that is about to open images, and writes to no file but the cache's and those of the outlet.
///
/// # Errors
/// A helper is named, and the process that would run it can't be started.
pub(super) fn reader(
    images: &mut [(ImageName, ImageOptions)],
    cache: &Cache,
    args: &ImageArgs,
    outlet: Outlet<'_>,
) -> Result<(), AnyError> {
    let all = images.iter().flat_map(|(_, options)| with_base(options));
    let have_helpers = all.into_iter().any(|options| options.registry.credentials.have_helpers());
    if have_helpers && args.authfile.iter().any(|path| is_read_once(path)) {
        log::debug!("not contained: what runs helpers can't read the same pipe of --authfile");
        return Ok(());
    }
    let attendant = have_helpers.then(|| Attendant::start(args)).transpose();
    let attendant = attendant.map_err(|e| format!("starting what runs credential helpers: {e}"))?;
    reader_with(attendant.as_ref(), images, cache, args, outlet);
    Ok(())
}

/// The same with an attendant, or none.
pub(super) fn reader_with(
    attendant: Option<&Attendant>,
    images: &mut [(ImageName, ImageOptions)],
    cache: &Cache,
    args: &ImageArgs,
    outlet: Outlet<'_>,
) {
    let mut needs = needs(images, cache, &args.cache_args);
    match outlet {
        Outlet::One(file) => needs.write.extend(file.and_then(folder_of)),
        Outlet::Files(place) => needs.make.push(match place.is_dir() {
            true => place.to_owned(),
            false => above(place).to_owned(),
        }),
    }
    change_each(images, |name, options| {
        let credentials = &mut options.registry.credentials;
        match attendant {
            Some(attendant) => credentials.be_kept_by(attendant.keeper(name)),
            None => credentials.keep_as_read(),
        }
    });
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
    let is_file = !file.exists() || file.is_file();
    is_file.then(|| above(&file).to_owned())
}

/// The folder that a path is in.
fn above(path: &Path) -> &Path {
    let above = path.parent().filter(|above| !above.as_os_str().is_empty());
    above.unwrap_or(Path::new("."))
}

/// The options of an image, and of the one that it is shown without.
fn with_base(options: &ImageOptions) -> impl Iterator<Item = &ImageOptions> {
    std::iter::once(options).chain(options.exclude.as_ref().map(|base| &base.options))
}

/// What an image needs.
fn add(needs: &mut Needs, name: &ImageName, options: &ImageOptions) {
    let stores = &options.stores;
    needs.read.extend(stores.content_stores.iter().cloned());
    needs.read.extend(stores.content_stores.iter().flat_map(|root| store_links(root)));
    match name {
        ImageName::Registry(_) => {}
        ImageName::Local(local) => {
            needs.read.push(local.path.clone());
            needs.read.extend(blob_links(&local.path));
        }
        ImageName::Stored(stored) => {
            needs.read.extend(stored.path().into_iter().flat_map(store_links));
            needs.read.extend(stored.path().map(PathBuf::from));
            match stored {
                StoredImage::Containerd { .. } => {
                    needs.read.extend(stores.containerd.iter().flat_map(|root| store_links(root)));
                    needs.read.extend(stores.containerd.clone());
                }
                StoredImage::ContainersStorage { additional, .. } => {
                    needs.read.extend(environment::storage_files());
                    needs.read.extend(stores.containers_storage.iter().chain(additional).cloned());
                }
                StoredImage::DockerDaemon { .. } => needs.engine = true,
                StoredImage::RegistryStorage { .. } => {}
            }
        }
    }
}
