//! What lies around the user: folders and credentials. The only reader of the environment.
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
//! | `MALLOC_ARENA_MAX` | heaps of the process that serves a mount, 1 if it is not set |
//! | `NOTIFY_SOCKET` | the service manager of a mount in the foreground |
//! | `TMPDIR` | temporary files where the cache can't be used |

mod places;

use std::collections::{BTreeSet, HashMap};
use std::env;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ocifs::cache::Cache;
use ocifs::image::ImageOptions;
use ocifs::mount::{self, Status};
use ocifs::reference::{ImageName, Reference};
use ocifs::source::registry::{
    self, Aliased, AuthFileError, Credentials, LoginPlace, Places, Proxies, Roots,
};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use serde::Deserialize;

use crate::args::{self, CacheArgs, Demand, ImageArgs, Login};
use crate::report::AnyError;

/// The variable of the flag `--creds`.
pub(crate) const CREDS: &str = "OCIFS_CREDS";

/// The variable with the text of a file of credentials.
pub(crate) const AUTH_CONFIG: &str = "DOCKER_AUTH_CONFIG";

/// Set by ourselves for the process that serves a mount in the background.
pub(crate) const BACKGROUND_CHILD: &str = "OCIFS_BACKGROUND_CHILD";

/// How many heaps glibc's allocator may make for threads, and how many we want: by default there are eight
/// for each processor, of which every one keeps what its threads have freed. Ours allocate little.
pub(crate) const ARENAS: &str = "MALLOC_ARENA_MAX";

/// The user's number of heaps, or ours.
pub(crate) fn arenas() -> OsString {
    env::var_os(ARENAS).unwrap_or_else(|| "1".into())
}

/// Most span files kept open, where the system lets us.
const MAX_OPEN_SPANS: u64 = 4096;

/// Whether we are the process that serves a mount in the background.
pub(crate) fn is_background_child() -> bool {
    env::var_os(BACKGROUND_CHILD).is_some()
}

/// A variable that is set and not empty.
fn variable(name: &str) -> Option<PathBuf> {
    env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from)
}

/// The path in a variable. A mount in the background leaves the current directory.
fn path_in(name: &str) -> Option<PathBuf> {
    std::path::absolute(variable(name)?).ok()
}

pub(crate) fn home() -> Option<PathBuf> {
    variable("HOME").or_else(env::home_dir)
}

/// The folder of the cache that the user's flags and environment mean.
pub(crate) fn cache_folder(args: &CacheArgs) -> Option<PathBuf> {
    let named = args.cache_dir.clone().filter(|folder| !folder.as_os_str().is_empty());
    let folder = named.or_else(|| Some(cache_home()?.join("ocifs")));
    // A mount in the background leaves the current directory.
    folder.and_then(|folder| std::path::absolute(folder).ok())
}

/// Where programs keep what they can get again.
fn cache_home() -> Option<PathBuf> {
    let named = variable("XDG_CACHE_HOME").filter(|path| path.is_absolute());
    named.or_else(|| Some(home()?.join(".cache")))
}

/// The cache in that folder.
pub(crate) fn cache(args: &CacheArgs) -> Arc<Cache> {
    Arc::new(match cache_folder(args) {
        Some(folder) => Cache::open_limited(&folder, args.cache_size.unwrap_or_default()),
        None => {
            log::warn!("no place for a cache: set --cache-dir");
            Cache::none()
        }
    })
}

/// Where a mount has its status socket.
pub(crate) fn runtime_folder() -> PathBuf {
    runtime_folders().swap_remove(0)
}

/// Where mounts of this user may have their status sockets, the own place first: what is mounted at boot, or by
/// `sudo`, has no session.
fn runtime_folders() -> Vec<PathBuf> {
    let user = user_outside();
    let name = format!("ocifs-{user}");
    let session = variable("XDG_RUNTIME_DIR").map(|folder| folder.join("ocifs"));
    let others = [
        env::temp_dir().join(&name),
        PathBuf::from("/tmp").join(&name),
        PathBuf::from(format!("/run/user/{user}/ocifs")),
    ];
    session.into_iter().chain(others).collect()
}

