//! How far the process of a mount has come.

use std::thread;
use std::time::{Duration, Instant};

use ocifs::fuse::kernel::Mounted;
use ocifs::mount::StatusError;

/// How far a process has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ProcessStage {
    Runs,
    /// It has let go of its memory, and not yet of its files.
    Ends,
    Ended,
}

/// Looks at a process (proc(5), `/proc/pid/stat`; `PF_EXITING` of `linux/sched.h`). One that its parent
/// has not waited for (`Z`) has ended.
pub(super) fn stage(pid: u32) -> ProcessStage {
    const EXITING: u32 = 4;
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let mut fields = stat.rsplit_once(") ").map_or("", |(_, fields)| fields).split(' ');
    let (state, flags) = (fields.next(), fields.nth(5));
    let flags = flags.and_then(|flags| flags.parse::<u32>().ok());
    match (state, flags) {
        (None | Some("" | "Z" | "X"), _) => ProcessStage::Ended,
        (_, Some(flags)) if flags & EXITING != 0 => ProcessStage::Ends,
        _ => ProcessStage::Runs,
    }
}

/// How long a process that is about to end is waited for.
pub(super) const GRACE: Duration = Duration::from_secs(3);

/// Waits while a process is in some stage, not for ever; the stage it has come to.
fn wait_while(pid: u32, is_early: impl Fn(ProcessStage) -> bool) -> ProcessStage {
    let until = Instant::now() + GRACE;
    loop {
        let stage = stage(pid);
        if !is_early(stage) || Instant::now() > until {
            return stage;
        }
        thread::sleep(Duration::from_millis(5));
    }
}

/// Whether a mount with `--kernel-metadata` has lost its process. The kernel goes on answering for its names, so it
/// does not look dead; but no process listens on the socket that is still there.
pub(super) fn is_dead_behind(
    mounted: &Mounted,
    asked: impl FnOnce() -> Result<(), StatusError>,
) -> bool {
    // Its number may be that of another process by now, and the socket an older one's.
    let refuses = || asked().is_err_and(|e| e.kind() == std::io::ErrorKind::ConnectionRefused);
    mounted.served_by.is_some_and(|pid| {
        wait_while(pid, |stage| stage == ProcessStage::Ends) == ProcessStage::Ended && refuses()
    })
}
