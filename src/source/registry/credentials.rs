//! Credentials: the places where users keep them, and which of them is for a repository.
//!
//! Docker and podman keep theirs in files of one format and in different places, and people use
//! both. The caller lists the places in the order of their precedence; the first that has something
//! for a repository counts. Some are helpers, which are asked about every registry. Within a file (docker-config-json, containers-auth.json(5)):
//!
//! 1. The helper that `credHelpers` names for the registry, and nothing else of the file.
//! 2. A row of `auths` for a part of the registry that holds the repository, the longest first.
//! 3. The helper `credsStore`.
//! 4. The row of `auths` for the registry. Docker leaves empty ones where a helper has the secret.
//!
//! Files are read again and helpers run again with each search, because a mount outlives many
//! secrets: those of some clouds hold for 12 hours. Who searches is `auth`, when a registry
//! asks for credentials or takes the ones it got no more.
//!
//! Secrets are in no message and no `Debug`. Errors of the JSON parser quote what they stumbled
//! over, so of them only the place is told.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::auth_file::{AuthFileError, Contents, DOCKER_HUB_KEY, Form, Key, Row};
use super::credential::Credential;
use super::helper::{HELPER_LIMIT, Helpers};
use crate::bounded;
use crate::reference::DEFAULT_REGISTRY;

/// Largest file of credentials that is read, in bytes. Real ones have some KiB.
const MAX_FILE_BYTES: u64 = 4 << 20;

/// What a search for the credential of a repository has found. As JSON it holds the secret, for another process of the
/// program.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct Found {
    /// The credential, if there is one.
    pub credential: Option<Credential>,
    /// Where it is from, for a message.
    pub source: Option<String>,
    /// Where the search went, in order, and what there was, for a message.
    pub searched: Vec<String>,
}

/// What searches in the place of a process that may neither read the files nor run helpers.
pub trait CredentialKeeper: fmt::Debug + Send + Sync {
    /// Searches for the credential of a repository, as [`Credentials::for_repository`] does.
    ///
    /// # Errors
    /// It can't search.
    fn find(&self, registry: &str, repository: &str) -> io::Result<Found>;
}

/// The places where credentials may be, in the order of their precedence.
#[derive(Clone, Debug, Default)]
pub struct Credentials {
    places: Vec<Arc<CredentialSource>>,
    helpers: Helpers,
    /// Who knows the places, if they are not known here.
    keeper: Option<Arc<dyn CredentialKeeper>>,
}

/// One of the places.
struct CredentialSource {
    /// For messages.
    name: String,
    /// The file that is read again with each search.
    path: Option<PathBuf>,
    form: Form,
    /// What was there last; none if there was no file.
    contents: Mutex<Option<Arc<Contents>>>,
    /// Why there was none, where it is not looked for again.
    missing: Option<&'static str>,
}

impl fmt::Debug for CredentialSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("CredentialSource").field(&self.name).finish()
    }
}

impl Credentials {
    /// Adds a user name and password for one registry.
    pub fn add_login(&mut self, source: &str, registry: &str, user: &str, password: &str) {
        let credential = Credential::Basic { user: user.to_owned(), password: password.to_owned() };
        let row = Row { key: Key::parse(registry), credential };
        let contents = Contents { rows: vec![row], ..Contents::default() };
        self.add(source.to_owned(), None, Form::Config, Some(contents));
    }

    /// Adds the text of a Docker `config.json` or a containers `auth.json`.
    ///
    /// # Errors
    /// It is not one.
    pub fn add_text(&mut self, source: &str, text: &[u8]) -> Result<(), AuthFileError> {
        let contents = Contents::parse_warning(source, text, Form::Config)?;
        self.add(source.to_owned(), None, Form::Config, Some(contents));
        Ok(())
    }

    /// Adds a Docker `config.json` or a containers `auth.json`, which need not exist (yet).
    /// Whether it does; one in a folder that this user may not search counts as not existing.
    ///
    /// # Errors
    /// It can't be read, or is not one.
    pub fn add_file(&mut self, path: &Path) -> Result<bool, AuthFileError> {
        self.add_any_file(path, Form::Config)
    }

