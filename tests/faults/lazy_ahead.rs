//! Walks over images of many small layers: the next layers come while the reader waits for one, each
//! once, and for nobody but a walk.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use ocifs::cache::Limit;
use ocifs::image::{Image, ImageOptions};
use ocifs::source::registry;
use ocifs::tree::{FileKind, Ino, Order, Symlinks};

use crate::fixture::{HANG, Sandbox, exists, name_in, noise, open, read, within};
use crate::lazy::{Cost, READ_BYTES, cost_of, patient, read_part};
use crate::shell::{Home, run};
use crate::support::image::{Built, Compression, ImageBuilder};
use crate::support::registry::{Fault, Gate, Registry, Times};
use crate::support::tarball::{Entry, tar};

const LAYERS: usize = 16;

/// Files of a layer, and their length: some spans in all.
const FILES: usize = 4;
const FILE_BYTES: usize = 150_000;

/// Layers that are ahead of a reader at most.
const AHEAD: usize = 6;

fn path(layer: usize, file: usize) -> String {
    format!("srv/l{layer:02}/f{file}")
}

fn content(layer: usize, file: usize) -> Vec<u8> {
    noise(FILE_BYTES, (layer * FILES + file) as u64 + 1)
}

/// An image of so many layers with a directory each.
fn image() -> Built {
    let layer = |layer: usize| {
        let mut entries = vec![Entry::dir("srv"), Entry::dir(format!("srv/l{layer:02}"))];
        entries.extend((0..FILES).map(|file| Entry::file(path(layer, file), content(layer, file))));
        tar(&entries)
    };
    let layers = (0..LAYERS).map(layer);
    layers.fold(ImageBuilder::new(), |image, tar| image.layer(&tar, Compression::Gzip)).build()
}

/// Such an image, indexed, of which nothing is cached.
struct Stack {
    registry: Registry,
    sandbox: Sandbox,
    image: Arc<Image>,
    digests: Vec<String>,
    sizes: Vec<u64>,
}

impl Stack {
    fn new() -> Stack {
        Stack::limited(Limit::Default, &calm())
    }

    fn limited(limit: Limit, options: &ImageOptions) -> Stack {
        let (registry, sandbox) = (Registry::start(), Sandbox::new());
        let built = image();
        registry.add_image("r", "t", &built);
        let name = name_in(&registry);
        drop(open(&name, &sandbox.cache(), &patient()).unwrap());
        forget_spans(&sandbox);
        let image = Arc::new(open(&name, &sandbox.cache_limited(limit), options).unwrap());
        registry.clear_log();
        let (digests, sizes) = (built.layer_digests(), built.layer_sizes());
        Stack { registry, sandbox, image, digests, sizes }
    }

    fn cost(&self, layer: usize) -> Cost {
        cost_of(&self.registry.requests(), &self.digests[layer])
    }

    fn costs(&self) -> Vec<Cost> {
        (0..LAYERS).map(|layer| self.cost(layer)).collect()
    }

    /// The layers that were asked for.
    fn asked(&self) -> Vec<usize> {
        (0..LAYERS).filter(|layer| self.cost(*layer).requests > 0).collect()
    }

    fn hold(&self, layer: usize) -> Gate {
        let gate = Gate::default();
        self.registry
            .fault(("GET", &self.digests[layer], Times::Always), Fault::Hold(gate.clone()));
        gate
    }

    /// Waits until a layer has been asked for.
    #[track_caller]
    fn wait_for(&self, layer: usize) {
        let started = Instant::now();
        while self.cost(layer).requests == 0 {
            assert!(started.elapsed() < HANG, "layer {layer}: {:?}", self.asked());
            thread::sleep(Duration::from_millis(2));
        }
    }

    /// Each layer came once, and in no more requests than when readers asked for it alone.
    #[track_caller]
    fn came_once(&self) {
        for (layer, cost) in self.costs().into_iter().enumerate() {
            let size = self.sizes[layer];
            assert!(cost.bytes <= size + size / 50, "layer {layer}: {cost:?} of {size}");
            assert!((1..=2).contains(&cost.requests), "layer {layer}: {cost:?}");
        }
    }
}

