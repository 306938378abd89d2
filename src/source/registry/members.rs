//! JSON objects of token servers, credential helpers and files of logins, read as the engines read them.
//!
//! Engines are written in Go, whose `encoding/json` takes names in any case, the last of repeated ones,
//! `null` for nothing, bytes that are not UTF-8 as U+FFFD, and with its decoder leaves alone what follows
//! the value. What works there has to work here, so a derived parser, which refuses repeated names, does
//! not do. Members that are not used may hold anything.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{Deserialize, DeserializeOwned, Deserializer, MapAccess, Visitor};

/// Something that is made of the members of an object.
pub(super) trait Members: Default {
    /// Takes a member by its name in lower case. The value must be read, if only as `IgnoredAny`.
    fn take<'de, A: MapAccess<'de>>(&mut self, name: &str, map: &mut A) -> Result<(), A::Error>;
}

/// An object, or `null` for one without members.
pub(super) struct Object<T>(pub(super) T);

impl<'de, T: Members> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Object<T>, D::Error> {
        struct Reader<T>(PhantomData<T>);

        impl<'de, T: Members> Visitor<'de> for Reader<T> {
            type Value = Object<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_unit<E>(self) -> Result<Object<T>, E> {
                Ok(Object(T::default()))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Object<T>, A::Error> {
                let mut object = T::default();
                while let Some(name) = map.next_key::<String>()? {
                    object.take(&name.to_ascii_lowercase(), &mut map)?;
                }
                Ok(Object(object))
            }
        }

        deserializer.deserialize_any(Reader(PhantomData))
    }
}

/// The value at the beginning of a text, whatever follows it; `None` if there is none.
pub(super) fn first_value<T: DeserializeOwned>(text: &[u8]) -> Option<T> {
    let text = String::from_utf8_lossy(text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text));
    serde_json::Deserializer::from_str(&text).into_iter().next()?.ok()
}

#[cfg(test)]
mod tests {
    use serde::de::IgnoredAny;

    use super::*;

    #[derive(Debug, Default, PartialEq)]
    struct One(Option<String>);

    impl Members for One {
        fn take<'de, A: MapAccess<'de>>(
            &mut self,
            name: &str,
            map: &mut A,
        ) -> Result<(), A::Error> {
            match name {
                "a" => self.0 = map.next_value()?,
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
            Ok(())
        }
    }

    #[test]
    fn objects_as_go_reads_them() {
        let read = |text: &[u8]| Some(first_value::<Object<One>>(text)?.0.0);
        let some = |text: &str| Some(Some(text.to_owned()));
        assert_eq!(read(br#"{"a":"x","a":"y"}"#), some("y"));
        assert_eq!(read(br#"{"A":"x","b":"\ud800","c":[{"d":1e999}]}"#), some("x"));
        assert_eq!(read(b"\xef\xbb\xbf {\"a\":\"x\"} and more"), some("x"));
        assert_eq!(read(b"{\"a\":\"\xff\"}"), some("\u{fffd}"));
        assert_eq!(read(br#"{"a":"x","a":null}"#), Some(None));
        assert_eq!(read(b"null"), Some(None));
        for text in [&b""[..], b"x {}", b"[]", b"\"a\"", br#"{"a":1}"#, br#"{"a":"x""#] {
            assert_eq!(read(text), None, "{}", String::from_utf8_lossy(text));
        }
    }
}
