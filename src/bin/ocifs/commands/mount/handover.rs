//! Between the process that is started and the one that serves: the mount point and a login one way, a word the
//! other.
//!
//! The mount point has been looked up, and is handed over as a descriptor: `ocifs::fuse::kernel::MountPoint`. The
//! serving process has it on its standard output, which is a socket for that reason. (Rejected: a descriptor that is
//! inherited, as taking it by its number is `unsafe`, and it would be inherited further.)
//!
//! The login of `--creds` goes the same way, because a process serves for days, and its words and its environment
//! can be read all the time.

use std::fs::File;
use std::io::{self, ErrorKind, IoSlice, IoSliceMut, Read};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::Stdio;

use ocifs::fuse::kernel::MountPoint;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};

use crate::report::AnyError;

/// The length of the login, which the descriptor goes with.
const LENGTH_BYTES: usize = size_of::<u32>();

/// Longest login, in bytes: it has to fit into the socket.
const MAX_LOGIN_BYTES: usize = 64 << 10;

/// Sends the mount point, and a login or no text, to a process that is started with the second end as its standard
/// output.
pub(super) fn send(mount_point: &MountPoint, login: &str) -> io::Result<(UnixStream, Stdio)> {
    if login.len() > MAX_LOGIN_BYTES {
        return Err(io::Error::other("the login is too long"));
    }
    let (ours, theirs) = UnixStream::pair()?;
    let message = [&(login.len() as u32).to_le_bytes()[..], login.as_bytes()].concat();
    let descriptors = [mount_point.as_fd()];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !control.push(SendAncillaryMessage::ScmRights(&descriptors)) {
        return Err(io::Error::other("no room for a descriptor"));
    }
    let sent = sendmsg(&ours, &[IoSlice::new(&message)], &mut control, SendFlags::empty())?;
    if sent < message.len() {
        return Err(ErrorKind::WriteZero.into());
    }
    Ok((ours, Stdio::from(OwnedFd::from(theirs))))
}

/// The mount point and the login that the process that started this one has sent.
pub(super) fn receive() -> Result<(MountPoint, String), AnyError> {
    let failed = |e: io::Error| format!("taking over the mount point: {e}");
    let mut length = [0; LENGTH_BYTES];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::CMSG_CLOEXEC;
    let received = recvmsg(io::stdout(), &mut [IoSliceMut::new(&mut length)], &mut control, flags)
        .map_err(|e| failed(e.into()))?;
    let descriptor = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
        _ => None,
    });
    let whole = descriptor.filter(|_| received.bytes == LENGTH_BYTES);
    let directory = whole.ok_or_else(|| failed(ErrorKind::UnexpectedEof.into()))?;
    let mut login = vec![0; (u32::from_le_bytes(length) as usize).min(MAX_LOGIN_BYTES)];
    let stdout = io::stdout().as_fd().try_clone_to_owned().map_err(failed)?;
    File::from(stdout).read_exact(&mut login).map_err(failed)?;
    let login = String::from_utf8(login).map_err(|_| failed(ErrorKind::InvalidData.into()))?;
    Ok((MountPoint::from_descriptor(directory)?, login))
}

/// Whether the serving process says a word before it ends.
pub(super) fn is_word(ours: UnixStream, word: &[u8]) -> io::Result<bool> {
    let mut said = Vec::new();
    match ours.take(word.len() as u64).read_to_end(&mut said) {
        // It ended before it took the mount point.
        Err(e) if e.kind() == ErrorKind::ConnectionReset => Ok(false),
        result => result.map(|_| said == word),
    }
}
