//! Which system calls are refused (seccomp(2)).
//!
//! A refused call fails with EPERM. `clone3`, whose flags lie in memory that no filter sees, fails with ENOSYS: the C
//! library takes `clone` then, of which only threads are allowed.

use std::collections::BTreeMap;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen as Length, SeccompCmpOp as Op, SeccompCondition,
    SeccompFilter, SeccompRule, TargetArch, apply_filter_all_threads,
};

use super::needs::Needs;
use super::part::Part;

/// Refused whatever its arguments are.
const REFUSED: &[i64] = &[
    // Programs.
    libc::SYS_execve,
    libc::SYS_execveat,
    // Other processes.
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_process_madvise,
    libc::SYS_kcmp,
    libc::SYS_pidfd_open,
    libc::SYS_pidfd_getfd,
    libc::SYS_pidfd_send_signal,
    libc::SYS_tkill,
    libc::SYS_rt_sigqueueinfo,
    libc::SYS_rt_tgsigqueueinfo,
    libc::SYS_migrate_pages,
    libc::SYS_move_pages,
    // Mounts and namespaces.
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_move_mount,
    libc::SYS_open_tree,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_mount_setattr,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_setns,
    libc::SYS_unshare,
    // Modes, owners and attributes by path, of which Landlock knows nothing.
    libc::SYS_fchmodat,
    libc::SYS_fchownat,
    libc::SYS_setxattr,
    libc::SYS_lsetxattr,
    libc::SYS_removexattr,
    libc::SYS_lremovexattr,
    // Files past their paths.
    libc::SYS_open_by_handle_at,
    libc::SYS_mknodat,
    libc::SYS_fanotify_init,
    // What a server does.
    libc::SYS_listen,
    // The machine, and parts of the kernel that have been ways into it.
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_keyctl,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    libc::SYS_reboot,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_acct,
    libc::SYS_quotactl,
    libc::SYS_syslog,
    libc::SYS_personality,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_clock_adjtime,
    libc::SYS_adjtimex,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
    libc::SYS_vhangup,
    libc::SYS_shmget,
    libc::SYS_msgget,
    libc::SYS_semget,
];

/// What making files takes besides. Landlock says where that is possible; modes, owners and attributes by path it does not know,
/// so that these are for root alone, whose files have owners: other users change those of open files.
const MAKING: [i64; 1] = [libc::SYS_mknodat];
const MAKING_AS_ROOT: [i64; 4] = [libc::SYS_fchmodat, 452, libc::SYS_fchownat, libc::SYS_lsetxattr];

/// Later calls, with one number on all processors: `fchmodat2`, `setxattrat`, `removexattrat`, `open_tree_attr`.
const REFUSED_LATER: [i64; 4] = [452, 463, 466, 467];

#[cfg(target_arch = "x86_64")]
const REFUSED_HERE: &[i64] = &[
    libc::SYS_fork,
    libc::SYS_vfork,
    libc::SYS_chmod,
    libc::SYS_chown,
    libc::SYS_lchown,
    libc::SYS_mknod,
    libc::SYS_iopl,
    libc::SYS_ioperm,
    libc::SYS_modify_ldt,
    libc::SYS_kexec_file_load,
];
#[cfg(not(target_arch = "x86_64"))]
const REFUSED_HERE: &[i64] = &[];

/// Kinds of sockets that are no way to other programs of this machine: AF_INET, AF_INET6, AF_NETLINK (addresses of this machine,
/// which the C library looks at).
const FAMILIES: [u64; 3] = [2, 10, 16];
const AF_UNIX: u64 = 1;

/// `CLONE_THREAD` of clone(2).
const CLONE_THREAD: u64 = 0x10000;

/// What types into a terminal: `TIOCSTI`, `TIOCLINUX` (ioctl_tty(2)).
const TYPING: [u64; 2] = [0x5412, 0x541c];