/// The number of this user in the parent of the user namespace, where there is one: root of a namespace is not the
/// root whose folder lies in `/tmp`.
fn user_outside() -> u32 {
    let user = rustix::process::geteuid().as_raw();
    let map = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    // Lines of an ID inside, an ID outside, and how many follow (user_namespaces(7)).
    let mut outside = map.lines().filter_map(|line| {
        let mut numbers = line.split_whitespace().map(|number| number.parse::<u32>().ok());
        let (inside, outside, count) = (numbers.next()??, numbers.next()??, numbers.next()??);
        let nth = user.checked_sub(inside).filter(|nth| *nth < count)?;
        outside.checked_add(nth)
    });
    outside.next().unwrap_or(user)
}

/// Asks the process behind a connection for its state, wherever its socket is.
///
/// # Errors
/// There is none, or it does not answer.
pub(crate) fn query_status(connection: u32) -> io::Result<Status> {
    let is_there = |e: &io::Error| {
        use io::ErrorKind::{ConnectionRefused, TimedOut, WouldBlock};
        matches!(e.kind(), ConnectionRefused | TimedOut | WouldBlock)
    };
    let mut first = None;
    for folder in runtime_folders() {
        match mount::query_status(&folder, connection) {
            // That there is a socket, somewhere, tells more than that there is none.
            Err(e) if !is_there(&e) => first = first.or(Some(e)),
            result => return result,
        }
    }
    Err(first.unwrap_or_else(|| io::ErrorKind::NotFound.into()))
}

/// The connections whose processes have, or had, a status socket.
pub(crate) fn status_sockets() -> BTreeSet<u32> {
    runtime_folders().iter().flat_map(|folder| mount::status_sockets(folder)).collect()
}

/// The socket of the service manager that wants to know when a mount is ready (sd_notify(3)).
pub(crate) fn notify_socket() -> Option<PathBuf> {
    variable("NOTIFY_SOCKET")
}

/// Goes into the mount namespace of a process or a file, as mount(8) was told (`-N`).
///
/// # Errors
/// It does not exist, or this user may not enter it.
pub(crate) fn enter_mount_namespace(namespace: &OsStr) -> Result<(), AnyError> {
    let is_pid = namespace.as_bytes().iter().all(u8::is_ascii_digit);
    let path = match is_pid {
        true => PathBuf::from("/proc").join(namespace).join("ns/mnt"),
        false => PathBuf::from(namespace),
    };
    let failed = |e: io::Error| format!("the mount namespace {}: {e}", path.display());
    let file = fs::File::open(&path).map_err(failed)?;
    // The directory that relative paths are from has the same path there.
    let current = env::current_dir();
    let kind = Some(LinkNameSpaceType::Mount);
    move_into_link_name_space(file.as_fd(), kind).map_err(|e| failed(e.into()))?;
    if let Ok(current) = current {
        env::set_current_dir(&current).map_err(|e| format!("{}: {e}", current.display()))?;
    }
    Ok(())
}

/// The name of a user, or the number.
pub(crate) fn user_name(uid: u32) -> String {
    let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let mut users = passwd.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then(|| name.to_owned())
    });
    users.next().unwrap_or_else(|| uid.to_string())
}

/// An image by the name that the user's aliases give it, and everything that opening it needs.
///
/// # Errors
/// A file of settings or credentials that can't be used.
pub(crate) fn image(
    name: &ImageName,
    args: &ImageArgs,
) -> Result<(ImageName, ImageOptions), AnyError> {
    let name = match alias(name)? {
        Some(Aliased { name, reference, path }) => {
            log::info!("`{name}` means {reference}, as {} says", path.display());
            ImageName::Registry(reference)
        }
        None => name.clone(),
    };
    if let ImageName::Local(local) = &name
        && local.is_bare()
        && !local.has_archive_name()
    {
        let path = name.to_string();
        let word = path.strip_prefix("./").unwrap_or(&path);
        log::warn!(
            "`{word}` is read as the path `{path}`; for the image of a registry write its name in full"
        );
    }
    let options = image_options(&name, args)?;
    Ok((name, options))
}

