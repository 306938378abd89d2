//! Two hashes of the same blocks at once, with the SHA instructions of x86-64.
//!
//! # Problem
//!
//! Each `sha256rnds2` waits for the one before, and takes four cycles where the processor could
//! begin one every two: a single hash leaves half of the unit idle.
//!
//! # Design
//!
//! The rounds of the second hash fill the gaps of the first. Both hash the same block, so that its
//! message schedule is made once; its instructions stand between the rounds that don't need them yet.
//! The rounds have to be unrolled, or the words of the schedule go through memory: the loops of
//! four are what the compiler unrolls by itself, one of sixteen it does not, and is half as fast then.
//!
//! The intrinsics are safe to call in a function that has their features; calling that function is
//! the one thing that is not.
//!
//! # Rejected
//!
//! A third hash: two keep the unit busy.

#![allow(unsafe_code, reason = "one call; see there")]

use std::arch::x86_64::{
    __m128i, _mm_add_epi32, _mm_alignr_epi8, _mm_extract_epi32, _mm_set_epi64x, _mm_setr_epi32,
    _mm_setzero_si128, _mm_sha256msg1_epu32, _mm_sha256msg2_epu32, _mm_sha256rnds2_epu32,
    _mm_shuffle_epi8, _mm_shuffle_epi32,
};

use super::block::{Block, State};

/// The constants of the rounds, four rounds a row (FIPS 180-4, 4.2.2).
const K: [[u32; 4]; 16] = [
    [0x428a_2f98, 0x7137_4491, 0xb5c0_fbcf, 0xe9b5_dba5],
    [0x3956_c25b, 0x59f1_11f1, 0x923f_82a4, 0xab1c_5ed5],
    [0xd807_aa98, 0x1283_5b01, 0x2431_85be, 0x550c_7dc3],
    [0x72be_5d74, 0x80de_b1fe, 0x9bdc_06a7, 0xc19b_f174],
    [0xe49b_69c1, 0xefbe_4786, 0x0fc1_9dc6, 0x240c_a1cc],
    [0x2de9_2c6f, 0x4a74_84aa, 0x5cb0_a9dc, 0x76f9_88da],
    [0x983e_5152, 0xa831_c66d, 0xb003_27c8, 0xbf59_7fc7],
    [0xc6e0_0bf3, 0xd5a7_9147, 0x06ca_6351, 0x1429_2967],
    [0x27b7_0a85, 0x2e1b_2138, 0x4d2c_6dfc, 0x5338_0d13],
    [0x650a_7354, 0x766a_0abb, 0x81c2_c92e, 0x9272_2c85],
    [0xa2bf_e8a1, 0xa81a_664b, 0xc24b_8b70, 0xc76c_51a3],
    [0xd192_e819, 0xd699_0624, 0xf40e_3585, 0x106a_a070],
    [0x19a4_c116, 0x1e37_6c08, 0x2748_774c, 0x34b0_bcb5],
    [0x391c_0cb3, 0x4ed8_aa4a, 0x5b9c_ca4f, 0x682e_6ff3],
    [0x748f_82ee, 0x78a5_636f, 0x84c8_7814, 0x8cc7_0208],
    [0x90be_fffa, 0xa450_6ceb, 0xbef9_a3f7, 0xc671_78f2],
];

/// Compresses the same blocks into two states; gives them back untouched where the processor lacks
/// the instructions.
pub(super) fn compress_both<'a>(
    [a, b]: [&'a mut State; 2],
    blocks: &[Block],
) -> Result<(), [&'a mut State; 2]> {
    let is_able = is_x86_feature_detected!("sha")
        && is_x86_feature_detected!("ssse3")
        && is_x86_feature_detected!("sse4.1");
    if !is_able {
        return Err([a, b]);
    }
    // SAFETY: the processor has all features that the function is compiled for, which was just asked.
    // The function takes references and slices, and uses no pointers.
    unsafe { compress_with_features(a, b, blocks) };
    Ok(())
}

/// A state in the order in which the instructions take it.
#[derive(Clone, Copy)]
struct Packed {
    abef: __m128i,
    cdgh: __m128i,
}

