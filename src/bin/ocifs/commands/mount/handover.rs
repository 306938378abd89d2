//! Between the process that is started and the one that serves: the mount point one way, a word the other.
//!
//! The mount point has been looked up, and is handed over as a descriptor: `ocifs::fuse::kernel::MountPoint`. The
//! serving process has it on its standard output, which is a socket for that reason. (Rejected: a descriptor that is
//! inherited, as taking it by its number is `unsafe`, and it would be inherited further.)

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

/// What goes with the descriptor, as nothing is sent without a byte.
const BYTE: &[u8] = b"d";

/// Sends the mount point to a process that is started with the second end as its standard output.
pub(super) fn send(mount_point: &MountPoint) -> io::Result<(UnixStream, Stdio)> {
    let (ours, theirs) = UnixStream::pair()?;
    let descriptors = [mount_point.as_fd()];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !control.push(SendAncillaryMessage::ScmRights(&descriptors)) {
        return Err(io::Error::other("no room for a descriptor"));
    }
    sendmsg(&ours, &[IoSlice::new(BYTE)], &mut control, SendFlags::empty())?;
    Ok((ours, Stdio::from(OwnedFd::from(theirs))))
}

/// The mount point that the process that started this one has sent.
pub(super) fn receive() -> Result<MountPoint, AnyError> {
    let failed = |e: io::Error| format!("taking over the mount point: {e}");
    let mut byte = [0];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::CMSG_CLOEXEC;
    recvmsg(io::stdout(), &mut [IoSliceMut::new(&mut byte)], &mut control, flags)
        .map_err(|e| failed(e.into()))?;
    let descriptor = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
        _ => None,
    });
    let directory = descriptor.ok_or_else(|| failed(ErrorKind::UnexpectedEof.into()))?;
    Ok(MountPoint::from_descriptor(directory)?)
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
