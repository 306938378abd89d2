//! Runs the targets of `tests/hostile` over mutations of their valid inputs.
//!
//! `OCIFS_TEST_CASES` says how many of each: by default a sample, with `scripts/test --full` 100,000.
//! A case is made from its number alone, so a failure tells how to run it again.

use std::any::Any;
use std::io::{self, Write};
use std::panic::{self, AssertUnwindSafe};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::thread;
use std::time::{Duration, Instant};

use crate::hostile::mutator::{Random, mutate};
use crate::hostile::{TARGETS, Target, Verdict, target};
use crate::memory;

/// Cases of each target, where nothing else is said.
const SAMPLE: u64 = 4000;

/// What cases are made from besides their numbers, where nothing else is said.
const SEED: u64 = 0xc1f5;

/// A case that takes so long has no end. The process is ended then, as nothing else ends a thread.
const PATIENCE: Duration = Duration::from_secs(60);

/// A number from the environment.
fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is `{text}`, which is no number")))
}

/// Runs all cases of a target, or the one that `OCIFS_TEST_CASE` names.
fn run(name: &str) {
    let target = target(name);
    let valid = (target.valid)();
    for (at, input) in valid.iter().enumerate() {
        assert_eq!((target.check)(input), Verdict::Accepted, "{name}: valid input {at}");
    }
    let seed = number("OCIFS_TEST_SEED").unwrap_or(SEED);
    let single = number("OCIFS_TEST_CASE");
    let cases = match single {
        Some(case) => case..case + 1,
        None => 0..number("OCIFS_TEST_CASES").unwrap_or(SAMPLE),
    };
    let at_case = Arc::new(AtomicU64::new(0));
    watch(again(name, seed), Arc::downgrade(&at_case));
    let mut verdicts = [0, 0];
    for case in cases {
        at_case.store(case, Ordering::Relaxed);
        let input = mutate(&valid, &mut Random::new(seed, case));
        match check(target, &input) {
            Ok(verdict) => verdicts[usize::from(verdict == Verdict::Accepted)] += 1,
            Err(what) => panic!("{name}: {what}; again: {}{case}", again(name, seed)),
        }
    }
    // Else the changes do not matter, or do not get anywhere.
    let [refused, accepted] = verdicts;
    assert!(single.is_some() || (refused > 0 && accepted > 0), "{name}: {verdicts:?}");
}

/// The command that runs a case alone, but for its number.
fn again(name: &str, seed: u64) -> String {
    format!("cargo test --test it mutations::{name} with OCIFS_TEST_SEED={seed} OCIFS_TEST_CASE=")
}

/// Checks one input, and the memory that it takes.
fn check(target: &Target, input: &[u8]) -> Result<Verdict, String> {
    let mut verdict = Verdict::Refused;
    let work = AssertUnwindSafe(|| memory::most_during(|| verdict = (target.check)(input)));
    match panic::catch_unwind(work) {
        Ok(most) if most <= target.most_memory => Ok(verdict),
        Ok(most) => Err(format!("{most} bytes of memory for {} of input", input.len())),
        Err(panicked) => Err(message(&*panicked)),
    }
}

fn message(panicked: &(dyn Any + Send)) -> String {
    let text = panicked.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panicked.downcast_ref::<String>().cloned()).unwrap_or_default()
}

/// Ends the process if a case does not end.
fn watch(again: String, at_case: Weak<AtomicU64>) {
    thread::spawn(move || {
        let (mut last, mut since) = (u64::MAX, Instant::now());
        while let Some(case) = at_case.upgrade().map(|case| case.load(Ordering::Relaxed)) {
            if case != last {
                (last, since) = (case, Instant::now());
            }
            if since.elapsed() > PATIENCE {
                let _ = writeln!(io::stderr(), "this case does not end: {again}{case}");
                std::process::abort();
            }
            thread::sleep(Duration::from_millis(200));
        }
    });
}

/// A test for each target, which has its name.
macro_rules! tests {
    ($($name:ident)*) => {
        $(
            #[test]
            fn $name() {
                run(stringify!($name));
            }
        )*

        const TESTS: &[&str] = &[$(stringify!($name)),*];
    };
}

tests! {
    tar tar_with_checksums pax gzip inflate deflate zstd layer_index layer_index_sealed toc toc_blob ztoc bolt
    bolt_sealed sqlite sqlite_wal rpm_header rpm_ndb rpm_bdb dpkg apk python_metadata manifest config
    soci_index artifact artifact_head reference platform challenge
}

#[test]
fn every_target_has_its_test() {
    assert_eq!(TARGETS.map(|target| target.name), TESTS);
}

#[test]
fn a_case_is_the_same_every_time() {
    let valid = [b"some valid input 0123".to_vec(), b"another one".to_vec()];
    let cases = || (0..500).map(|case| mutate(&valid, &mut Random::new(SEED, case)));
    assert!(cases().eq(cases()));
    let changed = cases().filter(|case| !valid.contains(case)).count();
    assert!(changed > 450, "{changed} of 500 are changed");
}

#[test]
fn faults_are_found() {
    let odd = |check: fn(&[u8]) -> Verdict| Target {
        name: "odd",
        valid: Vec::new,
        check,
        most_memory: 1000,
    };
    let panicking = odd(|bytes| panic!("{} bytes", bytes.len()));
    assert_eq!(check(&panicking, b"123"), Err("3 bytes".to_owned()));
    let greedy = odd(|bytes| Verdict::from(&String::from_utf8(vec![bytes[0]; 2000])));
    assert!(check(&greedy, b"123").is_err_and(|what| what.contains("bytes of memory")));
    let fine = odd(|_| Verdict::Refused);
    assert_eq!(check(&fine, b"123"), Ok(Verdict::Refused));
}

/// A decoder that takes nothing and gives nothing says so, instead of spinning.
#[test]
fn an_empty_call_makes_no_progress() {
    use ocifs::codec::{Compression, Decoder};
    for compression in [Compression::None, Compression::Gzip, Compression::Zstd] {
        let mut decoder = Decoder::new(compression).unwrap();
        for output in [&mut [0; 10][..], &mut []] {
            let progress = decoder.decode(&[], output).unwrap();
            assert_eq!((progress.consumed, progress.produced), (0, 0));
        }
    }
}
