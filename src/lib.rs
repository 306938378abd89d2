//! `ocifs` shows a container image as a directory: each layer is streamed once, at its first use, and
//! nothing is unpacked or run.
//!
//! This page is the architecture. The program in `src/bin/ocifs` is thin: it knows the terminal,
//! the environment and the words; everything else is here, and nothing here reads an environment
//! variable, prints, or knows that there is a terminal.
//!
//! # The promise, in order
//!
//! 1. **Never a wrong byte.** Every byte that reaches a user is bound to the manifest by a chain of
//!    digests that was checked here.
//! 2. **Never a hang.** Every wait on the outside has a deadline. Names and attributes never wait
//!    for the network; a dead registry leaves cached files readable.
//! 3. **As fast as the kernel.** A second pass over a mount costs this process no request at all.
//! 4. **Pleasant.** One binary, no root, no configuration; errors say what to do.
//!
//! # Rungs
//!
//! A module imports modules of lower rungs only, and the files of a module form no circle; a test
//! (`tests/it/architecture.rs`) reads the sources and fails on anything else.
//!
//! ```text
//! 13 bin/ocifs                  arguments, words, exit codes, environment, progress bars
//!    bin/ocifs-snapshotter      images for containerd, by way of that program (feature `snapshotter`)
//! 12 mount                      what keeps running: a view at a place, its status, its end
//! 11 fuse                       the kernel's requests; mounting and unmounting
//! 10 space                      inode numbers of a connection, and the volume that each leads to
//! 9  image  packages            images opened: one, several, as much as a question needs; verified | what is installed in a tree
//! 8  fs  erofs                  file operations and errno, over plain values | a tree as an image
//! 7  prefetch                   what a walk will want next
//! 6  tree  content  layer       names of an image | bytes of a file | opening a layer
//! 5  external                   layer indexes that others made, found and read
//! 4  resolve  blob  index_artifact  which image | verified spans | layer indexes that travel
//! 3  source  cache  index       the two I/O edges: registries, the store on disk | a layer's table
//! 2  toc  ztoc  artifact        tables of contents and indexes in the formats of others | which files an artifact has
//! 1  reference  oci  tar  codec  bolt    pure formats, no I/O
//! 0  digest  extent  extents  bounded  json  hint   words that everything uses, limited reading, JSON of others, what helps
//!    httpd metrics              requests that are answered on this machine | what is counted, as Prometheus reads it
//! ```
//!
//! # Flows
//!
//! ```text
//! mount   "debian:12" -> reference -> resolve (manifest, platform, config)
//!         -> layer::open_all: index from the cache, or one streamed pass
//!         -> tree::merge -> fs::Filesystem                        image::Image
//!         -> space::Space -> fuse                                 mount::Mount
//!         several: each of them so, then tree::join               image::ImageSet
//!         cat, ls: layers from the top down, until tree::merge_upper decides      image::Excerpt
//!         kernel metadata: tree -> erofs -> the kernel; fuse serves blocks of contents only
//! run     image::View -> image::Process (entrypoint, user, environment); its namespaces are the program's
//! inspect "debian:12" -> reference -> resolve (all documents)
//!         -> image::{inspect, history, tags, attestations}        no layer is read
//! resume  a worker has died: fuse::Connection::resend, the images by their digests -> mount::Mount::resume
//! diff    two images -> layer indexes -> tree::compare by digest  no file is read      image::LayeredImage
//! which   layer indexes -> tree::merge with a witness -> tree::Provenance
//! read    fuse -> space -> fs -> content (file offset -> place in a layer's tar)
//!         -> blob: span in the cache, or source -> decompress -> verify -> cache -> bytes
//! ```
//!
//! [`source`] may return anything. Only [`resolve`] (documents), [`layer`] (whole layers) and
//! [`blob`] (spans) take bytes from it, and hand on only what they have verified.
//!
//! # Glossary
//!
//! *Manifest*, *image index*, *config*, *layer*, *blob*, *descriptor*, *platform*: as in the OCI
//! image specification. *Digest*: of a blob as it is stored, for a layer of the compressed bytes.
//! *Diff ID*: digest of the uncompressed tar of a layer. *Image ID*: digest of the config.
//! *Referrer*: an artifact whose manifest names another one as its *subject*. *Store*: where another
//! program keeps images on this machine.
//!
//! *TOC*: a table of contents inside a layer (eStargz, zstd:chunked), made by its writer. *Chunk*: a
//! run of content that a TOC gives a digest and a place in the blob.
//!
//! *Layer index*: our table of a layer's entries and of how to reach their bytes; never just
//! "index", which is the OCI image index. *Span*: a run of a layer's uncompressed bytes that is
//! fetched, verified and cached as a whole. *Checkpoint*: a place of a compressed stream from which
//! decompression can begin, with the *window* it needs. *Whiteout*: a tar entry that hides a name
//! of lower layers; *opaque mark*: one that hides all lower names of its directory. *Tree*: the
//! merged view of one image, or *joined*, of several with a directory each. *Provenance*: which layer made, changed or
//! removed each name of an image. *Volume*: a tree with its bytes, as
//! what has inode numbers of its own. *Space*: what one FUSE connection serves. *Proof*: what of a layer
//! has been checked against the manifest. *Supervisor*: the process that keeps the connection of a mount; *worker*: the one
//! that it has started to serve it.

pub mod artifact;
pub mod blob;
pub mod bolt;
mod bounded;
pub mod cache;
pub mod codec;
pub mod content;
pub mod digest;
pub mod erofs;
pub mod extent;
pub mod extents;
pub mod external;
pub mod fs;
pub mod fuse;
pub mod hint;
pub mod httpd;
pub mod image;
pub mod index;
pub mod index_artifact;
pub mod json;
pub mod layer;
pub mod metrics;
pub mod mount;
pub mod oci;
pub mod packages;
pub mod prefetch;
pub mod reference;
pub mod resolve;
pub mod source;
pub mod space;
pub mod tar;
pub mod toc;
pub mod tree;
pub mod ztoc;
