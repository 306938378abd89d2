//! Credentials that outlive this process, in memory that the service manager holds.
//!
//! # Problem
//!
//! After a restart there are no credentials of pods until the next pull, and a restart is what each new version
//! brings. On a disk they must not be.
//!
//! # Design
//!
//! They are also written to a file in memory (memfd_create(2)), of which systemd keeps a descriptor (`FileDescriptorStoreMax=`
//! of the unit), and passes it to the next process of the service. It is written anew at each change, so that
//! nothing has to be done at the end, which may come by SIGKILL. When the service is stopped, systemd closes it, and it is gone.
//!
//! A record is whole if its digest is right. One that a process has died while writing is not, nor is one of another version:
//! then there are none, as without all this.
//!
//! Who can read it can read the memory of this process: root.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use ocifs::digest::Digest;
use rustix::fs::{MemfdFlags, memfd_create};
use serde::{Deserialize, Serialize};

/// What the service manager calls it, with the version of its format.
pub(crate) const NAME: &str = "credentials-1";

/// Longest record, in bytes: all that are kept, and what JSON makes of them.
const MAX_BYTES: u64 = 128 << 20;

/// Stands in front of a record: its digest in words.
const HEAD_BYTES: usize = "sha256:".len() + 64;

/// One.
#[derive(Debug)]
pub(crate) struct Keepsake(File);

/// The credentials of a repository.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Row {
    pub(crate) repository: String,
    pub(crate) file: String,
    /// Seconds since 1970.
    pub(crate) since: u64,
}

impl Keepsake {
    /// A new one, which is empty.
    pub(crate) fn new() -> io::Result<Keepsake> {
        Ok(Keepsake(memfd_create(NAME, MemfdFlags::CLOEXEC)?.into()))
    }

    /// That of an earlier process.
    pub(crate) fn from(file: File) -> Keepsake {
        Keepsake(file)
    }

    pub(crate) fn file(&self) -> &File {
        &self.0
    }

    /// What is written there, if it is whole.
    pub(crate) fn read(&self) -> Option<Vec<Row>> {
        let length = self.0.metadata().ok()?.len();
        if length > MAX_BYTES {
            return None;
        }
        let mut bytes = vec![0; usize::try_from(length).ok()?];
        self.0.read_exact_at(&mut bytes, 0).ok()?;
        let (head, record) = bytes.split_at_checked(HEAD_BYTES)?;
        if head != Digest::sha256(record).to_string().as_bytes() {
            return None;
        }
        serde_json::from_slice(record).ok()
    }

    /// Writes these in place of what is there.
    pub(crate) fn write(&self, rows: &[Row]) -> io::Result<()> {
        let record = serde_json::to_vec(rows)?;
        let mut bytes = Digest::sha256(&record).to_string().into_bytes();
        bytes.extend_from_slice(&record);
        self.0.set_len(0)?;
        self.0.write_all_at(&bytes, 0)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn row(repository: &str) -> Row {
        Row { repository: repository.to_owned(), file: "{}".to_owned(), since: 7 }
    }

    fn read(keepsake: &Keepsake) -> Option<Vec<String>> {
        Some(keepsake.read()?.into_iter().map(|row| row.repository).collect())
    }

    #[test]
    fn what_is_written_is_read_by_the_next() {
        let first = Keepsake::new().unwrap();
        assert_eq!(read(&first), None);
        first.write(&[row("a"), row("b")]).unwrap();
        first.write(&[row("c")]).unwrap();
        let next = Keepsake::from(first.file().try_clone().unwrap());
        drop(first);
        assert_eq!(read(&next), Some(vec!["c".to_owned()]));
        next.write(&[]).unwrap();
        assert_eq!(read(&next), Some(Vec::new()));
    }

    #[test]
    fn what_is_not_whole_is_nothing() {
        let keepsake = Keepsake::new().unwrap();
        keepsake.write(&[row("a")]).unwrap();
        let length = keepsake.file().metadata().unwrap().len();
        for at in 0..length {
            let mut byte = [0];
            keepsake.file().read_exact_at(&mut byte, at).unwrap();
            keepsake.file().write_all_at(&[byte[0] ^ 1], at).unwrap();
            assert_eq!(read(&keepsake), None, "{at}");
            keepsake.file().write_all_at(&byte, at).unwrap();
        }
        assert_eq!(read(&keepsake), Some(vec!["a".to_owned()]));
        for end in (0..length).rev() {
            keepsake.file().set_len(end).unwrap();
            assert_eq!(read(&keepsake), None, "{end}");
        }
        keepsake.file().set_len(MAX_BYTES + 1).unwrap();
        assert_eq!(read(&keepsake), None);
        // What another version writes is whole, and means nothing here.
        let other = br#"[{"host":"a"}]"#;
        let digest = Digest::sha256(other).to_string();
        keepsake.file().set_len(0).unwrap();
        keepsake.file().write_all_at(&[digest.as_bytes(), other].concat(), 0).unwrap();
        assert_eq!(read(&keepsake), None);
    }
}
