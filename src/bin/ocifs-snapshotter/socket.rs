//! The Unix socket.

use std::fs::{self, Permissions};
use std::io::ErrorKind;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

/// Listens at a path. What a process that died has left there is replaced; where one listens, or something else is,
/// that is an error.
pub(crate) fn listen(path: &Path) -> Result<UnixListener, String> {
    let failed = |e| format!("the socket {} can't be made: {e}", path.display());
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(failed)?;
    }
    match fs::symlink_metadata(path) {
        Ok(found) if found.file_type().is_socket() => {
            if UnixStream::connect(path).is_ok() {
                return Err(format!("another process answers on the socket {}", path.display()));
            }
            fs::remove_file(path).map_err(failed)?;
        }
        Ok(_) => return Err(format!("{} is no socket", path.display())),
        Err(e) if e.kind() == ErrorKind::NotFound => {}
        Err(e) => return Err(failed(e)),
    }
    let listener = UnixListener::bind(path).map_err(failed)?;
    // Who may talk to it may mount what it likes.
    fs::set_permissions(path, Permissions::from_mode(0o600)).map_err(failed)?;
    listener.set_nonblocking(true).map_err(failed)?;
    Ok(listener)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn only_what_nobody_listens_on_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new/s");
        let first = listen(&path).unwrap();
        let error = listen(&path).unwrap_err();
        assert!(error.starts_with("another process answers"), "{error}");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        drop(first);
        assert!(path.exists());
        drop(listen(&path).unwrap());
        let file = folder.path().join("file");
        fs::write(&file, "x").unwrap();
        assert!(listen(&file).unwrap_err().ends_with("is no socket"));
    }
}
