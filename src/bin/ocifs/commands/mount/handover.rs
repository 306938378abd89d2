//! Between the process that is started and the one that serves: the mount point and logins one way, a word the
//! other.
//!
//! The mount point has been looked up, and is handed over as a descriptor: `ocifs::fuse::kernel::MountPoint`. The
//! serving process has it on its standard output, which is a socket for that reason. (Rejected: a descriptor that is
//! inherited, as taking it by its number is `unsafe`, and it would be inherited further.)
//!
//! The login of `--creds` and the text of `$DOCKER_AUTH_CONFIG` go the same way, because a process serves for
//! days, and its words and its environment can be read all the time.

use std::fs::File;
use std::io::{self, ErrorKind, IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::Stdio;

use ocifs::fuse::kernel::MountPoint;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};

use crate::render::errors::AnyError;

/// The lengths of the two texts, which the descriptor goes with.
const LENGTHS_BYTES: usize = 2 * size_of::<u32>();

/// Longest text, in bytes: the kernel's limit for a variable.
const MAX_TEXT_BYTES: usize = 128 << 10;

/// What the serving process has to know and must not show.
#[derive(Default)]
pub(super) struct Secrets {
    /// `USER:PASSWORD` of `--creds`, or nothing.
    pub(super) login: Vec<u8>,
    /// `$DOCKER_AUTH_CONFIG`, or nothing.
    pub(super) auth_config: Vec<u8>,
}

/// Sends the mount point to a process that is started with the second end as its standard output, and how much
/// [`send_secrets`] will send.
pub(super) fn send(mount_point: &MountPoint, secrets: &Secrets) -> io::Result<(UnixStream, Stdio)> {
    let texts = [&secrets.login, &secrets.auth_config];
    if texts.iter().any(|text| text.len() > MAX_TEXT_BYTES) {
        return Err(io::Error::other("the credentials are too long"));
    }
    let (ours, theirs) = UnixStream::pair()?;
    let lengths = texts.map(|text| (text.len() as u32).to_le_bytes()).concat();
    let descriptors = [mount_point.as_fd()];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !control.push(SendAncillaryMessage::ScmRights(&descriptors)) {
        return Err(io::Error::other("no room for a descriptor"));
    }
    let sent = sendmsg(&ours, &[IoSlice::new(&lengths)], &mut control, SendFlags::empty())?;
    if sent < lengths.len() {
        return Err(ErrorKind::WriteZero.into());
    }
    Ok((ours, Stdio::from(OwnedFd::from(theirs))))
}

/// Sends the rest, once there is a process that reads it: it may be more than the socket holds.
pub(super) fn send_secrets(mut ours: &UnixStream, secrets: &Secrets) -> io::Result<()> {
    ours.write_all(&secrets.login)?;
    ours.write_all(&secrets.auth_config)
}

/// What the process that started this one has sent.
pub(super) fn receive() -> Result<(MountPoint, Secrets), AnyError> {
    let failed = |e: io::Error| format!("taking over the mount point: {e}");
    let mut lengths = [0; LENGTHS_BYTES];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::CMSG_CLOEXEC;
    let received = recvmsg(io::stdout(), &mut [IoSliceMut::new(&mut lengths)], &mut control, flags)
        .map_err(|e| failed(e.into()))?;
    let descriptor = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
        _ => None,
    });
    let whole = descriptor.filter(|_| received.bytes == LENGTHS_BYTES);
    let directory = whole.ok_or_else(|| failed(ErrorKind::UnexpectedEof.into()))?;
    let mut stdout = File::from(io::stdout().as_fd().try_clone_to_owned().map_err(failed)?);
    let mut text = |length: &[u8]| {
        let length = length.try_into().map_or(0, u32::from_le_bytes) as usize;
        let mut text = vec![0; length.min(MAX_TEXT_BYTES)];
        stdout.read_exact(&mut text).map(|()| text)
    };
    let (first, second) = lengths.split_at(LENGTHS_BYTES / 2);
    let login = text(first).map_err(failed)?;
    let auth_config = text(second).map_err(failed)?;
    Ok((MountPoint::from_descriptor(directory)?, Secrets { login, auth_config }))
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
