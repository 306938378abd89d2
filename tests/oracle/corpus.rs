//! Large real images, compared with umoci in the same way as the small ones.
//!
//! They take gigabytes to make, so that this runs only where a registry has them: the variable
//! `OCIFS_CORPUS_REGISTRY` says `HOST:PORT` of that registry.

use std::env;
use std::io::{self, Write};

use crate::mounted::Home;
use crate::oracle::unpack;
use crate::servers::need_root_and_fuse;
use crate::snapshot::Snapshot;

const VARIABLE: &str = "OCIFS_CORPUS_REGISTRY";

const IMAGES: [&str; 6] = [
    "python-app:v1",
    "python-app:v2",
    "node-app:v1",
    "many-layers:latest",
    "python-app-zstd:v1",
    "python-app-s2:v1",
];

#[test]
fn corpus_images_are_what_umoci_unpacks() {
    let Ok(address) = env::var(VARIABLE) else {
        // Written past the test harness, which keeps the words of tests that pass to itself.
        let note =
            format!("note: corpus_images_are_what_umoci_unpacks needs {VARIABLE}=HOST:PORT\n");
        io::stderr().write_all(note.as_bytes()).unwrap();
        return;
    };
    need_root_and_fuse();
    for image in IMAGES {
        let reference = format!("{address}/{image}");
        let scratch = tempfile::tempdir().unwrap();
        let expected = Snapshot::of(&unpack(&reference, scratch.path()));
        let home = Home::new();
        let mounted = home.mount(&reference);
        Snapshot::assert_same(&expected, &Snapshot::of(mounted.path()), image);
    }
}
