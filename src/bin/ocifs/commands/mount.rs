//! `ocifs mount`: in the background by default.
//!
//! The process starts itself again, hands it the mount point, waits until that one's mount answers, and returns.
//! Until then the child is an ordinary child: it prints its errors and its progress on the same
//! terminal and dies of the same Ctrl-C. Starting a new program instead of forking keeps threads
//! and `unsafe` out of it.
//!
//! What stays is a [`supervisor`] with a [`worker`], or a process that serves the mount itself ([`direct`]).

mod again;
mod background;
mod confined;
mod control;
mod descriptor;
mod desertion;
mod direct;
mod ending;
mod errands;
mod handover;
mod memory_kills;
mod options;
mod outage;
pub(super) mod parcel;
mod search;
mod shown;
pub(super) mod signals;
mod start;
mod supervisor;
mod upgrade;
pub(super) mod upper;
mod watch;
mod worker;
mod workers;

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::AsFd;
use std::path::Path;
use std::process::{ExitCode, Stdio};
use std::time::Instant;

use clap::error::ErrorKind;
use ocifs::fuse::kernel::{MountPoint, Mounted, is_in_user_namespace};
use ocifs::fuse::{Suspects, erofs_mount, kernel};
use ocifs::reference::{ImageName, Reference};
use ocifs::source::on_disk;
use ocifs::space::Journal;

use self::background::{READY, end_with_the_waiting, show_name};
use self::handover::{Handed, Secrets};
use self::options::options;
use self::start::Program;
use self::upper::Upper;
use self::workers::Workers;
use crate::args::{self, MountRequest, NamedImage, ShownImages, WrongUsage};
use crate::commands::process::is_dead_behind;
use crate::commands::registries::{refused_for_any, refused_for_several};
use crate::commands::run::Guest;
use crate::environment;
use crate::render::errors::{self, AnyError};
use crate::variables;

pub(crate) fn run(all: &args::Args, args: &args::Mount) -> Result<ExitCode, AnyError> {
    if !variables::is_background_child()
        && !variables::is_worker()
        && !variables::is_search()
        && let Some(error) = swapped(args)
    {
        return Ok(errors::wrong_usage(&error));
    }
    let request = match args.request() {
        Ok(request) => request,
        Err(error) => return Ok(errors::wrong_usage(&args::usage_error("mount", error))),
    };
    run_request(all, args, &request)
}

/// Mounts what was asked for.
pub(super) fn run_request(
    all: &args::Args,
    args: &args::Mount,
    request: &MountRequest,
) -> Result<ExitCode, AnyError> {
    let instead = "mount the images of each registry on their own";
    let refused = refused_for_several(request.shown.images(), &args.image_args, instead)?;
    if let Some(error) = refused {
        return Ok(errors::wrong_usage(&args::usage_error("mount", error)));
    }
    let asks_any = match &request.shown {
        ShownImages::Registries { .. } => Some(("browse", "whichever a path names is asked")),
        ShownImages::Store(store) if store.list.is_some() => {
            Some(("store", "a list may name images of any"))
        }
        _ => None,
    };
    if let Some((verb, asks)) = asks_any
        && let Some(error) = refused_for_any(&args.image_args, asks)
    {
        return Ok(errors::wrong_usage(&args::usage_error(verb, error)));
    }
    if variables::is_search() {
        return search::answer(args);
    }
    if variables::is_worker() {
        return worker::run(all, args, request);
    }
    if variables::is_background_child() {
        end_with_the_waiting()?;
        show_name()?;
        let mut received = handover::receive()?;
        let [mount_point] = received.descriptors()?;
        let mount_point = MountPoint::from_descriptor(mount_point)?;
        return stay(all, args, received.secrets, request, mount_point);
    }
    let Some(mount_point) = prepare(args, request)? else { return Ok(ExitCode::SUCCESS) };
    match args.flags.foreground {
        true => stay(all, args, Secrets::of(args)?, request, mount_point),
        false => start_child(all, args, request, &mount_point),
    }
}

/// What is at the path that a word may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Found {
    Nothing,
    /// One that is no image.
    Directory,
    File,
    /// An image in a directory, a device, or what can't be looked at.
    Other,
}

impl Found {
    /// Looks at a path. A mount of ocifs is known by the table of mounts, as its process may not answer.
    fn at(word: &OsStr) -> Found {
        let path = Path::new(word);
        if args::mount_at(path).is_some() {
            return Found::Directory;
        }
        match path.metadata() {
            Ok(metadata) if metadata.is_dir() && !on_disk::is_image(path) => Found::Directory,
            Ok(metadata) if metadata.is_file() => Found::File,
            Err(e) if e.kind() == io::ErrorKind::NotFound => Found::Nothing,
            Ok(_) | Err(_) => Found::Other,
        }
    }
}

