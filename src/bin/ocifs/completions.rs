//! What shells ask for when Tab is pressed.
//!
//! # Problem
//!
//! A script that is written once knows verbs and flags. It does not know what is mounted, which images and tags there
//! are, or which files an image has, and that is what is tedious to type.
//!
//! # Design
//!
//! The script of a shell runs this program with the words typed so far, and `clap_complete`'s engine finds the flag or
//! argument that is being typed. What could stand there is found by its place on the command line, so the
//! grammar in [`crate::args`] knows nothing of this: [`with_completers`] adds it, by the names of arguments.
//!
//! Invariants: an answer takes no longer than [`MAX_TIME`], has no more than [`MAX_CANDIDATES`] words, and every
//! word of it stands for itself in any shell ([`is_plain`]), as some shells insert what they are told as it
//! is: a file of an image that is called `$(reboot)` is not offered. Nothing is asked of the user, written, or fetched
//! but the tags of the registry that is named. Whatever fails offers nothing.
//!
//! # Rejected
//!
//! The variable `COMPLETE`, the engine's default: other programs may have set it. Offering such names in quotes: each
//! shell, and each state of quotes in one, wants others.

mod bash;
mod bounds;
mod files;
mod images;
mod line;
mod paths;

use std::collections::HashSet;
use std::ffi::OsStr;
use std::process::ExitCode;

use clap::{Arg, Command, CommandFactory, ValueHint};
use clap_complete::CompleteEnv;
use clap_complete::engine::{ArgValueCompleter, CompletionCandidate, PathCompleter};
use clap_complete::env::{Elvish, Fish, Powershell, Shells, Zsh};
use ocifs::fuse::kernel;

use crate::args::Args;
use crate::render::errors::AnyError;
use crate::variables::COMPLETE;
use bounds::{MAX_CANDIDATES, MAX_TIME, is_plain, within};

/// The name of the program, as scripts call it.
const PROGRAM: &str = "ocifs";

const SHELLS: Shells<'static> = Shells(&[&bash::Bash, &Elvish, &Fish, &Powershell, &Zsh]);

/// The script for a shell.
///
/// # Errors
/// None that is known.
pub(crate) fn script(shell: clap_complete::Shell) -> Result<Vec<u8>, AnyError> {
    let name = shell.to_string();
    let shell = SHELLS.completer(&name).ok_or_else(|| format!("there is no script for {name}"))?;
    let mut script = Vec::new();
    shell.write_registration(COMPLETE, PROGRAM, PROGRAM, PROGRAM, &mut script)?;
    Ok(script)
}

/// Answers a shell, if that is what this process is for.
pub(crate) fn answer() -> Option<ExitCode> {
    std::env::var_os(COMPLETE)?;
    let engine = CompleteEnv::with_factory(|| with_completers(Args::command()));
    let engine = engine.var(COMPLETE).bin(PROGRAM).completer(PROGRAM).shells(SHELLS);
    let folder = std::env::current_dir().ok();
    match engine.try_complete(std::env::args_os(), folder.as_deref()) {
        Ok(true) => Some(ExitCode::SUCCESS),
        // The variable is set to nothing.
        Ok(false) => None,
        // A message would stand in the middle of what is being typed.
        Err(_) => Some(ExitCode::FAILURE),
    }
}

/// Adds to each argument how its values are found.
fn with_completers(command: Command) -> Command {
    let verb = command.get_name().to_owned();
    command.mut_args(|arg| with_completer(&verb, arg)).mut_subcommands(with_completers)
}

fn with_completer(verb: &str, arg: Arg) -> Arg {
    let name = arg.get_value_names().and_then(|names| names.first()).map(ToString::to_string);
    let is_flag = !arg.is_positional();
    match (verb, name.as_deref()) {
        (_, Some("DIR" | "ROOT")) if is_flag => arg.value_hint(ValueHint::DirPath),
        _ if is_flag => arg,
        ("umount" | "status", Some("DIR")) => arg.add(quick(mount_points)),
        ("store", Some("DIR")) => arg.value_hint(ValueHint::DirPath),
        ("mount" | "store", _) => arg.add(quick(of_mount)),
        ("run", _) => arg.add(quick(images::images)),
        (_, Some("REF" | "A" | "B")) => arg.add(quick(images::images)),
        (_, Some("REPO")) => arg.add(quick(images::repositories)),
        (_, Some("PATH" | "PATH|EXPRESSION")) => arg.add(quick(paths::paths)),
        (_, Some("PATH|DEST")) => arg.add(quick(of_cp)),
        _ => arg,
    }
}

/// What offers the words that a function finds in time, as far as they can be offered. What is typed and is no text has
/// no continuation.
fn quick(find: fn(&str) -> Vec<String>) -> ArgValueCompleter {
    ArgValueCompleter::new(move |typed: &OsStr| {
        let Some(typed) = typed.to_str().map(str::to_owned) else { return Vec::new() };
        let found = within(MAX_TIME, move || {
            let mut found = find(&typed);
            let mut seen = HashSet::new();
            found.retain(|word| {
                word.starts_with(&typed) && is_plain(word) && seen.insert(word.clone())
            });
            found.truncate(MAX_CANDIDATES);
            found
        });
        let found = found.unwrap_or_default();
        let ranked = found.into_iter().enumerate();
        ranked.map(|(at, word)| CompletionCandidate::new(word).display_order(Some(at))).collect()
    })
}

/// What is mounted; below the current directory also without that, as it has been begun.
fn mount_points(typed: &str) -> Vec<String> {
    let folder = std::env::current_dir().unwrap_or_default();
    let mounts = kernel::mounts().unwrap_or_default().into_iter();
    let places = mounts.filter_map(|mount| {
        let place = &mount.mount_point;
        let below = place.strip_prefix(&folder).ok().filter(|_| !typed.starts_with('/'));
        let is_begun = below.filter(|place| place.to_str().is_some_and(|p| p.starts_with(typed)));
        is_begun.filter(|_| !typed.is_empty()).unwrap_or(place).to_str().map(str::to_owned)
    });
    places.collect()
}

/// `[NAME=]REF... DIR`
fn of_mount(typed: &str) -> Vec<String> {
    let is_named = |(name, _): &(&str, &str)| !name.contains(['/', ':']);
    match typed.split_once('=').filter(is_named) {
        Some((name, image)) => {
            let images = images::images(image).into_iter();
            images.map(|image| format!("{name}={image}")).collect()
        }
        None => [images::images(typed), files::paths(typed, PathCompleter::dir())].concat(),
    }
}

/// `PATH... DEST`: of the image, or of this machine.
fn of_cp(typed: &str) -> Vec<String> {
    [paths::paths(typed), files::paths(typed, PathCompleter::dir())].concat()
}
