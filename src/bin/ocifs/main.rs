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

use clap::Parser;

/// What mount(8) is told of usage that is wrong, and of a mount that fails.
const HELPER_USAGE: u8 = 1;
const HELPER_FAILED: u8 = 32;

fn main() -> ExitCode {
    if let Some(place) = commands::forerun::place() {
        return commands::forerun::run(&place).unwrap_or_else(|error| report::failure(&error));
    }
    let words: Vec<OsString> = std::env::args_os().collect();
    match helper::is_asked(&words) {
        true => run_for_mount(words),
        false => run(args::Args::parse_from(&words), words),
    }
}

fn run(mut args: args::Args, words: Vec<OsString>) -> ExitCode {
    args.words = words;
    report::start_logging(args.verbose, args.log_file.as_deref());
    commands::run(&args).unwrap_or_else(|error| {
        if args.log_file.is_some() {
            // A mount in the background has nobody any more who reads its stderr.
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
    match args::Args::try_parse_from(&words) {
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
