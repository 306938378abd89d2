//! Telling a service manager how far we are, by the protocol of sd_notify(3): a datagram to the Unix socket that
//! `NOTIFY_SOCKET` names, in the file system or (`@`) abstract.

use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::Path;

use crate::variables;

/// The mount answers.
pub(crate) const READY: &str = "READY=1";

/// The mount is about to end.
pub(crate) const STOPPING: &str = "STOPPING=1";

/// Tells the service manager, if there is one. That it can't be told is no reason not to serve.
pub(crate) fn tell(state: &str) {
    let Some(socket) = variables::notify_socket() else { return };
    if let Err(e) = send(&socket, state) {
        log::warn!("telling the service manager {state} at {}: {e}", socket.display());
    }
}

fn send(socket: &Path, state: &str) -> io::Result<()> {
    let address = match socket.as_os_str().as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        _ => SocketAddr::from_pathname(socket)?,
    };
    UnixDatagram::unbound()?.send_to_addr(state.as_bytes(), &address).map(drop)
}
