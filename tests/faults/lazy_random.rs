//! What reads in the middle of a large file cost: tensors that a model loader maps, pages of a database,
//! parts that are read in sequence. Counted are bytes that the registry sent to bytes that were wanted.

use std::fs;
use std::ops::Range;
use std::sync::{Arc, OnceLock};

use ocifs::cache::{Cache, LayerName};
use ocifs::digest::DiffId;
use ocifs::image::Image;
use ocifs::tree::Symlinks;

use crate::fixture::{Sandbox, name_in, noise, open};
use crate::lazy::{Cost, READ_BYTES, cost_of, patient, read_part};
use crate::shell::{Home, run};
use crate::support::image::{Built, Compression, ImageBuilder};
use crate::support::registry::Registry;
use crate::support::tarball::{Entry, tar};

const MODEL_BYTES: usize = 64 << 20;

const TENSOR_BYTES: u64 = 1 << 20;

/// Where tensors begin, as far from each other as in a model of which some are wanted.
const TENSORS: [u64; 10] = [
    0x031d_4000,
    0x004c_1000,
    0x0270_f000,
    0x0118_3000,
    0x036a_a000,
    0x00a5_1000,
    0x01f3_3000,
    0x022e_8000,
    0x00e9_c000,
    0x0167_d000,
];

/// A span of the model, compressed or not: it is noise.
const SPAN_BYTES: u64 = 525 << 10;

/// An image with a model in a compressed layer and another in a plain one.
struct Models {
    built: Built,
    /// Path and content.
    models: [(&'static str, Vec<u8>); 2],
    /// The layers' indexes as they are cached.
    indexes: Vec<Vec<u8>>,
}

fn models() -> &'static Models {
    static MODELS: OnceLock<Models> = OnceLock::new();
    MODELS.get_or_init(|| {
        let models =
            [("opt/gzip/model", noise(MODEL_BYTES, 5)), ("opt/plain/model", noise(MODEL_BYTES, 6))];
        let layer = |number: usize| {
            let small = |name: &str| {
                let content = noise(90_000, number as u64 + 7);
                Entry::file(format!("srv/{number}/{name}"), content)
            };
            let (path, content) = &models[number];
            tar(&[small("a"), Entry::file(*path, content.clone()), small("b")])
        };
        let built = ImageBuilder::new()
            .layer(&layer(0), Compression::Gzip)
            .layer(&layer(1), Compression::None)
            .build();
        let (registry, sandbox) = (Registry::start(), Sandbox::new());
        registry.add_image("r", "t", &built);
        let cache = sandbox.cache();
        drop(open(&name_in(&registry), &cache, &patient()).unwrap());
        let index = |digest: String| {
            cache.layer_index(&LayerName::Blob(digest.parse().unwrap()), u64::MAX).unwrap()
        };
        let indexes = built.layer_digests().into_iter().map(index).collect();
        Models { built, models, indexes }
    })
}

impl Models {
    /// Puts the layer indexes into a cache.
    fn put_indexes(&self, cache: &Cache) {
        let names = self.built.layer_digests().into_iter().zip(self.built.diff_ids());
        for ((digest, diff_id), index) in names.zip(&self.indexes) {
            let diff_id = DiffId(diff_id.parse().unwrap());
            cache.put_layer_index(&digest.parse().unwrap(), &diff_id, index);
        }
    }
}

/// The image, indexed, of which nothing else is cached.
struct Loader {
    registry: Registry,
    sandbox: Sandbox,
    image: Arc<Image>,
    models: &'static Models,
}

impl Loader {
    fn new() -> Loader {
        let models = models();
        let registry = Registry::start();
        registry.add_image("r", "t", &models.built);
        let (sandbox, image) = Loader::open(&registry, models);
        Loader { registry, sandbox, image, models }
    }

    fn open(registry: &Registry, models: &Models) -> (Sandbox, Arc<Image>) {
        let sandbox = Sandbox::new();
        let cache = sandbox.cache();
        models.put_indexes(&cache);
        let image = open(&name_in(registry), &cache, &patient()).unwrap();
        registry.clear_log();
        (sandbox, Arc::new(image))
    }

    /// Forgets what was read.
    fn start_over(&mut self) {
        (self.sandbox, self.image) = Loader::open(&self.registry, self.models);
    }

    fn cost(&self, model: usize) -> Cost {
        cost_of(&self.registry.requests(), &self.models.built.layer_digests()[model])
    }

    /// Reads a part of a model as the kernel does for who goes through what is mapped: from half of its
    /// window before to a window behind the last that is touched.
    #[track_caller]
    fn map(&self, model: usize, part: Range<u64>) {
        let start = part.start.saturating_sub(READ_BYTES / 2);
        let end = (part.end + READ_BYTES).min(MODEL_BYTES as u64);
        self.read(model, start..end);
    }

