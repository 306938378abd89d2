//! Process 1 of the program's process namespace: it enters the image's root, starts the program, reaps what that leaves, and ends
//! with it. The kernel ends every other process of the namespace then.
//!
//! It has the rights of the guest, which it needs to mount `/proc` and to signal processes of all users, and is not to be
//! looked into: it has no environment, words or open files of its caller's that the program could read in `/proc/1`, and
//! is not dumpable. What becomes the program is started before the root is entered, so that no path of the image
//! is run with these rights.

use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::ExitCode;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{CWD, Mode, OFlags, open};
use rustix::mount::{MountFlags, UnmountFlags, unmount};
use rustix::process::{
    DumpableBehavior, Pid, Signal, WaitOptions, WaitStatus, chdir, kill_process, pivot_root,
    set_dumpable_behavior, set_parent_process_death_signal, wait,
};
use signal_hook::consts::SIGCHLD;

use super::launch::{BY_SIGNAL, ENTERED, FAILED_BEFORE, INIT, LOADED, Launch, START, Stage};
use super::mounts::{Limits, attach, copy_at, failed, fresh, limit};
use super::place::{Kind, place};
use crate::commands::mount::parcel::{give, take, tell};
use crate::render::errors::{self, AnyError};

/// What of `/proc` tells of the machine or changes it, as container engines hide it: files, directories, and what may be read.
const HIDDEN_FILES: [&str; 5] =
    ["/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list", "/proc/sched_debug"];
const HIDDEN_DIRECTORIES: [&str; 3] = ["/proc/acpi", "/proc/scsi", "/sys/firmware"];
const READ_ONLY: [&str; 5] =
    ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

pub(super) fn run() -> ExitCode {
    match init() {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            errors::failure(&error);
            ExitCode::from(FAILED_BEFORE)
        }
    }
}

fn init() -> Result<u8, AnyError> {
    rustix::thread::set_name(c"ocifs-init")?;
    set_parent_process_death_signal(Some(Signal::KILL))?;
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    let guest = UnixStream::from(rustix::io::fcntl_dupfd_cloexec(io::stdout(), 3)?);
    let parcel = take(&guest)?.filter(|parcel| parcel.kind == INIT);
    let parcel = parcel.ok_or(io::ErrorKind::UnexpectedEof).map_err(io::Error::from)?;
    let launch: Launch = parcel.read()?;
    let [output, front] = parcel.descriptors()?;
    let front = UnixStream::from(front);
    let (children, by_handler) = UnixStream::pair()?;
    children.set_nonblocking(true)?;
    signal_hook::low_level::pipe::register(SIGCHLD, by_handler)?;
    let (program, socket) = start(&launch, output)?;
    // Its libraries are loaded by then, from this machine.
    if take(&socket)?.is_none_or(|parcel| parcel.kind != LOADED) {
        // It has said why.
        return Ok(FAILED_BEFORE);
    }
    enter(&launch)?;
    give(&socket, ENTERED, &[], &[])?;
    drop(socket);
    serve(program, &front, &children)
}

/// Starts what becomes the program.
fn start(launch: &Launch, output: OwnedFd) -> Result<(Pid, UnixStream), AnyError> {
    let (mut command, socket) = Stage::Program.command()?;
    let child = command.spawn().map_err(|e| format!("starting a process: {e}"))?;
    drop(command);
    tell(&socket, START, launch, &[output.as_fd()])?;
    Ok((Pid::from_child(&child), socket))
}

/// Mounts what only this process can, and makes the image's root that of all processes in the mount namespace.
fn enter(launch: &Launch) -> Result<(), AnyError> {
    let path = launch.root.path();
    let directory = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = open(path, directory, Mode::empty()).map_err(failed("the image's root"))?;
    let proc = place(root.as_fd(), b"/proc", Kind::Directory).map_err(failed("/proc"))?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    fresh("proc", proc.as_fd(), flags, "").map_err(|e| {
        let hint = match e.kind() {
            io::ErrorKind::PermissionDenied => {
                "; the /proc here is hidden in part: a container needs `--security-opt systempaths=unconfined`"
            }
            _ => "",
        };
        format!("mounting /proc: {e}{hint}")
    })?;
    hide(root.as_fd())?;
    if launch.read_only {
        limit(root.as_fd(), Limits::READ_ONLY, false).map_err(failed("making / read-only"))?;
    }
    chdir(path)?;
    // The old root is put over the new one, and taken away from there: no directory for it is needed.
    pivot_root(".", ".").map_err(failed("entering the image's root"))?;
    unmount(".", UnmountFlags::DETACH)?;
    Ok(chdir("/")?)
}

