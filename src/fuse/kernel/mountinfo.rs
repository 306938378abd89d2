//! The table of mounts, `/proc/PID/mountinfo` (proc(5)). Reading it touches nothing that is mounted.

use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::device::FS_TYPE;
use super::erofs_source;
use super::overlay_source;

/// The table can't be read: `/proc` is not there.
#[derive(Debug, thiserror::Error)]
#[error("/proc/self/mountinfo: {0}")]
pub struct Unreadable(io::Error);

/// Major and minor number of a file system's device.
pub(super) type Device = (u32, u32);

/// A line of the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Row {
    /// The number of the mount, which may be given to another once it is gone.
    pub(super) id: u64,
    pub(super) device: Device,
    /// What of the file system is shown: of namespace files it is their name.
    pub(super) root: String,
    pub(super) mount_point: PathBuf,
    pub(super) kind: String,
    pub(super) source: String,
    /// Options of the file system, separated by commas.
    pub(super) options: String,
}

impl Row {
    /// `36 35 98:0 /root /mount/point opts... - type source superopts`.
    fn parse(line: &[u8]) -> Option<Row> {
        let fields: Vec<&[u8]> = line.split(|b| *b == b' ').collect();
        let dash = fields.iter().position(|field| *field == b"-")?;
        let [kind, source, ref rest @ ..] = fields[dash + 1..] else { return None };
        let (major, minor) = std::str::from_utf8(fields.get(2)?).ok()?.split_once(':')?;
        let text = |field: &[u8]| String::from_utf8_lossy(&unescape(field)).into_owned();
        Some(Row {
            id: std::str::from_utf8(fields.first()?).ok()?.parse().ok()?,
            device: (major.parse().ok()?, minor.parse().ok()?),
            root: text(fields.get(3)?),
            mount_point: PathBuf::from(OsString::from_vec(unescape(fields.get(4)?))),
            kind: text(kind),
            source: text(source),
            // Still escaped, as the values of options may be escaped in their own way.
            options: rest
                .first()
                .map_or(String::new(), |o| String::from_utf8_lossy(o).into_owned()),
        })
    }

    /// The mount of ocifs that this is, if it is one.
    pub(super) fn mounted(&self) -> Option<Mounted> {
        let mut options = self.options.split(',');
        let mut mounted = Mounted {
            id: self.id,
            mount_point: self.mount_point.clone(),
            source: self.source.clone(),
            connection: self.device.1,
            user: options.find_map(|option| option.strip_prefix("user_id=")?.parse().ok()),
            served_by: None,
            is_writable: false,
            device: self.device,
        };
        if self.kind == FS_TYPE {
            return Some(mounted);
        }
        if self.kind == overlay_source::FS_TYPE {
            let (connection, pid, source) = overlay_source::parse(&self.source)?;
            let source = source.to_owned();
            (mounted.connection, mounted.served_by, mounted.source) =
                (connection, Some(pid), source);
            (mounted.is_writable, mounted.user) = (true, Some(0));
            return Some(mounted);
        }
        let origin = erofs_source::parse_source(&self.source)?;
        if self.kind != erofs_source::FS_TYPE {
            return None;
        }
        // Its own device number says nothing. Only root can make one.
        mounted.connection = origin.connection;
        mounted.served_by = Some(origin.pid);
        mounted.user = Some(0);
        mounted.source = origin.source.to_owned();
        Some(mounted)
    }
}

/// One mount, as the kernel lists it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Mounted {
    /// The kernel's number of the mount, in this mount namespace.
    pub id: u64,
    /// Where.
    #[serde(with = "path_bytes")]
    pub mount_point: PathBuf,
    /// The image's reference.
    pub source: String,
    /// The kernel's number of the connection: the minor device number.
    pub connection: u32,
    /// Who mounted it.
    pub user: Option<u32>,
    /// The process that serves it, if the kernel has another file system in front of that: names and attributes to itself
    /// ([`crate::fuse::erofs_mount`]), or an overlay.
    pub served_by: Option<u32>,
    /// Whether it is an overlay that can be written.
    pub is_writable: bool,
    /// Major and minor number of the device that its files are on.
    pub device: (u32, u32),
}

