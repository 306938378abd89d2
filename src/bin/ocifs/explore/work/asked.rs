//! What is asked of threads, and what they answer.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use ocifs::image::Wasted;
use ocifs::tree::{Changes, Place};

use super::seek::Sought;
use crate::explore::listing::{Kept, Listed, Sums, Wanted};
use crate::explore::subject::{LayerRow, Subject, View};
use crate::render::errors::AnyError;

/// Bytes of a file that are read at a time for people.
pub(in crate::explore) const READ_BYTES: usize = 64 << 10;

/// Kinds of work of which the newest alone counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::explore) enum Kind {
    Read,
    List,
    Keep,
    Sums,
    Find,
    Grep,
    Seek,
}

/// The newest of each kind.
#[derive(Debug, Default)]
pub(in crate::explore) struct Generations([AtomicU64; 7]);

impl Generations {
    /// Makes what was asked for before out of date; the number of what is asked for next.
    pub(in crate::explore) fn next(&self, kind: Kind) -> u64 {
        self.0[kind as usize].fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Whether nothing newer was asked for.
    pub(in crate::explore) fn is_newest(&self, kind: Kind, generation: u64) -> bool {
        self.0[kind as usize].load(Ordering::Relaxed) == generation
    }
}

/// Which names are shown: those of the layer alone, those that a filter lets through, or both.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(in crate::explore) struct Keep {
    pub(in crate::explore) alone: bool,
    pub(in crate::explore) filter: Option<Filter>,
}

/// A filter of names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(in crate::explore) enum Filter {
    Changed,
    Removed,
    Large,
    Setuid,
}

/// What is to be done.
#[derive(Clone, Debug)]
pub(in crate::explore) enum Request {
    /// Read what follows in a file, or how it differs between two images.
    Read { generation: u64, view: View, place: Place, offset: u64 },
    /// Make the rows of the tree.
    List { generation: u64, wanted: Wanted },
    /// Find out what is shown.
    Keep { generation: u64, view: View, keep: Keep },
    /// Count what directories hold.
    Sums { generation: u64, view: View },
    /// Find names.
    Find { generation: u64, view: View, needle: String, kept: Option<Kept> },
    /// Find what is in files.
    Grep { generation: u64, view: View, needle: String, kept: Option<Kept> },
    /// Find a line of a file.
    Seek { generation: u64, view: View, place: Place, sought: Sought },
    /// Write a file to this machine.
    Save { view: View, place: Place, to: PathBuf },
    /// Count what layers changed, and what is for nothing.
    Count { view: View },
}

/// A line of a file in which something was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::explore) struct Hit {
    pub(in crate::explore) path: Vec<u8>,
    /// From 1 on.
    pub(in crate::explore) line: u64,
    /// The line, or its part around what was found, for people.
    pub(in crate::explore) text: String,
}

/// How far a search is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::explore) struct Searched {
    pub(in crate::explore) files: u64,
    pub(in crate::explore) of_files: u64,
    pub(in crate::explore) bytes: u64,
    pub(in crate::explore) of_bytes: u64,
    /// Files that could not be read.
    pub(in crate::explore) failed: u64,
    pub(in crate::explore) is_over: bool,
}

/// What was read of a file.
#[derive(Clone, Debug)]
pub(in crate::explore) enum Content {
    /// Bytes from the offset that was asked for.
    Bytes(Vec<u8>),
    /// How it differs.
    Patch(Patch),
}

/// Lines of a patch, each with its sign.
pub(in crate::explore) type Patch = Vec<(char, Vec<u8>)>;

/// What work tells.
#[derive(Debug)]
pub(in crate::explore) enum Answer {
    Rows(Vec<LayerRow>),
    /// What is known until it is open.
    Glimpse(Arc<Subject>),
    Opened(Result<Arc<Subject>, AnyError>),
    Read {
        generation: u64,
        offset: u64,
        content: Result<Content, String>,
    },
    Listed {
        generation: u64,
        listed: Listed,
    },
    Kept {
        generation: u64,
        keep: Keep,
        layer: usize,
        kept: Kept,
    },
    Sums {
        generation: u64,
        layer: usize,
        sums: Sums,
    },
    Found {
        generation: u64,
        paths: Vec<Vec<u8>>,
        is_cut: bool,
    },
    Hit {
        generation: u64,
        hit: Hit,
    },
    Searched {
        generation: u64,
        searched: Searched,
    },
    /// Where a line begins that was found.
    Sought {
        generation: u64,
        found: Result<Option<u64>, String>,
    },
    Saved(Result<String, String>),
    Counted {
        changes: Vec<Changes>,
        wasted: Wasted,
    },
    /// The work ended by a defect of this program.
    Defect(String),
}
