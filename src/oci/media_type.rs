//! Media types that decide what a document or a blob is.
//!
//! Types are compared in lower case and without parameters (RFC 6838 has them case-insensitive), for
//! writers exist that add either. What a layer's type says is a claim only: its bytes are sniffed,
//! and verified against the diff ID that the config has for them. So a type that says nothing or too
//! little is no reason to refuse a layer of what is otherwise an image; one that says that it is
//! something else is.

#![allow(missing_docs, reason = "the values are the documentation")]

pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
pub const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
pub const OCI_EMPTY: &str = "application/vnd.oci.empty.v1+json";
pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
pub const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
pub const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
pub const DOCKER_LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar";
pub const DOCKER_SCHEMA1: &str = "application/vnd.docker.distribution.manifest.v1+json";
pub const DOCKER_SCHEMA1_SIGNED: &str = "application/vnd.docker.distribution.manifest.v1+prettyjws";

/// What a client must say it accepts; without the OCI types some registries answer 404.
/// Schema 1 is among them so that it can be refused by name.
pub const ACCEPT: [&str; 6] =
    [OCI_INDEX, OCI_MANIFEST, DOCKER_LIST, DOCKER_MANIFEST, DOCKER_SCHEMA1_SIGNED, DOCKER_SCHEMA1];

/// Types that servers give to whatever they do not know. Registries of 2016 gave them to image
/// configs.
const GENERIC: [&str; 5] =
    ["application/octet-stream", "application/json", "text/html", "text/plain", "text/json"];

/// What a layer is by its media type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Layer {
    /// A tar of files, compressed or not.
    Tar,
    /// It does not say, or says only that it is some tar.
    Generic,
    Encrypted,
    /// Something else, in words that fit after "is".
    Other(&'static str),
    Unknown,
}

