//! JSON as Go's `encoding/json` reads it.
//!
//! # Problem
//!
//! Nearly every engine, builder and registry is written in Go, so the documents that exist are
//! those that its JSON library accepts: keys in any case (old Jib writes `config` for `Config`),
//! keys given twice, `null` for an empty list or map, half of a surrogate pair, text that is not
//! UTF-8, numbers and depths beyond any limit in fields that a reader does not use. `serde_json`
//! refuses most of these.
//!
//! # Design
//!
//! [`from_slice`] checks the syntax of the whole text once, without recursion. After that the text
//! itself is the tree: a value is a slice of it, and a `serde` deserializer walks these slices.
//! Only fields that the target type has are looked at, so that a document never takes more memory
//! than what is wanted of it; an error inside a field stays inside ([`or_default`], [`Attempt`]).
//! Building a tree of values first would take thirty times the size of a document of `0,0,0,…`.
//!
//! # What it does as Go does
//!
//! - A key of a struct names the field of that spelling, or else the one that is equal but for case;
//!   the last of several wins. Keys of maps are what they are.
//! - `null` is an empty text, list or map, and a missing option.
//! - Bytes that are not UTF-8 and lone surrogates become U+FFFD.
//! - At most 10,000 levels of nesting (here 128 of what is read and not passed over), no control
//!   characters in text, no trailing commas.
//!
//! - [`first_value`] leaves alone what follows a value, as Go's `Decoder` does, with which engines
//!   read the answers of token servers and credential helpers and files of logins.
//!
//! It differs where that helps and can't mislead: a number or boolean where text is wanted is its
//! own text, unless the type is [`Text`]. And where two readers could see two things, because a field
//! that decides is there in two spellings with different values, [`from_slice_decisive`] refuses.
//!
//! # Secrets
//!
//! The message of an [`Error`] may quote the text. Where that may hold a secret, only
//! [`Error::place`] and [`Error::is_syntax`] are for messages.

mod error;
mod raw;
mod scanner;

use std::fmt;
use std::ops::Range;

use serde::de::{DeserializeOwned, Visitor};
use serde::{Deserialize, Deserializer};

use self::error::Wrong;
pub use self::error::{Error, Position};
use self::raw::Raw;
use self::scanner::Scanner;

/// Reads one value.
///
/// # Errors
/// The text is not JSON, or holds a value of another kind.
pub fn from_slice<T: DeserializeOwned>(text: &[u8]) -> Result<T, Error> {
    from_slice_decisive(text, &[])
}

/// Reads one value in which the fields `decisive`, wherever they are, must not have two meanings:
/// readers that tell keys of different case apart would see one, and those that do not the other.
///
/// # Errors
/// The text is not JSON, holds a value of another kind, or such a field is there in two spellings
/// with different values.
pub fn from_slice_decisive<T: DeserializeOwned>(
    text: &[u8],
    decisive: &'static [&'static str],
) -> Result<T, Error> {
    let mut scanner = Scanner { text, at: 0 };
    let place = scanner.check_value().and_then(|place| match scanner.next_token() {
        None => Ok(place),
        Some(_) => Err(scanner.unexpected()),
    });
    read(text, place, decisive)
}

/// Reads the value at the beginning of a text, whatever follows it. A byte order mark, which editors
/// put into files, is passed over.
///
/// # Errors
/// There is no value, or one of another kind.
pub fn first_value<T: DeserializeOwned>(text: &[u8]) -> Result<T, Error> {
    let text = without_bom(text);
    read(text, Scanner { text, at: 0 }.check_value(), &[])
}

/// A text without the byte order mark that it may begin with. Go takes it for a mistake in the syntax,
/// but some readers of files remove it before.
pub fn without_bom(text: &[u8]) -> &[u8] {
    text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text)
}

/// Reads the value at a place of a text, where its syntax has been checked.
fn read<T: DeserializeOwned>(
    text: &[u8],
    place: Result<Range<usize>, Wrong>,
    decisive: &'static [&'static str],
) -> Result<T, Error> {
    let Range { start, end } = place.map_err(|wrong| Error::new(text, wrong, true))?;
    let value = Raw { text: &text[start..end], start, decisive, depth: 0 };
    T::deserialize(value).map_err(|wrong| Error::new(text, wrong.within(start), false))
}

/// For fields that decide nothing: a value of another kind counts as none. Of use with
/// [`from_slice`] alone; a deserializer of a stream can't go on after an error.
///
/// # Errors
/// None.
pub fn or_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(T::deserialize(deserializer).unwrap_or_default())
}

/// A value, or why it is none, for the reader to decide later. As with [`or_default`], of use with
/// [`from_slice`] alone.
#[derive(Clone, Debug)]
pub struct Attempt<T>(pub Result<T, String>);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Attempt<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Attempt<T>, D::Error> {
        Ok(Attempt(T::deserialize(deserializer).map_err(|e| e.to_string())))
    }
}

/// A text, and an empty one for `null`. A number or boolean is none: for logins, and for what must not
/// be mistaken. Its `Debug` hides it, as it may be a secret.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Text(pub String);

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Text(hidden)")
    }
}

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Text, D::Error> {
        struct TextVisitor;

        impl Visitor<'_> for TextVisitor {
            type Value = Text;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text")
            }

            fn visit_unit<E>(self) -> Result<Text, E> {
                Ok(Text::default())
            }

            fn visit_str<E>(self, text: &str) -> Result<Text, E> {
                Ok(Text(text.to_owned()))
            }

            fn visit_string<E>(self, text: String) -> Result<Text, E> {
                Ok(Text(text))
            }
        }

        deserializer.deserialize_any(TextVisitor)
    }
}

#[cfg(test)]
mod tests;
