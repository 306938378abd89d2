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

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;

use serde::de::{self, DeserializeOwned, DeserializeSeed, IntoDeserializer, Unexpected, Visitor};
use serde::{Deserialize, Deserializer, forward_to_deserialize_any};

/// Levels of nesting that Go accepts.
const MAX_DEPTH: usize = 10_000;

/// Levels of nesting in what is read and not passed over: that is done recursively.
const MAX_READ_DEPTH: usize = 128;

/// Characters of a message about a value.
const MAX_MESSAGE_CHARS: usize = 300;

/// Why a text is not JSON, or not of the kind that was wanted. The message may quote the text.
#[derive(Debug, thiserror::Error)]
#[error("{what} at {place}")]
pub struct Error {
    what: String,
    place: Place,
    is_syntax: bool,
}

/// A place in a text, both from 1 on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Number of the line.
    pub line: usize,
    /// Byte of the line.
    pub column: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, column {}", self.line, self.column)
    }
}

impl Error {
    fn new(text: &[u8], wrong: Wrong, is_syntax: bool) -> Error {
        let before = text.get(..wrong.at.unwrap_or_default()).unwrap_or_default();
        let line = before.iter().filter(|b| **b == b'\n').count() + 1;
        let column = before.iter().rev().take_while(|b| **b != b'\n').count() + 1;
        Error { what: wrong.what, place: Place { line, column }, is_syntax }
    }

    /// Where the syntax is wrong, or where the value begins that is not of the kind that was wanted.
    pub fn place(&self) -> Place {
        self.place
    }

    /// Whether the text is not JSON; otherwise it is, with a value of another kind.
    pub fn is_syntax(&self) -> bool {
        self.is_syntax
    }
}

/// An error whose place is not known yet, or only in bytes: most of those inside of documents are
/// never shown, so that lines are counted for the one that is.
#[derive(Debug, thiserror::Error)]
#[error("{what}")]
struct Wrong {
    what: String,
    at: Option<usize>,
}

impl Wrong {
    /// The same in a value that begins at `start`, unless it is inside of one in that.
    fn within(mut self, start: usize) -> Wrong {
        self.at.get_or_insert(start);
        self
    }
}

impl de::Error for Wrong {
    fn custom<T: fmt::Display>(message: T) -> Wrong {
        // Messages of `serde` repeat the text that is not what was wanted.
        let mut what = message.to_string();
        if let Some((at, _)) = what.char_indices().nth(MAX_MESSAGE_CHARS) {
            what.truncate(at);
            what.push('…');
        }
        Wrong { what, at: None }
    }
}

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

/// A reader of a text.
struct Scanner<'a> {
    text: &'a [u8],
    at: usize,
}

impl<'a> Scanner<'a> {
    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    /// The next byte that is no white space, which stays.
    fn next_token(&mut self) -> Option<u8> {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
        self.peek()
    }

    /// Checks the syntax of the next value, without recursion. Returns where it is.
    fn check_value(&mut self) -> Result<Range<usize>, Wrong> {
        self.next_token();
        let begin = self.at;
        // What closes each level.
        let mut open: Vec<u8> = Vec::new();
        loop {
            match self.next_token() {
                Some(start @ (b'{' | b'[')) => {
                    if open.len() == MAX_DEPTH {
                        return Err(self.wrong(too_deep(MAX_DEPTH)));
                    }
                    let end = start + 2;
                    self.at += 1;
                    if self.next_token() == Some(end) {
                        self.at += 1;
                    } else {
                        open.push(end);
                        if end == b'}' {
                            self.check_key()?;
                        }
                        continue;
                    }
                }
                _ => self.check_scalar()?,
            }
            // A value has ended: all levels that end with it, and then the next one begins.
            loop {
                let Some(end) = open.last() else { return Ok(begin..self.at) };
                match self.next_token() {
                    Some(byte) if *end == byte => {
                        self.at += 1;
                        open.pop();
                    }
                    Some(b',') => {
                        self.at += 1;
                        if *end == b'}' {
                            self.check_key()?;
                        }
                        break;
                    }
                    _ => return Err(self.unexpected()),
                }
            }
        }
    }

    fn wrong(&self, what: String) -> Wrong {
        Wrong { what, at: Some(self.at) }
    }

    fn unexpected(&self) -> Wrong {
        self.wrong(match self.peek() {
            None => "it ends too early".to_owned(),
            Some(byte @ 0x21..=0x7e) => format!("unexpected `{}`", byte as char),
            Some(byte) => format!("unexpected byte {byte:#04x}"),
        })
    }

