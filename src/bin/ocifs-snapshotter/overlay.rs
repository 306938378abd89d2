//! Which mounts a snapshot is, as containerd's own overlayfs snapshotter has them; directories, and what they take.

use std::collections::HashSet;
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use crate::idmap::IdMap;
use crate::snapshots::{Kind, Usage};

/// `st_blocks` counts these.
const BLOCK_BYTES: u64 = 512;

/// What mount(2) is told, by way of containerd.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mount {
    pub(crate) kind: &'static str,
    pub(crate) source: String,
    pub(crate) options: Vec<String>,
}

/// The directories of snapshots, by number.
#[derive(Clone, Debug)]
pub(crate) struct Directories {
    root: PathBuf,
    /// Options of overlayfs that this kernel wants.
    options: Vec<String>,
}

impl Directories {
    pub(crate) fn new(root: &Path) -> Directories {
        // Without `index=off` a directory that was below another overlay before is refused.
        let has_index = Path::new("/sys/module/overlay/parameters/index").exists();
        let options = has_index.then(|| "index=off".to_owned());
        Directories { root: root.join("snapshots"), options: options.into_iter().collect() }
    }

    /// What is written.
    pub(crate) fn upper(&self, number: u64) -> PathBuf {
        self.of(number).join("fs")
    }

    fn work(&self, number: u64) -> PathBuf {
        self.of(number).join("work")
    }

    fn of(&self, number: u64) -> PathBuf {
        self.root.join(number.to_string())
    }

    /// Makes one. What may be there was left by a process that died.
    pub(crate) fn make(&self, number: u64, kind: Kind) -> io::Result<()> {
        self.remove(number)?;
        fs::create_dir_all(&self.root)?;
        fs::set_permissions(&self.root, Permissions::from_mode(0o700))?;
        let mut folders = vec![(self.of(number), 0o700), (self.upper(number), 0o755)];
        if kind == Kind::Active {
            folders.push((self.work(number), 0o711));
        }
        for (folder, mode) in folders {
            fs::create_dir(&folder)?;
            fs::set_permissions(&folder, Permissions::from_mode(mode))?;
        }
        Ok(())
    }

    /// Gives the root of one to who owns the root below it, as that one is called outside of the container: overlayfs shows
    /// the root of the upper directory.
    pub(crate) fn own_as(
        &self,
        number: u64,
        below: Option<&PathBuf>,
        map: Option<&IdMap>,
    ) -> io::Result<()> {
        let (user, group) = match below {
            Some(below) => {
                let below = fs::metadata(below)?;
                (below.uid(), below.gid())
            }
            None if map.is_none() => return Ok(()),
            None => (0, 0),
        };
        let (user, group) = match map {
            Some(map) => map.outside(user, group).map_err(io::Error::other)?,
            None => (user, group),
        };
        chown(self.upper(number), Some(user), Some(group))
    }

    pub(crate) fn remove(&self, number: u64) -> io::Result<()> {
        match fs::remove_dir_all(self.of(number)) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            result => result,
        }
    }

    /// The numbers of those that are there.
    pub(crate) fn numbers(&self) -> io::Result<Vec<u64>> {
        numbers_in(&self.root)
    }

    /// The mounts of a snapshot on top of these directories, the nearest first.
    pub(crate) fn mounts(&self, number: u64, kind: Kind, below: &[PathBuf]) -> Vec<Mount> {
        let bind = |source: &Path, access: &str| {
            let options = vec![access.to_owned(), "rbind".to_owned()];
            vec![Mount { kind: "bind", source: text(source), options }]
        };
        match (kind, below) {
            (Kind::Active, []) => return bind(&self.upper(number), "rw"),
            (_, []) => return bind(&self.upper(number), "ro"),
            (Kind::View | Kind::Committed, [only]) => return bind(only, "ro"),
            _ => {}
        }
        let mut options = self.options.clone();
        if kind == Kind::Active {
            options.push(format!("workdir={}", text(&self.work(number))));
            options.push(format!("upperdir={}", text(&self.upper(number))));
        }
        let below: Vec<String> = below.iter().map(|path| text(path)).collect();
        options.push(format!("lowerdir={}", below.join(":")));
        vec![Mount { kind: "overlay", source: "overlay".to_owned(), options }]
    }
}

