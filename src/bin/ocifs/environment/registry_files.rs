//! The files about registries: settings of other programs, and trusted authorities.

use std::env;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use ocifs::reference::ImageName;
use ocifs::source::registry::{Aliased, ConfigFiles, HostsConfig, Roots};

use super::users::is_root;
use crate::render::errors::AnyError;
use crate::variables::{cache_home, config_home, path_in, variable};

/// What a name means by an alias, if it has one.
///
/// # Errors
/// A file of settings that can't be used.
pub(crate) fn alias(name: &ImageName) -> Result<Option<Aliased>, AnyError> {
    match name {
        ImageName::Registry(reference) => Ok(hosts_config().aliased(reference)?),
        ImageName::Local(_) | ImageName::Stored(_) => Ok(None),
    }
}

/// What this machine's files say about registries: read once for all images of a command.
pub(super) fn hosts_config() -> Arc<HostsConfig> {
    static CONFIG: OnceLock<Arc<HostsConfig>> = OnceLock::new();
    Arc::clone(CONFIG.get_or_init(|| Arc::new(HostsConfig::new(config_files()))))
}

/// Where files about registries lie, those of the user first.
fn config_files() -> ConfigFiles {
    let below = |folder: Option<PathBuf>, names: &[&str]| {
        let paths = names.iter().filter_map(|name| Some(folder.as_ref()?.join(name)));
        paths.collect::<Vec<_>>()
    };
    let paths = |names: &[&str]| names.iter().map(PathBuf::from).collect::<Vec<_>>();
    // The second is an older name of the first.
    let chosen =
        path_in("CONTAINERS_REGISTRIES_CONF").or_else(|| path_in("REGISTRIES_CONFIG_PATH"));
    ConfigFiles {
        certificates: [
            below(config_home(), &["containers/certs.d"]),
            paths(&["/etc/containers/certs.d", "/etc/docker/certs.d"]),
        ]
        .concat(),
        registries: match chosen {
            Some(path) => vec![path],
            None => [
                below(config_home(), &["containers/registries.conf"]),
                paths(&["/etc/containers/registries.conf"]),
            ]
            .concat(),
        },
        registries_drop_ins: [
            paths(&["/etc/containers/registries.conf.d"]),
            below(config_home(), &["containers/registries.conf.d"]),
        ]
        .concat(),
        // Where podman notes them.
        short_name_aliases: match is_root() {
            true => Some(PathBuf::from("/var/cache")),
            false => cache_home(),
        }
        .map(|folder| folder.join("containers/short-name-aliases.conf")),
        containerd: [
            below(config_home(), &["containerd/certs.d"]),
            paths(&["/etc/containerd/certs.d"]),
        ]
        .concat(),
        docker: [
            below(config_home(), &["docker/daemon.json"]),
            paths(&["/etc/docker/daemon.json"]),
        ]
        .concat(),
    }
}

/// Files and folders about registries that are read when one is asked, and what they lead to. There are no secrets of users
/// in them but keys of TLS.
pub(crate) fn registry_folders() -> Vec<PathBuf> {
    let files = config_files();
    let elsewhere = files.elsewhere();
    let ConfigFiles { certificates, registries, registries_drop_ins, containerd, docker, .. } =
        files;
    let lists = [certificates, registries, registries_drop_ins, containerd, docker];
    lists.into_iter().flatten().chain(elsewhere).chain(roots().places()).collect()
}

/// The folders of `$SSL_CERT_DIR`.
fn trusted_folders() -> Vec<PathBuf> {
    let folders = variable("SSL_CERT_DIR");
    let folders = folders.iter().flat_map(env::split_paths);
    let folders = folders.filter(|folder| !folder.as_os_str().is_empty());
    folders.filter_map(|folder| std::path::absolute(folder).ok()).collect()
}

/// The authorities to trust, read once: OpenSSL's variables choose others than the system's.
pub(super) fn roots() -> Arc<Roots> {
    static ROOTS: OnceLock<Arc<Roots>> = OnceLock::new();
    Arc::clone(ROOTS.get_or_init(|| Arc::new(chosen_roots())))
}

fn chosen_roots() -> Roots {
    let file = path_in("SSL_CERT_FILE");
    match file.is_some() || variable("SSL_CERT_DIR").is_some() {
        true => Roots::only(file, trusted_folders()),
        false => Roots::default(),
    }
}
