//! Layers with a table of contents as a real tool writes them: `verify` finds nothing wrong with an
//! honest one.
//!
//! skopeo 1.9 writes zstd:chunked, and drops the zeros behind the end mark of a tar with it
//! (containers/storage#1771).

use crate::mounted::Home;
use crate::oracle::gzip_image;
use crate::servers::{Registry, program, run};
use crate::snapshot::Snapshot;
use crate::support::image::write_oci_layout;
use crate::support::tarball::{Entry, tar};

/// What tables of contents get wrong easily, in more than is streamed at once.
fn archive() -> Vec<u8> {
    let noise: Vec<u8> =
        (0..900_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 23) as u8 ^ n as u8).collect();
    let landmark = ".prefetch.landmark";
    tar(&[
        Entry::dir("d").mtime(-5, 250_000_000),
        Entry::file("d/noise", &noise).mtime(1000, 700_000_000),
        Entry::file("x", "replaced").owner(1, 2),
        Entry::hardlink("linked", "x"),
        Entry::file("x", "by another").mode(0o4755),
        Entry::file("zeros", [&vec![0; 200_000][..], b"end"].concat()),
        Entry::file("mac", "x").xattr("com.apple.provenance", "x").xattr("user.key", "v"),
        Entry::file("nobody", "x").owner(u32::MAX, u32::MAX),
        Entry::file(landmark, "a program"),
        Entry::hardlink("landmark", landmark),
        Entry::char_device("null", 1, 3).mtime(0, 900_000_000),
        Entry::symlink("s", "d"),
        Entry::file("d/empty", ""),
    ])
}

#[test]
fn zstd_chunked_of_skopeo() {
    let registry = Registry::shared();
    let home = Home::new();
    let whole = archive();
    let padded = [&whole[..], &[0; 20 * 512]].concat();
    let name = |tag: &str| format!("{}/zstd-chunked:{tag}", registry.address());
    for (tar, what) in [(whole, "whole"), (padded, "padded")] {
        let folder = tempfile::tempdir().unwrap();
        write_oci_layout(folder.path(), &[(Some("v1"), &gzip_image(&[tar]))]).unwrap();
        let (plain, chunked) = (format!("oci:{}:v1", folder.path().display()), name(what));
        run(program("skopeo", "skopeo")
            .args(["copy", "--quiet", "--dest-tls-verify=false"])
            .args(["--format=oci", "--dest-compress-format=zstd:chunked"])
            .args([plain.clone(), format!("docker://{chunked}")]));
        // A table says where zeros are, and so they are a hole.
        let look = |reference: &str| {
            let mut found = Snapshot::of(home.mount(reference).path());
            found.node_mut(b"zeros").blocks = None;
            found
        };
        // By the table, as nothing has been streamed yet.
        let by_table = look(&chunked);
        let expected = look(&plain);
        Snapshot::assert_same(&expected, &by_table, what);
        let output = home.ocifs().args(["verify", &chunked]).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        match what {
            "whole" => assert!(output.status.success() && said.contains(": ok"), "{said}"),
            _ => {
                assert!(!output.status.success(), "{said}");
                assert!(said.contains("only padding is missing: with 10240 bytes"), "{said}");
                assert!(!said.contains("SPLIT VIEW"), "{said}");
            }
        }
        Snapshot::assert_same(&expected, &look(&chunked), what);
    }
}
