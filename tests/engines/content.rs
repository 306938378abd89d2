//! Whole layers in containerd's content store, fetched in the background.

use std::fs;
use std::path::Path;

use rustix::mount::{MountFlags, UnmountFlags, mount, mount_remount, unmount};

use crate::containerd::Containerd;
use crate::kubelet::{Kubelet, pause};
use crate::plugin::{
    Plugin, START, block_on, image, layer_requests, log_of, need_root_and_fuse, tool,
};
use crate::shell::{Home, eventually_within, text};
use crate::support::image::{Built, Compression, ImageBuilder};
use crate::support::registry::{Fault, Registry, Times};
use crate::support::tarball::{Entry, tar};

/// Where containerd keeps what the kubelet pulls.
const KUBELET: [&str; 2] = ["--namespace", "k8s.io"];

/// What is told where layers can't be put into the store.
const REFUSED: &str = "are not put into containerd's store";

/// The snapshotter with the fetch.
fn fetching(home: &Home) -> Plugin {
    let socket = home.path().join("c.sock");
    Plugin::start_with(home, &["--fetch-content", "--containerd", text(&socket)])
}

fn told(containerd: &Containerd<'_>, words: &[&str]) -> String {
    containerd.told(&[&KUBELET[..], words].concat())
}

fn has_all(containerd: &Containerd<'_>, image: &Built) -> bool {
    let content = told(containerd, &["content", "list", "--quiet"]);
    image.layer_digests().iter().all(|layer| content.contains(layer))
}

#[track_caller]
fn comes(containerd: &Containerd<'_>, image: &Built) {
    let has_all = || has_all(containerd, image);
    assert!(eventually_within(START * 2, has_all), "{}", containerd.log());
}

/// An image whose one layer is larger than a piece, and does not get smaller.
fn large() -> Built {
    let mut state = 1_u64;
    let noise = std::iter::repeat_with(|| {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as u8
    });
    let entries = ["bin", "proc", "sys", "dev", "etc", "run", "tmp"].map(Entry::dir);
    let files = [
        Entry::file("bin/tool", tool()).mode(0o755),
        Entry::file("noise", noise.take(12 << 20).collect::<Vec<u8>>()),
        Entry::file("word", "large"),
    ];
    let layer = tar(&[&entries[..], &files[..]].concat());
    let config = serde_json::json!({ "Entrypoint": ["/bin/tool"] });
    ImageBuilder::new().config("config", config).layer(&layer, Compression::Gzip).build()
}

/// Bytes of a layer that the registry has sent, and where the ranges begin that it was asked for.
fn sent(registry: &Registry, layer: &str) -> (u64, Vec<u64>) {
    let requests = registry.requests();
    let of_layer =
        requests.iter().filter(|logged| logged.method == "GET" && logged.path.contains(layer));
    let begin = |range: &str| range.trim_start_matches("bytes=").split('-').next()?.parse().ok();
    let starts = of_layer.clone().filter_map(|logged| begin(logged.range.as_deref()?)).collect();
    (of_layer.map(|logged| logged.body_bytes_sent).sum(), starts)
}

#[test]
fn images_can_be_exported_and_pushed_once_their_layers_are_there() {
    need_root_and_fuse();
    let (home, registry, image) = (Home::new(), Registry::start(), image("whole"));
    registry.add_image("app", "1", &image);
    let mut plugin = Plugin::start(&home);
    let mut containerd = Containerd::start(&home, &registry);
    let name = format!("{}/app:1", registry.addr());
    block_on(async { Kubelet::new(&containerd).await.pull(&name).await });
    assert_eq!(layer_requests(&registry, &image), 2);
    let archive = home.path().join("app.tar");
    let export = [&KUBELET[..], &["images", "export", text(&archive), &name]].concat();
    assert_ne!(containerd.ctr(&export).code, 0, "without layers there is nothing to export");

    // Images that were there before it began count, too.
    plugin.stop();
    plugin = fetching(&home);
    comes(&containerd, &image);
    assert_eq!(layer_requests(&registry, &image), 4, "each layer comes once more");
    for layer in image.layer_digests() {
        let path = home.path().join("root/io.containerd.content.v1.content/blobs/sha256");
        let bytes = fs::read(path.join(layer.trim_start_matches("sha256:"))).unwrap();
        assert!(registry.blob("app", &layer).unwrap() == bytes, "{layer}");
        let info = told(&containerd, &["content", "list"]);
        let row = info.lines().find(|line| line.contains(&layer)).unwrap();
        assert!(row.contains("containerd.io/distribution.source."), "{row}");
    }
    let check = told(&containerd, &["images", "check"]);
    assert!(check.contains("complete (3/3)"), "{check}");
    told(&containerd, &["images", "export", text(&archive), &name]);
    let listed = home.run(&["ls", &format!("oci-archive:{}", archive.display()), "/d"]);
    assert!(listed.code == 0 && listed.stdout.contains("layer"), "{listed:?}");

    let other = Registry::start();
    let pushed = format!("{}/copy:1", other.addr());
    told(&containerd, &["images", "tag", &name, &pushed]);
    told(&containerd, &["images", "push", "--plain-http", &pushed]);
    for layer in image.layer_digests() {
        assert!(other.blob("copy", &layer) == registry.blob("app", &layer), "{layer}");
    }

    // They are there as long as the image is.
    told(&containerd, &["images", "remove", "--sync", &pushed]);
    assert!(has_all(&containerd, &image));
    let names = told(&containerd, &["images", "list", "--quiet"]);
    let names: Vec<&str> = names.lines().collect();
    told(&containerd, &[&["images", "remove", "--sync"], &names[..]].concat());
    let content = told(&containerd, &["content", "list", "--quiet"]);
    assert!(image.layer_digests().iter().all(|layer| !content.contains(layer)), "{content}");

    // And come again with it. containerd calls a plugin that was away after a while of its own.
    let pull = || async { Kubelet::new(&containerd).await.try_pull(&name, None).await.is_ok() };
    assert!(eventually_within(START, || block_on(pull())), "{}", containerd.log());
    comes(&containerd, &image);
    containerd.stop();
    plugin.stop();
}