    fn check_key(&mut self) -> Result<(), Wrong> {
        if self.next_token() != Some(b'"') {
            return Err(self.unexpected());
        }
        self.check_string()?;
        if self.next_token() != Some(b':') {
            return Err(self.unexpected());
        }
        self.at += 1;
        Ok(())
    }

    fn check_scalar(&mut self) -> Result<(), Wrong> {
        match self.peek() {
            Some(b'"') => self.check_string(),
            Some(b'-' | b'0'..=b'9') => self.check_number(),
            Some(b't') => self.check_word(b"true"),
            Some(b'f') => self.check_word(b"false"),
            Some(b'n') => self.check_word(b"null"),
            _ => Err(self.unexpected()),
        }
    }

    fn check_word(&mut self, word: &[u8]) -> Result<(), Wrong> {
        for byte in word {
            if self.peek() != Some(*byte) {
                return Err(self.unexpected());
            }
            self.at += 1;
        }
        Ok(())
    }

    fn check_number(&mut self) -> Result<(), Wrong> {
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        match self.peek() {
            Some(b'0') => self.at += 1,
            _ => self.check_digits()?,
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.check_digits()?;
        }
        if let Some(b'e' | b'E') = self.peek() {
            self.at += 1;
            if let Some(b'+' | b'-') = self.peek() {
                self.at += 1;
            }
            self.check_digits()?;
        }
        Ok(())
    }

    fn check_digits(&mut self) -> Result<(), Wrong> {
        if !self.peek().is_some_and(|b| b.is_ascii_digit()) {
            return Err(self.unexpected());
        }
        while self.peek().is_some_and(|b| b.is_ascii_digit()) {
            self.at += 1;
        }
        Ok(())
    }

    fn check_string(&mut self) -> Result<(), Wrong> {
        self.at += 1;
        loop {
            match self.peek() {
                None | Some(..0x20) => return Err(self.unexpected()),
                Some(b'"') => break,
                Some(b'\\') => {
                    self.at += 1;
                    match self.peek() {
                        Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => {}
                        Some(b'u') => {
                            for _ in 0..4 {
                                self.at += 1;
                                if !self.peek().is_some_and(|b| b.is_ascii_hexdigit()) {
                                    return Err(self.unexpected());
                                }
                            }
                        }
                        _ => return Err(self.unexpected()),
                    }
                }
                Some(_) => {}
            }
            self.at += 1;
        }
        self.at += 1;
        Ok(())
    }

    /// Takes a value of a text that has been checked.
    fn take_value(&mut self) -> &'a [u8] {
        self.next_token();
        let start = self.at;
        let mut depth = 0_usize;
        while let Some(byte) = self.peek() {
            match byte {
                b'"' => self.pass_string(),
                b'{' | b'[' => depth += 1,
                b'}' | b']' => depth = depth.saturating_sub(1),
                b',' | b':' | b' ' | b'\t' | b'\n' | b'\r' => {}
                _ => self.pass_word(),
            }
            // On the last byte of whatever it was.
            self.at += 1;
            if depth == 0 {
                break;
            }
        }
        &self.text[start..self.at]
    }

    /// From the first quote of a text to its last.
    fn pass_string(&mut self) {
        self.at += 1;
        while let Some(byte) = self.peek() {
            match byte {
                b'"' => return,
                b'\\' => self.at += 2,
                _ => self.at += 1,
            }
        }
    }

    /// From the first byte of a number or word to its last.
    fn pass_word(&mut self) {
        let is_part = |b: &u8| b.is_ascii_alphanumeric() || b"+-.".contains(b);
        while self.text.get(self.at + 1).is_some_and(is_part) {
            self.at += 1;
        }
    }
}

/// The members of an object or list, of a text that has been checked.
#[derive(Clone)]
struct Members<'a> {
    at: usize,
    of: Raw<'a>,
}

impl<'a> Members<'a> {
    fn scanner(&self) -> Scanner<'a> {
        Scanner { text: self.of.text, at: self.at }
    }

    fn next_value(&mut self) -> Option<Raw<'a>> {
        let mut scanner = self.scanner();
        match scanner.next_token() {
            None | Some(b']' | b'}') => return None,
            Some(b',' | b':') => scanner.at += 1,
            Some(_) => {}
        }
        let text = scanner.take_value();
        self.at = scanner.at;
        let start = self.of.start + self.at - text.len();
        Some(Raw { text, start, depth: self.of.depth + 1, ..self.of })
    }

    fn next_pair(&mut self) -> Option<(Cow<'a, str>, Raw<'a>)> {
        let key = self.next_value()?;
        Some((text_of(key.text), self.next_value()?))
    }
}

