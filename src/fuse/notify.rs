//! What the kernel is told of its page cache without asking: bytes of files (FUSE_NOTIFY_STORE), and that it is to forget
//! those that it has (FUSE_NOTIFY_INVAL_INODE).
//!
//! `fuser` has this too, but hides that the kernel does not know an inode (yet), and that is what
//! the pusher has to know. Format: `struct fuse_out_header`, `struct fuse_notify_store_out`,
//! `struct fuse_notify_inval_inode_out` and
//! `enum fuse_notify_code` of include/uapi/linux/fuse.h, all in the machine's byte order.

use std::io::{self, IoSlice};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// `FUSE_NOTIFY_STORE`.
const STORE: i32 = 4;

/// `FUSE_NOTIFY_INVAL_INODE`.
const INVAL_INODE: i32 = 2;

/// Size of both headers.
const HEADER_BYTES: usize = 16 + 24;

/// The way to the kernel's page cache.
#[derive(Debug)]
pub(super) struct Notifier(OwnedFd);

impl Notifier {
    /// Over the connection of a descriptor.
    pub(super) fn new(device: BorrowedFd<'_>) -> io::Result<Notifier> {
        device.try_clone_to_owned().map(Notifier)
    }

    /// Puts all bytes of a file into the page cache; false if the kernel does not know an inode of this number.
    pub(super) fn store(&self, number: u64, bytes: &[u8]) -> io::Result<bool> {
        let header = header(STORE, number, bytes.len());
        let parts = [IoSlice::new(&header), IoSlice::new(bytes)];
        match rustix::io::writev(self.0.as_fd(), &parts) {
            // A message is taken whole.
            Ok(_) => Ok(true),
            Err(rustix::io::Errno::NOENT) => Ok(false),
            Err(e) => Err(e.into()),
        }
    }

    /// Has all bytes of a file forgotten that are in the page cache. Waits for those that are being read.
    pub(super) fn forget(&self, number: u64) -> io::Result<()> {
        // From the start of the file on, which may have any length: 0 stands for all of it.
        match rustix::io::write(self.0.as_fd(), &header(INVAL_INODE, number, 0)) {
            Ok(_) | Err(rustix::io::Errno::NOENT) => Ok(()),
            Err(e) => Err(e.into()),
        }
    }
}

/// The header of a message. Both kinds have the number of an inode first, and then zeros but for the length.
fn header(code: i32, number: u64, length: usize) -> [u8; HEADER_BYTES] {
    let mut header = [0; HEADER_BYTES];
    let mut put = |at: usize, bytes: &[u8]| header[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, &((HEADER_BYTES + length) as u32).to_ne_bytes());
    put(4, &code.to_ne_bytes());
    // The request that it answers: none.
    put(8, &0u64.to_ne_bytes());
    put(16, &number.to_ne_bytes());
    // From the start of the file.
    put(24, &0u64.to_ne_bytes());
    put(32, &(length as u32).to_ne_bytes());
    header
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_endian = "little")]
    fn the_header_of_a_message() {
        let mut expected = [0; HEADER_BYTES];
        expected[0] = 43;
        expected[4] = 4;
        expected[16] = 1;
        expected[32] = 3;
        assert_eq!(header(STORE, 1, 3), expected);
        expected[0] = 40;
        (expected[4], expected[32]) = (2, 0);
        assert_eq!(header(INVAL_INODE, 1, 0), expected);
    }
}
