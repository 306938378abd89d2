//! The guest: the process that unshares the namespaces, mounts the image in them, and builds the root that the program gets.
//!
//! It works on a file system in memory that covers a directory of this machine in its own mount namespace:
//!
//! ```text
//! /tmp            tmpfs
//!     image       the image, over FUSE
//!     scratch     upper and work directory, or those of --upper
//!     files       resolv.conf, hosts, hostname as they are here
//!     root        overlay of image and scratch; in it /dev, /sys, the files, volumes; init mounts /proc and enters it
//! ```
//!
//! What is meant by paths of this machine is opened before that. All of it is gone with the namespace, whose last process is
//! this one or init, however they end.

#![allow(unsafe_code, reason = "one call; see there")]

use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use ocifs::fuse::kernel;
use ocifs::image::Process;
use ocifs::mount::{Attached, MountOptions};
use rustix::fs::{CWD, Mode, OFlags, open};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MountPropagationFlags, fsconfig_create,
    fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, mount, mount_change,
};
use rustix::process::{Signal, set_parent_process_death_signal};
use rustix::thread::{UnshareFlags, unshare_unsafe};
use signal_hook::consts::{SIGALRM, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2};

use super::guest::code;
use super::ids::{Ids, map_one};
use super::launch::{
    ATTACHED, Bytes, FAILED, FAILED_BEFORE, GO, INIT, Launch, MAPPED, OVERLAID, OVERLAY, Plan,
    READY, SETUP, Stage, UNSHARED,
};
use super::mounts::{Limits, attach, copy, copy_at, failed, fresh, limit, path_of};
use super::place::{Kind, place};
use super::restricted;
use crate::commands::mount::parcel::{Parcel, give, take, tell};
use crate::render::errors::{self, AnyError};

/// Directories of which one is on every machine.
const COVERED: [&str; 5] = ["/tmp", "/var/tmp", "/run", "/mnt", "/home"];

/// What programs expect in `/dev` that leads to no device of the machine.
const DEVICES: [&str; 6] = ["null", "zero", "full", "random", "urandom", "tty"];
const LINKS: [(&str, &str); 5] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("ptmx", "pts/ptmx"),
];

/// Files by which names are found: the network is this machine's.
const FILES: [&str; 3] = ["resolv.conf", "hosts", "hostname"];

/// The largest of them that is copied, in bytes.
const MAX_FILE_BYTES: u64 = 1 << 20;

const NO_DEVICES: MountAttrFlags = MountAttrFlags::MOUNT_ATTR_NODEV;

const FIXED: MountFlags = MountFlags::NOSUID.union(MountFlags::NODEV);

pub(super) fn run() -> ExitCode {
    match guest() {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            errors::failure(&error);
            ExitCode::from(FAILED_BEFORE)
        }
    }
}

fn guest() -> Result<u8, AnyError> {
    rustix::thread::set_name(c"ocifs-guest")?;
    let front = UnixStream::from(rustix::io::fcntl_dupfd_cloexec(io::stdout(), 3)?);
    let Some(parcel) = next(&front, SETUP)? else { return Ok(FAILED_BEFORE) };
    let plan: Plan = parcel.read()?;
    let [output] = parcel.descriptors()?;
    let prepared = unshare(&front, &plan.ids).and_then(|()| Prepared::new(&plan));
    let prepared = match prepared {
        Ok(prepared) => prepared,
        Err(error) => {
            tell(&front, FAILED, &errors::chain(error.as_ref()), &[])?;
            return Ok(FAILED_BEFORE);
        }
    };
    give(&front, READY, &[], &[])?;
    let Some(parcel) = take(&front)? else { return Ok(FAILED_BEFORE) };
    if parcel.kind == OVERLAY {
        // It is tried, without an image.
        return prepared.show(&front, &parcel);
    }
    match prepared.mount_image(&parcel.read::<String>()?) {
        Ok(attached) => give(&front, ATTACHED, &attached.to_bytes()?, &[attached.as_fd()])?,
        Err(error) => {
            tell(&front, FAILED, &errors::chain(error.as_ref()), &[])?;
            return Ok(FAILED_BEFORE);
        }
    }
    if !plan.has_program {
        let Some(parcel) = next(&front, OVERLAY)? else { return Ok(FAILED_BEFORE) };
        return prepared.show(&front, &parcel);
    }
    let Some(parcel) = next(&front, GO)? else { return Ok(FAILED_BEFORE) };
    let process: Process = parcel.read()?;
    let [signals] = parcel.descriptors()?;
    // From here on the terminal's signals are the program's.
    for signal in [SIGINT, SIGQUIT, SIGHUP, SIGTERM, SIGUSR1, SIGUSR2, SIGALRM] {
        signal_hook::flag::register(signal, Arc::new(AtomicBool::new(false)))?;
    }
    let root = prepared.build(&plan, &process)?;
    let (mut command, init) = Stage::Init.command()?;
    let mut child = command.spawn().map_err(failed("starting a process"))?;
    drop(command);
    let (ids, read_only) = (plan.ids, plan.read_only);
    let launch = Launch { process, ids, root: Bytes::of(&root), read_only };
    tell(&init, INIT, &launch, &[output.as_fd(), signals.as_fd()])?;
    drop((output, signals, prepared));
    Ok(code(child.wait()?))
}

