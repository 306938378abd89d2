//! `ocifs forerun MINOR DIR`: what a mount starts to go before walks over it.
//!
//! Not a verb for people: neither help nor completions have it, so it does not go through [`crate::args`].

use std::env;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::ExitCode;

use ocifs::fuse::forerunner;

use crate::report::AnyError;

const VERB: &str = "forerun";

/// What is to be started.
pub(crate) fn program() -> forerunner::Program {
    forerunner::Program {
        name: env!("CARGO_BIN_NAME").to_owned(),
        arguments: vec![VERB.to_owned()],
    }
}

/// The minor number of the device and the mount point, if this process is one.
pub(crate) fn place() -> Option<(u32, PathBuf)> {
    let mut words = env::args_os().skip(1);
    if words.next()? != VERB {
        return None;
    }
    let device_minor = words.next()?.to_str()?.parse().ok()?;
    let mount_point = PathBuf::from(words.next()?);
    words.next().is_none().then_some((device_minor, mount_point))
}

/// Goes before walks, as it is told on stdin.
pub(crate) fn run((device_minor, mount_point): (u32, PathBuf)) -> Result<ExitCode, AnyError> {
    // Without a buffer of its own: it is looked whether there is more to read.
    let stages = File::from(io::stdin().as_fd().try_clone_to_owned()?);
    forerunner::run(&mount_point, device_minor, stages, io::stdout())?;
    Ok(ExitCode::SUCCESS)
}
