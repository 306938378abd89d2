//! The process that opens images and serves a mount for its supervisor.
//!
//! It may die at any time: the supervisor has the connection to the kernel too, and starts another. So nothing is undone
//! here, and what has to be done once is done by the supervisor. If that one dies, this process does.
//!
//! It reads what strangers have made, and has given up everything that it does not need for that before it does
//! ([`confined`]).
//!
//! A panic ends a request and not this process (`ocifs::fuse::panics`).

use std::io;
use std::process::ExitCode;
use std::sync::Arc;
use std::thread;

use ocifs::fuse::Suspects;
use ocifs::image::{Process, ProcessOptions};
use ocifs::mount::{Error, Kept, Mount, MountOptions, Prefetch, Served};
use ocifs::space::{Directories, Journal};
use rustix::process::{Signal, set_parent_process_death_signal};

use super::background::{let_go_of_errors, let_go_of_input, show_name};
use super::confined::{self, Supervisor};
use super::control::{OpenedImage, SupervisorSocket, Told};
use super::errands::{Errands, FarPrefetcher};
use super::handover;
use super::options::options;
use super::shown::{self, Known, ToServe};
use crate::args::{self, MountRequest};
use crate::commands::secrets::hide_secrets;
use crate::render::errors::{self, AnyError, FAILED};
use crate::variables;

/// The exit code that says that no other worker would do better: what is mounted is not to be had as it was.
pub(super) const DIFFERENT: u8 = 4;

pub(super) fn run(
    all: &args::Args,
    args: &args::Mount,
    request: &MountRequest,
) -> Result<ExitCode, AnyError> {
    show_name()?;
    if !variables::is_worker_of_this_version() {
        return Err("this version of ocifs can't serve for the supervisor of that one: unmount, and mount again".into());
    }
    // Before the first word is waited for: if the supervisor is dead already, none comes.
    set_parent_process_death_signal(Some(Signal::KILL))?;
    hide_secrets()?;
    let mut received = handover::receive()?;
    let supervisor = SupervisorSocket::of_stdout()?;
    let journal = match shown::is_looked_up(request) {
        true => Some(Journal::of(received.last_descriptor()?)),
        false => None,
    };
    let (errands, kept) = match &received.kept[..] {
        [] => {
            let [errands, suspects] = received.descriptors()?;
            ((errands, suspects), None)
        }
        _ => {
            let [errands, suspects, device] = received.descriptors()?;
            ((errands, suspects), Some(Kept::from_parts(device, &received.kept)?))
        }
    };
    let (errands, suspects) = (Errands::new(errands.0), Suspects::of(errands.1)?);
    let image_args = received.secrets.in_args(args);
    let before = kept.as_ref().map(Kept::images);
    let confine = |images: &mut [_], cache: &_| {
        confined::begin(images, &errands, &image_args.cache_args, cache);
        Ok(())
    };
    let keeper = Some(Box::new(Supervisor(Arc::clone(&errands))) as _);
    let known = Known { before, journal, keeper, confine: Some(&confine) };
    let ToServe { served, additions } = shown::open(args, &image_args, request, known)?;
    // From here on the terminal's signals are for the supervisor alone.
    rustix::process::setsid()?;
    let mut options = options(args);
    options.suspects = Some(Arc::new(suspects));
    if let Prefetch::Process(launcher) = &mut options.prefetch {
        *launcher = Arc::new(FarPrefetcher(errands));
    }
    let is_first = kept.is_none();
    let wanted = request.program.as_ref().filter(|_| is_first);
    let opened = opened_image(&served, wanted)?;
    let mount = match mounted(served, kept, (&supervisor, &opened), &options) {
        Err(error @ Error::Different) => {
            errors::failure(&error.into());
            return Ok(ExitCode::from(DIFFERENT));
        }
        result => result?,
    };
    // What has failed is for the supervisor to say.
    let Some(mount) = mount else { return Ok(ExitCode::from(FAILED)) };
    let told = let_go(all.log_file.is_some()).and_then(|()| match is_first {
        false => supervisor.serves(),
        true => supervisor.give(&mount.kept()?),
    });
    told.map_err(|e| format!("leaving the mount to its supervisor: {e}"))?;
    if let Some(additions) = additions {
        let (supervisor, store) = (supervisor.duplicate()?, Arc::clone(additions.store()));
        let mut kept = mount.kept()?;
        // What is added has numbers that the next worker has to give it too.
        let added = move || {
            additions.open(|| {
                kept.renew(store.kept());
                if let Err(e) = supervisor.give(&kept) {
                    log::warn!("telling the supervisor of an image: {e}");
                }
            });
        };
        thread::Builder::new().name("additions".into()).spawn(added)?;
    }
    supervisor.answer_clients(mount.status_source())?;
    mount.wait()?;
    Ok(ExitCode::SUCCESS)
}

/// What the supervisor is told of what was opened.
fn opened_image(
    served: &Served,
    program: Option<&ProcessOptions>,
) -> Result<OpenedImage, AnyError> {
    let source = served.source();
    let Served::View(view) = served else {
        return Ok(OpenedImage { source, digest: None, process: None });
    };
    let process = program.map(|options| Process::of(view, options)).transpose()?;
    let digest = match view.images() {
        [shown] => Some(shown.image.digest.to_string()),
        _ => None,
    };
    Ok(OpenedImage { source, digest, process })
}

/// Serves what the supervisor has mounted, or goes on with what is known of a mount; `None` if the supervisor has given up.
fn mounted(
    served: Served,
    kept: Option<Kept>,
    (supervisor, opened): (&SupervisorSocket, &OpenedImage),
    options: &MountOptions,
) -> Result<Option<Mount>, Error> {
    // Before another worker makes room for this one.
    if kept.as_ref().is_some_and(|kept| !kept.is_of(served.checksum())) {
        return Err(Error::Different);
    }
    let Some(told) = supervisor.opened(opened).map_err(Error::Serve)? else { return Ok(None) };
    let mount = match (told, kept) {
        (Told::Go, Some(kept)) => Mount::resume(served, kept, options)?,
        (Told::Mounted(attached), _) => Mount::serve(served, attached, options)?,
        (Told::Stage(parts), _) => {
            let Served::View(view) = served else {
                return Err(Error::Serve(io::ErrorKind::InvalidData.into()));
            };
            let begun = Mount::begin(view, parts, options)?;
            let placed = supervisor.begun(begun.contents()).map_err(Error::Serve)?;
            let Some((mounted, attached)) = placed else { return Ok(None) };
            begun.finish(mounted, attached)
        }
        (Told::Go, None) => return Err(Error::Serve(io::ErrorKind::InvalidData.into())),
    };
    Ok(Some(mount))
}

/// Lets go of what belongs to the caller of the program. In the foreground that is not its output for errors.
fn let_go(has_log_file: bool) -> io::Result<()> {
    let null = let_go_of_input()?;
    match variables::is_background_child() {
        true => let_go_of_errors(&null, has_log_file),
        false => Ok(()),
    }
}
