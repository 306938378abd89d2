//! Several images in one mount: what they share, what they must not, and what goes wrong with one.

use std::fs;
use std::sync::Arc;
use std::thread;

use ocifs::cache::Cache;
use ocifs::fs::PROOF_XATTR;
use ocifs::image::{ImageOptions, ImageSet, View};
use ocifs::index::Proof;
use ocifs::layer::Quiet;
use ocifs::reference::{DirectoryName, ImageName};
use ocifs::source::registry::{ConfigFiles, HostsConfig};
use ocifs::tree::{Ino, Sharing, Symlinks};

use crate::external_fixture::{BOOKKEEPING, entries, image, ways};
use crate::fixture::{Sandbox, good, image_of, noise, options};
use crate::lazy_walks::forget_spans;
use crate::shell::{Home, eventually, text};
use crate::support::image::{Built, Compression, ImageBuilder};
use crate::support::registry::{Fault, Gate, Registry, Times};
use crate::support::tarball::{Entry, tar};

/// Opens images of a registry, in the order and with the names of their tags.
fn joint(registry: &Registry, names: &[&str], cache: &Arc<Cache>, options: &ImageOptions) -> View {
    let mut joint = ImageSet::new(cache, options);
    let images = named(registry, names);
    let images = images.iter().map(|(directory, image)| (directory.clone(), image, options));
    joint.add_all(&images.collect::<Vec<_>>(), &Quiet).unwrap();
    joint.finish(Sharing::Equal).unwrap()
}

/// Directories and names of images.
fn named(registry: &Registry, names: &[&str]) -> Vec<(DirectoryName, ImageName)> {
    let named = names.iter().map(|name| {
        let image = format!("{}/{name}", registry.addr()).parse().unwrap();
        (name.replace(['/', ':'], "-").parse().unwrap(), image)
    });
    named.collect()
}

fn ino(view: &View, path: &str) -> Ino {
    view.filesystem().tree().resolve(path.as_bytes(), Symlinks::Keep).expect(path)
}

fn read(view: &View, path: &str) -> Vec<u8> {
    let filesystem = view.filesystem();
    let file = filesystem.file(ino(view, path)).unwrap();
    let mut bytes = vec![0; file.readable(0, usize::MAX)];
    file.read(0, &mut bytes, filesystem.deadline()).unwrap();
    bytes
}

/// How often each blob of an image was asked for.
fn asked(registry: &Registry, built: &Built) -> Vec<usize> {
    let requests = registry.requests();
    let of = |digest: &String| requests.iter().filter(|r| r.path.ends_with(digest)).count();
    built.layer_digests().iter().map(of).collect()
}

#[test]
fn common_layers_are_opened_once() {
    let base = tar(&[Entry::file("big", noise(2 << 20, 1)), Entry::file("f", "base")]);
    let image = |n: u8| {
        let top = tar(&[Entry::file("n", [b'0' + n])]);
        let builder = ImageBuilder::new().layer(&base, Compression::Gzip);
        builder.layer(&top, Compression::Gzip).build()
    };
    let registry = Registry::start();
    let built = [image(1), image(2)];
    registry.add_image("r", "v1", &built[0]);
    registry.add_image("r", "v2", &built[1]);
    // Another repository has the same layers.
    registry.add_image("other/r", "v1", &built[0]);
    let sandbox = Sandbox::new();
    let file = sandbox.path().join("file");
    fs::write(&file, b"").unwrap();
    // The last cache can't be written: what is known is known all the same.
    let unusable = Arc::new(Cache::open(&file.join("cache")));
    for (cache, what) in [(sandbox.cache(), "a cache"), (unusable, "no cache")] {
        registry.clear_log();
        let view = joint(&registry, &["r:v1", "r:v2", "other/r:v1"], &cache, &options());
        assert_eq!(asked(&registry, &built[0]), [1, 1], "{what}");
        assert_eq!(asked(&registry, &built[1]), [1, 1], "{what}");
        assert_eq!(view.filesystem().contents().layers().len(), 3, "{what}");
        assert_eq!(view.traffic().requests(), registry.requests().len() as u64, "{what}");
        assert_eq!(view.images().len(), 3);
        for (path, content) in [("r-v1/n", "1"), ("r-v2/n", "2"), ("other-r-v1/n", "1")] {
            assert_eq!(read(&view, path), content.as_bytes(), "{what}");
        }
        let big = ["r-v1/big", "r-v2/big", "other-r-v1/big"].map(|path| ino(&view, path));
        assert!(big[0] == big[1] && big[0] == big[2], "{what}");
        assert!(read(&view, "r-v2/big") == noise(2 << 20, 1), "{what}");
        assert_eq!(ino(&view, "r-v1/n"), ino(&view, "other-r-v1/n"));
        assert_ne!(ino(&view, "r-v1/n"), ino(&view, "r-v2/n"));
    }
}

