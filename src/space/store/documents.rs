//! The lists of images and layers as containers-storage writes them.
//!
//! They are read whole, and by several programs: what one of them can't read makes it fail for all images. So times are
//! checked before they are written, and nothing is written that these programs do not write themselves.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::codec::Compression;
use crate::digest::{DiffId, Digest};
use crate::image::{PrefixLayer, PrefixedImage};
use crate::index::Proof;
use crate::oci::{ConfigDetails, days_from_epoch, parse_time};

/// What stands for a time that is not known.
const NO_TIME: &str = "1970-01-01T00:00:00Z";

/// Characters of the name of a link to a layer.
const LINK_CHARACTERS: usize = 26;

/// A document of an image, by the key that engines know it by.
#[derive(Clone, Debug)]
pub(super) struct BigData {
    pub(super) key: String,
    pub(super) digest: Digest,
    pub(super) bytes: Vec<u8>,
}

impl BigData {
    /// The name of its file.
    pub(super) fn file_name(&self) -> String {
        let is_plain = |c: char| c == '.' || c.is_ascii_digit() || c.is_ascii_lowercase();
        match self.key.chars().all(is_plain) {
            true => self.key.clone(),
            // Keys are of ASCII letters, digits, `-` and `:`, so that there is no `/` in this.
            false => format!("={}", STANDARD.encode(&self.key)),
        }
    }
}

/// The documents of an image: its config, its manifest, and the image indexes that lead to it, by which it is found
/// as well.
pub(super) fn documents(image: &PrefixedImage) -> Vec<BigData> {
    let resolved = image.resolved();
    let (config, manifest) = (resolved.config(), resolved.manifest());
    let data =
        |key: String, digest: Digest, bytes: &[u8]| BigData { key, digest, bytes: bytes.to_vec() };
    let by_digest = |digest: Digest| format!("manifest-{digest}");
    let mut all = vec![
        data(config.digest().to_string(), config.digest(), config.bytes()),
        data(by_digest(manifest.digest()), manifest.digest(), manifest.bytes()),
        data("manifest".to_owned(), manifest.digest(), manifest.bytes()),
    ];
    let indexes = resolved.indexes().iter();
    all.extend(indexes.map(|index| data(by_digest(index.digest()), index.digest(), index.bytes())));
    all
}

/// The row of an image in `images.json`.
pub(super) fn image_row(
    image: &PrefixedImage,
    names: &[String],
    top: &str,
    data: &[BigData],
) -> Value {
    let resolved = image.resolved();
    let map = |value: &dyn Fn(&BigData) -> Value| {
        let rows = data.iter().map(|data| (data.key.clone(), value(data)));
        Value::Object(rows.collect::<Map<String, Value>>())
    };
    let mut row = json!({
        "id": resolved.image_id().hex(),
        "digest": resolved.digest,
        "names": names,
        "metadata": "{}",
        "big-data-names": data.iter().map(|data| &data.key).collect::<Vec<_>>(),
        "big-data-sizes": map(&|data| data.bytes.len().into()),
        "big-data-digests": map(&|data| data.digest.to_string().into()),
        "created": created(resolved.config().bytes()),
    });
    if !top.is_empty() {
        row["layer"] = top.into();
    }
    row
}

/// When an image was made, in the form that Go reads, whichever the config has.
fn created(config: &[u8]) -> String {
    let details = ConfigDetails::parse(config).ok();
    let created = details.and_then(|details| details.created);
    let time = created.and_then(|text| parse_time(&text));
    time.and_then(|(seconds, nanoseconds)| written(seconds, nanoseconds))
        .unwrap_or_else(|| NO_TIME.to_owned())
}

/// A time of the years that have four digits (RFC 3339).
fn written(seconds: i64, nanoseconds: u32) -> Option<String> {
    let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    // The year is this one or a few before it: those have 365 days and a quarter.
    let year = (1973 + days.div_euclid(365)).min(9999);
    let year = (0..=year)
        .rev()
        .find(|year| days_from_epoch(*year, 1, 1).is_some_and(|first| first <= days))?;
    let of_month = |month| days_from_epoch(year, month, 1).filter(|first| *first <= days);
    let (month, first) = (1..=12).rev().find_map(|month| Some((month, of_month(month)?)))?;
    let day = days - first + 1;
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    let last = days_from_epoch(9999, 12, 31)?;
    (days <= last).then(|| {
        format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{nanoseconds:09}Z")
    })
}

/// A row of `layers.json`.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct LayerRow {
    id: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    parent: String,
    created: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    compressed_diff_digest: Option<Digest>,
    compressed_size: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    diff_digest: Option<Digest>,
    /// -1 if it is not known.
    diff_size: i64,
    /// As Go's containers/storage numbers them.
    #[serde(skip_serializing_if = "Option::is_none")]
    compression: Option<u8>,
}

