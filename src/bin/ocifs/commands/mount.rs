//! `ocifs mount`: in the background by default.
//!
//! The process starts itself again, hands it the mount point, waits until that one's mount answers, and returns.
//! Until then the child is an ordinary child: it prints its errors and its progress on the same
//! terminal and dies of the same Ctrl-C. Starting a new program instead of forking keeps threads
//! and `unsafe` out of it.

mod again;
mod handover;
mod options;
mod signals;
mod watch;

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::sync::mpsc;
use std::thread;

use clap::error::ErrorKind;
use ocifs::fuse::kernel::MountPoint;
use ocifs::fuse::{erofs_mount, kernel};
use ocifs::image::View;
use ocifs::mount::{Lookups, Mount, StatusSocket};
use ocifs::reference::{ImageName, Reference};
use ocifs::source::on_disk;
use rustix::process::{DumpableBehavior, set_dumpable_behavior};

use self::options::{options, sharing};
use crate::args::{self, MountRequest, NamedImage, RequiredProof, ShownImages, WrongUsage};
use crate::commands::open::{Wanted, open_image, open_images, open_layout, open_registries};
use crate::commands::process::is_dead_behind_erofs;
use crate::commands::registries::refused_for_several;
use crate::environment;
use crate::notify;
use crate::render::errors::{self, AnyError};
use crate::variables;

/// What the child writes when its mount answers.
const READY: &[u8] = b"ready\n";

