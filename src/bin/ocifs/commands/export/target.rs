//! Where an archive is written: stdout, or a file that is there when it is complete.

use std::fs::{self, File, Permissions};
use std::io::{self, IsTerminal, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use crate::render::errors::{About, AnyError};
use crate::render::output::{self, Stdout};

/// The permissions of a new file, before the umask.
const MODE: u32 = 0o666;

/// Where an archive is written.
pub(super) enum Target {
    Stdout(Stdout),
    /// What is no regular file, and can't be replaced: a pipe, a device.
    Special(PathBuf, File),
    /// Becomes the file at the path.
    File(PathBuf, NamedTempFile),
}

impl Target {
    /// The file at a path; stdout for `-` or none.
    pub(super) fn new(path: Option<&Path>) -> Result<Target, AnyError> {
        let Some(path) = path.filter(|path| *path != Path::new("-")) else {
            if io::stdout().is_terminal() {
                return Err(
                    "a tar archive is not for a terminal: redirect it to a file or a pipe".into()
                );
            }
            return Ok(Target::Stdout(output::stdout()));
        };
        let failed = |e: io::Error| About::new(path.display(), e);
        // A symlink stays, and what it leads to is replaced.
        let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        if fs::metadata(&path).is_ok_and(|metadata| !metadata.is_file()) {
            let file = File::options().write(true).open(&path).map_err(failed)?;
            if file.is_terminal() {
                return Err(failed(io::Error::other("a tar archive is not for a terminal")).into());
            }
            return Ok(Target::Special(path, file));
        }
        let above = path.parent().filter(|above| !above.as_os_str().is_empty());
        let mut builder = tempfile::Builder::new();
        builder.prefix(".ocifs-").permissions(Permissions::from_mode(MODE));
        let file = builder.tempfile_in(above.unwrap_or(Path::new("."))).map_err(failed)?;
        Ok(Target::File(path, file))
    }

    /// Takes the archive. Errors say where.
    pub(super) fn writer(&mut self) -> Writer<'_> {
        Writer(self)
    }

    /// The archive is complete.
    pub(super) fn finish(self) -> Result<(), AnyError> {
        if let Target::File(path, file) = self {
            file.persist(&path).map_err(|e| About::new(path.display(), e.error))?;
        }
        Ok(())
    }
}

/// Takes the archive.
pub(super) struct Writer<'a>(&'a mut Target);

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
