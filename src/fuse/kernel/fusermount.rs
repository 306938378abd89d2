//! Mounting and unmounting by `fusermount3`, for those who may not call mount(2).

use std::io::{self, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::fs::{Access, AtFlags};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags};

use super::device::{FUSERMOUNT, MAX_READ_BYTES};
use super::error::Error;
use super::mount_point::MountPoint;
use super::options::{FuseMountOptions, Unmount, common_options};

/// Whether it can be run.
pub(super) fn check() -> Result<(), Error> {
    let version = Command::new(FUSERMOUNT).arg("--version").stdin(Stdio::null()).output();
    version.map(drop).map_err(no_helper)
}

/// `fusermount3` is set-uid root: it mounts and sends the connection over a socket whose number
/// it finds in its environment (fusermount3(1), libfuse `lib/mount_util.c`).
pub(super) fn mount(
    mount_point: &MountPoint,
    options: &FuseMountOptions,
) -> Result<OwnedFd, Error> {
    let (ours, theirs) = UnixStream::pair().map_err(Error::Exchange)?;
    // The helper inherits its end; ours stays close-on-exec.
    rustix::io::fcntl_setfd(&theirs, rustix::io::FdFlags::empty())
        .map_err(|e| Error::Exchange(e.into()))?;
    // Commas and backslashes separate and escape options.
    let source = options.source.replace('\\', "\\\\").replace(',', "\\,");
    let mut list =
        format!("ro,nosuid,nodev,subtype=ocifs,fsname={source},max_read={MAX_READ_BYTES}");
    for (wanted, option) in common_options(options).into_iter().chain([(options.no_exec, "noexec")])
    {
        if wanted {
            list.push(',');
            list.push_str(option);
        }
    }
    let output = Command::new(FUSERMOUNT)
        .arg("-o")
        .arg(list)
        .arg("--")
        .arg(".")
        .current_dir(mount_point.link())
        .env("_FUSE_COMMFD", theirs.as_raw_fd().to_string())
        .stdin(Stdio::null())
        .output();
    drop(theirs);
    let output = match output {
        Ok(output) => output,
        Err(e) if e.kind() == io::ErrorKind::PermissionDenied && !may_enter(mount_point) => {
            return Err(Error::Mount { path: mount_point.path(), cause: e });
        }
        Err(e) => return Err(no_helper(e)),
    };
    if !output.status.success() {
        let text = reason(&output.stderr);
        if text.contains("user_allow_other") {
            return Err(Error::AllowOther);
        }
        return Err(Error::Fusermount(text));
    }
    receive_descriptor(&ours)
}

/// Whether the helper can be started in the directory.
fn may_enter(mount_point: &MountPoint) -> bool {
    let flags = AtFlags::EACCESS;
    rustix::fs::accessat(mount_point, ".", Access::EXEC_OK, flags).is_ok()
}

/// Why the helper can't be run.
fn no_helper(error: io::Error) -> Error {
    match error.kind() {
        io::ErrorKind::NotFound => Error::NoFusermount,
        // It is nowhere else, and one of the folders can't be searched (execvp(3)).
        io::ErrorKind::PermissionDenied => Error::FusermountHidden,
        _ => Error::Exchange(error),
    }
}

fn receive_descriptor(socket: &UnixStream) -> Result<OwnedFd, Error> {
    let mut byte = [0];
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    rustix::net::recvmsg(
        socket.as_fd(),
        &mut [IoSliceMut::new(&mut byte)],
        &mut control,
        RecvFlags::CMSG_CLOEXEC,
    )
    .map_err(|e| Error::Exchange(e.into()))?;
    let descriptor = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
        _ => None,
    });
    descriptor.ok_or_else(|| Error::Exchange(io::Error::other("it sent no descriptor")))
}

/// Unmounts as the helper lets an ordinary user.
pub(super) fn unmount(mount_point: &Path, how: Unmount) -> Result<(), Error> {
    let mut command = Command::new(FUSERMOUNT);
    command.arg("-u").stdin(Stdio::null());
    if how != Unmount::Now {
        command.arg("-z");
    }
    let output = command.arg("--").arg(mount_point).output();
    match output {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => {
            let text = reason(&output.stderr);
            match text.contains("busy") {
                true => Err(Error::Busy { path: mount_point.to_owned(), holders: Vec::new() }),
                false => Err(Error::Fusermount(text)),
            }
        }
        Err(e) => Err(no_helper(e)),
    }
}

/// What the helper says, without its name before it.
fn reason(stderr: &[u8]) -> String {
    let text = String::from_utf8_lossy(stderr);
    let text = text.trim();
    text.strip_prefix(FUSERMOUNT)
        .and_then(|rest| rest.strip_prefix(": "))
        .unwrap_or(text)
        .to_owned()
}
