//! Programs that keep credentials: `docker-credential-NAME get`, the server on stdin, JSON or a
//! reason on stdout (protocol of docker-credential-helpers).
//!
//! A helper is a third-party program that may hang, talk without end, or leave a child behind
//! that holds its output open. So its output goes to files in memory, not to pipes that a thread
//! would have to read: they can't grow beyond their limit, and who else has them open is no
//! matter. The helper itself is waited for, up to a limit, and then killed with its children: it has a
//! process group of its own. Where we are in the foreground of a terminal it stays in our group, as it
//! may ask the user for a password there, and the helper alone is killed; Ctrl-C ends the rest.
//!
//! Nothing that it writes when all is well is shown, and of its reasons nothing that looks like an
//! answer.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{MemfdFlags, Mode, OFlags, SealFlags, fcntl_add_seals, memfd_create};
use rustix::process::{Pid, Signal, getpgrp, kill_process_group};
use serde::Deserialize;

use super::credential::Credential;
use crate::json::{self, Text};

/// Longest that a helper may take. Some ask a cloud, some a person.
pub(super) const HELPER_LIMIT: Duration = Duration::from_secs(20);

/// Bytes of each output that a helper can write. Tokens of some clouds have several KiB.
const MAX_OUTPUT_BYTES: u64 = 256 << 10;

/// Longest pause between two looks at whether a helper has ended.
const MAX_PAUSE: Duration = Duration::from_millis(20);

/// Characters of a helper's reason that are shown.
const MAX_REASON_CHARS: usize = 200;

/// What a helper says for "none" (docker-credential-helpers, `errCredentialsNotFoundMessage`), of
/// which some have a part.
const NOT_FOUND: &str = "credentials not found";

/// The user name that makes the secret an identity token.
const TOKEN_USER: &str = "<token>";

/// How helpers are run.
#[derive(Clone, Debug, Default)]
pub(super) struct Helpers {
    /// Where they are looked for; those that are not absolute are left out.
    pub(super) folders: Vec<PathBuf>,
    /// Longest time for one.
    pub(super) limit: Duration,
}

/// What a helper answers.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Answer {
    #[serde(rename = "Username")]
    user: Text,
    #[serde(rename = "Secret")]
    secret: Text,
}

impl Helpers {
    /// Asks a helper for the credential of a server; the error is a reason in words.
    pub(super) fn get(&self, name: &str, server: &str) -> Result<Option<Credential>, String> {
        let program = self.find(name)?;
        let cant = |what: &str| {
            let what = what.to_owned();
            move |e: io::Error| format!("{what}: {e}")
        };
        let stdout = bounded_file().map_err(cant("making a file in memory"))?;
        let stderr = bounded_file().map_err(cant("making a file in memory"))?;
        let handle = |file: &File| file.try_clone().map(Stdio::from);
        let mut command = Command::new(program);
        let has_terminal = is_on_terminal();
        if !has_terminal {
            command.process_group(0);
        }
        let mut child = command
            .arg("get")
            .stdin(Stdio::piped())
            .stdout(handle(&stdout).map_err(cant("sharing a file"))?)
            .stderr(handle(&stderr).map_err(cant("sharing a file"))?)
            .spawn()
            .map_err(cant("it can't be started"))?;
        if let Some(mut stdin) = child.stdin.take() {
            // It fits into the pipe. A helper that does not read it may know it already.
            let _ = stdin.write_all(server.as_bytes());
        }
        let status = wait(&mut child, self.limit, !has_terminal).map_err(cant("waiting for it"))?;
        let status = status.ok_or_else(|| {
            format!("it gave no answer within {} s and was ended", self.limit.as_secs_f32())
        })?;
        let (stdout, stderr) = (written(stdout), written(stderr));
        read_answer(status, &stdout, &stderr)
    }

    fn find(&self, name: &str) -> Result<PathBuf, String> {
        let is_plain = !name.is_empty() && !name.contains(['/', '\0']);
        let program = format!("docker-credential-{name}");
        let folders = self.folders.iter().filter(|folder| is_plain && folder.is_absolute());
        let mut programs = folders.map(|folder| folder.join(&program));
        let is_program = |path: &PathBuf| {
            let metadata = path.metadata();
            metadata.is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
        };
        programs.find(is_program).ok_or_else(|| "there is no such program in $PATH".to_owned())
    }
}

