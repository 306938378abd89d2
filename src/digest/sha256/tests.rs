//! Both ways of hashing against the `sha2` crate.

use proptest::prelude::*;
use sha2::Digest as _;

use super::block::{BLOCK_BYTES, Block};
use super::compress::{compress, compress_both};
use super::{INITIAL, Sha256, update_both};

/// Bytes that do not repeat soon.
fn some_bytes(length: usize) -> Vec<u8> {
    let mut state = 1u64;
    let mut next = || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    (0..length).map(|_| next()).collect()
}

fn reference(bytes: &[u8]) -> [u8; 32] {
    sha2::Sha256::digest(bytes).into()
}

#[test]
fn every_length_has_the_padding_that_it_needs() {
    let bytes = some_bytes(4 * BLOCK_BYTES);
    for length in 0..=bytes.len() {
        let bytes = &bytes[..length];
        let (mut alone, mut a, mut b) = (Sha256::new(), Sha256::new(), Sha256::new());
        alone.update(bytes);
        update_both(&mut a, &mut b, bytes);
        for hash in [alone, a, b] {
            assert_eq!(hash.finish(), reference(bytes), "{length} bytes");
        }
    }
}

/// The instructions of this processor, where it has them, and the plain way.
#[test]
fn two_states_at_once_are_what_each_is_alone() {
    let bytes = some_bytes(100 * BLOCK_BYTES);
    let blocks: &[Block] = bytes.as_chunks().0;
    let words = some_bytes(32);
    let other = std::array::from_fn(|word| u32::from_le_bytes(words.as_chunks().0[word]));
    for count in [0, 1, 2, 3, 99, 100] {
        let (mut together, mut alone) = ([INITIAL, other], [INITIAL, other]);
        let [a, b] = &mut together;
        compress_both([a, b], &blocks[..count]);
        alone.iter_mut().for_each(|state| compress(state, &blocks[..count]));
        assert_eq!(together, alone, "{count} blocks");
    }
}

#[test]
#[cfg(target_arch = "x86_64")]
fn the_instructions_are_used_where_the_processor_has_them() {
    let (mut a, mut b) = (INITIAL, INITIAL);
    let is_used = super::sha_ni::compress_both([&mut a, &mut b], &[[0; BLOCK_BYTES]]).is_ok();
    let features = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    assert_eq!(is_used, features.split_whitespace().any(|word| word == "sha_ni"));
    assert_eq!((a, b), if is_used { (a, a) } else { (INITIAL, INITIAL) });
}

/// What a hash is given.
#[derive(Clone, Debug)]
enum Step {
    /// Bytes for the first hash alone.
    First(Vec<u8>),
    /// Bytes for the second hash alone.
    Second(Vec<u8>),
    /// Bytes for both.
    Both(Vec<u8>),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let bytes =
        || prop_oneof![0..9usize, 0..300usize, Just(512), Just(BLOCK_BYTES)].prop_map(some_bytes);
    let step = prop_oneof![
        1 => bytes().prop_map(Step::First),
        1 => bytes().prop_map(Step::Second),
        3 => bytes().prop_map(Step::Both),
    ];
    prop::collection::vec(step, 0..20)
}

proptest! {
    #[test]
    fn two_streams_hash_as_each_alone(steps in steps()) {
        let (mut a, mut b) = (Sha256::new(), Sha256::new());
        let (mut of_a, mut of_b) = (Vec::new(), Vec::new());
        for step in steps {
            match step {
                Step::First(bytes) => {
                    a.update(&bytes);
                    of_a.extend(bytes);
                }
                Step::Second(bytes) => {
                    b.update(&bytes);
                    of_b.extend(bytes);
                }
                Step::Both(bytes) => {
                    update_both(&mut a, &mut b, &bytes);
                    of_a.extend_from_slice(&bytes);
                    of_b.extend(bytes);
                }
            }
        }
        prop_assert_eq!(a.finish(), reference(&of_a));
        prop_assert_eq!(b.finish(), reference(&of_b));
    }

    #[test]
    fn cuts_change_nothing(length in 0..5000usize, mut cuts in prop::collection::vec(0..5000usize, 0..8)) {
        let bytes = some_bytes(length);
        cuts.retain(|cut| *cut <= length);
        cuts.push(length);
        cuts.sort_unstable();
        let mut hash = Sha256::new();
        let mut at = 0;
        for cut in cuts {
            hash.update(&bytes[at..cut]);
            at = cut;
        }
        prop_assert_eq!(hash.finish(), reference(&bytes));
    }
}
