//! The environment variables that count. Variables of flags are read by clap (`crate::args`), all others by the
//! functions here.
//!
//! | variable | for |
//! |---|---|
//! | `OCIFS_CACHE_DIR` | the cache (flag `--cache-dir`) |
//! | `OCIFS_CACHE_SIZE` | its limit (flag `--cache-size`) |
//! | `XDG_CACHE_HOME`, `HOME` | the cache's default place; the user's short-name aliases |
//! | `XDG_RUNTIME_DIR` | status sockets; podman's `auth.json` |
//! | `OCIFS_CHECK_ACCESS` | the registry is asked before anything is shown (flag `--check-access`) |
//! | `OCIFS_PROOF` | what has to be proven before it is shown (flag `--proof`) |
//! | `OCIFS_CREDS` | a user name and password (flag `--creds`) |
//! | `REGISTRY_AUTH_FILE`, `DOCKER_AUTH_CONFIG`, `DOCKER_CONFIG`, `XDG_CONFIG_HOME` | credentials |
//! | `PATH` | credential helpers |
//! | `XDG_CONFIG_HOME`, `HOME` | `ocifs/config.toml` |
//! | `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY`, `NO_PROXY` | reaching registries; also in lower case |
//! | `SSL_CERT_FILE`, `SSL_CERT_DIR` | authorities trusted, instead of the system's |
//! | `CONTAINERS_REGISTRIES_CONF`, `REGISTRIES_CONFIG_PATH` | another `registries.conf` |
//! | `XDG_CONFIG_HOME`, `HOME` | the user's `registries.conf`, `certs.d` and `daemon.json` |
//! | `DOCKER_HOST` | the engine of `docker-daemon:` |
//! | `CONTAINERS_STORAGE_CONF`, `XDG_DATA_HOME`, `HOME` | the stores of podman and of rootless engines |
//! | `_CONTAINERS_ROOTLESS_UID` | set by `podman unshare`: whose stores |
//! | `OCIFS_BACKGROUND_CHILD` | ourselves: this process serves a mount, and takes over what it needs at its standard output |
//! | `OCIFS_WORKER`, `OCIFS_SEARCH` | ourselves: this process opens and serves, or searches for a credential, for a supervisor |
//! | `OCIFS_ONE_ID` | ourselves: the files of the mount are shown as root's, who is the only user there |
//! | `OCIFS_COMPLETE` | set by the completion script of the shell of that name: this process is to say what could be typed |
//! | `MALLOC_ARENA_MAX` | heaps of the process that serves a mount, 1 if it is not set |
//! | `NOTIFY_SOCKET` | the service manager of a mount in the foreground |
//! | `JOURNAL_STREAM` | the stream that leads to the journal, if standard error is one |
//! | `TERM` | what the terminal can; passed on to programs of images |
//! | those of `ocifs run --env NAME` | passed on to programs of images |
//! | `NO_COLOR` | no colours on a terminal, if it is set to anything |
//! | `TMPDIR` | temporary files where the cache can't be used |

use std::env;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

/// The variable of the flag `--creds`.
pub(crate) const CREDS: &str = "OCIFS_CREDS";

/// The variable with the text of a file of credentials.
pub(crate) const AUTH_CONFIG: &str = "DOCKER_AUTH_CONFIG";

/// Set by ourselves for the process that serves a mount in the background.
pub(crate) const BACKGROUND_CHILD: &str = "OCIFS_BACKGROUND_CHILD";

/// Set by ourselves for the process that serves a mount for its supervisor, to the version of what they say to each other.
pub(crate) const WORKER: &str = "OCIFS_WORKER";

/// That version. It changes with `commands::mount::control`, `errands` and `handover`, and with what is kept of a mount.
pub(crate) const WORKER_VERSION: &str = "1";

/// Set by ourselves for the process that serves a mount whose user namespace has one ID: all files are root's there.
pub(crate) const ONE_ID: &str = "OCIFS_ONE_ID";

/// Set by ourselves for the process that searches for a credential.
pub(crate) const SEARCH: &str = "OCIFS_SEARCH";

/// Set by completion scripts.
pub(crate) const COMPLETE: &str = "OCIFS_COMPLETE";

/// Set by systemd: device and inode of the stream that leads to the journal (systemd.exec(5)).
pub(crate) fn journal_stream() -> Option<(u64, u64)> {
    let text = env::var("JOURNAL_STREAM").ok()?;
    let (device, inode) = text.split_once(':')?;
    Some((device.parse().ok()?, inode.parse().ok()?))
}

