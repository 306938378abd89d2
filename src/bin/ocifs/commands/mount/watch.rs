//! Finding out that a worker hangs.
//!
//! # Problem
//!
//! A worker that is dead is seen at once. One whose threads wait for each other, by a fault of this program or of a
//! kernel below it, keeps its readers waiting for ever.
//!
//! # Design
//!
//! Every wait of a worker is bounded: for the network by its deadlines, for what others fetch by that of a reader. So while a
//! request waits to be answered, some thread of it runs now and then. If none has run, for longer than any
//! of these bounds, while requests were waiting all the time, then none ever will: the worker is killed, and another one
//! takes over as after any death. The kernel knows both: how often a thread has begun to wait or was made to
//! (`/proc/PID/task/*/status`), and whether requests wait: those that were not read are seen on the connection, and the
//! others are counted where its file system for that is mounted (`/sys/fs/fuse/connections/N/waiting`). It costs a worker
//! nothing.
//!
//! What a debugger has stopped is left alone. What a signal has stopped is not: no reader can tell the difference.
//!
//! (Rejected: to ask the worker for a sign of life over its socket. The thread that answers there need not be the one
//! that hangs. To look how long a request waits: a slow registry may keep one waiting as long as it sends.)
//!
//! Invariant: a worker of which a thread has run is not killed. So one that runs in circles is not found either; nor, where
//! requests are not counted, one that still reads them.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// What is added to the bounds of a worker's own waits: a helper for credentials may ask its user.
const GRACE: Duration = Duration::from_secs(60);

/// Looks at a worker now and then.
#[derive(Debug)]
pub(super) struct Watch {
    waiting: PathBuf,
    limit: Duration,
    /// Since when no thread of this process has run, by their counts, while requests wait.
    silent: Option<(u32, u64, Instant)>,
}

impl Watch {
    /// Over a connection whose requests wait for so long at most.
    pub(super) fn new(connection: u32, patience: Duration) -> Watch {
        let waiting = format!("/sys/fs/fuse/connections/{connection}/waiting").into();
        Watch { waiting, limit: patience.saturating_mul(2) + GRACE, silent: None }
    }

    /// Whether the worker hangs. `has_requests`: there are some that it has not read.
    pub(super) fn hangs(&mut self, pid: u32, has_requests: bool, now: Instant) -> bool {
        // Where it can't be read nothing is known of the others.
        let waiting = fs::read_to_string(&self.waiting).unwrap_or_default();
        let has_waiting =
            has_requests || waiting.trim().parse::<u64>().is_ok_and(|waiting| waiting > 0);
        let runs = has_waiting.then(|| runs(pid)).flatten();
        self.is_silent(pid, runs, now)
    }

    /// Whether it has been silent for too long. `runs` is how often its threads ran, if requests wait and it can be told.
    fn is_silent(&mut self, pid: u32, runs: Option<u64>, now: Instant) -> bool {
        match (runs, self.silent) {
            (None, _) => {
                self.silent = None;
                false
            }
            (Some(runs), Some((of, before, since))) if (of, before) == (pid, runs) => {
                now.duration_since(since) >= self.limit
            }
            (Some(runs), _) => {
                self.silent = Some((pid, runs, now));
                false
            }
        }
    }
}

/// How often threads of a process have run, unless one of them is traced.
fn runs(pid: u32) -> Option<u64> {
    let mut runs = 0;
    for task in fs::read_dir(format!("/proc/{pid}/task")).ok()?.flatten() {
        let status = fs::read_to_string(task.path().join("status")).ok()?;
        for line in status.lines() {
            match line.split_once(':') {
                Some(("TracerPid", tracer)) if tracer.trim() != "0" => return None,
                Some(("voluntary_ctxt_switches" | "nonvoluntary_ctxt_switches", count)) => {
                    runs += count.trim().parse::<u64>().ok()?;
                }
                _ => {}
            }
        }
    }
    Some(runs)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn silence_counts_while_requests_wait() {
        let begin = Instant::now();
        let at = |seconds| begin + Duration::from_secs(seconds);
        let mut watch = Watch::new(1, Duration::from_secs(10));
        assert!(!watch.is_silent(7, Some(5), at(0)));
        assert!(!watch.is_silent(7, Some(5), at(79)));
        assert!(watch.is_silent(7, Some(5), at(80)));
        // A thread has run.
        assert!(!watch.is_silent(7, Some(6), at(81)));
        assert!(!watch.is_silent(7, Some(6), at(160)));
        // Nothing waits any more.
        assert!(!watch.is_silent(7, None, at(161)));
        assert!(!watch.is_silent(7, Some(6), at(170)));
        // Another process.
        assert!(!watch.is_silent(8, Some(6), at(300)));
        assert!(watch.is_silent(8, Some(6), at(380)));
    }

    /// Of another process: threads of other tests end, and their counts with them.
    #[test]
    fn threads_of_a_process_run() {
        let script = ["-c", "while :; do sleep 0.01; done"];
        let mut child = Command::new("sh").args(script).spawn().unwrap();
        let before = runs(child.id());
        let begin = Instant::now();
        while runs(child.id()) <= before && begin.elapsed() < Duration::from_secs(20) {
            std::thread::sleep(Duration::from_millis(20));
        }
        let after = runs(child.id());
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(before.is_some() && after > before, "{before:?} {after:?}");
    }
}
