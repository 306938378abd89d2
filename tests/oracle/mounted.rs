//! The built program, run as a user would, in folders that vanish with the test.
//!
//! A mount that outlives its test would hold the temporary folder and confuse every later test, so
//! it goes away when its value does, also while a failed test unwinds.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use crate::servers::{need_root_and_fuse, run};
use crate::support::environment;

/// A user of `ocifs`: home, cache and runtime folder, all empty at first.
#[derive(Debug)]
pub struct Home {
    folder: TempDir,
    mounts: AtomicUsize,
    environment: Vec<(String, String)>,
}

impl Home {
    pub fn new() -> Home {
        let folder = tempfile::tempdir().unwrap();
        for name in ["home", "cache", "run", "mounts"] {
            std::fs::create_dir(folder.path().join(name)).unwrap();
        }
        Home { folder, mounts: AtomicUsize::new(0), environment: Vec::new() }
    }

    /// The same user with another variable.
    pub fn with_environment(mut self, name: &str, value: &str) -> Home {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// A command for `ocifs` with this user's environment and nobody else's.
    pub fn ocifs(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ocifs"));
        environment::only(&mut command, self.folder.path());
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Takes the contents of layers out of the cache; what is known of them stays.
    pub fn forget_contents(&self) {
        for name in ["spans", "streams"] {
            std::fs::remove_dir_all(self.folder.path().join("cache/v1").join(name)).unwrap();
        }
    }

    /// Runs `ocifs mount REFERENCE` for a new directory.
    pub fn mount(&self, reference: &str) -> Mounted<'_> {
        self.mount_with(&[], reference)
    }

    /// Runs `ocifs mount OPTIONS REFERENCE` for a new directory.
    pub fn mount_with(&self, options: &[&str], reference: &str) -> Mounted<'_> {
        let number = self.mounts.fetch_add(1, Ordering::Relaxed);
        let path = self.folder.path().join(format!("mounts/{number}"));
        std::fs::create_dir(&path).unwrap();
        self.mount_at(path, options, reference)
    }

    /// Runs `ocifs store DIR IMAGES` for a new directory.
    pub fn store(&self, images: &[&str]) -> Mounted<'_> {
        need_root_and_fuse();
        let number = self.mounts.fetch_add(1, Ordering::Relaxed);
        let path = self.folder.path().join(format!("mounts/{number}"));
        std::fs::create_dir(&path).unwrap();
        run(self.ocifs().arg("store").arg(&path).args(images));
        Mounted { home: self, path }
    }

    /// Runs `ocifs mount OPTIONS REFERENCE PATH`.
    pub fn mount_at(&self, path: PathBuf, options: &[&str], reference: &str) -> Mounted<'_> {
        need_root_and_fuse();
        run(self.ocifs().arg("mount").args(options).arg(reference).arg(&path));
        Mounted { home: self, path }
    }
}

/// Tries to unmount what is busy.
const MAX_TRIES: usize = 40;

/// A mounted image.
#[derive(Debug)]
pub struct Mounted<'a> {
    home: &'a Home,
    path: PathBuf,
}

impl Mounted<'_> {
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What `ocifs status --json DIR` says.
    pub fn status(&self) -> Value {
        let output = run(self.home.ocifs().args(["status", "--json"]).arg(&self.path));
        let mut rows: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(rows.len(), 1, "one mount at {}", self.path.display());
        rows.remove(0)
    }
}

impl Drop for Mounted<'_> {
    fn drop(&mut self) {
        let unmount = || self.home.ocifs().arg("umount").arg(&self.path).output();
        let mut unmounted = unmount();
        // Between its fork and its exec, a child of another test holds all that is open here.
        let is_busy = |output: &Output| String::from_utf8_lossy(&output.stderr).contains("is busy");
        for _ in 0..MAX_TRIES {
            if !unmounted.as_ref().is_ok_and(is_busy) {
                break;
            }
            thread::sleep(Duration::from_millis(50));
            unmounted = unmount();
        }
        if unmounted.as_ref().is_ok_and(|output| output.status.success()) {
            return;
        }
        // By another program, since ours has just shown that it can't.
        let lazily = Command::new("umount").arg("--lazy").arg(&self.path).status();
        assert!(
            thread::panicking(),
            "`ocifs umount {}`: {unmounted:?}; lazily: {lazily:?}",
            self.path.display()
        );
    }
}
