//! A cache folder, images under a name, and the questions that every broken image is asked.
//!
//! [`refuses`] is the heart of most tables: it offers a broken image through a registry and
//! through an OCI layout, and then the good image of the same name to the same cache.

use std::fs;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use ocifs::cache::{Cache, Limit};
use ocifs::hint::Hint;
use ocifs::image::{Image, ImageOptions};
use ocifs::layer::Quiet;
use ocifs::reference::ImageName;
use ocifs::source::registry;
use ocifs::tree::Symlinks;
use tempfile::TempDir;

use crate::logs;
use crate::support::image::{Built, Compression, ImageBuilder, Layer, write_oci_layout};
use crate::support::registry::Registry;
use crate::support::tarball::{Entry, tar};

/// Nothing here takes nearly as long; more than this is a hang.
pub const HANG: Duration = Duration::from_secs(20);

/// The content of the file `f` of [`good`].
pub const GOOD: &[u8] = b"the right bytes";

/// A folder with a cache in it, gone at the end of the test.
pub struct Sandbox {
    folder: TempDir,
}

impl Sandbox {
    pub fn new() -> Sandbox {
        logs::install();
        Sandbox { folder: tempfile::tempdir().unwrap() }
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// The cache, opened anew as another process would.
    pub fn cache(&self) -> Arc<Cache> {
        self.cache_limited(Limit::Default)
    }

    /// The same with a limit.
    pub fn cache_limited(&self, limit: Limit) -> Arc<Cache> {
        Arc::new(Cache::open_limited(&self.folder.path().join("cache"), limit))
    }

    /// The files that the cache holds of one kind, such as `spans`.
    pub fn cached(&self, kind: &str) -> Vec<PathBuf> {
        files_below(&self.folder.path().join("cache/v1").join(kind))
    }
}

/// All regular files below a folder, in a fixed order.
pub fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut todo = vec![folder.to_owned()];
    while let Some(folder) = todo.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() { todo.push(path) } else { found.push(path) }
        }
    }
    found.sort();
    found
}

/// Options with limits that let a test of a lame registry end soon.
pub fn options() -> ImageOptions {
    ImageOptions {
        registry: registry::RegistryOptions {
            connect_timeout: Duration::from_secs(2),
            read_timeout: Duration::from_secs(1),
            deadline: Duration::from_secs(8),
            ..registry::RegistryOptions::default()
        },
        read_deadline: Duration::from_secs(5),
        ..ImageOptions::default()
    }
}

/// Does something on a thread of its own, and fails the test if it does not come back.
pub fn within<T: Send + 'static>(limit: Duration, act: impl FnOnce() -> T + Send + 'static) -> T {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        // The test may have given up.
        let _ = sender.send(act());
    });
    receiver.recv_timeout(limit).unwrap_or_else(|e| panic!("no answer within {limit:?}: {e}"))
}

/// An error, and what helps.
pub fn with_hint(error: &dyn std::error::Error, hint: Option<Hint>) -> String {
    hint.map_or_else(|| error.to_string(), |hint| format!("{error} [{hint:?}]"))
}

/// Opens an image; the error as a user reads it.
pub fn open(name: &str, cache: &Arc<Cache>, options: &ImageOptions) -> Result<Image, String> {
    let (name, cache, options) = (name.to_owned(), Arc::clone(cache), options.clone());
    within(HANG, move || {
        let name: ImageName = name.parse().map_err(|e| format!("{e}"))?;
        Image::open(&name, &cache, &options, &Quiet).map_err(|e| with_hint(&e, e.hint()))
    })
}

/// Reads a whole file of an image.
pub fn read(image: &Image, path: &str) -> Result<Vec<u8>, String> {
    let filesystem = image.filesystem();
    let ino = filesystem.tree().resolve(path.as_bytes(), Symlinks::Follow);
    let ino = ino.map_err(|e| e.to_string())?;
    let file = filesystem.file(ino).map_err(|e| e.to_string())?;
    let mut bytes = vec![0; file.readable(0, usize::MAX)];
    let started = Instant::now();
    let result = file.read(0, &mut bytes, filesystem.deadline());
    assert!(started.elapsed() < HANG, "reading {path} took {:?}", started.elapsed());
    result.map(|()| bytes).map_err(|e| with_hint(&e, e.hint()))
}

/// Whether a path exists in an image.
pub fn exists(image: &Image, path: &str) -> bool {
    image.filesystem().tree().resolve(path.as_bytes(), Symlinks::Keep).is_ok()
}

/// An image of one layer.
pub fn image_of(tar: &[u8], compression: Compression) -> Built {
    ImageBuilder::new().layer(tar, compression).build()
}

/// An image of one layer, some field of which is wrong.
pub fn image_with(layer: Layer) -> Built {
    ImageBuilder::new().push_layer(layer).build()
}