/// A media type without its parameters, in lower case.
pub fn essence(media_type: &str) -> String {
    media_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

/// Whether this is the type of a manifest or image index, of an age that can be shown or not.
pub(super) fn is_document(essence: &str) -> bool {
    ACCEPT.contains(&essence)
}

pub(super) fn is_index(essence: &str) -> bool {
    matches!(essence, OCI_INDEX | DOCKER_LIST)
}

pub(super) fn is_schema1(essence: &str) -> bool {
    essence.starts_with("application/vnd.docker.distribution.manifest.v1+")
}

/// Whether this says nothing.
pub fn is_generic(essence: &str) -> bool {
    essence.is_empty() || GENERIC.contains(&essence)
}

/// Whether this is the type of an image's config.
pub fn is_config(essence: &str) -> bool {
    matches!(essence, OCI_CONFIG | DOCKER_CONFIG)
}

impl Layer {
    pub(super) fn of(essence: &str) -> Layer {
        const STEMS: [&str; 7] = [
            OCI_LAYER,
            "application/vnd.oci.image.layer.nondistributable.v1.tar",
            DOCKER_LAYER,
            "application/vnd.docker.image.rootfs.foreign.diff.tar",
            // Drafts of the OCI image spec.
            "application/vnd.oci.image.layer.tar",
            "application/vnd.oci.image.layer.nondistributable.tar",
            "application/vnd.oci.image.serialization.rootfs.tar",
        ];
        const TARS: [&str; 3] = ["application/tar", "application/x-tar", "application/x-gtar"];
        const OTHERS: [(&str, &str); 12] = [
            ("erofs", "an EROFS file system"),
            ("squashfs", "a SquashFS file system"),
            ("vnd.sylabs.sif", "a Singularity image (SIF)"),
            ("nydus", "data of a Nydus image"),
            ("overlaybd", "an overlaybd block device"),
            ("puzzlefs", "data of a puzzlefs image"),
            ("ext4", "an ext4 file system"),
            ("qcow2", "a disk image (qcow2)"),
            ("in-toto", "an attestation about an image (in-toto), not a file system layer"),
            ("cosign", "a signature, not a file system layer"),
            ("spdx", "a list of software (SBOM), not a file system layer"),
            ("cyclonedx", "a list of software (SBOM), not a file system layer"),
        ];
        if essence.ends_with("+encrypted") {
            return Layer::Encrypted;
        }
        let is_compression =
            |suffix: &str| matches!(suffix, "gzip" | "gz" | "zstd" | "zstd:chunked" | "estargz");
        let suffixes = STEMS.iter().find_map(|stem| essence.strip_prefix(stem));
        if let Some(suffixes) = suffixes {
            let mut suffixes = suffixes.split(['+', '.']);
            let is_stem = suffixes.next() == Some("");
            return match suffixes.find(|suffix| !is_compression(suffix)) {
                _ if !is_stem => Layer::Unknown,
                None => Layer::Tar,
                Some("bzip2" | "bz2") => Layer::Other("a tar compressed with bzip2"),
                Some("xz") => Layer::Other("a tar compressed with xz"),
                Some("lz4") => Layer::Other("a tar compressed with LZ4"),
                Some(_) => Layer::Unknown,
            };
        }
        let (stem, suffix) = essence.split_once('+').unwrap_or((essence, "gzip"));
        let is_tar = TARS.contains(&stem) && is_compression(suffix);
        if is_tar
            || matches!(essence, "" | "application/octet-stream")
            || matches!(essence, "application/gzip" | "application/x-gzip" | "application/zstd")
        {
            return Layer::Generic;
        }
        let other = OTHERS.iter().find(|(word, _)| essence.contains(word));
        other.map_or(Layer::Unknown, |(_, what)| Layer::Other(what))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers() {
        let is = |text: &str| Layer::of(&essence(text));
        for tar in [
            "application/vnd.oci.image.layer.v1.tar",
            "application/vnd.oci.image.layer.v1.tar+gzip",
            "application/vnd.oci.image.layer.v1.tar+zstd",
            "application/vnd.oci.image.layer.v1.tar+zstd:chunked",
            "application/vnd.oci.image.layer.v1.tar+gzip+estargz",
            "application/vnd.OCI.image.layer.v1.tar+GZIP",
            "application/vnd.oci.image.layer.v1.tar+gzip; charset=binary",
            " application/vnd.oci.image.layer.v1.tar.gzip ;x=y;z",
            "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
            "application/vnd.oci.image.layer.tar+gzip",
            "application/vnd.oci.image.serialization.rootfs.tar.gzip",
            "application/vnd.docker.image.rootfs.diff.tar.gzip",
            "application/vnd.docker.image.rootfs.diff.tar+zstd",
            "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
        ] {
            assert_eq!(is(tar), Layer::Tar, "{tar}");
        }
        for generic in
            ["", ";", "application/octet-stream", "application/tar+gzip", "application/x-tar"]
        {
            assert_eq!(is(generic), Layer::Generic, "{generic}");
        }
        let encrypted = "application/vnd.oci.image.layer.v1.tar+gzip+Encrypted";
        assert_eq!(is(encrypted), Layer::Encrypted);
        for (other, word) in [
            ("application/vnd.erofs.layer.v1", "EROFS"),
            ("application/vnd.oci.image.layer.v1.erofs", "EROFS"),
            ("application/vnd.stacker.image.layer.squashfs+zstd+verity", "SquashFS"),
            ("application/vnd.oci.image.layer.nydus.blob.v1", "Nydus"),
            ("application/vnd.in-toto+json", "attestation"),
            ("application/vnd.oci.image.layer.v1.tar+bzip2", "bzip2"),
            ("application/vnd.oci.image.layer.v1.tar+xz", "xz"),
        ] {
            assert!(matches!(is(other), Layer::Other(what) if what.contains(word)), "{other}");
        }
        for unknown in [
            "application/vnd.ollama.image.model",
            "application/vnd.oci.image.layer.v1.tarball",
            "application/vnd.oci.image.layer.v1.tar+br",
            "application/tar+br",
            "text/plain",
            "image/png",
        ] {
            assert_eq!(is(unknown), Layer::Unknown, "{unknown}");
        }
    }
}
