//! The prefetcher itself.

use std::io::{self, BufReader, Read, Write};
use std::mem::MaybeUninit;
use std::num::NonZero;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{
    Advice, AtFlags, CWD, Mode, OFlags, RawDir, ResolveFlags, StatxFlags, fadvise, openat, openat2,
    readlinkat, statx,
};
use rustix::io::Errno;
use rustix::process::{Pid, test_kill_process};

use super::batch::{MAX_BUFFER_BYTES, read_word};
use super::target::{DeviceFolder, Target};

/// Goes over a mount as it is told on `batches`, until that ends, and answers on `answers`. Does nothing there if
/// something else is mounted than what is meant.
///
/// # Errors
/// Reading batches or answering fails; nothing that happens in the mount is an error.
pub fn run(place: &Target, batches: impl Read + AsFd, mut answers: impl Write) -> io::Result<()> {
    let mut batches = BufReader::new(batches);
    let mut buffer = vec![MaybeUninit::uninit(); MAX_BUFFER_BYTES];
    let mut name = Vec::new();
    let mut at = At::default();
    let mut client = 0;
    while let Some(letter) = read_word(&mut batches, &mut name)? {
        let is_step = !matches!(letter, b'p' | b'.');
        if is_step && !is_alive(client) {
            at = At::default();
            continue;
        }
        // What does not work here is asked for by the walk itself.
        let _ = match letter {
            b'p' => {
                client = number(&name)?;
                Ok(())
            }
            b'd' => at.go(place, &name),
            b'l' => at.list(number(&name)?, &mut buffer),
            b'f' => at.read_ahead(&name),
            b's' => at.follow(&name),
            b'b' => at.bring(place, part(&name)?),
            b'.' => {
                // In use, the mount can't be unmounted.
                if batches.buffer().is_empty() && !has_more(batches.get_ref())? {
                    at = At::default();
                }
                answers.write_all(&[0])?;
                answers.flush()?;
                Ok(())
            }
            _ => return Err(io::ErrorKind::InvalidData.into()),
        };
    }
    Ok(())
}

/// Whether everything can be opened as it is to be (Linux 5.6).
///
/// # Errors
/// It can't.
pub(super) fn check() -> io::Result<()> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let opened = openat2(CWD, c"/", flags, Mode::empty(), ResolveFlags::NO_SYMLINKS);
    opened.map(drop).map_err(|e| io::Error::other(format!("openat2: {e}")))
}

