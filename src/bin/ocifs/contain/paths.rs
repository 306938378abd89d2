//! Which files may be opened, which sockets be listened on: Landlock (landlock(7)).

use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, PathBeneath, PathFd,
    Ruleset, RulesetAttr, RulesetCreatedAttr, RulesetError, RulesetStatus, Scope,
};

use super::needs::Needs;
use super::part::Part;

/// The newest rights that are asked for (Linux 6.12); older kernels know some of them.
const RIGHTS: ABI = ABI::V6;

/// What the C library looks names of hosts up with. They lie in folders that hold secrets, too, so that a process may read
/// the files that were there when it was contained ([`NameFiles`](super::NameFiles)).
pub(super) const NAMES: [&str; 5] =
    ["/etc/resolv.conf", "/etc/hosts", "/etc/host.conf", "/etc/nsswitch.conf", "/etc/gai.conf"];

/// What every process goes on to read: where `/etc/resolv.conf` leads to and is written anew, authorities and certificates,
/// what it may know of the machine and itself. What `/proc` has of other processes and is not for everybody
/// takes rights to trace them, which Landlock refuses.
pub(super) const READ: [&str; 22] = [
    "/run/systemd/resolve",
    "/run/resolvconf",
    "/etc/services",
    "/etc/protocols",
    "/etc/ld.so.cache",
    "/etc/localtime",
    "/etc/ssl",
    "/etc/pki",
    "/etc/ca-certificates",
    "/var/lib/ca-certificates",
    "/etc/containers/certs.d",
    "/etc/docker/certs.d",
    "/etc/containerd/certs.d",
    "/lib",
    "/lib64",
    "/usr/lib",
    "/usr/lib64",
    "/usr/share",
    "/usr/local/lib",
    "/nix/store",
    "/gnu/store",
    "/proc",
];

/// The same, of the machine.
const MACHINE: [&str; 2] = ["/sys/devices/system/cpu", "/sys/fs/cgroup"];

/// What every process goes on to write to.
const WRITE: [&str; 2] = ["/dev/null", "/dev/tty"];

/// Limits this process, and the threads that it starts from here on.
pub(super) fn restrict(needs: &Needs) -> Part {
    match restricted(needs) {
        Ok(RulesetStatus::FullyEnforced) => Part::Whole,
        Ok(RulesetStatus::PartiallyEnforced) => Part::Partly("this kernel knows some rights only"),
        Ok(RulesetStatus::NotEnforced) => {
            Part::Missing("this kernel has none, or it is not enabled".to_owned())
        }
        Err(e) => Part::Missing(e.to_string()),
    }
}

fn restricted(needs: &Needs) -> Result<RulesetStatus, RulesetError> {
    let reading = AccessFs::ReadFile | AccessFs::ReadDir;
    let writing = reading
        | AccessFs::WriteFile
        | AccessFs::Truncate
        | AccessFs::MakeReg
        | AccessFs::MakeDir
        | AccessFs::RemoveFile
        | AccessFs::RemoveDir
        | AccessFs::Refer;
    let mut rules = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(RIGHTS))?
        .handle_access(AccessNet::BindTcp)?
        .scope(Scope::AbstractUnixSocket)?
        .create()?;
    let usual = NAMES.iter().chain(&READ).chain(&MACHINE).map(PathBuf::from);
    for path in usual.chain(needs.read.iter().cloned()) {
        rules = allow(rules, &path, reading)?;
    }
    for path in WRITE.iter().map(Path::new) {
        rules = allow(rules, path, AccessFs::ReadFile | AccessFs::WriteFile)?;
    }
    for path in &needs.write {
        rules = allow(rules, path, writing)?;
    }
    let making =
        writing | AccessFs::MakeSym | AccessFs::MakeFifo | AccessFs::MakeChar | AccessFs::MakeBlock;
    for path in &needs.make {
        rules = allow(rules, path, making)?;
    }
    Ok(rules.restrict_self()?.ruleset)
}

/// Allows something at a path and below it, if there is such a path.
fn allow(
    rules: landlock::RulesetCreated,
    path: &Path,
    access: BitFlags<AccessFs>,
) -> Result<landlock::RulesetCreated, RulesetError> {
    let Ok(place) = PathFd::new(path) else { return Ok(rules) };
    // A file has fewer rights than a folder, and the kernel refuses a rule with more.
    let access = match path.is_dir() {
        true => access,
        false => access & AccessFs::from_file(RIGHTS),
    };
    rules.add_rule(PathBeneath::new(place, access))
}