#[target_feature(enable = "sha,ssse3,sse4.1")]
fn compress_with_features(a: &mut State, b: &mut State, blocks: &[Block]) {
    let (mut of_a, mut of_b) = (pack(a), pack(b));
    for block in blocks {
        let before = (of_a, of_b);
        let mut words = load(block);
        for row in 0..4 {
            four_rounds(row, &mut words, &mut of_a, &mut of_b);
        }
        for row in 4..8 {
            four_rounds(row, &mut words, &mut of_a, &mut of_b);
        }
        for row in 8..12 {
            four_rounds(row, &mut words, &mut of_a, &mut of_b);
        }
        for row in 12..16 {
            four_rounds(row, &mut words, &mut of_a, &mut of_b);
        }
        (of_a, of_b) = (add(of_a, before.0), add(of_b, before.1));
    }
    (*a, *b) = (unpack(of_a), unpack(of_b));
}

/// Four rounds of both hashes, and between them the steps towards the next rows of the message
/// schedule (FIPS 180-4, 6.2.2): the four rows of `words` hold the last ones, each in the place
/// that is its number modulo four.
#[inline]
#[target_feature(enable = "sha,ssse3,sse4.1")]
fn four_rounds(row: usize, words: &mut [__m128i; 4], a: &mut Packed, b: &mut Packed) {
    let [this, next, last] = [0, 1, 3].map(|ahead| (row + ahead) % 4);
    let sum = _mm_add_epi32(words[this], vector(K[row]));
    a.cdgh = _mm_sha256rnds2_epu32(a.cdgh, a.abef, sum);
    b.cdgh = _mm_sha256rnds2_epu32(b.cdgh, b.abef, sum);
    if (3..15).contains(&row) {
        // The next row is complete.
        let shifted = _mm_alignr_epi8::<4>(words[this], words[last]);
        words[next] = _mm_sha256msg2_epu32(_mm_add_epi32(words[next], shifted), words[this]);
    }
    let upper = _mm_shuffle_epi32::<0b00_00_11_10>(sum);
    a.abef = _mm_sha256rnds2_epu32(a.abef, a.cdgh, upper);
    b.abef = _mm_sha256rnds2_epu32(b.abef, b.cdgh, upper);
    if (1..13).contains(&row) {
        // The last row has been used, and begins to become the one four rows on.
        words[last] = _mm_sha256msg1_epu32(words[last], words[this]);
    }
}

/// The words of a block, which are big-endian.
#[inline]
#[target_feature(enable = "sha,ssse3,sse4.1")]
fn load(block: &Block) -> [__m128i; 4] {
    let swap = _mm_set_epi64x(0x0c0d_0e0f_0809_0a0b, 0x0405_0607_0001_0203);
    let mut words = [_mm_setzero_si128(); 4];
    for (words, bytes) in words.iter_mut().zip(block.as_chunks().0) {
        let bits = u128::from_le_bytes(*bytes);
        *words = _mm_shuffle_epi8(_mm_set_epi64x((bits >> 64) as i64, bits as i64), swap);
    }
    words
}

#[inline]
#[target_feature(enable = "sha,ssse3,sse4.1")]
fn pack(&[a, b, c, d, e, f, g, h]: &State) -> Packed {
    Packed { abef: vector([f, e, b, a]), cdgh: vector([h, g, d, c]) }
}

#[inline]
#[target_feature(enable = "sha,ssse3,sse4.1")]
fn unpack(Packed { abef, cdgh }: Packed) -> State {
    let ([f, e, b, a], [h, g, d, c]) = (lanes(abef), lanes(cdgh));
    [a, b, c, d, e, f, g, h]
}

#[inline]
#[target_feature(enable = "sha,ssse3,sse4.1")]
fn add(a: Packed, b: Packed) -> Packed {
    Packed { abef: _mm_add_epi32(a.abef, b.abef), cdgh: _mm_add_epi32(a.cdgh, b.cdgh) }
}

#[inline]
#[target_feature(enable = "sha,ssse3,sse4.1")]
fn vector(lanes: [u32; 4]) -> __m128i {
    let [a, b, c, d] = lanes.map(u32::cast_signed);
    _mm_setr_epi32(a, b, c, d)
}

#[inline]
#[target_feature(enable = "sha,ssse3,sse4.1")]
fn lanes(vector: __m128i) -> [u32; 4] {
    [
        _mm_extract_epi32::<0>(vector),
        _mm_extract_epi32::<1>(vector),
        _mm_extract_epi32::<2>(vector),
        _mm_extract_epi32::<3>(vector),
    ]
    .map(i32::cast_unsigned)
}
