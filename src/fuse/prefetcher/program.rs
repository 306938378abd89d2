//! How a prefetcher is started.

use std::ffi::OsString;
use std::fmt::Debug;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

/// What is running, whatever has become of its file, or been mounted over it: an image may have a program of
/// that name.
const OURSELVES: &str = "/proc/self/exe";

/// What can start a prefetcher: this process, or another one that may start programs.
pub trait Launcher: Debug + Send + Sync {
    /// Starts one with the arguments of a [`Target`](super::Target).
    ///
    /// # Errors
    /// It can't be started.
    fn launch(&self, target: &[OsString]) -> io::Result<Launched>;

    /// Ends one that was started, in the middle of what it does.
    ///
    /// # Errors
    /// It can't be ended.
    fn end(&self, launched: Launched) -> io::Result<()>;
}

/// A prefetcher that was started.
#[derive(Debug)]
pub struct Launched {
    /// Its process number.
    pub pid: u32,
    /// Where batches are written to.
    pub batches: File,
    /// Where its answers come from.
    pub answers: File,
    /// The process, if it is a child of this one.
    pub child: Option<Child>,
}

/// This program, started as a prefetcher.
#[derive(Clone, Debug)]
pub struct Program {
    /// The name under which it is shown.
    pub name: String,
    /// The arguments for which it calls [`run`](super::run); those of the [`Target`](super::Target) follow.
    pub arguments: Vec<String>,
}

impl Launcher for Program {
    fn launch(&self, target: &[OsString]) -> io::Result<Launched> {
        let mut child = Command::new(OURSELVES)
            .arg0(&self.name)
            .args(&self.arguments)
            .args(target)
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let (Some(batches), Some(answers)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(io::Error::other("a process without pipes"));
        };
        let pid = child.id();
        let (batches, answers) = (OwnedFd::from(batches).into(), OwnedFd::from(answers).into());
        Ok(Launched { pid, batches, answers, child: Some(child) })
    }

    fn end(&self, launched: Launched) -> io::Result<()> {
        let Some(mut child) = launched.child else { return Ok(()) };
        child.kill()?;
        child.wait().map(drop)
    }
}