    /// Adds a `.dockercfg` of Docker before 1.7, which need not exist. Whether it does.
    ///
    /// # Errors
    /// It can't be read, or is not one.
    pub fn add_old_file(&mut self, path: &Path) -> Result<bool, AuthFileError> {
        self.add_any_file(path, Form::Rows)
    }

    /// Adds a helper that is asked about every registry, as the file `named_in` says.
    pub fn add_helper(&mut self, name: &str, named_in: &Path) {
        let contents = Contents { store: Some(name.to_owned()), ..Contents::default() };
        self.add(named_in.display().to_string(), None, Form::Helper, Some(contents));
    }

    fn add_any_file(&mut self, path: &Path, form: Form) -> Result<bool, AuthFileError> {
        let name = path.display().to_string();
        let contents = match read(path)? {
            Some(text) => Some(Contents::parse_warning(&name, &text, form)?),
            None => None,
        };
        let exists = contents.is_some();
        // What a shell puts in the place of `<(…)` can be read once.
        let is_special = fs::metadata(path).is_ok_and(|metadata| !metadata.is_file());
        let again = Some(path.to_owned()).filter(|_| !is_special);
        self.add(name, again, form, contents);
        Ok(exists)
    }

    fn add(&mut self, name: String, path: Option<PathBuf>, form: Form, contents: Option<Contents>) {
        let contents = Mutex::new(contents.map(Arc::new));
        let source = CredentialSource { name, path, form, contents, missing: None };
        self.places.push(Arc::new(source));
    }

    /// Where the programs `docker-credential-…` are, and how long one may take, if not the usual
    /// time. Without this none is run.
    pub fn set_helpers(&mut self, folders: Vec<PathBuf>, limit: Option<Duration>) {
        let limit = limit.map_or(HELPER_LIMIT, |limit| limit.min(HELPER_LIMIT));
        self.helpers = Helpers { folders, limit };
    }

    /// Those that another process searches.
    pub fn kept_by(keeper: Arc<dyn CredentialKeeper>) -> Credentials {
        Credentials { keeper: Some(keeper), ..Credentials::default() }
    }

    /// Forgets the places, if there are any: they are searched by another from here on.
    pub fn be_kept_by(&mut self, keeper: Arc<dyn CredentialKeeper>) {
        if !self.places.is_empty() {
            *self = Credentials::kept_by(keeper);
        }
    }

    /// Whether a helper may be asked.
    pub fn have_helpers(&self) -> bool {
        let has = |place: &Arc<CredentialSource>| {
            place
                .last()
                .is_some_and(|contents| !contents.helpers.is_empty() || contents.store.is_some())
        };
        self.keeper.is_none() && self.places.iter().any(has)
    }

    /// Takes what the files had when they were last read for what they have: they are not read again.
    pub fn keep_as_read(&mut self) {
        for place in &mut self.places {
            let contents = Mutex::new(place.last());
            let (name, form) = (place.name.clone(), place.form);
            let missing = Some(place.why_missing());
            *place = Arc::new(CredentialSource { name, path: None, form, contents, missing });
        }
    }

    /// Searches for the credential of a repository, given by its path without the registry. Reads
    /// files and runs helpers, which may take their time.
    pub fn for_repository(&self, registry: &str, repository: &str) -> Found {
        let wanted = Key { path: repository.to_owned(), ..Key::parse(registry) };
        let mut found = Found::default();
        if let Some(keeper) = &self.keeper {
            return keeper.find(registry, repository).unwrap_or_else(|e| {
                log::warn!("credentials for {}: {e}", wanted.host);
                found.searched.push(format!("the supervisor ({e})"));
                found
            });
        }
        for place in &self.places {
            if let Some((credential, source)) =
                place.search(&wanted, &self.helpers, &mut found.searched)
            {
                log::info!("credentials for {} are from {source}", wanted.host);
                found.credential = Some(credential);
                found.source = Some(source);
                break;
            }
        }
        found
    }
}

