//! What registries can do wrong: where, what, how often, when, and while what is done.

use std::fs;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use ocifs::cache::Cache;
use tempfile::TempDir;

use super::campaign::{Edge as Campaign, Tally, mix};
use super::operations::{Failure, OPERATIONS, Operation, User, damaged};
use super::subject::subject;
use crate::fixture::{files_below, noise};
use crate::support::image::{Compression, compress};
use crate::support::registry::{Fault, Met, Registry, Times};

/// The answers that are spoiled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// Of what the tag means, and of the artifact's.
    Manifest,
    Config,
    /// A layer, whole at its first use and later by the parts that hold spans.
    Layer,
    ZstdLayer,
    /// What is left of a layer whose transfer has broken off.
    RestOfLayer,
    Referrers,
    /// A layer index that was pushed.
    LayerIndex,
    Token,
    /// A redirect to a storage, and what is there.
    Redirect,
    Storage,
}

const PLACES: [Place; 10] = [
    Place::Manifest,
    Place::Config,
    Place::Layer,
    Place::ZstdLayer,
    Place::RestOfLayer,
    Place::Referrers,
    Place::LayerIndex,
    Place::Token,
    Place::Redirect,
    Place::Storage,
];

const KINDS: [&str; 25] = [
    "closed before the answer",
    "reset before the body",
    "reset in the body",
    "cut",
    "a byte flipped",
    "another version",
    "500",
    "503",
    "503 with a time",
    "429",
    "401",
    "404",
    "another Content-Range",
    "200 for 206",
    "a stall, and then the rest",
    "a stall without end",
    "a stall in the head",
    "slow",
    "a trickle",
    "more than was said",
    "less than was said",
    "chunks",
    "another encoding",
    "an old answer of a cache",
    "another digest in the header",
];

const TIMES: [Times; 4] = [Times::First(1), Times::First(3), Times::Nth(2), Times::Always];

/// Whether the image was ever used before.
const WHEN: [&str; 2] = ["first use", "later"];

/// A pause that is shorter than any deadline here.
const SHORT: Duration = Duration::from_millis(150);

/// A pause that is longer than the time for which anything here is waited for.
const LONG: Duration = Duration::from_secs(3);

fn status(number: u16, headers: &[(&str, &str)]) -> Fault {
    let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    Fault::Status(number, headers.collect(), b"{}".to_vec())
}

/// Other content, that looks like a layer from its start on.
fn other() -> Arc<Vec<u8>> {
    static OTHER: OnceLock<Arc<Vec<u8>>> = OnceLock::new();
    Arc::clone(OTHER.get_or_init(|| Arc::new(compress(&noise(1_300_000, 99), Compression::Gzip))))
}

fn fault(kind: usize, at: usize) -> Fault {
    match kind {
        0 => Fault::CloseBeforeResponse,
        1 => Fault::Reset(0),
        2 => Fault::Reset(at),
        3 => Fault::Truncate(at),
        4 => Fault::FlipByte(at),
        5 => Fault::Other(other()),
        6 => status(500, &[]),
        7 => status(503, &[]),
        8 => status(503, &[("Retry-After", "1")]),
        9 => status(429, &[("Retry-After", "0")]),
        10 => status(401, &[]),
        11 => status(404, &[]),
        12 => Fault::WrongContentRange,
        13 => Fault::IgnoreRange,
        14 => Fault::Stall(at, SHORT),
        15 => Fault::Stall(at, LONG),
        16 => Fault::StallHead(at % 40),
        17 => Fault::Drip(2000 + at % 5000),
        18 => Fault::Trickle(at),
        19 => Fault::ExtraBytes(1 + at % 100),
        20 => Fault::WrongLength,
        21 => Fault::NoLength,
        22 => Fault::ContentEncoding("gzip".to_owned()),
        23 => Fault::CachedWhole,
        _ => Fault::WrongDigestHeader,
    }
}

#[derive(Clone, Copy, Debug)]
struct Case {
    place: Place,
    kind: usize,
    times: Times,
    is_first: bool,
    operation: Operation,
}

impl Case {
    fn of(mut number: usize) -> Case {
        let mut digit = |base: usize| {
            let digit = number % base;
            number /= base;
            digit
        };
        Case {
            place: PLACES[digit(PLACES.len())],
            kind: digit(KINDS.len()),
            times: TIMES[digit(TIMES.len())],
            is_first: digit(WHEN.len()) == 0,
            operation: OPERATIONS[digit(OPERATIONS.len())],
        }
    }
}

pub struct Edge;

/// Registries, and one who uses them.
pub struct World {
    registry: Registry,
    storage: Registry,
    folder: TempDir,
    user: User,
}