/// Hides what tells of the machine, or changes it.
fn hide(root: std::os::fd::BorrowedFd<'_>) -> Result<(), AnyError> {
    let there = |path: &str, kind| match place_of(root, path, kind) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        result => result.map(Some).map_err(failed(path)),
    };
    for path in HIDDEN_FILES {
        let Some(file) = there(path, Kind::File)? else { continue };
        let null = copy_at(CWD, Path::new("/dev/null")).map_err(failed("/dev/null"))?;
        attach(null.as_fd(), file.as_fd()).map_err(failed(path))?;
    }
    for path in HIDDEN_DIRECTORIES {
        let Some(directory) = there(path, Kind::Directory)? else { continue };
        fresh("tmpfs", directory.as_fd(), MountFlags::RDONLY, "size=0").map_err(failed(path))?;
    }
    for path in READ_ONLY {
        let kind = if path.ends_with("-trigger") { Kind::File } else { Kind::Directory };
        let Some(here) = there(path, kind)? else { continue };
        let same = copy_at(here.as_fd(), Path::new("")).map_err(failed(path))?;
        limit(same.as_fd(), Limits::READ_ONLY, true).map_err(failed(path))?;
        attach(same.as_fd(), here.as_fd()).map_err(failed(path))?;
    }
    Ok(())
}

/// A place of the kernel's file systems; nothing can be made there.
fn place_of(root: std::os::fd::BorrowedFd<'_>, path: &str, kind: Kind) -> io::Result<OwnedFd> {
    place(root, path.as_bytes(), kind).map_err(|e| match e.kind() {
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            io::ErrorKind::NotFound.into()
        }
        _ => e,
    })
}

/// Passes signals on and waits for children, until the program has ended; its exit code.
fn serve(program: Pid, mut front: &UnixStream, mut children: &UnixStream) -> Result<u8, AnyError> {
    let mut buffer = [0; 64];
    loop {
        let mut waits = [PollFd::new(front, PollFlags::IN), PollFd::new(children, PollFlags::IN)];
        match poll(&mut waits, None) {
            Err(rustix::io::Errno::INTR) => continue,
            result => result?,
        };
        let [from_front, of_children] = waits.map(|wait| !wait.revents().is_empty());
        if of_children {
            // The bytes say no more than that they have come.
            let _ = children.read(&mut buffer);
            if let Some(code) = reap(program)? {
                return Ok(code);
            }
        }
        if from_front {
            let length = front.read(&mut buffer).unwrap_or(0);
            if length == 0 {
                // The front process has ended, and so does all of this.
                return Ok(BY_SIGNAL + Signal::KILL.as_raw() as u8);
            }
            for signal in
                buffer[..length].iter().filter_map(|b| Signal::from_named_raw((*b).into()))
            {
                // It is not waited for yet, so the number is its own.
                let _ = kill_process(program, signal);
            }
        }
    }
}

/// Waits for all that have ended; the exit code of the program if it is one of them.
fn reap(program: Pid) -> io::Result<Option<u8>> {
    let mut code = None;
    loop {
        match wait(WaitOptions::NOHANG) {
            Ok(Some((pid, status))) if pid == program => code = Some(code_of(status)),
            Ok(Some(_)) | Err(rustix::io::Errno::INTR) => {}
            Ok(None) | Err(rustix::io::Errno::CHILD) => return Ok(code),
            Err(e) => return Err(e.into()),
        }
    }
}

fn code_of(status: WaitStatus) -> u8 {
    let by_signal = status.terminating_signal().map(|signal| signal + i32::from(BY_SIGNAL));
    let code = status.exit_status().or(by_signal);
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(FAILED_BEFORE)
}
