//! `ocifs` against other programs: what it mounts must be what they unpack, to the last attribute.
//!
//! The models in `tests/it` were written by the people who wrote the code and may share its
//! misunderstandings. Here a real registry serves, skopeo copies, umoci and GNU tar unpack, and
//! the kernel's own system calls look at the results. The tests need root, `/dev/fuse` and the
//! Debian packages that `scripts/test` lists,
//! and fail where these are missing.
//!
//! - `files`: kinds, attributes, names, encodings in the tar; `layers`: what layers do to each
//!   other; `storage`: compression and media types. All three compare with umoci.
//! - `attributes`: extended attributes as tools and callers of all kinds meet them.
//! - `backups`: what takes a file for unchanged, over two versions of an image at one place.
//! - `handles`: file handles, and mounts of a mount with other owners. `holes`: sparse files and who looks for holes.
//! - `tools`: what copies, packs and changes a mount is held against the same over a plain folder.
//! - `forms`: the other forms of an image, `ocifs export` and `ocifs ls`.
//! - `inside`: `ocifs ls`, `find` and the others that look inside, against GNU tools.
//! - `stores`: what registries and engines keep on disk, written by themselves. `artifacts`: what is no image, there.
//! - `credentials`, `tokens`, `tls`: registries that want to know who asks, and say who they are.
//!   `networks`: where the names that they name lead. `fronts`: what stands between registries and their users.
//! - `packages`: what rpm, dpkg and Python list is what is read of their databases.
//! - `pushing`: what the library pushes, read back by skopeo and by itself.
//! - `kernel_metadata`: what `mount --kernel-metadata` shows is what `mount` shows, and costs less.
//!   (All cases above are mounted both ways, where the kernel can.)
//! - `joint`: several images in one mount, each held against its own.
//! - `fstab`: mount(8), its tables, and service managers.
//! - `requests`: how often the kernel and the network are asked. `read_only`: writing fails.
//! - `over_a_mount`: what `docs/over-a-mount.md` says, sentence by sentence.
//! - `engines`: `ocifs store` as podman and buildah use it: containers, builds, `commit`, `save`, `push`.
//! - `inspect`, `tags`, `attest`: what documents and registries say, as skopeo, umoci and podman read them.
//! - `corpus`: large real images, where `OCIFS_CORPUS_REGISTRY` says where to find them.
//!
//! # Where umoci 0.4.7 is not the judge
//!
//! Its view is *corrected* to what `ocifs` promises, for the named paths and fields only:
//!
//! - directories without an entry: mode, owner and time are the umask's and the clock's;
//! - the time of a directory in which such a directory was made, or from which a whiteout that
//!   stands further up removed something: umoci restores the direct parent only;
//! - a hidden lower directory that gets new children before its whiteout: umoci keeps it;
//! - times after 2262, which it passes on in 64 bits of nanoseconds;
//! - the attributes `trusted.overlay.opaque` and `security.selinux`, which it leaves out;
//! - blocks of sparse files, whose holes it fills.
//!
//! It gets a *twin* of the image, which has to look the same, where it or skopeo 1.9 refuses or
//! misreads what is stored: global PAX headers, old GNU sparse files, contiguous files, AUFS' own
//! files, a hard link to itself or to what the same layer hides, a lower file in the way of an
//! implied directory, gzip with trailing zeros or a checksum of its header, zstd that begins with
//! a skippable frame, and gzip whose media type says plain tar. Zstd is stored as gzip for it by
//! skopeo.
//!
//! Not compared: sizes and link counts of directories, times of access and change, blocks of files
//! with extended attributes ([`snapshot`] says why); paths that climb above the root, which umoci
//! clamps and `ocifs` refuses, as podman and Docker do.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

#[path = "../model/mod.rs"]
mod model;
#[path = "../support/mod.rs"]
mod support;

mod large;
mod local;
mod mounted;
mod networks;
mod nginx;
mod oracle;
mod servers;
mod snapshot;
mod unpacked;

mod artifacts;
mod attest;
mod attributes;
mod backups;
mod corpus;
mod credentials;
mod engines;
mod files;
mod forms;
mod fronts;
mod fstab;
mod handles;
mod holes;
mod image_set;
mod inside;
mod inside_copy;
mod inside_diff;
mod inside_find;
mod inspect;
mod kernel_metadata;
mod layers;
mod over_a_mount;
mod packages;
mod pushing;
mod read_only;
mod requests;
mod storage;
mod stores;
mod tables;
mod tags;
mod tls;
mod tokens;
mod tools;