/// While the manifest of one image does not come, others are resolved; while a layer of one does not come, layers of the
/// others do. And what two have in common is asked for once, whichever of them it is first missing for.
#[test]
fn images_are_opened_together() {
    let layer = |seed| tar(&[Entry::file(format!("f{seed}"), noise(1 << 20, seed))]);
    let image = |own| {
        let builder = ImageBuilder::new().layer(&layer(100), Compression::Gzip);
        builder.layer(&layer(own), Compression::Gzip).build()
    };
    let registry = Registry::start();
    let names = ["r:v1", "r:v2", "r:v3"];
    let built = [image(1), image(2), image(3)];
    for (name, built) in names.iter().zip(&built) {
        registry.add_image("r", &name[2..], built);
    }
    let own = |n: usize| built[n].layer_digests()[1].clone();
    let (manifest, blob) = (Gate::default(), Gate::default());
    registry.fault(("GET", "/manifests/v1", Times::Always), Fault::Hold(manifest.clone()));
    registry.fault(("GET", &own(0), Times::Always), Fault::Hold(blob.clone()));
    let is_asked = |path: &str| registry.requests().iter().any(|r| r.path.ends_with(path));
    let sandbox = Sandbox::new();
    let view = thread::scope(|scope| {
        let opening = scope.spawn(|| joint(&registry, &names, &sandbox.cache(), &options()));
        assert!(eventually(|| is_asked("/manifests/v2") && is_asked("/manifests/v3")));
        manifest.open();
        assert!(eventually(|| is_asked(&own(1)) && is_asked(&own(2))));
        blob.open();
        opening.join().unwrap()
    });
    for (n, built) in built.iter().enumerate() {
        assert_eq!(asked(&registry, built), [1, 1]);
        assert!(read(&view, &format!("r-v{}/f{}", n + 1, n + 1)) == noise(1 << 20, n as u64 + 1));
        assert!(read(&view, &format!("r-v{}/f100", n + 1)) == noise(1 << 20, 100));
    }
}

/// Of images that are opened together the one that can't be is named, and the others are as they were.
#[test]
fn the_one_that_fails_is_named() {
    let (registry, sandbox) = (Registry::start(), Sandbox::new());
    let large = |seed| image_of(&tar(&[Entry::file("f", noise(1 << 20, seed))]), Compression::Gzip);
    let bad = large(2);
    for (tag, built) in [("v1", &large(1)), ("v2", &bad), ("v3", &large(3)), ("v4", &large(4))] {
        registry.add_image("r", tag, built);
    }
    let mut set = ImageSet::new(&sandbox.cache(), &options());
    let options = options();
    let mut add = |names: &[&str]| {
        let images = named(&registry, names);
        let images = images.iter().map(|(directory, image)| (directory.clone(), image, &options));
        set.add_all(&images.collect::<Vec<_>>(), &Quiet).map_err(|e| (e.image, e.error.to_string()))
    };
    add(&["r:v4"]).unwrap();
    let digest = &bad.layer_digests()[0];
    registry.fault(("GET", digest, Times::Always), Fault::FlipByte(5000));
    let (image, error) = add(&["r:v1", "r:v2", "r:v3"]).unwrap_err();
    assert!(image == 1 && error.contains(digest), "{image}: {error}");
    let (image, error) = add(&["r:v1", "r:v3", "r:none"]).unwrap_err();
    assert!(image == 2 && error.contains("none"), "{image}: {error}");
    let (image, error) = add(&["r:v1", "r:v4"]).unwrap_err();
    assert!(image == 1 && error.contains("r-v4"), "{image}: {error}");
    registry.clear_faults();
    add(&["r:v1", "r:v2"]).unwrap();
    let view = set.finish(Sharing::Equal).unwrap();
    for (directory, seed) in [("r-v1", 1), ("r-v2", 2), ("r-v4", 4)] {
        assert!(read(&view, &format!("{directory}/f")) == noise(1 << 20, seed));
    }
    assert_eq!(view.images().len(), 3);
}

