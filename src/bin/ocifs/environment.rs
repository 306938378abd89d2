//! What lies around the user: settings, credentials, the cache, the stores of other programs, limits.

mod cache;
mod credentials;
mod limits;
mod namespace;
mod registries;
mod registry_files;
mod settings;
mod sockets;
mod stores;
mod users;

use std::env;
use std::sync::{Arc, OnceLock};

use ocifs::image::{Exclusion, ImageOptions};
use ocifs::reference::ImageName;
use ocifs::source::registry::{self, Aliased};

use crate::args::{ArtifactForm, ImageArgs, RequiredProof};
use crate::render::errors::AnyError;
pub(crate) use cache::{cache, cache_folder};
pub(crate) use credentials::{Logins, credentials, is_read_once};
use limits::open_files;
pub(crate) use namespace::enter_mount_namespace;
use registries::registry_options;
pub(crate) use registry_files::{alias, registry_folders};
pub(crate) use settings::Settings;
pub(crate) use sockets::{query_status, status_socket, status_sockets};
pub(crate) use stores::storage_files;
pub(crate) use users::user_name;

/// An image by the name that the user's aliases give it, and everything that opening it needs.
///
/// # Errors
/// A file of settings or credentials that can't be used.
pub(crate) fn image(
    name: &ImageName,
    args: &ImageArgs,
    settings: &Settings,
) -> Result<(ImageName, ImageOptions), AnyError> {
    let name = match alias(name)? {
        Some(Aliased { name, reference, path }) => {
            log::info!("`{name}` means {reference}, as {} says", path.display());
            ImageName::Registry(reference)
        }
        None => name.clone(),
    };
    if let ImageName::Local(local) = &name
        && local.is_bare()
        && !local.has_archive_name()
    {
        let path = name.to_string();
        let word = path.strip_prefix("./").unwrap_or(&path);
        log::warn!(
            "`{word}` is read as the path `{path}`; for the image of a registry write its name in full"
        );
    }
    let mut options = image_options(&name, args, settings)?;
    if let Some(base) = &args.exclude_base {
        let of_base = ImageArgs { exclude_base: None, lowest_layers: None, ..args.clone() };
        let (name, mut base) = image(base, &of_base, settings)?;
        // A digest that others claim could hide a file.
        (base.prove, options.prove) = (true, true);
        options.exclude = Some(Arc::new(Exclusion { name, options: base, root: OnceLock::new() }));
    }
    Ok((name, options))
}

fn image_options(
    name: &ImageName,
    args: &ImageArgs,
    settings: &Settings,
) -> Result<ImageOptions, AnyError> {
    let check_access = args.check_access || settings.check_access;
    if check_access && args.offline {
        return Err("offline no registry can be asked, as check-access demands".into());
    }
    let registry = match name {
        ImageName::Registry(name) if !args.offline => registry_options(name, args)?,
        _ => registry::RegistryOptions::default(),
    };
    let required = settings.required_proof(args)?;
    Ok(ImageOptions {
        platform: args.platform.clone(),
        artifacts: ArtifactForm::view(args.shown_as),
        lowest_layers: args.lowest_layers,
        offline: args.offline,
        prove: required == RequiredProof::Full,
        headers: required == RequiredProof::Transport,
        check_access,
        is_exempt: args.plain_http || !args.tls_verify,
        trust_referrers: args.trust_referrers || settings.trusts_referrers(name),
        registry,
        stores: stores::locate(name, &args.content_store, settings.content_stores.as_deref())?,
        read_deadline: args.timeout,
        max_layer_bytes: args.max_layer_size,
        codec: args.max_zstd_window,
        max_metadata_bytes: args.max_metadata_size,
        open_files: open_files(),
        temporary_folder: env::temp_dir(),
        ..ImageOptions::default()
    })
}
