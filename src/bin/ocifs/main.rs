//! The `ocifs` program: words, environment, terminal. Everything else is in the library.
//!
//! One file a verb in [`commands`]; [`args`] validates, [`environment`] finds what lies around the
//! user (folders, credentials), [`report`] prints errors, [`progress`] what takes long, [`json`] names.

mod args;
mod commands;
mod environment;
mod json;
mod progress;
mod report;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    if let Some(place) = commands::forerun::place() {
        return commands::forerun::run(&place).unwrap_or_else(|error| report::failure(&error));
    }
    let args = args::Args::parse();
    report::start_logging(args.verbose, args.log_file.as_deref());
    commands::run(&args).unwrap_or_else(|error| {
        if args.log_file.is_some() {
            // A mount in the background has nobody any more who reads its stderr.
            log::error!("{}", report::chain(error.as_ref()));
        }
        report::failure(&error)
    })
}
