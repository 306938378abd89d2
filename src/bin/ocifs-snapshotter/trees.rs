//! Trees that are mounted: a directory for each chain ID, mounted by the `ocifs` program in the background.
//!
//! What is mounted outlives this process. So no list of mounts is kept: to have a tree is to ask `ocifs` for a mount, which
//! does nothing if the same is there, and replaces what is dead.

use std::collections::{HashMap, HashSet};
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use clap::ValueEnum;
use ocifs::digest::Digest;
use serde_json::Value;

use crate::program::{MountError, Program};
use crate::snapshots::Remote;

/// How long a tree may be mounted without a snapshot: that of the whole image comes before its layers do.
const GRACE: Duration = Duration::from_secs(600);

/// The trees.
#[derive(Debug)]
pub(crate) struct Trees {
    folder: PathBuf,
    program: Program,
    kernel_metadata: KernelMetadata,
    /// By the names of directories: when each was asked for last. Who mounts or unmounts one holds its lock.
    asked: Mutex<HashMap<String, Arc<Mutex<Option<Instant>>>>>,
}

/// Whether names and attributes of images are given to the kernel (`ocifs mount --kernel-metadata`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum KernelMetadata {
    /// Those of images for which it is possible, where the kernel can
    Auto,
    /// Those of all images: others are not shown
    Always,
    /// Those of none
    Never,
}

/// What is going on between mounts and registries.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Traffic {
    /// Bytes that have come, as long as the mounts have been there.
    pub(crate) fetched: u64,
    /// Reads, and pulls, that wait for more.
    pub(crate) waiting: u64,
}

impl Trees {
    pub(crate) fn new(folder: PathBuf, program: Program, kernel_metadata: KernelMetadata) -> Trees {
        Trees { folder, program, kernel_metadata, asked: Mutex::default() }
    }

    /// Where a tree is, which is mounted if it is not.
    pub(crate) fn mounted(&self, remote: &Remote) -> Result<PathBuf, String> {
        let name = name_of(&remote.chain_id)?;
        let asked = self.asked(&name);
        let mut asked = asked.lock().unwrap_or_else(PoisonError::into_inner);
        let directory = self.folder.join(&name);
        self.make(&directory)
            .map_err(|e| format!("the directory {} can't be made: {e}", directory.display()))?;
        *asked = Some(Instant::now());
        let Some(place) = directory.to_str() else {
            return Err(format!("{} is not UTF-8", directory.display()));
        };
        let count = remote.count.to_string();
        let mut flags = vec!["--allow-other"];
        if remote.count < remote.layers {
            flags.extend(["--lowest-layers", &count]);
        }
        match self.mount(&flags, &remote.image, place) {
            Ok(()) => Ok(directory),
            // It may be mounted with other flags, from the time before this program was started with these, or as it could
            // not be given to the kernel.
            Err(_) if self.is_mounted(remote, place) => Ok(directory),
            Err(why) => Err(why),
        }
    }

    fn mount(&self, flags: &[&str], image: &str, place: &str) -> Result<(), String> {
        let plain = || self.program.mount(flags, image, place);
        let in_the_kernel = || {
            let flags = [flags, &["--kernel-metadata"]].concat();
            self.program.mount(&flags, image, place)
        };
        let mounted = match self.kernel_metadata {
            KernelMetadata::Never => plain(),
            KernelMetadata::Always => in_the_kernel(),
            KernelMetadata::Auto => in_the_kernel().or_else(|error| match error {
                MountError::NotInTheKernel(why) => {
                    log::info!("{image} is mounted without --kernel-metadata: {why}");
                    plain()
                }
                failed @ MountError::Failed(_) => Err(failed),
            }),
        };
        mounted.map_err(|error| match error {
            MountError::NotInTheKernel(why) | MountError::Failed(why) => why,
        })
    }

    /// Unmounts a tree, unless it is in use.
    pub(crate) fn close(&self, chain_id: &str) -> Result<(), String> {
        let name = name_of(chain_id)?;
        let asked = self.asked(&name);
        let mut asked = asked.lock().unwrap_or_else(PoisonError::into_inner);
        self.unmount(&self.folder.join(&name))?;
        *asked = None;
        Ok(())
    }

    /// Unmounts all trees but these, and those that have just been asked for.
    pub(crate) fn sweep(&self, in_use: &HashSet<String>) {
        let in_use: HashSet<String> = in_use.iter().filter_map(|id| name_of(id).ok()).collect();
        for entry in fs::read_dir(&self.folder).into_iter().flatten().flatten() {
            let Some(name) = entry.file_name().to_str().map(str::to_owned) else { continue };
            if in_use.contains(&name) {
                continue;
            }
            let asked = self.asked(&name);
            let mut asked = asked.lock().unwrap_or_else(PoisonError::into_inner);
            if asked.is_some_and(|when| when.elapsed() < GRACE) {
                continue;
            }
            match self.unmount(&entry.path()) {
                Ok(()) => *asked = None,
                Err(why) => log::info!("{why}"),
            }
        }
    }

    /// What all trees that are mounted have fetched, and what waits for more.
    pub(crate) fn traffic(&self) -> Traffic {
        let json = self.program.status("--json", None).unwrap_or_else(|why| {
            log::debug!("what mounts fetch is not known: {why}");
            Vec::new()
        });
        let rows: Vec<Value> = serde_json::from_slice(&json).unwrap_or_default();
        let is_ours = |row: &&Value| {
            row["mount_point"].as_str().is_some_and(|at| Path::new(at).starts_with(&self.folder))
        };
        let mut traffic = Traffic::default();
        for row in rows.iter().filter(is_ours) {
            traffic.fetched += row["network"]["bytes"].as_u64().unwrap_or(0);
            traffic.waiting += row["reads"]["waiting"].as_u64().unwrap_or(0);
        }
        traffic
    }

    fn asked(&self, name: &str) -> Arc<Mutex<Option<Instant>>> {
        let mut all = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(all.entry(name.to_owned()).or_default())
    }

    fn make(&self, directory: &Path) -> io::Result<()> {
        fs::create_dir_all(&self.folder)?;
        fs::set_permissions(&self.folder, Permissions::from_mode(0o700))?;
        match fs::create_dir(directory) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            result => result,
        }
    }

    fn unmount(&self, directory: &Path) -> Result<(), String> {
        // A directory on which nothing is mounted is empty.
        let removed = || match fs::remove_dir(directory) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            result => result,
        };
        if removed().is_ok() {
            return Ok(());
        }
        self.program.unmount(directory)?;
        removed().map_err(|e| format!("the directory {} stays: {e}", directory.display()))
    }

    /// Whether these layers of the image are what is mounted at a place.
    fn is_mounted(&self, remote: &Remote, place: &str) -> bool {
        let Ok(json) = self.program.status("--json", Some(place)) else { return false };
        let rows: Value = serde_json::from_slice(&json).unwrap_or_default();
        let row = &rows[0];
        let count = row["options"]["lowest_layers"].as_u64().unwrap_or(remote.layers as u64);
        let digest = row["digest"].as_str().unwrap_or_default();
        let is_image = !digest.is_empty() && remote.image.ends_with(&format!("@{digest}"));
        is_image && count == remote.count as u64
    }
}

/// The name of a directory for a chain ID.
fn name_of(chain_id: &str) -> Result<String, String> {
    let digest = chain_id.parse::<Digest>();
    let digest = digest.map_err(|e| format!("`{chain_id}` is no chain ID: {e}"))?;
    Ok(digest.to_string().replace(':', "-"))
}