/// A file in memory that takes so many bytes and no more.
fn bounded_file() -> io::Result<File> {
    let file = memfd_create("credential-helper", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    let file = File::from(file);
    file.set_len(MAX_OUTPUT_BYTES)?;
    fcntl_add_seals(&file, SealFlags::GROW | SealFlags::SHRINK)?;
    Ok(file)
}

/// What was written to such a file: the writer shares our position in it.
fn written(mut file: File) -> Vec<u8> {
    let mut bytes = Vec::new();
    let read = file.stream_position().and_then(|end| {
        file.seek(SeekFrom::Start(0))?;
        file.take(end).read_to_end(&mut bytes)
    });
    // Reading memory does not fail; if it does there is no answer.
    if read.is_ok() { bytes } else { Vec::new() }
}

/// Whether this process may read from its terminal: its group is the one in the foreground.
fn is_on_terminal() -> bool {
    let flags = OFlags::RDONLY | OFlags::NOCTTY | OFlags::CLOEXEC;
    let terminal = rustix::fs::open("/dev/tty", flags, Mode::empty());
    terminal
        .is_ok_and(|terminal| rustix::termios::tcgetpgrp(terminal).is_ok_and(|g| g == getpgrp()))
}

/// Waits for a child, and kills it when the time is over, and its group if it has one of its own; then there is no
/// status.
fn wait(child: &mut Child, limit: Duration, has_group: bool) -> io::Result<Option<ExitStatus>> {
    let until = Instant::now() + limit;
    let mut pause = Duration::from_millis(1);
    while Instant::now() < until {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        thread::sleep(pause);
        pause = (pause * 2).min(MAX_PAUSE);
    }
    // It has not been waited for, so that the number is still its own.
    let group = i32::try_from(child.id()).ok().and_then(Pid::from_raw).filter(|_| has_group);
    if let Some(group) = group {
        kill_process_group(group, Signal::KILL)?;
    }
    child.kill()?;
    child.wait()?;
    Ok(None)
}

/// Understands what a helper wrote.
fn read_answer(
    status: ExitStatus,
    stdout: &[u8],
    stderr: &[u8],
) -> Result<Option<Credential>, String> {
    let says_none =
        |text: &[u8]| String::from_utf8_lossy(text).to_ascii_lowercase().contains(NOT_FOUND);
    if !status.success() {
        if says_none(stdout) || says_none(stderr) {
            return Ok(None);
        }
        return Err(format!("it failed ({status}){}", reason(stdout, stderr)));
    }
    // Some say more after it, which engines do not read. The parser's own words may quote a secret.
    let answer = json::first_value::<Option<Answer>>(stdout)
        .map_err(|_| "its answer is not a user name and a secret in JSON")?;
    let Answer { user: Text(user), secret: Text(secret) } = answer.unwrap_or_default();
    Ok(match &*user {
        _ if secret.is_empty() => None,
        TOKEN_USER => Some(Credential::IdentityToken { user: None, token: secret }),
        _ => Some(Credential::Basic { user, password: secret }),
    })
}

/// The reason of a failure in the helper's words: one line, and none that may hold a secret.
fn reason(stdout: &[u8], stderr: &[u8]) -> String {
    let may_be_shown = |line: &&str| {
        let line = line.trim();
        // Sentences have blanks, which secrets have not; the rest looks like JSON.
        line.contains(' ')
            && !line.starts_with(['{', '}', '"'])
            && !line.to_ascii_lowercase().contains("secret\"")
    };
    let texts = [stderr, stdout].map(String::from_utf8_lossy);
    let line = texts.iter().find_map(|text| text.lines().rfind(may_be_shown));
    let line = line.unwrap_or_default().trim().chars().filter(|c| !c.is_control());
    let line: String = line.take(MAX_REASON_CHARS).collect();
    if line.is_empty() { line } else { format!(": {line}") }
}
