//! Archives that come once and in order: standard input and pipes.
//!
//! `docker save X | ocifs ls -` has no file, and an archive is read at any place. So what comes is
//! written to an unlinked temporary file, as an engine's answer is (`docker_daemon`), all of it, so that
//! the writer is not cut off. What can be told from the first block to be no archive is refused before
//! anything is written, so that no disk fills with what comes out of the wrong program.
//!
//! Nothing is waited for without end: a pipe that has no writer is told at once, and one whose
//! writer falls silent after a while.

use std::fs::File;
use std::io::{self, IsTerminal, Read, Seek, Write};
use std::path::Path;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FileType, OFlags, fcntl_getfl, fstat};

use super::Error;
use super::magic::check_archive;
use crate::tar;

/// Bytes read at a time.
const CHUNK_BYTES: usize = 1 << 20;

/// Longest silence of a writer: `docker save` of an old engine unpacks all of an image before its first
/// byte.
const MAX_SILENCE: Timespec = Timespec { tv_sec: 600, tv_nsec: 0 };

/// Longest archive that is taken, in bytes. Disks end earlier, but not all of them.
const MAX_STREAM_BYTES: u64 = 1 << 40;

/// Our standard input, as a file of its own.
pub(super) fn standard_input() -> io::Result<File> {
    Ok(File::from(rustix::io::fcntl_dupfd_cloexec(io::stdin(), 3)?))
}

/// Whether a file is to be read in order rather than at any place: a pipe, a socket, or a file of which a
/// part has been read.
pub(super) fn is_stream(file: &File) -> io::Result<bool> {
    Ok(match FileType::from_raw_mode(fstat(file)?.st_mode) {
        FileType::RegularFile => {
            let mut file = file;
            file.stream_position()? != 0
        }
        FileType::Directory | FileType::BlockDevice => false,
        _ => true,
    })
}

/// Writes all that comes from a stream to an unlinked file in `folder`; `path` is what the stream is
/// called, for messages.
pub(super) fn spool(mut stream: File, path: &Path, folder: &Path) -> Result<File, Error> {
    if stream.is_terminal() {
        let what = "it is a terminal: send an archive into it, as `docker save IMAGE |` does";
        return Err(Error::invalid(path, what));
    }
    let spooled = |e| Error::file(folder, e);
    let mut file = tempfile::tempfile_in(folder).map_err(spooled)?;
    let mut buffer = vec![0; CHUNK_BYTES];
    let mut length = 0;
    // The first block is looked at whole.
    let mut filled = 0;
    loop {
        let n = next(&mut stream, &mut buffer[filled..]).map_err(|e| Error::file(path, e))?;
        filled += n;
        if n > 0 && length == 0 && filled < tar::BLOCK_BYTES {
            continue;
        }
        if length == 0 {
            check_start(&buffer[..filled], path)?;
        }
        file.write_all(&buffer[..filled]).map_err(spooled)?;
        length += filled as u64;
        filled = 0;
        if n == 0 {
            break;
        }
        if length > MAX_STREAM_BYTES {
            return Err(Error::invalid(
                path,
                "more than 1 TiB came, which is no archive of an image",
            ));
        }
    }
    file.rewind().map_err(spooled)?;
    Ok(file)
}

fn check_start(start: &[u8], path: &Path) -> Result<(), Error> {
    if start.is_empty() {
        let what = "nothing came from it: no program writes to it, or it had nothing to write";
        return Err(Error::invalid(path, what));
    }
    check_archive(start)
        .map_err(|what| Error::invalid(path, format!("what comes is no image: it is {what}")))
}

/// Reads what is next; 0 bytes at the end.
fn next(stream: &mut File, buffer: &mut [u8]) -> io::Result<usize> {
    // A pipe that is opened by name does not block: without a writer it has its end at once, and waiting
    // for one would have no end.
    let mut is_ready = fcntl_getfl(&*stream)?.contains(OFlags::NONBLOCK);
    loop {
        if !is_ready {
            wait(stream)?;
        }
        match stream.read(buffer) {
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => is_ready = false,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

/// Waits until there is something to read, or nothing will come.
fn wait(stream: &File) -> io::Result<()> {
    let mut waits = [PollFd::new(stream, PollFlags::IN)];
    match poll(&mut waits, Some(&MAX_SILENCE)) {
        Ok(0) => {
            let what = format!("nothing has come for {} seconds", MAX_SILENCE.tv_sec);
            Err(io::Error::new(io::ErrorKind::TimedOut, what))
        }
        Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
        Err(e) => Err(e.into()),
    }
}
