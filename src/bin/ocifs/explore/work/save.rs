//! A file of the image, saved on this machine.
//!
//! Nothing that is there is replaced. The file is the user's, readable by all, and may be executed if the image's may;
//! setuid, setgid and owners are left out.

use std::fmt;
use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

use ocifs::tree::Place;

use super::super::subject::View;
use crate::render::errors::{About, AnyError};
use crate::render::text::size;

/// Bytes read at a time.
const CHUNK_BYTES: usize = 1 << 20;

/// What makes files, as this process may not.
pub(crate) trait Saver: fmt::Debug + Send + Sync {
    /// Makes a file that was not there.
    ///
    /// # Errors
    /// It can't be made, or may not.
    fn make(&self, path: &Path, mode: u32) -> io::Result<File>;

    /// Removes a file that was made.
    ///
    /// # Errors
    /// It can't be removed.
    fn remove(&self, path: &Path) -> io::Result<()>;
}

/// Saves a regular file; what was done, for people.
pub(super) fn save(
    view: &View,
    place: Place,
    to: &Path,
    saver: &dyn Saver,
) -> Result<String, AnyError> {
    let length = view.file_size(place).ok_or("it is no regular file")?;
    let mode = view.with(|places| places.facts(place).mode);
    let mode = if mode & 0o111 != 0 { 0o777 } else { 0o666 };
    let about = |error| About::new(to.display(), error);
    let mut file = saver.make(to, mode).map_err(about)?;
    let mut copy = || -> Result<(), AnyError> {
        let mut offset = 0;
        while offset < length {
            let bytes = view.read(place, offset, CHUNK_BYTES)?;
            if bytes.is_empty() {
                return Err("the file is shorter than its layer says".into());
            }
            file.write_all(&bytes).map_err(about)?;
            offset += bytes.len() as u64;
        }
        Ok(())
    };
    if let Err(error) = copy() {
        // Half a file would pass for a whole one. That it can't be removed is not what went wrong.
        let _ = saver.remove(to);
        return Err(error);
    }
    Ok(format!("saved {}, {}", to.display(), size(length)))
}
