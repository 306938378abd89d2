//! What package managers have installed in an image, read from their databases.
//!
//! # Problem
//!
//! "What changed between these two images?" is first of all a question about packages, and the answer lies in
//! a few files of the tree. The programs that own these files can't be run: they may not be on this machine,
//! must not be taken from the image, and want a directory that they may write to. So the files are read here.
//! They were written by strangers; the digests of the layers say that the bytes are the image's, not that they
//! make sense.
//!
//! # What is read
//!
//! | manager | files | a package is |
//! |---|---|---|
//! | dpkg | `var/lib/dpkg/status` with `updates/*`, `var/lib/dpkg/status.d/*` (distroless) | a stanza whose status is not `not-installed` or `config-files` |
//! | apk | `lib/apk/db/installed`, `usr/lib/apk/db/installed` | a block with `P:` and `V:` |
//! | rpm | `rpmdb.sqlite`, `Packages.db` (ndb) or `Packages` (Berkeley DB) in `var/lib/rpm`, `usr/lib/sysimage/rpm` or `usr/share/rpm` | a header; its version is `[EPOCH:]VERSION-RELEASE` without an epoch of 0 |
//! | Python | names of `*.dist-info` and `*.egg-info` in every `site-packages` and `dist-packages` | one that has `METADATA` or `PKG-INFO`; its name as PEP 503 writes it |
//!
//! Symlinks are followed as they lead inside the image, so a directory that has two names is read once. A
//! Python distribution that Debian packages is one of dpkg and one of Python, as `dpkg -l` and `pip list` have it.
//!
//! # Few bytes
//!
//! Files are read in blocks, as far as they are wanted: of an rpm header the first pages, of a Python
//! distribution nothing as long as its directory is named `NAME-VERSION`, as every installer of this decade
//! names it. What pip and uv install bears the name that is in `METADATA`; reading tens of thousands of such
//! files for the same answer would fetch most layers of the image.
//!
//! # Whole or not at all
//!
//! A database that can't be read to its end tells nothing: half a list would show the other half as removed.
//! It becomes a [`Problem`], and [`compare()`] leaves its manager out. Only what stands alone, a file of
//! `status.d` or a Python distribution, is missing alone.
//!
//! # Invariants
//!
//! - No byte of a database makes the readers loop, panic or take more memory than the constants of this module
//!   allow: sizes, packages, lengths of names and steps are limited.
//! - Not being able to reach the bytes is no property of the image, so [`read()`] fails then.

pub mod apk;
mod budget;
mod compare;
pub mod dpkg;
mod error;
mod image_file;
mod inventory;
mod limits;
mod numbers;
mod prefix;
pub mod python;
mod read;
pub mod rpm;
pub mod sqlite;

pub use compare::{Change, Side, compare};
pub use error::Error;
pub use image_file::{Bytes, MAX_DATABASE_BYTES};
pub use inventory::{Entry, Inventory, Manager, Missing, Package, Problem};
pub use limits::{MAX_FIELD_BYTES, MAX_PACKAGES};
pub use prefix::{MAX_PREFIX_BYTES, Prefix};
pub use read::read;
