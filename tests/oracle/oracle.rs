//! One image, seen by `ocifs` through FUSE and unpacked by skopeo and umoci.
//!
//! Both fetch it from the same real registry. A [`Case`] is an image and what has to be said about
//! umoci's view of it. Where umoci is wrong or leaves something to chance, its snapshot is not
//! ignored but corrected to the value that `ocifs` promises, so that this value is tested too. A
//! correction that changes nothing is an error: it would hide the day when umoci gets it right.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::mounted::Home;
use crate::servers::{Registry, has_kernel_metadata, need_root_and_fuse, program, run};
use crate::snapshot::{Node, Snapshot};
use crate::support::image::{Built, Compression, ImageBuilder, push};
use crate::support::tarball::{Entry, tar};

/// Sets fields to what `ocifs` promises.
type Correction = fn(&mut Node);

/// An image to be looked at both ways.
pub struct Case {
    image: Built,
    /// What umoci gets instead, where it can't read the image itself.
    twin: Option<Built>,
    corrections: Vec<(Vec<u8>, Correction)>,
}

impl Case {
    pub fn new(image: Built) -> Case {
        Case { image, twin: None, corrections: Vec::new() }
    }

    /// An image of gzip layers, base first.
    pub fn layers(layers: &[&[Entry]]) -> Case {
        let tars: Vec<Vec<u8>> = layers.iter().map(|entries| tar(entries)).collect();
        Case::tars(&tars)
    }

    /// An image of gzip layers, base first, from their archives.
    pub fn tars(tars: &[Vec<u8>]) -> Case {
        Case::new(gzip_image(tars))
    }

    /// Gives umoci another image that has to look the same.
    pub fn twin(mut self, twin: Built) -> Case {
        self.twin = Some(twin);
        self
    }

    /// Corrects umoci's view of a path.
    pub fn correct(mut self, path: impl AsRef<[u8]>, correction: Correction) -> Case {
        self.corrections.push((path.as_ref().to_vec(), correction));
        self
    }

    /// Marks a directory that no entry describes. Nobody defines its attributes: umoci leaves them
    /// to the umask and the clock, `ocifs` has constants.
    pub fn implied(self, path: &str) -> Case {
        self.correct(path, |node| {
            (node.mode, node.uid, node.gid, node.mtime) = (0o755, 0, 0, (0, 0));
        })
    }

    /// Marks a directory that an entry dates to the epoch, and whose time umoci loses: it restores
    /// a directory's time only after an entry directly in it.
    pub fn touched(self, path: &str) -> Case {
        self.correct(path, |node| node.mtime = (0, 0))
    }

    /// Pushes, mounts, unpacks and compares.
    pub fn check(self, name: &str) {
        need_root_and_fuse();
        let registry = Registry::shared();
        let scratch = tempfile::tempdir().unwrap();
        push(&self.image, registry.address(), name, "latest").unwrap();
        let reference = format!("{}/{name}:latest", registry.address());
        let unpacked = match &self.twin {
            None => unpack(&reference, scratch.path()),
            Some(twin) => {
                push(twin, registry.address(), name, "twin").unwrap();
                unpack(&format!("{}/{name}:twin", registry.address()), scratch.path())
            }
        };
        let mut expected = Snapshot::of(&unpacked);
        for (path, correction) in &self.corrections {
            let node = expected.node_mut(path);
            let before = node.clone();
            correction(node);
            let path = path.escape_ascii();
            assert!(*node != before, "{name}: umoci needs no correction at `{path}`");
        }
        let home = Home::new();
        let mounted = home.mount(&reference);
        Snapshot::assert_same(&expected, &Snapshot::of(mounted.path()), name);
        let store = home.store(&[&reference]);
        let top = prefixes(store.path()).pop().unwrap();
        Snapshot::assert_same(&expected, &Snapshot::of(&top), &format!("{name}, in a store"));
        if has_kernel_metadata() {
            let mounted = home.mount_with(&["--kernel-metadata"], &reference);
            let whose = format!("{name}, --kernel-metadata");
            Snapshot::assert_same(&expected, &Snapshot::of(mounted.path()), &whose);
        }
    }
}

/// The directories of a store with one image: what each layer makes with those below it, base first.
pub fn prefixes(store: &Path) -> Vec<PathBuf> {
    let layers = std::fs::read(store.join("overlay-layers/layers.json")).unwrap();
    let layers: Vec<Value> = serde_json::from_slice(&layers).unwrap();
    let ids = layers.iter().map(|layer| layer["id"].as_str().unwrap().to_owned());
    ids.map(|id| store.join("overlay").join(id).join("diff")).collect()
}

/// An image of gzip layers, base first.
pub fn gzip_image(tars: &[Vec<u8>]) -> Built {
    let builder = ImageBuilder::new();
    tars.iter().fold(builder, |builder, tar| builder.layer(tar, Compression::Gzip)).build()
}

/// Unpacks an image of a registry below `scratch` with skopeo and umoci, and returns where to.
///
/// umoci 0.4.7 reads no zstd, so that skopeo is told to store layers as gzip; those that are gzip
/// already remain as they are.
pub fn unpack(reference: &str, scratch: &Path) -> PathBuf {
    let layout = format!("{}:image", scratch.join("layout").display());
    run(program("skopeo", "skopeo")
        .args(["copy", "--quiet", "--src-tls-verify=false", "--dest-compress-format=gzip"])
        .arg(format!("docker://{reference}"))
        .arg(format!("oci:{layout}")));
    let unpacked = scratch.join("unpacked");
    run(program("umoci", "umoci").args(["raw", "unpack", "--image", &layout]).arg(&unpacked));
    unpacked
}
