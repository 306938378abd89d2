//! A disk of the cache that does not answer: what waits for it can't be killed, and no reader may wait for that.
//!
//! (Not every kernel has loop devices.)

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::fixture::{name_in, noise, within};
use crate::shell::{Home, eventually, eventually_within, text};
use crate::support::image::{Compression, ImageBuilder};
use crate::support::kernel::note;
use crate::support::registry::Registry;
use crate::support::tarball::{Entry, tar};
use crate::survival::worker;

/// No reader waits so long.
const LIMIT: Duration = Duration::from_secs(120);

/// A file system of its own, which stops to answer; gone at the end of the test.
struct Disk {
    top: PathBuf,
    _folder: TempDir,
}

impl Disk {
    fn new() -> Result<Disk, String> {
        let folder = tempfile::tempdir().unwrap();
        let (image, top) = (folder.path().join("image"), folder.path().join("disk"));
        fs::File::create(&image).and_then(|file| file.set_len(96 << 20)).unwrap();
        fs::create_dir(&top).unwrap();
        for words in [
            &["mkfs.ext4", "-q", text(&image)][..],
            &["mount", "-o", "loop", text(&image), text(&top)],
        ] {
            let output = Command::new(words[0]).args(&words[1..]).output();
            let output = output.map_err(|e| format!("{}: {e}", words[0]))?;
            if !output.status.success() {
                return Err(format!("{words:?}: {}", String::from_utf8_lossy(&output.stderr)));
            }
        }
        Ok(Disk { top, _folder: folder })
    }

    fn answers(&self, answers: bool) {
        let flag = if answers { "-u" } else { "-f" };
        assert!(Command::new("fsfreeze").arg(flag).arg(&self.top).status().unwrap().success());
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // One of them has been done, as a rule.
        let _ = Command::new("fsfreeze").arg("-u").arg(&self.top).output();
        let _ = Command::new("umount").arg("-l").arg(&self.top).output();
    }
}

/// Whether a thread of a process waits in the kernel and can't be killed.
fn is_stuck(pid: Pid) -> bool {
    let tasks = fs::read_dir(format!("/proc/{}/task", pid.as_raw_nonzero())).unwrap();
    let stats = tasks.filter_map(|task| fs::read_to_string(task.ok()?.path().join("stat")).ok());
    stats
        .into_iter()
        .any(|stat| stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('D')))
}

#[test]
fn a_process_that_can_not_end_keeps_no_reader_waiting() {
    let (home, registry) = (Home::new(), Registry::start());
    let disk = match Disk::new() {
        Ok(disk) => disk,
        Err(why) => return note(&format!("not tested: {why}")),
    };
    let content = noise(3_000_000, 1);
    let layer = tar(&[Entry::file("a", content.clone()), Entry::file("b", "b")]);
    registry.add_image("r", "t", &ImageBuilder::new().layer(&layer, Compression::Gzip).build());
    let cache = disk.top.join("cache");
    let name = name_in(&registry);
    let flags = ["--cache-dir", text(&cache), "--timeout", "2s", "--prefetch=off", &name, "M"];
    home.run(&[&["mount"], &flags[..]].concat()).succeeded();
    let emptied = home.run(&["cache", "gc", "--cache-dir", text(&cache), "--cache-size", "0"]);
    assert_eq!(emptied.code, 0, "{emptied:?}");
    let stuck = worker(&home);
    disk.answers(false);
    let path = home.mount_point().join("a");
    let read = |path: &Path| {
        let path = path.to_owned();
        within(LIMIT, move || fs::read(path))
    };
    let failed = |read: io::Result<Vec<u8>>| assert_eq!(read.unwrap_err().raw_os_error(), Some(5));
    // It is given up in time where the process lives, and names are shown as ever.
    failed(read(&path));
    assert!(eventually(|| is_stuck(stuck)));
    assert_eq!(fs::read_dir(home.mount_point()).unwrap().count(), 2);
    kill_process(stuck, Signal::KILL).unwrap();
    assert!(is_stuck(stuck));
    failed(read(&path));
    assert!(is_stuck(stuck), "it has ended, and nothing was tested");
    disk.answers(true);
    let is_read = || fs::read(&path).is_ok_and(|read| read == content);
    assert!(eventually_within(LIMIT, is_read));
    assert_ne!(worker(&home), stuck);
    home.run(&["umount", "M"]).succeeded();
    home.is_quiet();
}