/// How many heaps glibc's allocator may make for threads, and how many we want: by default there are eight
/// for each processor, of which every one keeps what its threads have freed. Ours allocate little.
const ARENAS: &str = "MALLOC_ARENA_MAX";

/// From how many bytes on glibc's allocator takes memory from the kernel for one thing, and gives it back with that; and how
/// much of the end of its heap it keeps (mallopt(3)). By default both become larger with what is freed, so that what opening
/// an image takes for a moment stays with a process that serves it for days: 4 MiB of 10, for an image of 27,000 files.
const MMAP_THRESHOLD: &str = "MALLOC_MMAP_THRESHOLD_";
const TRIM_THRESHOLD: &str = "MALLOC_TRIM_THRESHOLD_";
const THRESHOLD_BYTES: &str = "131072";

/// How a process that goes on serving allocates, where the user does not say something else.
pub(crate) fn of_allocator() -> impl Iterator<Item = (&'static str, OsString)> {
    let ours =
        [(ARENAS, "1"), (MMAP_THRESHOLD, THRESHOLD_BYTES), (TRIM_THRESHOLD, THRESHOLD_BYTES)];
    ours.into_iter().map(|(name, value)| (name, env::var_os(name).unwrap_or_else(|| value.into())))
}

/// Whether we are the process that serves a mount in the background.
pub(crate) fn is_background_child() -> bool {
    env::var_os(BACKGROUND_CHILD).is_some()
}

/// Whether we are the process that serves a mount for its supervisor.
pub(crate) fn is_worker() -> bool {
    env::var_os(WORKER).is_some()
}

/// Whether that is by a supervisor who speaks as we do: it may be of another version of this program.
pub(crate) fn is_worker_of_this_version() -> bool {
    env::var_os(WORKER).is_some_and(|version| version == WORKER_VERSION)
}

/// Whether we are the process that searches for a credential in the place of one that may not.
pub(crate) fn is_search() -> bool {
    env::var_os(SEARCH).is_some()
}

/// Whether the mount is for a user namespace with one ID.
pub(crate) fn has_one_id() -> bool {
    env::var_os(ONE_ID).is_some()
}

/// A variable that is set and not empty.
pub(crate) fn variable(name: &str) -> Option<PathBuf> {
    env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from)
}

/// The path in a variable. A mount in the background leaves the current directory.
pub(crate) fn path_in(name: &str) -> Option<PathBuf> {
    std::path::absolute(variable(name)?).ok()
}

/// Whether colours are welcome: `NO_COLOR` is not set, and the terminal is not one that has none.
pub(crate) fn wants_colours() -> bool {
    variable("NO_COLOR").is_none() && !is_dumb_terminal()
}

/// Whether the terminal, if there is one, can't do more than print lines.
pub(crate) fn is_dumb_terminal() -> bool {
    env::var_os("TERM").is_none_or(|terminal| terminal == "dumb")
}

/// A variable that is to be passed on.
pub(crate) fn passed_on(name: &[u8]) -> Option<Vec<u8>> {
    env::var_os(OsStr::from_bytes(name)).map(OsString::into_vec)
}

/// The variables that say what the terminal can.
pub(crate) fn of_terminal() -> impl Iterator<Item = (&'static str, OsString)> {
    ["TERM", "NO_COLOR"].into_iter().filter_map(|name| Some((name, env::var_os(name)?)))
}

pub(crate) fn home() -> Option<PathBuf> {
    variable("HOME").or_else(env::home_dir)
}

pub(crate) fn config_home() -> Option<PathBuf> {
    variable("XDG_CONFIG_HOME").or_else(|| Some(home()?.join(".config")))
}

/// Where programs keep what they can get again.
pub(crate) fn cache_home() -> Option<PathBuf> {
    let named = variable("XDG_CACHE_HOME").filter(|path| path.is_absolute());
    named.or_else(|| Some(home()?.join(".cache")))
}

/// The socket of the service manager that wants to know when a mount is ready (sd_notify(3)).
pub(crate) fn notify_socket() -> Option<PathBuf> {
    variable("NOTIFY_SOCKET")
}

/// The text of `$DOCKER_AUTH_CONFIG`.
pub(crate) fn auth_config() -> Option<Vec<u8>> {
    variable(AUTH_CONFIG).map(|text| text.into_os_string().into_vec())
}

pub(crate) fn data_home() -> Option<PathBuf> {
    let named = variable("XDG_DATA_HOME").filter(|path| path.is_absolute());
    named.or_else(|| Some(home()?.join(".local/share")))
}
