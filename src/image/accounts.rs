//! The users and groups that an image names.

use crate::fs::{Error, Filesystem};
use crate::tree::Symlinks;
use crate::tree::find::Accounts;

/// Where they stand.
pub const ACCOUNT_FILES: [&[u8]; 2] = [b"etc/passwd", b"etc/group"];

/// How much of each file is read, in bytes: a hundred times what large sites have.
const MAX_BYTES: usize = 16 << 20;

/// Reads the users and groups of an image; of files that it does not have, none.
///
/// # Errors
/// [`Error::Content`].
pub fn accounts(filesystem: &Filesystem) -> Result<Accounts, Error> {
    let [passwd, group] = account_files(filesystem)?;
    Ok(Accounts::parse(&passwd, &group))
}

/// The bytes of both files; of one that the image does not have, none.
pub(super) fn account_files(filesystem: &Filesystem) -> Result<[Vec<u8>; 2], Error> {
    let read = |path: &[u8]| {
        let Ok(ino) = filesystem.tree().resolve(path, Symlinks::Follow) else {
            return Ok(Vec::new());
        };
        let Ok(file) = filesystem.file(ino) else { return Ok(Vec::new()) };
        let mut bytes = vec![0; file.readable(0, MAX_BYTES)];
        file.read(0, &mut bytes, filesystem.deadline())?;
        Ok(bytes)
    };
    let [passwd, group] = ACCOUNT_FILES.map(read);
    Ok([passwd?, group?])
}
