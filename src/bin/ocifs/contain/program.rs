//! What a program of an image may not do, whatever user it is in its namespaces.
//!
//! The capabilities are those that rootless container engines leave root: changing users, owners and modes, and no way to the
//! machine's devices, mounts, modules or network. `no_new_privs`: set-user-ID programs of the image give nothing. The
//! filter refuses what namespaces do not keep apart: typing into the caller's terminal, and the caller's keys.

use std::collections::BTreeMap;
use std::io;

use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, clear_ambient_capability_set,
    remove_capability_from_bounding_set, set_capabilities, set_no_new_privs,
};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompFilter, SeccompRule, TargetArch, apply_filter,
};

use super::syscalls::{X32_TWINS, typing};

/// What root in a container needs.
const KEPT: CapabilitySet = CapabilitySet::CHOWN
    .union(CapabilitySet::DAC_OVERRIDE)
    .union(CapabilitySet::FOWNER)
    .union(CapabilitySet::FSETID)
    .union(CapabilitySet::KILL)
    .union(CapabilitySet::NET_BIND_SERVICE)
    .union(CapabilitySet::SETFCAP)
    .union(CapabilitySet::SETGID)
    .union(CapabilitySet::SETPCAP)
    .union(CapabilitySet::SETUID)
    .union(CapabilitySet::SYS_CHROOT);

/// Refused whatever the arguments are: keys are the user's, and not of a namespace.
const KEYS: [i64; 3] = [libc::SYS_add_key, libc::SYS_request_key, libc::SYS_keyctl];

/// Gives up what no program of an image has. The user is the program's already.
///
/// # Errors
/// The kernel can't do one of these.
pub(crate) fn contain_program() -> io::Result<()> {
    drop_capabilities()?;
    set_no_new_privs(true)?;
    filter().map_err(|e| io::Error::other(format!("seccomp: {e}")))
}

fn drop_capabilities() -> io::Result<()> {
    let all = capabilities(None)?;
    if all.effective.contains(CapabilitySet::SETPCAP) {
        for capability in CapabilitySet::all().difference(KEPT).iter() {
            match remove_capability_from_bounding_set(capability) {
                // An older kernel does not know it.
                Ok(()) | Err(rustix::io::Errno::INVAL) => {}
                Err(e) => return Err(e.into()),
            }
        }
    }
    clear_ambient_capability_set()?;
    let (effective, permitted) = (all.effective & KEPT, all.permitted & KEPT);
    let inheritable = CapabilitySet::empty();
    Ok(set_capabilities(None, CapabilitySets { effective, permitted, inheritable })?)
}

fn filter() -> Result<(), Box<dyn std::error::Error>> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = BTreeMap::new();
    rules.extend(KEYS.map(|number| (number, Vec::new())));
    rules.insert(libc::SYS_ioctl, typing()?);
    let twins: Vec<_> = X32_TWINS
        .iter()
        .flat_map(|twin| rules.iter().map(move |(number, rules)| (twin | number, rules.clone())))
        .collect();
    rules.extend(twins);
    let target = TargetArch::try_from(std::env::consts::ARCH)?;
    let refused = SeccompAction::Errno(libc::EPERM as u32);
    let filter: BpfProgram =
        SeccompFilter::new(rules, SeccompAction::Allow, refused, target)?.try_into()?;
    Ok(apply_filter(&filter)?)
}
