//! Inputs that were not made by who they claim: what every reader of a foreign byte must hold to.
//!
//! A [`Target`] is a reader with valid inputs, which the tests' own writers make, and a check that
//! takes any bytes. The check panics if what is accepted does not hold together: refusing is always
//! fine. `tests/it/mutations.rs` runs the targets over mutations of their inputs; `tests/fuzz` runs
//! the same targets under libFuzzer, which looks for new paths through the code.
//!
//! Readers that are private to the crate have their own check, with the same [`mutator`].
//!
//! Test crates include this by `mod hostile;` next to `mod support;`.

// A test crate takes what it needs from here, and the compiler sees the rest as unused.
#![allow(dead_code)]

pub mod bolt;
pub mod deflate;
pub mod documents;
pub mod layer;
pub mod layer_index;
pub mod mutator;
pub mod names;
pub mod packages;
pub mod streams;
pub mod tar;
pub mod toc;
pub mod tree;
pub mod ztoc;

/// What became of an input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It was read, and what was read holds together.
    Accepted,
    /// There was an error.
    Refused,
}

impl<T, E> From<&Result<T, E>> for Verdict {
    fn from(result: &Result<T, E>) -> Verdict {
        match result {
            Ok(_) => Verdict::Accepted,
            Err(_) => Verdict::Refused,
        }
    }
}

/// A reader of bytes that others made.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name, as a test and as a corpus.
    pub name: &'static str,
    /// Inputs that it accepts.
    pub valid: fn() -> Vec<Vec<u8>>,
    /// Reads an input; panics if what was accepted does not hold together.
    pub check: fn(&[u8]) -> Verdict,
    /// The most memory that reading an input may take at once, in bytes.
    pub most_memory: usize,
}

/// Memory for readers that make nothing large of small inputs.
const SMALL: usize = 16 << 20;

/// All of them.
pub const TARGETS: [Target; 30] = [
    tar::TAR,
    tar::TAR_WITH_CHECKSUMS,
    tar::PAX,
    streams::GZIP,
    streams::INFLATE,
    deflate::DEFLATE,
    streams::ZSTD,
    layer_index::RAW,
    layer_index::SEALED,
    toc::JSON,
    toc::BLOB,
    ztoc::ZTOC,
    bolt::RAW,
    bolt::SEALED,
    packages::SQLITE,
    packages::WAL,
    packages::HEADER,
    packages::NDB,
    packages::BDB,
    packages::DPKG,
    packages::APK,
    packages::PYTHON,
    documents::MANIFEST,
    documents::CONFIG,
    documents::SOCI_INDEX,
    documents::ARTIFACT,
    documents::ARTIFACT_HEAD,
    names::REFERENCE,
    names::PLATFORM,
    names::CHALLENGE,
];

/// The target of this name.
pub fn target(name: &str) -> &'static Target {
    static ALL: [Target; TARGETS.len()] = TARGETS;
    ALL.iter().find(|target| target.name == name).unwrap_or_else(|| panic!("no target `{name}`"))
}
