//! What can happen to the folder of the cache: to which of its files, what, when, and while what is done.
//!
//! The cache can only help. So with a registry that is in order every operation succeeds, whatever has become
//! of the cache; and what is still wrong in it afterwards is found by its own check, and removed.

use std::fs::{self, File, OpenOptions, Permissions};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt, lchown, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use ocifs::cache::{Cache, Limit};
use rustix::fs::{CWD, FileType, Mode, OFlags, mknodat};
use rustix::thread::{CapabilitySet, capabilities, set_capabilities};

use super::campaign::{Edge as Campaign, Tally, mix};
use super::operations::{Failure, OPERATIONS, Operation, User, damaged, until};
use super::subject::subject;
use crate::cache_limits::Tmpfs;
use crate::fixture::files_below;
use crate::support::registry::{Referrers, Registry};
use crate::users::NOBODY;

/// Folders of the cache; the last is all of it.
const KINDS: [&str; 9] =
    ["spans", "streams", "layers", "diffs", "blobs", "refs", "partial", "tmp", ""];

/// Enough for the image three times.
const SIZE: &str = "size=24m,nr_inodes=2000";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Damage {
    // Of files.
    Flipped,
    Cut,
    Longer,
    Emptied,
    Zeroed,
    Swapped,
    Removed,
    MadeFolders,
    MadeSymlinks,
    MadeFifos,
    GivenAway,
    Unreadable,
    CutInPlace,
    OverwrittenInPlace,
    // Of folders.
    FolderRemoved,
    FolderUnwritable,
    FolderUnreadable,
    FolderMadeFile,
    FolderOpenToAll,
    // Of the disk.
    Full,
    NoInodes,
    ReadOnly,
}

use Damage::*;

const DAMAGES: [Damage; 22] = [
    Flipped,
    Cut,
    Longer,
    Emptied,
    Zeroed,
    Swapped,
    Removed,
    MadeFolders,
    MadeSymlinks,
    MadeFifos,
    GivenAway,
    Unreadable,
    CutInPlace,
    OverwrittenInPlace,
    FolderRemoved,
    FolderUnwritable,
    FolderUnreadable,
    FolderMadeFile,
    FolderOpenToAll,
    Full,
    NoInodes,
    ReadOnly,
];

/// When it happens: before the image is opened by this user, while it is open, and after it was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum When {
    Before,
    Open,
    Read,
}

const WHEN: [When; 3] = [When::Before, When::Open, When::Read];

#[derive(Clone, Copy, Debug)]
struct Case {
    kind: &'static str,
    damage: Damage,
    when: When,
    operation: Operation,
}

impl Case {
    fn of(mut number: usize) -> Case {
        let mut digit = |base: usize| {
            let digit = number % base;
            number /= base;
            digit
        };
        Case {
            kind: KINDS[digit(KINDS.len())],
            damage: DAMAGES[digit(DAMAGES.len())],
            when: WHEN[digit(WHEN.len())],
            operation: OPERATIONS[digit(OPERATIONS.len())],
        }
    }
}

pub struct Edge;

/// A registry without fault, and a cache on a small disk of its own.
pub struct World {
    user: User,
    disk: Tmpfs,
    cases: usize,
    _registry: Registry,
    _folder: tempfile::TempDir,
}

impl World {
    fn new() -> World {
        let registry = subject().serve();
        registry.set_referrers(Referrers::Absent);
        let folder = tempfile::tempdir().unwrap();
        let disk = Tmpfs::new(folder.path().join("disk"), SIZE);
        mind_permissions();
        let name = format!("{}/r:t", registry.addr()).parse().unwrap();
        let cache = open_cache(&disk);
        let user = User { name, cache, held: None, trust_referrers: false };
        World { user, disk, cases: 0, _registry: registry, _folder: folder }
    }

    fn folder(&self, kind: &str) -> PathBuf {
        self.disk.0.join("cache/v1").join(kind)
    }