/// What a name means by an alias, if it has one.
///
/// # Errors
/// A file of settings that can't be used.
pub(crate) fn alias(name: &ImageName) -> Result<Option<Aliased>, AnyError> {
    match name {
        ImageName::Registry(reference) => Ok(registry::aliased(reference, &places())?),
        ImageName::Local(_) | ImageName::Stored(_) => Ok(None),
    }
}

/// What the user wants to be proven of images: by the flag, the variable, or the settings.
///
/// # Errors
/// A file of settings that can't be used.
pub(crate) fn demand(args: &ImageArgs) -> Result<Demand, AnyError> {
    config()?.demand(args)
}

fn image_options(name: &ImageName, args: &ImageArgs) -> Result<ImageOptions, AnyError> {
    let config = config()?;
    let check_access = args.check_access || config.check_access;
    if check_access && args.offline {
        return Err("offline no registry can be asked, as check-access demands".into());
    }
    let registry = match name {
        ImageName::Registry(name) if !args.offline => registry_options(name, args)?,
        _ => registry::Options::default(),
    };
    Ok(ImageOptions {
        platform: args.platform.clone(),
        offline: args.offline,
        prove: config.demand(args)? == Demand::Full,
        check_access,
        is_exempt: args.plain_http || !args.tls_verify,
        trust_referrers: args.trust_referrers || config.trusts_referrers(name),
        registry,
        places: places::places(name, &args.content_store, config.content_stores)?,
        read_deadline: args.timeout,
        max_layer_bytes: args.max_layer_size,
        codec: args.max_zstd_window,
        max_metadata_bytes: args.max_metadata_size,
        open_files: open_files(),
        temporary_folder: env::temp_dir(),
        ..ImageOptions::default()
    })
}

/// Everything that asking a registry needs.
fn registry_options(name: &Reference, args: &ImageArgs) -> Result<registry::Options, AnyError> {
    Ok(registry::Options {
        plain_http: args.plain_http,
        tls_verify: args.tls_verify,
        credentials: credentials(name, args)?,
        places: places(),
        roots: roots(),
        proxies: proxies()?,
        ..registry::Options::default().with_deadline(args.timeout)
    })
}

/// Where files about registries lie, those of the user first.
fn places() -> Places {
    let below = |folder: Option<PathBuf>, names: &[&str]| {
        let paths = names.iter().filter_map(|name| Some(folder.as_ref()?.join(name)));
        paths.collect::<Vec<_>>()
    };
    let paths = |names: &[&str]| names.iter().map(PathBuf::from).collect::<Vec<_>>();
    // The second is an older name of the first.
    let chosen =
        path_in("CONTAINERS_REGISTRIES_CONF").or_else(|| path_in("REGISTRIES_CONFIG_PATH"));
    Places {
        certificates: [
            below(config_home(), &["containers/certs.d"]),
            paths(&["/etc/containers/certs.d", "/etc/docker/certs.d"]),
        ]
        .concat(),
        registries: match chosen {
            Some(path) => vec![path],
            None => [
                below(config_home(), &["containers/registries.conf"]),
                paths(&["/etc/containers/registries.conf"]),
            ]
            .concat(),
        },
        registries_drop_ins: [
            paths(&["/etc/containers/registries.conf.d"]),
            below(config_home(), &["containers/registries.conf.d"]),
        ]
        .concat(),
        // Where podman notes them.
        short_name_aliases: match places::is_root() {
            true => Some(PathBuf::from("/var/cache")),
            false => cache_home(),
        }
        .map(|folder| folder.join("containers/short-name-aliases.conf")),
        containerd: [
            below(config_home(), &["containerd/certs.d"]),
            paths(&["/etc/containerd/certs.d"]),
        ]
        .concat(),
        docker: [
            below(config_home(), &["docker/daemon.json"]),
            paths(&["/etc/docker/daemon.json"]),
        ]
        .concat(),
    }
}