/// Options under which an answer may be held back for long.
fn calm() -> ImageOptions {
    let defaults = patient();
    let registry = registry::RegistryOptions { read_timeout: HANG, ..defaults.registry };
    ImageOptions { registry, ..defaults }
}

fn forget_spans(sandbox: &Sandbox) {
    for kind in ["spans", "streams"] {
        fs::remove_dir_all(sandbox.path().join("cache/v1").join(kind)).unwrap();
    }
}

/// Reads some layers' files in the order of a walk.
fn walk(image: &Image, layers: impl Iterator<Item = usize>) {
    for layer in layers {
        for file in 0..FILES {
            assert!(read_whole(image, layer, file) == content(layer, file), "{layer} {file}");
        }
    }
}

/// Reads a file as the kernel does.
fn read_whole(image: &Image, layer: usize, file: usize) -> Vec<u8> {
    let path = path(layer, file);
    let ino = image.filesystem().tree().resolve(path.as_bytes(), Symlinks::Keep);
    let ino = ino.unwrap();
    let mut bytes = Vec::new();
    while bytes.len() < FILE_BYTES {
        let at = bytes.len() as u64;
        let end = (at + READ_BYTES).min(FILE_BYTES as u64);
        bytes.extend(read_part(image, ino, at..end).unwrap());
    }
    bytes
}

#[test]
fn the_next_layers_come_while_one_is_waited_for() {
    let stack = Stack::new();
    let gate = stack.hold(4);
    let image = Arc::clone(&stack.image);
    let is_done = Arc::new(AtomicBool::new(false));
    let walker = thread::spawn({
        let is_done = Arc::clone(&is_done);
        move || {
            walk(&image, 0..LAYERS);
            is_done.store(true, Ordering::SeqCst);
        }
    });
    // The reader is in layer 4 at most, and layers behind it are asked for.
    for layer in 4..7 {
        stack.wait_for(layer);
    }
    assert!(!is_done.load(Ordering::SeqCst));
    // It is not far ahead, however long that takes.
    thread::sleep(Duration::from_millis(300));
    assert!(stack.asked().len() <= 4 + 1 + AHEAD, "{:?}", stack.asked());
    gate.open();
    within(HANG, move || walker.join().unwrap());
    stack.came_once();
    assert_eq!(stack.asked().len(), LAYERS);
}

#[test]
fn readers_of_single_files_are_left_alone() {
    let stack = Stack::new();
    for (layer, file) in [(9, 1), (2, 3), (5, 0)] {
        assert!(read(&stack.image, &path(layer, file)).unwrap() == content(layer, file));
    }
    assert_eq!(stack.asked(), [2, 5, 9]);
    // In the order of a walk, but with files between them that nobody reads.
    for layer in [11, 13, 15] {
        assert!(read(&stack.image, &path(layer, 1)).unwrap() == content(layer, 1));
    }
    assert_eq!(stack.asked(), [2, 5, 9, 11, 13, 15]);
}

#[test]
fn a_walk_of_a_directory_stays_in_it() {
    let stack = Stack::new();
    for layer in [3, 8] {
        walk(&stack.image, layer..=layer);
    }
    thread::sleep(Duration::from_millis(100));
    assert_eq!(stack.asked(), [3, 8]);
}

#[test]
fn a_walk_that_stops_has_cost_little() {
    let stack = Stack::new();
    walk(&stack.image, 0..5);
    thread::sleep(Duration::from_millis(300));
    let asked = stack.asked();
    assert!(asked.len() > 5, "nothing came ahead: {asked:?}");
    assert!(asked.len() <= 5 + AHEAD && !asked.contains(&(LAYERS - 1)), "{asked:?}");
}

