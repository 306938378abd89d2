//! Manifests, image indexes and configs: OCI and Docker schema 2.
//!
//! Registries serve what their writers' JSON libraries make of the specification: `null` where an
//! empty list is meant (Go's nil slices), fields that do not belong, media types missing inside
//! and generic outside. So these types are lenient about everything that does not matter (see
//! [`json`](crate::json)) and strict about what does: digests, sizes, and the number of layers. The `oci-spec`
//! crate is not used because it refuses `null` lists and unknown sub-types.
//!
//! Formats: OCI image spec 1.1 (manifest.md, image-index.md, config.md, descriptor.md) and Docker
//! image manifest V2 schema 2.

pub mod annotation;
mod config;
mod config_details;
mod config_settings;
mod descriptor;
mod document;
mod error;
mod image_index;
mod manifest;
pub mod media_type;
mod platform;
mod read;
mod time;

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;

pub use config::{ImageConfig, MAX_CONFIG_BYTES, RootFs};
pub use config_details::{ConfigDetails, HistoryEntry, RunConfig};
pub use config_settings::config_settings;
pub use descriptor::{Descriptor, EMPTY_CONTENT, Entry, Unusable};
pub use document::{Document, MAX_MANIFEST_BYTES};
pub use error::{Error, MAX_LAYERS};
pub use image_index::{Entries, ImageIndex};
pub use manifest::Manifest;
pub use platform::Platform;
pub use time::{days_from_epoch, parse_time};