/// Whichever program ends in the middle, what was written of a layer is not fetched again.
#[test]
fn a_fetch_goes_on_where_it_was() {
    need_root_and_fuse();
    let (home, registry, image) = (Home::new(), Registry::start(), large());
    registry.add_image("app", "1", &image);
    let plugin = Plugin::start(&home);
    let mut containerd = Containerd::start(&home, &registry);
    let name = format!("{}/app:1", registry.addr());
    block_on(async { Kubelet::new(&containerd).await.pull(&name).await });
    drop(plugin);
    let layer = image.layer_digests()[0].clone();
    let size = image.layer_sizes()[0];
    registry.clear_log();
    registry.fault(("GET", &layer, Times::First(1)), Fault::StallHalf);
    let mut plugin = fetching(&home);
    // In decimal megabytes: most of the half that comes.
    let written = || {
        let active = told(&containerd, &["content", "active"]);
        let row = active.lines().find(|line| line.contains("ocifs-layer-"));
        let size = row.and_then(|row| row.split_whitespace().find_map(|w| w.strip_suffix("MB")));
        size.is_some_and(|size| size.parse::<f64>().unwrap() > 5.0)
    };
    assert!(eventually_within(START, written), "{}", containerd.log());
    plugin.kill();
    containerd.stop();
    containerd = Containerd::start(&home, &registry);
    plugin = fetching(&home);
    comes(&containerd, &image);
    let (bytes, starts) = sent(&registry, &layer);
    assert!(starts.iter().any(|start| *start > 4 << 20), "{starts:?}");
    // What was under way when it ended comes twice.
    assert!(bytes < size + (3 << 20), "{bytes} of {size}");
    containerd.stop();
    plugin.stop();
}

/// The disk of containerd's store is full for a while: that is told once, nothing of the layer is left there, and containers
/// run.
#[test]
fn a_full_store_is_told_of_once() {
    need_root_and_fuse();
    let (home, registry, image, pause) = (Home::new(), Registry::start(), large(), pause());
    registry.add_image("app", "1", &image);
    registry.add_image("pause", "1", &pause);
    let root = home.path().join("root");
    fs::create_dir(&root).unwrap();
    mount("tmpfs", &root, "tmpfs", MountFlags::empty(), Some(c"size=8M")).unwrap();
    {
        let mut plugin = fetching(&home);
        let mut containerd = Containerd::start(&home, &registry);
        let name = format!("{}/app:1", registry.addr());
        block_on(async {
            let mut kubelet = Kubelet::new(&containerd).await;
            kubelet.pull(&name).await;
            let is_told = || log_of(&home).matches(REFUSED).count() == 1;
            assert!(eventually_within(START, is_told), "{}", containerd.log());
            let sandbox = kubelet.run_sandbox("full").await;
            let container = kubelet.run("full", &sandbox, &name).await;
            assert_eq!(kubelet.exec(&container, &["/bin/tool", "cat", "/word"]).await, "large");
            // It is tried again, and not told again.
            let tries = || log_of(&home).matches("fetching the layer").count() > 1;
            assert!(eventually_within(START, tries), "{}", log_of(&home));
            let is_away = || !told(&containerd, &["content", "active"]).contains("ocifs-layer-");
            assert!(eventually_within(START, is_away), "{}", containerd.log());
            assert_eq!(log_of(&home).matches(REFUSED).count(), 1, "{}", log_of(&home));
            grow(&root);
            comes(&containerd, &image);
            assert_eq!(kubelet.exec(&container, &["/bin/tool", "cat", "/word"]).await, "large");
            kubelet.remove(&container).await;
            kubelet.remove_sandbox(&sandbox).await;
        });
        containerd.stop();
        plugin.stop();
    }
    unmount(&root, UnmountFlags::DETACH).unwrap();
}

fn grow(root: &Path) {
    mount_remount(root, MountFlags::empty(), c"size=64M").unwrap();
}

/// A registry that sends something else: containerd never has it under that digest.
#[test]
fn another_layer_is_not_taken_for_it() {
    need_root_and_fuse();
    let (home, registry, image) = (Home::new(), Registry::start(), large());
    registry.add_image("app", "1", &image);
    let plugin = Plugin::start(&home);
    let mut containerd = Containerd::start(&home, &registry);
    let name = format!("{}/app:1", registry.addr());
    block_on(async { Kubelet::new(&containerd).await.pull(&name).await });
    drop(plugin);
    let layer = image.layer_digests()[0].clone();
    registry.fault(("GET", &layer, Times::First(1)), Fault::FlipByte(5 << 20));
    let mut plugin = fetching(&home);
    comes(&containerd, &image);
    let log = log_of(&home);
    assert!(log.contains("is not put into containerd's store"), "{log}");
    let path = home.path().join("root/io.containerd.content.v1.content/blobs/sha256");
    let bytes = fs::read(path.join(layer.trim_start_matches("sha256:"))).unwrap();
    assert!(registry.blob("app", &layer).unwrap() == bytes);
    containerd.stop();
    plugin.stop();
}