/// The authorities to trust: OpenSSL's variables choose others than the system's.
fn roots() -> Arc<Roots> {
    let file = path_in("SSL_CERT_FILE");
    let folders = variable("SSL_CERT_DIR");
    Arc::new(match file.is_some() || folders.is_some() {
        true => {
            let folders = folders.iter().flat_map(env::split_paths);
            let folders = folders.filter(|folder| !folder.as_os_str().is_empty());
            Roots::only(file, folders.filter_map(|f| std::path::absolute(f).ok()).collect())
        }
        false => Roots::default(),
    })
}

/// The proxies, by variables in either case.
fn proxies() -> Result<Proxies, AnyError> {
    let value = |name: &str| {
        let value = variable(name).or_else(|| variable(&name.to_ascii_lowercase()));
        value.map(|value| value.to_string_lossy().into_owned())
    };
    let (http, https, all) = (value("HTTP_PROXY"), value("HTTPS_PROXY"), value("ALL_PROXY"));
    let exceptions = value("NO_PROXY");
    Ok(Proxies::new(http.as_deref(), https.as_deref(), all.as_deref(), exceptions.as_deref())?)
}

/// The user's settings, from `ocifs/config.toml` below the configuration folder:
///
/// ```toml
/// content-stores = ["/srv/containerd"]
/// proof = "full"
/// check-access = true
///
/// [registry."registry.example:5000"]
/// trust-referrers = true
/// ```
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Config {
    /// Instead of the usual roots of containerd.
    content_stores: Option<Vec<PathBuf>>,
    /// What has to be proven: `full` or `any`.
    proof: Option<String>,
    /// Whether the registry is asked for each layer before anything is shown.
    #[serde(default)]
    check_access: bool,
    #[serde(default)]
    registry: HashMap<String, RegistryConfig>,
}

/// Settings for one registry, by its host as it stands in references.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct RegistryConfig {
    #[serde(default)]
    trust_referrers: bool,
}

impl Config {
    /// What the flag or the variable says, or else the settings.
    fn demand(&self, args: &ImageArgs) -> Result<Demand, AnyError> {
        let set = args::demand(self.proof.as_deref().unwrap_or_default());
        let set = set.map_err(|e| format!("settings: proof: {e}"))?;
        Ok(args.proof.unwrap_or_default().or(set))
    }

    fn trusts_referrers(&self, name: &ImageName) -> bool {
        match name {
            ImageName::Registry(reference) => {
                self.registry.get(reference.registry()).is_some_and(|r| r.trust_referrers)
            }
            ImageName::Local(_) | ImageName::Stored(_) => false,
        }
    }
}

/// Reads the settings; there need be none.
///
/// # Errors
/// The file can't be read, or holds something else.
fn config() -> Result<Config, AnyError> {
    let Some(path) = config_home().map(|folder| folder.join("ocifs/config.toml")) else {
        return Ok(Config::default());
    };
    match fs::read_to_string(&path) {
        Ok(text) => toml::from_str(&text)
            .map_err(|e| format!("settings {}: {}", path.display(), e.message()).into()),
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            Ok(Config::default())
        }
        Err(e) => Err(format!("settings {}: {e}", path.display()).into()),
    }
}

fn config_home() -> Option<PathBuf> {
    variable("XDG_CONFIG_HOME").or_else(|| Some(home()?.join(".config")))
}

/// All places where engines keep credentials, after those that the user names here: in the order of the
/// `credential-helpers` of `registries.conf`. The first that has something for a registry counts.
///
/// # Errors
/// A file can't be read or is none; one that the user names does not exist.
fn credentials(name: &Reference, args: &ImageArgs) -> Result<Credentials, AnyError> {
    let mut credentials = Credentials::default();
    let path = env::var_os("PATH").unwrap_or_default();
    credentials.set_helpers(env::split_paths(&path).collect(), Some(args.timeout));
    if let Some(Login { user, password }) = args.creds.as_ref().filter(|login| !login.is_empty()) {
        credentials.add_login("--creds", name.registry(), user, password);
    }
    if let Some(path) = &args.authfile
        && !credentials.add_file(path).map_err(|e| unusable(&path.display(), e))?
    {
        refuse_unreachable(path)?;
        return Err(format!("credentials file {}: there is no such file", path.display()).into());
    }
    for place in registry::login_places(&places())? {
        match place {
            LoginPlace::Files => add_files(&mut credentials, args.auth_config.clone())?,
            LoginPlace::Helper(name, named_in) => credentials.add_helper(&name, &named_in),
        }
    }
    Ok(credentials)
}

