//! Ending a mount in the background with the mount namespace that it was made in.

use std::io;
use std::os::unix::process::parent_id;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use ocifs::fuse::kernel::Namespace;
use ocifs::mount::Mount;

use crate::commands::prefetch;
use crate::variables;

/// How often the namespace of a mount in the background is looked at.
const LOOK: Duration = Duration::from_secs(2);

/// Detaches the mount when only processes that serve mounts are left in its mount namespace, if that is not the
/// system's: [`Namespace`].
pub(super) fn watch_namespace(mount: &Mount) -> io::Result<()> {
    let Some(mut namespace) = Namespace::of_its_own() else { return Ok(()) };
    let connection = mount.connection();
    // After an update, two of them are not the same file.
    let name_of = |exe: PathBuf| {
        let name = exe.file_name().map(|name| name.to_string_lossy().into_owned());
        name.map(|name| name.trim_end_matches(" (deleted)").to_owned())
    };
    let program = name_of(std::fs::read_link("/proc/self/exe")?);
    // Another process that serves a mount in the background, or a prefetcher.
    let supervisor = variables::is_worker().then(parent_id);
    let serves = move |pid: u32| {
        // Who may not trace processes can't look at it.
        if Some(pid) == supervisor {
            return true;
        }
        let read = |name: &str| std::fs::read(format!("/proc/{pid}/{name}")).unwrap_or_default();
        let exe = std::fs::read_link(format!("/proc/{pid}/exe"));
        let is_ours = exe.is_ok_and(|exe| name_of(exe) == program);
        let mark = format!("{}=1", variables::BACKGROUND_CHILD);
        let has = |bytes: Vec<u8>, word: &[u8]| bytes.split(|b| *b == 0).any(|each| each == word);
        is_ours
            && (has(read("environ"), mark.as_bytes())
                || has(read("cmdline"), prefetch::VERB.as_bytes()))
    };
    thread::Builder::new().name("namespace".into()).spawn(move || {
        let mut alone = 0;
        // A process may be between its fork and its exec.
        while alone < 2 {
            thread::sleep(LOOK);
            alone = if namespace.is_deserted(&serves) { alone + 1 } else { 0 };
        }
        log::info!("all other processes have left the mount namespace: unmounting");
        namespace.detach(connection);
    })?;
    Ok(())
}