/// The text of a JSON string, with its quotes.
fn text_of(quoted: &[u8]) -> Cow<'_, str> {
    let inner = quoted.get(1..quoted.len().saturating_sub(1)).unwrap_or_default();
    if !inner.contains(&b'\\') {
        return String::from_utf8_lossy(inner);
    }
    let mut text = String::with_capacity(inner.len());
    let mut rest = inner;
    while let Some(at) = rest.iter().position(|b| *b == b'\\') {
        text.push_str(&String::from_utf8_lossy(&rest[..at]));
        let escape = rest.get(at + 1).copied().unwrap_or_default();
        rest = rest.get(at + 2..).unwrap_or_default();
        let plain = match escape {
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => {
                let (found, length) = unicode_escape(rest);
                rest = rest.get(length..).unwrap_or_default();
                found
            }
            other => other as char,
        };
        text.push(plain);
    }
    text.push_str(&String::from_utf8_lossy(rest));
    Cow::Owned(text)
}

/// The character of `XXXX` or `XXXX\uXXXX`, and how many bytes it takes.
fn unicode_escape(rest: &[u8]) -> (char, usize) {
    let unit =
        |digits: Option<&[u8]>| u32::from_str_radix(std::str::from_utf8(digits?).ok()?, 16).ok();
    let first = unit(rest.get(..4)).unwrap_or_default();
    let second = match rest.get(4..6) {
        Some(b"\\u") => unit(rest.get(6..10)),
        _ => None,
    };
    match (first, second) {
        (0xd800..0xdc00, Some(low @ 0xdc00..0xe000)) => {
            let code = 0x10000 + ((first - 0xd800) << 10) + (low - 0xdc00);
            (char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER), 10)
        }
        _ => (char::from_u32(first).unwrap_or(char::REPLACEMENT_CHARACTER), 4),
    }
}

/// Whether Go takes a key for a field: equal but for case, where two characters beyond ASCII fold
/// to letters of it.
fn is_field(key: &str, field: &str) -> bool {
    let folded = |c: char| match c {
        '\u{212a}' => 'k',
        '\u{17f}' => 's',
        c => c.to_ascii_lowercase(),
    };
    key.chars().map(folded).eq(field.chars().map(folded))
}

fn too_deep(levels: usize) -> String {
    format!("it is nested more than {levels} deep")
}

/// A value in a text that has been checked.
#[derive(Clone, Copy)]
struct Raw<'a> {
    text: &'a [u8],
    /// Where it begins in the whole text.
    start: usize,
    decisive: &'static [&'static str],
    depth: usize,
}

impl<'a> Raw<'a> {
    fn first(&self) -> u8 {
        self.text.first().copied().unwrap_or_default()
    }

    fn members(self) -> Result<Members<'a>, Wrong> {
        if self.depth > MAX_READ_DEPTH {
            return Err(de::Error::custom(too_deep(MAX_READ_DEPTH)));
        }
        Ok(Members { at: 1, of: self })
    }

    fn read<T: DeserializeSeed<'a>>(self, seed: T) -> Result<T::Value, Wrong> {
        seed.deserialize(self).map_err(|wrong| wrong.within(self.start))
    }

    /// A number or word as it is written.
    fn literal(&self) -> &'a str {
        std::str::from_utf8(self.text).unwrap_or_default()
    }

    fn is_null(&self) -> bool {
        self.first() == b'n'
    }

    fn unexpected(&self, expected: &dyn de::Expected) -> Wrong {
        let what = match self.first() {
            b'{' => Unexpected::Map,
            b'[' => Unexpected::Seq,
            b'n' => Unexpected::Other("null"),
            b'"' => Unexpected::Other("text"),
            b't' | b'f' => Unexpected::Bool(self.first() == b't'),
            _ => Unexpected::Other("a number"),
        };
        de::Error::invalid_type(what, expected)
    }
}