/// The bit that makes a number one of the x32 ABI, which has further ones of its own up to this.
#[cfg(target_arch = "x86_64")]
const X32: i64 = 0x4000_0000;
#[cfg(target_arch = "x86_64")]
pub(super) const X32_TWINS: &[i64] = &[X32];
#[cfg(not(target_arch = "x86_64"))]
pub(super) const X32_TWINS: &[i64] = &[];
#[cfg(target_arch = "x86_64")]
const X32_OWN: std::ops::RangeInclusive<i64> = 512..=547;

type Rules = BTreeMap<i64, Vec<SeccompRule>>;

/// Installs the filters in all threads.
pub(super) fn restrict(needs: &Needs) -> Part {
    let installed = || -> Result<(), Box<dyn std::error::Error>> {
        let target = TargetArch::try_from(std::env::consts::ARCH)?;
        let filter = |rules, action| -> Result<BpfProgram, seccompiler::BackendError> {
            SeccompFilter::new(rules, SeccompAction::Allow, action, target)?.try_into()
        };
        let missing = Rules::from([(libc::SYS_clone3, Vec::new())]);
        let missing = filter(missing, SeccompAction::Errno(libc::ENOSYS as u32))?;
        let refused = filter(refused(needs)?, SeccompAction::Errno(libc::EPERM as u32))?;
        apply_filter_all_threads(&missing)?;
        Ok(apply_filter_all_threads(&refused)?)
    };
    match installed() {
        Ok(()) => Part::Whole,
        Err(e) => Part::Missing(e.to_string()),
    }
}

fn refused(needs: &Needs) -> Result<Rules, seccompiler::BackendError> {
    let engine = needs.engine;
    let numbers = REFUSED.iter().chain(&REFUSED_LATER).chain(REFUSED_HERE).copied();
    let makes = !needs.make.is_empty();
    let as_root = makes && rustix::process::geteuid().is_root();
    let is_needed = |number: &i64| {
        makes && MAKING.contains(number) || as_root && MAKING_AS_ROOT.contains(number)
    };
    let numbers = numbers.filter(|number| !is_needed(number));
    let mut rules: Rules = numbers.map(|number| (number, Vec::new())).collect();
    #[cfg(target_arch = "x86_64")]
    {
        let twins: Vec<i64> = rules.keys().copied().chain(X32_OWN).collect();
        rules.extend(twins.into_iter().map(|number| (X32 | number, Vec::new())));
    }
    let rule = |conditions: Vec<SeccompCondition>| SeccompRule::new(conditions);
    let argument = |at, op, value| SeccompCondition::new(at, Length::Dword, op, value);
    let families = FAMILIES.into_iter().chain(engine.then_some(AF_UNIX));
    let families = families.map(|family| argument(0, Op::Ne, family)).collect::<Result<_, _>>()?;
    rules.insert(libc::SYS_socket, vec![rule(families)?]);
    let own = u64::from(std::process::id());
    // Whether a process is alive may be asked, and this one may stop itself.
    let others = vec![argument(0, Op::Ne, own)?, argument(1, Op::Ne, 0)?];
    rules.insert(libc::SYS_kill, vec![rule(others)?]);
    rules.insert(libc::SYS_tgkill, vec![rule(vec![argument(0, Op::Ne, own)?])?]);
    rules.insert(libc::SYS_prlimit64, vec![rule(vec![argument(0, Op::Ne, 0)?])?]);
    let is_process = argument(0, Op::MaskedEq(CLONE_THREAD), 0)?;
    rules.insert(libc::SYS_clone, vec![rule(vec![is_process])?]);
    rules.insert(libc::SYS_ioctl, typing()?);
    Ok(rules)
}

/// The calls of ioctl(2) that type into a terminal.
pub(super) fn typing() -> Result<Vec<SeccompRule>, seccompiler::BackendError> {
    let is = |request| SeccompCondition::new(1, Length::Dword, Op::Eq, request);
    TYPING.into_iter().map(|request| SeccompRule::new(vec![is(request)?])).collect()
}
