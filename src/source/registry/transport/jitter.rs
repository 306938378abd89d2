//! Pauses of many clients, spread.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::time::Duration;

/// Half of `pause` and a random part of the other half, so that many clients do not come back at
/// the same moment.
pub(in crate::source::registry) fn jittered(pause: Duration) -> Duration {
    let random = RandomState::new().build_hasher().finish();
    pause / 2 + pause.mul_f64((random % 1000) as f64 / 2000.0)
}
