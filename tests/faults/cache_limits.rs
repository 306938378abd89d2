//! Caches that can't be written, read or grown, and several users of one cache at once.
//!
//! The cache can only help: without it everything is slower and nothing else.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::thread;

use ocifs::cache::{Cache, Limit};
use ocifs::layer::Quiet;

use crate::fixture::{HANG, Sandbox, files_below, name_in, noise, open, options, read, within};
use crate::logs;
use crate::shell::eventually_within;
use crate::support::image::{Built, Compression, ImageBuilder};
use crate::support::kernel::note;
use crate::support::registry::Registry;
use crate::support::tarball::{Entry, tar};
use crate::users::home_of_nobody;

const FILES: u64 = 6;

/// An image of 6 MiB in two layers.
fn image() -> Built {
    let layer = |numbers: std::ops::Range<u64>| {
        let files = numbers.map(|number| Entry::file(format!("f{number}"), content(number)));
        tar(&files.collect::<Vec<_>>())
    };
    ImageBuilder::new()
        .layer(&layer(0..FILES / 2), Compression::Gzip)
        .layer(&layer(FILES / 2..FILES), Compression::None)
        .build()
}

fn content(number: u64) -> Vec<u8> {
    noise(1 << 20, number + 1)
}

/// Opens through a cache in this folder and reads everything twice. The disk alone is its limit.
fn works_with(folder: &Path, registry: &Registry) {
    let cache = Arc::new(Cache::open_limited(folder, Limit::Unlimited));
    let image = open(&name_in(registry), &cache, &options()).unwrap();
    for number in (0..FILES).chain((0..FILES).rev()) {
        assert!(read(&image, &format!("f{number}")).unwrap() == content(number), "f{number}");
    }
}

fn serving() -> Registry {
    let registry = Registry::start();
    registry.add_image("r", "t", &image());
    registry
}

/// A tmpfs, which is gone at the end of the test.
pub struct Tmpfs(pub PathBuf);

impl Tmpfs {
    pub fn new(path: PathBuf, mount_options: &str) -> Tmpfs {
        fs::create_dir_all(&path).unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", mount_options, "ocifs-test"]).arg(&path);
        assert!(mount.status().unwrap().success(), "these tests run as root");
        Tmpfs(path)
    }

