//! `hosts.toml`, as containerd, nerdctl, k3s and BuildKit's worker read it (containerd's
//! docs/hosts.md): the hosts to ask for the images of one registry.
//!
//! ```toml
//! server = "https://registry.example"           # the last resort; the registry itself, if not said
//!
//! [host."https://mirror.example/proxy"]         # asked before it, in the order of the file
//! capabilities = ["pull", "resolve"]            # all, if not said
//! ca = "/etc/certs/ca.pem"                      # or several
//! client = [["/etc/certs/me.crt", "/etc/certs/me.key"]]
//! skip_verify = false
//! override_path = false                         # the URL is that of the API, nothing is appended
//! [host."https://mirror.example/proxy".header]
//! x-team = "a"
//! ```
//!
//! It lies in a folder for the registry, `host_port_`, `host:port` or `host`, or in `_default` for all
//! others. A folder without the file has certificates only, which are read like those of Docker.
//! Timeouts in it are not used, as ours bound everything.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use ureq::http::{HeaderName, HeaderValue, Uri};

use super::certs::{self, Certificates};
use super::files::{Error, toml_words};
use crate::bounded;
use crate::source::registry::url::{api_host, is_loopback, split_port};

/// Longest file that is read.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// A host to ask.
#[derive(Clone, Debug)]
pub(super) struct Row {
    /// Without TLS.
    pub(super) plain: bool,
    /// With its port, if one is said.
    pub(super) host: String,
    /// Where its API begins: `/v2` mostly.
    pub(super) path: String,
    pub(super) pull: bool,
    pub(super) resolve: bool,
    pub(super) unverified: bool,
    pub(super) certificates: Certificates,
    pub(super) headers: Vec<(HeaderName, HeaderValue)>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct File {
    server: Option<String>,
    host: toml::Table,
    #[serde(flatten)]
    own: Settings,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Settings {
    capabilities: Option<Vec<String>>,
    ca: Option<OneOrMore<PathBuf>>,
    client: Option<OneOrMore<ClientFiles>>,
    skip_verify: bool,
    header: toml::Table,
    override_path: bool,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
enum OneOrMore<T> {
    One(T),
    More(Vec<T>),
}

impl<T> OneOrMore<T> {
    fn all(&self) -> &[T] {
        match self {
            OneOrMore::One(one) => std::slice::from_ref(one),
            OneOrMore::More(all) => all,
        }
    }
}

#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
enum ClientFiles {
    /// Certificate and key in one file.
    Both(PathBuf),
    Pair([PathBuf; 2]),
}

/// What the first of `folders` that has anything for `registry` says: hosts in the order in which to
/// ask them, or nothing but certificates.
///
/// # Errors
/// A file can't be read or understood.
pub(super) fn of_registry(folders: &[PathBuf], registry: &str) -> Result<Option<Found>, Error> {
    let Some(place) = places(folders, registry).into_iter().find(|place| place.is_dir()) else {
        return Ok(None);
    };
    let path = place.join("hosts.toml");
    if !path.exists() {
        return Ok(Some(Found::Certificates(certs::in_folder(&place)?)));
    }
    let bytes = bounded::read_file(&path, MAX_FILE_BYTES)
        .map_err(|source| Error::File { path: path.clone(), cause: source })?;
    let invalid = |what: String| Error::Invalid { path: path.clone(), what };
    let text = String::from_utf8(bytes).map_err(|e| invalid(e.to_string()))?;
    let rows = parse(&text, registry).map_err(invalid)?;
    let rows: Result<Vec<Row>, Error> =
        rows.into_iter().map(|row| row.with_files(&place)).collect();
    Ok(Some(Found::Rows(rows?)))
}

/// The files that the `hosts.toml` of a folder names, if it can be read and understood.
pub(super) fn named_files(folder: &Path) -> Vec<PathBuf> {
    let text = bounded::read_file(&folder.join("hosts.toml"), MAX_FILE_BYTES).ok();
    let text = text.and_then(|bytes| String::from_utf8(bytes).ok()).unwrap_or_default();
    let rows = parse(&text, "localhost").unwrap_or_default();
    let files = rows.iter().flat_map(|Unread { settings, .. }| {
        let authorities = settings.ca.iter().flat_map(OneOrMore::all);
        let ours = settings.client.iter().flat_map(OneOrMore::all);
        let ours = ours.flat_map(|files| match files {
            ClientFiles::Both(path) => std::slice::from_ref(path),
            ClientFiles::Pair(pair) => pair,
        });
        authorities.chain(ours)
    });
    files.map(|path| folder.join(path)).collect()
}

/// What there is for a registry.
#[derive(Clone, Debug)]
pub(super) enum Found {
    Rows(Vec<Row>),
    Certificates(Certificates),
}

fn places(folders: &[PathBuf], registry: &str) -> Vec<PathBuf> {
    // A colon is no part of a file's name everywhere.
    let (host, port) = split_port(registry);
    let without = port.map(|port| format!("{host}_{port}_"));
    let names: Vec<&str> = without.as_deref().into_iter().chain([registry, "_default"]).collect();
    folders.iter().flat_map(|folder| names.iter().map(|name| folder.join(name))).collect()
}

/// A row whose files have not been read.
#[derive(Debug)]
struct Unread {
    row: Row,
    settings: Settings,
}

fn parse(text: &str, registry: &str) -> Result<Vec<Unread>, String> {
    let file: File = toml::from_str(text).map_err(|e| toml_words(&e, text))?;
    let mut rows = Vec::new();
    for (url, value) in &file.host {
        let settings = Settings::deserialize(value.clone());
        let settings = settings.map_err(|e| format!("[host.\"{url}\"]: {}", e.message()))?;
        rows.push(row(url, settings)?);
    }
    let server = match file.server.as_deref() {
        Some(server) if !server.is_empty() => server.to_owned(),
        _ => api_host(registry).to_owned(),
    };
    rows.push(row(&server, file.own)?);
    Ok(rows)
}

fn row(url: &str, settings: Settings) -> Result<Unread, String> {
    let bare = !url.contains("://");
    let full = if bare { format!("https://{url}") } else { url.to_owned() };
    let wrong = || format!("`{url}` is not the URL of a host");
    let uri: Uri = full.parse().map_err(|_| wrong())?;
    let host = uri.authority().map_or("", |authority| authority.as_str()).to_owned();
    let scheme = uri.scheme_str().unwrap_or_default();
    if host.is_empty() || host.contains('@') || !matches!(scheme, "http" | "https") {
        return Err(wrong());
    }
    // What containerd does for this machine, where nothing else is said.
    let plain = scheme == "http" || bare && is_loopback(&host);
    let path = uri.path().trim_end_matches('/');
    let path = match settings.override_path || path.ends_with("/v2") {
        true => path.to_owned(),
        false => format!("{path}/v2"),
    };
    let capabilities = settings.capabilities.as_deref();
    let can = |wanted: &str| {
        capabilities.is_none_or(|all| all.iter().any(|c| c.eq_ignore_ascii_case(wanted)))
    };
    let (pull, resolve) = (can("pull"), can("resolve"));
    let headers = headers(&settings.header)?;
    let unverified = settings.skip_verify;
    let certificates = Certificates::default();
    let row = Row { plain, host, path, pull, resolve, unverified, certificates, headers };
    Ok(Unread { row, settings })
}

fn headers(table: &toml::Table) -> Result<Vec<(HeaderName, HeaderValue)>, String> {
    let mut headers = Vec::new();
    for (name, value) in table {
        let values = match value {
            toml::Value::String(_) => std::slice::from_ref(value),
            toml::Value::Array(values) => values,
            _ => return Err(format!("the header `{name}` is neither a text nor a list of them")),
        };
        for value in values {
            // The value may be a secret.
            let wrong = || format!("the header `{name}` can't be sent");
            let key = HeaderName::from_bytes(name.as_bytes()).map_err(|_| wrong())?;
            let value = value.as_str().ok_or_else(wrong)?;
            let mut value = HeaderValue::from_str(value).map_err(|_| wrong())?;
            value.set_sensitive(true);
            headers.push((key, value));
        }
    }
    Ok(headers)
}

impl Unread {
    fn with_files(self, folder: &Path) -> Result<Row, Error> {
        let Unread { mut row, settings } = self;
        for path in settings.ca.iter().flat_map(OneOrMore::all) {
            row.certificates.authorities.extend(certs::authorities_in(&folder.join(path))?);
        }
        if let Some(first) = settings.client.iter().flat_map(OneOrMore::all).next() {
            let (certificate, key) = match first {
                ClientFiles::Both(path) => (path, path),
                ClientFiles::Pair([certificate, key]) => (certificate, key),
            };
            let (certificate, key) = (folder.join(certificate), folder.join(key));
            row.certificates.client = certs::client(&certificate, &key)?;
        }
        Ok(row)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::fs;

    use proptest::prelude::*;

    use super::*;

    /// Rows as `scheme://host/path` with `p`ull, `r`esolve and `!` for no checks.
    fn rows(text: &str, registry: &str) -> Result<Vec<String>, String> {
        let rows = parse(text, registry)?;
        let marks = |row: &Row| {
            let marks = [(row.pull, 'p'), (row.resolve, 'r'), (row.unverified, '!')];
            marks.into_iter().filter(|(on, _)| *on).map(|(_, mark)| mark).collect::<String>()
        };
        Ok(rows
            .iter()
            .map(|Unread { row, .. }| {
                let scheme = if row.plain { "http" } else { "https" };
                format!("{scheme}://{}{} {}", row.host, row.path, marks(row))
            })
            .collect())
    }

    #[test]
    fn hosts_in_their_order_and_the_server_last() {
        let text = r#"
            server = "https://registry-1.docker.io"
            capabilities = ["resolve", "pull"]

            [host."https://z.example/proxy/"]
            capabilities = ["pull"]
            skip_verify = true

            [host."http://a.example:5000/api/v2"]
            capabilities = ["Resolve", "push"]

            [host."https://m.example/own/"]
            override_path = true
            dial_timeout = "3s"

            [host."b.example"]
            [host."localhost:5000"]
            [host."https://localhost:5001"]
        "#;
        let expected = [
            "https://z.example/proxy/v2 p!",
            "http://a.example:5000/api/v2 r",
            "https://m.example/own pr",
            "https://b.example/v2 pr",
            "http://localhost:5000/v2 pr",
            "https://localhost:5001/v2 pr",
            "https://registry-1.docker.io/v2 pr",
        ];
        assert_eq!(rows(text, "docker.io").unwrap(), expected);
        assert_eq!(rows("", "docker.io").unwrap(), ["https://registry-1.docker.io/v2 pr"]);
        let own = "skip_verify = true\ncapabilities = []";
        assert_eq!(rows(own, "r.example:5000").unwrap(), ["https://r.example:5000/v2 !"]);
        let both = "server = 'http://x.example'\n[host.'https://[fd00::1]:5000']";
        let expected = ["https://[fd00::1]:5000/v2 pr", "http://x.example/v2 pr"];
        assert_eq!(rows(both, "r.example").unwrap(), expected);
    }

    #[test]
    fn what_is_not_understood() {
        for (text, word) in [
            ("server = 1", "line 1"),
            ("server = 'ftp://x'", "ftp://x"),
            ("server = 'https://'", "not the URL"),
            ("[host.'https://u:p@x']", "not the URL"),
            ("[host.'a b']", "not the URL"),
            ("[host.x]\ncapabilities = 'pull'", "[host.\"x\"]"),
            ("[host.x]\nheader = { a = 1 }", "header `a`"),
            ("[host.x]\nheader = { 'a b' = 'c' }", "header `a b`"),
            ("[host.x]\nheader = { a = [1] }", "header `a`"),
            ("[host.x]\nheader = { a = \"se\\ncret\" }", "header `a`"),
            ("nonsense [", "line 1"),
        ] {
            let error = rows(text, "r.example").unwrap_err();
            assert!(error.contains(word) && !error.contains("cret"), "{text}: {error}");
        }
    }

    #[test]
    fn folders_by_the_name_of_the_registry() {
        let top = tempfile::tempdir().unwrap();
        let folders = [top.path().join("absent"), top.path().to_owned()];
        let found = |registry: &str| match of_registry(&folders, registry).unwrap() {
            Some(Found::Rows(rows)) => rows.into_iter().map(|row| row.host).collect(),
            Some(Found::Certificates(_)) => vec!["certificates".to_owned()],
            None => Vec::new(),
        };
        assert!(found("r.example:5000").is_empty());
        for (name, expected) in [
            ("_default", &["default", "r.example:5000"][..]),
            ("r.example:5000", &["colon", "r.example:5000"]),
            ("r.example_5000_", &["underscore", "r.example:5000"]),
        ] {
            let folder = top.path().join(name);
            fs::create_dir(&folder).unwrap();
            assert_eq!(found("r.example:5000"), ["certificates"], "{name}");
            let text = format!("[host.'https://{}']", expected[0]);
            fs::write(folder.join("hosts.toml"), text).unwrap();
            assert_eq!(found("r.example:5000"), expected, "{name}");
        }
        assert_eq!(found("[::1]:5000"), ["default", "[::1]:5000"]);
        assert_eq!(found("docker.io"), ["default", "registry-1.docker.io"]);
    }

    #[test]
    fn files_beside_it() {
        let top = tempfile::tempdir().unwrap();
        let folder = top.path().join("r.example");
        fs::create_dir(&folder).unwrap();
        let made = rcgen::generate_simple_self_signed(vec!["r".to_owned()]).unwrap();
        let (certificate, key) = (made.cert.pem(), made.signing_key.serialize_pem());
        for (name, text) in [
            ("ca.pem", &certificate),
            ("me.crt", &certificate),
            ("me.key", &key),
            ("both.pem", &format!("{key}{certificate}")),
            ("bad.pem", &"text".to_owned()),
        ] {
            fs::write(folder.join(name), text).unwrap();
        }
        let absolute = folder.join("ca.pem");
        let read = |text: &str| {
            fs::write(folder.join("hosts.toml"), text).unwrap();
            match of_registry(&[top.path().to_owned()], "r.example") {
                Ok(Some(Found::Rows(rows))) => Ok(rows[0].certificates.clone()),
                Err(e) => Err(e.to_string()),
                other => panic!("{other:?}"),
            }
        };
        for (text, authorities, client) in [
            ("ca = 'ca.pem'", 1, false),
            (&format!("ca = ['{}', 'both.pem']", absolute.display()), 2, false),
            ("client = 'both.pem'", 0, true),
            ("client = ['both.pem']", 0, true),
            ("client = [['me.crt', 'me.key']]", 0, true),
            ("client = [['me.crt', 'me.key'], ['x', 'y']]", 0, true),
        ] {
            let found = read(text).unwrap();
            assert_eq!((found.authorities.len(), found.client.is_some()), (authorities, client));
        }
        for (text, word) in [
            ("ca = 'bad.pem'", "bad.pem"),
            ("ca = 'absent.pem'", "absent.pem"),
            ("client = 'ca.pem'", "private key"),
            ("client = 1", "hosts.toml"),
        ] {
            assert!(read(text).unwrap_err().contains(word), "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_file_panics(junk in "\\PC{0,80}", url in "[a-z:/@.\\[\\]0-9]{0,20}", host in "\\PC{0,20}") {
            let _ = parse(&junk, &host);
            let _ = parse(&format!("server = '{url}'\n[host.'{url}']"), &host);
        }
    }
}
