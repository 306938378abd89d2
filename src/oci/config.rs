//! Image configs.

use serde::Deserialize;

use super::error::Error;
use super::platform::{self, Platform};
use super::read::read;
use crate::digest::DiffId;
use crate::json;

/// The largest image config accepted, in bytes. Real ones reach some 100 KiB.
pub const MAX_CONFIG_BYTES: u64 = 8 << 20;

/// The part of an image config that a file system needs.
#[derive(Clone, Debug)]
pub struct ImageConfig {
    /// The platform it was built for.
    pub platform: Platform,
    /// The layers' uncompressed digests.
    pub rootfs: RootFs,
}

/// An image config as it is written. `platform` has no place of its own there.
#[derive(Deserialize)]
#[serde(expecting = "an image config")]
struct ConfigDocument {
    #[serde(default, deserialize_with = "json::or_default")]
    os: String,
    #[serde(default, deserialize_with = "json::or_default")]
    architecture: String,
    #[serde(default, deserialize_with = "json::or_default")]
    variant: String,
    #[serde(default, rename = "os.version", deserialize_with = "json::or_default")]
    os_version: String,
    #[serde(default, rename = "os.features", deserialize_with = "platform::features")]
    os_features: Vec<String>,
    rootfs: RootFs,
}

/// `rootfs` of an image config.
#[derive(Clone, Debug, Deserialize)]
#[serde(expecting = "a list of layers")]
pub struct RootFs {
    /// Digests of the uncompressed layers, base first.
    #[serde(default)]
    pub diff_ids: Vec<DiffId>,
}

impl ImageConfig {
    /// Parses a config blob for an image of `layers` layers.
    ///
    /// # Errors
    /// Not an image config, or with another number of diff IDs than there are layers.
    pub fn parse(bytes: &[u8], layers: usize) -> Result<ImageConfig, Error> {
        let document: ConfigDocument = read(bytes).map_err(Error::Config)?;
        let ConfigDocument { os, architecture, variant, os_version, os_features, rootfs } =
            document;
        let platform = Platform { os, architecture, variant, os_version, os_features };
        let diff_ids = rootfs.diff_ids.len();
        if diff_ids != layers {
            return Err(Error::DiffIds { diff_ids, layers });
        }
        Ok(ImageConfig { platform, rootfs })
    }
}
