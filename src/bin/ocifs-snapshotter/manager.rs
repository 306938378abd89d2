//! The service manager: what it is told (sd_notify(3)), and what it keeps of this program over a restart (`FDSTORE` there, and
//! sd_listen_fds(3)).
//!
//! systemd passes what it keeps to the next process by number, from 3 on.

#![allow(unsafe_code, reason = "one call; see there")]

use std::env;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::Path;
use std::process::Command;

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};

/// All sockets are there.
pub(crate) const READY: &str = "READY=1";

/// The end has begun.
pub(crate) const STOPPING: &str = "STOPPING=1";

const SOCKET: &str = "NOTIFY_SOCKET";

/// Variables of what was passed: whom to, how many, and what they are called.
const PASSED: [&str; 3] = ["LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"];

/// The number of the first that is passed.
const FIRST: i32 = 3;

/// Most that are looked for. One is asked for, and what is not taken would reach programs that are started.
const MOST: i32 = 4096;

/// Tells it, if there is one. That it can't be told is no reason not to serve.
pub(crate) fn tell(state: &str) {
    tell_with(state, &[]);
}

/// Has it keep a file under a name, and pass it to the next process.
pub(crate) fn keep(name: &str, file: &File) {
    tell_with(&format!("FDSTORE=1\nFDNAME={name}"), &[file.as_fd()]);
}

fn tell_with(state: &str, descriptors: &[BorrowedFd<'_>]) {
    let Some(socket) = env::var_os(SOCKET) else { return };
    if let Err(e) = send(&socket, state, descriptors) {
        let socket = Path::new(&socket).display();
        log::warn!("telling the service manager {state:?} at {socket}: {e}");
    }
}

fn send(socket: &OsStr, state: &str, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    let address = match socket.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        _ => SocketAddr::from_pathname(socket)?,
    };
    let to = UnixDatagram::unbound()?;
    to.connect_addr(&address)?;
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() && !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(io::Error::other("no room for a descriptor"));
    }
    sendmsg(&to, &[IoSlice::new(state.as_bytes())], &mut control, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// What an earlier process had it keep, by name. To be called first of all, and once.
pub(crate) fn kept() -> Vec<(String, File)> {
    let [to, count, names] = PASSED.map(|name| env::var(name).unwrap_or_default());
    if to != std::process::id().to_string() {
        return Vec::new();
    }
    let count = count.parse::<i32>().map_or(0, |count| count.clamp(0, MOST));
    let mut names = names.split(':');
    let numbers = (FIRST..FIRST + count).map(|number| (number, names.next().unwrap_or_default()));
    numbers.filter_map(|(number, name)| Some((name.to_owned(), take(number)?))).collect()
}

/// What was passed under a number; programs that are started do not get it.
fn take(number: i32) -> Option<File> {
    if !Path::new(&format!("/proc/self/fd/{number}")).is_symlink() {
        return None;
    }
    // SAFETY: it is open. `LISTEN_PID` says that this very process was started with it, to be taken; nothing else of
    // this program knows of it, and each number is taken once.
    let file = unsafe { OwnedFd::from_raw_fd(number) };
    rustix::io::fcntl_setfd(&file, rustix::io::FdFlags::CLOEXEC).ok()?;
    Some(file.into())
}

/// Has a program that is started know nothing of all this: it would say that it is ready in the name of this one.
pub(crate) fn hide_from(command: &mut Command) {
    for name in PASSED.into_iter().chain([SOCKET]) {
        command.env_remove(name);
    }
}
