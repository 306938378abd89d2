//! The capabilities of a process (capabilities(7)).

use rustix::thread::{CapabilitySet, CapabilitySets, capabilities, set_capabilities};

use super::part::Part;

/// What root needs to make files with all their attributes. (`trusted.` attributes take `SYS_ADMIN`, most of whose
/// other uses the filter refuses.)
const MAKING: CapabilitySet = CapabilitySet::CHOWN
    .union(CapabilitySet::DAC_OVERRIDE)
    .union(CapabilitySet::FOWNER)
    .union(CapabilitySet::FSETID)
    .union(CapabilitySet::MKNOD)
    .union(CapabilitySet::SETFCAP)
    .union(CapabilitySet::SYS_ADMIN);

/// Gives up all but one: root may have stores of other users to read, which Landlock limits to those that are needed. What
/// `makes` files keeps what that takes.
pub(super) fn drop_all(makes: bool) -> Part {
    let read = CapabilitySet::DAC_READ_SEARCH;
    let wanted = if makes { read.union(MAKING) } else { read };
    let kept = |all: CapabilitySet| all & wanted;
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
