//! Paths of an image as words name them: files, directories, and patterns of them.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;

use ocifs::tree::{Glob, Ino, Question, Symlinks, Tree, Want, fixed_part};

/// What has to be known of an image for these words: all names below them, with attributes.
pub(super) fn questions(words: &[OsString]) -> Vec<Question> {
    let question = |word: &OsString| {
        let word = word.as_bytes();
        let is_pattern = Glob::is_pattern(word);
        let path = if is_pattern { fixed_part(word) } else { word };
        // The directory of a pattern may be reached through a symlink.
        let last = if is_pattern { Symlinks::Follow } else { Symlinks::Keep };
        Question { path: path.to_vec(), last, want: Want::Attributes }
    };
    words.iter().map(question).collect()
}

/// A file that a word stands for.
pub(super) struct Selected {
    pub(super) path: Vec<u8>,
    pub(super) ino: Ino,
}

/// The files that the words stand for, in their order; symlinks are not followed.
///
/// # Errors
/// One stands for nothing, or for too much.
pub(super) fn select(tree: &Tree, words: &[OsString]) -> Result<Vec<Selected>, String> {
    let mut selected = Vec::new();
    for word in words {
        let about = |what: &dyn std::fmt::Display| format!("{}: {what}", word.display());
        let paths = tree.expand(word.as_bytes()).map_err(|e| about(&e))?;
        if paths.is_empty() {
            return Err(about(&"no file of the image matches"));
        }
        for path in paths {
            let ino = tree.resolve(&path, Symlinks::Keep).map_err(|e| about(&e))?;
            selected.push(Selected { path, ino });
        }
    }
    Ok(selected)
}
