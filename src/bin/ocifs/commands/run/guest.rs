//! The guest, as the process sees it that has started it and supervises the mount.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::{Child, ExitCode, ExitStatus};
use std::time::Instant;

use ocifs::fuse::kernel::{MountPoint, Mounted, overlay_source};
use ocifs::image::Process;
use ocifs::mount::{Attached, found};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::retry_on_intr;
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::ids::Ids;
use super::launch::{
    ATTACH, ATTACHED, BY_SIGNAL, FAILED, FAILED_BEFORE, GO, MAPPED, OVERLAID, OVERLAY, Plan, READY,
    SETUP, Stage, UNSHARED,
};
use super::mounts::{attach, failed};
use super::signals::Signals;
use crate::commands::mount::parcel::{Parcel, give, take, tell};
use crate::commands::mount::upper::Upper;
use crate::commands::process::GRACE;
use crate::render::errors::AnyError;

/// A process with namespaces of its own.
#[derive(Debug)]
pub(in crate::commands) struct Guest {
    child: Child,
    /// It becomes readable when the process has ended.
    pub(in crate::commands) end: OwnedFd,
    socket: UnixStream,
    /// Where init is told of signals.
    init: Option<UnixStream>,
    ids: Ids,
    upper: Option<Upper>,
}

impl Guest {
    /// Starts it; it waits for the image then.
    pub(super) fn start(plan: &Plan, upper: Option<Upper>) -> Result<Guest, AnyError> {
        let (mut command, socket) = Stage::Guest.command()?;
        let child = command.spawn().map_err(|e| format!("starting a process: {e}"))?;
        drop(command);
        let end = pidfd_open(Pid::from_child(&child), PidfdFlags::empty())?;
        let mut guest = Guest { child, end, socket, init: None, ids: plan.ids.clone(), upper };
        tell(&guest.socket, SETUP, plan, &[io::stdout().as_fd()])?;
        guest.next(UNSHARED)?;
        plan.ids.give(guest.child.id())?;
        give(&guest.socket, MAPPED, &[], &[])?;
        guest.next(READY)?;
        Ok(guest)
    }

    /// The same for a mount of which others see an overlay.
    pub(in crate::commands) fn of_mount(upper: Option<Upper>) -> Result<Guest, AnyError> {
        Guest::start(&Plan::of_mount(upper.as_ref().map(Upper::path)), upper)
    }

    /// What it says next, which is to be this.
    fn next(&mut self, kind: u8) -> Result<Parcel, AnyError> {
        match take(&self.socket)? {
            Some(parcel) if parcel.kind == kind => Ok(parcel),
            Some(parcel) if parcel.kind == FAILED => Err(parcel.read::<String>()?.into()),
            Some(_) => Err(io::Error::from(io::ErrorKind::InvalidData).into()),
            None => {
                let status = self.child.wait()?;
                Err(format!("the process that mounts the image has ended ({status})").into())
            }
        }
    }

    /// Whether the program has one user ID.
    pub(in crate::commands) fn has_one_id(&self) -> bool {
        self.ids.is_one()
    }

    /// Makes sure that what was written before was written over this image.
    pub(in crate::commands) fn claim_upper(
        &self,
        image: &str,
        digest: Option<&str>,
    ) -> Result<(), AnyError> {
        let Some(upper) = &self.upper else { return Ok(()) };
        let digest = digest.ok_or("--upper is for one image, and there are several")?;
        upper.claim(image, digest, self.ids.are_of_users())
    }

    /// Has it mount the image.
    pub(in crate::commands) fn attach(&mut self, source: &str) -> Result<Attached, AnyError> {
        tell(&self.socket, ATTACH, &source, &[])?;
        let parcel = self.next(ATTACHED)?;
        let bytes = parcel.bytes().to_owned();
        let [device] = parcel.descriptors()?;
        Ok(Attached::from_parts(device, &bytes)?)
    }

    /// Has it make an overlay over the image, or over nothing.
    pub(super) fn overlay(&mut self, source: &str, no_exec: bool) -> Result<OwnedFd, AnyError> {
        tell(&self.socket, OVERLAY, &(source, no_exec), &[])?;
        let [overlay] = self.next(OVERLAID)?.descriptors()?;
        Ok(overlay)
    }

    /// Has it mount an overlay over the image, and shows that at a place of this namespace.
    pub(in crate::commands) fn cover(
        &mut self,
        mount_point: &MountPoint,
        below: &Mounted,
        no_exec: bool,
    ) -> Result<Mounted, AnyError> {
        let source = overlay_source(below.connection, std::process::id(), &below.source);
        let overlay = self.overlay(&source, no_exec)?;
        attach(overlay.as_fd(), mount_point.as_fd()).map_err(failed("mounting"))?;
        // Its namespace is not needed any more.
        self.child.wait()?;
        Ok(found(mount_point)?)
    }

    /// Has it start the program, as the image is served.
    pub(in crate::commands) fn go(&mut self, process: &Process) -> Result<(), AnyError> {
        let (ours, theirs) = UnixStream::pair()?;
        tell(&self.socket, GO, process, &[theirs.as_fd()])?;
        self.init = Some(ours);
        Ok(())
    }

    /// Passes signals on.
    pub(in crate::commands) fn pass_on(&self, signals: &Signals) {
        let signals = signals.read();
        if let Some(init) = &self.init {
            let flags = rustix::net::SendFlags::NOSIGNAL | rustix::net::SendFlags::DONTWAIT;
            // If it has ended, that is seen next.
            let _ = rustix::net::send(init, &signals, flags);
        }
    }

    /// Waits for its end, which is to come by itself; the exit code for it.
    pub(in crate::commands) fn finish(mut self) -> io::Result<ExitCode> {
        let mut end = [PollFd::new(&self.end, PollFlags::IN)];
        let until = Instant::now() + GRACE;
        let ended = retry_on_intr(|| {
            let left = until.saturating_duration_since(Instant::now());
            poll(&mut end, Timespec::try_from(left).ok().as_ref())
        })?;
        if ended == 0 {
            self.child.kill()?;
        }
        Ok(ExitCode::from(code(self.child.wait()?)))
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        // Of one that has been waited for nothing happens.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The exit code for the end of a process, as shells and engines have it.
pub(super) fn code(status: ExitStatus) -> u8 {
    use std::os::unix::process::ExitStatusExt;
    let of_signal = |signal: i32| u8::try_from(signal).ok()?.checked_add(BY_SIGNAL);
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    code.or_else(|| of_signal(status.signal()?)).unwrap_or(FAILED_BEFORE)
}
