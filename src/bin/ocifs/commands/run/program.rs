//! The last process: it takes the identity that the program is to have, gives up everything else, and becomes the program.
//!
//! All but the working directory and the program itself is done before the image's root is entered (`init`), so that nothing
//! of the image is looked up with more rights than the program has.

#![allow(unsafe_code, reason = "three calls; see there")]

use std::ffi::{CString, OsStr, OsString};
use std::io;
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use ocifs::image::{Process, User};
use rustix::fs::{Gid, Mode, Uid};
use rustix::io::{Errno, FdFlags};
use rustix::process::umask;
use rustix::thread::{
    UnshareFlags, set_thread_groups, set_thread_res_gid, set_thread_res_uid, unshare_unsafe,
};

use super::binary;
use super::ids::{Ids, map_one};
use super::launch::{ENTERED, FAILED_BEFORE, LOADED, Launch, NOT_FOUND, NOT_STARTED, START};
use super::mounts::failed;
use crate::commands::mount::parcel::{give, take};
use crate::contain;
use crate::render::errors::{self, AnyError};

pub(super) fn run() -> ExitCode {
    let code = match prepared() {
        Ok(Some(process)) => {
            let (error, code) = become_program(&process);
            errors::failure(&error);
            code
        }
        // Init has said why.
        Ok(None) => FAILED_BEFORE,
        Err(error) => {
            errors::failure(&error);
            FAILED_BEFORE
        }
    };
    ExitCode::from(code)
}

/// What this process is to become, once the image's root is its root.
fn prepared() -> Result<Option<Process>, AnyError> {
    let init = UnixStream::from(rustix::io::fcntl_dupfd_cloexec(io::stdout(), 3)?);
    let Some(parcel) = take(&init)?.filter(|parcel| parcel.kind == START) else { return Ok(None) };
    let Launch { process, ids, .. } = parcel.read()?;
    let [output] = parcel.descriptors()?;
    rustix::stdio::dup2_stdout(&output)?;
    keep_files_of_others_out()?;
    take_identity(&process.user, &ids)?;
    contain::contain_program()?;
    umask(Mode::from_raw_mode(0o022));
    give(&init, LOADED, &[], &[])?;
    Ok(take(&init)?.filter(|parcel| parcel.kind == ENTERED).map(|_| process))
}

/// Has what is open here be closed in the program, but for its input and outputs: the caller of `ocifs run` may have had a
/// directory of this machine open.
fn keep_files_of_others_out() -> io::Result<()> {
    let listed = std::fs::read_dir("/proc/self/fd")?.flatten();
    let names: Vec<OsString> = listed.map(|entry| entry.file_name()).collect();
    let numbers = names.iter().filter_map(|name| name.to_str()?.parse::<i32>().ok());
    for number in numbers.filter(|number| *number > 2) {
        // SAFETY: the number is that of an open descriptor, as this is the only thread, or of none any more, which the
        // kernel says. It is not closed here.
        let open = unsafe { BorrowedFd::borrow_raw(number) };
        match rustix::io::fcntl_setfd(open, FdFlags::CLOEXEC) {
            // The list itself was open when it was read.
            Ok(()) | Err(Errno::BADF) => {}
            Err(e) => return Err(e.into()),
        }
    }
    Ok(())
}

/// Becomes a user of the image.
fn take_identity(user: &User, ids: &Ids) -> Result<(), AnyError> {
    let User { uid, gid, groups, .. } = user;
    if ids.is_one() {
        if (*uid, *gid) != (0, 0) {
            // SAFETY: descriptors are not unshared.
            unsafe { unshare_unsafe(UnshareFlags::NEWUSER) }
                .map_err(failed("a user namespace for the program's user"))?;
            // The user that is root to init has this ID to the program.
            map_one((*uid, *gid), (0, 0)).map_err(failed("the program's user"))?;
        }
        // Groups can't be changed where a user has made the namespace.
        return Ok(());
    }
    let unknown = |what: &'static str| {
        move |e: Errno| match e {
            Errno::INVAL => format!(
                "{what} of the program is not among the IDs that /etc/subuid and /etc/subgid give you"
            ),
            e => format!("{what} of the program: {}", io::Error::from(e)),
        }
    };
    let mut all: Vec<Gid> = groups.iter().map(|gid| Gid::from_raw(*gid)).collect();
    let (uid, gid) = (Uid::from_raw(*uid), Gid::from_raw(*gid));
    all.push(gid);
    set_thread_groups(&all).map_err(unknown("a group"))?;
    set_thread_res_gid(gid, gid, gid).map_err(unknown("the group"))?;
    set_thread_res_uid(uid, uid, uid).map_err(unknown("the user"))?;
    Ok(())
}

