//! The mount namespace that mount(8) names.

use std::env;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::render::errors::AnyError;

/// Goes into the mount namespace of a process or a file, as mount(8) was told (`-N`).
///
/// # Errors
/// It does not exist, or this user may not enter it.
pub(crate) fn enter_mount_namespace(namespace: &OsStr) -> Result<(), AnyError> {
    let is_pid = namespace.as_bytes().iter().all(u8::is_ascii_digit);
    let path = match is_pid {
        true => PathBuf::from("/proc").join(namespace).join("ns/mnt"),
        false => PathBuf::from(namespace),
    };
    let failed = |e: io::Error| format!("the mount namespace {}: {e}", path.display());
    let file = fs::File::open(&path).map_err(failed)?;
    // The directory that relative paths are from has the same path there.
    let current = env::current_dir();
    let kind = Some(LinkNameSpaceType::Mount);
    move_into_link_name_space(file.as_fd(), kind).map_err(|e| failed(e.into()))?;
    if let Ok(current) = current {
        env::set_current_dir(&current).map_err(|e| format!("{}: {e}", current.display()))?;
    }
    Ok(())
}
