//! Errors for people: on stderr, with their causes and what helps; and the exit codes.

use std::error::Error;
use std::fmt;
use std::io::{self, Write};
use std::process::ExitCode;

use crate::render::hints;
use crate::render::output::{ignore_closed_pipe, stdout_error, write_stderr};
use crate::render::text::printable;

/// Exit code of a command that was understood and failed.
pub(crate) const FAILED: u8 = 1;

/// Exit code of a command that makes no sense.
pub(crate) const WRONG_USAGE: u8 = 2;

/// An error of any part.
pub(crate) type AnyError = Box<dyn Error + Send + Sync>;

/// Prints an error with its causes and what helps; the exit code for it.
pub(crate) fn failure(error: &AnyError) -> ExitCode {
    // The reader of our output has closed the pipe: no failure of ours, so nothing is printed.
    if let Some(e) = error.downcast_ref::<io::Error>()
        && e.kind() == io::ErrorKind::BrokenPipe
    {
        return ExitCode::SUCCESS;
    }
    let text = format!("error: {}\n", printable(&chain(error.as_ref())));
    write_stderr(&text);
    ExitCode::from(FAILED)
}

/// An error with its causes and what helps, in a line.
pub(crate) fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut hint = hint(error);
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        hint = hint.or_else(|| self::hint(error));
        cause = error.source();
    }
    if let Some(hint) = hint {
        text.push_str(&format!("; {hint}"));
    }
    text
}

fn hint(error: &(dyn Error + 'static)) -> Option<&'static str> {
    match error.downcast_ref::<About>() {
        Some(About { error, .. }) => hint(error.as_ref()),
        None => hints::of(error),
    }
}

/// An error, and what it is about.
#[derive(Debug)]
pub(crate) struct About {
    /// What it is about, for people.
    what: String,
    /// What is wrong with that. Its text is part of the text of this error, so it is not its source.
    error: AnyError,
}

impl About {
    /// An error about an image or a file. Where the error begins with that, it is not said twice.
    pub(crate) fn new(what: impl fmt::Display, error: impl Into<AnyError>) -> About {
        About { what: what.to_string(), error: error.into() }
    }
}

impl fmt::Display for About {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.error.to_string();
        match text.starts_with(&self.what) {
            true => f.write_str(&text),
            false => write!(f, "{}: {text}", self.what),
        }
    }
}

impl Error for About {}

/// Prints what is wrong with the command line; the exit code for it.
pub(crate) fn wrong_usage(error: &clap::Error) -> ExitCode {
    // If even stderr fails, no place is left to tell it.
    let _ = error.print();
    ExitCode::from(WRONG_USAGE)
}

/// Prints a help text or a version to stdout, or what is wrong with the command line; the exit code for it.
pub(crate) fn not_run(error: &clap::Error) -> ExitCode {
    if error.use_stderr() {
        return wrong_usage(error);
    }
    let printed = error.print().and_then(|()| io::stdout().flush());
    match ignore_closed_pipe(printed).map_err(stdout_error) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => failure(&e.into()),
    }
}