/// A small image without fault: `f` holds [`GOOD`].
pub fn good() -> Built {
    image_of(&tar(&[Entry::file("f", GOOD)]), Compression::Gzip)
}

/// Bytes that do not compress and are different for each seed.
pub fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let next = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let mut bytes: Vec<u8> =
        std::iter::repeat_with(next).take(length.div_ceil(8)).flat_map(u64::to_le_bytes).collect();
    bytes.truncate(length);
    bytes
}

/// The name of the image `r:t` in a registry.
pub fn name_in(registry: &Registry) -> String {
    format!("{}/r:t", registry.addr())
}

/// What was wrong with the rows of a table; none of them hides another.
#[derive(Default)]
pub struct Verdict(Vec<String>);

impl Verdict {
    pub fn row(&mut self, what: &str, result: Result<(), String>) {
        if let Err(why) = result {
            self.0.push(format!("{what}: {why}"));
        }
    }

    /// A row that should have read the good bytes.
    pub fn good(&mut self, what: &str, result: Result<Vec<u8>, String>) {
        let checked = result.and_then(|bytes| match bytes == GOOD {
            true => Ok(()),
            false => Err("wrong bytes".to_owned()),
        });
        self.row(what, checked);
    }

    pub fn end(self) {
        assert!(self.0.is_empty(), "{} rows failed:\n{}", self.0.len(), self.0.join("\n"));
    }
}

/// Checks that an error has all these words.
pub fn has_words(error: &str, words: &[&str]) -> Result<(), String> {
    match words.iter().find(|word| !error.contains(**word)) {
        Some(word) => Err(format!("`{word}` is not in the error `{error}`")),
        None => Ok(()),
    }
}

/// Checks that opening fails with these words and leaves nothing of the layer in the cache.
pub fn fails(
    sandbox: &Sandbox,
    name: &str,
    options: &ImageOptions,
    words: &[&str],
) -> Result<(), String> {
    match open(name, &sandbox.cache(), options) {
        Ok(_) => return Err("it was opened".to_owned()),
        Err(error) => has_words(&error, words)?,
    }
    for kind in ["layers", "diffs", "spans", "tmp"] {
        if let Some(file) = sandbox.cached(kind).first() {
            return Err(format!("{} is left in the cache", file.display()));
        }
    }
    Ok(())
}

/// Checks that opening succeeds and `f` is right.
pub fn opens(sandbox: &Sandbox, name: &str, options: &ImageOptions) -> Result<(), String> {
    let image = open(name, &sandbox.cache(), options)?;
    match read(&image, "f")? == GOOD {
        true => Ok(()),
        false => Err("`f` has wrong bytes".to_owned()),
    }
}

/// Checks that a broken image is refused with these words, whether it comes from a registry or a
/// layout, and that the good image of the same name can be opened afterwards.
pub fn refuses(bad: &Built, options: &ImageOptions, words: &[&str]) -> Result<(), String> {
    let sandbox = Sandbox::new();
    let registry = Registry::start();
    registry.add_image("r", "t", bad);
    let name = name_in(&registry);
    let in_registry = |e: String| format!("from a registry: {e}");
    fails(&sandbox, &name, options, words).map_err(in_registry)?;
    registry.add_image("r", "t", &good());
    opens(&sandbox, &name, options).map_err(in_registry)?;

    let sandbox = Sandbox::new();
    let layout = sandbox.path().join("layout");
    let name = format!("oci:{}:t", layout.display());
    let in_layout = |e: String| format!("from a layout: {e}");
    write_oci_layout(&layout, &[(Some("t"), bad)]).unwrap();
    fails(&sandbox, &name, options, words).map_err(in_layout)?;
    fs::remove_dir_all(&layout).unwrap();
    write_oci_layout(&layout, &[(Some("t"), &good())]).unwrap();
    opens(&sandbox, &name, options).map_err(in_layout)
}

/// An open image and the folders that it reads from.
pub struct Opened {
    image: Image,
    _sandbox: Sandbox,
}

impl Deref for Opened {
    type Target = Image;

    fn deref(&self) -> &Image {
        &self.image
    }
}

/// Opens an image of one layer from a layout, for archives that are accepted.
pub fn accepts(tar: &[u8]) -> Result<Opened, String> {
    let sandbox = Sandbox::new();
    let layout = sandbox.path().join("layout");
    write_oci_layout(&layout, &[(None, &image_of(tar, Compression::Gzip))]).unwrap();
    let image = open(&format!("oci:{}", layout.display()), &sandbox.cache(), &options())?;
    Ok(Opened { image, _sandbox: sandbox })
}

/// Checks of layers in archives, row by row, that they are refused with these words.
pub fn refuses_all(rows: Vec<(&str, Vec<u8>, &[&str])>) {
    let mut verdict = Verdict::default();
    for (what, archive, words) in rows {
        let image = image_of(&archive, Compression::Gzip);
        verdict.row(what, refuses(&image, &options(), words));
    }
    verdict.end();
}
