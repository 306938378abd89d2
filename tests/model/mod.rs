//! A second, slow and obvious implementation of image semantics, and random images to compare it
//! with the real one on.
//!
//! Test crates include this by `mod model;` next to `mod support;`, whose entries it shares.

// A test crate takes what it needs from here, and the compiler sees the rest as unused.
#![allow(dead_code)]

pub mod generators;
pub mod reference;
#[cfg(test)]
mod reference_tests;
