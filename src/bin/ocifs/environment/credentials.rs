//! Where credentials for a registry are looked for.

use std::env;
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ocifs::reference::Reference;
use ocifs::source::registry::{AuthFileError, Credentials, LoginPlace};

use super::registry_files::hosts_config;
use crate::args::{ImageArgs, Login};
use crate::render::errors::AnyError;
use crate::variables::{auth_config, config_home, home, variable};

/// What flags say of logins.
pub(crate) struct Logins {
    pub(crate) creds: Option<Login>,
    pub(crate) authfile: Vec<PathBuf>,
    /// The text of a file of credentials that can be read once, if it was handed over.
    pub(crate) auth_read: Option<Vec<u8>>,
    /// The text of `$DOCKER_AUTH_CONFIG`, if it was handed over.
    pub(crate) auth_config: Option<Vec<u8>>,
    /// Longest that a helper may take.
    pub(crate) timeout: Duration,
}

impl Logins {
    /// Those of the flags of an image.
    pub(crate) fn of(args: &ImageArgs) -> Logins {
        Logins {
            creds: args.creds.clone(),
            authfile: args.authfile.clone(),
            auth_read: args.auth_read.clone(),
            auth_config: args.auth_config.clone(),
            timeout: args.timeout,
        }
    }
}

/// All places where engines keep credentials, after those that the user names here: in the order of the
/// `credential-helpers` of `registries.conf`. The first that has something for a registry counts.
///
/// # Errors
/// A file can't be read or is none; one that the user names does not exist.
pub(crate) fn credentials(name: &Reference, args: &Logins) -> Result<Credentials, AnyError> {
    let mut credentials = Credentials::default();
    let path = env::var_os("PATH").unwrap_or_default();
    credentials.set_helpers(env::split_paths(&path).collect(), Some(args.timeout));
    if let Some(Login { user, password }) = args.creds.as_ref().filter(|login| !login.is_empty()) {
        credentials.add_login("--creds", name.registry(), user, password);
    }
    if let Some(text) = &args.auth_read {
        let name = "--authfile";
        credentials.add_text(name, text).map_err(|e| unusable(&name, e))?;
    }
    for path in &args.authfile {
        if !credentials.add_file(path).map_err(|e| unusable(&path.display(), e))? {
            refuse_unreachable(path)?;
            let path = path.display();
            return Err(format!("credentials file {path}: there is no such file").into());
        }
    }
    for place in hosts_config().login_places()? {
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

/// Whether a file of credentials is a pipe or the like, which only the first process can read.
pub(crate) fn is_read_once(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|found| !found.is_file() && !found.is_dir())
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
