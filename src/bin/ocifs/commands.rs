//! The verbs, one file each.

pub(crate) mod attendant;
mod attest;
mod blob;
mod browse;
mod cache;
mod cat;
mod contained;
mod cp;
mod diff;
mod doctor;
mod du;
mod engine_store;
mod explore;
mod export;
mod find;
mod history;
mod index;
mod inspect;
mod ls;
mod man_pages;
mod mirror;
mod mount;
mod open;
pub(crate) mod prefetch;
pub(crate) mod probe;
mod process;
mod proof;
mod pull;
mod registries;
mod report;
pub(crate) mod run;
mod secrets;
mod selected;
mod status;
mod store;
mod tags;
mod umount;
mod verify;
mod which;

use std::io::Write;
use std::process::ExitCode;

use crate::args::{Args, Command};
use crate::completions;
use crate::render::errors::AnyError;
use crate::render::output;

/// Runs the command; its exit code.
pub(crate) fn run(args: &Args) -> Result<ExitCode, AnyError> {
    match &args.command {
        Command::Mount(mount) => mount::run(args, mount),
        Command::Browse(browse) => browse::run(args, browse),
        Command::Store(store) => store::run(args, store),
        Command::Mirror(mirror) => mirror::run(mirror),
        Command::Umount(umount) => umount::run(umount),
        Command::Status(status) => status::run(status),
        Command::Ls(ls) => ls::run(ls),
        Command::Find(find) => find::run(find),
        Command::Cat(cat) => cat::run(cat),
        Command::History(history) => history::run(history),
        Command::Which(which) => which::run(which),
        Command::Diff(diff) => diff::run(diff),
        Command::Explore(explore) => explore::run(args, explore),
        Command::Inspect(inspect) => inspect::run(inspect),
        Command::Tags(tags) => tags::run(tags),
        Command::Attest(attest) => attest::run(attest),
        Command::Blob(blob) => blob::run(blob),
        Command::Du(du) => du::run(du),
        Command::Cp(cp) => cp::run(cp),
        Command::Export(export) => export::run(export),
        Command::Cache(cache) => cache::run(cache),
        Command::Pull(pull) => pull::run(pull),
        Command::Verify(verify) => verify::run(verify),
        Command::Index(index) => index::run(index),
        Command::Doctor(doctor) => doctor::run(doctor),
        Command::Run(run) => run::run(args, run),
        Command::Completions { shell } => {
            output::stdout().write_all(&completions::script(*shell)?)?;
            Ok(ExitCode::SUCCESS)
        }
        Command::ManPages { folder } => man_pages::run(folder),
    }
}
