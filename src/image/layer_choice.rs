//! One layer of an image, as users name it: by its number, or by a digest or its beginning.

use std::fmt;
use std::str::FromStr;

use super::Error;
use crate::resolve::{ResolvedImage, ResolvedLayer};

/// The fewest hexadecimal digits that stand for a digest.
const MIN_DIGITS: usize = 4;

/// Which layer is meant: a number from 0, the base, upwards; or the digest of its blob, or its diff ID, or how one of
/// them begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LayerChoice(String);

/// The words name no layer.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "a layer is named by its number, 0 for the base, or by {MIN_DIGITS} or more digits of its digest or diff ID"
)]
pub struct LayerChoiceError;

impl FromStr for LayerChoice {
    type Err = LayerChoiceError;

    fn from_str(text: &str) -> Result<LayerChoice, LayerChoiceError> {
        let digits = text.rsplit(':').next().unwrap_or_default();
        let is_hex = digits.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        match is_number || is_hex && digits.len() >= MIN_DIGITS {
            true => Ok(LayerChoice(text.to_owned())),
            false => Err(LayerChoiceError),
        }
    }
}

impl fmt::Display for LayerChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl LayerChoice {
    /// The position of the layer in an image. One that the image has several times is the lowest of them.
    ///
    /// # Errors
    /// It has no such layer, or several.
    pub fn find(&self, image: &ResolvedImage) -> Result<usize, Error> {
        let layers = &image.layers;
        // `0012` is how a digest may begin.
        let is_number = |number: &usize| *number < layers.len() && number.to_string() == self.0;
        let number = self.0.parse().ok().filter(is_number);
        if let Some(number) = number {
            return Ok(number);
        }
        let (choice, count) = (self.0.clone(), layers.len());
        let none = Error::NoLayer { choice: choice.clone(), layers: count };
        if self.0.len() < MIN_DIGITS {
            return Err(none);
        }
        let is_meant = |layer: &ResolvedLayer| {
            let names = [layer.descriptor.digest.to_string(), layer.content_id().to_string()];
            names.iter().any(|name| {
                let hex = name.split_once(':').map_or("", |(_, hex)| hex);
                name.starts_with(&self.0) || hex.starts_with(&self.0)
            })
        };
        let mut meant = layers.iter().enumerate().filter(|(_, layer)| is_meant(layer));
        let (at, first) = meant.next().ok_or(none)?;
        let is_same = |layer: &ResolvedLayer| {
            layer.descriptor.digest == first.descriptor.digest && layer.diff_id == first.diff_id
        };
        match meant.all(|(_, layer)| is_same(layer)) {
            true => Ok(at),
            false => Err(Error::SeveralLayers { choice }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_for_layers() {
        for good in ["0", "12", "abcd", "sha256:0123", &format!("sha512:{}", "a".repeat(128))] {
            assert_eq!(good.parse::<LayerChoice>().unwrap().to_string(), good);
        }
        for bad in ["", "-1", "abc", "top", "sha256:", "sha256:12", "ABCD", "1.0"] {
            assert!(bad.parse::<LayerChoice>().is_err(), "{bad}");
        }
    }
}
