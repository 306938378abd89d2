//! The process that opens images and serves a mount for its supervisor.
//!
//! It may die at any time: the supervisor has the connection to the kernel too, and starts another. So nothing is undone
//! here, and what has to be done once is done by the supervisor. If that one dies, this process does.
//!
//! A panic ends a request and not this process (`ocifs::fuse::panics`).

use std::io;
use std::os::unix::process::parent_id;
use std::process::ExitCode;

use ocifs::fuse::kernel::MountPoint;
use ocifs::mount::{Error, Kept, Mount};
use rustix::process::{Signal, set_parent_process_death_signal};

use super::background::{hide_secrets, let_go_of_errors, let_go_of_input, show_name};
use super::control::SupervisorSocket;
use super::handover::{self, Received};
use super::options::options;
use super::{shown, watch};
use crate::args::{self, MountRequest};
use crate::render::errors::{self, AnyError};
use crate::variables;

/// The exit code that says that no other worker would do better: what is mounted is not to be had as it was.
pub(super) const DIFFERENT: u8 = 3;

pub(super) fn run(
    all: &args::Args,
    args: &args::Mount,
    request: &MountRequest,
) -> Result<ExitCode, AnyError> {
    show_name()?;
    // Before the first word is waited for: if the supervisor is dead already, none comes.
    set_parent_process_death_signal(Some(Signal::KILL))?;
    hide_secrets()?;
    let Received { descriptor, secrets, kept } = handover::receive()?;
    let supervisor = SupervisorSocket::of_stdout()?;
    let image_args = secrets.in_args(args);
    let kept = match &kept[..] {
        [] => None,
        kept => Some(Kept::from_parts(descriptor.try_clone()?, kept)?),
    };
    let before = kept.as_ref().map(Kept::images);
    let view = shown::open(args, &image_args, request, before)?.ok_or("there is no image")?;
    // From here on the terminal's signals are for the supervisor alone.
    rustix::process::setsid()?;
    supervisor.opened()?;
    let mut options = options(args);
    options.pid = Some(parent_id());
    let is_first = kept.is_none();
    let mount = match kept {
        None => Mount::new(view, MountPoint::from_descriptor(descriptor)?, &options)?,
        Some(kept) => {
            drop(descriptor);
            match Mount::resume(view, kept, &options) {
                Err(error @ Error::Different) => {
                    errors::failure(&error.into());
                    return Ok(ExitCode::from(DIFFERENT));
                }
                result => result?,
            }
        }
    };
    let told = let_go(all.log_file.is_some()).and_then(|()| match is_first {
        false => supervisor.serves(),
        true => match mount.kept()? {
            Some(kept) => supervisor.give(&kept),
            None => Err(io::ErrorKind::Unsupported.into()),
        },
    });
    if let Err(e) = told {
        if is_first {
            mount.unmounter().unmount_lazily()?;
        }
        return Err(format!("leaving the mount to its supervisor: {e}").into());
    }
    supervisor.answer_clients(mount.status_source())?;
    if variables::is_background_child() {
        watch::watch_namespace(&mount)?;
    }
    mount.wait()?;
    Ok(ExitCode::SUCCESS)
}

/// Lets go of what belongs to the caller of the program. In the foreground that is not its output for errors.
fn let_go(has_log_file: bool) -> io::Result<()> {
    let null = let_go_of_input()?;
    match variables::is_background_child() {
        true => let_go_of_errors(&null, has_log_file),
        false => Ok(()),
    }
}
