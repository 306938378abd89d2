//! Tests of the library and the program against models, oracles and real servers.
//!
//! One binary, so that it is linked once. Modules by what they hold the code to:
//! `model` a second implementation of image semantics, `hostile` mutations of valid input for every
//! reader of foreign bytes.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

#[path = "../hostile/mod.rs"]
mod hostile;
#[path = "../model/mod.rs"]
mod model;
#[path = "../support/mod.rs"]
mod support;

mod alone;
mod architecture;
mod compare;
mod deep_paths;
mod deflate;
mod digests;
mod docs;
mod erofs;
mod format;
mod glimpse;
mod headers;
mod join;
mod layers;
mod man_pages;
mod memory;
mod mutations;
mod numbers;
mod packages;
mod places;
mod prefixes;
mod provenance;
mod random_stacks;
mod regressions;
mod room;
mod snapshots;
mod space;
mod tables;
mod toc;
mod traversal;
mod upper;
mod window;
mod ztoc;
