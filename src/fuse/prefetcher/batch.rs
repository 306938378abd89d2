//! What the prefetcher is told.
//!
//! A row of *words*, each a letter and a name that ends with a zero byte, as names and paths have none:
//!
//! | letter | name | to do |
//! |---|---|---|
//! | `p` | a process number, in decimal | do what follows only while there is this process |
//! | `d` | path of a directory from the root of the mount, empty for the root | go there |
//! | `l` | size of a buffer in bytes, in decimal | list it |
//! | `f` | of a regular file in it | read it ahead |
//! | `s` | of a symlink in it | read it |
//! | `b` | a device, an offset and a length in bytes, in decimal | read that ahead |
//! | `.` | empty | answer with a byte |

use std::io::{self, BufRead};
use std::ops::Range;

use crate::fuse::kernel::MAX_READ_BYTES;
use crate::prefetch::Step;
use crate::tree::{Ino, Tree};

/// What one name takes in the kernel's answer besides the name itself, and what names take: it is
/// only worth an estimate (`struct fuse_direntplus`, include/uapi/linux/fuse.h).
const ROW_BYTES: usize = 152;
const NAME_BYTES: usize = 32;

/// Sizes of buffers for listings.
const PAGE_BYTES: usize = 4096;
pub(super) const MAX_BUFFER_BYTES: usize = 1 << 20;

/// A few steps.
#[derive(Debug, Default)]
pub(super) struct Batch {
    words: Vec<u8>,
    client: u32,
    dir: Option<Ino>,
}

impl Batch {
    /// Whether there is nothing to do in it.
    pub(super) fn is_empty(&self) -> bool {
        self.words.is_empty()
    }

    /// How long it is so far.
    pub(super) fn bytes(&self) -> usize {
        self.words.len()
    }

    /// Adds a step before a process.
    pub(super) fn add(&mut self, tree: &Tree, client: u32, step: Step) {
        let (dir, letter, name) = match step {
            Step::List(dir) => (dir, b'l', Some(buffer_bytes(tree, dir).to_string().into_bytes())),
            Step::Read { dir, file } => (dir, b'f', tree.name_in(dir, file).map(<[u8]>::to_vec)),
            Step::Follow { dir, link } => (dir, b's', tree.name_in(dir, link).map(<[u8]>::to_vec)),
        };
        let Some(name) = name else { return };
        self.before(client);
        if self.dir != Some(dir) {
            self.dir = Some(dir);
            self.word(b'd', &tree.path(dir));
        }
        self.word(letter, &name);
    }

    /// Adds a part of a device before a process that comes from its end.
    pub(super) fn bring(&mut self, client: u32, device: usize, range: &Range<u64>) {
        self.before(client);
        let mut end = range.end;
        while end > range.start {
            // What the kernel reads ahead at a time.
            let start = end.saturating_sub(MAX_READ_BYTES.into()).max(range.start);
            self.word(b'b', format!("{device} {start} {}", end - start).as_bytes());
            end = start;
        }
    }

    fn before(&mut self, client: u32) {
        if self.client != client {
            self.client = client;
            self.word(b'p', client.to_string().as_bytes());
        }
    }

    /// The batch as it is sent.
    pub(super) fn finish(mut self) -> Vec<u8> {
        self.word(b'.', b"");
        self.words
    }

    fn word(&mut self, letter: u8, name: &[u8]) {
        self.words.push(letter);
        self.words.extend(name);
        self.words.push(0);
    }
}

/// A buffer that takes a whole listing, if not an enormous one: the kernel answers with no more than fits,
/// and clears all of it before.
fn buffer_bytes(tree: &Tree, dir: Ino) -> usize {
    // With `.` and `..`.
    let bytes = (2 + tree.child_count(dir)) * (ROW_BYTES + NAME_BYTES);
    bytes.next_multiple_of(PAGE_BYTES).min(MAX_BUFFER_BYTES)
}

/// Reads a word into `name` and returns its letter; `None` at the end.
pub(super) fn read_word(batches: &mut impl BufRead, name: &mut Vec<u8>) -> io::Result<Option<u8>> {
    name.clear();
    batches.read_until(0, name)?;
    match (name.first().copied(), name.pop()) {
        (None, _) => Ok(None),
        (Some(letter), Some(0)) if letter != 0 => {
            name.remove(0);
            Ok(Some(letter))
        }
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}
