//! The members of an archive by name, with its links resolved as a file system would.
//!
//! The tar *around* an image is not the image: owners, times and extended attributes in it mean nothing, and
//! limits that layers have for them do not hold. What counts is which bytes a name leads to. Tools that
//! pack folders write links in all ways: hard links for files that they have seen (also to the member itself
//! where it was named twice), symlinks to symlinks, a symlink in place of `blobs`. So entries are taken as
//! an extraction would, in order, the last of a name winning, and names are looked up component by component.
//!
//! No link leads out of the archive: an absolute target, and one that climbs above the root, leads
//! nowhere.

use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use super::super::Error;
use super::section::SectionPlace;
use crate::extent::Run;
use crate::tar::{self, FileType, Parser};

/// Members accepted in one archive: thousands of layers, and a bound on memory.
const MAX_MEMBERS: usize = 1 << 20;

/// Runs of sparse members remembered of one archive: 48 MiB.
const MAX_RUNS: usize = 1 << 21;

/// Longest name of a member, and longest target of a link, that may be of an image's files, in bytes. They
/// are a few folders deep at most.
const MAX_NAME_BYTES: usize = 1024;

/// Components looked at for one name, those of links included: a bound on the time that each takes.
const MAX_STEPS: usize = 256;

/// Links followed for one name: what Linux follows.
const MAX_LINKS: usize = 40;

/// What is in an archive.
#[derive(Debug, Default)]
pub(super) struct Members {
    all: HashMap<String, Member>,
    has_symlinks: bool,
    runs: usize,
    has_too_many_runs: bool,
}

#[derive(Clone, Debug)]
enum Member {
    File {
        start: u64,
        length: u64,
    },
    Sparse {
        runs: Arc<[Run]>,
        length: u64,
    },
    /// The target as it is stored.
    Symlink(String),
    /// A hard link to what had not come yet.
    Later(String),
}

impl Members {
    /// Reads the headers of a tar of `length` bytes; `path` is the archive's, for messages.
    pub(super) fn scan(file: &File, length: u64, path: &Path) -> Result<Members, Error> {
        let tar = |source| Error::Tar { path: path.to_owned(), cause: source };
        let mut members = Members::default();
        let mut parser = Parser::of_names();
        let mut block = [0; tar::BLOCK_BYTES];
        let mut at = 0;
        while at < length {
            let skipped = parser.skip(length - at, &mut members);
            at += skipped;
            if skipped > 0 {
                continue;
            }
            let n = file.read_at(&mut block, at).map_err(|e| Error::file(path, e))?;
            if n == 0 {
                break;
            }
            parser.feed(&block[..n], &mut members).map_err(tar)?;
            at += n as u64;
        }
        parser.finish().map_err(tar)?;
        if members.has_too_many_runs {
            let what = format!("its sparse members have more than {MAX_RUNS} runs");
            return Err(Error::invalid(path, what));
        }
        Ok(members)
    }

    /// Where the file of that name is, and its length.
    pub(super) fn find(&self, name: &str) -> Option<(SectionPlace, u64)> {
        let mut name = self.resolve(name)?;
        for _ in 0..MAX_LINKS {
            match self.all.get(&name)? {
                Member::File { start, length } => {
                    return Some((SectionPlace::From(*start), *length));
                }
                Member::Sparse { runs, length } => {
                    return Some((SectionPlace::Runs(Arc::clone(runs)), *length));
                }
                Member::Later(target) => name = self.resolve(target)?,
                Member::Symlink(_) => return None,
            }
        }
        None
    }

    /// The names of files and links, in no order.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.all.keys().map(String::as_str)
    }

    /// The name of what a name leads to, without links in it; `None` if it leaves the archive.
    fn resolve(&self, name: &str) -> Option<String> {
        let mut todo: Vec<&str> = name.split('/').rev().collect();
        let mut found: Vec<&str> = Vec::new();
        let (mut links, mut steps) = (0, 0);
        while let Some(part) = todo.pop() {
            steps += 1;
            if steps > MAX_STEPS {
                return None;
            }
            match part {
                "" | "." => continue,
                ".." => {
                    found.pop()?;
                    continue;
                }
                part => found.push(part),
            }
            if self.has_symlinks
                && let Some(Member::Symlink(target)) = self.all.get(&found.join("/"))
            {
                links += 1;
                if links > MAX_LINKS || target.starts_with('/') {
                    return None;
                }
                found.pop();
                todo.extend(target.split('/').rev());
            }
        }
        (!found.is_empty()).then(|| found.join("/"))
    }

    /// The name under which an entry is kept: links in its folder are resolved, but not the last component.
    fn place(&self, name: &str) -> Option<String> {
        let name = clean(name)?;
        match name.rsplit_once('/') {
            Some((folder, last)) if self.has_symlinks => {
                Some(format!("{}/{last}", self.resolve(folder)?))
            }
            _ => Some(name),
        }
    }

    fn take(&mut self, entry: tar::Entry) -> Option<()> {
        // A name that is not UTF-8 is not one that we look for.
        let text = |bytes: Vec<u8>| {
            String::from_utf8(bytes).ok().filter(|text| text.len() <= MAX_NAME_BYTES)
        };
        let name = self.place(&text(entry.path)?)?;
        let member = match entry.kind {
            FileType::File if entry.sparse => {
                self.runs += entry.runs.len();
                if self.runs > MAX_RUNS {
                    self.has_too_many_runs = true;
                    return None;
                }
                Member::Sparse { runs: entry.runs.into(), length: entry.size }
            }
            FileType::File => {
                let start = entry.runs.first().map_or(0, |run| run.start.0);
                Member::File { start, length: entry.size }
            }
            FileType::Symlink => {
                self.has_symlinks = true;
                Member::Symlink(text(entry.link_target)?)
            }
            FileType::HardLink => {
                let target = self.place(&text(entry.link_target)?)?;
                if target == name {
                    return None;
                }
                match self.all.get(&target) {
                    Some(member) => member.clone(),
                    None => Member::Later(target),
                }
            }
            FileType::Directory => {
                self.all.remove(&name);
                return None;
            }
            _ => return None,
        };
        if self.all.len() < MAX_MEMBERS {
            self.all.insert(name, member);
        }
        Some(())
    }
}

impl tar::Sink for Members {
    type Error = tar::Error;

    fn entry(&mut self, entry: tar::Entry) -> Result<(), tar::Error> {
        // What can't be one of an image's files is passed over.
        let _ = self.take(entry);
        Ok(())
    }

    fn content(&mut self, _bytes: &[u8]) {}

    fn end(&mut self) {}
}

/// A name without what does not matter in it; `None` if it leaves the archive.
pub(super) fn clean(name: &str) -> Option<String> {
    let mut parts: Vec<&str> = Vec::new();
    for part in name.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            part => parts.push(part),
        }
    }
    (!parts.is_empty()).then(|| parts.join("/"))
}
