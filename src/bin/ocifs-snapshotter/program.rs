//! Running `ocifs`, which finds, fetches and mounts images.
//!
//! What strangers have made, manifests and layers, is read by processes of that program, which have given up what they do not
//! need, and never by this one; and settings, credentials, mirrors and stores are those that its users know.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::thread;

use crate::credentials::Credentials;
use crate::manager;

/// Longest output, in bytes, that is read: what `inspect` says of an image has a line for each layer, and documents of which
/// one has at most 4 MiB.
const MAX_OUTPUT_BYTES: u64 = 64 << 20;
pub(crate) const MAX_ERROR_BYTES: u64 = 16 << 10;

/// The exit code of `ocifs mount` that says so.
const NOT_IN_THE_KERNEL: i32 = 3;

/// It, with flags of images, and credentials of pods for some of them.
#[derive(Clone, Debug)]
pub(crate) struct Program {
    path: PathBuf,
    image_flags: Vec<String>,
    credentials: Arc<Credentials>,
}

/// Why nothing was mounted.
#[derive(Debug)]
pub(crate) enum MountError {
    /// The image can't be given to the kernel, and could be mounted without that.
    NotInTheKernel(String),
    Failed(String),
}

/// A run of it on an image.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) command: Command,
    /// What it reads from its standard input: a file of credentials, or nothing.
    pub(crate) input: Vec<u8>,
}

impl Program {
    pub(crate) fn new(path: PathBuf, image_flags: Vec<String>) -> Program {
        Program { path, image_flags, credentials: Arc::default() }
    }

    /// Those that pods have brought.
    pub(crate) fn credentials(&self) -> &Arc<Credentials> {
        &self.credentials
    }

    /// Runs a verb with flags on an image, and more words behind it; what it prints, or what is wrong.
    pub(crate) fn on_image(
        &self,
        verb: &str,
        flags: &[&str],
        image: &str,
        rest: &[&str],
    ) -> Result<Vec<u8>, String> {
        self.run(self.prepare(verb, flags, image, rest))
    }

    /// How that is run.
    pub(crate) fn prepare(&self, verb: &str, flags: &[&str], image: &str, rest: &[&str]) -> Run {
        let mut command = self.command();
        command.arg(verb).args(&self.image_flags);
        let input = self.credentials.file(image).unwrap_or_default();
        if !input.is_empty() {
            command.args(["--authfile", "/dev/stdin"]);
        }
        command.args(flags).arg(image).args(rest);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command.stdin(if input.is_empty() { Stdio::null() } else { Stdio::piped() });
        log::debug!("{command:?}");
        Run { command, input }
    }

    /// Mounts an image in the background.
    pub(crate) fn mount(&self, flags: &[&str], image: &str, place: &str) -> Result<(), MountError> {
        let ended = self.end_of(self.prepare("mount", flags, image, &[place]));
        let ended = ended.map_err(MountError::Failed)?;
        if ended.status.success() {
            return Ok(());
        }
        let words = words(&ended.error, ended.status);
        Err(match ended.status.code() {
            Some(NOT_IN_THE_KERNEL) => MountError::NotInTheKernel(words),
            _ => MountError::Failed(words),
        })
    }

    /// Unmounts a directory.
    pub(crate) fn unmount(&self, directory: &Path) -> Result<(), String> {
        let mut command = self.command();
        command.arg("umount").arg(directory).stdin(Stdio::null());
        self.run(Run { command, input: Vec::new() }).map(drop)
    }

    /// What is mounted, at a place or everywhere, in a form.
    pub(crate) fn status(&self, form: &str, place: Option<&str>) -> Result<Vec<u8>, String> {
        let mut command = self.command();
        command.args(["status", form]).args(place).stdin(Stdio::null());
        self.run_as(Run { command, input: Vec::new() }, |output| !output.is_empty())
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.path);
        manager::hide_from(&mut command);
        command
    }

    fn run(&self, run: Run) -> Result<Vec<u8>, String> {
        self.run_as(run, |_| false)
    }

    /// Runs it. Some output counts even if it says that something is wrong.
    fn run_as(&self, run: Run, counts: impl FnOnce(&[u8]) -> bool) -> Result<Vec<u8>, String> {
        let Ended { status, output, error } = self.end_of(run)?;
        match status.success() || counts(&output) {
            true => Ok(output),
            false => Err(words(&error, status)),
        }
    }

    /// Runs it to its end.
    fn end_of(&self, run: Run) -> Result<Ended, String> {
        let Run { mut command, input } = run;
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(|e| self.failed(&e))?;
        if let Some(mut stdin) = child.stdin.take() {
            // It is less than a pipe holds. A process that does not read it does not need it.
            let _ = stdin.write_all(&input);
        }
        let (child, output, error) = read(child);
        let status = wait(child).map_err(|e| self.failed(&e))?;
        let output = output.map_err(|e| self.failed(&e))?;
        Ok(Ended { status, output, error })
    }

    /// It could not be run.
    pub(crate) fn failed(&self, error: &std::io::Error) -> String {
        format!("the program {} can't be run: {error}", self.path.display())
    }
}

/// A run that has ended.
struct Ended {
    status: ExitStatus,
    output: Vec<u8>,
    error: Vec<u8>,
}

type Bytes = std::io::Result<Vec<u8>>;

/// Reads both outputs until they end. A mount in the background does not keep them.
fn read(mut child: Child) -> (Child, Bytes, Vec<u8>) {
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let error = thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut stderr) = stderr {
            // What can't be read is missing in a message.
            let _ = (&mut stderr).take(MAX_ERROR_BYTES).read_to_end(&mut bytes);
            let _ = std::io::copy(&mut stderr, &mut std::io::sink());
        }
        bytes
    });
    let mut bytes = Vec::new();
    let output = match stdout {
        Some(stdout) => stdout.take(MAX_OUTPUT_BYTES).read_to_end(&mut bytes).map(|_| bytes),
        None => Ok(bytes),
    };
    (child, output, error.join().unwrap_or_default())
}

fn wait(mut child: Child) -> std::io::Result<ExitStatus> {
    child.wait()
}

/// The error in the words of the program.
pub(crate) fn words(error: &[u8], status: ExitStatus) -> String {
    let text = String::from_utf8_lossy(error);
    let text = text.lines().rfind(|line| line.contains("error")).or(text.lines().last());
    match text.map(|line| line.trim_start_matches("ocifs: ").trim_start_matches("error: ").trim()) {
        Some(text) if !text.is_empty() => text.to_owned(),
        _ => format!("`ocifs` ended with {status}"),
    }
}
