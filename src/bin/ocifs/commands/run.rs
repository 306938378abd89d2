//! `ocifs run`: a program of an image, in namespaces of its own.
//!
//! # Problem
//!
//! Tools come as images. To run one takes a container engine, which has the image pulled, unpacked and stored first, and often
//! a daemon that is as good as root. A mount shows the files, and `chroot` needs root and leaves the program in all
//! else where it was.
//!
//! # Design
//!
//! ```text
//! ocifs run          the front: supervises the mount, passes signals on, has the exit code     the caller's namespaces
//! ├─ ocifs-worker    opens the image and serves it, contained (crate::commands::mount)         the caller's namespaces
//! └─ ocifs-guest     unshares, mounts the image and builds the root                 its own user and mount namespace
//!    └─ ocifs-init   process 1: enters the root, passes signals on, reaps           and its own process namespace
//!       └─ program   what was asked for                                             the same
//! ```
//!
//! Each is this program, started once more: a namespace of users can be unshared by a process of one thread only, process 1 has
//! to be a child of the one that has unshared, and between a fork and an exec nothing can be done without `unsafe`.
//! They tell each other what is needed over sockets ([`launch`]).
//!
//! The mount is made in the guest's namespaces and served from outside of them: the worker needs the network, the cache and
//! credentials, is not seen by the program, and can be replaced when it dies as that of any mount. Over it there is an
//! overlay, whose upper directory is in memory unless one is named ([`root`]): so there is nothing to be removed.
//!
//! The end comes from either side. When the program ends, init does, and with it every process that is left in the
//! namespace; with the last process of the mount namespace its mounts go, the connection ends, and so does the worker. When
//! the front is killed, guest and worker are killed by the kernel (`PR_SET_PDEATHSIG`), and init with the guest.
//!
//! Whose the files are: [`ids`]. What the program may not do: `crate::contain`. What a symlink of the image may lead to:
//! [`place`].
//!
//! # Rejected
//!
//! - To write a bundle and start runc or crun: they are part of an engine, and what they add, limits of resources, is
//!   not what a tool needs.
//! - `chroot`: a process can leave it, and the old root stays mounted below.
//! - To become process 1 itself, without init: signals without a handler would do nothing, and orphans would stay.
//! - A scratch directory on disk, which a killed process leaves behind.
//! - A process group of its own for the program: the front would have to hand the terminal over and take it back.
//! - A network namespace: without a network in it most tools are of no use, and to make one takes another program.
//!
//! # Invariants
//!
//! - No path of the image is looked up by the kernel before the image's root is the root of the process that does.
//! - The program has no descriptor, variable or capability that is not meant for it.

mod binary;
mod guest;
mod ids;
mod init;
mod launch;
mod mounts;
mod place;
mod program;
mod restricted;
mod root;
mod signals;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use ocifs::image::ProcessOptions;
use ocifs::reference::ImageName;

pub(super) use guest::Guest;
pub(super) use launch::FAILED_BEFORE;
pub(crate) use launch::Stage;
pub(super) use signals::Signals;

use self::ids::Ids;
use self::launch::Plan;
use super::mount;
use super::mount::upper::Upper;
use crate::args::{self, MountRequest, RunRequest, ShownImages, WrongUsage};
use crate::render::errors::{self, AnyError};
use crate::variables;

/// What this process was started as by another one of `ocifs run`, if it was.
pub(crate) fn stage() -> Option<Stage> {
    Stage::of_words()
}

/// Does what such a process is for.
pub(crate) fn run_stage(stage: Stage) -> ExitCode {
    match stage {
        Stage::Guest => root::run(),
        Stage::Init => init::run(),
        Stage::Program => program::run(),
    }
}

/// The exit code of a command line that could not be read: 2 would be the program's, if it is this verb's.
pub(crate) fn code_of_usage(words: &[OsString], code: ExitCode) -> ExitCode {
    let is_verb =
        words.iter().skip(1).find(|word| args::is_verb(word)).is_some_and(|word| word == "run");
    match is_verb && code == ExitCode::from(errors::WRONG_USAGE) {
        true => ExitCode::from(FAILED_BEFORE),
        false => code,
    }
}