impl World {
    fn new() -> World {
        let (registry, storage) = (subject().serve(), subject().serve());
        registry.require_bearer(None);
        let folder = tempfile::tempdir().unwrap();
        let name = format!("{}/r:t", registry.addr()).parse().unwrap();
        let cache = Arc::new(Cache::open(folder.path()));
        let mut world = World {
            registry,
            storage,
            folder,
            user: User { name, cache, held: None, trust_referrers: false },
        };
        world.heal();
        world
    }

    /// All registries do what they should.
    fn heal(&mut self) {
        self.registry.clear_faults();
        self.storage.clear_faults();
        self.redirect();
    }

    fn redirect(&self) {
        let layer = &subject().layers[1];
        let to = format!("http://{}/v2/r/blobs/{layer}", self.storage.addr());
        self.registry.fault(("GET", layer, Times::Always), Fault::Redirect(307, to));
    }

    fn spoil(&self, case: Case, seed: u64) -> Met {
        self.registry.clear_faults();
        let (subject, registry) = (subject(), &self.registry);
        let (layers, sizes) = (&subject.layers, subject.built.layer_sizes());
        let at = |size: u64| (mix(seed, 1) % size.max(1)) as usize;
        let get = |path: &str, size: u64| {
            registry.counted_fault(("", path, case.times), fault(case.kind, at(size)))
        };
        let met = match case.place {
            Place::Manifest => get("/manifests/", 600),
            Place::Config => get(&subject.built.config_digest(), 400),
            // What is asked for later are parts of some 500 kB.
            Place::Layer => get(&layers[0], sizes[0] / 2),
            Place::ZstdLayer => get(&layers[2], sizes[2]),
            Place::RestOfLayer => {
                let half = Fault::Truncate(sizes[0] as usize / 3);
                registry.fault(("GET", &layers[0], Times::First(1)), half);
                get(&layers[0], sizes[0] / 2)
            }
            Place::Referrers => get("/referrers/", 500),
            Place::LayerIndex => get(&subject.pushed[at(3)], 2000),
            Place::Token => {
                registry.revoke_tokens();
                get("/token", 60)
            }
            Place::Redirect => get(&layers[1], 100),
            Place::Storage => {
                let fault = fault(case.kind, at(sizes[1] / 2));
                self.storage.counted_fault(("", &layers[1], case.times), fault)
            }
        };
        self.redirect();
        met
    }

    /// As before the first use.
    fn forget(&mut self) {
        self.user.held = None;
        self.folder = tempfile::tempdir().unwrap();
        self.user.cache = Arc::new(Cache::open(self.folder.path()));
    }

    /// As after the first use, when what was read is not kept any more.
    fn use_once(&mut self) -> Result<(), Failure> {
        if self.user.held.is_none() {
            subject().put_indexes(&self.user.cache);
            for _ in 0..5 {
                if self.user.hold().is_ok() {
                    break;
                }
            }
            self.user.hold()?;
        }
        for kind in ["spans", "streams"] {
            for path in files_below(&self.folder.path().join("v1").join(kind)) {
                fs::remove_file(path).unwrap();
            }
        }
        Ok(())
    }
}

impl Campaign for Edge {
    type World = World;

    fn cases(&self) -> usize {
        PLACES.len() * KINDS.len() * TIMES.len() * WHEN.len() * OPERATIONS.len()
    }

    fn name(&self, case: usize) -> String {
        let Case { place, kind, times, is_first, operation } = Case::of(case);
        format!(
            "{place:?}: {}, {times:?}, {}, {operation:?}",
            KINDS[kind],
            WHEN[usize::from(!is_first)]
        )
    }

    fn world(&self) -> World {
        World::new()
    }

    fn run(&self, world: &mut World, case: usize, seed: u64) -> Result<Tally, Failure> {
        let case = Case::of(case);
        world.user.trust_referrers = matches!(case.place, Place::Referrers | Place::LayerIndex);
        match case.is_first {
            true => world.forget(),
            false => world.use_once()?,
        }
        let met = world.spoil(case, seed);
        let done = world.user.does(case.operation, seed);
        let mut tally = Tally { faults: met.times(), ..Tally::default() };
        match done {
            Ok(()) => tally.right = 1,
            Err(Failure::Told(_)) if tally.faults > 0 || case.place == Place::RestOfLayer => {
                tally.told = 1
            }
            // A machine that is too busy.
            Err(Failure::Told(text)) if text.contains("AllowMoreTime") => tally.late += 1,
            Err(failure) => return Err(failure),
        }
        world.heal();
        tally.late += world.user.is_well(case.operation, seed)?;
        match damaged(&world.user.cache) {
            damaged if damaged.is_empty() => Ok(tally),
            damaged => Err(Failure::Wrong(format!("left in the cache: {damaged:?}"))),
        }
    }
}
