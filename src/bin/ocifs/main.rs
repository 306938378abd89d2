//! The `ocifs` program: words, environment, terminal. Everything else is in the library.
//!
//! Each imports those above it only:
//!
//! - [`variables`]: the environment variables that count;
//! - [`render`]: what people and programs read: text, JSON, errors, the log, progress;
//! - [`contain`]: what a process gives up before it reads an image;
//! - [`args`]: the command line; [`mount_helper`] translates that of mount(8);
//! - [`environment`]: what lies around the user: settings, credentials, the cache, stores;
//! - [`static_names`]: how a statically linked program looks up hosts;
//! - [`notify`]: tells a service manager;
//! - [`completions`]: what shells ask for when Tab is pressed;
//! - [`explore`]: images in a terminal, layer by layer;
//! - [`commands`]: one file a verb.

mod args;
mod commands;
mod completions;
mod contain;
mod environment;
mod explore;
mod mount_helper;
mod notify;
mod render;
mod static_names;
mod variables;

use std::ffi::OsString;
use std::process::ExitCode;

use render::errors;

/// What mount(8) is told of usage that is wrong, and of a mount that fails.
const HELPER_USAGE: u8 = 1;
const HELPER_FAILED: u8 = 32;

fn main() -> ExitCode {
    static_names::use_built_in_services();
    if let Some(place) = commands::prefetch::place() {
        return commands::prefetch::run(&place).unwrap_or_else(|error| errors::failure(&error));
    }
    if commands::attendant::is_asked() {
        return commands::attendant::run().unwrap_or_else(|error| errors::failure(&error));
    }
    if let Some(folder) = commands::probe::folder() {
        return commands::probe::run(&folder).unwrap_or_else(|error| errors::failure(&error));
    }
    if let Some(stage) = commands::run::stage() {
        return commands::run::run_stage(stage);
    }
    if let Some(code) = completions::answer() {
        return code;
    }
    let words: Vec<OsString> = std::env::args_os().collect();
    match mount_helper::is_asked(&words) {
        true => run_for_mount(words),
        false => match args::parse(&words) {
            Ok(args) => run(args, words),
            Err(error) => {
                let code = errors::not_run(&error);
                commands::run::code_of_usage(&words, code)
            }
        },
    }
}

fn run(mut args: args::Args, words: Vec<OsString>) -> ExitCode {
    args.words = words;
    let logs_to_file = render::log::start(args.verbose, args.log_format, args.log_file.as_deref());
    // From here on there is a log for them.
    ocifs::fuse::panics::watch();
    commands::run(&args).unwrap_or_else(|error| {
        if logs_to_file {
            // Nothing reads the stderr of a mount in the background.
            log::error!("{}", errors::chain(error.as_ref()));
        }
        errors::failure(&error)
    })
}

/// Does what mount(8) asks for.
fn run_for_mount(words: Vec<OsString>) -> ExitCode {
    let (words, namespace) = match mount_helper::read(words) {
        Ok(mount_helper::Request::Mount { words, namespace }) => (words, namespace),
        Ok(mount_helper::Request::Fake) => return ExitCode::SUCCESS,
        Err(text) => {
            errors::failure(&text.into());
            return ExitCode::from(HELPER_USAGE);
        }
    };
    if let Some(namespace) = namespace
        && let Err(error) = environment::enter_mount_namespace(&namespace)
    {
        errors::failure(&error);
        return ExitCode::from(HELPER_FAILED);
    }
    match args::parse(&words) {
        Ok(args) => match run(args, words) {
            ExitCode::SUCCESS => ExitCode::SUCCESS,
            code if code == ExitCode::from(errors::WRONG_USAGE) => ExitCode::from(HELPER_USAGE),
            _ => ExitCode::from(HELPER_FAILED),
        },
        Err(error) => {
            errors::wrong_usage(&error);
            ExitCode::from(HELPER_USAGE)
        }
    }
}