/// Adds the files of credentials, in the order in which podman searches them. A process that serves in the
/// background has the text of `$DOCKER_AUTH_CONFIG` handed over.
///
/// # Errors
/// One can't be read or is none.
fn add_files(credentials: &mut Credentials, handed_over: Option<Vec<u8>>) -> Result<(), AnyError> {
    let add_file = |credentials: &mut Credentials, path: Option<PathBuf>| {
        // A mount in the background leaves the current directory, and reads them again.
        let Some(path) = path.and_then(|path| std::path::absolute(path).ok()) else {
            return Ok(());
        };
        let exists = credentials.add_file(&path).map_err(|e| unusable(&path.display(), e))?;
        log::debug!("credentials file {}{}", path.display(), if exists { "" } else { ": none" });
        Ok::<_, AnyError>(())
    };
    if let Some(path) = variable("REGISTRY_AUTH_FILE") {
        refuse_unreachable(&path)?;
        add_file(credentials, Some(path))?;
    }
    if let Some(text) = handed_over.or_else(auth_config) {
        let name = "$DOCKER_AUTH_CONFIG";
        let added = credentials.add_text(name, &text);
        added.map_err(|e| unusable(&name, e))?;
    }
    add_file(credentials, Some(podman_runtime_folder().join("auth.json")))?;
    add_file(credentials, config_home().map(|folder| folder.join("containers/auth.json")))?;
    let docker = variable("DOCKER_CONFIG").or_else(|| Some(home()?.join(".docker")));
    add_file(credentials, docker.map(|folder| folder.join("config.json")))?;
    if let Some(old) = home().map(|home| home.join(".dockercfg")) {
        credentials.add_old_file(&old).map_err(|e| unusable(&old.display(), e))?;
    }
    Ok(())
}

/// The text of `$DOCKER_AUTH_CONFIG`.
pub(crate) fn auth_config() -> Option<Vec<u8>> {
    variable(AUTH_CONFIG).map(|text| text.into_os_string().into_vec())
}

/// Refuses a file that the user names and can't reach; of the usual places such a one is passed over.
///
/// # Errors
/// A folder on the way to the file may not be searched.
fn refuse_unreachable(path: &Path) -> Result<(), AnyError> {
    match fs::metadata(path) {
        Err(e) if e.kind() == io::ErrorKind::PermissionDenied => {
            Err(unusable(&path.display(), e.into()))
        }
        _ => Ok(()),
    }
}

fn unusable(place: &dyn fmt::Display, error: AuthFileError) -> AnyError {
    format!("credentials file {place}: {error}").into()
}

/// Where podman keeps what need not outlive a session; under sudo and cron there is no session.
fn podman_runtime_folder() -> PathBuf {
    match variable("XDG_RUNTIME_DIR") {
        Some(folder) => folder.join("containers"),
        None => {
            let user = rustix::process::getuid().as_raw();
            PathBuf::from(format!("/run/containers/{user}"))
        }
    }
}

/// How many span files may be open: most of what the system allows, after raising our own limit.
fn open_files() -> usize {
    let limit = getrlimit(Resource::Nofile);
    let wanted = MAX_OPEN_SPANS * 2;
    let hard = limit.maximum.unwrap_or(wanted);
    let soft = limit.current.unwrap_or(wanted);
    let raised = hard.min(wanted);
    let now = match soft < raised {
        true => {
            let new = Rlimit { current: Some(raised), maximum: limit.maximum };
            if setrlimit(Resource::Nofile, new).is_ok() { raised } else { soft }
        }
        false => soft,
    };
    (now / 2).min(MAX_OPEN_SPANS) as usize
}
