//! What differs between two images, without reading files.
//!
//! # Problem
//!
//! Tools that compare images pull both, unpack both and read everything twice. What is wanted mostly is a list of
//! a few hundred paths out of tens of thousands.
//!
//! # Design
//!
//! The layer indexes of both images have the attributes of each file and the digest of its content, so the two
//! merged trees are compared as they are ([`tree::compare`]). A layer that both images have is one index, in
//! which the same entry is the same file. Bytes are read where a digest is missing (some tables of contents have
//! none) or where two digests are of different forms; how many is told.
//!
//! **Renames.** A regular file that is gone and one that is new are one file that was moved if they hold the same.
//! Of several candidates the one with the same last name counts, then the first by path; each is used
//! once. Empty files are not looked at, as all of them are equal.
//!
//! # What the answer is worth
//!
//! A digest that was computed here is that of the bytes. One that a table of contents or an index of others
//! claims is as true as its author: [`Proof`](crate::index::Proof) says which images have such layers, and proving them first makes
//! the answer certain.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::Error;
use super::layered::LayeredImage;
use crate::digest::{ContentDigest, DiffId};
use crate::fs::{self, File};
use crate::resolve::{ResolvedImage, ResolvedLayer};
use crate::tree::{self, Aspects, Difference, FileKind, Ino};

/// Bytes that are read of two files at a time to compare them.
const CHUNK_BYTES: usize = 1 << 20;

/// The differences of two images.
#[derive(Debug)]
pub struct Diff {
    /// What differs, by path; a renamed file stands at its new path.
    pub changes: Vec<FileChange>,
    /// Bytes of each image that had to be read because digests were missing.
    pub bytes_read: u64,
}

/// A path that differs.
#[derive(Clone, Debug)]
pub struct FileChange {
    /// The path, without a slash before it; empty for the root. Of a file that was renamed, the new one.
    pub path: Vec<u8>,
    /// Where the old image has it, if it has another path there.
    pub renamed_from: Option<Vec<u8>>,
    /// The inode in the old image.
    pub old: Option<Ino>,
    /// The inode in the new image.
    pub new: Option<Ino>,
    /// In what the two differ, if both images have it.
    pub aspects: Aspects,
}

/// What two images have of layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LayerCounts {
    /// In both.
    pub common: usize,
    /// In the old image alone.
    pub old: usize,
    /// In the new image alone.
    pub new: usize,
}

/// Compares two images.
///
/// # Errors
/// Content can't be read that has to be.
pub fn diff(old: &LayeredImage, new: &LayeredImage) -> Result<Diff, Error> {
    let mut bytes_read = 0;
    let mut same_content = |was: Ino, is: Ino| -> Result<bool, Error> {
        match is_known_same(old, new, was, is) {
            Some(is_same) => Ok(is_same),
            None => read_same(old, new, was, is, &mut bytes_read),
        }
    };
    let (was, is) = (old.filesystem().tree(), new.filesystem().tree());
    let differences = tree::compare(was, is, &mut same_content)?;
    let changes = with_renames(old, new, differences);
    Ok(Diff { changes, bytes_read })
}

/// How many layers two images have in common, by diff ID. A layer that stands in one several times counts as often.
pub fn common_layers(old: &ResolvedImage, new: &ResolvedImage) -> LayerCounts {
    let diff_ids = |image: &ResolvedImage| -> Vec<DiffId> {
        image.layers.iter().map(ResolvedLayer::content_id).collect()
    };
    let (of_old, of_new) = (diff_ids(old), diff_ids(new));
    let mut left: HashMap<DiffId, usize> = HashMap::new();
    of_old.iter().for_each(|diff_id| *left.entry(*diff_id).or_default() += 1);
    let mut is_common = |diff_id: &&DiffId| match left.get_mut(diff_id) {
        Some(left @ 1..) => {
            *left -= 1;
            true
        }
        _ => false,
    };
    let common = of_new.iter().filter(&mut is_common).count();
    LayerCounts { common, old: of_old.len() - common, new: of_new.len() - common }
}

/// Whether two files of one size hold the same, as far as their layer indexes tell.
fn is_known_same(old: &LayeredImage, new: &LayeredImage, was: Ino, is: Ino) -> Option<bool> {
    let ((of_old, was_entry), (of_new, is_entry)) = (old.entry(was)?, new.entry(is)?);
    if Arc::ptr_eq(of_old, of_new) && was_entry == is_entry {
        return Some(true);
    }
    let (was, is) = (old.content_digest(was)?, new.content_digest(is)?);
    match was == is {
        true => Some(true),
        false => was.contradicts(&is).then_some(false),
    }
}

