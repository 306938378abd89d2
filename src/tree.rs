//! The merged view of one image: names and attributes, no bytes.
//!
//! # Problem
//!
//! An image is a stack of layers, each a tar with whiteouts; what a user wants is the directory
//! that results when they are unpacked one over the other. That has to be right in every corner
//! that engines agree on ([`merge()`]), and then answer millions of lookups without a lock.
//!
//! # Design
//!
//! Merging builds a linked structure, which is then flattened into arrays and thrown away. An
//! [`Ino`] is a position in the array of inodes, so it is the same on every mount of the same
//! image and nothing has to be remembered or forgotten for the kernel. Inodes stand in
//! the order in which the layers bring them, base first and in the order of each tar, and a
//! directory lists its children in this order: `grep -r` and `tar` read directories as they are listed,
//! and so every layer from front to back. (`grep -r` sorts those of more than 10,000 names by the number shown.) A second
//! table holds each directory's children by name, for lookup by binary search. The numbers that are shown
//! are others, made from contents (`numbers`).
//!
//! A merge can say where each inode comes from ([`Origins`]), and what became of every name that any layer
//! made ([`Provenance`]). Before all of that is known, there is a glimpse of the directories that are looked at ([`Survey`]).
//!
//! Several trees can be joined into one with a directory for each ([`join()`]). What the upper layers
//! of an image decide without those below is a tree too, for a few questions ([`merge_upper`]).
//!
//! # Invariants
//!
//! - The tree is immutable and owns all it needs: layer indexes can be dropped after the merge.
//! - About 120 bytes an inode; no allocation of its own for any node.
//! - Every inode number handed out by the tree is valid for every accessor.

mod checksum;
mod common;
mod compare;
mod error;
mod expand;
pub mod find;
mod fingerprints;
mod flat;
mod glimpse;
mod glob;
mod inode;
mod join;
mod mark;
mod merge;
mod numbers;
mod origins;
mod path;
mod places;
mod provenance;
mod readable;
mod table;
mod upper;
mod usage;
mod walk;
mod witness;

pub use common::common;
pub use compare::{Aspects, Difference, aspects_of_moved, compare};
pub use error::Error;
pub use expand::{TooManyPaths, fixed_part};
pub use glimpse::{Glimpse, GlimpseError, Survey};
pub use glob::Glob;
pub use inode::{Attributes, BLOCK_BYTES, Content, DirEntry, FileKind, Ino};
pub use join::{Part, Sharing, join};
pub use mark::Mark;
pub use merge::{
    Merged, layer_alone, merge, merge_with_origins, merge_with_provenance, provenance,
};
pub use numbers::Shown;
pub use origins::Origins;
pub use path::{PathError, Symlinks, plain_names};
pub use places::{AsOf, Facts, Place, PlaceWalk, Places, SideBySide};
pub use provenance::{Change, Changes, End, Origin, Provenance, Version};
pub use table::Tree;
pub use upper::{Question, Want, merge_upper};
pub use usage::{Usage, UsageCount, UsageRow};
pub use walk::{FilesAfter, Order, Walk};
pub use witness::Cause;
