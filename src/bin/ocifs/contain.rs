//! What a process gives up before it reads an image, and what a program of an image does before it runs ([`contain_program`]).
//!
//! # Problem
//!
//! Images, registries and stores are parsed here, and strangers have made what is parsed. The parsers are safe Rust, and
//! still: a fault in one of them, or in a library below, would act with all that the user may do.
//!
//! # Design
//!
//! So the process gives that up before it starts a thread or reads a byte of an image, and can't get it back:
//!
//! ```text
//! paths          which files it may open, and what it may do there        Landlock (5.13)
//! syscalls       programs, other processes, mounts, sockets, modes        seccomp
//! capabilities   what root may do besides                                 none but reading foreign files
//! no_new_privs   set-uid programs give nothing
//! ```
//!
//! What has to be done all the same is done by another process, which parses nothing of an image: it mounts and unmounts,
//! starts the prefetcher, and searches for credentials.
//!
//! Landlock says which files may be opened, and nothing about `stat`, modes and owners, nor sockets by
//! path (before ABI 9), nor signals to processes of this one (its scope for those would hide dead from living ones); the filter
//! covers these. The filter names what is refused and not what is allowed: a list of what the C library needs would
//! be another one for each release of it, and its mistakes would end mounts.
//!
//! Connections over TCP are not limited to ports: a registry's storage may be at any, which only its redirects tell.
//!
//! (Rejected: `CLONE_NEWUSER` with an empty tree of mounts. Many machines forbid it to users; and what the process opens later
//! would have to be mounted there. A virtual machine, or a process each layer: what is exchanged would be
//! parsed again.)
//!
//! # Invariants
//!
//! - Nothing in here fails a command: what the kernel lacks is logged, and `ocifs doctor` shows it.
//! - It is done while there is one thread: Landlock holds for threads that are started afterwards.

mod capabilities;
mod names;
mod needs;
mod part;
mod paths;
mod program;
mod syscalls;

use std::fmt;

pub(crate) use names::NameFiles;
pub(crate) use needs::Needs;
use part::Part;
pub(crate) use program::contain_program;

/// What was given up.
#[derive(Debug)]
pub(crate) struct Contained {
    /// Whether there was one thread.
    has_all_threads: bool,
    paths: Part,
    syscalls: Part,
    capabilities: Part,
}

/// Gives up all but what is needed.
pub(crate) fn contain(needs: &Needs) -> Contained {
    let has_all_threads = threads() == Some(1);
    // The filter is last: it refuses what the others do.
    let paths = paths::restrict(needs);
    let capabilities = capabilities::drop_all(!needs.make.is_empty());
    let syscalls = syscalls::restrict(needs);
    let contained = Contained { has_all_threads, paths, syscalls, capabilities };
    match contained.is_whole() {
        true => log::debug!("contained: {contained}"),
        false => log::info!("contained in part: {contained}"),
    }
    contained
}

/// How many threads this process has.
fn threads() -> Option<usize> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("Threads:"))?;
    line.trim().parse().ok()
}

impl Contained {
    /// Whether nothing is missing.
    pub(crate) fn is_whole(&self) -> bool {
        let parts = [&self.paths, &self.syscalls, &self.capabilities];
        self.has_all_threads && parts.into_iter().all(|part| *part == Part::Whole)
    }
}

impl fmt::Display for Contained {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Contained { has_all_threads, paths, syscalls, capabilities } = self;
        write!(f, "Landlock {paths}, seccomp {syscalls}, capabilities {capabilities}")?;
        if *has_all_threads { Ok(()) } else { f.write_str(", not in threads started before") }
    }
}