/// What is on its way for a walk is dropped when its reader turns to something else.
#[test]
fn what_is_ahead_ends_with_its_walk() {
    let stack = Stack::new();
    let gates: Vec<Gate> = (5..11).map(|layer| stack.hold(layer)).collect();
    walk(&stack.image, 0..5);
    stack.wait_for(5);
    let before = stack.image.traffic().body_bytes();
    let mut read_now = 0;
    for layer in [15, 14, 13, 12] {
        assert!(read(&stack.image, &path(layer, 0)).unwrap() == content(layer, 0));
        read_now += stack.sizes[layer];
    }
    gates.iter().for_each(Gate::open);
    thread::sleep(Duration::from_millis(300));
    let taken = stack.image.traffic().body_bytes() - before;
    assert!(taken <= read_now, "{taken} bytes of {read_now}");
    walk(&stack.image, 0..LAYERS);
}

/// A fetch ahead that fails is nobody's error.
#[test]
fn errors_ahead_are_not_the_readers() {
    for fault in [
        Fault::Status(404, Vec::new(), Vec::new()),
        Fault::FlipByte(1000),
        Fault::WrongContentRange,
        Fault::CloseBeforeResponse,
    ] {
        let stack = Stack::new();
        for layer in 3..LAYERS {
            stack.registry.fault(("GET", &stack.digests[layer], Times::Nth(1)), fault.clone());
        }
        let image = Arc::clone(&stack.image);
        // The first layers make the walk; those behind it come ahead.
        walk(&image, 0..2);
        stack.wait_for(3);
        let ahead: Vec<usize> = (3..LAYERS).filter(|l| stack.cost(*l).requests > 0).collect();
        thread::sleep(Duration::from_millis(300));
        for layer in ahead {
            walk(&image, layer..=layer);
        }
        assert!(exists(&image, "srv"));
    }
}

/// A walk leaves a layer and comes back to it: what it will want there comes while it is elsewhere.
#[test]
fn a_layer_that_the_walk_comes_back_to_comes_before_it() {
    const BIG_BYTES: usize = 96 << 20;
    let files = |dir: &str, seed: u64| {
        let file = |n: u64| Entry::file(format!("{dir}/f{n}"), noise(FILE_BYTES, seed + n));
        (0..4).map(file).collect::<Vec<_>>()
    };
    let dirs = |names: &[&str]| names.iter().map(|name| Entry::dir(*name)).collect::<Vec<_>>();
    let big: Vec<u8> = (0..BIG_BYTES as u64 / 8).flat_map(u64::to_le_bytes).collect();
    let layers = [
        [dirs(&["srv", "srv/v", "srv/w"]), files("srv/v", 10), files("srv/w", 20)].concat(),
        [
            dirs(&["srv/x", "srv/y"]),
            files("srv/x", 30),
            vec![Entry::file("srv/y/big", big.clone())],
        ]
        .concat(),
        [dirs(&["srv/x/sub"]), files("srv/x/sub", 40)].concat(),
    ];
    let image = layers
        .iter()
        .fold(ImageBuilder::new(), |image, entries| image.layer(&tar(entries), Compression::None));
    let (built, registry, sandbox) = (image.build(), Registry::start(), Sandbox::new());
    registry.add_image("r", "t", &built);
    let name = name_in(&registry);
    drop(open(&name, &sandbox.cache(), &patient()).unwrap());
    forget_spans(&sandbox);
    let image = open(&name, &sandbox.cache(), &calm()).unwrap();
    let tree = image.filesystem().tree();
    let mut order = tree.walk(Ino::ROOT, Order::Data);
    let mut paths = Vec::new();
    while let Some((path, ino)) = order.next() {
        if tree.kind(ino) == FileKind::Regular {
            paths.push(String::from_utf8(path.to_vec()).unwrap());
        }
    }
    assert_eq!(paths.last().unwrap(), "srv/y/big", "{paths:?}");
    registry.clear_log();
    for path in &paths[..paths.len() - 1] {
        assert_eq!(read(&image, path).unwrap().len(), FILE_BYTES);
    }
    let (digest, size) = (&built.layer_digests()[1], built.layer_sizes()[1]);
    let started = Instant::now();
    while cost_of(&registry.requests(), digest).bytes + (1 << 20) < size {
        // A walk goes on.
        assert_eq!(read(&image, &paths[paths.len() - 2]).unwrap().len(), FILE_BYTES);
        let cost = cost_of(&registry.requests(), digest);
        assert!(started.elapsed() < HANG, "{cost:?} of {size}");
        thread::sleep(Duration::from_millis(20));
    }
    assert!(read(&image, "srv/y/big").unwrap() == big);
    let cost = cost_of(&registry.requests(), digest);
    assert!(cost.bytes <= size + size / 50, "{cost:?} of {size}");
}

