//! An image as of each of its layers, before all of it is known: only some of its directories are listed, and layers may
//! be missing.
//!
//! # Problem
//!
//! What became of each name of a million is known after seconds and with hundreds of megabytes. What a user sees first are
//! the names of one directory.
//!
//! # Design
//!
//! The same merge, of fewer entries. What a path leads to depends on the names in it alone: those of directories, and those
//! in the targets of symlinks and hard links, which [`IndexFile::open`] collects of all layers. An entry with any
//! other name is one that no path leads through. It may come, change and go without a consequence for any other name, and
//! can be left out.
//!
//! What is left out would have made its directory, if nothing else had, and has shown where the directory's path leads. So the first
//! entry of each *run* is taken, too: entries of one directory, one behind the other, with none between them that a path may lead
//! through. Where this one has come to be, all of its run would have. With the runs whose first entry is in a directory that is listed, the
//! names there are complete in a second merge, with all that became of them.
//!
//! Rejected: rules of its own for merging one directory over sorted tables of each layer. There are many rules (symlinked
//! parents, links, what replaces what), and each would have to be right twice.
//!
//! # Invariants
//!
//! - Of a directory that is listed, rows are those of the whole [`Provenance`], as far as the layers are known.
//! - What is taken draws on a budget; a caller goes without a glimpse where that is not enough.

use std::collections::HashSet;
use std::sync::Arc;

use super::error::Error;
use super::inode::NONE;
use super::merge::provenance_of_known;
use super::provenance::Provenance;
use crate::index::{Budget, DecodeError, Drawn, Entry, IndexFile, LayerIndex, NameSet, ROOT_DIR};

/// What is known of an image's layers.
#[derive(Debug, Default)]
pub struct Survey {
    /// Names that paths lead through in any of them.
    pub names: NameSet,
    /// Their indexes.
    pub files: Vec<IndexFile>,
    /// The index of each layer, base first: its place among the files.
    pub layers: Vec<Option<usize>>,
}

/// An image as of each of its layers, as far as it is known.
#[derive(Debug)]
pub struct Glimpse {
    /// The layers, base first, with the entries that were taken; of a layer that is not known, nothing.
    pub indexes: Vec<Arc<LayerIndex>>,
    /// What became of the names that were taken.
    pub provenance: Provenance,
}

/// Why there is no glimpse. All of the image is to be read, and tells more.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the messages are the documentation")]
pub enum GlimpseError {
    #[error(transparent)]
    Tree(#[from] Error),
    #[error(transparent)]
    File(#[from] DecodeError),
}

/// What an entry is for a glimpse.
enum Part {
    /// A path may lead through its name.
    OfPaths,
    /// The first of a run.
    First,
    /// In the same directory as the one before it.
    Follows,
}

/// Tells which part each entry of a layer is, in their order.
struct Parts<'a> {
    names: &'a NameSet,
    /// The directory of the run.
    dir: Option<u32>,
}

impl Parts<'_> {
    fn next(&mut self, entry: &Entry<'_>) -> Part {
        if entry.name.is_empty() || self.names.may_have(entry.name) {
            self.dir = None;
            return Part::OfPaths;
        }
        // What is hidden has no place in a directory, and makes none.
        if entry.hidden || self.dir == Some(entry.dir) {
            return Part::Follows;
        }
        self.dir = Some(entry.dir);
        Part::First
    }
}

/// The first entry of a run.
struct Run {
    /// Its place among the entries that were taken first.
    first: u32,
    /// Whether some of the run were left out then.
    is_cut: bool,
}

