//! The mount that a prefetcher goes over.

use std::ffi::OsString;
use std::path::PathBuf;

/// A mount to go over.
#[derive(Clone, Debug)]
pub struct Target {
    /// Where it is.
    pub mount_point: PathBuf,
    /// The minor number of its device: over FUSE, the connection.
    pub device_minor: u32,
    /// Over `fuse::erofs_mount`, its devices: there requests tell only of ranges of contents, of many files each,
    /// and what the prefetcher does may need none.
    pub devices: Option<DeviceFolder>,
}

/// Where the devices of a mount are, as `0`, `1` ...
#[derive(Clone, Debug)]
pub struct DeviceFolder {
    /// The folder, for other processes.
    pub path: PathBuf,
    /// The minor number of its device: the connection.
    pub device_minor: u32,
}

impl Target {
    /// Its arguments of a program that is started.
    pub(super) fn words(&self) -> Vec<OsString> {
        let mut words = vec![self.device_minor.to_string().into(), self.mount_point.clone().into()];
        if let Some(devices) = &self.devices {
            words.extend([devices.device_minor.to_string().into(), devices.path.clone().into()]);
        }
        words
    }

    /// The same, read: `None` if they are something else.
    pub fn parse(words: impl IntoIterator<Item = OsString>) -> Option<Target> {
        let mut words = words.into_iter();
        let device_minor = words.next()?.to_str()?.parse().ok()?;
        let mount_point = words.next()?.into();
        let devices = match words.next() {
            None => None,
            Some(minor) => {
                let device_minor = minor.to_str()?.parse().ok()?;
                let path = words.next()?.into();
                Some(DeviceFolder { path, device_minor })
            }
        };
        words.next().is_none().then_some(Target { mount_point, device_minor, devices })
    }
}
