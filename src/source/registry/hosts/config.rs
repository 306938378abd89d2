//! What this machine's files say about registries, each read when it is first needed and then kept: all
//! images of a command are reached by the same settings, and no file is parsed for each of them.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use lru::LruCache;

use super::aliases::Aliases;
use super::certs::{self, Certificates};
use super::containerd::{self, Found};
use super::docker::Daemon;
use super::files::{ConfigFiles, Error};
use super::registries::Registries;
use crate::reference::Reference;

/// What stands for the files of logins among credential helpers (containers-registries.conf(5)).
const AUTH_FILES: &str = "containers-auth.json";

/// Hosts of which is remembered what the files say. Their names may come from redirects.
const MAX_KNOWN: usize = 64;

/// What a short name means by an alias.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Aliased {
    /// The name as it was written, without tag and digest.
    pub name: String,
    /// The image, with the tag or digest that the user wrote.
    pub reference: Reference,
    /// The file that says so.
    pub path: PathBuf,
}

/// A place where the `credential-helpers` of `registries.conf` say that logins are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LoginPlace {
    /// The files of logins (`containers-auth.json`).
    Files,
    /// A helper, by its name, and the file that names it.
    Helper(String, PathBuf),
}

/// What the files say, as far as they have been read.
#[derive(Debug)]
pub struct HostsConfig {
    files: ConfigFiles,
    registries: Mutex<Option<Arc<Registries>>>,
    daemon: OnceLock<Daemon>,
    containerd: Mutex<LruCache<String, Found>>,
    certificates: Mutex<LruCache<String, Certificates>>,
}

impl Default for HostsConfig {
    fn default() -> HostsConfig {
        HostsConfig::new(ConfigFiles::default())
    }
}

impl HostsConfig {
    /// What these files say. None is read yet.
    pub fn new(files: ConfigFiles) -> HostsConfig {
        let size = NonZeroUsize::new(MAX_KNOWN).unwrap_or(NonZeroUsize::MIN);
        HostsConfig {
            files,
            registries: Mutex::default(),
            daemon: OnceLock::new(),
            containerd: Mutex::new(LruCache::new(size)),
            certificates: Mutex::new(LruCache::new(size)),
        }
    }

    /// The files.
    pub fn files(&self) -> &ConfigFiles {
        &self.files
    }

    /// What a reference means by the aliases of the files, if it is a short name that has one.
    /// Nothing below this knows aliases: it is for the caller that reads what a user wrote.
    ///
    /// # Errors
    /// A file can't be used.
    pub fn aliased(&self, reference: &Reference) -> Result<Option<Aliased>, Error> {
        let Some(name) = reference.short_name() else { return Ok(None) };
        let own = self.files.short_name_aliases.as_deref();
        let own = own.map(Aliases::read).transpose()?.unwrap_or_default();
        let registries = self.registries()?;
        // One that is empty takes back what other files say.
        let alias = own.get(name).or_else(|| registries.aliases.get(name));
        let Some(alias) = alias else { return Ok(None) };
        Ok(alias.target.as_ref().map(|target| Aliased {
            name: name.to_owned(),
            reference: reference.at(target.registry(), target.repository()),
            path: alias.path.clone(),
        }))
    }

    /// Where logins are, in the order in which `registries.conf` lists it. Where the files are not listed,
    /// they come last: they may be Docker's, which does not know that list.
    ///
    /// # Errors
    /// A file can't be used.
    pub fn login_places(&self) -> Result<Vec<LoginPlace>, Error> {
        let registries = self.registries()?;
        let (names, path) = &registries.helpers;
        let place = |name: &String| match &**name {
            AUTH_FILES => LoginPlace::Files,
            name => LoginPlace::Helper(name.to_owned(), path.clone()),
        };
        let mut listed: Vec<LoginPlace> = names.iter().map(place).collect();
        if !listed.contains(&LoginPlace::Files) {
            listed.push(LoginPlace::Files);
        }
        Ok(listed)
    }

    /// The rules of `registries.conf` and its drop-ins.
    ///
    /// # Errors
    /// A file can't be used.
    pub(super) fn registries(&self) -> Result<Arc<Registries>, Error> {
        let mut known = lock(&self.registries);
        if let Some(known) = &*known {
            return Ok(Arc::clone(known));
        }
        let files = &self.files;
        let read = Arc::new(Registries::read(&files.registries, &files.registries_drop_ins)?);
        Ok(Arc::clone(known.insert(read)))
    }

    /// What Docker's `daemon.json` says.
    pub(super) fn daemon(&self) -> &Daemon {
        self.daemon.get_or_init(|| Daemon::read(&self.files.docker))
    }

    /// What containerd's folders say of a registry.
    ///
    /// # Errors
    /// A file can't be used.
    pub(super) fn containerd(&self, registry: &str) -> Result<Option<Found>, Error> {
        kept(&self.containerd, registry, || {
            containerd::of_registry(&self.files.containerd, registry)
        })
    }

    /// The certificates for a host, with its port if it has one.
    ///
    /// # Errors
    /// A file can't be used.
    pub(super) fn certificates(&self, host: &str) -> Result<Option<Certificates>, Error> {
        kept(&self.certificates, host, || certs::of_host(&self.files.certificates, host))
    }

    /// Whether there is a folder of certificates for a host.
    pub(super) fn has_certificates(&self, host: &str) -> bool {
        certs::place(&self.files.certificates, host).is_some()
    }
}

/// What is kept of a host, or else is read now, and kept if there is something.
fn kept<T: Clone>(
    known: &Mutex<LruCache<String, T>>,
    host: &str,
    read: impl FnOnce() -> Result<Option<T>, Error>,
) -> Result<Option<T>, Error> {
    if let Some(known) = lock(known).get(host) {
        return Ok(Some(known.clone()));
    }
    let found = read()?;
    if let Some(found) = &found {
        lock(known).put(host.to_owned(), found.clone());
    }
    Ok(found)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
