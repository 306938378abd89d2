//! Who still uses a mount: what keeps its file system alive when it is not mounted here any more.
//!
//! Found in `/proc`: by the number of the device, the places in this and in other mount namespaces where the file
//! system is mounted, and the processes that have a file or a directory of it open. An overlay has a mount of its
//! own of each lower directory, which no table lists; it is recognised by the paths among its options. What this
//! user may not look at is not found.

use std::collections::HashSet;
use std::fmt;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, StatxFlags, statx};

use super::mountinfo::{Device, Row, rows, unescape};

/// One use of a mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Holder {
    /// It is mounted here, too.
    Place(PathBuf),
    /// An overlay at a place has it as a lower directory.
    Overlay(PathBuf),
    /// It is mounted at a place in the mount namespace of a process.
    Namespace(PathBuf, Process),
    /// An overlay in the mount namespace of a process has it as a lower directory.
    ForeignOverlay(PathBuf, Process),
    /// A process has a file or a directory of it open.
    Open(Process),
}

/// A process, by its number and name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// Its number.
    pub pid: u32,
    /// The name of its program.
    pub name: String,
}

impl Process {
    fn new(pid: u32) -> Process {
        let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        Process { pid, name: name.trim_end().to_owned() }
    }
}

impl fmt::Display for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.pid, self.name)
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Holder::Place(at) => write!(f, "it is also mounted at {}", at.display()),
            Holder::Overlay(at) => write!(f, "the overlay at {}", at.display()),
            Holder::Namespace(at, process) => {
                write!(
                    f,
                    "it is mounted at {} in the mount namespace of process {process}",
                    at.display()
                )
            }
            Holder::ForeignOverlay(at, process) => {
                write!(
                    f,
                    "the overlay at {} in the mount namespace of process {process}",
                    at.display()
                )
            }
            Holder::Open(process) => {
                write!(f, "process {process} has a file or a directory of it open")
            }
        }
    }
}

/// All uses of the file system of a device that is or was mounted at `places`, as far as this user may see them. A
/// mount at one of the places in this namespace is not one of them.
pub fn holders(device: (u32, u32), places: &[PathBuf]) -> Vec<Holder> {
    let mut found = Vec::new();
    for row in rows("self").unwrap_or_default() {
        let at = || row.mount_point.clone();
        if row.device == device && !places.contains(&row.mount_point) {
            found.push(Holder::Place(at()));
        } else if is_overlay_over(&row, places) {
            found.push(Holder::Overlay(at()));
        }
    }
    let own = namespace("self");
    let mut seen: HashSet<PathBuf> = own.into_iter().collect();
    let pids = pids();
    for pid in &pids {
        let Some(namespace) = namespace(&pid.to_string()) else { continue };
        if !seen.insert(namespace) {
            continue;
        }
        for row in rows(&pid.to_string()).unwrap_or_default() {
            if row.device == device {
                found.push(Holder::Namespace(row.mount_point, Process::new(*pid)));
            } else if is_overlay_over(&row, places) {
                found.push(Holder::ForeignOverlay(row.mount_point, Process::new(*pid)));
            }
        }
    }
    let own_program = std::fs::read_link("/proc/self/exe").ok();
    let is_ours = |pid: &u32| {
        own_program.is_some() && std::fs::read_link(format!("/proc/{pid}/exe")).ok() == own_program
    };
    let users = pids.into_iter().filter(|pid| !is_ours(pid) && has_open(*pid, device));
    found.extend(users.map(|pid| Holder::Open(Process::new(pid))));
    found
}

/// The numbers of all processes.
pub(super) fn pids() -> Vec<u32> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// What tells the mount namespace of a process from others.
pub(super) fn namespace(process: &str) -> Option<PathBuf> {
    std::fs::read_link(format!("/proc/{process}/ns/mnt")).ok()
}

/// Whether a process has something on a device open, or a directory there as its own. No file system is asked.
fn has_open(pid: u32, device: Device) -> bool {
    let process = Path::new("/proc").join(pid.to_string());
    let is_there = |link: &Path| {
        let flags = AtFlags::STATX_DONT_SYNC | AtFlags::NO_AUTOMOUNT;
        statx(CWD, link, flags, StatxFlags::empty())
            .is_ok_and(|stat| (stat.stx_dev_major, stat.stx_dev_minor) == device)
    };
    let links = ["cwd", "root", "exe"].map(|name| process.join(name));
    let files = std::fs::read_dir(process.join("fd")).into_iter().flatten().flatten();
    let maps = std::fs::read_dir(process.join("map_files")).into_iter().flatten().flatten();
    let mut all = links.into_iter().chain(files.chain(maps).map(|entry| entry.path()));
    all.any(|link| is_there(&link))
}

/// Whether a row is an overlay with a lower directory at or below one of these places.
pub(super) fn is_overlay_over(row: &Row, places: &[PathBuf]) -> bool {
    row.kind == "overlay"
        && lower_directories(&row.options).any(|lower| {
            places.iter().any(|place| match lower.is_absolute() {
                true => lower.starts_with(place),
                // The directory that it starts from is not recorded.
                false => place.ends_with(&lower),
            })
        })
}

/// The lower directories of an overlay: `lowerdir=A:B::C`, or since Linux 6.8 `lowerdir+=A` for each.
fn lower_directories(options: &str) -> impl Iterator<Item = PathBuf> + '_ {
    let values = options.split(',').filter_map(|option| {
        option
            .strip_prefix("lowerdir=")
            .or_else(|| option.strip_prefix("lowerdir+="))
            .or_else(|| option.strip_prefix("datadir+="))
    });
    values
        .flat_map(|value| split_colons(&unescape(value.as_bytes())))
        .map(|path| PathBuf::from(std::ffi::OsString::from_vec(path)))
}

/// Splits at colons that have no backslash before them, which is dropped.
fn split_colons(value: &[u8]) -> Vec<Vec<u8>> {
    let mut parts = vec![Vec::new()];
    let mut bytes = value.iter();
    while let Some(byte) = bytes.next() {
        match byte {
            b':' => parts.push(Vec::new()),
            b'\\' => parts.last_mut().into_iter().for_each(|part| part.extend(bytes.next())),
            byte => parts.last_mut().into_iter().for_each(|part| part.push(*byte)),
        }
    }
    parts.retain(|part| !part.is_empty());
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lower_directories_of_overlays() {
        let all = |options: &str| {
            lower_directories(options).map(|path| path.display().to_string()).collect::<Vec<_>>()
        };
        assert_eq!(all("rw,lowerdir=/a:/b c::/d,upperdir=/u,workdir=/w"), ["/a", "/b c", "/d"]);
        assert_eq!(all(r"ro,lowerdir+=/a\040b,lowerdir+=/c,datadir+=/d"), ["/a b", "/c", "/d"]);
        assert_eq!(all(r"ro,lowerdir=/a\134:b:/c"), ["/a:b", "/c"]);
        assert_eq!(all("rw,upperdir=/a"), [""; 0]);
    }
}
