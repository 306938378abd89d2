//! The `ocifs` program: words, environment, terminal. Everything else is in the library.
//!
//! One file a verb in [`commands`]; [`args`] validates, [`environment`] finds what lies around the
//! user (folders, credentials), [`report`] prints errors.

mod args;
mod commands;
mod environment;
mod progress;
mod report;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    let args = args::Args::parse();
    report::start_logging(args.verbose, args.log_file.as_deref());
    match commands::run(&args) {
        Ok(code) => code,
        Err(error) => report::failure(&error),
    }
}