    #[track_caller]
    fn read(&self, model: usize, part: Range<u64>) {
        let (path, content) = &self.models.models[model];
        let tree = self.image.filesystem().tree();
        let ino = tree.resolve(path.as_bytes(), Symlinks::Keep).unwrap();
        let mut at = part.start;
        while at < part.end {
            let end = (at + READ_BYTES).min(part.end);
            let bytes = read_part(&self.image, ino, at..end).unwrap();
            assert!(bytes == content[at as usize..end as usize], "{path} at {at}");
            at = end;
        }
    }
}

/// What the kernel asks for around a tensor lies in three or four spans, and no more is fetched.
#[test]
fn a_tensor_costs_the_spans_under_it() {
    let mut loader = Loader::new();
    for model in [0, 1] {
        let mut sum = Cost::default();
        for start in TENSORS {
            loader.start_over();
            loader.map(model, start..start + TENSOR_BYTES);
            let cost = loader.cost(model);
            assert!(cost.requests <= 4 && cost.bytes <= 4 * SPAN_BYTES, "{model} {cost:?}");
            sum.bytes += cost.bytes;
        }
        let wanted = TENSORS.len() as u64 * TENSOR_BYTES;
        assert!(sum.bytes > wanted && sum.bytes <= 2 * wanted, "{model}: {sum:?} for {wanted}");
        // One after the other from the same image, in any order.
        loader.start_over();
        for start in TENSORS {
            loader.map(model, start..start + TENSOR_BYTES);
        }
        let cost = loader.cost(model);
        assert!(cost.bytes <= 2 * wanted && cost.requests <= 40, "{model}: {cost:?} for {wanted}");
    }
}

/// The larger the part that is read in sequence, the more comes at a time, and never as much again as was
/// read.
#[test]
fn a_part_in_the_middle_comes_in_few_requests() {
    let mut loader = Loader::new();
    for model in [0, 1] {
        for (bytes, requests) in [(2 << 20, 5), (8 << 20, 8), (32 << 20, 10)] {
            loader.start_over();
            loader.read(model, 20 << 20..(20 << 20) + bytes);
            let cost = loader.cost(model);
            let most = 2 * bytes + SPAN_BYTES;
            assert!(cost.requests <= requests, "{model}: {cost:?} for {bytes}");
            assert!((bytes..=most).contains(&cost.bytes), "{model}: {cost:?} for {bytes}");
        }
    }
}

/// From the start to the end it is a stream as ever.
#[test]
fn a_model_read_whole_costs_itself() {
    let loader = Loader::new();
    for model in [0, 1] {
        loader.read(model, 0..MODEL_BYTES as u64);
        let cost = loader.cost(model);
        assert_eq!(cost.requests, 3, "{model}: {cost:?}");
        assert!(cost.bytes <= MODEL_BYTES as u64 + 2 * SPAN_BYTES, "{model}: {cost:?}");
    }
}

/// Pages here and there, each next to what was read before: a program that begins, or a database.
#[test]
fn pages_that_are_near_each_other_do_not_bring_more_and_more() {
    let mut loader = Loader::new();
    for model in [0, 1] {
        loader.start_over();
        let pages = 32;
        for page in 0..pages {
            let start = (10 << 20) + page * (512 << 10);
            loader.read(model, start..start + 16384);
        }
        let cost = loader.cost(model);
        let most = (pages + 1) * SPAN_BYTES;
        assert!(cost.bytes <= most, "{model}: {cost:?} of {most}");
    }
}

/// Prints the sum of a byte of each page that it touches.
const TOUCH: &str = "
import mmap, sys
with open(sys.argv[1], 'rb') as file:
    mapped = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
    for start in map(int, sys.argv[3:]):
        print(sum(mapped[at] for at in range(start, start + int(sys.argv[2]), 4096)))
";

/// Through the kernel, which reads around what is mapped and ahead of it.
#[test]
fn tensors_mapped_over_a_mount_cost_little() {
    let models = models();
    let registry = Registry::start();
    registry.add_image("r", "t", &models.built);
    let name = name_in(&registry);
    let mount = || {
        let home = Home::new();
        models.put_indexes(&Cache::open(&home.path().join("cache")));
        home.run(&["mount", "--connections=1", &name, "M"]).succeeded();
        registry.clear_log();
        home
    };
    let unmount = |home: Home| {
        home.run(&["umount", "M"]).succeeded();
        home.is_quiet();
    };
    for ((path, content), digest) in models.models.iter().zip(models.built.layer_digests()) {
        for (tensors, most_bytes) in [
            (&TENSORS[..1], 4 * SPAN_BYTES),
            (&TENSORS[..], TENSORS.len() as u64 * TENSOR_BYTES * 2),
        ] {
            let home = mount();
            let mut python = home.command("python3");
            python.args(["-c", TOUCH]).arg(home.mount_point().join(path));
            python.arg(TENSOR_BYTES.to_string());
            let touched = run(python.args(tensors.iter().map(u64::to_string)));
            let sum = |start: &u64| {
                let tensor = &content[*start as usize..(start + TENSOR_BYTES) as usize];
                let sum: u64 = tensor.iter().step_by(4096).map(|byte| u64::from(*byte)).sum();
                format!("{sum}\n")
            };
            assert_eq!(touched.stdout, tensors.iter().map(sum).collect::<String>(), "{touched:?}");
            let cost = cost_of(&registry.requests(), &digest);
            let wanted = tensors.len() as u64 * TENSOR_BYTES;
            assert!((wanted..=most_bytes).contains(&cost.bytes), "{path}: {cost:?}");
            unmount(home);
        }
        // The whole of it is one stream, as ever.
        let home = mount();
        let whole = fs::read(home.mount_point().join(path)).unwrap();
        assert!(whole == *content, "{path} has wrong bytes");
        let cost = cost_of(&registry.requests(), &digest);
        assert!(cost.requests <= 4, "{path}: {cost:?}");
        assert!(cost.bytes <= MODEL_BYTES as u64 + 2 * SPAN_BYTES, "{path}: {cost:?}");
        unmount(home);
    }
}
