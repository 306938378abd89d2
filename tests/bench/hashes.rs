//! What the two SHA-256 of a first pass cost: one after the other, as the `sha2` crate computes them, and at
//! once, as `ocifs` does; processor time of this thread, in turns. `scripts/bench-index --hashes` runs it.

#![allow(clippy::print_stdout, reason = "its purpose")]

use std::fs;
use std::hint::black_box;
use std::thread;

use ocifs::digest::{Algorithm, ContentHasher, Hasher};
use sha2::{Digest as _, Sha256};

/// A span, and how often it is hashed for one figure: a fifth of a second, so that the ticks of the
/// scheduler's clock do not count.
const SPAN_BYTES: usize = 5 << 19;
const TIMES: usize = 100;
const ROUNDS: usize = 15;
const BLOCK_BYTES: usize = 512;

/// Files of one size in a part of a tar: a header, the content, its padding.
struct Part {
    bytes: Vec<u8>,
    file_bytes: usize,
}

impl Part {
    fn of_files(file_bytes: usize) -> Part {
        let one = BLOCK_BYTES + file_bytes.next_multiple_of(BLOCK_BYTES);
        let bytes = (0..(SPAN_BYTES / one).max(1) * one).map(|at| ((at * at) >> 7) as u8).collect();
        Part { bytes, file_bytes }
    }

    /// Header, content and padding of each file.
    fn files(&self) -> impl Iterator<Item = (&[u8], &[u8], &[u8])> {
        let one = BLOCK_BYTES + self.file_bytes.next_multiple_of(BLOCK_BYTES);
        self.bytes.chunks_exact(one).map(|file| {
            let (header, rest) = file.split_at(BLOCK_BYTES);
            let (content, padding) = rest.split_at(self.file_bytes);
            (header, content, padding)
        })
    }

    fn one_after_the_other(&self) -> (Vec<u8>, Vec<[u8; 32]>) {
        let mut all = Sha256::new();
        all.update(&self.bytes);
        let files = self.files().map(|(_, content, _)| Sha256::digest(content).into()).collect();
        (all.finalize().to_vec(), files)
    }

    fn at_once(&self) -> (Vec<u8>, Vec<[u8; 32]>) {
        let mut all = Hasher::new(Algorithm::Sha256);
        let files = self.files().map(|(header, content, padding)| {
            let mut file = ContentHasher::sha256();
            all.update(header);
            file.data_for_both(&mut all, content);
            all.update(padding);
            *file.finish().sha256().expect("its form")
        });
        let files = files.collect();
        (all.finish().hash().to_vec(), files)
    }
}

/// Processor time of this thread in seconds. The kernel brings the figure up to date when the thread
/// gives way.
fn processor_seconds() -> f64 {
    thread::yield_now();
    let text = fs::read_to_string("/proc/thread-self/schedstat").expect("Linux");
    let nanoseconds: f64 = text.split(' ').next().and_then(|n| n.parse().ok()).expect("a number");
    nanoseconds / 1e9
}

fn seconds_of<T>(work: impl Fn() -> T) -> f64 {
    let start = processor_seconds();
    for _ in 0..TIMES {
        black_box(work());
    }
    processor_seconds() - start
}

/// Median, least and most.
fn spread(mut values: Vec<f64>) -> (f64, f64, f64) {
    values.sort_by(f64::total_cmp);
    (values[values.len() / 2], values[0], values[values.len() - 1])
}

fn main() {
    println!(
        "| files of | one after the other, MB/s | at once, MB/s | ratio |\n|---:|---:|---:|---:|"
    );
    for file_bytes in [SPAN_BYTES - BLOCK_BYTES, 64 << 10, 10_000, 1000] {
        let part = Part::of_files(file_bytes);
        assert_eq!(part.one_after_the_other(), part.at_once());
        let (mut before, mut now, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
        let megabytes = (part.bytes.len() * TIMES) as f64 / 1e6;
        for _ in 0..ROUNDS {
            let old = seconds_of(|| part.one_after_the_other());
            let new = seconds_of(|| part.at_once());
            before.push(megabytes / old);
            now.push(megabytes / new);
            ratios.push(old / new);
        }
        let [before, now] = [before, now].map(spread);
        let (ratio, least, most) = spread(ratios);
        println!(
            "| {file_bytes} | {:.0} [{:.0}, {:.0}] | {:.0} [{:.0}, {:.0}] | {ratio:.2} [{least:.2}, {most:.2}] |",
            before.0, before.1, before.2, now.0, now.1, now.2
        );
    }
}
