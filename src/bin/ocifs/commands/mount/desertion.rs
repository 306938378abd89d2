//! Ending a mount in the background with the mount namespace that it was made in.

use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use ocifs::fuse::kernel::Namespace;

use crate::commands::prefetch;
use crate::variables;

/// How often the namespace of a mount in the background is looked at.
const LOOK: Duration = Duration::from_secs(2);

/// How many looks in a row have to find no process: one may be between its fork and its exec.
const LOOKS: u32 = 2;

/// Looks whether only processes that serve mounts are left in a mount namespace that is not the system's: [`Namespace`].
#[derive(Debug)]
pub(super) struct Desertion {
    namespace: Namespace,
    /// The name of this program's file.
    program: Option<String>,
    alone: u32,
    next: Instant,
}

impl Desertion {
    /// Of the namespace of this process; none if that is the system's.
    pub(super) fn new() -> Option<Desertion> {
        let namespace = Namespace::of_its_own()?;
        let exe = std::fs::read_link("/proc/self/exe");
        let program =
            exe.inspect_err(|e| log::info!("/proc/self/exe: {e}")).ok().and_then(name_of)?;
        let next = Instant::now() + LOOK;
        Some(Desertion { namespace, program: Some(program), alone: 0, next })
    }

    /// How long until the next look.
    pub(super) fn wait(&self, now: Instant) -> Duration {
        self.next.saturating_duration_since(now)
    }

    /// Looks, if it is time to; true if all others have left. `worker` is a process of ours that may not be looked at.
    pub(super) fn is_found(&mut self, now: Instant, worker: Option<u32>) -> bool {
        if now < self.next {
            return false;
        }
        self.next = now + LOOK;
        let program = &self.program;
        let is_deserted =
            self.namespace.is_deserted(|pid| Some(pid) == worker || serves(program, pid));
        self.alone = if is_deserted { self.alone + 1 } else { 0 };
        self.alone == LOOKS
    }

    /// Detaches the mount.
    pub(super) fn detach(&self, connection: u32) {
        log::info!("all other processes have left the mount namespace: unmounting");
        self.namespace.detach(connection);
    }

    /// Looks on a thread of its own, and detaches the mount.
    pub(super) fn watch(mut self, connection: u32) -> std::io::Result<()> {
        thread::Builder::new().name("namespace".into()).spawn(move || {
            while !self.is_found(Instant::now(), None) {
                thread::sleep(self.wait(Instant::now()));
            }
            self.detach(connection);
        })?;
        Ok(())
    }
}

/// After an update, two of the same name are not the same file.
fn name_of(exe: PathBuf) -> Option<String> {
    let name = exe.file_name().map(|name| name.to_string_lossy().into_owned());
    name.map(|name| name.trim_end_matches(" (deleted)").to_owned())
}

/// Whether a process serves a mount in the background, or is a prefetcher.
fn serves(program: &Option<String>, pid: u32) -> bool {
    let read = |name: &str| std::fs::read(format!("/proc/{pid}/{name}")).unwrap_or_default();
    let exe = std::fs::read_link(format!("/proc/{pid}/exe"));
    let is_ours = exe.is_ok_and(|exe| name_of(exe) == *program);
    let mark = format!("{}=1", variables::BACKGROUND_CHILD);
    let has = |bytes: Vec<u8>, word: &[u8]| bytes.split(|b| *b == 0).any(|each| each == word);
    is_ours
        && (has(read("environ"), mark.as_bytes())
            || has(read("cmdline"), prefetch::VERB.as_bytes()))
}
