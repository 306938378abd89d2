//! The compression function: blocks into one state, or into two.

use sha2::block_api::compress256;

use super::block::{Block, State};

/// Compresses blocks into a state.
pub(super) fn compress(state: &mut State, blocks: &[Block]) {
    compress256(state, blocks);
}

/// Compresses the same blocks into two states.
pub(super) fn compress_both(states: [&mut State; 2], blocks: &[Block]) {
    #[cfg(target_arch = "x86_64")]
    let states = match super::sha_ni::compress_both(states, blocks) {
        Ok(()) => return,
        Err(states) => states,
    };
    for state in states {
        compress(state, blocks);
    }
}
