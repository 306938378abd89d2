//! The transports: every word before a colon that says where on this machine an image is.
//!
//! Problem: the grammar, the list in the error about an unknown transport, the correction of misspelt
//! ones, `--help` and the documentation all say which transports there are, and must agree.
//!
//! Design: one table, [`TRANSPORTS`], in the order in which it is shown: the forms of files, which stand here, and
//! the stores of other programs, each of which is a row beside its parser in `stored`. The documentation's table is held against this one by a test. Not a trait
//! with registration at run time: the set is known when the program is built.
//!
//! Invariant: what a row parses is shown with the word of the row again.

use super::error::ParseError;
use super::local::{LocalLayout, LocalSource};
use super::stored::{STORES, Store, StoredImage};

/// A word before a colon, and what stands behind it.
#[derive(Clone, Copy, Debug)]
pub struct Transport {
    /// The word.
    pub word: &'static str,
    /// How a name is written, with the word.
    pub form: &'static str,
    grammar: Grammar,
}

#[derive(Clone, Copy, Debug)]
enum Grammar {
    Local(LocalLayout),
    /// Nothing for what is not of the form.
    Stored(fn(&str) -> Result<Option<StoredImage>, ParseError>),
}

/// What a transport's name says.
pub(super) enum Place {
    Local(LocalSource),
    Stored(StoredImage),
}

const fn local(word: &'static str, form: &'static str, layout: LocalLayout) -> Transport {
    Transport { word, form, grammar: Grammar::Local(layout) }
}

/// Files and folders of images.
const FILES: [Transport; 4] = [
    local("oci", "oci:DIR[:REF]", LocalLayout::OciLayout),
    local("oci-archive", "oci-archive:FILE[:REF]", LocalLayout::OciArchive),
    local("docker-archive", "docker-archive:PATH[:REF]", LocalLayout::DockerArchive),
    local("dir", "dir:DIR", LocalLayout::Dir),
];

/// All transports.
pub const TRANSPORTS: [Transport; FILES.len() + STORES.len()] = {
    let mut all = [FILES[0]; FILES.len() + STORES.len()];
    let mut at = 0;
    while at < all.len() {
        all[at] = match at.checked_sub(FILES.len()) {
            Some(at) => {
                let Store { word, form, parse } = STORES[at];
                Transport { word, form, grammar: Grammar::Stored(parse) }
            }
            None => FILES[at],
        };
        at += 1;
    }
    all
};

impl Transport {
    /// The transport of a word.
    pub(super) fn named(word: &str) -> Option<Transport> {
        TRANSPORTS.into_iter().find(|transport| transport.word == word)
    }

    /// Parses what stands behind the colon.
    pub(super) fn parse(self, rest: &str) -> Result<Place, ParseError> {
        let Transport { word, form, grammar } = self;
        match grammar {
            Grammar::Local(layout) => LocalSource::parse(layout, rest).map(Place::Local),
            Grammar::Stored(parse) => {
                let malformed = ParseError::Malformed { transport: word, form };
                parse(rest)?.map(Place::Stored).ok_or(malformed)
            }
        }
    }
}

/// The words with their colons, for the error about another one.
pub(super) fn known() -> String {
    let words = TRANSPORTS.iter().map(|transport| format!("{}:", transport.word));
    let words: Vec<String> = ["docker://".to_owned()].into_iter().chain(words).collect();
    words.join(", ")
}
