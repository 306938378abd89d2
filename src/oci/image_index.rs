//! Image indexes.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Error as _, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::descriptor::{self, Descriptor, Entry};
use super::error::Error;
use super::read::read;
use crate::json;

/// Entries accepted in one image index. Real ones have some dozens.
const MAX_ENTRIES: usize = 10_000;

/// An image index, or Docker's manifest list.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ImageIndex {
    /// The manifests (or further indexes) it points to, and what can't be used of it.
    #[serde(default, rename = "manifests")]
    pub entries: Entries,
    /// What the document says it is.
    #[serde(default, deserialize_with = "json::or_default")]
    pub media_type: Option<String>,
    /// What it is if not a list of images.
    #[serde(default, deserialize_with = "json::or_default")]
    pub artifact_type: Option<String>,
    /// What it says it is about: a descriptor, or something that is none.
    #[serde(default, deserialize_with = "json::or_default")]
    pub subject: Option<Descriptor>,
    /// Free-form annotations.
    #[serde(default, deserialize_with = "descriptor::annotations")]
    pub annotations: BTreeMap<String, String>,
}

/// The entries of an image index, in its order.
#[derive(Clone, Debug, Default)]
pub struct Entries(pub Vec<Entry>);

impl Entries {
    /// Those that can be used.
    pub fn usable(&self) -> impl Iterator<Item = &Descriptor> {
        self.0.iter().filter_map(|entry| entry.as_ref().ok())
    }
}

impl ImageIndex {
    /// Parses an image index that is known to be one.
    ///
    /// # Errors
    /// It is not.
    pub fn parse(bytes: &[u8]) -> Result<ImageIndex, Error> {
        read(bytes).map_err(Error::Json)
    }
}

impl<'de> Deserialize<'de> for Entries {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Entries, D::Error> {
        struct One(Entry);
        impl<'de> Deserialize<'de> for One {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<One, D::Error> {
                descriptor::entry(deserializer).map(One)
            }
        }
        struct Limited;
        impl<'de> Visitor<'de> for Limited {
            type Value = Entries;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of descriptors")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Entries, A::Error> {
                let mut entries = Vec::new();
                while let Some(One(entry)) = list.next_element()? {
                    if entries.len() == MAX_ENTRIES {
                        let what = format!("more than {MAX_ENTRIES} entries are not accepted");
                        return Err(A::Error::custom(what));
                    }
                    entries.push(entry);
                }
                Ok(Entries(entries))
            }
        }
        deserializer.deserialize_seq(Limited)
    }
}
