//! Image references: the words with which a user names an image.
//!
//! Three grammars meet here. *Registry references* are `[host[:port]/]path[:tag][@digest]` with
//! Docker's defaults (`debian` is `docker.io/library/debian:latest`); *local sources* are paths that
//! begin like one (`./x.tar`, `/srv/layout`, `-`) or are written as skopeo writes them:
//! `oci:PATH[:REF]`, `oci-archive:PATH[:REF]`, `docker-archive:PATH[:REF]` and `dir:PATH`, and so are
//! the *stores* of engines: `containerd:`, `containers-storage:`, `docker-daemon:` and
//! `registry-storage:`. Parsing does no I/O, so it knows neither aliases nor which files exist; but a name
//! that was written without a registry remembers how, for alias tables ([`Reference::short_name`]),
//! and a path with colons can be read in several ways ([`LocalSource::readings`]).
//!
//! Every way of being wrong has its own sentence, because a typo in a reference is the most common
//! error of all; and what is more probably a slip than an image of Docker Hub is refused (`mistake`).
//!
//! ```text
//! directory_name -> image_name -> mistake -> transport, web -> local, stored -> registry -> error
//! ```

mod directory_name;
mod error;
mod image_name;
mod local;
mod mistake;
mod registry;
mod stored;
mod transport;
mod web;

pub use directory_name::{DirectoryName, DirectoryNameError};
pub use error::ParseError;
pub use image_name::ImageName;
pub use local::{LocalLayout, LocalSource};
pub use registry::{DEFAULT_REGISTRY, Reference, is_tag};
pub use stored::StoredImage;
pub use transport::{TRANSPORTS, Transport};

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