/// What to say where the directory is given before the image.
fn swapped(args: &args::Mount) -> Option<clap::Error> {
    let (images, last) = args.images_and_directory()?;
    let is_directory = |word: &OsString| Found::at(word) == Found::Directory;
    let [first] = images else {
        // All that could be names of images may be meant so: then it is the directory that is missing.
        let is_name =
            |word: &OsString| word.to_str().is_some_and(|w| w.parse::<Reference>().is_ok());
        let directory = images.iter().find(|word| !is_name(word) && is_directory(word))?.display();
        let text = format!(
            "`{directory}` is a directory and no image: the images come first, and one directory to show them in last"
        );
        return matches!(Found::at(last), Found::Nothing).then(|| {
            args::usage_error("mount", WrongUsage::new(ErrorKind::ValueValidation, text))
        });
    };
    if !is_directory(first) {
        return None;
    }
    let is_reference = || last.to_str().is_some_and(|last| last.parse::<NamedImage>().is_ok());
    let is_missing = match Found::at(last) {
        Found::Nothing if is_reference() => true,
        // A file can only be an archive.
        Found::File => false,
        _ => return None,
    };
    // `debian` may be a folder here and be meant as an image all the same, for a directory that is not there yet.
    let is_image_name = first.to_str().is_some_and(|first| first.parse::<Reference>().is_ok());
    let may_be_place = is_missing
        && !last.as_encoded_bytes().iter().any(|b| matches!(b, b':' | b'@'))
        && Path::new(last).parent().is_none_or(|p| p.as_os_str().is_empty() || p.is_dir());
    let (first, last) = (first.display(), last.display());
    let mut text = format!(
        "`{first}` is a directory and `{last}` is not: the image comes first, `ocifs mount {last} {first}`"
    );
    if is_image_name && may_be_place {
        text.push_str(&format!("; if `{first}` is the image, `mkdir {last}` makes the directory"));
    }
    Some(args::usage_error("mount", WrongUsage::new(ErrorKind::ValueValidation, text)))
}

/// Opens the mount point, and tells what can be known to fail before anything is fetched; `None` if just this is
/// mounted there already.
fn prepare(args: &args::Mount, request: &MountRequest) -> Result<Option<MountPoint>, AnyError> {
    prepare_until(args, request, Instant::now() + again::BETWEEN)
}

/// The same; until then a mount that is there and does not answer is waited for.
fn prepare_until(
    args: &args::Mount,
    request: &MountRequest,
    until: Instant,
) -> Result<Option<MountPoint>, AnyError> {
    kernel::check_requirements()?;
    if args.is_writable() && !kernel::is_root() {
        let text = "only root can mount an overlay that can be written (--scratch, --upper); `ocifs run` gives a program \
                    one without root";
        return Err(text.into());
    }
    if args.kernel_metadata {
        erofs_mount::check()?;
    }
    clear_dead(&request.mount_point)?;
    let mount_point = kernel::prepare(&request.mount_point, lives)?;
    let path = mount_point.path();
    let cache = environment::cache_folder(&args.image_args.cache_args);
    if cache.is_some_and(|cache| lies_below(&cache, &path)) {
        return Err("the cache lies below the mount point and would be covered by the mount: \
                    choose another place with --cache-dir"
            .into());
    }
    for image in request.shown.images() {
        let place = match image {
            ImageName::Registry(_) => None,
            ImageName::Local(local) if local.is_standard_input() => None,
            ImageName::Local(local) => Some(local.path.as_path()),
            ImageName::Stored(stored) => stored.path(),
        };
        if let Some(place) = place
            && lies_below(&std::path::absolute(place)?, &path)
        {
            let what = "the image lies below the mount point and would be covered by the mount";
            return Err(format!("{image}: {what}").into());
        }
    }
    let is_done = match mount_point.uppermost()? {
        // The kernel resolves the path as fusermount3, which the mount of a user keeps out.
        Some(other) if args.over && !kernel::is_root() => {
            let text = format!(
                "{} shows {} already, and only root can mount over it (--over): unmount that first, or choose \
                 another directory",
                path.display(),
                other.source
            );
            return Err(text.into());
        }
        Some(other) if !args.over && Instant::now() < until && again::is_in_between(&other) => {
            return prepare_until(args, request, until);
        }
        Some(other) if !args.over => again::is_shown(args, request, &other)?,
        Some(_) | None => false,
    };
    Ok((!is_done).then_some(mount_point))
}

