//! A value as a slice of its text, and `serde`'s way through it.

use std::borrow::Cow;

use serde::de::{self, DeserializeSeed, IntoDeserializer, Unexpected, Visitor};
use serde::{Deserializer, forward_to_deserialize_any};

use super::error::{Wrong, too_deep};
use super::scanner::{Scanner, text_of};

/// Levels of nesting in what is read and not passed over: that is done recursively.
const MAX_READ_DEPTH: usize = 128;

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

/// A value in a text that has been checked.
#[derive(Clone, Copy)]
pub(super) struct Raw<'a> {
    pub(super) text: &'a [u8],
    /// Where it begins in the whole text.
    pub(super) start: usize,
    pub(super) decisive: &'static [&'static str],
    pub(super) depth: usize,
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
