//! Files of this machine.

use std::ffi::{OsStr, OsString};
use std::path::Path;

use clap_complete::engine::{PathCompleter, ValueCompleter};

/// What can be looked at twice, and without waiting.
pub(super) fn is_file_or_folder(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|at| at.is_file() || at.is_dir())
}

/// Those whose paths begin as what is typed.
pub(super) fn paths(typed: &str, completer: PathCompleter) -> Vec<String> {
    let found = completer.complete(OsStr::new(typed)).into_iter();
    found.filter_map(|found| OsString::from(found.get_value()).into_string().ok()).collect()
}
