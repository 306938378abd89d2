//! A mount that is served by the process which has made it, and dies with it: where the kernel does not tell of the end of a
//! worker (before Linux 5.3).

use std::io;
use std::process::ExitCode;
use std::sync::mpsc;
use std::thread;

use ocifs::fuse::kernel::MountPoint;
use ocifs::mount::{Mount, Served};

use super::background::detach;
use super::desertion::Desertion;
use super::options::options;
use super::shown::{self, Known};
use super::signals;
use crate::args::{self, MountRequest};
use crate::commands::secrets::hide_secrets;
use crate::environment;
use crate::notify;
use crate::render::errors::AnyError;
use crate::variables;

/// How serving ends.
enum End {
    /// The mount was unmounted, or its connection broke.
    Unmounted(io::Result<()>),
    /// We are told to stop.
    Signal,
}

pub(super) fn serve(
    all: &args::Args,
    args: &args::Mount,
    image_args: &args::ImageArgs,
    request: &MountRequest,
    mount_point: MountPoint,
) -> Result<ExitCode, AnyError> {
    hide_secrets()?;
    let shown = shown::open(args, image_args, request, Known::default())?.served;
    // From here on a signal means: unmount and end. Before the mount exists it ends the program.
    let mut signals = signals::ending()?;
    let mount = match shown {
        Served::View(view) => Mount::new(view, mount_point, &options(args))?,
        Served::Directories(lookups) => {
            Mount::of_directories(lookups, mount_point, &options(args))?
        }
    };
    let unmounter = mount.unmounter();
    let socket = environment::status_socket(mount.connection()).filter(|socket| {
        let serves = socket.serve(mount.status_source());
        serves.inspect_err(|e| log::info!("nothing answers `ocifs status`: {e}")).is_ok()
    });

    let (sender, ended) = mpsc::channel();
    let by_signal = sender.clone();
    thread::Builder::new().name("signals".into()).spawn(move || {
        if signals.forever().next().is_some() {
            // The receiver is gone only when the program is ending anyway.
            let _ = by_signal.send(End::Signal);
        }
    })?;
    if variables::is_background_child()
        && let Err(e) = detach(all.log_file.is_some())
    {
        unmounter.unmount_lazily()?;
        return Err(format!("leaving for the background: {e}").into());
    }
    if variables::is_background_child() {
        if let Some(desertion) = Desertion::new() {
            desertion.watch(mount.connection())?;
        }
    } else {
        notify::tell(notify::READY);
    }
    thread::Builder::new().name("wait".into()).spawn(move || {
        let _ = sender.send(End::Unmounted(mount.wait()));
    })?;
    let end = ended.recv()?;
    if !variables::is_background_child() {
        notify::tell(notify::STOPPING);
    }
    let result = match end {
        End::Signal => {
            // From here on no requests of the mount are answered: a process that still uses it gets an error.
            // Before anything else: once the mount is gone, another may have the connection's number.
            unmounter.abort();
            unmounter.unmount_lazily().map_err(AnyError::from)
        }
        End::Unmounted(Err(e)) => {
            // No process serves what is still mounted.
            if let Err(e) = unmounter.unmount_lazily() {
                log::error!("{e}");
            }
            Err(e.into())
        }
        End::Unmounted(Ok(())) => Ok(()),
    };
    drop(socket);
    result.map(|()| ExitCode::SUCCESS)
}