impl LayerRow {
    /// A layer that is not `proven`, or one below which another is not, is listed under no digest: an engine would take it
    /// for what another image means by that.
    pub(super) fn new(
        id: String,
        parent: String,
        layer: &PrefixLayer,
        is_proven: bool,
    ) -> LayerRow {
        LayerRow {
            id,
            parent,
            created: NO_TIME,
            compressed_diff_digest: (layer.proof == Proof::Full && is_proven).then_some(layer.blob),
            compressed_size: layer.blob_bytes,
            diff_digest: is_proven.then_some(layer.diff_id.0),
            diff_size: layer.tar_bytes.and_then(|bytes| i64::try_from(bytes).ok()).unwrap_or(-1),
            compression: match layer.compression {
                Compression::None => None,
                Compression::Gzip => Some(2),
                Compression::Zstd => Some(4),
            },
        }
    }
}

/// What a layer is called that is not proven to be what its digests say: as no other one, unless that is read by way of
/// the same index.
pub(super) fn unproven_id(parent: &str, layer: &PrefixLayer) -> String {
    let PrefixLayer { number, diff_id, blob, proof, .. } = layer;
    let text = format!("{parent} {diff_id} {blob} {} {number}", proof.name());
    Digest::sha256(text.as_bytes()).hex()
}

/// What engines call a layer on top of another one, or of none.
pub(super) fn layer_id(parent: &str, diff_id: &DiffId) -> String {
    match parent {
        "" => diff_id.0.hex(),
        parent => Digest::sha256(format!("{parent}+{}", diff_id.0.hex()).as_bytes()).hex(),
    }
}

/// The short name of a layer, which containers in other stores remember: it has to be the same for ever.
pub(super) fn link_of(layer: &str) -> String {
    const DIGITS: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
    let hash = Digest::sha256(layer.as_bytes());
    // A byte makes one character: the distribution is even, as 32 divides 256.
    let characters = hash.hash().iter().take(LINK_CHARACTERS);
    characters.map(|byte| char::from(DIGITS[usize::from(byte % 32)])).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_those_of_engines() {
        // From a store that podman has written.
        let diff_ids = [
            "sha256:24138cca12994d9ebd1c94c1684ca4c8bef86201f6a92378cfb18c44b617d22d",
            "sha256:d8f7b60ffed36002e51eb35e194b9822890fd91921f184f8f5d30cfd7d484802",
        ]
        .map(|text| DiffId(text.parse().unwrap()));
        let first = layer_id("", &diff_ids[0]);
        assert_eq!(first, diff_ids[0].0.hex());
        let text = format!("{first}+{}", diff_ids[1].0.hex());
        assert_eq!(layer_id(&first, &diff_ids[1]), Digest::sha256(text.as_bytes()).hex());
    }

    #[test]
    fn links_are_short_and_stay() {
        let link = link_of("24138cca12994d9ebd1c94c1684ca4c8bef86201f6a92378cfb18c44b617d22d");
        assert_eq!(link.len(), 26);
        assert!(link.bytes().all(|c| matches!(c, b'A'..=b'Z' | b'2'..=b'7')), "{link}");
        // Containers of other stores have remembered it.
        assert_eq!(link, "XN5D5C2PHPBYV2MHASSHC7CDDS");
    }

    #[test]
    fn times_are_written_as_go_reads_them() {
        let of = |text: &str| created(format!("{{\"created\":\"{text}\"}}").as_bytes());
        for (text, time) in [
            ("2026-12-01T10:29:22.127431781Z", "2026-12-01T10:29:22.127431781Z"),
            ("2024-02-29T23:59:59+00:00", "2024-02-29T23:59:59.000000000Z"),
            ("2024-01-01T00:30:00+02:00", "2023-12-31T22:30:00.000000000Z"),
            ("1969-12-31T23:59:59Z", "1969-12-31T23:59:59.000000000Z"),
            ("0001-01-01T00:00:00Z", "0001-01-01T00:00:00.000000000Z"),
            ("9999-12-31T23:59:59Z", "9999-12-31T23:59:59.000000000Z"),
            ("yesterday", NO_TIME),
            ("", NO_TIME),
        ] {
            assert_eq!(of(text), time, "{text}");
        }
        assert_eq!(created(b"{}"), NO_TIME);
    }

    #[test]
    fn keys_become_file_names() {
        let name = |key: &str| {
            let (digest, bytes) = (Digest::sha256(b""), Vec::new());
            BigData { key: key.to_owned(), digest, bytes }.file_name()
        };
        assert_eq!(name("manifest"), "manifest");
        assert_eq!(name("sha256:ab"), "=c2hhMjU2OmFi");
    }
}
