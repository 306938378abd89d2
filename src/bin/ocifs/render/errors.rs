//! Errors for people: on stderr, with their causes and what helps; and the exit codes.

use std::error::Error;
use std::io::{self, Write};
use std::process::ExitCode;

use crate::render::output::{ignore_closed_pipe, stdout_error, write_stderr};
use crate::render::text::printable;

/// Exit code of a command that was understood and failed.
pub(crate) const FAILED: u8 = 1;

/// Exit code of a command that makes no sense.
pub(crate) const WRONG_USAGE: u8 = 2;

/// An error of any part.
pub(crate) type AnyError = Box<dyn Error + Send + Sync>;

/// Prints an error with its causes; the exit code for it.
pub(crate) fn failure(error: &AnyError) -> ExitCode {
    // The reader of our output has closed the pipe: no failure of ours, so nothing is printed.
    if let Some(e) = error.downcast_ref::<io::Error>()
        && e.kind() == io::ErrorKind::BrokenPipe
    {
        return ExitCode::SUCCESS;
    }
    let mut text = format!("error: {}\n", printable(&error.to_string()));
    for cause in causes(error.as_ref()) {
        text.push_str(&format!("  caused by: {}\n", printable(&cause)));
    }
    write_stderr(&text);
    ExitCode::from(FAILED)
}

/// An error and its causes, in a line.
pub(crate) fn chain(error: &dyn Error) -> String {
    [vec![error.to_string()], causes(error)].concat().join(": ")
}

/// What the causes of an error have to add, outermost first.
fn causes(error: &dyn Error) -> Vec<String> {
    let mut added = Vec::new();
    let mut said = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let words = error.to_string();
        // Many errors tell their cause in their own sentence.
        if !said.contains(&words) {
            added.push(words.clone());
        }
        said = words;
        cause = error.source();
    }
    added
}

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
