//! Blobs that containerd on this machine has already: what is right spares the registry, and what
//! is wrong costs a question and not the read.

use std::fs;
use std::io::Read;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ocifs::image::ImageOptions;
use ocifs::oci::Descriptor;
use ocifs::source::local_copies::LocalCopies;
use ocifs::source::registry::{self, Session};
use ocifs::source::{LocalStores, Source};
use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};

use crate::fixture::{
    GOOD, Sandbox, Verdict, fails, good, image_of, name_in, noise, open, opens, read,
};
use crate::lazy::{BIG, Form, Lazy, patient};
use crate::shell::{Home, eventually};
use crate::support::image::{Built, Compression, sha256};
use crate::support::registry::{Fault, Registry, Times};
use crate::support::tarball::{Entry, tar};
use crate::users::home_of_nobody;

/// A content store below a root.
struct Store {
    root: PathBuf,
}

impl Store {
    /// One that holds nothing yet.
    fn new(folder: &Path) -> Store {
        let store = Store { root: folder.join("containerd") };
        fs::create_dir_all(store.folder()).unwrap();
        store
    }

    /// One that has pulled this image.
    fn with(folder: &Path, image: &Built) -> Store {
        let store = Store::new(folder);
        for (digest, blob) in &image.blobs {
            fs::write(store.place(digest), blob).unwrap();
        }
        fs::write(store.place(&image.manifest_digest), &image.manifest).unwrap();
        store
    }

    fn folder(&self) -> PathBuf {
        self.root.join("io.containerd.content.v1.content/blobs/sha256")
    }

    fn place(&self, digest: &str) -> PathBuf {
        self.folder().join(&digest["sha256:".len()..])
    }

    fn options(&self) -> ImageOptions {
        with_roots(&[&self.root])
    }
}

fn with_roots(roots: &[&Path]) -> ImageOptions {
    let content_stores = roots.iter().map(|root| root.to_path_buf()).collect();
    ImageOptions { stores: LocalStores { content_stores, ..LocalStores::default() }, ..patient() }
}

/// How often a registry was asked for a blob whose digest ends so.
fn asked_for(registry: &Registry, digest: &str) -> usize {
    let requests = registry.requests();
    requests.iter().filter(|r| r.path.contains("/blobs/") && r.path.ends_with(digest)).count()
}

fn serving(image: &Built) -> Registry {
    let registry = Registry::start();
    registry.add_image("r", "t", image);
    registry
}

#[test]
fn what_is_here_is_not_downloaded() {
    let (sandbox, image) = (Sandbox::new(), good());
    let registry = serving(&image);
    let store = Store::with(sandbox.path(), &image);
    let empty = sandbox.path().join("nothing");
    // The first root that has something counts, whatever the others are.
    let options = with_roots(&[&empty, Path::new("/dev/null"), &store.root]);
    opens(&sandbox, &name_in(&registry), &options).unwrap();
    assert_eq!(asked_for(&registry, ""), 0);
    assert!(!registry.requests().is_empty(), "names and manifests are the registry's");
    let again = Sandbox::new();
    opens(&again, &name_in(&registry), &with_roots(&[])).unwrap();
    assert_eq!(asked_for(&registry, ""), 2, "config and layer");
}

/// A registry that does not let one in gives nothing, whatever is here.
#[test]
fn access_is_the_registry_s_to_grant() {
    let (sandbox, image) = (Sandbox::new(), good());
    let registry = serving(&image);
    registry.require_basic("me", "secret");
    let store = Store::with(sandbox.path(), &image);
    fails(&sandbox, &name_in(&registry), &store.options(), &["access denied (401)"]).unwrap();
}

/// Makes something of a blob's place.
type Change<'a> = &'a dyn Fn(&Path, &[u8]);

