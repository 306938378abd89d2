//! The signals by which a mount ends.
//!
//! A caller that ignores a signal wants its programs to ignore it too: `nohup` starts them with SIGHUP ignored, a shell
//! without job control starts what runs in the background with SIGINT ignored. A handler would end that, so there is
//! none for those. SIGTERM is meant for this process and no other, and ends it always.

use std::fs;
use std::io;
use std::os::unix::net::UnixStream;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR2};
use signal_hook::iterator::Signals;
use signal_hook::low_level::pipe;

/// Starts to take the signals that end a mount.
pub(super) fn ending() -> io::Result<Signals> {
    Signals::new(taken(&ENDING))
}

/// The same for a process that has no thread for it: there is something to read when one has come.
pub(super) fn ending_by_pipe() -> io::Result<UnixStream> {
    let (ours, theirs) = UnixStream::pair()?;
    for signal in taken(&ENDING) {
        pipe::register(signal, theirs.try_clone()?)?;
    }
    Ok(ours)
}

/// There is something to read when a newer version of this program is to serve the mount.
pub(super) fn upgrades_by_pipe() -> io::Result<UnixStream> {
    let (ours, theirs) = UnixStream::pair()?;
    pipe::register(SIGUSR2, theirs)?;
    ours.set_nonblocking(true)?;
    Ok(ours)
}

/// The signals that end a mount, unless they are ignored.
const ENDING: [i32; 3] = [SIGTERM, SIGINT, SIGHUP];

/// Those of some signals that this process is to take.
pub(in crate::commands) fn taken(signals: &[i32]) -> Vec<i32> {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_else(|e| {
        log::info!("which signals are ignored is not known: /proc/self/status: {e}");
        String::new()
    });
    let ignored = ignored(&status);
    let is_taken = |signal: &i32| *signal == SIGTERM || ignored >> (signal - 1) & 1 == 0;
    signals.iter().copied().filter(is_taken).collect()
}

/// The set of signals that a process ignores: bit 0 is signal 1 (proc_pid_status(5)).
fn ignored(status: &str) -> u64 {
    let set = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    set.and_then(|set| u64::from_str_radix(set.trim(), 16).ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ignored_signals() {
        for (status, expected) in [
            ("Name:\tocifs\nSigIgn:\t0000000000000003\nSigCgt:\t0000000000004000\n", 3),
            ("SigIgn:\t8000000000001000\n", 1 << 63 | 1 << 12),
            ("SigIgn:\tnone\n", 0),
            ("SigCgt:\t0000000000004000\n", 0),
            ("", 0),
        ] {
            assert_eq!(ignored(status), expected, "{status:?}");
        }
    }
}
