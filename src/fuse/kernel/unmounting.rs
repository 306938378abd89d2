//! Unmounting, of exactly the mount that is meant; and whether a mount is served any more.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use rustix::mount::UnmountFlags;

use super::error::Error;
use super::fusermount;
use super::holders::holders;
use super::mount_point::Covered;
use super::mountinfo::{Mounted, Row, rows};
use super::options::Unmount;

/// After this time without an answer a connection is taken for dead: a mount answers such a question
/// from memory.
const SILENCE: Duration = Duration::from_secs(10);

/// How often a busy mount is tried again, and how long after. A process that had a file of it open may be
/// about to end, or one that was forked a moment ago may not have let go of it yet.
const BUSY_TRIES: u32 = 8;
const BUSY_PAUSE: Duration = Duration::from_millis(50);

/// Unmounts this mount, wherever it is now, and never another one.
///
/// # Errors
/// See [`Error`]; [`Error::NotOurs`] if it is gone, or another is mounted over it.
pub fn unmount(mounted: &Mounted, how: Unmount) -> Result<(), Error> {
    let mut tries = 0;
    loop {
        let mounted = again(mounted)?;
        tries += 1;
        match unmount_once(&mounted, how) {
            Err(Error::Busy { path, .. }) => match mounted_below(&path) {
                Some(below) => return Err(Error::MountedBelow { path, below }),
                None if tries <= BUSY_TRIES => thread::sleep(BUSY_PAUSE),
                None => {
                    let holders = holders(mounted.device, std::slice::from_ref(&path));
                    return Err(Error::Busy { holders, path });
                }
            },
            result => return result,
        }
    }
}

/// Where a mount is now, if it is the uppermost there.
///
/// # Errors
/// [`Error::NotOurs`] if not; `/proc` is not there.
fn again(mounted: &Mounted) -> Result<Mounted, Error> {
    let rows = rows("self")?;
    let is_same = |other: &Mounted| {
        (other.id, other.connection, other.device)
            == (mounted.id, mounted.connection, mounted.device)
    };
    let now = rows.iter().filter_map(Row::mounted).find(is_same);
    let place = now.as_ref().unwrap_or(mounted).mount_point.clone();
    let last = rows.iter().rfind(|row| row.mount_point == place);
    now.filter(|now| last.is_some_and(|last| last.id == now.id)).ok_or(Error::NotOurs(place))
}

/// What has been mounted below a place last.
fn mounted_below(place: &Path) -> Option<PathBuf> {
    let mut places = rows("self").ok()?.into_iter().map(|row| row.mount_point);
    places.rfind(|other| other != place && other.starts_with(place))
}

fn unmount_once(mounted: &Mounted, how: Unmount) -> Result<(), Error> {
    let flags = match how {
        Unmount::Now => UnmountFlags::NOFOLLOW,
        Unmount::Lazy => UnmountFlags::NOFOLLOW | UnmountFlags::DETACH,
        Unmount::Abort => UnmountFlags::NOFOLLOW | UnmountFlags::DETACH | UnmountFlags::FORCE,
    };
    let path = || mounted.mount_point.clone();
    let busy = || Error::Busy { path: path(), holders: Vec::new() };
    let place = Covered::by(mounted)?;
    match rustix::mount::unmount(&place.path, flags) {
        Ok(()) => Ok(()),
        // It may unmount what its caller has mounted, and resolves the path with the rights of its caller.
        Err(rustix::io::Errno::PERM) => fusermount::unmount(&mounted.mount_point, how),
        Err(rustix::io::Errno::BUSY) => Err(busy()),
        Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOENT) => Err(Error::NotOurs(path())),
        Err(e) => Err(Error::Unmount { path: path(), cause: e.into() }),
    }
}

/// Ends a connection whatever state it is in: all that is under way and all that comes gets an
/// error. A process that ends without this may leave a connection behind that no process answers, when a
/// thread of it waits in the kernel for a page that another request of the same connection has
/// locked (`fuse::pusher`).
///
/// # Errors
/// `/sys/fs/fuse/connections` is not mounted, or the connection is not ours.
pub fn abort(connection: u32) -> io::Result<()> {
    std::fs::write(format!("/sys/fs/fuse/connections/{connection}/abort"), "1")
}

