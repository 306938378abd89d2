//! The roots and sockets of other programs that keep images on this machine.

use std::path::PathBuf;

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
