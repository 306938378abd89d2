//! Stdout and stderr: what fails there says so.

use std::io::{self, IsTerminal, Write};

/// The printing of something whose exit code tells more: a reader that closes the pipe early still gets that code.
///
/// # Errors
/// Printing fails in another way.
pub(crate) fn ignore_closed_pipe(printed: io::Result<()>) -> io::Result<()> {
    printed.or_else(|e| if e.kind() == io::ErrorKind::BrokenPipe { Ok(()) } else { Err(e) })
}

/// Stdout whose errors say that they are stdout's: "No space left on device" could be the cache's.
#[derive(Debug)]
pub(crate) struct Stdout(io::StdoutLock<'static>);

/// Stdout, locked.
pub(crate) fn stdout() -> Stdout {
    Stdout(io::stdout().lock())
}

impl Stdout {
    /// Whether it is a terminal.
    pub(crate) fn is_terminal(&self) -> bool {
        self.0.is_terminal()
    }
}

/// An error of writing to stdout, which says so.
pub(crate) fn stdout_error(error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("writing to stdout: {error}"))
}

impl Write for Stdout {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        match self.0.write(buf) {
            // The caller tries again.
            Err(e) if e.kind() == io::ErrorKind::Interrupted => Err(e),
            result => result.map_err(stdout_error),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush().map_err(stdout_error)
    }
}

/// Prints to stderr; there is no other place to report that this fails.
pub(crate) fn write_stderr(text: &str) {
    let _ = io::stderr().write_all(text.as_bytes());
}
