//! Where an archive or a report is written: stdout, or a file that is there when it is complete.

use std::fs::{self, File, Permissions};
use std::io::{self, IsTerminal, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use crate::render::errors::{About, AnyError};
use crate::render::output::{self, Stdout};

/// The permissions of a new file, before the umask.
const MODE: u32 = 0o666;

/// Where it is written.
#[derive(Debug)]
pub(crate) enum Target {
    /// Standard output.
    Stdout(Stdout),
    /// What is no regular file, and can't be replaced: a pipe, a device.
    Special(PathBuf, File),
    /// Becomes the file at the path.
    File(PathBuf, NamedTempFile),
}

impl Target {
    /// The file at a path; stdout for `-` or none. What is written, for the error, if it is not for a terminal.
    ///
    /// # Errors
    /// It can't be written there, which is found out before work is done for it.
    pub(crate) fn new(
        path: Option<&Path>,
        not_for_terminal: Option<&'static str>,
    ) -> Result<Target, AnyError> {
        let refused =
            |what: &str| format!("{what} is not for a terminal: redirect it to a file or a pipe");
        let Some(path) = path.filter(|path| *path != Path::new("-")) else {
            if let Some(what) = not_for_terminal.filter(|_| io::stdout().is_terminal()) {
                return Err(refused(what).into());
            }
            return Ok(Target::Stdout(output::stdout()));
        };
        let failed = |e: io::Error| About::new(path.display(), e);
        // A symlink stays, and what it leads to is replaced.
        let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        if fs::metadata(&path).is_ok_and(|metadata| !metadata.is_file()) {
            let file = File::options().write(true).open(&path).map_err(failed)?;
            if let Some(what) = not_for_terminal.filter(|_| file.is_terminal()) {
                return Err(failed(io::Error::other(refused(what))).into());
            }
            return Ok(Target::Special(path, file));
        }
        let above = path.parent().filter(|above| !above.as_os_str().is_empty());
        let mut builder = tempfile::Builder::new();
        builder.prefix(".ocifs-").permissions(Permissions::from_mode(MODE));
        let file = builder.tempfile_in(above.unwrap_or(Path::new("."))).map_err(failed)?;
        Ok(Target::File(path, file))
    }

    /// Takes what is written. Errors say where.
    pub(crate) fn writer(&mut self) -> Writer<'_> {
        Writer(self)
    }

    /// It is complete.
    ///
    /// # Errors
    /// The file can't get its name.
    pub(crate) fn finish(self) -> Result<(), AnyError> {
        if let Target::File(path, file) = self {
            file.persist(&path).map_err(|e| About::new(path.display(), e.error))?;
        }
        Ok(())
    }
}

/// Takes what is written.
#[derive(Debug)]
pub(crate) struct Writer<'a>(&'a mut Target);

impl Writer<'_> {
    fn named<T>(path: &Path, result: io::Result<T>) -> io::Result<T> {
        result.map_err(|e| match e.kind() {
            io::ErrorKind::Interrupted => e,
            kind => io::Error::new(kind, format!("{}: {e}", path.display())),
        })
    }
}

impl Write for Writer<'_> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        match self.0 {
            Target::Stdout(out) => out.write(buf),
            Target::Special(path, file) => Writer::named(path, file.write(buf)),
            Target::File(path, file) => Writer::named(path, file.write(buf)),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self.0 {
            Target::Stdout(out) => out.flush(),
            Target::Special(path, file) => Writer::named(path, file.flush()),
            Target::File(path, file) => Writer::named(path, file.flush()),
        }
    }
}
