//! What goes over a socket between two processes: a kind, bytes, and descriptors.

use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use rustix::net::SendFlags;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::descriptor::{receive, send};

/// The kind, and how many bytes follow.
const HEAD_BYTES: usize = 1 + size_of::<u32>();

/// Longest content, in bytes: of a mount, a digest for each image.
const MAX_BYTES: usize = 16 << 20;

/// What has come.
#[derive(Debug)]
pub(in crate::commands) struct Parcel {
    pub(in crate::commands) kind: u8,
    bytes: Vec<u8>,
    descriptors: Vec<OwnedFd>,
}

impl Parcel {
    /// The bytes, as JSON.
    ///
    /// # Errors
    /// They are something else.
    pub(in crate::commands) fn read<T: DeserializeOwned>(&self) -> io::Result<T> {
        Ok(serde_json::from_slice(&self.bytes)?)
    }

    pub(in crate::commands) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The descriptors, if there are so many.
    ///
    /// # Errors
    /// There are not.
    pub(in crate::commands) fn descriptors<const N: usize>(self) -> io::Result<[OwnedFd; N]> {
        self.descriptors.try_into().map_err(|_| ErrorKind::InvalidData.into())
    }
}

/// Sends one.
pub(in crate::commands) fn give(
    mut socket: &UnixStream,
    kind: u8,
    bytes: &[u8],
    descriptors: &[BorrowedFd<'_>],
) -> io::Result<()> {
    send(socket.as_fd(), &head(kind, bytes)?, descriptors, SendFlags::empty())?;
    socket.write_all(bytes)
}

/// Sends one of few bytes, unless the other end has not read what was sent before.
pub(in crate::commands) fn offer(
    socket: &UnixStream,
    kind: u8,
    bytes: &[u8],
    descriptors: &[BorrowedFd<'_>],
) -> io::Result<()> {
    let all = [&head(kind, bytes)?[..], bytes].concat();
    send(socket.as_fd(), &all, descriptors, SendFlags::DONTWAIT)
}

/// Sends one whose content is JSON.
pub(in crate::commands) fn tell(
    socket: &UnixStream,
    kind: u8,
    content: &impl Serialize,
    descriptors: &[BorrowedFd<'_>],
) -> io::Result<()> {
    give(socket, kind, &serde_json::to_vec(content)?, descriptors)
}

/// The next one; `None` if there will be none.
pub(in crate::commands) fn take(mut socket: &UnixStream) -> io::Result<Option<Parcel>> {
    let mut head = [0; HEAD_BYTES];
    let (length, descriptors) = match receive(socket.as_fd(), &mut head) {
        Err(e) if e.kind() == ErrorKind::ConnectionReset => return Ok(None),
        result => result?,
    };
    if length == 0 {
        return Ok(None);
    }
    socket.read_exact(&mut head[length..])?;
    let [kind, length @ ..] = head;
    let length = u32::from_le_bytes(length) as usize;
    if length > MAX_BYTES {
        return Err(ErrorKind::InvalidData.into());
    }
    let mut bytes = vec![0; length];
    socket.read_exact(&mut bytes)?;
    Ok(Some(Parcel { kind, bytes, descriptors }))
}

fn head(kind: u8, bytes: &[u8]) -> io::Result<[u8; HEAD_BYTES]> {
    let length = u32::try_from(bytes.len()).map_err(io::Error::other)?;
    let mut head = [kind; HEAD_BYTES];
    head[1..].copy_from_slice(&length.to_le_bytes());
    Ok(head)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[allow(clippy::unwrap_used)]
    fn parcels_arrive_whole() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        tell(&ours, b'a', &"text", &[ours.as_fd(), theirs.as_fd()]).unwrap();
        offer(&ours, b'b', b"", &[]).unwrap();
        let first = take(&theirs).unwrap().unwrap();
        assert_eq!((first.kind, first.read::<String>().unwrap()), (b'a', "text".to_owned()));
        assert!(first.descriptors::<2>().is_ok());
        let second = take(&theirs).unwrap().unwrap();
        assert_eq!((second.kind, second.bytes()), (b'b', &b""[..]));
        assert!(second.descriptors::<1>().is_err());
        give(&ours, b'c', &[0; HEAD_BYTES], &[]).unwrap();
        drop(ours);
        assert_eq!(take(&theirs).unwrap().unwrap().bytes().len(), HEAD_BYTES);
        assert!(take(&theirs).unwrap().is_none());
    }

    #[test]
    #[allow(clippy::unwrap_used)]
    fn absurd_lengths_are_refused() {
        let (mut ours, theirs) = UnixStream::pair().unwrap();
        ours.write_all(&[b'a', 255, 255, 255, 255]).unwrap();
        assert_eq!(take(&theirs).unwrap_err().kind(), ErrorKind::InvalidData);
    }
}