/// Images of one registry ask for one token for each repository.
#[test]
fn one_token_for_each_repository() {
    let registry = Registry::start();
    let names = ["r:v1", "r:v2", "other/r:v1", "other/r:v2"];
    for (n, name) in names.iter().enumerate() {
        let (repository, tag) = name.split_once(':').unwrap();
        let layer = tar(&[Entry::file("n", [b'0' + n as u8])]);
        registry.add_image(repository, tag, &image_of(&layer, Compression::Gzip));
    }
    registry.require_bearer(None);
    let view = joint(&registry, &names, &Sandbox::new().cache(), &options());
    let requests = registry.requests();
    let tokens = requests.iter().filter(|request| request.path.starts_with("/token"));
    assert_eq!(tokens.count(), 2, "{requests:?}");
    assert_eq!(view.traffic().requests(), requests.len() as u64);
    assert_eq!(read(&view, "other-r-v2/n"), b"3");
}

/// A registry that asks one image to leave it alone is not asked for the next one either.
#[test]
fn rate_limits_are_shared() {
    let registry = Registry::start();
    registry.add_image("r", "v1", &good());
    registry.add_image("other/r", "v1", &good());
    let hour = vec![("Retry-After".to_owned(), "3600".to_owned())];
    registry.fault(("", "/v2/r/", Times::Always), Fault::Status(429, hour, Vec::new()));
    let sandbox = Sandbox::new();
    let mut joint = ImageSet::new(&sandbox.cache(), &options());
    let mut add = |name: &str| {
        let image = format!("{}/{name}:v1", registry.addr()).parse().unwrap();
        let directory = name.replace('/', "-").parse().unwrap();
        joint.add(directory, &image, &options(), &Quiet).unwrap_err().to_string()
    };
    add("r");
    let asked = registry.requests().len();
    let error = add("other/r");
    assert!(error.contains("429"), "{error}");
    assert_eq!((registry.requests().len(), asked), (1, 1));
}

/// Files about registries are parsed once for all images.
#[test]
fn settings_are_read_once() {
    let registry = Registry::start();
    let sandbox = Sandbox::new();
    let path = sandbox.path().join("registries.conf");
    let text = format!("[[registry]]\nprefix = 'old.example'\nlocation = '{}'\n", registry.addr());
    fs::write(&path, text).unwrap();
    let files = ConfigFiles { registries: vec![path.clone()], ..ConfigFiles::default() };
    let mut options = options();
    options.registry.hosts = Arc::new(HostsConfig::new(files));
    let mut joint = ImageSet::new(&sandbox.cache(), &options);
    for name in ["r", "other"] {
        registry.add_image(name, "v1", &good());
        let image = format!("old.example/{name}:v1").parse().unwrap();
        joint.add(name.parse().unwrap(), &image, &options, &Quiet).unwrap();
        // What it says is not looked at again.
        fs::write(&path, "[[registry]]\nlocation = 'old.example'\nblocked = true\n").unwrap();
    }
}