impl Survey {
    /// Lists the root and those directories that have one of these paths.
    ///
    /// # Errors
    /// What unpacking the layers would fail with; a file can't be read again; or what is to be taken is too much.
    pub fn glimpse(
        mut self,
        opened: &[Vec<u8>],
        budget: &Arc<Budget>,
    ) -> Result<Glimpse, GlimpseError> {
        let Survey { names, files, layers } = &mut self;
        let mut drawn = Drawn::new(Arc::clone(budget));
        let mut runs = Vec::new();
        for file in &mut *files {
            runs.push(take_paths(file, names)?);
            drawn.more(file.index().metadata_bytes()).map_err(Error::from)?;
        }
        let nothing = LayerIndex::nothing();
        let merged = |files: &[IndexFile]| -> Result<Provenance, Error> {
            let of = |layer: &Option<usize>| layer.map_or(&nothing, |at| files[at].index());
            let layers: Vec<&LayerIndex> = layers.iter().map(of).collect();
            provenance_of_known(&layers, budget)
        };
        let mut provenance = merged(files)?;
        let wanted = wanted_runs(&provenance, opened, files, layers, &runs);
        if wanted.iter().flatten().any(|is_wanted| *is_wanted) {
            for (file, wanted) in files.iter_mut().zip(&wanted) {
                let before = file.index().metadata_bytes();
                take_runs(file, names, wanted)?;
                let more = file.index().metadata_bytes().saturating_sub(before);
                drawn.more(more).map_err(Error::from)?;
            }
            provenance = merged(files)?;
        }
        let files: Vec<Arc<LayerIndex>> =
            self.files.into_iter().map(|file| Arc::new(file.into_index())).collect();
        let nothing = Arc::new(nothing);
        let of = |layer: &Option<usize>| layer.map_or(&nothing, |at| &files[at]);
        let indexes = self.layers.iter().map(|layer| Arc::clone(of(layer))).collect();
        drawn.keep();
        Ok(Glimpse { indexes, provenance })
    }
}

/// Takes what decides where paths lead, and the root's entries.
fn take_paths(file: &mut IndexFile, names: &NameSet) -> Result<Vec<Run>, DecodeError> {
    let (mut parts, mut runs, mut taken) = (Parts { names, dir: None }, Vec::new(), 0);
    file.select(&mut |entry| {
        let is_taken = match parts.next(entry) {
            Part::OfPaths => true,
            Part::First => {
                runs.push(Run { first: taken, is_cut: false });
                true
            }
            Part::Follows if entry.dir == ROOT_DIR => true,
            Part::Follows => {
                // Something hidden may come before any run.
                if let Some(run) = runs.last_mut() {
                    run.is_cut = true;
                }
                false
            }
        };
        taken += u32::from(is_taken);
        is_taken
    })?;
    Ok(runs)
}

/// Takes the same, and all of the runs that are wanted.
fn take_runs(file: &mut IndexFile, names: &NameSet, wanted: &[bool]) -> Result<(), DecodeError> {
    let (mut parts, mut run) = (Parts { names, dir: None }, None);
    file.select(&mut |entry| match parts.next(entry) {
        Part::OfPaths => true,
        Part::First => {
            run = Some(run.map_or(0, |run| run + 1));
            true
        }
        Part::Follows => {
            entry.dir == ROOT_DIR
                || run.and_then(|run: usize| wanted.get(run)).is_some_and(|is_wanted| *is_wanted)
        }
    })
}

/// Of each file, which runs are in a directory that is listed, or may be.
fn wanted_runs(
    provenance: &Provenance,
    opened: &[Vec<u8>],
    files: &[IndexFile],
    layers: &[Option<usize>],
    runs: &[Vec<Run>],
) -> Vec<Vec<bool>> {
    let mut listed: HashSet<u32> = HashSet::new();
    listed.extend(provenance.rows_of(b""));
    listed.extend(opened.iter().flat_map(|path| provenance.rows_of(path)));
    // By layer and entry: the directory that the entry has come to be in.
    let place = |layer: &Option<usize>| match layer {
        Some(at) if runs[*at].iter().any(|run| run.is_cut) => {
            vec![NONE; files[*at].index().entries().len()]
        }
        _ => Vec::new(),
    };
    let mut places: Vec<Vec<u32>> = layers.iter().map(place).collect();
    for (source, dir) in provenance.placed() {
        let place = places.get_mut(source.layer as usize);
        // Names of the same file that come later are in places of their own.
        if let Some(place) = place.and_then(|places| places.get_mut(source.entry as usize))
            && *place == NONE
        {
            *place = dir;
        }
    }
    let mut wanted: Vec<Vec<bool>> = runs.iter().map(|runs| vec![false; runs.len()]).collect();
    for (at, places) in layers.iter().zip(&places) {
        let Some(at) = *at else { continue };
        for (run, wanted) in runs[at].iter().zip(&mut wanted[at]).filter(|(run, _)| run.is_cut) {
            // Where it is not known, the entry has made no name of its own: a link, or a directory again.
            let dir = places[run.first as usize];
            *wanted |= dir == NONE || listed.contains(&dir);
        }
    }
    wanted
}
