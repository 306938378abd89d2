//! `ocifs prefetch PLACE...`: the process that a mount starts to run ahead of walks over it.
//!
//! Not a verb for people: neither help nor completions have it, so it does not go through [`crate::args`].

use std::env;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::process::ExitCode;

use ocifs::fuse::prefetcher;
use rustix::process::{Signal, set_parent_process_death_signal};

use crate::render::errors::AnyError;

pub(super) const VERB: &str = "prefetch";

/// What is to be started.
pub(crate) fn program() -> prefetcher::Program {
    prefetcher::Program {
        name: env!("CARGO_BIN_NAME").to_owned(),
        arguments: vec![VERB.to_owned()],
    }
}

/// Where, if this process is one.
pub(crate) fn place() -> Option<prefetcher::Target> {
    let mut words = env::args_os().skip(1);
    if words.next()? != VERB {
        return None;
    }
    prefetcher::Target::parse(words)
}

/// Runs ahead of walks, in the stages that it reads from stdin.
pub(crate) fn run(place: &prefetcher::Target) -> Result<ExitCode, AnyError> {
    // By the link that it is started by the kernel calls it `exe`.
    rustix::thread::set_name(c"ocifs")?;
    // A stopped process does not notice that its stdin has been closed.
    set_parent_process_death_signal(Some(Signal::KILL))?;
    // Without a buffer of its own: it is looked whether there is more to read.
    let stages = File::from(io::stdin().as_fd().try_clone_to_owned()?);
    prefetcher::run(place, stages, io::stdout())?;
    Ok(ExitCode::SUCCESS)
}