/// A walk over one of them brings nothing ahead that only another one has, though it comes by files of both.
#[test]
fn a_walk_over_one_stays_there() {
    // Each file in a layer of its own.
    let content = |path: &str| noise(64 << 10, xxhash_rust::xxh3::xxh3_64(path.as_bytes()));
    let image = |paths: &[&str]| {
        let layer = |path: &&str| tar(&[Entry::file(*path, content(path))]);
        let layers = paths.iter().map(layer);
        let builder = ImageBuilder::new();
        layers.fold(builder, |builder, tar| builder.layer(&tar, Compression::None)).build()
    };
    let both = ["e/1", "e/2", "e/3"];
    let own = ["d/1", "d/2", "d/3", "d/4"];
    let registry = Registry::start();
    let built =
        [image(&both), image(&[&own[..], &both[..], &["f/1"]].concat()), image(&["g/1", "g/2"])];
    let names = ["r:v1", "r:v2", "r:v3"];
    for (name, built) in names.iter().zip(&built) {
        registry.add_image("r", &name[2..], built);
    }
    let sandbox = Sandbox::new();
    drop(joint(&registry, &names, &sandbox.cache(), &options()));
    forget_spans(&sandbox.path().join("cache"));
    let view = joint(&registry, &names, &sandbox.cache(), &options());
    assert_eq!(ino(&view, "r-v1/e/1"), ino(&view, "r-v2/e/1"));
    registry.clear_log();
    for path in own.iter().chain(&both) {
        assert!(read(&view, &format!("r-v2/{path}")) == content(path), "{path}");
    }
    // It was taken for a walk: what the same image has behind comes before it is read.
    assert!(eventually(|| asked(&registry, &built[1])[7] > 0), "nothing comes ahead of the walk");
    assert_eq!(asked(&registry, &built[2]), [0, 0]);
}

/// What the writer of a layer says of it counts only for images whose manifest binds it.
#[test]
fn a_table_of_contents_is_for_the_images_that_name_it() {
    for way in ways() {
        let what = way.what;
        let layer = (way.write)(&entries(1), None);
        let registry = Registry::start();
        registry.add_image("r", "toc", &image([way.layer(&layer)]));
        registry.add_image("r", "again", &image([way.layer(&layer)]));
        registry.add_image("r", "plain", &image([way.unannotated(&layer)]));
        let sandbox = Sandbox::new();
        let names = ["r:toc", "r:again", "r:plain"];
        let view = joint(&registry, &names, &sandbox.cache(), &options());
        let proofs = view.images().iter().map(|shown| shown.proofs.clone()).collect::<Vec<_>>();
        assert_eq!(proofs, [[Proof::Toc], [Proof::Toc], [Proof::Full]], "{what}");
        assert_eq!(view.filesystem().contents().layers().len(), 2, "{what}");
        let paths = names.map(|name| name.replace(':', "-"));
        for file in ["usr/tool1", "usr/empty1", "usr/small1"] {
            let [toc, again, plain] =
                [&paths[0], &paths[1], &paths[2]].map(|top| ino(&view, &format!("{top}/{file}")));
            assert!(toc == again && toc != plain, "{what}: {file}");
        }
        // Of files and of directories, each image's own.
        for path in ["", "/usr", "/usr/tool1", "/bin1", "/pipe1"] {
            for (top, proof) in paths.iter().zip(["toc", "toc", "full"]) {
                let ino = ino(&view, &format!("{top}{path}"));
                let value = view.filesystem().xattr(ino, PROOF_XATTR).unwrap();
                assert_eq!(*value, *proof.as_bytes(), "{what}: {top}{path}");
            }
        }
        assert_eq!(*view.filesystem().xattr(Ino::ROOT, PROOF_XATTR).unwrap(), *b"toc");
        let tool = read(&view, "r-plain/usr/tool1");
        assert!(tool == read(&view, "r-toc/usr/tool1") && tool.len() == 90_000, "{what}");

        // The other way round what was streamed is good for all, but hides other files.
        let sandbox = Sandbox::new();
        let view = joint(&registry, &["r:plain", "r:toc"], &sandbox.cache(), &options());
        let proofs = view.images().iter().map(|shown| shown.proofs.clone()).collect::<Vec<_>>();
        assert_eq!(proofs, [[Proof::Full], [Proof::Full]], "{what}");
        assert_eq!(view.filesystem().contents().layers().len(), 1, "{what}");
        assert_eq!(ino(&view, "r-plain/usr/tool1"), ino(&view, "r-toc/usr/tool1"), "{what}");
        let has = |path: String| {
            view.filesystem().tree().resolve(path.as_bytes(), Symlinks::Keep).is_ok()
        };
        assert!(BOOKKEEPING.iter().all(|name| !has(format!("r-toc/{name}"))), "{what}");
        let is_there = BOOKKEEPING.iter().any(|name| has(format!("r-plain/{name}")));
        assert_eq!(is_there, way.is_stargz(), "{what}");
    }
}