pub(crate) fn run(all: &args::Args, args: &args::Run) -> Result<ExitCode, AnyError> {
    let request = match args.request() {
        Ok(request) => request,
        Err(text) => {
            let kind = clap::error::ErrorKind::ValueValidation;
            let error = args::usage_error("run", WrongUsage::new(kind, text));
            errors::wrong_usage(&error);
            return Ok(ExitCode::from(FAILED_BEFORE));
        }
    };
    let mount_args = args::Mount::of_program(&args.image_args);
    let is_front = !variables::is_worker() && !variables::is_search();
    let mount_request = MountRequest {
        shown: ShownImages::Single(request.image.clone()),
        mount_point: PathBuf::new(),
        program: Some(options(request)),
    };
    if !is_front {
        return mount::run_request(all, &mount_args, &mount_request);
    }
    let done =
        front(args, &mount_request).and_then(|guest| mount::serve_program(all, &mount_args, guest));
    Ok(done.unwrap_or_else(|error| {
        errors::failure(&error);
        ExitCode::from(FAILED_BEFORE)
    }))
}

/// Starts the guest.
fn front(args: &args::Run, request: &MountRequest) -> Result<Guest, AnyError> {
    let images = request.shown.images();
    let from_input =
        |image: &&ImageName| matches!(image, ImageName::Local(local) if local.is_standard_input());
    if images.iter().any(from_input) {
        return Err("the input is the program's: an image can't be read from it".into());
    }
    let ids = Ids::available();
    let open = || args.upper.as_deref().map(|path| Upper::open(path, ids.are_of_users()));
    let upper = open().transpose()?;
    let plan = Plan::new(args, upper.as_ref().map(Upper::path), ids.clone());
    match Guest::start(&plan, upper) {
        Err(error) if ids.are_many() => {
            log::warn!(
                "the IDs of /etc/subuid can't be had ({error}): there will be one user only"
            );
            Guest::start(&Plan { ids: Ids::own(), ..plan }, open().transpose()?)
        }
        started => started,
    }
}

/// Tries whether programs can be run here: with which users.
///
/// # Errors
/// They can't.
pub(super) fn try_here() -> Result<&'static str, AnyError> {
    let ids = Ids::available();
    let tried =
        |ids: Ids| Guest::start(&Plan::of_nothing(ids), None)?.overlay("ocifs", true).map(drop);
    match (tried(ids.clone()), &ids) {
        (Ok(()), Ids::Here) => {
            Ok("as root, whose rights are limited and whose user IDs are this machine's")
        }
        (Ok(()), Ids::Many { .. }) => Ok("in a user namespace, with the user IDs of /etc/subuid"),
        (Err(error), Ids::Many { .. }) if tried(Ids::own()).is_ok() => {
            log::info!("{error}");
            Ok("in a user namespace with one user ID, as those of /etc/subuid can't be had")
        }
        (Ok(()), Ids::One { .. }) => Ok(
            "in a user namespace with one user ID, so that no package can be installed that has users of its own; \
             newuidmap (Debian: `apt install uidmap`) and lines in /etc/subuid and /etc/subgid give more",
        ),
        (Err(error), _) => Err(error),
    }
}

/// What is said of the process, with what this machine's environment has to say.
fn options(request: RunRequest) -> ProcessOptions {
    let RunRequest { args, entrypoint, env, cwd, user, .. } = request;
    let env = env.into_iter().filter_map(|(name, value)| {
        let value = value.or_else(|| variables::passed_on(&name))?;
        Some((name, value))
    });
    let text = |text: &str| text.as_bytes().to_owned();
    let mut defaults = vec![(text("container"), text("ocifs"))];
    defaults.extend(variables::passed_on(b"TERM").map(|terminal| (text("TERM"), terminal)));
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").ok();
    defaults.extend(host.map(|host| (text("HOSTNAME"), text(host.trim()))));
    ProcessOptions { entrypoint, args, defaults, env: env.collect(), cwd, user }
}
