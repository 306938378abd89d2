//! Drawing on the budget for a layer index that is there already.

use std::borrow::Cow;
use std::sync::Arc;

use crate::codec;
use crate::index::{Budget, Error, LayerIndex};

/// Draws what an index costs; `encoded` gives it as a file, which is asked for only if it has to be
/// found out how much it tells.
///
/// # Errors
/// There is not so much left.
pub(super) fn draw<'a>(
    index: &LayerIndex,
    encoded: &dyn Fn() -> Cow<'a, [u8]>,
    budget: &Arc<Budget>,
) -> Result<(), Error> {
    if index.proof().is_own() {
        // The blob was read to its end when the index was made.
        budget.has_read(index.blob(), index.blob_size());
        return index.draw_on(budget);
    }
    index.draw_on(budget).or_else(|_| {
        let enough = Budget::enough_for(index.metadata_bytes());
        budget.has_read(index.blob(), codec::compressed_bytes(&encoded(), enough));
        index.draw_on(budget)
    })
}