/// Removes a mount with `--kernel-metadata` whose process is dead.
fn clear_dead(mount_point: &Path) -> Result<(), kernel::Error> {
    // If there is no such place, preparing it says so.
    let Ok(place) = kernel::absolute(mount_point) else { return Ok(()) };
    let Some(mounted) = kernel::uppermost(&place)? else { return Ok(()) };
    let asked = || environment::query_status(mounted.connection).map(drop);
    if !is_dead_behind(&mounted, asked) {
        return Ok(());
    }
    log::info!("removing the mount that a dead process left at {}", place.display());
    kernel::unmount(&mounted, kernel::Unmount::Lazy)
}

/// Whether a supervisor says that it lives.
fn lives(mounted: &Mounted) -> bool {
    environment::query_status(mounted.connection).is_err_and(|e| e.is_supervised())
}

/// Whether a folder, which may not exist yet, lies at or below a place.
fn lies_below(folder: &Path, place: &Path) -> bool {
    let existing = folder.ancestors().find_map(|path| path.canonicalize().ok());
    existing.is_some_and(|folder| folder.starts_with(place))
}

/// Starts the process that stays, and waits until it is ready or has failed.
fn start_child(
    all: &args::Args,
    args: &args::Mount,
    request: &MountRequest,
    mount_point: &MountPoint,
) -> Result<ExitCode, AnyError> {
    let mut command = Program::new(&all.words).command(env!("CARGO_BIN_NAME"));
    let secrets = Secrets::of(args)?;
    let handed = Handed { descriptors: &[mount_point.as_fd()], secrets: &secrets, kept: &[] };
    // An archive that comes there is for the serving process.
    if shown::is_read_from_input(request) {
        command.stdin(Stdio::inherit());
    }
    let starting = |e| format!("starting the serving process: {e}");
    let (ours, theirs) = handover::send(&handed).map_err(starting)?;
    command.env(variables::BACKGROUND_CHILD, "1");
    let mut child = command.stdout(theirs).spawn().map_err(starting)?;
    // It has the other end, too.
    drop(command);
    // If it ends before it has read them, it says why.
    let _ = handover::send_texts(&ours, &handed);
    if handover::is_word(ours, READY)? {
        return Ok(ExitCode::SUCCESS);
    }
    start::ended_early(child.wait()?)
}

/// Has a program run in a mount of its own, and stays as long as it runs.
pub(super) fn serve_program(
    all: &args::Args,
    args: &args::Mount,
    guest: Guest,
) -> Result<ExitCode, AnyError> {
    let mut workers = workers_of(all, args, Secrets::of(args)?)?;
    workers.has_one_id = guest.has_one_id();
    supervisor::run_program(workers, guest)
}

/// Mounts, and stays: with a supervisor where a dead process can be replaced.
fn stay(
    all: &args::Args,
    args: &args::Mount,
    secrets: Secrets,
    request: &MountRequest,
    mount_point: MountPoint,
) -> Result<ExitCode, AnyError> {
    let is_supervised = workers::is_possible();
    let have_input = shown::is_read_from_input(request);
    // What came on the standard input is gone; for the other see `supervisor`.
    let are_replaced = !have_input && args.prefetch != args::Prefetch::Push;
    if args.is_writable() && !(is_supervised && are_replaced) {
        let text = "--scratch and --upper are not for an image from standard input, nor for --prefetch=push";
        return Err(text.into());
    }
    if !is_supervised {
        return direct::serve(all, args, &secrets.in_args(args), request, mount_point);
    }
    let overlay = match args.is_writable() {
        true => {
            let upper = args.upper.as_deref().map(|path| Upper::open(path, is_in_user_namespace()));
            Some(Guest::of_mount(upper.transpose()?)?)
        }
        false => None,
    };
    let mut workers = workers_of(all, args, secrets)?;
    (workers.have_input, workers.are_replaced) = (have_input, are_replaced);
    if shown::is_looked_up(request) {
        workers.journal = Some(Journal::new()?);
    }
    if let ShownImages::Store(store) = &request.shown {
        // This process leaves the folder that the words begin at.
        workers.list = store.list.as_ref().map(std::path::absolute).transpose()?;
    }
    supervisor::run(workers, mount_point, &options(args), overlay)
}

fn workers_of(all: &args::Args, args: &args::Mount, secrets: Secrets) -> io::Result<Workers> {
    Ok(Workers {
        program: Program::new(&all.words),
        secrets,
        patience: args.image_args.timeout,
        has_log_file: all.log_file.is_some(),
        cache: environment::cache_folder(&args.image_args.cache_args),
        has_one_id: false,
        list: None,
        journal: None,
        suspects: Suspects::new()?,
        are_replaced: true,
        have_input: false,
    })
}
