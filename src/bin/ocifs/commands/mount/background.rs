//! Leaving for the background, and what is seen of a process there.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;

use rustix::process::{Signal, set_parent_process_death_signal};

use crate::variables;

/// What the process in the background writes when its mount answers.
pub(super) const READY: &[u8] = b"ready\n";

/// Has this process end with the one that waits for it, at once, as long as it does: what is mounted after that has been
/// killed would be in the way of the next mount. A mount that is left is dead, and the next one removes it.
pub(super) fn end_with_the_waiting() -> io::Result<()> {
    Ok(set_parent_process_death_signal(Some(Signal::KILL))?)
}

/// Lets go of the terminal, the session and the directory, and says that the mount is ready.
pub(super) fn detach(has_log_file: bool) -> io::Result<()> {
    // The way to the waiting process, which takes its closing for our end.
    let mut waiting = File::from(rustix::io::fcntl_dupfd_cloexec(io::stdout(), 3)?);
    rustix::process::setsid()?;
    let null = let_go_of_input()?;
    set_parent_process_death_signal(None)?;
    waiting.write_all(READY)?;
    drop(waiting);
    let_go_of_errors(&null, has_log_file)
}

/// Lets go of the directory, the input and the output; what they are instead.
pub(super) fn let_go_of_input() -> io::Result<File> {
    let null = File::options().read(true).write(true).open("/dev/null")?;
    rustix::process::chdir("/")?;
    rustix::stdio::dup2_stdin(null.as_fd())?;
    rustix::stdio::dup2_stdout(null.as_fd())?;
    Ok(null)
}

/// Lets go of the output for errors.
pub(super) fn let_go_of_errors(null: &File, has_log_file: bool) -> io::Result<()> {
    rustix::stdio::dup2_stderr(null.as_fd())?;
    if !has_log_file {
        log::set_max_level(log::LevelFilter::Off);
    }
    Ok(())
}

/// The name under which a process is shown, of which the kernel knows only `exe`.
pub(super) fn show_name() -> io::Result<()> {
    Ok(rustix::thread::set_name(if variables::is_worker() { c"ocifs-worker" } else { c"ocifs" })?)
}