#[test]
fn two_images_cant_have_one_directory() {
    let registry = Registry::start();
    registry.add_image("r", "t", &good());
    let sandbox = Sandbox::new();
    let cache = sandbox.cache();
    let mut joint = ImageSet::new(&cache, &options());
    let image = format!("{}/r:t", registry.addr()).parse().unwrap();
    let name = || "x".parse().unwrap();
    joint.add(name(), &image, &options(), &Quiet).unwrap();
    let error = joint.add(name(), &image, &options(), &Quiet).unwrap_err().to_string();
    assert!(error.contains("directory `x`"), "{error}");
    let view = joint.finish(Sharing::Equal).unwrap();
    assert_eq!(view.filesystem().tree().child_count(Ino::ROOT), 1);
}

#[test]
fn names_are_checked_before_anything_is_fetched() {
    let home = Home::new();
    let registry = Registry::start();
    registry.add_image("a/r", "t", &good());
    registry.add_image("b/r", "t", &good());
    let [a, b] = ["a", "b"].map(|repo| format!("{}/{repo}/r:t", registry.addr()));
    let named = |name: &str, image: &str| format!("{name}={image}");
    for (words, said) in [
        (&["mount", &a, &b, "M"][..], "would both be in the directory `r-t`"),
        (&["mount", &a, &a, "M"], "NAME="),
        (&["mount", &named("x", &a), &named("x", &b), "M"], "in the directory `x`"),
        (&["mount", &a, &named("r-t", &b), "M"], "give each a name of its own"),
        (&["mount", &named("", &a), "M"], "can't be the name"),
        (&["mount", &named(".", &a), &b, "M"], "can't be the name"),
        (&["mount", &named("..", &a), &b, "M"], "can't be the name"),
        (&["mount", &named(&"x".repeat(256), &a), "M"], "can't be the name"),
        (&["mount", &a, "oci:.", "M"], "write NAME=oci:."),
        (&["mount", "x=", "M"], "empty"),
        (&["mount", &a, "Debian", "M"], "lowercase"),
        // A slash makes it a part of the reference, which has no `=`.
        (&["mount", &named("x/y", &a), "M"], "is not a valid"),
    ] {
        let outcome = home.run(words);
        outcome.failed(2, &[said, "Usage: ocifs mount"]);
    }
    assert!(registry.requests().is_empty());
    home.is_quiet();
}

#[test]
fn an_error_names_its_image() {
    let home = Home::new();
    let registry = Registry::start();
    registry.add_image("r", "v1", &good());
    let mut bad = image_of(b"this is no tar", Compression::Gzip);
    registry.add_image("r", "bad", &bad);
    bad = image_of(&tar(&[Entry::hardlink("l", "none")]), Compression::Gzip);
    registry.add_image("r", "dangling", &bad);
    let name = |tag: &str| format!("{}/r:{tag}", registry.addr());
    for tag in ["bad", "dangling", "missing"] {
        for images in [[name("v1"), name(tag)], [name(tag), name("v1")]] {
            let outcome = home.run(&["mount", &images[0], &images[1], "M"]);
            outcome.failed(1, &[&name(tag)]);
            assert!(!outcome.stderr.contains(&name("v1")), "{outcome:?}");
        }
    }
    // Also where the image lies below the mount point.
    let below = home.mount_point().join("layout");
    let word = format!("oci:{}", text(&below));
    fs::create_dir(&below).unwrap();
    let outcome = home.run(&["mount", &name("v1"), &word, "M"]);
    outcome.failed(1, &[&word, "would be covered"]);
    home.is_quiet();
}
