//! Starting this program once more, as a process that goes on serving.

use std::env;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, ExitStatus, Stdio};
use std::sync::Arc;

use crate::environment::is_read_once;
use crate::render::errors::AnyError;
use crate::variables;

/// How this program is started once more.
#[derive(Clone)]
pub(super) struct Program {
    /// Its words, its own name first, without credentials.
    words: Vec<OsString>,
    /// The directory that paths among them start from.
    directory: Option<PathBuf>,
    /// The file of another version.
    file: Option<Arc<File>>,
}

impl Program {
    /// With the words of this process.
    pub(super) fn new(words: &[OsString]) -> Program {
        // It runs for days, and all users can read its command line.
        let words = without_secrets(words.iter().skip(1).cloned(), is_read_once);
        Program { words, directory: env::current_dir().ok(), file: None }
    }

    /// The same of the version that lies where this program was started from, if that is another file by now.
    ///
    /// # Errors
    /// It can't be opened.
    pub(super) fn installed(&self) -> io::Result<Option<Program>> {
        const OWN: &str = "/proc/self/exe";
        let path = fs::read_link(OWN)?.into_os_string().into_encoded_bytes();
        let path = path.strip_suffix(b" (deleted)").unwrap_or(&path);
        let file = File::open(OsStr::from_bytes(path))?;
        let id = |metadata: fs::Metadata| (metadata.dev(), metadata.ino());
        let own = match &self.file {
            Some(file) => file.metadata()?,
            None => fs::metadata(OWN)?,
        };
        if id(file.metadata()?) == id(own) {
            return Ok(None);
        }
        let (words, directory) = (self.words.clone(), self.directory.clone());
        Ok(Some(Program { words, directory, file: Some(Arc::new(file)) }))
    }

    /// A command under the name `name`.
    pub(super) fn command(&self, name: &str) -> Command {
        use std::os::unix::process::CommandExt;
        // The file that is running, whatever its path leads to by now.
        let mut command = match &self.file {
            None => Command::new("/proc/self/exe"),
            Some(file) => Command::new(format!("/proc/self/fd/{}", file.as_raw_fd())),
        };
        command.args(&self.words);
        // The file may have the name of a helper of mount(8).
        command.arg0(name);
        // So is its environment for programs of the same user.
        command.env_remove(variables::CREDS).env_remove(variables::AUTH_CONFIG);
        command.envs(variables::of_allocator()).stdin(Stdio::null());
        // This process may have left it.
        if let Some(directory) = self.directory.as_ref().filter(|directory| directory.is_dir()) {
            command.current_dir(directory);
        }
        command
    }
}

/// The words of a command line but for `--creds`, and for each `--authfile` that can be read once: what they bring is
/// handed over.
fn without_secrets(
    mut words: impl Iterator<Item = OsString>,
    is_read_once: impl Fn(&Path) -> bool,
) -> Vec<OsString> {
    let mut kept = Vec::new();
    while let Some(word) = words.next() {
        if word == "--" {
            kept.push(word);
            kept.extend(words);
            break;
        }
        let bytes = word.as_encoded_bytes();
        if word == "--creds" {
            words.next();
        } else if word == "--authfile" {
            let file = words.next().filter(|file| !is_read_once(Path::new(file)));
            kept.extend(file.into_iter().flat_map(|file| [word.clone(), file]));
        } else if let Some(file) = bytes.strip_prefix(b"--authfile=") {
            let is_kept = !is_read_once(Path::new(OsStr::from_bytes(file)));
            kept.extend(is_kept.then_some(word));
        } else if !bytes.starts_with(b"--creds=") {
            kept.push(word);
        }
    }
    kept
}

/// The end of the program whose process has ended before the mount was ready. It has said why itself.
pub(super) fn ended_early(status: ExitStatus) -> Result<ExitCode, AnyError> {
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    match code {
        Some(code) if code != 0 => Ok(ExitCode::from(code)),
        _ => Err(format!("the serving process ended before the mount was ready ({status})").into()),
    }
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
            ("mount --authfile pipe --authfile f r m", "mount --authfile f r m"),
            ("mount --authfile=pipe --authfile=f r m", "mount --authfile=f r m"),
            ("mount r m -- --authfile pipe", "mount r m -- --authfile pipe"),
        ] {
            let is_pipe = |path: &Path| path == Path::new("pipe");
            let kept = without_secrets(words.split(' ').map(OsString::from), is_pipe);
            let kept: Vec<_> = kept.iter().map(|word| word.to_string_lossy()).collect();
            assert_eq!(kept.join(" "), expected, "{words}");
        }
    }
}