impl<'de> Deserializer<'de> for Raw<'de> {
    type Error = Wrong;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        match self.first() {
            b'{' => visitor.visit_map(Pairs { members: self.members()?, value: None }),
            b'[' => visitor.visit_seq(Items(self.members()?)),
            b'"' => self.deserialize_str(visitor),
            b'n' => visitor.visit_unit(),
            b't' => visitor.visit_bool(true),
            b'f' => visitor.visit_bool(false),
            _ => {
                let literal = self.literal();
                if let Ok(number) = literal.parse::<u64>() {
                    visitor.visit_u64(number)
                } else if let Ok(number) = literal.parse::<i64>() {
                    visitor.visit_i64(number)
                } else {
                    visitor.visit_f64(literal.parse().unwrap_or(f64::INFINITY))
                }
            }
        }
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        match self.first() {
            b'{' | b'[' => Err(self.unexpected(&visitor)),
            b'n' => visitor.visit_borrowed_str(""),
            b'"' => match text_of(self.text) {
                Cow::Borrowed(text) => visitor.visit_borrowed_str(text),
                Cow::Owned(text) => visitor.visit_string(text),
            },
            _ => visitor.visit_borrowed_str(self.literal()),
        }
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        self.deserialize_str(visitor)
    }

    fn deserialize_identifier<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        self.deserialize_str(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        match self.is_null() {
            true => visitor.visit_none(),
            false => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Wrong> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        match self.first() {
            b'[' | b'n' => visitor.visit_seq(Items(self.members()?)),
            _ => Err(self.unexpected(&visitor)),
        }
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        match self.first() {
            b'{' | b'n' => visitor.visit_map(Pairs { members: self.members()?, value: None }),
            _ => Err(self.unexpected(&visitor)),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Wrong> {
        if self.first() != b'{' {
            return Err(self.unexpected(&visitor));
        }
        let mut found: Vec<Option<(Cow<'de, str>, Raw<'de>)>> = vec![None; fields.len()];
        let mut members = self.members()?;
        while let Some((key, value)) = members.next_pair() {
            let exact = fields.iter().position(|field| *field == key);
            let at = exact.or_else(|| fields.iter().position(|field| is_field(&key, field)));
            let Some(at) = at else { continue };
            if let Some((spelling, before)) = &found[at]
                && *spelling != key
                && before.text != value.text
                && self.decisive.contains(&fields[at])
            {
                let what = format!("`{}` is there in two spellings, and they differ", fields[at]);
                return Err(de::Error::custom(what));
            }
            found[at] = Some((key, value));
        }
        visitor.visit_map(Fields { names: fields.iter(), found: found.into_iter(), value: None })
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Wrong> {
        match self.first() {
            b'"' => visitor.visit_enum(text_of(self.text).into_owned().into_deserializer()),
            _ => Err(self.unexpected(&visitor)),
        }
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        visitor.visit_unit()
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char
        bytes byte_buf unit unit_struct tuple tuple_struct
    }
}

/// A list, or `null`, whose members end before they begin.
struct Items<'a>(Members<'a>);

impl<'de> de::SeqAccess<'de> for Items<'de> {
    type Error = Wrong;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Wrong> {
        match self.0.of.is_null() {
            true => Ok(None),
            false => self.0.next_value().map(|value| value.read(seed)).transpose(),
        }
    }
}

/// A map by its own keys, or `null`.
struct Pairs<'a> {
    members: Members<'a>,
    value: Option<Raw<'a>>,
}

impl<'de> de::MapAccess<'de> for Pairs<'de> {
    type Error = Wrong;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Wrong> {
        if self.members.of.is_null() {
            return Ok(None);
        }
        let Some((key, value)) = self.members.next_pair() else { return Ok(None) };
        self.value = Some(value);
        seed.deserialize(key.into_deserializer()).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Wrong> {
        value_after_key(self.value.take(), seed)
    }
}

/// The fields of a struct that are there, by the names that the struct has for them.
struct Fields<'a, N, F> {
    names: N,
    found: F,
    value: Option<Raw<'a>>,
}

impl<'de, N, F> de::MapAccess<'de> for Fields<'de, N, F>
where
    N: Iterator<Item = &'static &'static str>,
    F: Iterator<Item = Option<(Cow<'de, str>, Raw<'de>)>>,
{
    type Error = Wrong;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Wrong> {
        for (name, found) in self.names.by_ref().zip(self.found.by_ref()) {
            if let Some((_, value)) = found {
                self.value = Some(value);
                return seed.deserialize((*name).into_deserializer()).map(Some);
            }
        }
        Ok(None)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Wrong> {
        value_after_key(self.value.take(), seed)
    }
}

fn value_after_key<'de, V: DeserializeSeed<'de>>(
    value: Option<Raw<'de>>,
    seed: V,
) -> Result<V::Value, Wrong> {
    match value {
        Some(value) => value.read(seed),
        None => Err(de::Error::custom("a value was asked for before its key")),
    }
}

#[cfg(test)]
mod tests;