/// Where nothing is kept, or not for long, nothing comes before it is asked for.
#[test]
fn caches_without_room_have_nothing_ahead() {
    let stack = Stack::limited(Limit::Bytes(8 << 20), &calm());
    walk(&stack.image, 0..5);
    thread::sleep(Duration::from_millis(100));
    assert_eq!(stack.asked(), [0, 1, 2, 3, 4]);
    walk(&stack.image, 5..LAYERS);
    for (layer, cost) in stack.costs().into_iter().enumerate() {
        assert!(cost.bytes <= stack.sizes[layer] * 51 / 50, "layer {layer}: {cost:?}");
    }
    let mut offline = patient();
    offline.offline = true;
    forget_spans(&stack.sandbox);
    let image = open(&name_in(&stack.registry), &stack.sandbox.cache(), &offline).unwrap();
    stack.registry.clear_log();
    for layer in 0..LAYERS {
        let error = read(&image, &path(layer, 0)).unwrap_err();
        assert!(error.contains("GoOnline"), "{error}");
    }
    assert_eq!(stack.asked(), [0; 0]);
}

/// Through the kernel, with the tools that people use.
#[test]
fn real_walks_of_many_layers_cost_one_download() {
    let built = image();
    let registry = Registry::start();
    registry.add_image("r", "t", &built);
    let (home, name) = (Home::new(), name_in(&registry));
    home.run(&["mount", &name, "M"]).succeeded();
    home.run(&["umount", "M"]).succeeded();
    let place = home.mount_point();
    let place = place.to_str().unwrap();
    for script in ["grep -rc 'no line has this' \"$1\" | wc -l", "tar c -C \"$1\" . | wc -c"] {
        for kind in ["spans", "streams"] {
            fs::remove_dir_all(home.path().join("cache/v1").join(kind)).unwrap();
        }
        home.run(&["mount", &name, "M"]).succeeded();
        registry.clear_log();
        let walk = run(home.command("bash").args(["-o", "pipefail", "-c", script, "bash", place]));
        let count: usize = walk.stdout.trim().parse().unwrap_or_else(|_| panic!("{walk:?}"));
        assert!(count >= LAYERS * FILES, "{walk:?}");
        let log = registry.requests();
        for (digest, size) in built.layer_digests().iter().zip(built.layer_sizes()) {
            let cost = cost_of(&log, digest);
            assert!((1..=2).contains(&cost.requests), "{script}: {cost:?}");
            assert!(cost.bytes <= size + size / 50, "{script}: {cost:?} of {size}");
        }
        let last = fs::read(home.mount_point().join(path(LAYERS - 1, 0))).unwrap();
        assert!(last == content(LAYERS - 1, 0));
        home.run(&["umount", "M"]).succeeded();
    }
    home.is_quiet();
}

/// The order that is taken for a walk's is that of a walk, from anywhere.
#[test]
fn files_after_a_file_are_those_of_a_walk() {
    let stack = Stack::new();
    let tree = stack.image.filesystem().tree();
    let mut walk = tree.walk(Ino::ROOT, Order::Data);
    let mut files = Vec::new();
    while let Some((_, ino)) = walk.next() {
        if tree.kind(ino) == FileKind::Regular {
            files.push(ino);
        }
    }
    assert_eq!(files.len(), LAYERS * FILES);
    for (at, file) in files.iter().enumerate() {
        let dir = tree.directory_of(*file).unwrap();
        let behind: Vec<Ino> = tree.files_after(dir, *file, Ino::ROOT).collect();
        assert_eq!(behind, files[at + 1..]);
        let here = tree.files_after(dir, *file, dir).count();
        assert_eq!(here, FILES - 1 - at % FILES);
    }
}