/// Becomes the program. If it returns: why not, and the exit code for that.
fn become_program(process: &Process) -> (AnyError, u8) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let cwd = OsStr::from_bytes(&process.cwd);
    if let Err(e) = std::env::set_current_dir(cwd) {
        return (format!("the working directory {}: {e}", text(&process.cwd)).into(), NOT_STARTED);
    }
    let Some((program, args)) = process.args.split_first() else {
        return ("there is no program".into(), NOT_FOUND);
    };
    let path =
        process.env.iter().find(|(name, _)| name == b"PATH").map(|(_, path)| path.as_slice());
    let (error, found) = execute(program, args, path.unwrap_or_default(), &process.env);
    let why = found.as_deref().and_then(|path| binary::why(path, &process.architecture, &error));
    let code = if found.is_none() { NOT_FOUND } else { NOT_STARTED };
    let program = text(program);
    let text = match (why, code) {
        (Some(why), _) => format!("{program}: {why}"),
        (None, NOT_FOUND) => format!("{program}: the image has no such program"),
        (None, _) => format!("{program}: {error}"),
    };
    (text.into(), code)
}

/// Replaces this process; if that returns, why, and the file that was meant if there is one.
///
/// Not by way of the standard library, whose exec(3) starts a shell with what the kernel does not know: the shell would
/// run another machine's program as a script.
fn execute(
    program: &[u8],
    args: &[Vec<u8>],
    path: &[u8],
    env: &[(Vec<u8>, Vec<u8>)],
) -> (io::Error, Option<PathBuf>) {
    let words = std::iter::once(program).chain(args.iter().map(Vec::as_slice));
    let variables = env.iter().map(|(name, value)| [name.as_slice(), b"=", value].concat());
    let words = words.map(CString::new).collect::<Result<Vec<_>, _>>();
    let variables = variables.map(CString::new).collect::<Result<Vec<_>, _>>();
    let (words, variables) = match (words, variables) {
        (Ok(words), Ok(variables)) => (words, variables),
        (Err(e), _) | (_, Err(e)) => return (e.into(), None),
    };
    let pointers = |texts: &[CString]| -> Vec<*const libc::c_char> {
        texts.iter().map(|text| text.as_ptr()).chain([std::ptr::null()]).collect()
    };
    let (argv, envp) = (pointers(&words), pointers(&variables));
    let mut refused = None;
    for candidate in candidates(program, path) {
        let Ok(name) = CString::new(candidate.as_os_str().as_bytes()) else { continue };
        // SAFETY: a name and two lists that end with a null pointer, of texts that end with a zero, all of which live as
        // long as this function. There is one thread. What was ignored as this process began is not ignored in the
        // program.
        let error = unsafe {
            libc::signal(libc::SIGPIPE, libc::SIG_DFL);
            libc::execve(name.as_ptr(), argv.as_ptr(), envp.as_ptr());
            io::Error::last_os_error()
        };
        let is_there = candidate.symlink_metadata().is_ok();
        match Errno::from_io_error(&error) {
            Some(Errno::NOENT | Errno::NOTDIR) if !is_there => {}
            // Another folder may have one that may be run.
            Some(Errno::ACCESS) => refused = refused.or(Some((error, Some(candidate)))),
            _ => return (error, Some(candidate)),
        }
    }
    refused.unwrap_or_else(|| (io::ErrorKind::NotFound.into(), None))
}

/// Where a program may be.
fn candidates(program: &[u8], path: &[u8]) -> Vec<PathBuf> {
    let program = Path::new(OsStr::from_bytes(program));
    if program.as_os_str().as_bytes().contains(&b'/') {
        return vec![program.to_owned()];
    }
    let folders = path.split(|byte| *byte == b':');
    folders.map(|folder| Path::new(OsStr::from_bytes(folder)).join(program)).collect()
}
