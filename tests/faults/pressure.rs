//! The whole content of an image by its checksums, read by many at once while memory is short.
//!
//! What the kernel drops it asks for again, and what is given to it unasked (`--prefetch=push`) may be dropped
//! before anybody reads it. None of that may show.

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;
use std::sync::{PoisonError, RwLock, RwLockReadGuard};
use std::time::Duration;

use crate::fixture::{noise, within};
use crate::kernel_metadata;
use crate::shell::{Home, text};
use crate::support::cgroup::{self, MemoryGroup};
use crate::support::image::{Built, Compression, ImageBuilder, sha256};
use crate::support::kernel::note;
use crate::support::tarball::{Entry, tar};

/// What the mounted process may have, and what its readers may have together with the page cache
/// that they fill. The image does not fit into both.
const DAEMON_BYTES: u64 = 72 << 20;
const READER_BYTES: u64 = 36 << 20;

const READERS: &str = "16";

/// Passes over everything, with nothing in any cache of the kernel before each of them.
const PASSES: usize = 2;

/// How long a pass may take before it counts as hung.
const LIMIT: Duration = Duration::from_secs(300);

/// Small files, which are pushed, among large ones, which are not: 110 MB in two layers.
fn image() -> (Built, BTreeMap<String, String>) {
    let mut sums = BTreeMap::new();
    let mut layer = |number: u64| {
        let mut entries = Vec::new();
        for dir in 0..20 {
            entries.push(Entry::dir(format!("{number}-{dir}")));
            for file in 0..42 {
                let seed = (number * 20 + dir) * 42 + file + 1;
                let length = if file < 2 { 1_100_000 } else { 600 * (1 + file as usize) };
                let (name, content) = (format!("{number}-{dir}/{file}"), noise(length, seed));
                sums.insert(format!("./{name}"), sha256(&content)["sha256:".len()..].to_owned());
                entries.push(Entry::file(name, content));
            }
        }
        tar(&entries)
    };
    let (lower, upper) = (layer(0), layer(1));
    let builder = ImageBuilder::new().layer(&lower, Compression::Gzip);
    (builder.layer(&upper, Compression::None).build(), sums)
}

/// Groups for the daemon and the readers. Where the machine has them they have to work.
fn groups() -> Option<[MemoryGroup; 2]> {
    if let Some(why) = cgroup::lack() {
        note(&format!("tested with all the memory there is: {why}"));
        return None;
    }
    Some([DAEMON_BYTES, READER_BYTES].map(MemoryGroup::new))
}

/// The sums that many processes make of everything below a folder.
fn sums(home: &Home, group: Option<&MemoryGroup>) -> BTreeMap<String, String> {
    let script = "cd \"$0\" && find . -type f -print0 | xargs -0 -P \"$1\" -n 7 sha256sum";
    let mut command = Command::new("sh");
    command.args(["-c", script, text(&home.mount_point()), READERS]);
    if let Some(group) = group {
        command = group.enter(&command);
    }
    let output = within(LIMIT, move || command.output().unwrap());
    assert!(output.status.success(), "{output:?}");
    let lines = String::from_utf8(output.stdout).unwrap();
    let lines = lines.lines().filter_map(|line| line.split_once("  "));
    lines.map(|(sum, path)| (path.to_owned(), sum.to_owned())).collect()
}

/// Held by each test that relies on what the kernel has cached: its caches are of the whole machine.
static CACHES: RwLock<()> = RwLock::new(());

/// Nothing is [dropped](drop_caches) as long as this is held.
pub fn keep_caches() -> RwLockReadGuard<'static, ()> {
    CACHES.read().unwrap_or_else(PoisonError::into_inner)
}

/// Takes everything out of the kernel's caches that it can do without.
fn drop_caches() {
    let _nobody_relies = CACHES.write().unwrap_or_else(PoisonError::into_inner);
    if let Err(e) = fs::write("/proc/sys/vm/drop_caches", "3") {
        note(&format!("/proc/sys/vm/drop_caches: {e}"));
    }
}

fn check(options: &[&str]) {
    let ((image, expected), home) = (image(), Home::new());
    let name = home.layout(&image);
    drop(image);
    let groups = groups();
    let [daemon, reader] = groups.as_ref().map_or([None, None], |[a, b]| [Some(a), Some(b)]);
    let mut command = home.ocifs(&[&["mount"][..], options, &[&name, "M"]].concat());
    if let Some(daemon) = daemon {
        command = daemon.enter(&command);
    }
    let mounted = crate::shell::run(&mut command);
    assert!(mounted.code == 0 && mounted.stderr.contains("ready in"), "{mounted:?}");
    for pass in 0..PASSES {
        drop_caches();
        let found = sums(&home, reader);
        assert!(found == expected, "{options:?}, pass {pass}: {}", difference(&found, &expected));
    }
    assert_eq!(home.serving().len(), 1, "it is alive");
    if let Some(reader) = reader {
        assert!(reader.times_full() > 0, "memory was not short");
    }
    home.run(&["umount", "M"]).succeeded();
    home.is_quiet();
}

fn difference(found: &BTreeMap<String, String>, expected: &BTreeMap<String, String>) -> String {
    let wrong = expected.iter().filter(|(path, sum)| found.get(*path) != Some(sum));
    let wrong: Vec<&String> = wrong.map(|(path, _)| path).collect();
    format!("{} of {} are wrong: {:?}", wrong.len(), expected.len(), &wrong[..wrong.len().min(5)])
}

#[test]
fn plain() {
    check(&[]);
}

#[test]
fn with_push() {
    check(&["--prefetch=push"]);
}

#[test]
fn with_kernel_metadata() {
    if kernel_metadata::can() {
        check(&["--kernel-metadata"]);
    }
}
