//! Why a mount or unmount does not work.

use std::io;
use std::path::PathBuf;

use super::device::{FUSE_DEVICE, FUSERMOUNT};
use super::holders::Holder;
use super::mountinfo::Unreadable;
use crate::hint::Hint;

/// Why a mount or unmount does not work.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the messages are the documentation")]
pub enum Error {
    #[error("{FUSE_DEVICE}: {0}")]
    Device(io::Error),
    #[error("{FUSE_DEVICE}: {cause}: its mode is {mode:04o}")]
    DeviceRefused { mode: u32, cause: io::Error },
    #[error("mounting on {path}: {cause}")]
    Mount { path: PathBuf, cause: io::Error },
    #[error(
        "mounting on {path}: {cause}: this user namespace may only mount in a mount namespace of its own (`unshare -Urm`)"
    )]
    ForeignNamespace { path: PathBuf, cause: io::Error },
    #[error("mount point {path}: {cause}")]
    MountPoint { path: PathBuf, cause: io::Error },
    #[error("mount point {path}: {cause}; `mkdir -p {path}` makes it")]
    NoMountPoint { path: PathBuf, cause: io::Error },
    #[error("mount point {0} is not a directory")]
    NotADirectory(PathBuf),
    #[error("mounting on {path}: {cause}: root may not mount here, for lack of CAP_SYS_ADMIN")]
    NoCapability { path: PathBuf, cause: io::Error },
    #[error("{path} shows {image} already")]
    Occupied { path: PathBuf, image: String },
    #[error(
        "{FUSERMOUNT} is not installed; it lets ordinary users mount (Debian: `apt install fuse3`)"
    )]
    NoFusermount,
    #[error(
        "{FUSERMOUNT} is not installed, or lies in a folder of PATH that you may not look into; it lets ordinary users mount (Debian: `apt install fuse3`)"
    )]
    FusermountHidden,
    #[error("{FUSERMOUNT} refused: {0}")]
    Fusermount(String),
    #[error(
        "letting other users in needs the line `user_allow_other` in /etc/fuse.conf when you are not root"
    )]
    AllowOther,
    #[error("{FUSERMOUNT}: {0}")]
    Exchange(io::Error),
    #[error("{0} is not a mount of ocifs")]
    NotOurs(PathBuf),
    #[error(
        "{path} is busy: {}", of_a_busy(.holders)
    )]
    Busy { path: PathBuf, holders: Vec<Holder> },
    #[error("{path} is busy: {below} is mounted below it: unmount that first")]
    MountedBelow { path: PathBuf, below: PathBuf },
    #[error("{0} shows an image already, and the process that serves it does not answer")]
    Silent(PathBuf),
    #[error("unmounting {path}: {cause}")]
    Unmount { path: PathBuf, cause: io::Error },
    #[error(transparent)]
    MountInfo(#[from] Unreadable),
}

impl Error {
    /// What helps, if anything is known to.
    pub fn hint(&self) -> Option<Hint> {
        match self {
            Error::Device(_) => Some(Hint::ProvideFuse),
            Error::DeviceRefused { .. } => Some(Hint::PermitFuse),
            Error::NoCapability { .. } => Some(Hint::PermitMounting),
            Error::AllowOther => Some(Hint::KeepOthersOut),
            Error::Occupied { .. } => Some(Hint::MountOver),
            Error::Busy { .. } | Error::MountedBelow { .. } => Some(Hint::Detach),
            _ => None,
        }
    }
}

/// What uses a busy mount, in words.
fn of_a_busy(holders: &[Holder]) -> String {
    let open: Vec<String> = holders
        .iter()
        .filter(|holder| matches!(holder, Holder::Open(_)))
        .map(Holder::to_string)
        .collect();
    match open.is_empty() {
        true => "a process has a file or its working directory there".to_owned(),
        false => open.join(", "),
    }
}
