//! Thousands of faults at both edges of the library, the source and the cache, each in another combination.
//!
//! Tests elsewhere break one thing that somebody thought of, and know what comes of it. Here everything is broken
//! with everything: a table of all combinations ([`source_edge`], [`cache_edge`]), and sequences of them that
//! proptest makes and shrinks. What comes of a case is not known, so all of them are held to the same:
//!
//! - What is read is right, or an error. Names of an image that is open are always right.
//! - Nothing hangs: a watchdog ends the process where an operation has taken several times its deadline. (That is no
//!   measure of speed: no operation that works takes nearly as long.)
//! - With the fault gone, the same open image and the same cache give everything, without a new process.
//! - What the cache holds then is right, by its own check.
//! - In the end there are as many descriptors and threads as in the beginning.
//!
//! Each test runs in a process of its own, for these counts. By default there is a sample;
//! `OCIFS_FAULTS=10000` (`scripts/test --full`) takes so many faults that were really met, `OCIFS_TEST_SEED`
//! another sample, `OCIFS_TEST_CASE` one case of the table alone.

mod cache_edge;
mod campaign;
mod levels;
mod operations;
mod source_edge;
mod subject;

use campaign::{sequences, table};

#[test]
fn source_table() {
    levels::alone("injection::source_table", || table(&source_edge::Edge));
}

#[test]
fn source_sequences() {
    levels::alone("injection::source_sequences", || sequences(&source_edge::Edge));
}

#[test]
fn cache_table() {
    levels::alone("injection::cache_table", || table(&cache_edge::Edge));
}

#[test]
fn cache_sequences() {
    levels::alone("injection::cache_sequences", || sequences(&cache_edge::Edge));
}