/// The next word of the front process, which is to be this; none if it has ended.
fn next(front: &UnixStream, kind: u8) -> io::Result<Option<Parcel>> {
    match take(front)? {
        Some(parcel) if parcel.kind != kind => Err(io::ErrorKind::InvalidData.into()),
        parcel => Ok(parcel),
    }
}

/// Makes the namespaces, and waits for their IDs.
fn unshare(front: &UnixStream, ids: &Ids) -> Result<(), AnyError> {
    let mut flags = UnshareFlags::NEWNS | UnshareFlags::NEWPID | UnshareFlags::NEWIPC;
    flags.set(UnshareFlags::NEWUSER, ids.are_new());
    // SAFETY: descriptors are not unshared.
    unsafe { unshare_unsafe(flags) }.map_err(|e| restricted::namespaces(e.into()))?;
    give(front, UNSHARED, &[], &[])?;
    next(front, MAPPED)?.ok_or(io::ErrorKind::UnexpectedEof).map_err(io::Error::from)?;
    if let Ids::One { uid, gid } = ids {
        map_one((0, 0), (*uid, *gid)).map_err(restricted::namespaces)?;
    }
    // Only now: a change of identity would have undone it. The front process, if it has ended, says nothing any more.
    set_parent_process_death_signal(Some(Signal::KILL))?;
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    mount_change("/", private).map_err(|e| restricted::namespaces(e.into()))
}

/// What of this machine is needed, opened, and where the root is built.
struct Prepared {
    /// As in the plan.
    volumes: Vec<OwnedFd>,
    /// The same.
    upper: Option<OwnedFd>,
    system: Option<OwnedFd>,
    files: Vec<(&'static str, Vec<u8>)>,
    /// The directory that is covered.
    base: PathBuf,
}

impl Prepared {
    fn new(plan: &Plan) -> Result<Prepared, AnyError> {
        let volumes = plan.volumes.iter().map(|volume| {
            let host = volume.host.path();
            let about = || format!("-v {}", host.display());
            let tree = copy(host).map_err(failed(about()))?;
            let limits = match volume.read_only {
                true => Limits::NO_DEVICES.and(Limits::READ_ONLY),
                false => Limits::NO_DEVICES,
            };
            limit(tree.as_fd(), limits, true).map_err(failed(about()))?;
            Ok(tree)
        });
        let volumes = volumes.collect::<Result<_, AnyError>>()?;
        let upper = plan
            .upper
            .as_ref()
            .map(|upper| copy(upper.path()).map_err(failed(upper.path().display())));
        let upper = upper.transpose()?;
        let (mut system, mut files) = (None, Vec::new());
        if plan.has_program {
            system = match copy(Path::new("/sys")) {
                Err(e) if e.kind() == io::ErrorKind::NotFound => None,
                tree => Some(tree.map_err(failed("/sys"))?),
            };
            let limits = Limits::NO_DEVICES.and(Limits::READ_ONLY);
            let tree = system.iter().try_for_each(|tree| limit(tree.as_fd(), limits, true));
            tree.map_err(failed("/sys"))?;
            files.extend(FILES.iter().filter_map(|name| Some((*name, file_here(name)?))));
        }
        let base = COVERED.iter().find_map(|path| fs::canonicalize(path).ok());
        let base = base.ok_or("there is no /tmp to mount over")?;
        mount("tmpfs", &base, "tmpfs", FIXED, c"mode=0755")
            .map_err(|e| restricted::namespaces(e.into()))?;
        for name in ["image", "root", "scratch", "files"] {
            fs::create_dir(base.join(name)).map_err(failed("the scratch directory"))?;
        }
        Ok(Prepared { volumes, upper, system, files, base })
    }