    /// Makes it read-only.
    pub fn freeze(&self) {
        let mut remount = Command::new("mount");
        remount.args(["-o", "remount,ro"]).arg(&self.0);
        assert!(remount.status().unwrap().success());
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        // What can't be unmounted is left to the one who runs the tests.
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// A subvolume of so many MiB at most, on a btrfs of its own; gone at the end of the test.
struct Quota(PathBuf);

impl Quota {
    fn new(folder: &Path, mebibytes: u32) -> Result<Quota, String> {
        let (image, top) = (folder.join("image"), folder.join("btrfs"));
        fs::File::create(&image).and_then(|file| file.set_len(160 << 20)).unwrap();
        fs::create_dir(&top).unwrap();
        let subvolume = top.join("s");
        let limit = format!("{mebibytes}M");
        let [image, top_text, s] = [&image, &top, &subvolume].map(|path| path.to_str().unwrap());
        let quota = Quota(top.clone());
        for words in [
            &["mkfs.btrfs", "-q", "-m", "single", "-d", "single", image][..],
            &["mount", "-o", "loop", image, top_text],
            &["btrfs", "quota", "enable", top_text],
            &["btrfs", "subvolume", "create", s],
            &["btrfs", "qgroup", "limit", &limit, s],
        ] {
            let output = Command::new(words[0]).args(&words[1..]).output();
            let output = output.map_err(|e| format!("{}: {e}", words[0]))?;
            if !output.status.success() {
                return Err(format!("{words:?}: {}", String::from_utf8_lossy(&output.stderr)));
            }
        }
        Ok(quota)
    }
}

impl Drop for Quota {
    fn drop(&mut self) {
        // It is not mounted where it could not be.
        let _ = Command::new("umount").arg("-l").arg(&self.0).output();
    }
}

/// A disk with room on which this user may have no more. (Not every kernel has btrfs and loop devices.)
#[test]
fn a_quota_is_exceeded() {
    let (registry, sandbox) = (serving(), Sandbox::new());
    let quota = match Quota::new(sandbox.path(), 4) {
        Ok(quota) => quota,
        Err(why) => return note(&format!("not tested: {why}")),
    };
    let folder = quota.0.join("s/cache");
    works_with(&folder, &registry);
    works_with(&folder, &registry);
    assert!(!logs::with("Disk quota exceeded").is_empty(), "the quota was not reached");
    let left = files_below(&folder.join("v1/tmp"));
    assert!(left.is_empty(), "{left:?}");
    fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn folders_that_are_none() {
    let registry = serving();
    let sandbox = Sandbox::new();
    let path = |name: &str| sandbox.path().join(name);
    fs::write(path("file"), b"").unwrap();
    fs::create_dir(path("occupied")).unwrap();
    fs::write(path("occupied/v1"), b"").unwrap();
    symlink("nowhere/at/all", path("dangling")).unwrap();
    symlink("circle", path("circle")).unwrap();
    for name in ["file", "file/below", "occupied", "dangling", "circle", "not/there/yet"] {
        works_with(&path(name), &registry);
    }
    works_with(Path::new("/proc/self/cache"), &registry);
    works_with(Path::new("/dev/null"), &registry);
    for kind in ["blobs", "spans", "streams", "layers", "diffs", "refs", "partial", "tmp"] {
        let folder = path(&format!("cache-{kind}"));
        fs::create_dir_all(folder.join("v1")).unwrap();
        fs::write(folder.join("v1").join(kind), b"in the way").unwrap();
        works_with(&folder, &registry);
        works_with(&folder, &registry);
    }
}

/// The parts of a cache that another program or a user turned into something else.
#[test]
fn files_that_are_folders() {
    let registry = serving();
    let sandbox = Sandbox::new();
    let folder = sandbox.path().join("cache");
    for kind in ["spans", "layers", "diffs", "blobs", "refs"] {
        works_with(&folder, &registry);
        for path in sandbox.cached(kind) {
            fs::remove_file(&path).unwrap();
            fs::create_dir(&path).unwrap();
        }
        works_with(&folder, &registry);
        fs::remove_dir_all(&folder).unwrap();
    }
}

#[test]
fn the_disk_is_full() {
    let registry = serving();
    let sandbox = Sandbox::new();
    for size in ["size=64k", "size=2m", "size=5m", "size=20m,nr_inodes=12"] {
        let tmpfs = Tmpfs::new(sandbox.path().join("full"), size);
        works_with(&tmpfs.0, &registry);
        works_with(&tmpfs.0.join("below"), &registry);
        let left = crate::fixture::files_below(&tmpfs.0.join("v1/tmp"));
        assert!(left.is_empty(), "{size}: {left:?}");
    }
}

#[test]
fn the_disk_is_read_only() {
    let registry = serving();
    let sandbox = Sandbox::new();
    for fill_first in [false, true] {
        let tmpfs = Tmpfs::new(sandbox.path().join("frozen"), "size=50m");
        if fill_first {
            works_with(&tmpfs.0, &registry);
        }
        tmpfs.freeze();
        registry.clear_log();
        works_with(&tmpfs.0, &registry);
        let fetched = registry.requests().iter().any(|r| r.path.contains("/blobs/"));
        assert_eq!(fetched, !fill_first, "a cache that can be read is used");
    }
}

/// The disk fills up while the image is open, and has room again later.
#[test]
fn the_disk_fills_up_in_between() {
    let registry = serving();
    let sandbox = Sandbox::new();
    let tmpfs = Tmpfs::new(sandbox.path().join("filling"), "size=12m");
    let cache = Arc::new(Cache::open_limited(&tmpfs.0, Limit::Unlimited));
    let image = open(&name_in(&registry), &cache, &options()).unwrap();
    fs::remove_dir_all(tmpfs.0.join("v1/spans")).unwrap();
    fs::create_dir(tmpfs.0.join("v1/spans")).unwrap();
    // It ends with the last byte that there is room for.
    let _ = fs::write(tmpfs.0.join("filler"), vec![0; 11 << 20]);
    for number in 0..FILES {
        assert!(read(&image, &format!("f{number}")).unwrap() == content(number));
    }
    fs::remove_file(tmpfs.0.join("filler")).unwrap();
    works_with(&tmpfs.0, &registry);
    // A process that has it open caches again, too: a mount lives longer than a disk is full.
    assert!(eventually_within(HANG, || cache.is_writable()));
    fs::remove_dir_all(tmpfs.0.join("v1/spans")).unwrap();
    image.pull(HANG, 2, &Quiet).unwrap();
}

/// What another process has removed while an image is open is in the cache again after a pull.
#[test]
fn pulling_puts_back_what_others_removed() {
    let (registry, sandbox) = (serving(), Sandbox::new());
    let image = open(&name_in(&registry), &sandbox.cache(), &options()).unwrap();
    let pull = || image.pull(HANG, 2, &Quiet);
    pull().unwrap();
    let before = sandbox.cached("spans");
    for path in &before {
        fs::remove_file(path).unwrap();
    }
    registry.clear_log();
    pull().unwrap();
    assert_eq!(sandbox.cached("spans"), before);
}

/// As a process of root leaves them that used the cache of an ordinary user.
#[test]
fn files_that_may_not_be_read_are_replaced() {
    let home = home_of_nobody();
    let registry = serving();
    let name = name_in(&registry);
    home.run(&["pull", &name]).succeeded();
    let files = || files_below(&home.path().join("cache/v1"));
    for path in files() {
        chown(&path, Some(0), Some(0)).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o400)).unwrap();
    }
    let told = home.run(&["pull", &name]);
    assert!(told.code == 0 && told.stderr.contains("Permission denied"), "{told:?}");
    registry.clear_log();
    home.run(&["pull", &name]).succeeded();
    let fetched = registry.requests().iter().any(|r| r.path.contains("/blobs/"));
    assert!(!fetched, "{:?}", registry.requests());
    // What a registry has sent is asked for with `--check-access` only.
    let left = files().into_iter().filter(|path| !path.to_string_lossy().contains("/sent/"));
    let left = left.filter(|path| fs::metadata(path).unwrap().uid() == 0);
    assert_eq!(left.collect::<Vec<_>>(), Vec::<PathBuf>::new());
}

#[test]
fn many_fill_one_cache() {
    let registry = Arc::new(serving());
    let sandbox = Sandbox::new();
    let folder = sandbox.path().join("cache");
    let users: Vec<_> = (0..6)
        .map(|_| {
            let (folder, registry) = (folder.clone(), Arc::clone(&registry));
            thread::spawn(move || works_with(&folder, &registry))
        })
        .collect();
    within(3 * HANG, move || users.into_iter().for_each(|user| user.join().unwrap()));
    assert!(sandbox.cached("tmp").is_empty());
    registry.clear_log();
    works_with(&folder, &registry);
    assert!(registry.requests().iter().all(|r| r.method == "HEAD"), "{:?}", registry.requests());
}

/// One user opens an image whose layer is broken while another has the same spans from a good one.
/// What the failed pass takes back, the good image gets again.
#[test]
fn a_failed_pass_beside_a_good_image() {
    let registry = serving();
    let sandbox = Sandbox::new();
    let folder = sandbox.path().join("cache");
    let good = image();
    let mut bad = good.clone();
    let digest = good.layer_digests().remove(1);
    *bad.blobs.get_mut(&digest).unwrap().last_mut().unwrap() ^= 1;
    let broken = Registry::start();
    broken.add_image("r", "t", &bad);
    let cache = Arc::new(Cache::open(&folder));
    for round in 0..4 {
        let (name, other) = (name_in(&broken), Arc::clone(&cache));
        let failing = thread::spawn(move || open(&name, &other, &options()).is_err());
        works_with(&folder, &registry);
        failing.join().unwrap();
        works_with(&folder, &registry);
        if round % 2 == 0 {
            fs::remove_dir_all(&folder).unwrap();
            Cache::open(&folder);
        }
    }
}
