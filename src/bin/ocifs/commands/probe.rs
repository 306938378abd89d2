//! `ocifs probe-containment FOLDER`: the process that `ocifs doctor` starts to find out what a contained one can't do here.
//!
//! Not a verb for people: neither help nor completions have it, so it does not go through [`crate::args`].

use std::env;
use std::fs::{self, File};
use std::io::{self, Write};
use std::net::TcpListener;
use std::os::unix::net::UnixStream;
use std::os::unix::process::parent_id;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use rustix::fs::{CWD, Mode, chmod};
use rustix::mount::UnmountFlags;
use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};

use crate::contain::{Needs, contain};
use crate::render::errors::AnyError;
use crate::render::output;

const VERB: &str = "probe-containment";

/// A path that no machine has, for calls that are to be refused before it is looked up.
const NOWHERE: &str = "/nowhere/at/all";

/// What the process has found.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct Report {
    /// Whether the kernel knows everything that was asked of it.
    pub(super) is_whole: bool,
    /// What was given up, for people.
    pub(super) text: String,
    /// What was tried, and whether it was refused.
    pub(super) tried: Vec<(String, bool)>,
    /// Whether its own folder can be written to.
    pub(super) has_what_it_needs: bool,
}

/// The folder that may be written to, if this process is one.
pub(crate) fn folder() -> Option<PathBuf> {
    let mut words = env::args_os().skip(1);
    (words.next()? == VERB).then(|| words.next().map(PathBuf::from)).flatten()
}

/// Contains this process, tries, and says what came of it.
pub(crate) fn run(folder: &Path) -> Result<ExitCode, AnyError> {
    let contained = contain(&Needs { write: vec![folder.to_owned()], ..Needs::default() });
    let refused =
        |result: io::Result<()>| result.is_err_and(|e| e.kind() == io::ErrorKind::PermissionDenied);
    let tried: Vec<(String, bool)> =
        attempts().into_iter().map(|(what, result)| (what.to_owned(), refused(result))).collect();
    let inside = folder.join(format!("probe-{}", std::process::id()));
    let kept = File::create_new(&inside).and_then(|_| fs::remove_file(&inside));
    let (is_whole, text) = (contained.is_whole(), contained.to_string());
    let report = Report { is_whole, text, tried, has_what_it_needs: kept.is_ok() };
    output::stdout().write_all(&serde_json::to_vec(&report)?)?;
    Ok(ExitCode::SUCCESS)
}

/// What a process that strangers have taken over would try.
fn attempts() -> Vec<(&'static str, io::Result<()>)> {
    let parent = parent_id();
    let outside = env::temp_dir().join(format!("ocifs-probe-{}", std::process::id()));
    let made = File::create_new(&outside).and_then(|_| fs::remove_file(&outside));
    let signal = |pid| kill_process(pid, Signal::CONT).map_err(io::Error::from);
    let pid = i32::try_from(parent).ok().and_then(Pid::from_raw);
    let program = || {
        let mut command = Command::new("/proc/self/exe");
        command.arg("--version").stdout(Stdio::null()).spawn()?.wait().map(drop)
    };
    vec![
        ("reading outside its folders", fs::read_dir("/").map(drop)),
        ("writing outside its folders", made),
        ("running programs", program()),
        ("sockets of other programs", UnixStream::connect(NOWHERE).map(drop)),
        ("listening", TcpListener::bind("127.0.0.1:0").map(drop)),
        ("signals to other processes", pid.map_or(Ok(()), signal)),
        ("looking into other processes", fs::read(format!("/proc/{parent}/environ")).map(drop)),
        ("unmounting", rustix::mount::unmount(NOWHERE, UnmountFlags::empty()).map_err(Into::into)),
        ("changing modes", chmod(NOWHERE, Mode::RUSR).map_err(Into::into)),
        ("making devices and pipes", pipe_at(&outside)),
    ]
}

fn pipe_at(path: &Path) -> io::Result<()> {
    use rustix::fs::{FileType, mknodat};
    mknodat(CWD, path, FileType::Fifo, Mode::RUSR, 0)?;
    fs::remove_file(path)
}

/// Starts such a process, with a folder that it may write to.
///
/// # Errors
/// It can't be started, or does not come to an end.
pub(super) fn start(folder: &Path) -> Result<Report, AnyError> {
    let output = Command::new("/proc/self/exe").arg(VERB).arg(folder).output()?;
    if !output.status.success() {
        return Err(format!("the process that tries it has ended ({})", output.status).into());
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}
