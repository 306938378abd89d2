//! What a tree under a chain ID shows: what umoci makes of an image of these layers alone, for every prefix of stacks that
//! are tricky.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::plugin::{Plugin, block_on, client, log_of};
use crate::snapshot::Snapshot;
use crate::snapshots::{Mounted, fixture, pull, remove, stat, view};
use crate::support::image::{Built, Compression, ImageBuilder, write_oci_layout};
use crate::support::tarball::{Entry, tar};

/// A stack of layers, base first.
type Stack = Vec<Vec<Entry>>;

fn image(stack: &[Vec<Entry>]) -> Built {
    let layers = stack.iter().map(|layer| tar(layer));
    layers
        .fold(ImageBuilder::new(), |builder, layer| builder.layer(&layer, Compression::Gzip))
        .build()
}

/// Unpacks an image with umoci, and returns where to.
fn unpack(image: &Built, scratch: &Path) -> PathBuf {
    let (layout, unpacked) = (scratch.join("layout"), scratch.join("unpacked"));
    write_oci_layout(&layout, &[(Some("t"), image)]).unwrap();
    let name = format!("{}:t", layout.display());
    let umoci =
        Command::new("umoci").args(["raw", "unpack", "--image", &name]).arg(&unpacked).output();
    let umoci = umoci.expect("`umoci` is missing: install umoci");
    assert!(umoci.status.success(), "{umoci:?}");
    unpacked
}

/// Whiteouts of files, of folders, of what has come back, and opaque folders, with and without an entry of their own.
fn whiteouts() -> Stack {
    vec![
        vec![
            Entry::dir("d").mode(0o1777).owner(3, 4),
            Entry::file("d/gone", "x"),
            Entry::file("d/stays", "x").mtime(7, 250_000_000),
            Entry::dir("folder").mode(0o700),
            Entry::file("folder/below", "x"),
            Entry::dir("opaque").mode(0o750),
            Entry::file("opaque/old", "old"),
            Entry::file("opaque/both", "old"),
            Entry::dir("unnamed").mode(0o711).owner(1, 2).mtime(3, 4).xattr("user.kept", "x"),
            Entry::file("unnamed/low", "x"),
            Entry::file("file", "becomes a folder"),
            Entry::dir("becomes-file"),
            Entry::file("becomes-file/below", "x"),
        ],
        vec![
            Entry::file("d/.wh.gone", ""),
            Entry::file(".wh.folder", ""),
            Entry::dir("opaque").mode(0o700).owner(5, 6),
            Entry::file("opaque/both", "new"),
            Entry::file("opaque/.wh..wh..opq", ""),
            Entry::file("unnamed/.wh..wh..opq", ""),
            Entry::file("unnamed/new", "x"),
            Entry::dir("file"),
            Entry::file("file/below", "y"),
            Entry::file("becomes-file", "z"),
        ],
        vec![
            Entry::file("d/gone", "back"),
            Entry::dir("folder").mode(0o711),
            Entry::symlink("folder/below", "../d"),
            Entry::file(".wh.opaque", ""),
            Entry::file("d/.wh.missing", ""),
        ],
        // All goes but what is new.
        vec![Entry::file(".wh..wh..opq", ""), Entry::file("new", "x")],
    ]
}

/// Hard links within a layer, to what a lower one has, and to what is replaced or deleted.
fn hard_links() -> Stack {
    vec![
        vec![
            Entry::dir("d"),
            Entry::file("d/a", "low").mode(0o640).owner(1, 2).mtime(5, 6).xattr("user.k", "v"),
            Entry::hardlink("d/b", "d/a"),
            Entry::file("deleted", "kept by its other name"),
            Entry::hardlink("survivor", "deleted"),
            Entry::file("alone", "x"),
            Entry::file("replaced", "old"),
            Entry::hardlink("keeps-old", "replaced"),
            Entry::symlink("symlink", "alone"),
            Entry::hardlink("to-symlink", "symlink"),
            Entry::fifo("fifo"),
            Entry::hardlink("to-fifo", "fifo"),
        ],
        vec![
            Entry::hardlink("c", "d/b"),
            Entry::hardlink("d/e", "c"),
            Entry::file(".wh.deleted", ""),
            Entry::hardlink("to-alone", "alone"),
            Entry::file("replaced", "new"),
            Entry::hardlink("to-new", "replaced"),
        ],
        vec![
            Entry::file(".wh.d", ""),
            Entry::file("c", "no longer linked"),
            Entry::hardlink("alone", "to-new"),
            Entry::hardlink("back", "to-alone"),
        ],
    ]
}

/// Everything that a file has beside its content, changed by the next layer.
fn attributes() -> Stack {
    // The capability to bind to low ports, permitted and effective, as `setcap` writes it.
    let capability = b"\x01\0\0\x02\0\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
    vec![
        vec![
            Entry::dir("d").mode(0o700).owner(1, 1).mtime(1, 1).xattr("user.low", "1"),
            Entry::file("d/low", "x"),
            Entry::file("capable", "x").mode(0o755).xattr("security.capability", capability),
            Entry::file("plain", "x").mode(0o755),
            Entry::file("setuid", "#!").mode(0o4755).owner(100_000, 200_000),
            Entry::file("noted", "x").xattr("user.note", b"\0=\n\xff"),
            Entry::char_device("null", 1, 3),
            Entry::symlink("dangling", "/nowhere/\u{e9}").owner(7, 8).mtime(9, 0),
        ],
        vec![
            Entry::dir("d").mode(0o755).owner(2, 2).mtime(2, 2).xattr("user.high", "2"),
            Entry::file("d/high", "x"),
            Entry::file("capable", "x").mode(0o755),
            Entry::file("plain", "x").mode(0o755).xattr("security.capability", capability),
            Entry::file("noted", "x").xattr("user.other", "y"),
            Entry::fifo("null"),
        ],
        vec![
            Entry::file("setuid", "#!").mode(0o755),
            Entry::hardlink("also-capable", "plain"),
            Entry::symlink("dangling", "d"),
        ],
    ]
}

#[test]
fn every_prefix_is_what_unpacking_makes() {
    for (name, stack) in
        [("whiteouts", whiteouts()), ("hard links", hard_links()), ("attributes", attributes())]
    {
        let built = image(&stack);
        let (home, registry) = fixture(&built);
        let mut plugin = Plugin::start(&home);
        block_on(async {
            let client = &mut client(&plugin).await;
            let mut layer = pull(client, &registry, &built).await;
            let mut left = Vec::new();
            for count in (1..=stack.len()).rev() {
                let alone = image(&stack[..count]);
                let scratch = tempfile::tempdir().unwrap();
                let mut expected = Snapshot::of(&unpack(&alone, scratch.path()));
                // No entry describes it, so that umoci leaves it to the umask and the clock.
                let root = expected.node_mut(b"");
                (root.mode, root.mtime) = (0o755, (0, 0));
                let mounts = view(client, "v", &layer).await.unwrap();
                let mounted = Mounted::new(&home, "v", &mounts);
                let got = Snapshot::of(mounted.path());
                Snapshot::assert_same(&expected, &got, &format!("{name}: layers 1 to {count}"));
                drop(mounted);
                remove(client, "v").await.unwrap();
                let below = stat(client, &layer).await.unwrap().parent;
                left.push(std::mem::replace(&mut layer, below));
            }
            assert_eq!(layer, "", "each layer has its tree");
            for name in left {
                remove(client, &name).await.unwrap();
            }
        });
        plugin.stop();
        assert_eq!(home.mounts(), Vec::<PathBuf>::new(), "{}", log_of(&home));
    }
}