pub(crate) fn run(all: &args::Args, args: &args::Mount) -> Result<ExitCode, AnyError> {
    if !variables::is_background_child()
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
    if variables::is_background_child() {
        // By its link the kernel calls it `exe`.
        rustix::thread::set_name(c"ocifs")?;
        let (mount_point, secrets) = handover::receive()?;
        let mut image_args = args.base.with(&args.image_args);
        let login = String::from_utf8_lossy(&secrets.login);
        image_args.creds = args::Login::parse(&login).or(image_args.creds);
        image_args.auth_config = Some(secrets.auth_config).filter(|text| !text.is_empty());
        return serve(all, args, &image_args, request, mount_point);
    }
    let Some(mount_point) = prepare(args, request)? else { return Ok(ExitCode::SUCCESS) };
    match args.flags.foreground {
        true => serve(all, args, &args.base.with(&args.image_args), request, mount_point),
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
    kernel::check_requirements()?;
    if args.kernel_metadata {
        erofs_mount::check()?;
    }
    clear_dead(&request.mount_point)?;
    let mount_point = kernel::prepare(&request.mount_point)?;
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
    if !is_dead_behind_erofs(&mounted, asked) {
        return Ok(());
    }
    log::info!("removing the mount that a dead process left at {}", place.display());
    kernel::unmount(&mounted, kernel::Unmount::Lazy)
}

/// Whether a folder, which may not exist yet, lies at or below a place.
fn lies_below(folder: &Path, place: &Path) -> bool {
    let existing = folder.ancestors().find_map(|path| path.canonicalize().ok());
    existing.is_some_and(|folder| folder.starts_with(place))
}

/// Starts the serving process and waits until it is ready or has failed.
fn start_child(
    all: &args::Args,
    args: &args::Mount,
    request: &MountRequest,
    mount_point: &MountPoint,
) -> Result<ExitCode, AnyError> {
    // The file that is running, whatever its path leads to by now.
    let mut command = Command::new("/proc/self/exe");
    // It runs for days, and all users can read its command line.
    command.args(without_creds(all.words.iter().skip(1).cloned()));
    // The file may have the name of a helper of mount(8).
    command.arg0(env!("CARGO_BIN_NAME"));
    // So is its environment for programs of the same user.
    command.env_remove(variables::CREDS).env_remove(variables::AUTH_CONFIG);
    let login = args.image_args.creds.as_ref().map(args::Login::to_text).unwrap_or_default();
    let auth_config = variables::auth_config().unwrap_or_default();
    let secrets = handover::Secrets { login: login.into_bytes(), auth_config };
    // An archive that comes there is for the serving process.
    let images = request.shown.images();
    let is_read = images
        .iter()
        .any(|image| matches!(image, ImageName::Local(local) if local.is_standard_input()));
    let input = if is_read { Stdio::inherit() } else { Stdio::null() };
    let starting = |e| format!("starting the serving process: {e}");
    let (ours, theirs) = handover::send(mount_point, &secrets).map_err(starting)?;
    let mut child = command
        .env(variables::BACKGROUND_CHILD, "1")
        .env(variables::ARENAS, variables::arenas())
        .stdin(input)
        .stdout(theirs)
        .spawn()
        .map_err(starting)?;
    // It has the other end, too.
    drop(command);
    // If it ends before it has read them, it says why.
    let _ = handover::send_secrets(&ours, &secrets);
    if handover::is_word(ours, READY)? {
        return Ok(ExitCode::SUCCESS);
    }
    // It has said why itself.
    let status = child.wait()?;
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    match code {
        Some(code) if code != 0 => Ok(ExitCode::from(code)),
        _ => Err(format!("the serving process ended before the mount was ready ({status})").into()),
    }
}

/// The words of a command line but for `--creds`.
fn without_creds(mut words: impl Iterator<Item = OsString>) -> Vec<OsString> {
    let mut kept = Vec::new();
    while let Some(word) = words.next() {
        if word == "--" {
            kept.push(word);
            kept.extend(words);
            break;
        }
        if word == "--creds" {
            words.next();
        } else if !word.as_encoded_bytes().starts_with(b"--creds=") {
            kept.push(word);
        }
    }
    kept
}

fn serve(
    all: &args::Args,
    args: &args::Mount,
    image_args: &args::ImageArgs,
    request: &MountRequest,
    mount_point: MountPoint,
) -> Result<ExitCode, AnyError> {
    if kernel::is_root() && !kernel::is_in_user_namespace() {
        // It knows logins and tokens, for which neither a core dump nor a process without CAP_SYS_PTRACE is the place.
        // Not for ordinary users: what they can read of it they can read in their files, and its `/proc` would be
        // root's, so that neither they nor their other mounts could look at it (`watch`).
        set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    }
    let wanted = Wanted { proof: RequiredProof::Unsaid, provenance: args.provenance };
    let shown = match &request.shown {
        ShownImages::Single(image) => Shown::View(open_image(image, image_args, wanted)?.into()),
        ShownImages::Directories(images) => {
            Shown::View(open_images(images, sharing(args), image_args, wanted)?)
        }
        ShownImages::Layout(image, platforms) => {
            Shown::Directories(open_layout(image, *platforms, image_args)?)
        }
        ShownImages::Registries => Shown::Directories(open_registries(image_args)?),
    };
    // From here on a signal means: unmount and end. Before the mount exists it ends the program.
    let mut signals = signals::ending()?;
    let mount = match shown {
        Shown::View(view) => Mount::new(view, mount_point, &options(args))?,
        Shown::Directories(lookups) => Mount::of_directories(lookups, mount_point, &options(args))?,
    };
    let unmounter = mount.unmounter();
    let folder = environment::runtime_folder();
    let socket = StatusSocket::listen(&folder, mount.connection(), mount.status_source())
        .inspect_err(|e| log::info!("no status socket in {}: {e}", folder.display()));

    let (sender, ended) = mpsc::channel();
    let by_signal = sender.clone();
    thread::Builder::new().name("signals".into()).spawn(move || {
        if signals.forever().next().is_some() {
            // The receiver is gone only when the program is ending anyway.
            let _ = by_signal.send(End::Signal);
        }
    })?;
    if variables::is_background_child()
        && let Err(e) = detach(all.log_file.is_some())
    {
        unmounter.unmount_lazily()?;
        return Err(format!("leaving for the background: {e}").into());
    }
    if variables::is_background_child() {
        watch::watch_namespace(&mount)?;
    } else {
        notify::tell(notify::READY);
    }
    thread::Builder::new().name("wait".into()).spawn(move || {
        let _ = sender.send(End::Unmounted(mount.wait()));
    })?;
    let end = ended.recv()?;
    if !variables::is_background_child() {
        notify::tell(notify::STOPPING);
    }
    let result = match end {
        End::Signal => {
            // From here on no requests of the mount are answered: a process that still uses it gets an error.
            // Before anything else: once the mount is gone, another may have the connection's number.
            unmounter.abort();
            unmounter.unmount_lazily().map_err(AnyError::from)
        }
        End::Unmounted(Err(e)) => {
            // No process serves what is still mounted.
            if let Err(e) = unmounter.unmount_lazily() {
                log::error!("{e}");
            }
            Err(e.into())
        }
        End::Unmounted(Ok(())) => Ok(()),
    };
    drop(socket);
    result.map(|()| ExitCode::SUCCESS)
}

/// What is served.
enum Shown {
    View(View),
    Directories(Lookups),
}

/// How serving ends.
enum End {
    /// The mount was unmounted, or its connection broke.
    Unmounted(io::Result<()>),
    /// We are told to stop.
    Signal,
}

/// Lets go of the terminal, the session and the directory, and says that the mount is ready.
fn detach(has_log_file: bool) -> io::Result<()> {
    let null = File::options().read(true).write(true).open("/dev/null")?;
    rustix::process::setsid()?;
    rustix::process::chdir("/")?;
    // The way to the waiting process, which takes its closing for our end.
    let mut waiting = File::from(rustix::io::fcntl_dupfd_cloexec(io::stdout(), 3)?);
    rustix::stdio::dup2_stdin(null.as_fd())?;
    rustix::stdio::dup2_stdout(null.as_fd())?;
    waiting.write_all(READY)?;
    drop(waiting);
    rustix::stdio::dup2_stderr(null.as_fd())?;
    if !has_log_file {
        log::set_max_level(log::LevelFilter::Off);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_without_credentials() {
        for (words, expected) in [
            ("mount r m", "mount r m"),
            ("mount --creds u:p r m", "mount r m"),
            ("mount --creds=u:p r m", "mount r m"),
            ("mount r m --creds u:p", "mount r m"),
            ("mount --credsx -- --creds u:p", "mount --credsx -- --creds u:p"),
        ] {
            let kept = without_creds(words.split(' ').map(OsString::from));
            let kept: Vec<_> = kept.iter().map(|word| word.to_string_lossy()).collect();
            assert_eq!(kept.join(" "), expected, "{words}");
        }
    }
}
