//! The verbs, one file each.

mod cache;
mod cat;
mod doctor;
mod export;
mod index;
mod ls;
mod mount;
pub(crate) mod prefetch;
mod proof;
mod pull;
mod status;
mod umount;
mod verify;

use std::io::{self, Write};
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use clap::CommandFactory;
use ocifs::fuse::kernel::Mounted;
use ocifs::image::{Excerpt, Image, ImageSet, View};
use ocifs::reference::{DirectoryName, ImageName};
use ocifs::tree::{Question, Sharing};

use crate::args::{Args, Command, Demand, ImageArgs};
use crate::environment;
use crate::progress::Bar;
use crate::report::{self, AnyError};

/// Runs the command; its exit code.
pub(crate) fn run(args: &Args) -> Result<ExitCode, AnyError> {
    match &args.command {
        Command::Mount(mount) => mount::run(args, mount),
        Command::Umount(umount) => umount::run(umount),
        Command::Status(status) => status::run(status),
        Command::Ls(ls) => ls::run(ls),
        Command::Cat(cat) => cat::run(cat),
        Command::Export(export) => export::run(export),
        Command::Cache(cache) => cache::run(cache),
        Command::Pull(pull) => pull::run(pull),
        Command::Verify(verify) => verify::run(verify),
        Command::Index(index) => index::run(index),
        Command::Doctor(doctor) => doctor::run(doctor),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(*shell, &mut Args::command(), "ocifs", &mut script);
            report::stdout().write_all(&script)?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// Opens several images to be shown in one file system. One after the other, so that there is one
/// progress bar at a time.
fn open_images(
    images: &[(DirectoryName, ImageName)],
    sharing: Sharing,
    args: &ImageArgs,
) -> Result<View, AnyError> {
    let images = images.iter().map(|(at, name)| Ok((at, environment::image(name, args)?)));
    let images = images.collect::<Result<Vec<_>, AnyError>>()?;
    let Some((_, (_, first))) = images.first() else { return Err("there is no image".into()) };
    let cache = environment::cache(&args.cache_args);
    let mut joint = ImageSet::new(&cache, first);
    for (directory, (name, options)) in &images {
        let bar = Bar::first_sight(name);
        joint.add((*directory).clone(), name, options, &bar).map_err(failed(name))?;
        bar.ready();
    }
    let view = joint.finish(sharing)?;
    let demand = environment::demand(args)?;
    for shown in view.images() {
        proof::warn(&shown.image.name, &shown.proofs, demand);
    }
    Ok(view)
}

/// Opens an image as the flags and the environment say, showing progress; `default` is what has to be proven if
/// they do not say that.
fn open_image(name: &ImageName, args: &ImageArgs, default: Demand) -> Result<Image, AnyError> {
    let (name, mut options) = environment::image(name, args)?;
    let demand = environment::demand(args)?.or(default);
    options.prove = demand == Demand::Full;
    let cache = environment::cache(&args.cache_args);
    let bar = Bar::first_sight(&name);
    let image = Image::open(&name, &cache, &options, &bar).map_err(failed(&name))?;
    bar.ready();
    proof::warn(&image.resolved().name, image.proofs(), demand);
    Ok(image)
}

/// Opens as much of an image as some questions need, as the flags and the environment say.
fn open_excerpt(
    name: &ImageName,
    questions: &[Question],
    args: &ImageArgs,
) -> Result<Excerpt, AnyError> {
    let (name, options) = environment::image(name, args)?;
    let cache = environment::cache(&args.cache_args);
    let bar = Bar::first_sight(&name);
    let excerpt = Excerpt::open(&name, questions, &cache, &options, &bar);
    let excerpt = excerpt.map_err(failed(&name))?;
    bar.ready();
    proof::warn(&excerpt.resolved().name, excerpt.proofs(), environment::demand(args)?);
    Ok(excerpt)
}

/// How far a process has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Runs,
    /// It has let go of its memory, and not yet of its files.
    Ends,
    Ended,
}

/// Looks at a process (proc(5), `/proc/pid/stat`; `PF_EXITING` of `linux/sched.h`). One that nobody has
/// waited for (`Z`) has ended.
fn stage(pid: u32) -> Stage {
    const EXITING: u32 = 4;
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let mut fields = stat.rsplit_once(") ").map_or("", |(_, fields)| fields).split(' ');
    let (state, flags) = (fields.next(), fields.nth(5));
    let flags = flags.and_then(|flags| flags.parse::<u32>().ok());
    match (state, flags) {
        (None | Some("" | "Z" | "X"), _) => Stage::Ended,
        (_, Some(flags)) if flags & EXITING != 0 => Stage::Ends,
        _ => Stage::Runs,
    }
}

/// How long a process that is about to end is waited for.
const GRACE: Duration = Duration::from_secs(3);

/// Waits while a process is in some stage, not for ever; the stage it has come to.
fn wait_while(pid: u32, is_early: impl Fn(Stage) -> bool) -> Stage {
    let until = Instant::now() + GRACE;
    loop {
        let stage = stage(pid);
        if !is_early(stage) || Instant::now() > until {
            return stage;
        }
        thread::sleep(Duration::from_millis(5));
    }
}

/// Whether a mount with `--kernel-metadata` has lost its process. The kernel goes on answering for its names, so it
/// does not look dead; but no process listens on the socket that is still there.
fn is_dead_behind_erofs(mounted: &Mounted, asked: impl FnOnce() -> io::Result<()>) -> bool {
    // Its number may be that of another process by now, and the socket an older one's.
    let refuses = || asked().is_err_and(|e| e.kind() == io::ErrorKind::ConnectionRefused);
    mounted.behind_erofs.is_some_and(|pid| {
        wait_while(pid, |stage| stage == Stage::Ends) == Stage::Ended && refuses()
    })
}

/// Names the image that an error is about.
fn failed(name: &ImageName) -> impl FnOnce(ocifs::image::Error) -> Failed {
    |error| Failed { name: name.to_string(), error }
}

/// An error with the image it is about, which is named once.
#[derive(Debug, thiserror::Error)]
#[error("{}{error}", prefix(.name, .error))]
struct Failed {
    name: String,
    #[source]
    error: ocifs::image::Error,
}

fn prefix(name: &str, error: &ocifs::image::Error) -> String {
    if error.to_string().starts_with(name) { String::new() } else { format!("{name}: ") }
}
