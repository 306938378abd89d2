//! What inflating costs: our decoder against zlib-rs and libdeflate, on streams of several compressors;
//! processor time of this thread, in turns. `scripts/bench-inflate` makes the streams and runs it.
//!
//! Ours and zlib-rs take the stream in pieces of 128 KiB and write to a buffer of 4 MiB, with the CRC-32
//! of the member, as whoever reads a download has to; libdeflate takes and gives all at once, which only
//! small files allow: it is what one core can do.

#![allow(clippy::print_stdout, reason = "its purpose")]
#![allow(unsafe_code, reason = "zlib-rs shows its stream by a C interface only")]

use std::env;
use std::fs;
use std::hint::black_box;
use std::thread;

use libz_rs_sys::{Z_NO_FLUSH, Z_OK, Z_STREAM_END};
use ocifs::codec::{Compression, Decoder};

const PIECE_BYTES: usize = 128 << 10;
const BUFFER_BYTES: usize = 4 << 20;
const ROUNDS: usize = 11;

/// Processor time for one figure: so that the ticks of the scheduler's clock do not count.
const LEAST_SECONDS: f64 = 0.1;

/// Processor time of this thread in seconds. The kernel brings the figure up to date when the thread
/// gives way.
fn processor_seconds() -> f64 {
    thread::yield_now();
    let text = fs::read_to_string("/proc/thread-self/schedstat").expect("Linux");
    let nanoseconds: f64 = text.split(' ').next().and_then(|n| n.parse().ok()).expect("a number");
    nanoseconds / 1e9
}

fn ours(stream: &[u8], buffer: &mut [u8], with: &mut dyn FnMut(&[u8])) {
    let mut decoder = Decoder::new(Compression::Gzip).expect("a decoder");
    let (mut at, mut filled) = (0, 0);
    loop {
        let piece = &stream[at..(at + PIECE_BYTES).min(stream.len())];
        let step = decoder.decode_behind(piece, buffer, filled).expect("a good stream");
        at += step.consumed;
        filled += step.produced;
        if filled == buffer.len() || (step.consumed == 0 && step.produced == 0) {
            with(&buffer[..filled]);
            decoder.next_buffer(&buffer[..filled]);
            if filled < buffer.len() {
                break;
            }
            filled = 0;
        }
    }
    decoder.finish().expect("a whole stream");
}

fn zlib(stream: &[u8], buffer: &mut [u8], with: &mut dyn FnMut(&[u8])) {
    let mut state = std::mem::MaybeUninit::zeroed();
    let size = size_of::<libz_rs_sys::z_stream>() as i32;
    let version = libz_rs_sys::zlibVersion();
    // SAFETY: zeros are a stream that has its allocator chosen; 31 is a gzip header with any window.
    let begun = unsafe { libz_rs_sys::inflateInit2_(state.as_mut_ptr(), 31, version, size) };
    assert_eq!(begun, Z_OK);
    // SAFETY: it was initialised above.
    let mut state = unsafe { state.assume_init() };
    let (mut at, mut filled) = (0, 0);
    loop {
        let piece = &stream[at..(at + PIECE_BYTES).min(stream.len())];
        state.next_in = piece.as_ptr().cast_mut();
        state.avail_in = piece.len() as u32;
        state.next_out = buffer[filled..].as_mut_ptr();
        state.avail_out = (buffer.len() - filled) as u32;
        // SAFETY: both buffers are as long as is said, and live.
        let code = unsafe { libz_rs_sys::inflate(&raw mut state, Z_NO_FLUSH) };
        at += piece.len() - state.avail_in as usize;
        filled = buffer.len() - state.avail_out as usize;
        assert!(code == Z_OK || code == Z_STREAM_END, "{code}");
        if filled == buffer.len() || code == Z_STREAM_END {
            with(&buffer[..filled]);
            filled = 0;
        }
        if code == Z_STREAM_END {
            break;
        }
    }
    // SAFETY: it was initialised above, and is not used again.
    unsafe { libz_rs_sys::inflateEnd(&raw mut state) };
}

/// Seconds that one run takes.
fn seconds_of(mut work: impl FnMut()) -> f64 {
    let start = processor_seconds();
    let mut runs = 0;
    loop {
        work();
        runs += 1;
        let taken = processor_seconds() - start;
        if taken >= LEAST_SECONDS {
            return taken / f64::from(runs);
        }
    }
}

/// Median, least and most.
fn spread(mut values: Vec<f64>) -> (f64, f64, f64) {
    values.sort_by(f64::total_cmp);
    (values[values.len() / 2], values[0], values[values.len() - 1])
}

fn main() {
    println!("| stream | ours, MB/s | to zlib-rs | to libdeflate |\n|---|---:|---:|---:|");
    let mut buffer = vec![0; BUFFER_BYTES];
    let files: Vec<String> = env::args().skip(1).filter(|word| !word.starts_with("--")).collect();
    let mut medians = (Vec::new(), Vec::new());
    for path in &files {
        let stream = fs::read(path).expect("a file of gzip");
        let mut content = Vec::new();
        ours(&stream, &mut buffer, &mut |bytes| content.extend_from_slice(bytes));
        let mut other = Vec::new();
        zlib(&stream, &mut buffer, &mut |bytes| other.extend_from_slice(bytes));
        assert!(content == other, "{path} differs");
        let mut whole = vec![0; content.len()];
        let mut libdeflate = libdeflater::Decompressor::new();
        let (mut rates, mut to_zlib, mut to_libdeflate) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            let ours = seconds_of(|| ours(&stream, &mut buffer, &mut |bytes| _ = black_box(bytes)));
            let zlib = seconds_of(|| zlib(&stream, &mut buffer, &mut |bytes| _ = black_box(bytes)));
            let all = seconds_of(|| {
                libdeflate.gzip_decompress(&stream, black_box(&mut whole)).expect("a good stream");
            });
            rates.push(content.len() as f64 / 1e6 / ours);
            to_zlib.push(zlib / ours);
            to_libdeflate.push(all / ours);
        }
        assert!(content == whole, "{path} differs");
        let [rate, zlib, whole] = [rates, to_zlib, to_libdeflate].map(spread);
        let name = path.rsplit('/').next().unwrap_or(path);
        println!(
            "| {name} | {:.0} [{:.0}, {:.0}] | {:.2} [{:.2}, {:.2}] | {:.2} [{:.2}, {:.2}] |",
            rate.0, rate.1, rate.2, zlib.0, zlib.1, zlib.2, whole.0, whole.1, whole.2
        );
        medians.0.push(zlib.0);
        medians.1.push(whole.0);
    }
    if !files.is_empty() {
        let [zlib, whole] = [medians.0, medians.1].map(spread);
        println!(
            "| median of {} | | {:.2} [{:.2}, {:.2}] | {:.2} [{:.2}, {:.2}] |",
            files.len(),
            zlib.0,
            zlib.1,
            zlib.2,
            whole.0,
            whole.1,
            whole.2
        );
    }
}
