//! The roots and sockets of other programs that keep images on this machine, and what images they have.

use std::path::PathBuf;
use std::time::Duration;

use super::{containerd, containers_storage, docker_daemon};

/// Where stores of other programs are looked for when the user does not say.
#[derive(Clone, Debug)]
pub struct LocalStores {
    /// Roots of containerd.
    pub containerd: Vec<PathBuf>,
    /// Roots of containerd from whose stores blobs are taken that an image in a registry has.
    pub content_stores: Vec<PathBuf>,
    /// Roots of containers-storage.
    pub containers_storage: Vec<PathBuf>,
    /// Sockets of Docker engines.
    pub docker_sockets: Vec<PathBuf>,
}

impl Default for LocalStores {
    fn default() -> LocalStores {
        LocalStores {
            containerd: containerd::USUAL_ROOTS.map(PathBuf::from).to_vec(),
            content_stores: containerd::USUAL_ROOTS.map(PathBuf::from).to_vec(),
            containers_storage: vec![PathBuf::from(containers_storage::USUAL_ROOT)],
            docker_sockets: docker_daemon::USUAL_SOCKETS.map(PathBuf::from).to_vec(),
        }
    }
}

/// A store whose images can be listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListedStore {
    /// containerd's, with the namespaces of its clients.
    Containerd,
    /// That of podman, buildah and CRI-O.
    ContainersStorage,
    /// A Docker engine's, behind its socket.
    DockerDaemon,
}

impl ListedStore {
    /// All of them.
    pub const ALL: [ListedStore; 3] =
        [ListedStore::Containerd, ListedStore::ContainersStorage, ListedStore::DockerDaemon];

    /// The word before the colon in names of its images.
    pub fn word(self) -> &'static str {
        match self {
            ListedStore::Containerd => "containerd",
            ListedStore::ContainersStorage => "containers-storage",
            ListedStore::DockerDaemon => "docker-daemon",
        }
    }

    /// The names of its images, as they stand behind the colon, in order; none where there is no such store or it can't
    /// be read. A socket is waited for as long as `timeout`.
    pub fn names(self, stores: &LocalStores, timeout: Duration) -> Vec<String> {
        let mut names = match self {
            ListedStore::Containerd => containerd::names(&stores.containerd),
            ListedStore::ContainersStorage => containers_storage::names(&stores.containers_storage),
            ListedStore::DockerDaemon => docker_daemon::all_names(&stores.docker_sockets, timeout),
        };
        names.sort_unstable();
        names.dedup();
        names
    }
}