    /// What damage can happen to; false if there is nothing.
    fn spoil(&self, case: Case, seed: u64) -> usize {
        let folder = self.folder(case.kind);
        let is_file = |path: &PathBuf| fs::symlink_metadata(path).is_ok_and(|m| m.is_file());
        let all: Vec<PathBuf> = files_below(&folder).into_iter().filter(is_file).collect();
        // One of them, half of them, or all.
        let (first, step) = match seed % 3 {
            0 => (mix(seed, 2) as usize % all.len().max(1), usize::MAX),
            1 => (mix(seed, 2) as usize % 2, 2),
            _ => (0, 1),
        };
        let files: Vec<&Path> =
            all.iter().skip(first).step_by(step).map(PathBuf::as_path).collect();
        let at = |length: u64| mix(seed, 3) % length.max(1);
        match case.damage {
            Full => {
                // Until there is no room for more.
                let _ = fs::write(self.disk.0.join("filler"), vec![1; 24 << 20]);
                return 1;
            }
            NoInodes => {
                for n in 0..2000 {
                    if File::create(self.disk.0.join(format!("filler{n}"))).is_err() {
                        break;
                    }
                }
                return 1;
            }
            // Not while a file is being written.
            ReadOnly => return usize::from(until(Duration::from_secs(5), || self.remount("ro"))),
            FolderRemoved | FolderUnwritable | FolderUnreadable | FolderMadeFile
            | FolderOpenToAll => {
                let mode = |mode| fs::set_permissions(&folder, Permissions::from_mode(mode));
                let done = match case.damage {
                    FolderUnwritable => mode(0o500),
                    FolderUnreadable => mode(0o0),
                    FolderOpenToAll => mode(0o777),
                    FolderRemoved => fs::remove_dir_all(&folder),
                    _ => {
                        fs::remove_dir_all(&folder).and_then(|()| fs::write(&folder, b"in the way"))
                    }
                };
                return usize::from(done.is_ok());
            }
            _ => {}
        }
        let contents: Vec<Vec<u8>> =
            files.iter().map(|path| fs::read(path).unwrap_or_default()).collect();
        let others = contents.iter().cycle().skip(1);
        let mut faults = 0;
        for ((path, content), other) in files.iter().zip(&contents).zip(others) {
            faults += usize::from(
                spoil_file(case.damage, path, content, other, at(content.len() as u64)).is_ok(),
            );
        }
        faults
    }

    fn remount(&self, how: &str) -> bool {
        let options = format!("remount,{how}");
        let mut remount = Command::new("mount");
        remount.args(["-o", &options]).arg(&self.disk.0).output().unwrap().status.success()
    }

    /// The disk has room again and may be written, and so may its folders; what is in the way is gone.
    fn heal(&self) {
        assert!(self.remount("rw"));
        for entry in fs::read_dir(&self.disk.0).unwrap().flatten() {
            if entry.file_name().to_string_lossy().starts_with("filler") {
                fs::remove_file(entry.path()).unwrap();
            }
        }
        for kind in KINDS {
            let folder = self.folder(kind);
            if folder.is_dir() {
                fs::set_permissions(&folder, Permissions::from_mode(0o700)).unwrap();
                for entry in fs::read_dir(&folder).unwrap().flatten() {
                    // One that stands for a file is empty.
                    let _ = fs::remove_dir(entry.path());
                    for below in fs::read_dir(entry.path()).into_iter().flatten().flatten() {
                        let _ = fs::remove_dir(below.path());
                    }
                }
                for path in files_below(&folder) {
                    let is_ours = fs::symlink_metadata(&path).is_ok_and(|m| m.is_file());
                    if is_ours
                        && fs::symlink_metadata(&path)
                            .is_ok_and(|m| m.uid() == NOBODY || m.mode() & 0o400 == 0)
                    {
                        lchown(&path, Some(0), Some(0)).unwrap();
                        fs::set_permissions(&path, Permissions::from_mode(0o400)).unwrap();
                    }
                }
            } else if folder.exists() {
                fs::remove_file(&folder).unwrap();
            }
        }
    }
}

/// Where there are no folders, they are made.
fn open_cache(disk: &Tmpfs) -> Arc<Cache> {
    Arc::new(Cache::open_limited(&disk.0.join("cache"), Limit::Unlimited))
}

/// This thread, and those that it starts, may only do what the bits of files say, as for an ordinary user.
fn mind_permissions() {
    let mut sets = capabilities(None).unwrap();
    sets.effective.remove(CapabilitySet::DAC_OVERRIDE | CapabilitySet::DAC_READ_SEARCH);
    set_capabilities(None, sets).unwrap();
}