/// A number in decimal.
fn number(digits: &[u8]) -> io::Result<u32> {
    let number = std::str::from_utf8(digits).ok().and_then(|digits| digits.parse().ok());
    number.ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// A device, an offset and a length.
fn part(words: &[u8]) -> io::Result<[u64; 3]> {
    let words = std::str::from_utf8(words).map_err(|_| io::ErrorKind::InvalidData)?;
    let numbers: Option<Vec<u64>> = words.split(' ').map(|word| word.parse().ok()).collect();
    let part = numbers.and_then(|numbers| numbers.try_into().ok());
    part.ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// Whether there is a process (or thread) with this number.
pub(super) fn is_alive(number: u32) -> bool {
    let pid = i32::try_from(number).ok().and_then(Pid::from_raw);
    pid.is_some_and(|pid| test_kill_process(pid) != Err(Errno::SRCH))
}

/// Whether there is something to read already.
fn has_more(batches: &impl AsFd) -> io::Result<bool> {
    let mut waits = [PollFd::new(batches, PollFlags::IN)];
    Ok(poll(&mut waits, Some(&Timespec { tv_sec: 0, tv_nsec: 0 }))? > 0)
}

/// Where we are.
#[derive(Default)]
struct At {
    root: Option<OwnedFd>,
    dir: Option<OwnedFd>,
    /// A device and its number.
    device: Option<(u64, OwnedFd)>,
}

impl At {
    fn go(&mut self, place: &Target, path: &[u8]) -> rustix::io::Result<()> {
        self.dir = None;
        let root = match self.root.take() {
            Some(root) => root,
            None => root_of(&place.mount_point, place.device_minor)?,
        };
        let path = if path.is_empty() { b"." } else { path };
        let dir = open_inside(&root, path, OFlags::DIRECTORY);
        self.root = Some(root);
        self.dir = Some(dir?);
        Ok(())
    }

    fn here(&self) -> rustix::io::Result<&OwnedFd> {
        self.dir.as_ref().ok_or(Errno::NOENT)
    }

    fn list(&self, bytes: u32, buffer: &mut [MaybeUninit<u8>]) -> rustix::io::Result<()> {
        let buffer = buffer.get_mut(..bytes as usize).ok_or(Errno::INVAL)?;
        let mut rows = RawDir::new(self.here()?, buffer);
        while let Some(row) = rows.next() {
            row?;
        }
        Ok(())
    }

    fn read_ahead(&self, name: &[u8]) -> rustix::io::Result<()> {
        let file = open_inside(self.here()?, name, OFlags::NONBLOCK)?;
        // All of it.
        fadvise(&file, 0, None, Advice::WillNeed)
    }

    fn bring(
        &mut self,
        place: &Target,
        [number, offset, length]: [u64; 3],
    ) -> rustix::io::Result<()> {
        let before = self.device.take().filter(|(before, _)| *before == number);
        let (_, device) = self.device.insert(match before {
            Some(device) => device,
            None => {
                let devices = place.devices.as_ref().ok_or(Errno::NOENT)?;
                let folder = folder_of(devices)?;
                (number, open_inside(&folder, number.to_string().as_bytes(), OFlags::NONBLOCK)?)
            }
        });
        fadvise(device, offset, NonZero::new(length), Advice::WillNeed)
    }

    fn follow(&self, name: &[u8]) -> rustix::io::Result<()> {
        readlinkat(self.here()?, name, Vec::new()).map(drop)
    }
}

/// Opens something of the mount itself, not what may be mounted over it.
fn open_inside(dir: &OwnedFd, path: &[u8], flags: OFlags) -> rustix::io::Result<OwnedFd> {
    let flags = flags | OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let inside = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    openat2(dir, path, flags, Mode::empty(), inside)
}

/// The root of the mount, if it is the one that is meant.
fn root_of(mount_point: &Path, device_minor: u32) -> rustix::io::Result<OwnedFd> {
    open_root(mount_point, device_minor, OFlags::NOFOLLOW)
}

/// The folder of devices, if it is the one that is meant.
fn folder_of(devices: &DeviceFolder) -> rustix::io::Result<OwnedFd> {
    // It is a link of `/proc`.
    open_root(&devices.path, devices.device_minor, OFlags::empty())
}

fn open_root(path: &Path, device_minor: u32, flags: OFlags) -> rustix::io::Result<OwnedFd> {
    let flags = flags | OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = openat(CWD, path, flags, Mode::empty())?;
    // Without asking the file system.
    let how = AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC;
    let stat = statx(&root, c"", how, StatxFlags::empty())?;
    match (stat.stx_dev_major, stat.stx_dev_minor) == (0, device_minor) {
        true => Ok(root),
        false => Err(Errno::XDEV),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::io::{Seek, SeekFrom};

    use super::*;

    fn told(words: &[u8]) -> (io::Result<()>, usize) {
        let mut batches = tempfile::tempfile().unwrap();
        batches.write_all(words).unwrap();
        batches.seek(SeekFrom::Start(0)).unwrap();
        let mut answers = Vec::new();
        let place = Target { mount_point: "/proc".into(), device_minor: 0, devices: None };
        let result = run(&place, batches, &mut answers);
        (result, answers.len())
    }

    #[test]
    fn each_stage_is_answered_whatever_becomes_of_it() {
        let own = std::process::id();
        let words = format!("p{own}\0d\0l4096\0fversion\0sself\0.\0fnothing\0b0 4096 8192\0.\0");
        let (result, answers) = told(words.as_bytes());
        assert_eq!((result.is_ok(), answers), (true, 2));
    }

    #[test]
    fn what_can_not_be_understood_ends_it() {
        let own = std::process::id();
        for words in ["q\0", "px\0", "l-1\0", "d", "\0", "b\0", "b0 1\0", "b0 1 2 3\0", "b0 -1 2\0"]
        {
            assert!(told(format!("p{own}\0{words}").as_bytes()).0.is_err(), "{words:?}");
        }
    }

    #[test]
    fn another_mount_is_not_entered() {
        let stat = statx(CWD, c"/proc", AtFlags::empty(), StatxFlags::empty()).unwrap();
        assert_eq!(stat.stx_dev_major, 0);
        let at = |device_minor| root_of(Path::new("/proc"), device_minor).map(drop);
        assert_eq!(at(stat.stx_dev_minor), Ok(()));
        assert_eq!(at(stat.stx_dev_minor + 1), Err(Errno::XDEV));
    }
}
