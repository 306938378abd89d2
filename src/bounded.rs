//! Reading what should be small: never more of it than so many bytes, whatever it turns out to be.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// Longest silence of a program that writes into a named pipe: time to type a passphrase.
const MAX_SILENCE: Timespec = Timespec { tv_sec: 60, tv_nsec: 0 };

/// Reads all of something that has no more than `limit` bytes.
///
/// # Errors
/// It can't be read, or has more ([`io::ErrorKind::FileTooLarge`]).
pub(crate) fn read_all(from: impl Read, limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    from.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
    match bytes.len() as u64 > limit {
        true => {
            let what = format!("it has more than the {limit} bytes that are read of it");
            Err(io::Error::new(io::ErrorKind::FileTooLarge, what))
        }
        false => Ok(bytes),
    }
}

/// Reads a file that has no more than `limit` bytes. It may be a pipe, as a shell makes one of `<(…)`, but
/// only one that a program writes to: for a writer to come nothing waits.
///
/// # Errors
/// It can't be read, has more ([`io::ErrorKind::FileTooLarge`]), or is a pipe from which nothing comes.
pub(crate) fn read_file(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let flags = rustix::fs::OFlags::NONBLOCK.bits() as i32;
    let file = File::options().read(true).custom_flags(flags).open(path)?;
    let is_pipe = file.metadata()?.file_type().is_fifo();
    let bytes = read_all(Patient(&file), limit)?;
    match is_pipe && bytes.is_empty() {
        true => Err(io::Error::other("it is a pipe, and no program writes to it")),
        false => Ok(bytes),
    }
}

/// A file that is opened so that it does not block.
struct Patient<'a>(&'a File);

impl Read for Patient<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.0.read(buffer) {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                result => return result,
            }
            match poll(&mut [PollFd::new(self.0, PollFlags::IN)], Some(&MAX_SILENCE)) {
                Ok(0) => {
                    let what = format!("nothing has come for {} seconds", MAX_SILENCE.tv_sec);
                    return Err(io::Error::new(io::ErrorKind::TimedOut, what));
                }
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(e) => return Err(e.into()),
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::io::Write;
    use std::os::fd::AsRawFd;
    use std::thread;
    use std::time::Duration;

    use super::*;

    #[test]
    fn pipes() {
        let (reader, mut writer) = io::pipe().unwrap();
        let path = format!("/proc/self/fd/{}", reader.as_raw_fd());
        let slow = thread::spawn(move || {
            for text in ["a", "b", "c"] {
                thread::sleep(Duration::from_millis(50));
                writer.write_all(text.as_bytes()).unwrap();
            }
        });
        assert_eq!(read_file(Path::new(&path), 3).unwrap(), b"abc", "what comes late");
        slow.join().unwrap();
        let error = read_file(Path::new(&path), 3).unwrap_err().to_string();
        assert!(error.contains("no program writes"), "{error}");
        assert_eq!(read_file(Path::new("/dev/null"), 3).unwrap(), b"");
    }

    #[test]
    fn what_is_longer_is_refused() {
        assert_eq!(read_all(&b"abc"[..], 3).unwrap(), b"abc");
        assert_eq!(read_all(&b""[..], 0).unwrap(), b"");
        let error = read_all(io::repeat(0), 3).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::FileTooLarge);
        assert!(error.to_string().contains("more than the 3 bytes"), "{error}");
    }
}
