//! The signals that are passed on to the program.
//!
//! Those of the terminal (Ctrl-C) go to all processes of its foreground group, and the program is one of them: it would
//! get them twice. Who has sent a signal is known to a handler only.

#![allow(unsafe_code, reason = "one call; see there")]

use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use signal_hook::consts::{SIGALRM, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGWINCH};

use crate::commands::mount::signals::taken;

/// What processes send each other to be told of something. Stopping and going on concern this process as well.
const PASSED_ON: [i32; 8] = [SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2, SIGALRM, SIGWINCH];

/// `si_code` of a signal that no process has sent (sigaction(2)).
const SI_KERNEL: i32 = 0x80;

/// The signals that have come from other processes.
#[derive(Debug)]
pub(in crate::commands) struct Signals(UnixStream);

impl Signals {
    /// Starts to take them. Those that the caller ignores stay ignored, here and in the program.
    pub(in crate::commands) fn take() -> io::Result<Signals> {
        let (ours, theirs) = UnixStream::pair()?;
        theirs.set_nonblocking(true)?;
        ours.set_nonblocking(true)?;
        let theirs = Arc::new(theirs);
        for signal in taken(&PASSED_ON) {
            let to = Arc::clone(&theirs);
            let number = signal as u8;
            let handler = move |info: &libc::siginfo_t| {
                if info.si_code != SI_KERNEL {
                    // If it is full, many are waiting.
                    let _ = rustix::io::write(&*to, &[number]);
                }
            };
            // SAFETY: what a handler may do (signal-safety(7)) is to write to a descriptor, which does not block and is
            // never closed as the handler owns it. Nothing is allocated, freed or locked.
            unsafe { signal_hook_registry::register_sigaction(signal, handler)? };
        }
        Ok(Signals(ours))
    }

    /// What has come.
    pub(in crate::commands) fn read(&self) -> Vec<u8> {
        let mut signals = vec![0; 64];
        let length = (&self.0).read(&mut signals).unwrap_or(0);
        signals.truncate(length);
        signals
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.0.as_fd()
    }
}
