//! `ocifs man-pages`: the manual pages, one for each verb, for packages.
//!
//! # Problem
//!
//! A package has manual pages, and pages that are written by hand differ from what the program understands.
//!
//! # Design
//!
//! The grammar of the command line, which makes the help texts, makes the pages too. Only the program knows that grammar,
//! so it writes them itself, with a verb that help and completions do not list: `scripts/dist` calls it.
//!
//! Rejected: a build script, as it would have to compile the grammar a second time, and with it what the grammar imports.
//!
//! Invariant: the pages depend on the version of the program alone, not on the time, the environment or the terminal.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use clap::{Command, CommandFactory};
use clap_mangen::Man;

use crate::args::Args;
use crate::render::errors::AnyError;

/// The section of the manual with programs.
const SECTION: &str = "1";

pub(crate) fn run(folder: &Path) -> Result<ExitCode, AnyError> {
    // Without it each verb with verbs would have a page for its own `help`.
    let mut command = Args::command().disable_help_subcommand(true);
    command.build();
    let mut todo = vec![command];
    while let Some(command) = todo.pop() {
        todo.extend(command.get_subcommands().filter(|verb| !verb.is_hide_set()).cloned());
        let name = command.get_display_name().unwrap_or(command.get_name());
        let path = folder.join(format!("{name}.{SECTION}"));
        write(command, &path).map_err(|error| format!("{}: {error}", path.display()))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn write(command: Command, path: &Path) -> io::Result<()> {
    let mut page = Vec::new();
    let source = concat!("ocifs ", env!("CARGO_PKG_VERSION"));
    Man::new(command).section(SECTION).source(source).render(&mut page)?;
    File::create(path)?.write_all(&page)
}