/// Whether a mount is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It is served, or this user may not ask.
    Comes,
    /// Its process has ended.
    Dead,
    /// There is a connection, and no answer: its process is stopped, or gone all but in name.
    None,
}

/// Asks whether a mount is served. The kernel is made to ask, as it would answer from its caches for a dead
/// process too.
pub fn answer(mount: &Mounted) -> Answer {
    // A mount that another covers can't be asked by itself.
    ask(Covered::unchecked(mount))
}

fn ask(place: Covered) -> Answer {
    let (sender, answer) = mpsc::channel();
    let shown = place.path.display().to_string();
    // In a thread, as who waits for such an answer can't be interrupted.
    let asked = thread::Builder::new().spawn(move || {
        let flags = rustix::fs::AtFlags::STATX_FORCE_SYNC;
        let mask = rustix::fs::StatxFlags::BASIC_STATS;
        let answer = rustix::fs::statx(rustix::fs::CWD, &place.path, flags, mask);
        // A process that is just dying aborts what is under way.
        let is_dead = answer.is_err_and(|e| {
            matches!(e, rustix::io::Errno::NOTCONN | rustix::io::Errno::CONNABORTED)
        });
        drop(place);
        // The receiver is gone if it took too long.
        let _ = sender.send(is_dead);
    });
    if let Err(e) = asked {
        log::warn!("no thread to ask {shown}: {e}");
        return Answer::Comes;
    }
    match answer.recv_timeout(SILENCE) {
        Ok(false) => Answer::Comes,
        Ok(true) => Answer::Dead,
        Err(_) => Answer::None,
    }
}

/// Whether no process answers for a mount of ours any more. A connection that is open and does not answer
/// is aborted: its process is gone all but in name, or stopped; unless its supervisor `lives`, who has another process go
/// on with it. No other mount is asked or unmounted, whatever the path of this one leads to by now.
///
/// # Errors
/// [`Error::Silent`]: it does not answer, and its supervisor lives.
pub fn is_dead(mount: &Mounted, lives: impl FnOnce() -> bool) -> Result<bool, Error> {
    // What is not to be found is not taken for dead: it is not there to be unmounted.
    let Ok(place) = again(mount).and_then(|now| Covered::by(&now)) else { return Ok(false) };
    match ask(place) {
        Answer::Comes => Ok(false),
        Answer::Dead => Ok(true),
        Answer::None if lives() => Err(Error::Silent(mount.mount_point.clone())),
        Answer::None => Ok(end_silent(mount)),
    }
}

/// Aborts the connection of a mount that does not answer; whether that was possible.
fn end_silent(mount: &Mounted) -> bool {
    let place = mount.mount_point.display();
    // The mount may have been moved, and its path may lead to another file system, while it was asked.
    let forced = again(mount).and_then(|now| force(&now));
    // Once the mount is gone, another connection may have its number.
    let aborted = is_listed(mount).then(|| abort(mount.connection));
    log::warn!("{place} did not answer; forced: {forced:?}, aborted: {aborted:?}");
    forced.is_ok() || aborted.is_some_and(|aborted| aborted.is_ok())
}

/// Aborts the connection of a mount by unmounting it, which ends the connection even if the mount is busy and stays.
fn force(mounted: &Mounted) -> Result<(), Error> {
    let place = Covered::by(mounted)?;
    match rustix::mount::unmount(&place.path, UnmountFlags::NOFOLLOW | UnmountFlags::FORCE) {
        Ok(()) | Err(rustix::io::Errno::BUSY) => Ok(()),
        Err(e) => Err(Error::Unmount { path: mounted.mount_point.clone(), cause: e.into() }),
    }
}

/// Whether a mount is there, wherever it is and whatever covers it.
fn is_listed(mounted: &Mounted) -> bool {
    let is_same = |row: &Row| (row.id, row.device) == (mounted.id, mounted.device);
    rows("self").is_ok_and(|rows| rows.iter().any(is_same))
}
