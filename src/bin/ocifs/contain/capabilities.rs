//! The capabilities of a process (capabilities(7)).

use rustix::thread::{CapabilitySet, CapabilitySets, capabilities, set_capabilities};

use super::part::Part;

/// Gives up all but one: root may have stores of other users to read, which Landlock limits to those that are needed.
pub(super) fn drop_all() -> Part {
    let kept = |all: CapabilitySet| all & CapabilitySet::DAC_READ_SEARCH;
    let dropped = capabilities(None).and_then(|sets| {
        let permitted = kept(sets.permitted);
        let effective = kept(sets.effective);
        set_capabilities(
            None,
            CapabilitySets { effective, permitted, inheritable: CapabilitySet::empty() },
        )
    });
    match dropped {
        Ok(()) => Part::Whole,
        Err(e) => Part::Missing(e.to_string()),
    }
}
