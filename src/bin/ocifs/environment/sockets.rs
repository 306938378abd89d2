//! The status sockets of this user's mounts: where they are, and asking them.

use std::collections::BTreeSet;
use std::env;
use std::io;
use std::path::PathBuf;

use ocifs::mount::{self, Status, StatusError, StatusSocket};

use super::users::user_outside;
use crate::variables::variable;

/// Makes the status socket of a connection, in the first folder that can be used: who has become another user keeps the session's
/// folder in the environment.
pub(crate) fn status_socket(connection: u32) -> Option<StatusSocket> {
    runtime_folders().into_iter().find_map(|folder| {
        StatusSocket::listen(&folder, connection)
            .inspect_err(|e| log::info!("no status socket in {}: {e}", folder.display()))
            .ok()
    })
}

/// Where mounts of this user may have their status sockets, the own place first: what is mounted at boot, or by
/// `sudo`, has no session.
fn runtime_folders() -> Vec<PathBuf> {
    let user = user_outside();
    let name = format!("ocifs-{user}");
    // A path that depends on where one is, is to be ignored (XDG Base Directory Specification).
    let session = variable("XDG_RUNTIME_DIR").filter(|folder| folder.is_absolute());
    let session = session.map(|folder| folder.join("ocifs"));
    let others = [
        env::temp_dir().join(&name),
        PathBuf::from("/tmp").join(&name),
        PathBuf::from(format!("/run/user/{user}/ocifs")),
    ];
    session.into_iter().chain(others).collect()
}

/// Asks the process behind a connection for its state, wherever its socket is.
///
/// # Errors
/// There is none, or it does not answer.
pub(crate) fn query_status(connection: u32) -> Result<Status, StatusError> {
    let is_there = |e: &StatusError| {
        use io::ErrorKind::{ConnectionRefused, TimedOut, WouldBlock};
        e.is_supervised() || matches!(e.kind(), ConnectionRefused | TimedOut | WouldBlock)
    };
    let mut first = None;
    for folder in runtime_folders() {
        match mount::query_status(&folder, connection) {
            // That there is a socket, somewhere, tells more than that there is none.
            Err(e) if !is_there(&e) => first = first.or(Some(e)),
            result => return result,
        }
    }
    Err(first.unwrap_or_else(|| io::Error::from(io::ErrorKind::NotFound).into()))
}

/// The connections whose processes have, or had, a status socket.
pub(crate) fn status_sockets() -> BTreeSet<u32> {
    runtime_folders().iter().flat_map(|folder| mount::status_sockets(folder)).collect()
}
