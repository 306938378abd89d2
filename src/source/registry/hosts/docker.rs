//! `daemon.json`, in which Docker's engine is told about registries (dockerd(8), "Daemon configuration
//! file"; `registry/config.go` of Moby says what the entries mean).
//!
//! ```json
//! {
//!   "insecure-registries": ["registry.example:5000", "10.0.0.0/8"],
//!   "registry-mirrors": ["https://mirror.example"]
//! }
//! ```
//!
//! An insecure registry is asked over TLS, with nothing checked, and in plain HTTP where that fails. It is
//! named with its port, or lies in a network; for the latter its name is resolved, as the engine does
//! it. Docker Hub is never insecure, and mirrors are for Docker Hub alone.
//!
//! The engine does not start with a file that has a mistake. For us it is one of several, which the user
//! may have nothing to do with: what can't be understood is told and left out.

use std::net::{IpAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use serde::Deserialize;
use ureq::http::Uri;

use super::certs::Certificates;
use super::containerd::Row;
use super::files::read_settings;
use super::network::Network;
use crate::json::{self, Attempt, Position, Text};
use crate::reference::DEFAULT_REGISTRY;
use crate::source::registry::url::{without_brackets, without_port};

/// What the files say together.
#[derive(Debug, Default)]
pub(super) struct Daemon {
    hosts: Vec<String>,
    networks: Vec<Network>,
    mirrors: Vec<Mirror>,
}

/// A mirror of Docker Hub.
#[derive(Debug, PartialEq, Eq)]
struct Mirror {
    plain: bool,
    /// With its port, if one is said.
    host: String,
    /// Where its API begins.
    path: String,
}

/// A file. What is wrong in it is told, and without its text, which may hold passwords.
#[derive(Default, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
struct File {
    insecure_registries: Option<List>,
    registry_mirrors: Option<List>,
}

type List = Attempt<Vec<Attempt<Text>>>;

impl Daemon {
    /// Reads all of `files` that exist. What is wrong in them is told in warnings.
    pub(super) fn read(files: &[PathBuf]) -> Daemon {
        let mut all = Daemon::default();
        for path in files.iter().filter(|path| path.exists()) {
            match read_settings(path) {
                Ok(Some(text)) => all.add(&text, path),
                Ok(None) => {}
                Err(e) => log::warn!("{e}; going on without it"),
            }
        }
        all
    }

    fn add(&mut self, text: &[u8], path: &Path) {
        let text = json::without_bom(text);
        if text.trim_ascii().is_empty() {
            return;
        }
        let path = path.display();
        let file = match json::from_slice::<Option<File>>(text) {
            Ok(file) => file.unwrap_or_default(),
            Err(e) => {
                let Position { line, column } = e.place();
                log::warn!(
                    "{path}: not the JSON that Docker reads (line {line}, column {column}); going \
                     on without it"
                );
                return;
            }
        };
        for entry in texts(file.insecure_registries, &format!("{path}: insecure-registries")) {
            match insecure(&entry) {
                Some(Insecure::Host(host)) => self.hosts.push(host),
                Some(Insecure::Network(network)) => self.networks.push(network),
                None => {
                    // Before an `@` may be a password.
                    let entry = match entry.contains('@') {
                        true => "an entry with `@`".to_owned(),
                        false => format!("`{entry}`"),
                    };
                    log::warn!(
                        "{path}: insecure-registries: {entry} is neither HOST[:PORT] nor a network"
                    );
                }
            }
        }
        for entry in texts(file.registry_mirrors, &format!("{path}: registry-mirrors")) {
            match mirror(&entry) {
                Some(mirror) if self.mirrors.contains(&mirror) => {}
                Some(mirror) => self.mirrors.push(mirror),
                // It may hold a password.
                None => log::warn!(
                    "{path}: registry-mirrors: an entry is not like https://HOST[:PORT] and is left out"
                ),
            }
        }
    }

    /// Whether nothing is to be checked at a registry, `host[:port]`. Resolving its name, if that is
    /// needed, may take so long.
    pub(super) fn is_insecure(&self, registry: &str, limit: Duration) -> bool {
        if registry == DEFAULT_REGISTRY {
            return false;
        }
        if self.hosts.iter().any(|host| host.eq_ignore_ascii_case(registry)) {
            return true;
        }
        if self.networks.is_empty() {
            return false;
        }
        let addresses = addresses(without_port(registry), limit);
        let is_in = |network: &Network| addresses.iter().any(|address| network.contains(address));
        self.networks.iter().any(is_in)
    }

    /// The mirrors of a registry, in the order in which they are asked before it.
    pub(super) fn mirrors(&self, registry: &str, limit: Duration) -> Vec<Row> {
        let mirrors = self.mirrors.iter().filter(|_| registry == DEFAULT_REGISTRY);
        let rows = mirrors.map(|mirror| Row {
            plain: mirror.plain,
            host: mirror.host.clone(),
            path: mirror.path.clone(),
            pull: true,
            resolve: true,
            unverified: self.is_insecure(&mirror.host, limit),
            certificates: Certificates::default(),
            headers: Vec::new(),
        });
        rows.collect()
    }
}

/// The texts of a list; anything else is told.
fn texts(list: Option<List>, what: &str) -> Vec<String> {
    let Some(Attempt(list)) = list else { return Vec::new() };
    let Ok(entries) = list else {
        log::warn!("{what} is not a list and left out");
        return Vec::new();
    };
    let count = entries.len();
    let texts = entries.into_iter().filter_map(|entry| Some(entry.0.ok()?.0));
    let texts: Vec<String> = texts.collect();
    if texts.len() < count {
        log::warn!("{what}: an entry is not a text and left out");
    }
    texts
}

#[derive(Debug, PartialEq, Eq)]
enum Insecure {
    Host(String),
    Network(Network),
}

fn insecure(entry: &str) -> Option<Insecure> {
    // The engine takes a scheme away as well.
    let bare = match entry.split_once("://") {
        Some((scheme, rest)) => {
            let is_http = ["http", "https"].iter().any(|http| scheme.eq_ignore_ascii_case(http));
            Some(rest).filter(|_| is_http)?
        }
        None => entry,
    };
    if let Some(network) = Network::parse(bare) {
        return Some(Insecure::Network(network));
    }
    let is_host = |c: char| c.is_ascii_alphanumeric() || "._-:[]".contains(c);
    let fits = !bare.is_empty() && bare.chars().all(is_host) && !bare.starts_with('-');
    fits.then(|| Insecure::Host(bare.to_owned()))
}

fn mirror(entry: &str) -> Option<Mirror> {
    let uri: Uri = entry.parse().ok()?;
    let (scheme, host) = (uri.scheme_str()?, uri.authority()?.as_str());
    let fits = matches!(scheme, "http" | "https") && !host.contains('@');
    if !fits || uri.query().is_some() || entry.contains('#') {
        return None;
    }
    let path = format!("{}/v2", uri.path().trim_end_matches('/'));
    Some(Mirror { plain: scheme == "http", host: host.to_owned(), path })
}

/// The addresses of a host, as far as they are known within the time.
fn addresses(host: &str, limit: Duration) -> Vec<IpAddr> {
    if let Ok(address) = without_brackets(host).parse() {
        return vec![address];
    }
    let (sender, receiver) = mpsc::channel();
    let name = host.to_owned();
    thread::spawn(move || {
        let found = (name.as_str(), 0).to_socket_addrs();
        let found = found.map(|found| found.map(|address| address.ip()).collect());
        // The time may be over.
        let _ = sender.send(found.unwrap_or_default());
    });
    receiver.recv_timeout(limit).unwrap_or_default()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::fs;

    use proptest::prelude::*;

    use super::*;

    const LIMIT: Duration = Duration::from_secs(5);

    fn daemon(text: &str) -> Daemon {
        let mut daemon = Daemon::default();
        daemon.add(text.as_bytes(), Path::new("daemon.json"));
        daemon
    }

    /// Mirrors as `scheme://host/path`, `!` before those where nothing is checked.
    fn mirrors(daemon: &Daemon, registry: &str) -> Vec<String> {
        let rows = daemon.mirrors(registry, LIMIT).into_iter();
        let show = |row: Row| {
            let scheme = if row.plain { "http" } else { "https" };
            let checks = if row.unverified { "!" } else { "" };
            format!("{checks}{scheme}://{}{}", row.host, row.path)
        };
        rows.map(show).collect()
    }

    #[test]
    fn insecure_registries() {
        let daemon = daemon(
            r#"{"debug": true, "insecure-registries": [
                "a.example", "b.example:5000", "http://c.example:80", "HTTPS://d.example",
                "10.1.0.0/16", "2001:db8::/32", "[2001:db9::1]:5000", "docker.io", "0.0.0.0/33", "-x", ""
            ]}"#,
        );
        for host in [
            "a.example",
            "A.example",
            "b.example:5000",
            "c.example:80",
            "d.example",
            "10.1.2.3",
            "10.1.2.3:5000",
            "[2001:db8::5]:5000",
            "[2001:db9::1]:5000",
        ] {
            assert!(daemon.is_insecure(host, LIMIT), "{host}");
        }
        for host in [
            "a.example:5000",
            "b.example",
            "x.a.example",
            "10.2.0.1",
            "[2001:db9::2]:5000",
            "docker.io",
            "name-that-does-not-exist.invalid",
        ] {
            assert!(!daemon.is_insecure(host, LIMIT), "{host}");
        }
        // A name whose address lies in a network.
        let daemon = super::tests::daemon(r#"{"insecure-registries": ["127.0.0.0/8", "::1/128"]}"#);
        assert!(daemon.is_insecure("localhost:5000", LIMIT));
    }

    #[test]
    fn mirrors_of_docker_hub() {
        let daemon = daemon(
            r#"{"insecure-registries": ["b.example:5000"], "registry-mirrors": [
                "https://a.example/", "https://b.example:5000", "http://c.example/hub", "https://a.example",
                "d.example", "ftp://e.example", "https://me:s3cret@f.example", "https://g.example?x", 5
            ]}"#,
        );
        let expected =
            ["https://a.example/v2", "!https://b.example:5000/v2", "http://c.example/hub/v2"];
        assert_eq!(mirrors(&daemon, "docker.io"), expected);
        assert!(mirrors(&daemon, "quay.io").is_empty());
    }

    #[test]
    fn files_that_are_wrong_are_left_out() {
        for text in [
            "",
            " \n",
            "{",
            "[]",
            "null",
            "{\"insecure-registries\": \"a.example\"}",
            "{\"insecure-registries\": null, \"registry-mirrors\": {}}",
            "\u{feff}{}",
        ] {
            let daemon = daemon(text);
            assert!(
                !daemon.is_insecure("a.example", LIMIT) && mirrors(&daemon, "docker.io").is_empty()
            );
        }
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::write(path("bad"), "{").unwrap();
        fs::write(
            path("bytes"),
            b"{\"labels\": [\"\xff\"], \"Insecure-Registries\": [\"c.example\", 5]}",
        )
        .unwrap();
        fs::write(path("good"), r#"{"insecure-registries": ["a.example"]}"#).unwrap();
        fs::write(path("more"), r#"{"insecure-registries": ["b.example"]}"#).unwrap();
        fs::create_dir(path("folder")).unwrap();
        let files = ["none", "bad", "bytes", "folder", "good", "more"].map(path);
        let daemon = Daemon::read(&files);
        for host in ["a.example", "b.example", "c.example"] {
            assert!(daemon.is_insecure(host, LIMIT), "{host}");
        }
    }

    proptest! {
        #[test]
        fn no_file_panics(text in "\\PC{0,80}", entry in "[a-z0-9.:/@\\[\\]#?-]{0,30}") {
            daemon(&text);
            let file = serde_json::json!({
                "insecure-registries": [&entry], "registry-mirrors": [&entry],
            });
            mirrors(&daemon(&file.to_string()), "docker.io");
        }
    }
}
