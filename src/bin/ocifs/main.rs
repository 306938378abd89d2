//! The `ocifs` program: words, environment, terminal. Everything else is in the library.
//!
//! One file a verb in [`commands`]; [`args`] validates, [`helper`] is the way in for mount(8), [`environment`] finds
//! what lies around the user (folders, credentials), [`report`] prints errors, [`progress`] what takes long,
//! [`json`] names.

mod args;
mod commands;
mod environment;
mod helper;
mod json;
mod notify;
mod progress;
mod report;

use std::ffi::OsString;
use std::process::ExitCode;

/// What mount(8) is told of usage that is wrong, and of a mount that fails.
const HELPER_USAGE: u8 = 1;
const HELPER_FAILED: u8 = 32;

fn main() -> ExitCode {
    if let Some(place) = commands::prefetch::place() {
        return commands::prefetch::run(&place).unwrap_or_else(|error| report::failure(&error));
    }
    let words: Vec<OsString> = std::env::args_os().collect();
    match helper::is_asked(&words) {
        true => run_for_mount(words),
        false => match args::parse(&words) {
            Ok(args) => run(args, words),
            Err(error) => report::not_run(&error),
        },
    }
}

fn run(mut args: args::Args, words: Vec<OsString>) -> ExitCode {
    args.words = words;
    let logs_to_file = report::start_logging(args.verbose, args.log_file.as_deref());
    commands::run(&args).unwrap_or_else(|error| {
        if logs_to_file {
            // Nothing reads the stderr of a mount in the background.
            log::error!("{}", report::chain(error.as_ref()));
        }
        report::failure(&error)
    })
}

/// Does what mount(8) asks for.
fn run_for_mount(words: Vec<OsString>) -> ExitCode {
    let (words, namespace) = match helper::read(words) {
        Ok(helper::Request::Mount { words, namespace }) => (words, namespace),
        Ok(helper::Request::Fake) => return ExitCode::SUCCESS,
        Err(text) => {
            report::failure(&text.into());
            return ExitCode::from(HELPER_USAGE);
        }
    };
    if let Some(namespace) = namespace
        && let Err(error) = environment::enter_mount_namespace(&namespace)
    {
        report::failure(&error);
        return ExitCode::from(HELPER_FAILED);
    }
    match args::parse(&words) {
        Ok(args) => match run(args, words) {
            ExitCode::SUCCESS => ExitCode::SUCCESS,
            code if code == ExitCode::from(report::WRONG_USAGE) => ExitCode::from(HELPER_USAGE),
            _ => ExitCode::from(HELPER_FAILED),
        },
        Err(error) => {
            report::wrong_usage(&error);
            ExitCode::from(HELPER_USAGE)
        }
    }
}
