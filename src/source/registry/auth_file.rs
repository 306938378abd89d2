//! Files of logins: Docker's `config.json`, the `auth.json` of containers-auth.json(5), and `.dockercfg`.
//!
//! Errors of the JSON parser quote what they stumbled over, which may be a secret, so of them only the place
//! is told.

use std::collections::BTreeMap;
use std::io;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use super::credential::Credential;
use super::url::registry_name;
use crate::json::{self, Attempt, Text};

/// The name of Docker Hub in Docker's files and helpers.
pub(super) const DOCKER_HUB_KEY: &str = "https://index.docker.io/v1/";

/// Why a file of credentials can't be used.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the messages are the documentation")]
pub enum AuthFileError {
    #[error(transparent)]
    Read(#[from] io::Error),
    #[error("not valid JSON (line {line}, column {column})")]
    Json { line: usize, column: usize },
    #[error("valid JSON, but no file of credentials (line {line}, column {column})")]
    Form { line: usize, column: usize },
    #[error("the `auth` value of `{0}` is not base64 of `user:password`")]
    Value(String),
    #[error("the entry of `{0}` is not a set of names and texts")]
    Entry(String),
}

impl From<json::Error> for AuthFileError {
    fn from(error: json::Error) -> AuthFileError {
        let json::Position { line, column } = error.place();
        match error.is_syntax() {
            true => AuthFileError::Json { line, column },
            false => AuthFileError::Form { line, column },
        }
    }
}

/// How a file is laid out.
#[derive(Clone, Copy)]
pub(super) enum Form {
    /// `config.json` and `auth.json`.
    Config,
    /// `.dockercfg`: the rows alone.
    Rows,
    /// No file of logins, but one that names a helper.
    Helper,
}

/// A file of credentials, read.
#[derive(Default)]
pub(super) struct Contents {
    pub(super) rows: Vec<Row>,
    pub(super) helpers: Vec<(Key, String)>,
    pub(super) store: Option<String>,
}

/// An entry of `auths`.
pub(super) struct Row {
    pub(super) key: Key,
    pub(super) credential: Credential,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct AuthFile {
    auths: Rows,
    #[serde(rename = "credHelpers")]
    helpers: BTreeMap<String, Text>,
    #[serde(rename = "credsStore")]
    store: Text,
}

/// By their keys. One that can't be read is no reason to fail for every other registry.
type Rows = BTreeMap<String, Attempt<Option<Entry>>>;

#[derive(Default, Deserialize)]
#[serde(default)]
struct Entry {
    auth: Text,
    #[serde(rename = "username")]
    user: Text,
    password: Text,
    #[serde(rename = "identitytoken")]
    identity_token: Text,
    #[serde(rename = "registrytoken")]
    registry_token: Text,
}

impl Contents {
    /// Reads a file, and tells of the rows that are wrong.
    pub(super) fn parse_warning(
        name: &str,
        text: &[u8],
        form: Form,
    ) -> Result<Contents, AuthFileError> {
        let (contents, wrong) = Contents::parse(text, form)?;
        for error in wrong {
            log::warn!("credentials file {name}: {error}");
        }
        Ok(contents)
    }

    /// Reads a file. One bad row is no reason to fail for every other registry: those are returned.
    pub(super) fn parse(
        text: &[u8],
        form: Form,
    ) -> Result<(Contents, Vec<AuthFileError>), AuthFileError> {
        // An empty file is none, for Docker too.
        if json::without_bom(text).trim_ascii().is_empty() {
            return Ok(Default::default());
        }
        let file = match form {
            Form::Config => json::first_value::<Option<AuthFile>>(text)?.unwrap_or_default(),
            Form::Rows | Form::Helper => {
                AuthFile { auths: json::first_value(text)?, ..AuthFile::default() }
            }
        };
        let (mut rows, mut wrong) = (Vec::new(), Vec::new());
        for (text, entry) in file.auths {
            match credential(&text, entry) {
                Ok(Some(credential)) => {
                    let row = Row { key: Key::parse(&text), credential };
                    let is_usual = text == DOCKER_HUB_KEY || text == row.key.host;
                    rows.insert(if is_usual { 0 } else { rows.len() }, row);
                }
                Ok(None) => {}
                Err(e) => wrong.push(e),
            }
        }
        let helpers = file.helpers.into_iter();
        let helpers = helpers.filter_map(|(key, name)| Some((Key::parse(&key), filled(name)?)));
        let contents = Contents { rows, helpers: helpers.collect(), store: filled(file.store) };
        Ok((contents, wrong))
    }
}

fn filled(text: Text) -> Option<String> {
    Some(text.0).filter(|text| !text.is_empty())
}

/// The credential of a row, if it holds one.
fn credential(
    key: &str,
    entry: Attempt<Option<Entry>>,
) -> Result<Option<Credential>, AuthFileError> {
    // The parser's own words may quote a secret.
    let entry = entry.0.map_err(|_| AuthFileError::Entry(key.to_owned()))?.unwrap_or_default();
    let auth = filled(entry.auth);
    let login = auth.as_deref().and_then(user_and_password);
    if let Some(token) = filled(entry.identity_token) {
        let user = login.map(|(user, _)| Text(user)).unwrap_or(entry.user);
        let user = filled(user);
        return Ok(Some(Credential::IdentityToken { user, token }));
    }
    if let Some((user, password)) = login {
        return Ok(Some(Credential::Basic { user, password }));
    }
    if auth.is_some() {
        return Err(AuthFileError::Value(key.to_owned()));
    }
    if let (Some(user), Some(password)) = (filled(entry.user), filled(entry.password)) {
        return Ok(Some(Credential::Basic { user, password }));
    }
    Ok(filled(entry.registry_token).map(Credential::RegistryToken))
}

/// Reads an `auth` value. Some writers break it into lines, as `base64` does, or fill it up with NULs.
fn user_and_password(auth: &str) -> Option<(String, String)> {
    let auth: String = auth.split_ascii_whitespace().collect();
    let text = String::from_utf8(STANDARD.decode(auth).ok()?).ok()?;
    let (user, password) = text.trim_end_matches('\0').split_once(':')?;
    Some((user.to_owned(), password.to_owned()))
}

/// What a row is for: a registry, or a part of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Key {
    pub(super) host: String,
    /// The beginning of repositories' paths, or a whole one; empty for the registry.
    pub(super) path: String,
}

impl Key {
    /// Keys may be URLs, whose path says nothing, and Docker Hub has many names.
    pub(super) fn parse(text: &str) -> Key {
        let (is_url, rest) = match text.split_once("://") {
            Some((_, rest)) => (true, rest),
            None => (false, text),
        };
        let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
        let path = match path.trim_end_matches('/') {
            "v1" | "v2" => "",
            _ if is_url => "",
            path => path,
        };
        Key { host: registry_name(host), path: path.to_owned() }
    }

    /// Whether a repository is in this part of the registry.
    pub(super) fn holds(&self, repository: &Key) -> bool {
        let rest = repository.path.strip_prefix(&*self.path);
        self.host == repository.host
            && rest.is_some_and(|rest| {
                self.path.is_empty() || rest.is_empty() || rest.starts_with('/')
            })
    }
}
