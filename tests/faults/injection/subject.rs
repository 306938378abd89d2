//! The image that faults happen to: what is in it, its registries, and how it is opened.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use ocifs::cache::{Cache, LayerName};
use ocifs::digest::DiffId;
use ocifs::image::{self, ImageOptions};
use ocifs::layer::Quiet;
use ocifs::reference::ImageName;

use crate::fixture::{noise, options};
use crate::support::image::{Built, Compression, ImageBuilder};
use crate::support::registry::{Referrers, Registry};
use crate::support::tarball::{Entry, tar};

/// What a user would give as `--timeout`: short, as what never comes is waited for in many cases.
const DEADLINE: Duration = Duration::from_secs(1);

/// For what has to come, on a machine that is busy.
const PATIENT: Duration = Duration::from_secs(20);

/// Three layers, of which the second lies where a redirect leads.
pub struct Subject {
    pub built: Built,
    /// Regular files by their paths.
    pub files: BTreeMap<String, Vec<u8>>,
    /// Its layers, the config, and the layer indexes that were pushed.
    pub layers: Vec<String>,
    pub pushed: Vec<String>,
    /// Serves all of it.
    registry: Registry,
    /// The layers' indexes as they are cached.
    indexes: Vec<Vec<u8>>,
}

pub fn subject() -> &'static Subject {
    static SUBJECT: OnceLock<Subject> = OnceLock::new();
    SUBJECT.get_or_init(Subject::new)
}

fn contents() -> Vec<Vec<(&'static str, Vec<u8>)>> {
    let text: Vec<u8> =
        (0..9000).flat_map(|n| format!("{n} of many lines\n").into_bytes()).collect();
    vec![
        vec![("a/big", noise(700_000, 1)), ("a/small", noise(3000, 2)), ("a/old", noise(900, 3))],
        vec![("b/big", noise(560_000, 4)), ("b/empty", Vec::new()), ("a/small", noise(2000, 5))],
        vec![("c/text", text), ("c/x", noise(10, 6))],
    ]
}

impl Subject {
    fn new() -> Subject {
        let layers = contents();
        let archive = |number: usize| {
            let files = layers[number].iter();
            let mut entries: Vec<Entry> =
                files.map(|(path, content)| Entry::file(*path, content.clone())).collect();
            if number == 2 {
                entries.push(Entry::file("a/.wh.old", ""));
                entries.push(Entry::symlink("c/link", "../a/small"));
            }
            tar(&entries)
        };
        let built = ImageBuilder::new()
            .layer(&archive(0), Compression::Gzip)
            .layer(&archive(1), Compression::None)
            .layer(&archive(2), Compression::Zstd)
            .build();
        let mut files: BTreeMap<String, Vec<u8>> = layers
            .into_iter()
            .flatten()
            .map(|(path, content)| (path.to_owned(), content))
            .collect();
        files.remove("a/old");

        let registry = Registry::start();
        registry.add_image("r", "t", &built);
        registry.set_referrers(Referrers::Filtered);
        let name: ImageName = format!("{}/r:t", registry.addr()).parse().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let cache = Arc::new(Cache::open(folder.path()));
        let publication = image::build_indexes(&name, &cache, &options(), &Quiet).unwrap();
        image::push_indexes(&publication, &name, &options()).unwrap();
        let index = |digest: String| {
            cache.layer_index(&LayerName::Blob(digest.parse().unwrap()), u64::MAX).unwrap()
        };
        Subject {
            files,
            layers: built.layer_digests(),
            pushed: publication.indexes.iter().map(|(p, _)| p.blob.digest.to_string()).collect(),
            indexes: built.layer_digests().into_iter().map(index).collect(),
            built,
            registry,
        }
    }

    /// A registry that has it.
    pub fn serve(&self) -> Registry {
        self.registry.copy()
    }

    /// Puts the layers' indexes into a cache, as after the first use.
    pub fn put_indexes(&self, cache: &Cache) {
        let names = self.layers.iter().zip(self.built.diff_ids());
        for ((digest, diff_id), index) in names.zip(&self.indexes) {
            let diff_id = DiffId(diff_id.parse().unwrap());
            cache.put_layer_index(&digest.parse().unwrap(), &diff_id, index);
        }
    }
}

/// Options of one who does not wait for long.
pub fn impatient() -> ImageOptions {
    with_deadline(DEADLINE)
}

pub fn patient() -> ImageOptions {
    with_deadline(PATIENT)
}

fn with_deadline(deadline: Duration) -> ImageOptions {
    let usual = options();
    let registry = usual.registry.clone().with_deadline(deadline);
    ImageOptions { registry, read_deadline: deadline, ..usual }
}
