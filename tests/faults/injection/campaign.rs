//! Many cases on a few threads: in the order of a table, or in sequences that proptest makes.

use std::env;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestError, TestRng, TestRunner};

use super::levels::name_case;
use super::operations::Failure;

/// Faults of each test, where nothing else is said.
const SAMPLE: usize = 80;

const SEED: u64 = 0xc1f5;

/// Threads: most of the time they wait.
const THREADS: usize = 16;

/// Failures of a table that are told before it ends.
const MAX_FAILURES: usize = 5;

/// Steps through the table, coprime with the sizes of all, so that what comes after another is not like it.
const STRIDE: usize = 7919;

/// Cases of a sequence.
const MAX_STEPS: usize = 6;

/// What came of cases.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tally {
    /// Faults that were met: an answer was spoiled, or a file was.
    pub faults: usize,
    /// Operations that gave all that they should, and that gave an error.
    pub right: usize,
    pub told: usize,
    /// Operations that were tried again, as the machine was too busy for a deadline.
    pub late: usize,
}

/// An edge of the library, at which things go wrong.
pub trait Edge: Sync {
    /// What cases happen to, one after the other.
    type World;

    /// Cases of the table.
    fn cases(&self) -> usize;
    fn name(&self, case: usize) -> String;
    fn world(&self) -> Self::World;

    /// Lets one case happen.
    ///
    /// # Errors
    /// It is not as it should be.
    fn run(&self, world: &mut Self::World, case: usize, seed: u64) -> Result<Tally, Failure>;
}

fn number(name: &str) -> Option<u64> {
    let text = env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is `{text}`, which is no number")))
}

fn seed() -> u64 {
    number("OCIFS_TEST_SEED").unwrap_or(SEED)
}

fn faults_wanted() -> usize {
    number("OCIFS_FAULTS").map_or(SAMPLE, |n| n as usize)
}

/// Mixes two numbers to one that looks like neither.
pub fn mix(a: u64, b: u64) -> u64 {
    let mut mixed = a.wrapping_add(b.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[derive(Default)]
struct Totals {
    cases: AtomicUsize,
    tally: Mutex<Tally>,
}

impl Totals {
    fn add(&self, tally: Tally) {
        self.cases.fetch_add(1, Ordering::SeqCst);
        let mut sum = self.tally.lock().unwrap();
        sum.faults += tally.faults;
        sum.right += tally.right;
        sum.told += tally.told;
        sum.late += tally.late;
    }

    fn faults(&self) -> usize {
        self.tally.lock().unwrap().faults
    }

    fn told(&self) -> String {
        let Tally { faults, right, told, late } = *self.tally.lock().unwrap();
        let cases = self.cases.load(Ordering::SeqCst);
        assert!(faults > 0 && right > 0, "no fault was met");
        format!(
            "{cases} cases, {faults} faults met, {right} operations right, {told} with an error, {late} late \
             and tried again, 0 wrong, 0 hangs"
        )
    }
}

/// One case in a world of its own or of others, with what a panic says.
fn run_one<E: Edge>(
    edge: &E,
    world: &mut E::World,
    case: usize,
    seed: u64,
) -> Result<Tally, String> {
    name_case(edge.name(case));
    match panic::catch_unwind(AssertUnwindSafe(|| edge.run(world, case, seed))) {
        Ok(result) => result.map_err(|failure| format!("{}: {failure:?}", edge.name(case))),
        Err(_) => Err(format!("{}: panicked", edge.name(case))),
    }
}

/// Goes through the table until so many faults were met; what came of it.
pub fn table<E: Edge>(edge: &E) -> String {
    let (seed, wanted, totals) = (seed(), faults_wanted(), Totals::default());
    let next = AtomicUsize::new(0);
    let failures = Mutex::new(Vec::new());
    let single = number("OCIFS_TEST_CASE").map(|case| case as usize);
    let run = |at: usize| {
        // The same case again is another one: it begins with another seed.
        let case = single.unwrap_or((at * STRIDE + seed as usize) % edge.cases());
        let result = run_one(edge, &mut edge.world(), case, mix(seed, at as u64));
        match result {
            Ok(tally) => totals.add(tally),
            Err(why) => failures.lock().unwrap().push(format!("case {case}: {why}")),
        }
    };
    if single.is_some() {
        (0..20).for_each(run);
    } else {
        thread::scope(|scope| {
            for _ in 0..THREADS {
                scope.spawn(|| {
                    while totals.faults() < wanted && failures.lock().unwrap().len() < MAX_FAILURES
                    {
                        run(next.fetch_add(1, Ordering::SeqCst));
                    }
                });
            }
        });
    }
    let failures = failures.into_inner().unwrap();
    assert!(
        failures.is_empty(),
        "one case again, with OCIFS_TEST_SEED={seed} and OCIFS_TEST_CASE=NUMBER:\n{}",
        failures.join("\n")
    );
    totals.told()
}

/// Sequences of cases, each on what the one before has left, until so many faults were met; what came of them.
pub fn sequences<E: Edge>(edge: &E) -> String {
    let (seed, wanted, totals) = (seed(), faults_wanted(), Totals::default());
    let failures = Mutex::new(Vec::new());
    let steps = || proptest::collection::vec((0..edge.cases(), any::<u64>()), 1..=MAX_STEPS);
    let run = |thread: usize| {
        let config = Config {
            cases: u32::MAX,
            failure_persistence: None,
            max_shrink_iters: 100,
            ..Config::default()
        };
        let bytes: Vec<u8> =
            (0..4).flat_map(|n| mix(seed, (thread * 4 + n) as u64).to_le_bytes()).collect();
        let random = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
        let result = TestRunner::new_with_rng(config, random).run(&steps(), |steps| {
            if totals.faults() >= wanted || !failures.lock().unwrap().is_empty() {
                return Err(TestCaseError::reject("enough"));
            }
            let mut world = edge.world();
            for (case, seed) in steps {
                totals.add(run_one(edge, &mut world, case, seed).map_err(TestCaseError::fail)?);
            }
            Ok(())
        });
        if let Err(TestError::Fail(why, steps)) = result {
            let names: Vec<String> = steps
                .iter()
                .map(|(case, seed)| format!("({case}, {seed}) {}", edge.name(*case)))
                .collect();
            failures.lock().unwrap().push(format!("{why}, after\n  {}", names.join("\n  ")));
        }
    };
    thread::scope(|scope| {
        let run = &run;
        for thread in 0..THREADS {
            scope.spawn(move || run(thread));
        }
    });
    let failures = failures.into_inner().unwrap();
    assert!(failures.is_empty(), "with OCIFS_TEST_SEED={seed}:\n{}", failures.join("\n"));
    totals.told()
}