#[test]
fn what_is_wrong_comes_from_the_registry() {
    let flipped = |at: fn(usize) -> usize| {
        move |path: &Path, blob: &[u8]| {
            let mut blob = blob.to_vec();
            let at = at(blob.len());
            blob[at] ^= 1;
            fs::write(path, blob).unwrap();
        }
    };
    let node = |kind: FileType, device| {
        move |path: &Path, _: &[u8]| {
            mknodat(CWD, path, kind, Mode::RUSR | Mode::WUSR, device).unwrap();
        }
    };
    let rows: [(&str, Change<'_>); 13] = [
        ("absent", &|_, _| {}),
        ("first byte", &flipped(|_| 0)),
        ("middle byte", &flipped(|length| length / 2)),
        ("last byte", &flipped(|length| length - 1)),
        ("zeros", &|path, blob| fs::write(path, vec![0; blob.len()]).unwrap()),
        ("empty", &|path, _| fs::write(path, "").unwrap()),
        ("shorter", &|path, blob| fs::write(path, &blob[..blob.len() - 1]).unwrap()),
        ("longer", &|path, blob| fs::write(path, [blob, b"x"].concat()).unwrap()),
        ("folder", &|path, _| fs::create_dir(path).unwrap()),
        ("symlink", &|path, blob| {
            fs::write(path.with_extension("other"), blob).unwrap();
            symlink(path.with_extension("other"), path).unwrap();
        }),
        ("symlink to itself", &|path, _| symlink(path, path).unwrap()),
        ("pipe", &node(FileType::Fifo, 0)),
        ("device", &node(FileType::CharacterDevice, makedev(1, 5))),
    ];
    let image = good();
    let mut verdict = Verdict::default();
    for (what, change) in rows {
        for (digest, blob) in &image.blobs {
            let sandbox = Sandbox::new();
            let registry = serving(&image);
            let store = Store::with(sandbox.path(), &image);
            fs::remove_file(store.place(digest)).unwrap();
            change(&store.place(digest), blob);
            verdict.row(what, opens(&sandbox, &name_in(&registry), &store.options()));
            let asked = (asked_for(&registry, digest), asked_for(&registry, ""));
            verdict.row(what, if asked == (1, 1) { Ok(()) } else { Err(format!("{asked:?}")) });
        }
    }
    verdict.end();
}

/// When both are wrong, the error is that of the registry.
#[test]
fn nobody_has_it_right() {
    let (sandbox, image) = (Sandbox::new(), good());
    let registry = serving(&image);
    let store = Store::with(sandbox.path(), &image);
    let layer = image.layer_digests().remove(0);
    let mut blob = image.blobs[&layer].clone();
    blob[20] ^= 1;
    fs::write(store.place(&layer), &blob).unwrap();
    registry.add_blob("r", &layer, &blob);
    let words = ["does not match its digest", &layer];
    fails(&sandbox, &name_in(&registry), &store.options(), &words).unwrap();
    assert_eq!(asked_for(&registry, &layer), 1);
    registry.fault(("GET", &layer, Times::Always), Fault::Status(404, Vec::new(), Vec::new()));
    fails(&sandbox, &name_in(&registry), &store.options(), &["not found"]).unwrap();
}

/// A blob in a store and in a registry, as one source.
struct Body {
    registry: Registry,
    store: Store,
    source: LocalCopies,
    descriptor: Descriptor,
    blob: Vec<u8>,
    _sandbox: Sandbox,
}

impl Body {
    fn new() -> Body {
        let (sandbox, registry) = (Sandbox::new(), Registry::start());
        let blob = noise(3 << 20, 1);
        let digest = sha256(&blob);
        registry.add_blob("r", &digest, &blob);
        let store = Store::new(sandbox.path());
        fs::write(store.place(&digest), &blob).unwrap();
        let reference = name_in(&registry).parse().unwrap();
        let usual = registry::RegistryOptions::default();
        let behind = registry::Registry::new(reference, &usual, &Session::default());
        let roots = std::slice::from_ref(&store.root);
        let source = LocalCopies::new(Arc::new(behind.unwrap()), roots);
        let json = serde_json::json!({ "digest": digest, "size": blob.len() });
        let descriptor = serde_json::from_value(json).unwrap();
        Body { registry, store, source, descriptor, blob, _sandbox: sandbox }
    }

    fn place(&self) -> PathBuf {
        self.store.place(&self.descriptor.digest.to_string())
    }

    /// Reads a range to its end; something happens when half of it has come.
    fn read(&self, start: u64, end: u64, then: impl FnOnce()) -> Result<Vec<u8>, String> {
        let opened = self.source.blob(&self.descriptor, start..end).map_err(|e| e.to_string())?;
        assert_eq!((opened.start, opened.end), (start, end));
        let mut body = opened.body;
        let mut bytes = vec![0; (end - start) as usize / 2];
        body.read_exact(&mut bytes).map_err(|e| e.to_string())?;
        then();
        body.read_to_end(&mut bytes).map_err(|e| e.to_string())?;
        Ok(bytes)
    }

    #[track_caller]
    fn check(&self, start: u64, end: u64, then: impl FnOnce()) {
        let bytes = self.read(start, end, then).unwrap();
        assert!(bytes == self.blob[start as usize..end as usize], "wrong bytes");
    }

    fn ranges(&self) -> Vec<Option<String>> {
        self.registry.requests().into_iter().map(|request| request.range).collect()
    }

    fn cut(&self, length: u64) {
        fs::File::options().write(true).open(self.place()).unwrap().set_len(length).unwrap();
    }
}

#[test]
fn ranges_come_from_the_store() {
    let body = Body::new();
    let size = body.descriptor.size;
    for (start, end) in [(0, size), (0, 10), (1 << 20, 2 << 20), (size - 2, size), (7, 7)] {
        body.check(start, end, || {});
    }
    assert_eq!(body.ranges(), []);
    assert!(body.source.local_copy(&body.descriptor) == Some(body.store.root.clone()));
    assert!(body.source.blob(&body.descriptor, 0..size + 1).is_err());
}

/// containerd collects its garbage: what is being read goes on, and then the registry is asked.
#[test]
fn a_file_that_vanishes() {
    let body = Body::new();
    body.check(0, 1 << 20, || fs::remove_file(body.place()).unwrap());
    assert_eq!(body.ranges(), []);
    body.check(1 << 20, 2 << 20, || {});
    assert_eq!(body.ranges(), [Some("bytes=1048576-2097151".to_owned())]);
    assert_eq!(body.source.local_copy(&body.descriptor), None);
    // It is not looked for again.
    fs::write(body.place(), &body.blob).unwrap();
    body.check(0, 1 << 20, || {});
    assert_eq!(body.ranges().len(), 2);
}

#[test]
fn a_file_that_becomes_shorter_is_left_in_the_middle() {
    for ignores_range in [false, true] {
        let body = Body::new();
        if ignores_range {
            body.registry.fault(("", "", Times::Always), Fault::IgnoreRange);
        }
        let size = body.descriptor.size;
        body.check(1 << 20, size, || body.cut((2 << 20) + 1));
        assert_eq!(body.ranges(), [Some(format!("bytes=2097153-{}", size - 1))]);
        body.check(0, size, || {});
        assert_eq!(body.ranges().len(), 2, "all of it from the registry now");
        // What had come from the store before may have been wrong, so that has the blame first.
        assert!(body.source.distrust(&body.descriptor.digest));
        assert!(!body.source.distrust(&body.descriptor.digest), "there is nobody else");
    }
    // The registry is down as well: an error, and it comes soon.
    let body = Body::new();
    let gone = Fault::Status(404, Vec::new(), Vec::new());
    body.registry.fault(("", "", Times::Always), gone);
    let error = body.read(0, 1 << 20, || body.cut(1 << 19)).unwrap_err();
    assert!(error.contains("not found"), "{error}");
}

#[test]
fn who_is_distrusted_is_not_asked() {
    let body = Body::new();
    let digest = body.descriptor.digest;
    assert!(!body.source.distrust(&digest), "nothing came from a store yet");
    body.check(0, 1 << 20, || {});
    assert!(body.source.distrust(&digest));
    body.check(0, 1 << 20, || {});
    assert_eq!(body.ranges().len(), 1);
    assert!(!body.source.distrust(&digest));
}

/// Whether there is a store is found out once.
#[test]
fn a_root_without_a_store_is_asked_once() {
    let body = Body::new();
    let content = body.store.root.join("io.containerd.content.v1.content");
    let aside = body.store.root.join("aside");
    fs::rename(&content, &aside).unwrap();
    body.check(0, 10, || {});
    fs::rename(&aside, &content).unwrap();
    let other = noise(1000, 2);
    let digest = sha256(&other);
    body.registry.add_blob("r", &digest, &other);
    fs::write(body.store.place(&digest), &other).unwrap();
    let json = serde_json::json!({ "digest": digest, "size": other.len() });
    let descriptor: Descriptor = serde_json::from_value(json).unwrap();
    let mut bytes = Vec::new();
    body.source.blob(&descriptor, 0..1000).unwrap().body.read_to_end(&mut bytes).unwrap();
    assert!(bytes == other);
    assert_eq!(body.ranges().len(), 2);
}

/// An image of which only the layer indexes are cached, and which is in a store as well.
fn lazy() -> (Lazy, Store) {
    let sandbox = Sandbox::new();
    let corpus = crate::lazy::corpus(Form::Gzip);
    let store = Store::with(sandbox.path(), &corpus.built);
    let registry = serving(&corpus.built);
    let cache = sandbox.cache();
    corpus.put_indexes(&cache);
    let image = open(&name_in(&registry), &cache, &store.options()).unwrap();
    registry.clear_log();
    (Lazy { image: Arc::new(image), registry, sandbox, corpus }, store)
}

#[test]
fn reads_of_a_mount_come_from_the_store() {
    let (lazy, store) = lazy();
    let big = lazy.corpus.file(BIG);
    lazy.check(big, 5 << 20..6 << 20);
    assert_eq!(lazy.registry.requests(), []);
    // The garbage collection takes the layer.
    fs::remove_file(store.place(&lazy.corpus.digests[big.layer])).unwrap();
    lazy.check(big, 10 << 20..11 << 20);
    assert!(lazy.cost(big.layer).requests > 0);
    let other = lazy.corpus.files.iter().find(|file| file.layer != big.layer).unwrap();
    lazy.check_whole(other);
    assert_eq!(lazy.cost(other.layer).requests, 0, "the others are still there");
}

#[test]
fn a_read_of_wrong_bytes_is_answered_by_the_registry() {
    let (lazy, store) = lazy();
    let big = lazy.corpus.file(BIG);
    let place = store.place(&lazy.corpus.digests[big.layer]);
    let zeros = vec![0; fs::metadata(&place).unwrap().len() as usize];
    fs::write(&place, zeros).unwrap();
    lazy.check_whole(big);
    let cost = lazy.cost(big.layer);
    assert!(cost.requests > 0);
    assert!(cost.bytes <= 2 * lazy.corpus.sizes[big.layer], "{cost:?}");
}

#[test]
fn several_readers_of_wrong_bytes() {
    let (lazy, store) = lazy();
    let big = lazy.corpus.file(BIG);
    let place = store.place(&lazy.corpus.digests[big.layer]);
    let zeros = vec![0; fs::metadata(&place).unwrap().len() as usize];
    fs::write(&place, zeros).unwrap();
    std::thread::scope(|scope| {
        for reader in 0..6 {
            let lazy = &lazy;
            scope.spawn(move || lazy.check(big, reader * (3 << 20)..reader * (3 << 20) + 4096));
        }
    });
}

/// A user to whom the store says nothing has the image from the registry.
#[test]
fn a_folder_that_may_not_be_read() {
    let image = good();
    let registry = serving(&image);
    let home = home_of_nobody();
    let store = Store::with(&home.path(), &image);
    home.configure(&format!("content-stores = ['{}']\n", store.root.display()));
    let name = name_in(&registry);
    let blobs = store.folder().parent().unwrap().to_owned();
    for (place, mode, asked) in [
        (store.root.clone(), 0o700, 2),
        (blobs, 0o600, 2),
        (store.folder(), 0o700, 2),
        (store.place(&image.layer_digests()[0]), 0o400, 1),
        (store.place(&image.layer_digests()[0]), 0o444, 0),
    ] {
        registry.clear_log();
        let usual = fs::metadata(&place).unwrap().permissions();
        fs::set_permissions(&place, fs::Permissions::from_mode(mode)).unwrap();
        let outcome = home.run(&["cat", &name, "f"]);
        fs::set_permissions(&place, usual).unwrap();
        assert_eq!(outcome.stdout.as_bytes(), GOOD, "{outcome:?}");
        assert_eq!(outcome.stderr, "");
        assert_eq!(asked_for(&registry, ""), asked, "{mode:o} {}", place.display());
        fs::remove_dir_all(home.path().join("cache")).unwrap();
    }
}

#[test]
fn users_say_where_and_whether() {
    let (home, image) = (Home::new(), good());
    let registry = serving(&image);
    let name = name_in(&registry);
    let store = Store::with(&home.path(), &image);
    let root = store.root.to_str().unwrap();
    let set = |text: &str| home.configure(text);
    let in_settings = format!("content-stores = ['{root}']\n");
    for (text, words, asked) in [
        ("", &[][..], 2),
        ("", &["--content-store", root], 0),
        ("", &["--content-store", "none"], 2),
        (&in_settings, &[], 0),
        (&in_settings, &["--content-store=none"], 2),
        ("content-stores = []", &[], 2),
        ("content-stores = ['/nowhere']", &[], 2),
    ] {
        set(text);
        registry.clear_log();
        let outcome = home.run(&[&["cat", &name, "f"], words].concat());
        assert_eq!(outcome.stdout.as_bytes(), GOOD, "{outcome:?}");
        assert_eq!(asked_for(&registry, ""), asked, "{text} {words:?}");
        fs::remove_dir_all(home.path().join("cache")).unwrap();
    }
    set("");
    let content = format!("{root}/x/io.containerd.content.v1.content: No such file");
    let nowhere = format!("{root}/x");
    home.run(&["cat", "--content-store", &nowhere, &name, "f"]).failed(1, &[&content]);
    set("content-stores = ['containerd']");
    home.run(&["cat", &name, "f"]).failed(1, &["`containerd` is not absolute"]);
    set("");

    // Said with `-v`, and by the status of a mount.
    let outcome = home.run(&["-v", "cat", "--content-store", root, &name, "f"]);
    let layer = &image.layer_digests()[0][7..];
    assert!(outcome.stderr.contains(store.place(&format!("sha256:{layer}")).to_str().unwrap()));
    home.run(&["mount", "--content-store", root, &name, "M"]).succeeded();
    let outcome = home.run(&["status", "M"]);
    let row = format!("store     1 of them are taken from {root}");
    assert!(outcome.stdout.contains(&row), "{outcome:?}");
    let status = home.status();
    assert_eq!(status["layers"][0]["store"], root, "{status}");
    fs::remove_file(store.place(&image.layer_digests()[0])).unwrap();
    assert!(!home.run(&["status", "M"]).stdout.contains("store"));
    home.run(&["umount", "M"]).succeeded();
    assert!(eventually(|| home.mounts().is_empty()));

    // What is said of a registry is asked of the registry.
    let store = Store::with(&home.path().join("2"), &image);
    let root = store.root.to_str().unwrap();
    registry.clear_log();
    fs::remove_dir_all(home.path().join("cache")).unwrap();
    let outcome = home.run(&["verify", "--content-store", root, &name]);
    assert_eq!(outcome.code, 0, "{outcome:?}");
    assert_eq!(asked_for(&registry, &image.layer_digests()[0]), 1);
}

/// A large layer that is here is not written to the disk once more while it is indexed, and what is left
/// of an interrupted download is of no interest.
#[test]
fn no_download_is_kept_of_what_is_here() {
    let sandbox = Sandbox::new();
    let content = noise(9 << 20, 3);
    let image = image_of(&tar(&[Entry::file("f", &content)]), Compression::Gzip);
    let registry = serving(&image);
    let store = Store::with(sandbox.path(), &image);
    let cache = sandbox.cache();
    let layer = image.layer_digests().remove(0);
    let (digest, size) = (layer.parse().unwrap(), image.blobs[&layer].len() as u64);
    assert!(cache.partial(&digest, size).unwrap().put(0, b"not the layer"));
    let image = open(&name_in(&registry), &cache, &store.options()).unwrap();
    assert!(read(&image, "f").unwrap() == content);
    assert_eq!(asked_for(&registry, ""), 0);
    assert_eq!(cache.partial(&digest, size).unwrap().kept().bytes(), 13);
}
