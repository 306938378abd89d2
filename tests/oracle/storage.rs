//! One stack of layers, stored in every way that registries serve layers.
//!
//! skopeo and umoci read these as well, but for those where a comment says so.

use crate::oracle::{Case, gzip_image};
use crate::support::image::{
    Built, Compression, DOCKER_LAYER, ImageBuilder, Layer, OCI_LAYER, compress, gzip_all_fields,
};
use crate::support::tarball::{Entry, tar};

/// Two layers whose content crosses the borders of spans, members and frames.
fn tars() -> [Vec<u8>; 2] {
    let text: String = (0..400_000).map(|n| format!("{n:x}\n")).collect();
    let lower = [
        Entry::dir("d").mtime(1, 0),
        Entry::file("d/text", &text),
        Entry::file("d/gone", &text[1000..300_000]),
        Entry::symlink("link", "d/text"),
    ];
    let upper = [
        Entry::file("d/.wh.gone", ""),
        Entry::file("d/new", &text[77..1_500_000]).mode(0o600),
        Entry::hardlink("hard", "d/text"),
    ];
    [tar(&lower), tar(&upper)]
}

fn image(layer: impl Fn(&[u8]) -> Layer) -> Built {
    tars().iter().fold(ImageBuilder::new(), |image, tar| image.push_layer(layer(tar))).build()
}

/// An image that umoci reads as it is.
fn check(name: &str, layer: impl Fn(&[u8]) -> Layer) {
    Case::new(image(layer)).check(name);
}

/// An image that skopeo or umoci does not read: umoci gets the same layers as plain gzip.
fn check_alone(name: &str, layer: impl Fn(&[u8]) -> Layer) {
    Case::new(image(layer)).twin(gzip_image(&tars())).check(name);
}

fn compressed(compression: Compression) -> impl Fn(&[u8]) -> Layer {
    move |tar| Layer::new(tar, compression)
}

#[test]
fn plain_tar() {
    check("plain_tar", compressed(Compression::None));
}

#[test]
fn gzip() {
    check("gzip", compressed(Compression::Gzip));
}

#[test]
fn gzip_multi_member() {
    check("gzip_multi_member", compressed(Compression::GzipMultiMember(100_000)));
}

/// umoci's gzip takes the checksum of the header over its first ten bytes only
/// (golang/go issue 15070, which lives on in its fork).
#[test]
fn gzip_with_all_header_fields() {
    check_alone("gzip_with_all_header_fields", |tar| {
        Layer::from_blob(gzip_all_fields(tar), "gzip", tar)
    });
}

/// umoci takes the zeros for another member.
#[test]
fn gzip_with_trailing_zeros() {
    check_alone("gzip_with_trailing_zeros", |tar| {
        let mut blob = compress(tar, Compression::Gzip);
        blob.resize(blob.len() + 10_000, 0);
        Layer::from_blob(blob, "gzip", tar)
    });
}

#[test]
fn zstd() {
    check("zstd", compressed(Compression::Zstd));
}

#[test]
fn zstd_many_frames() {
    check("zstd_many_frames", compressed(Compression::ZstdManyFrames(50_000)));
}

/// skopeo 1.9 knows zstd by the magic of a data frame, and takes this for a plain tar.
#[test]
fn zstd_skippable_frames() {
    check_alone("zstd_skippable_frames", compressed(Compression::ZstdSkippable));
}

/// umoci believes the media type. Where the layer is not gzip, skopeo corrects it.
#[test]
fn gzip_that_claims_to_be_plain() {
    check_alone("gzip_that_claims_to_be_plain", |tar| {
        Layer::new(tar, Compression::Gzip).media_type(OCI_LAYER)
    });
}

#[test]
fn zstd_that_claims_to_be_gzip() {
    check("zstd_that_claims_to_be_gzip", |tar| {
        Layer::new(tar, Compression::Zstd).media_type(&format!("{OCI_LAYER}+gzip"))
    });
}

#[test]
fn plain_that_claims_to_be_gzip() {
    check("plain_that_claims_to_be_gzip", |tar| {
        Layer::new(tar, Compression::None).media_type(&format!("{OCI_LAYER}+gzip"))
    });
}

#[test]
fn layers_of_different_compression() {
    let [lower, upper] = tars();
    let image =
        ImageBuilder::new().layer(&lower, Compression::Zstd).layer(&upper, Compression::Gzip);
    Case::new(image.build()).check("layers_of_different_compression");
}

#[test]
fn docker_schema_2() {
    let [lower, upper] = tars();
    let image = ImageBuilder::new()
        .docker_schema2(true)
        .layer(&lower, Compression::Gzip)
        .push_layer(Layer::new(&upper, Compression::None).media_type(DOCKER_LAYER));
    Case::new(image.build()).check("docker_schema_2");
}

#[test]
fn empty_layers() {
    let [lower, upper] = tars();
    let image = ImageBuilder::new()
        .layer(&tar(&[]), Compression::Gzip)
        .layer(&lower, Compression::Gzip)
        .layer(&tar(&[]), Compression::Gzip)
        .layer(b"", Compression::Gzip)
        .layer(&upper, Compression::Gzip)
        .layer(&tar(&[]), Compression::Gzip);
    Case::new(image.build()).check("empty_layers");
}

#[test]
fn nothing_but_an_empty_layer() {
    Case::tars(&[tar(&[])]).check("nothing_but_an_empty_layer");
}

#[test]
fn tar_without_its_end() {
    let [lower, upper] = tars();
    let cut = |tar: &[u8]| tar[..tar.len() - 1024].to_vec();
    Case::tars(&[cut(&lower), cut(&upper)]).check("tar_without_its_end");
}