/// A path as bytes, since it need not be text.
mod path_bytes {
    use std::ffi::OsString;
    use std::os::unix::ffi::{OsStrExt, OsStringExt};
    use std::path::{Path, PathBuf};

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<S: Serializer>(path: &Path, to: S) -> Result<S::Ok, S::Error> {
        path.as_os_str().as_bytes().serialize(to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<PathBuf, D::Error> {
        Vec::deserialize(from).map(|bytes| PathBuf::from(OsString::from_vec(bytes)))
    }
}

/// All mounts of ocifs, oldest first.
///
/// # Errors
/// `/proc` is not there.
pub fn mounts() -> Result<Vec<Mounted>, Unreadable> {
    Ok(rows("self")?.iter().filter_map(Row::mounted).collect())
}

/// The mount at a place, if it is one of ocifs and nothing has been mounted over it.
///
/// # Errors
/// `/proc` is not there.
pub fn uppermost(mount_point: &Path) -> Result<Option<Mounted>, Unreadable> {
    let last = rows("self")?.into_iter().rfind(|row| row.mount_point == mount_point);
    Ok(last.and_then(|row| row.mounted()))
}

/// The table as a process sees it, oldest first.
pub(super) fn rows(process: &str) -> Result<Vec<Row>, Unreadable> {
    let text = std::fs::read(format!("/proc/{process}/mountinfo")).map_err(Unreadable)?;
    Ok(text.split(|b| *b == b'\n').filter_map(Row::parse).collect())
}

/// Octal escapes of space, tab, newline and backslash.
pub(super) fn unescape(field: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, after)) = rest.split_first() {
        let code = after.get(..3).filter(|_| *first == b'\\');
        let code = code.and_then(|digits| std::str::from_utf8(digits).ok());
        match code.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                out.push(byte);
                rest = &after[3..];
            }
            None => {
                out.push(*first);
                rest = after;
            }
        }
    }
    out
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn mounted(line: &str) -> Option<Mounted> {
        Row::parse(line.as_bytes()).unwrap().mounted()
    }

    #[test]
    fn mountinfo_lines() {
        let line = r"93 29 0:52 / /mnt/a\040b ro,nosuid,nodev shared:5 - fuse.ocifs docker.io/library/debian:12 ro,user_id=0";
        let expected = Mounted {
            id: 93,
            mount_point: "/mnt/a b".into(),
            source: "docker.io/library/debian:12".into(),
            connection: 52,
            user: Some(0),
            served_by: None,
            is_writable: false,
            device: (0, 52),
        };
        let kept = serde_json::to_vec(&expected).unwrap();
        assert_eq!(serde_json::from_slice::<Mounted>(&kept).unwrap(), expected);
        assert_eq!(mounted(line), Some(expected));
        assert_eq!(mounted("25 1 0:20 / /proc rw - proc proc rw"), None);
        assert_eq!(Row::parse(b""), None);

        let line =
            "45 27 0:41 / /mnt/b ro - erofs /proc/self/fd/7/ocifs-52-7/docker.io/debian:12 ro,acl";
        let erofs = mounted(line).unwrap();
        assert_eq!((erofs.connection, erofs.source.as_str()), (52, "docker.io/debian:12"));
        assert_eq!((erofs.served_by, erofs.device), (Some(7), (0, 41)));
        let line = "45 27 0:42 / /mnt/c rw,nosuid - overlay ocifs-52-7/docker.io/debian:12 rw,lowerdir=/tmp/image";
        let overlay = mounted(line).unwrap();
        assert_eq!((overlay.connection, overlay.source.as_str()), (52, "docker.io/debian:12"));
        assert_eq!((overlay.served_by, overlay.is_writable), (Some(7), true));
        assert_eq!(mounted("45 27 0:42 / /mnt/c rw - overlay overlay rw,lowerdir=a"), None);
        for other in ["/dev/loop0", "/proc/self/fd/7/image", "/proc/self/fd/7/ocifs-x/image"] {
            assert_eq!(mounted(&format!("45 27 0:41 / /mnt/b ro - erofs {other} ro")), None);
        }
    }
}
