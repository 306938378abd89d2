//! `ocifs umount`: also of mounts whose process is dead.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use ocifs::fuse::kernel::{self, Unmount};
use ocifs::mount::query_status;

use crate::args;
use crate::commands::{Stage, wait_while};
use crate::environment;
use crate::report::{self, AnyError};

pub(crate) fn run(args: &args::Umount) -> Result<ExitCode, AnyError> {
    let how = if args.lazy { Unmount::Lazy } else { Unmount::Now };
    let mounts = kernel::mounts()?;
    let me = rustix::process::geteuid().as_raw();
    let places: Vec<PathBuf> = match args.all {
        // The last mounted first: one may lie inside another.
        true => mounts
            .iter()
            .rev()
            .filter(|mount| kernel::is_root() || mount.user == Some(me))
            .map(|mount| mount.mount_point.clone())
            .collect(),
        false => args.mount_points.clone(),
    };
    let mut code = ExitCode::SUCCESS;
    for place in places {
        if let Err(e) = unmount(&place, how) {
            code = report::failure(&e.into());
        }
    }
    Ok(code)
}

fn unmount(place: &Path, how: Unmount) -> Result<(), kernel::Error> {
    let absolute = kernel::absolute(place)?;
    let mounted = kernel::uppermost(&absolute)?;
    let mounted = mounted.ok_or_else(|| kernel::Error::NotOurs(place.to_owned()))?;
    let pid = query_status(&environment::runtime_folder(), mounted.connection).ok().map(|s| s.pid);
    let is_dead = pid.is_none() && kernel::is_dead(&mounted);
    match kernel::unmount(&absolute, Some(mounted.connection), how) {
        // To find that it does not answer may have ended it.
        Err(kernel::Error::NotOurs(_)) if is_dead => {}
        result => result?,
    }
    // The process ends by itself, unless its mount is bound to another place too; whoever removes its
    // cache next should not meet it any more.
    let is_elsewhere = || {
        let mut mounts = kernel::mounts().unwrap_or_default().into_iter();
        mounts.any(|mount| mount.connection == mounted.connection)
    };
    if how == Unmount::Now
        && let Some(pid) = pid
        && !is_elsewhere()
    {
        wait_while(pid, |stage| stage != Stage::Ended);
    }
    Ok(())
}