fn spoil_file(
    damage: Damage,
    path: &Path,
    content: &[u8],
    other: &[u8],
    at: u64,
) -> std::io::Result<()> {
    let replace = |bytes: &[u8]| fs::remove_file(path).and_then(|()| fs::write(path, bytes));
    let changed = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = content.to_vec();
        change(&mut bytes);
        replace(&bytes)
    };
    // What was made a symlink by a case before must not be followed: nothing outside may be harmed.
    if !fs::symlink_metadata(path)?.is_file() {
        return Err(std::io::Error::other("it is no file any more"));
    }
    match damage {
        Flipped => changed(&|bytes| {
            if let Some(byte) = bytes.get_mut(at as usize) {
                *byte ^= 1 << (at % 8);
            }
        }),
        Cut => changed(&|bytes| bytes.truncate(at as usize)),
        Longer => changed(&|bytes| bytes.push(0)),
        Emptied => replace(b""),
        Zeroed => changed(&|bytes| bytes.fill(0)),
        Swapped => replace(other),
        Removed => fs::remove_file(path),
        MadeFolders => fs::remove_file(path).and_then(|()| fs::create_dir(path)),
        MadeSymlinks => fs::remove_file(path).and_then(|()| symlink("nowhere/at/all", path)),
        MadeFifos => fs::remove_file(path)
            .and_then(|()| Ok(mknodat(CWD, path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0)?)),
        GivenAway => lchown(path, Some(NOBODY), Some(NOBODY)),
        Unreadable => fs::set_permissions(path, Permissions::from_mode(0o0)),
        CutInPlace => writable(path)?.set_len(at),
        _ => writable(path)?.write_all_at(b"other bytes than there were", at),
    }
}

/// Opens a file to write in its place. Files of the cache are read-only.
fn writable(path: &Path) -> std::io::Result<File> {
    let before = fs::metadata(path)?.permissions();
    fs::set_permissions(path, Permissions::from_mode(0o600))?;
    let no_follow = OFlags::NOFOLLOW.bits() as i32;
    let file = OpenOptions::new().write(true).custom_flags(no_follow).open(path);
    fs::set_permissions(path, before)?;
    file
}

impl Campaign for Edge {
    type World = World;

    fn cases(&self) -> usize {
        KINDS.len() * DAMAGES.len() * WHEN.len() * OPERATIONS.len()
    }

    fn name(&self, case: usize) -> String {
        let Case { kind, damage, when, operation } = Case::of(case);
        format!("{damage:?}: {kind:?}, {when:?}, {operation:?}")
    }

    fn world(&self) -> World {
        World::new()
    }

    fn run(&self, world: &mut World, case: usize, seed: u64) -> Result<Tally, Failure> {
        let case = Case::of(case);
        let mut late = 0;
        if case.when == When::Before {
            late += world.user.is_well(Operation::Cat, 1)?;
            world.user.held = None;
        } else {
            for _ in 0..5 {
                if world.user.hold().is_ok() {
                    break;
                }
            }
        }
        if case.when == When::Read {
            late += world.user.is_well(Operation::Read, 1)?;
        }
        let faults = world.spoil(case, seed);
        if case.when == When::Before {
            world.user.cache = open_cache(&world.disk);
        }
        let mut tally = Tally { faults, ..Tally::default() };
        for _ in 0..2 {
            match world.user.does(case.operation, seed) {
                Ok(()) => tally.right += 1,
                // There is no room to keep it.
                Err(Failure::Told(_)) if case.operation == Operation::Pull => tally.told += 1,
                Err(Failure::Told(text)) if text.contains("AllowMoreTime") => tally.late += 1,
                Err(failure) => return Err(failure),
            }
        }
        world.heal();
        // Another process finds what is wrong, whatever this one has come by.
        let found = damaged(&Cache::open_existing(&world.disk.0.join("cache"), Limit::Unlimited));
        let left = damaged(&Cache::open_existing(&world.disk.0.join("cache"), Limit::Unlimited));
        if !left.is_empty() {
            return Err(Failure::Wrong(format!("not removed: {left:?}, after {found:?}")));
        }
        if case.when == When::Before && case.kind.is_empty() {
            // A folder that is refused when a program opens it is not used by that program.
            world.user.held = None;
            world.user.cache = open_cache(&world.disk);
        }
        tally.late += late + world.user.is_well(case.operation, seed)?;
        let left = damaged(&world.user.cache);
        if !left.is_empty() {
            return Err(Failure::Wrong(format!("left in the cache: {left:?}")));
        }
        // What could not be written to is written to again. (Where that went on for longer, it is tried later.)
        world.cases += 1;
        match world.cases > 1 || until(Duration::from_secs(40), || world.user.cache.is_writable()) {
            true => Ok(tally),
            false => Err(Failure::Wrong("nothing is cached any more".to_owned())),
        }
    }
}
