//! Paths on the command line.

use std::ffi::OsString;

use clap::builder::{OsStringValueParser, TypedValueParser};

/// A path, which says something: what a shell makes of a variable that is not set would otherwise be the image's root, and
/// all of it be copied.
pub(super) fn path() -> impl TypedValueParser<Value = OsString> {
    OsStringValueParser::new().try_map(|path| match path.is_empty() {
        true => Err("it is empty; `/` is the root of the image"),
        false => Ok(path),
    })
}
