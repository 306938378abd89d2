//! Mount namespaces that all other processes have left.
//!
//! # Problem
//!
//! A mount in the background that was made inside `unshare -m` keeps its namespace alive, and the namespace keeps
//! the mount: the process that serves the mount lives there, and no other process can reach it to unmount it.
//!
//! # Design
//!
//! The serving process looks at intervals whether another process is in its namespace. Usually one readlink(2)
//! answers that, of the process that was there the last time. The namespace counts as left if two looks in a row find
//! no process and no thread in it, no descriptor and no bind mount that leads to it (`unshare --mount=FILE` makes one),
//! and no mount that was propagated from it to another namespace. Then the mounts are *detached*, as the kernel does at
//! the end of a namespace. A file that a process elsewhere has open, or an overlay elsewhere, goes on being served
//! until the kernel ends the connection with its last user; then the process ends, and the namespace with it.
//!
//! This is done only in a namespace that is certainly not the system's. A process whose namespace can't be read counts
//! as one that is in it, unless this process has CAP_SYS_PTRACE: then the refusal means that the other one belongs to
//! another user namespace, from where the kernel lets no process use the mount (`fuse_allow_current_process`).
//!
//! Rejected: to serve from outside the namespace, by setns(2) into the parent's (an ordinary user may not, and paths
//! of the cache and of archives could mean something else there) or from a copy of the namespace (which would keep
//! every other mount in it busy). To exit at once: what is open elsewhere would be cut off.

use std::path::{Path, PathBuf};

use rustix::mount::{MountPropagationFlags, UnmountFlags};

use super::holders::{is_overlay_over, namespace, pids};
use super::ids::{CAP_SYS_PTRACE, has_capability, is_in_user_namespace};
use super::mountinfo::{mounts, rows};

/// The mount namespace of this process, if it is one that may be left by all others.
#[derive(Debug)]
pub struct Namespace {
    link: PathBuf,
    /// A process that was there the last time.
    known: Option<u32>,
    /// Whether all who could be there can be looked at.
    sees_all: bool,
}

impl Namespace {
    /// The namespace of this process; `None` if it is the system's, or it can't be told.
    pub fn of_its_own() -> Option<Namespace> {
        let link = namespace("self")?;
        let sees_all = has_capability(CAP_SYS_PTRACE);
        let is_own = match namespace("1").or_else(namespace_of_kernel) {
            Some(system) => system != link,
            // Who could mount in a user namespace is in a mount namespace of it.
            None => sees_all && is_in_user_namespace(),
        };
        is_own.then_some(Namespace { link, known: None, sees_all })
    }

    /// Whether no process is in it but those that only serve mounts.
    pub fn is_deserted(&mut self, serves: impl Fn(u32) -> bool) -> bool {
        let own = std::process::id();
        if self.known.is_some_and(|pid| self.is_in(pid)) {
            return false;
        }
        self.known =
            pids().into_iter().find(|pid| *pid != own && self.is_in(*pid) && !serves(*pid));
        self.known.is_none() && !self.has_thread(&serves) && !self.is_referred_to()
    }

    /// Whether a process is in it, or may be.
    fn is_in(&self, pid: u32) -> bool {
        self.leads_here(&format!("/proc/{pid}/ns/mnt"))
    }

    fn leads_here(&self, link: &str) -> bool {
        match std::fs::read_link(link) {
            Ok(link) => link == self.link,
            Err(e) if e.kind() == std::io::ErrorKind::PermissionDenied => !self.sees_all,
            // It has ended.
            Err(_) => false,
        }
    }

    /// Whether a thread is in it whose process is not.
    fn has_thread(&self, serves: &impl Fn(u32) -> bool) -> bool {
        pids().into_iter().filter(|pid| *pid != std::process::id() && !serves(*pid)).any(|pid| {
            let threads = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten();
            threads
                .flatten()
                .any(|thread| self.leads_here(&thread.path().join("ns/mnt").display().to_string()))
        })
    }

    /// Whether a descriptor or a mount of the namespace itself leads to it, or its mounts are elsewhere too.
    fn is_referred_to(&self) -> bool {
        let ours: Vec<_> = mounts().unwrap_or_default().into_iter().map(|m| m.device).collect();
        let mut seen = vec![self.link.clone()];
        pids().into_iter().any(|pid| {
            let files = std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten();
            let mut links = files.flatten().filter_map(|file| std::fs::read_link(file.path()).ok());
            if links.any(|link| link == self.link) {
                return true;
            }
            match namespace(&pid.to_string()) {
                Some(other) if !seen.contains(&other) => seen.push(other),
                _ => return false,
            }
            let others = rows(&pid.to_string()).unwrap_or_default();
            others.iter().any(|row| Path::new(&row.root) == self.link || ours.contains(&row.device))
        })
    }

    /// Detaches a connection's mounts here, and overlays over them, as the end of the namespace would.
    pub fn detach(&self, connection: u32) {
        // What is mounted below the same places elsewhere stays. Without a mount at the root it is left to chance
        // that nothing is.
        let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
        if let Err(e) = rustix::mount::mount_change("/", private) {
            log::debug!("making mounts private: {e}");
        }
        let ours = |mounted: &super::Mounted| mounted.connection == connection;
        let table = rows("self").unwrap_or_default();
        let mounted: Vec<_> = table.iter().map(|row| row.mounted().filter(ours)).collect();
        let places: Vec<PathBuf> =
            mounted.iter().flatten().map(|mounted| mounted.mount_point.clone()).collect();
        // The newest first.
        for (row, mounted) in table.iter().zip(&mounted).rev() {
            if mounted.is_some() || is_overlay_over(row, &places) {
                let flags = UnmountFlags::DETACH | UnmountFlags::NOFOLLOW;
                if let Err(e) = rustix::mount::unmount(&row.mount_point, flags) {
                    log::warn!("detaching {}: {e}", row.mount_point.display());
                }
            }
        }
    }
}

/// The mount namespace of the kernel's own threads, which is the first of all. They are only there where all processes
/// are seen.
fn namespace_of_kernel() -> Option<PathBuf> {
    let name = std::fs::read_to_string("/proc/2/comm").ok()?;
    if name == "kthreadd\n" { namespace("2") } else { None }
}
