//! A user namespace, for the owners that mounts have by it.
//!
//! The kernel takes a map of owners as a user namespace that has this map, and a process with threads can't enter a new one. So this
//! program is started once more, enters one, and waits until it has its map and is open here.

#![allow(unsafe_code, reason = "one call; see there")]

use std::env;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::process::{Child, Command, ExitCode, Stdio};

use rustix::thread::{UnshareFlags, unshare_unsafe};

use crate::idmap::IdMap;

const VERB: &str = "enter-user-namespace";

/// One with this map.
///
/// # Errors
/// The kernel allows no user namespaces, or not this map.
pub(crate) fn with(map: &IdMap) -> io::Result<File> {
    let mut command = Command::new("/proc/self/exe");
    command.arg(VERB).env_clear();
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn()?;
    let opened = give_map(&mut child, map);
    // It ends with its input.
    drop(child.stdin.take());
    child.wait()?;
    opened
}

fn give_map(child: &mut Child, map: &IdMap) -> io::Result<File> {
    let said = child.stdout.as_mut().map(|stdout| stdout.read_exact(&mut [0]));
    said.ok_or(io::ErrorKind::BrokenPipe)?.map_err(|_| {
        io::Error::other("no user namespace can be entered (/proc/sys/user/max_user_namespaces)")
    })?;
    let place = format!("/proc/{}", child.id());
    for (file, lines) in ["uid_map", "gid_map"].iter().zip(map.lines()) {
        fs::write(format!("{place}/{file}"), lines)?;
    }
    File::open(format!("{place}/ns/user"))
}

/// Whether this process is to enter one.
pub(crate) fn is_asked() -> bool {
    env::args_os().len() == 2 && env::args_os().nth(1).is_some_and(|word| word == VERB)
}

/// Enters one, and stays as long as it is wanted. To be called before there are threads.
pub(crate) fn stay() -> ExitCode {
    // SAFETY: descriptors are not unshared.
    let entered = unsafe { unshare_unsafe(UnshareFlags::NEWUSER) };
    let waited = entered.map_err(io::Error::from).and_then(|()| {
        io::stdout().write_all(b"\n")?;
        io::stdout().flush()?;
        io::stdin().read(&mut [0])
    });
    ExitCode::from(u8::from(waited.is_err()))
}
