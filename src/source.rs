//! Where images come from: the outer I/O edge.
//!
//! A [`Source`] stands for one image name. It may return anything: nothing that comes from here is
//! trusted until [`resolve`](crate::resolve) or [`blob`](crate::blob) have checked it against a
//! digest. A source is an immutable view; it keeps no content.
//!
//! Local sources know their documents exactly. A registry has one more ability, [`Source::head`]:
//! to say which digest a tag has now without sending the document, which is what lets a second
//! mount of an image cost a single request.
//!
//! A [`Repository`] is what has several images and artifacts under one name. [`Offline`] is a source that
//! refuses whatever would go to the network, and [`Embedded`] one that is not asked for what descriptors hold.

pub mod archive;
mod blob_links;
mod connections;
pub mod containerd;
pub mod containers_storage;
pub mod directory;
pub mod docker_archive;
pub mod docker_daemon;
mod embedded;
mod error;
mod floor;
mod image;
mod in_memory;
pub mod layout;
pub mod local_copies;
mod local_stores;
mod magic;
mod natural;
mod nearest;
mod offline;
pub mod on_disk;
mod pace;
mod raw;
mod referrers_tag;
pub mod registry;
pub mod registry_storage;
mod repository;
mod stream;
mod tar_split;
mod wide;

pub use blob_links::{blob_links, store_links};
pub use connections::{Connections, DEFAULT_CONNECTIONS, Slot};
pub use embedded::Embedded;
pub use error::{Error, hint_of};
pub(crate) use floor::MIN_BYTES_PER_SECOND;
pub use image::{Body, Opened, Source, Throughput};
pub use in_memory::InMemory;
pub use local_stores::{ListedStore, LocalStores};
pub use natural::Natural;
pub use nearest::is_of_referrer;
pub use offline::Offline;
pub use pace::Pace;
pub use raw::RawDocument;
pub use repository::{Named, Repository, Revision, Tags};
pub use wide::open_wide;
