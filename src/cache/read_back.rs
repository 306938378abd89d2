//! Reading files of the cache back, to see whether they are what their names say.

use std::fs::File;
use std::io::{self, Read};

/// Bytes read at a time.
const CHUNK_BYTES: usize = 128 << 10;

/// Why a file did not pass.
pub(super) enum Wrong {
    Damaged(String),
    /// Evicted or replaced meanwhile.
    Gone,
    Unreadable(io::Error),
}

impl From<io::Error> for Wrong {
    fn from(error: io::Error) -> Wrong {
        match error.kind() {
            io::ErrorKind::NotFound => Wrong::Gone,
            io::ErrorKind::PermissionDenied => Wrong::Unreadable(error),
            _ => Wrong::Damaged(format!("it can't be read: {error}")),
        }
    }
}

pub(super) fn read_whole(file: &File, limit: u64) -> Result<Vec<u8>, Wrong> {
    if file.metadata()?.len() > limit {
        return Err(Wrong::Damaged("it is too long".to_owned()));
    }
    let mut bytes = Vec::new();
    file.take(limit).read_to_end(&mut bytes)?;
    Ok(bytes)
}

pub(super) fn each_chunk(mut from: impl Read, mut act: impl FnMut(&[u8])) -> io::Result<()> {
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        match from.read(&mut chunk) {
            Ok(0) => return Ok(()),
            Ok(n) => act(&chunk[..n]),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
}