/// The numbers of the snapshots that have something in a folder.
pub(crate) fn numbers_in(folder: &Path) -> io::Result<Vec<u64>> {
    let entries = match fs::read_dir(folder) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut numbers = Vec::new();
    for entry in entries {
        let name = entry?.file_name();
        numbers.extend(name.to_str().and_then(|name| name.parse::<u64>().ok()));
    }
    Ok(numbers)
}

/// The root has been found to be UTF-8, and all paths are below it.
fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// What a directory takes, hard links once.
pub(crate) fn usage(top: &Path) -> io::Result<Usage> {
    let (mut usage, mut linked, mut folders) = (Usage::default(), HashSet::new(), Vec::new());
    let mut count = |path: &Path| -> io::Result<bool> {
        let found = fs::symlink_metadata(path)?;
        if found.is_dir() || found.nlink() == 1 || linked.insert((found.dev(), found.ino())) {
            usage.bytes += found.blocks() * BLOCK_BYTES;
            usage.inodes += 1;
        }
        Ok(found.is_dir())
    };
    count(top)?;
    folders.push(top.to_owned());
    while let Some(folder) = folders.pop() {
        let entries = match fs::read_dir(&folder) {
            // A container that runs may remove it.
            Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
            entries => entries?,
        };
        for entry in entries {
            let path = entry?.path();
            match count(&path) {
                Ok(true) => folders.push(path),
                Ok(false) => {}
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                Err(e) => return Err(e),
            }
        }
    }
    Ok(usage)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn mounts(kind: Kind, below: &[&str]) -> Vec<(String, String, String)> {
        let root = PathBuf::from("/r/snapshots");
        let directories = Directories { root, options: vec!["index=off".to_owned()] };
        let below: Vec<PathBuf> = below.iter().map(PathBuf::from).collect();
        let mounts = directories.mounts(7, kind, &below).into_iter();
        mounts.map(|m| (m.kind.to_owned(), m.source, m.options.join(","))).collect()
    }

    /// The table is what containerd 1.6.20 answers.
    #[test]
    fn as_the_overlayfs_snapshotter_of_containerd() {
        for (kind, below, expected) in [
            (Kind::Active, &[][..], ("bind", "/r/snapshots/7/fs", "rw,rbind")),
            (Kind::View, &[], ("bind", "/r/snapshots/7/fs", "ro,rbind")),
            (Kind::View, &["/a"], ("bind", "/a", "ro,rbind")),
            (Kind::View, &["/a", "/b"], ("overlay", "overlay", "index=off,lowerdir=/a:/b")),
            (
                Kind::Active,
                &["/a", "/b"],
                (
                    "overlay",
                    "overlay",
                    "index=off,workdir=/r/snapshots/7/work,upperdir=/r/snapshots/7/fs,lowerdir=/a:/b",
                ),
            ),
        ] {
            let (kind_, source, options) = expected;
            let expected = (kind_.to_owned(), source.to_owned(), options.to_owned());
            assert_eq!(mounts(kind, below), [expected], "{kind:?} {below:?}");
        }
    }

    #[test]
    fn directories_come_and_go() {
        let folder = tempfile::tempdir().unwrap();
        let directories = Directories::new(folder.path());
        assert!(directories.numbers().unwrap().is_empty());
        directories.make(1, Kind::Active).unwrap();
        directories.make(2, Kind::View).unwrap();
        fs::write(directories.upper(1).join("left"), "x").unwrap();
        directories.make(1, Kind::Active).unwrap();
        assert!(!directories.upper(1).join("left").exists());
        assert!(directories.work(1).exists() && !directories.work(2).exists());
        let mut numbers = directories.numbers().unwrap();
        numbers.sort_unstable();
        assert_eq!(numbers, [1, 2]);
        directories.remove(1).unwrap();
        directories.remove(1).unwrap();
        assert_eq!(directories.numbers().unwrap(), [2]);
    }

    #[test]
    fn hard_links_take_room_once() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("d")).unwrap();
        fs::write(folder.path().join("d/a"), vec![1; 100_000]).unwrap();
        fs::hard_link(folder.path().join("d/a"), folder.path().join("b")).unwrap();
        let usage = usage(folder.path()).unwrap();
        assert_eq!(usage.inodes, 3);
        assert!((100_000..200_000).contains(&usage.bytes), "{usage:?}");
    }
}