/// Whether two files of one size hold the same, read from front to back.
fn read_same(
    old: &LayeredImage,
    new: &LayeredImage,
    was: Ino,
    is: Ino,
    bytes_read: &mut u64,
) -> Result<bool, Error> {
    let files = (old.filesystem().file(was)?, new.filesystem().file(is)?);
    let (mut old_bytes, mut new_bytes) = (Vec::new(), Vec::new());
    let mut offset = 0;
    loop {
        let deadlines = (old.filesystem().deadline(), new.filesystem().deadline());
        read_chunk(&files.0, offset, &mut old_bytes, deadlines.0)?;
        read_chunk(&files.1, offset, &mut new_bytes, deadlines.1)?;
        *bytes_read += old_bytes.len() as u64;
        if old_bytes != new_bytes {
            return Ok(false);
        }
        if old_bytes.is_empty() {
            return Ok(true);
        }
        offset += old_bytes.len() as u64;
    }
}

fn read_chunk(
    file: &File<'_>,
    offset: u64,
    buf: &mut Vec<u8>,
    give_up: std::time::Instant,
) -> Result<(), fs::Error> {
    buf.resize(file.readable(offset, CHUNK_BYTES), 0);
    file.read(offset, buf, give_up)
}

/// What holds the same: size and digest.
type ContentKey = (u64, ContentDigest);

fn content_key(image: &LayeredImage, ino: Ino) -> Option<ContentKey> {
    let attributes = image.filesystem().tree().attributes(ino);
    let is_file = attributes.kind == FileKind::Regular && attributes.size > 0;
    Some((attributes.size, image.content_digest(ino).filter(|_| is_file)?))
}

/// Takes files that are gone and files that are new together where they are one that was moved.
fn with_renames(
    old: &LayeredImage,
    new: &LayeredImage,
    differences: Vec<Difference>,
) -> Vec<FileChange> {
    let sources = sources(old, new, &differences);
    let mut is_source = vec![false; differences.len()];
    sources.iter().flatten().for_each(|source| is_source[*source] = true);
    let change = |(at, difference): (usize, &Difference)| {
        let Difference { path, old: was, new: is, aspects } = difference.clone();
        let source = sources[at].map(|source| &differences[source]);
        let was = source.map_or(was, |source| source.old);
        let aspects = match (source.and(was), is) {
            (Some(was), Some(is)) => {
                let (old, new) = (old.filesystem().tree(), new.filesystem().tree());
                tree::aspects_of_moved(old, new, was, is)
            }
            _ => aspects,
        };
        let renamed_from = source.map(|source| source.path.clone());
        FileChange { path, renamed_from, old: was, new: is, aspects }
    };
    let kept = differences.iter().enumerate().filter(|(at, _)| !is_source[*at]);
    kept.map(change).collect()
}

/// For each difference, where the one is that it was moved from.
fn sources(
    old: &LayeredImage,
    new: &LayeredImage,
    differences: &[Difference],
) -> Vec<Option<usize>> {
    let mut gone: Vec<(usize, ContentKey)> = Vec::new();
    let mut added: Vec<(usize, ContentKey)> = Vec::new();
    for (at, Difference { old: was, new: is, .. }) in differences.iter().enumerate() {
        match (was, is) {
            (Some(was), None) => gone.extend(content_key(old, *was).map(|key| (at, key))),
            (None, Some(is)) => added.extend(content_key(new, *is).map(|key| (at, key))),
            _ => {}
        }
    }
    let mut sources = vec![None; differences.len()];
    let name = |at: usize| last_name(&differences[at].path);
    // Those that kept their last name find each other first; the first by path is taken from the end.
    let mut by_name: HashMap<(ContentKey, &[u8]), Vec<usize>> = HashMap::new();
    for (at, key) in gone.iter().rev() {
        by_name.entry((*key, name(*at))).or_default().push(*at);
    }
    for (at, key) in &added {
        sources[*at] = by_name.get_mut(&(*key, name(*at))).and_then(Vec::pop);
    }
    let used: HashSet<usize> = sources.iter().flatten().copied().collect();
    let mut others: HashMap<ContentKey, Vec<usize>> = HashMap::new();
    for (at, key) in gone.iter().rev().filter(|(at, _)| !used.contains(at)) {
        others.entry(*key).or_default().push(*at);
    }
    for (at, key) in &added {
        if sources[*at].is_none() {
            sources[*at] = others.get_mut(key).and_then(Vec::pop);
        }
    }
    sources
}

fn last_name(path: &[u8]) -> &[u8] {
    path.rsplit(|byte| *byte == b'/').next().unwrap_or_default()
}