    /// Mounts the image, which is served by another process then.
    fn mount_image(&self, source: &str) -> Result<Attached, AnyError> {
        let mount_point = kernel::prepare(&self.base.join("image"), |_| true)?;
        let options = MountOptions { allow_other: true, ..MountOptions::default() };
        Ok(Attached::new(mount_point, source, &options)?)
    }

    /// Builds the root; its path.
    fn build(&self, plan: &Plan, process: &Process) -> Result<PathBuf, AnyError> {
        let path = self.base.join("root");
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let overlay = self.overlay("ocifs", NO_DEVICES)?;
        let below = open(&path, flags, Mode::empty()).map_err(failed("the root"))?;
        attach(overlay.as_fd(), below.as_fd()).map_err(failed("the root"))?;
        let root = open(&path, flags, Mode::empty()).map_err(failed("the root"))?;
        let root = root.as_fd();
        devices(root)?;
        if let Some(tree) = &self.system {
            let system = place(root, b"/sys", Kind::Directory).map_err(failed("/sys"))?;
            attach(tree.as_fd(), system.as_fd()).map_err(failed("/sys"))?;
        }
        for (name, content) in &self.files {
            self.file(root, name, content, plan.read_only)?;
        }
        // Made by init's mounts otherwise, which come when nothing can be made any more.
        place(root, b"/proc", Kind::Directory).map_err(failed("/proc"))?;
        for (volume, tree) in plan.volumes.iter().zip(&self.volumes) {
            let target = String::from_utf8_lossy(&volume.target).into_owned();
            let kind = match fs::metadata(path_of(tree))?.is_dir() {
                true => Kind::Directory,
                false => Kind::File,
            };
            let place =
                place(root, &volume.target, kind).map_err(failed(format!("-v: {target}")))?;
            attach(tree.as_fd(), place.as_fd()).map_err(failed(format!("-v: {target}")))?;
        }
        for volume in &process.volumes {
            // An engine would mount something there. Where something else is, that is what the image says, too.
            if let Err(e) = place(root, volume, Kind::Directory) {
                log::info!("the volume {}: {e}", String::from_utf8_lossy(volume));
            }
        }
        let cwd = String::from_utf8_lossy(&process.cwd).into_owned();
        place(root, &process.cwd, Kind::Directory)
            .map_err(failed(format!("the working directory {cwd}")))?;
        Ok(path)
    }

    /// An overlay of the image and what is written, mounted nowhere yet.
    fn overlay(&self, source: &str, attributes: MountAttrFlags) -> Result<OwnedFd, AnyError> {
        let image = self.base.join("image");
        let scratch = self.base.join("scratch");
        let (upper, work) = (scratch.join("upper"), scratch.join("work"));
        if let Some(kept) = &self.upper {
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let below = open(&scratch, flags, Mode::empty()).map_err(failed("--upper"))?;
            attach(kept.as_fd(), below.as_fd()).map_err(failed("--upper"))?;
        }
        if make(&upper).map_err(failed("the scratch directory"))? {
            let metadata = fs::metadata(&image).map_err(failed("the image's root"))?;
            // The image's root directory is shown as the upper one is.
            let same = || {
                chown(&upper, Some(metadata.uid()), Some(metadata.gid()))?;
                fs::set_permissions(&upper, fs::Permissions::from_mode(metadata.mode() & 0o7777))
            };
            same().map_err(failed("the scratch directory"))?;
        }
        make(&work).map_err(failed("the scratch directory"))?;
        let directories = [("lowerdir", &image), ("upperdir", &upper), ("workdir", &work)];
        let mount = || -> io::Result<OwnedFd> {
            let overlay = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
            fsconfig_set_string(&overlay, "source", source)?;
            for (option, directory) in directories {
                fsconfig_set_string(&overlay, option, directory)?;
            }
            if kernel::is_in_user_namespace() {
                fsconfig_set_flag(&overlay, "userxattr")?;
            }
            fsconfig_create(&overlay)?;
            Ok(fsmount(&overlay, FsMountFlags::FSMOUNT_CLOEXEC, attributes)?)
        };
        mount().map_err(|e| restricted::overlay(e, self.upper.is_some()))
    }

