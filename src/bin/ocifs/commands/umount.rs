//! `ocifs umount`: also of mounts whose process is dead.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use ocifs::fuse::kernel::{self, Mounted, Unmount};
use ocifs::mount::StatusError;

use crate::args;
use crate::commands::process::{GRACE, ProcessStage, stage};
use crate::environment;
use crate::render::errors::{self, AnyError};
use crate::render::output;
use crate::render::text;

/// How soon a process whose mount is gone has ended, unless the mount is still used. After that it is asked who
/// does.
const SOON: Duration = Duration::from_secs(1);

pub(crate) fn run(args: &args::Umount) -> Result<ExitCode, AnyError> {
    let how = if args.lazy { Unmount::Lazy } else { Unmount::Now };
    if !args.all && !args.all_users {
        let mut code = ExitCode::SUCCESS;
        for place in &args.mount_points {
            if let Err(e) = unmount_at(place, how) {
                code = errors::failure(&e);
            }
        }
        return Ok(code);
    }
    if args.all_users && !kernel::is_root() {
        return Err("--all-users needs root: `ocifs umount --all` unmounts what is yours".into());
    }
    let me = rustix::process::geteuid().as_raw();
    // The last mounted first: one may lie inside another.
    let mounts = kernel::mounts()?.into_iter().rev();
    let (ours, others): (Vec<_>, Vec<_>) =
        mounts.partition(|mount| args.all_users || mount.user == Some(me));
    let mut code = ExitCode::SUCCESS;
    for mount in ours {
        match unmount(&mount, how) {
            Ok(()) => {
                let place = mount.mount_point.display().to_string();
                let row = format!("unmounted {}\n", text::printable(&place));
                output::ignore_closed_pipe(output::stdout().write_all(row.as_bytes()))?;
            }
            Err(e) => code = errors::failure(&e),
        }
    }
    if !others.is_empty() && kernel::is_root() {
        let mounts = text::count(others.len(), "mount", "mounts");
        output::write_stderr(&format!(
            "{mounts} of other users left (--all-users unmounts them)\n"
        ));
    }
    Ok(code)
}

fn unmount_at(place: &Path, how: Unmount) -> Result<(), AnyError> {
    let mounted = kernel::uppermost(&kernel::absolute(place)?)?;
    let mounted = mounted.ok_or_else(|| kernel::Error::NotOurs(place.to_owned()))?;
    unmount(&mounted, how)
}

fn unmount(mounted: &Mounted, how: Unmount) -> Result<(), AnyError> {
    let asked = environment::query_status(mounted.connection);
    let is_restarted = matches!(asked, Err(StatusError::Restarting(_)));
    let status = asked.ok();
    let is_dead = status.is_none() && !is_restarted && kernel::is_dead(mounted, || false)?;
    match kernel::unmount(mounted, how) {
        // To find that it does not answer may have ended it.
        Err(kernel::Error::NotOurs(_)) if is_dead => {}
        Err(kernel::Error::Fusermount(_)) if is_of_another(mounted) => {
            let user = mounted.user.map_or_else(String::new, environment::user_name);
            let place = mounted.mount_point.display();
            return Err(format!(
                "{place} was mounted by user {user}: that user or root can unmount it"
            )
            .into());
        }
        result => result?,
    }
    if how == Unmount::Now
        && let Some(status) = status
    {
        wait_for_end(&mounted.mount_point, mounted.device, status.pid);
    }
    Ok(())
}

/// Whether another user than that of this process has mounted something.
fn is_of_another(mounted: &Mounted) -> bool {
    mounted.user.is_some_and(|user| user != rustix::process::geteuid().as_raw())
}

/// Waits until the process of what was mounted has ended, so that a command that removes its cache next
/// does not meet it. If the mount is still used elsewhere, the process goes on, and a message says so.
fn wait_for_end(place: &Path, device: (u32, u32), pid: u32) {
    let places = [PathBuf::from(place)];
    let begun = Instant::now();
    let mut holders = Vec::new();
    let mut pause = Duration::from_millis(5);
    while begun.elapsed() < GRACE && holders.is_empty() {
        if stage(pid) == ProcessStage::Ended {
            return;
        }
        if begun.elapsed() > SOON {
            // It looks at every process of the machine.
            holders = kernel::holders(device, &places);
            pause = Duration::from_millis(100);
        }
        std::thread::sleep(pause);
    }
    let place = place.display();
    let mut text =
        format!("{place} is unmounted here, but still used, and process {pid} serves it:\n");
    for holder in &holders {
        text.push_str(&format!("  {holder}\n"));
    }
    if holders.is_empty() {
        text.push_str(
            "  the processes that use it are not visible to this user; root may see more\n",
        );
    }
    text.push_str(&format!(
        "  the server exits when they close their files; `kill {pid}` ends it now\n"
    ));
    output::write_stderr(&text::printable_lines(&text));
}