impl CredentialSource {
    /// What is here for a repository, and its source. Notes where it looked.
    fn search(
        &self,
        wanted: &Key,
        helpers: &Helpers,
        searched: &mut Vec<String>,
    ) -> Option<(Credential, String)> {
        let Some(contents) = self.contents() else {
            searched.push(format!("{} ({})", self.name, self.why_missing()));
            return None;
        };
        if !matches!(self.form, Form::Helper) {
            searched.push(self.name.clone());
        }
        let row = |row: &Row| (row.credential.clone(), self.name.clone());
        let is_for = |key: &Key| key.host == wanted.host && key.path.is_empty();
        if let Some((_, helper)) = contents.helpers.iter().find(|(key, _)| is_for(key)) {
            return self.ask(helpers, helper, wanted, searched);
        }
        let mut rows: Vec<&Row> =
            contents.rows.iter().filter(|row| row.key.holds(wanted)).collect();
        // Stable: of several rows for the same, the one in Docker's or the plain form comes first.
        rows.sort_by_key(|row| std::cmp::Reverse(row.key.path.len()));
        if let Some(part) = rows.first().filter(|row| !row.key.path.is_empty()) {
            return Some(row(part));
        }
        let stored =
            contents.store.as_ref().and_then(|store| self.ask(helpers, store, wanted, searched));
        stored.or_else(|| rows.first().map(|first| row(first)))
    }

    fn ask(
        &self,
        helpers: &Helpers,
        name: &str,
        wanted: &Key,
        searched: &mut Vec<String>,
    ) -> Option<(Credential, String)> {
        let program = format!("docker-credential-{name}");
        let source = format!("{program} (named in {})", self.name);
        // Docker keeps its own name for the Hub in helpers, podman the Hub's.
        let servers: &[&str] = match &*wanted.host {
            DEFAULT_REGISTRY => &[DOCKER_HUB_KEY, DEFAULT_REGISTRY],
            host => &[host],
        };
        for server in servers {
            match helpers.get(name, server) {
                Ok(Some(credential)) => return Some((credential, source)),
                Ok(None) => {}
                Err(why) => {
                    // Most images are public: a broken helper must not lock the user out of them.
                    log::warn!("{source}: {why}");
                    searched.push(format!("{program} ({why})"));
                    return None;
                }
            }
        }
        searched.push(format!("{program} (has none)"));
        None
    }

    /// What is here now, or was when it could be read last.
    fn why_missing(&self) -> &'static str {
        self.missing.unwrap_or_else(|| match self.path.as_deref().is_some_and(is_out_of_reach) {
            true => "in a folder that you may not search",
            false => "not there",
        })
    }

    /// What was there last.
    fn last(&self) -> Option<Arc<Contents>> {
        self.contents.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn contents(&self) -> Option<Arc<Contents>> {
        let mut last = self.contents.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(path) = &self.path {
            let now = read(path).and_then(|text| {
                text.map(|text| Ok(Contents::parse(&text, self.form)?.0)).transpose()
            });
            match now {
                Ok(contents) => *last = contents.map(Arc::new),
                Err(e) => log::warn!("credentials file {}: {e}", self.name),
            }
        }
        last.clone()
    }
}

/// Whether a file can't be there for this user, who may not search a folder on the way to it:
/// `/run/containers` is root's alone (0700) where only root has run podman.
fn is_out_of_reach(path: &Path) -> bool {
    fs::metadata(path).is_err_and(|e| e.kind() == io::ErrorKind::PermissionDenied)
}

/// Reads a file; `None` if there is none.
fn read(path: &Path) -> Result<Option<Vec<u8>>, AuthFileError> {
    match bounded::read_file(path, MAX_FILE_BYTES) {
        Ok(text) => Ok(Some(text)),
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            Ok(None)
        }
        Err(e) if e.kind() == io::ErrorKind::PermissionDenied && is_out_of_reach(path) => Ok(None),
        Err(e) => Err(e.into()),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