    /// Gives the front process an overlay that it shows elsewhere.
    fn show(&self, front: &UnixStream, parcel: &Parcel) -> Result<u8, AnyError> {
        let (source, no_exec): (String, bool) = parcel.read()?;
        let mut attributes = NO_DEVICES | MountAttrFlags::MOUNT_ATTR_NOSUID;
        attributes.set(MountAttrFlags::MOUNT_ATTR_NOEXEC, no_exec);
        match self.overlay(&source, attributes) {
            Ok(overlay) => give(front, OVERLAID, &[], &[overlay.as_fd()])?,
            Err(error) => tell(front, FAILED, &errors::chain(error.as_ref()), &[])?,
        }
        Ok(0)
    }

    /// Shows a copy of a file of this machine.
    fn file(
        &self,
        root: BorrowedFd<'_>,
        name: &str,
        content: &[u8],
        read_only: bool,
    ) -> Result<(), AnyError> {
        let (path, target) = (self.base.join("files").join(name), format!("/etc/{name}"));
        let show = || -> io::Result<()> {
            fs::write(&path, content)?;
            fs::set_permissions(&path, fs::Permissions::from_mode(0o644))?;
            let place = place(root, target.as_bytes(), Kind::File)?;
            let tree = copy(&path)?;
            if read_only {
                limit(tree.as_fd(), Limits::READ_ONLY, false)?;
            }
            attach(tree.as_fd(), place.as_fd())
        };
        show().map_err(failed(&target))
    }
}

/// Makes a directory; whether it was not there.
fn make(directory: &Path) -> io::Result<bool> {
    match fs::create_dir(directory) {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        made => made.map(|()| true),
    }
}

/// A file by which this machine finds names.
fn file_here(name: &str) -> Option<Vec<u8>> {
    use std::io::Read;
    let file = fs::File::open(Path::new("/etc").join(name)).ok()?;
    let mut content = Vec::new();
    file.take(MAX_FILE_BYTES).read_to_end(&mut content).ok()?;
    Some(content)
}

/// Makes `/dev`.
fn devices(root: BorrowedFd<'_>) -> Result<(), AnyError> {
    let flags = MountFlags::NOSUID | MountFlags::NOEXEC;
    let below = place(root, b"/dev", Kind::Directory).map_err(failed("/dev"))?;
    fresh("tmpfs", below.as_fd(), flags, "mode=0755").map_err(failed("/dev"))?;
    // What has been mounted there is another directory.
    let dev = place(root, b"/dev", Kind::Directory).map_err(failed("/dev"))?;
    for name in DEVICES {
        let about = || format!("/dev/{name}");
        let device = match copy_at(CWD, &Path::new("/dev").join(name)) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
            device => device.map_err(failed(about()))?,
        };
        let file = place(dev.as_fd(), name.as_bytes(), Kind::File).map_err(failed(about()))?;
        attach(device.as_fd(), file.as_fd()).map_err(failed(about()))?;
    }
    let path = path_of(&dev);
    for (name, target) in LINKS {
        symlink(target, path.join(name)).map_err(failed(format!("/dev/{name}")))?;
    }
    let terminals = place(dev.as_fd(), b"pts", Kind::Directory).map_err(failed("/dev/pts"))?;
    let mut options = "newinstance,ptmxmode=0666,mode=0620,gid=5";
    if fresh("devpts", terminals.as_fd(), flags, options).is_err() {
        // There is no such group here.
        options = "newinstance,ptmxmode=0666,mode=0620";
        fresh("devpts", terminals.as_fd(), flags, options).map_err(failed("/dev/pts"))?;
    }
    let memory = place(dev.as_fd(), b"shm", Kind::Directory).map_err(failed("/dev/shm"))?;
    let flags = flags | MountFlags::NODEV;
    fresh("tmpfs", memory.as_fd(), flags, "mode=1777").map_err(failed("/dev/shm"))?;
    Ok(())
}
