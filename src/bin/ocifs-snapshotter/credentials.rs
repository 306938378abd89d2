//! Credentials of pods (`imagePullSecrets`), which the kubelet gives with each pull.
//!
//! # Problem
//!
//! Labels do not carry secrets, so what containerd fetches a manifest with is not known here, and the layers of the image are
//! fetched by `ocifs`.
//!
//! # Design
//!
//! `image_service` sees them on their way to containerd, and keeps them here: in memory alone, for the repository that they are for,
//! the last that were not refused. A process of `ocifs` is given those of its image as a file of
//! credentials through a pipe, so that they are in no command line, no environment and on no disk.
//!
//! Who may pull is for containerd to decide, which asks the registry for the manifest with the credentials of each
//! pull. An image that no pull has got through to is not shown, whatever is kept here.
//!
//! Where a service manager keeps them over a restart ([`Keepsake`]), what is kept here is written there at each change.
//!
//! # Invariants
//!
//! - At most [`MAX_REPOSITORIES`] are kept, each of at most [`MAX_BYTES`], and none longer than [`KEPT`].
//! - No secret is in a message, nor in what `Debug` prints.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use ocifs::reference::ImageName;
use serde_json::{Map, Value};

use crate::keepsake::{Keepsake, Row};

/// Repositories whose credentials are kept. The oldest go.
const MAX_REPOSITORIES: usize = 1024;

/// Largest credentials of one, in bytes: tokens of some clouds have a few thousand.
const MAX_BYTES: usize = 32 << 10;

/// How long they are kept. Those of clouds hold for 12 hours, and the kubelet gives others with the next pull.
const KEPT: Duration = Duration::from_secs(12 * 3600);

/// What the kubelet says of a registry: `AuthConfig` of the CRI.
#[derive(Clone, PartialEq, prost::Message)]
#[prost(skip_debug)]
pub(crate) struct Auth {
    #[prost(string, tag = "1")]
    user: String,
    #[prost(string, tag = "2")]
    password: String,
    /// Both, in base64.
    #[prost(string, tag = "3")]
    auth: String,
    /// The registry, if it is not that of the image.
    #[prost(string, tag = "4")]
    server: String,
    #[prost(string, tag = "5")]
    identity_token: String,
    #[prost(string, tag = "6")]
    registry_token: String,
}

impl fmt::Debug for Auth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Auth(hidden)")
    }
}

impl Auth {
    /// As a file of credentials, for a repository; `None` if there is no secret in it.
    fn file(&self, repository: &str) -> Option<Vec<u8>> {
        let fields = [
            ("username", &self.user),
            ("password", &self.password),
            ("auth", &self.auth),
            ("identitytoken", &self.identity_token),
            ("registrytoken", &self.registry_token),
        ];
        let fields = fields.into_iter().filter(|(_, value)| !value.is_empty());
        let entry: Map<String, Value> =
            fields.map(|(name, value)| (name.to_owned(), value.clone().into())).collect();
        if entry.is_empty() {
            return None;
        }
        let key = if self.server.is_empty() { repository } else { &self.server };
        let file = serde_json::json!({ "auths": { key: entry } });
        serde_json::to_vec(&file).ok().filter(|file| file.len() <= MAX_BYTES)
    }
}

struct Kept {
    file: Vec<u8>,
    since: Instant,
}

/// All that are kept.
#[derive(Default)]
pub(crate) struct Credentials(Mutex<All>);

/// By repository.
#[derive(Default)]
struct All {
    kept: HashMap<String, Kept>,
    /// Where they are for the next process.
    keepsake: Option<Keepsake>,
}

impl All {
    /// Leaves out what was kept long enough, and writes the rest down for the next process.
    fn have_changed(&mut self) {
        self.kept.retain(|_, kept| kept.since.elapsed() < KEPT);
        let Some(keepsake) = &self.keepsake else { return };
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let row = |(repository, kept): (&String, &Kept)| Row {
            repository: repository.clone(),
            file: String::from_utf8_lossy(&kept.file).into_owned(),
            since: now.saturating_sub(kept.since.elapsed()).as_secs(),
        };
        let rows: Vec<Row> = self.kept.iter().map(row).collect();
        if let Err(e) = keepsake.write(&rows) {
            log::warn!("credentials are not kept over a restart: {e}");
        }
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials(hidden)")
    }
}

/// Credentials that a pull has brought, and those that they have taken the place of.
pub(crate) struct Given {
    repository: String,
    since: Instant,
    before: Option<Kept>,
}

impl Credentials {
    /// Takes those that an earlier process has left, and leaves all from now on to the next one.
    pub(crate) fn inherit(&self, keepsake: Keepsake) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let mut all = self.lock();
        for Row { repository, file, since } in keepsake.read().unwrap_or_default() {
            // A clock that was set back makes them no older than they are.
            let age = now.saturating_sub(Duration::from_secs(since));
            let since = Instant::now().checked_sub(age);
            if let Some(since) = since.filter(|_| all.kept.len() < MAX_REPOSITORIES) {
                all.kept.insert(repository, Kept { file: file.into_bytes(), since });
            }
        }
        all.keepsake = Some(keepsake);
        all.have_changed();
    }

    /// Keeps those of a pull.
    pub(crate) fn give(&self, image: &str, auth: &Auth) -> Option<Given> {
        let repository = repository(image)?;
        let file = auth.file(&repository)?;
        let since = Instant::now();
        let mut all = self.lock();
        let kept = &mut all.kept;
        if kept.len() >= MAX_REPOSITORIES
            && !kept.contains_key(&repository)
            && let Some(oldest) =
                kept.iter().min_by_key(|(_, kept)| kept.since).map(|(name, _)| name.clone())
        {
            kept.remove(&oldest);
        }
        let before = kept.insert(repository.clone(), Kept { file, since });
        all.have_changed();
        Some(Given { repository, since, before })
    }

    /// Takes back those of a pull that has failed.
    pub(crate) fn take_back(&self, given: Given) {
        let Given { repository, since, before } = given;
        let mut all = self.lock();
        if all.kept.get(&repository).is_some_and(|kept| kept.since == since) {
            match before {
                Some(before) => all.kept.insert(repository, before),
                None => all.kept.remove(&repository),
            };
            all.have_changed();
        }
    }

    /// A file of credentials for an image, if there are any.
    pub(crate) fn file(&self, image: &str) -> Option<Vec<u8>> {
        let repository = repository(image)?;
        let all = self.lock();
        let kept = all.kept.get(&repository).filter(|kept| kept.since.elapsed() < KEPT)?;
        Some(kept.file.clone())
    }

    /// For how many repositories there are some.
    pub(crate) fn count(&self) -> usize {
        self.lock().kept.len()
    }

    fn lock(&self) -> MutexGuard<'_, All> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The repository that an image is in, with its registry.
fn repository(image: &str) -> Option<String> {
    match image.parse::<ImageName>() {
        Ok(ImageName::Registry(name)) => Some(format!("{}/{}", name.registry(), name.repository())),
        _ => None,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn auth(user: &str) -> Auth {
        Auth { user: user.to_owned(), password: "s3cret".to_owned(), ..Auth::default() }
    }

    fn user(credentials: &Credentials, image: &str) -> Option<String> {
        let file: Value = serde_json::from_slice(&credentials.file(image)?).unwrap();
        let (_, entry) = file["auths"].as_object()?.iter().next()?;
        Some(entry["username"].as_str()?.to_owned())
    }

    #[test]
    fn they_are_for_a_repository() {
        let credentials = Credentials::default();
        assert!(credentials.give("r.example/a:1", &auth("me")).is_some());
        let digest = "sha256:".to_owned() + &"0".repeat(64);
        for image in ["r.example/a", "r.example/a:2", &format!("r.example/a@{digest}")] {
            assert_eq!(user(&credentials, image).as_deref(), Some("me"), "{image}");
        }
        for image in ["r.example/b", "r.example/a/b", "s.example/a", "oci:r.example/a", "", "-"] {
            assert_eq!(user(&credentials, image), None, "{image}");
        }
        credentials.give("app", &auth("hub")).unwrap();
        let of_hub = user(&credentials, "docker.io/library/app:1");
        assert_eq!(of_hub.as_deref(), Some("hub"));
    }

    #[test]
    fn those_of_a_pull_that_fails_are_taken_back() {
        let credentials = Credentials::default();
        let wrong = credentials.give("r.example/a", &auth("wrong")).unwrap();
        credentials.take_back(wrong);
        assert_eq!(user(&credentials, "r.example/a"), None);
        credentials.give("r.example/a", &auth("me")).unwrap();
        let wrong = credentials.give("r.example/a", &auth("wrong")).unwrap();
        credentials.take_back(wrong);
        assert_eq!(user(&credentials, "r.example/a").as_deref(), Some("me"));
        // Others may have come meanwhile.
        let wrong = credentials.give("r.example/a", &auth("wrong")).unwrap();
        credentials.give("r.example/a", &auth("next")).unwrap();
        credentials.take_back(wrong);
        assert_eq!(user(&credentials, "r.example/a").as_deref(), Some("next"));
    }

    #[test]
    fn files_are_as_docker_writes_them() {
        let file = |auth: &Auth| {
            let file = auth.file("r.example/a")?;
            Some(String::from_utf8(file).unwrap())
        };
        let expected = r#"{"auths":{"r.example/a":{"password":"s3cret","username":"me"}}}"#;
        assert_eq!(file(&auth("me")).as_deref(), Some(expected));
        let server = "https://index.docker.io/v1/".to_owned();
        let of_server = Auth { server, identity_token: "t".to_owned(), ..Auth::default() };
        let expected = r#"{"auths":{"https://index.docker.io/v1/":{"identitytoken":"t"}}}"#;
        assert_eq!(file(&of_server).as_deref(), Some(expected));
        assert_eq!(file(&Auth::default()), None);
        assert_eq!(file(&Auth { server: "r.example".to_owned(), ..Auth::default() }), None);
        assert_eq!(file(&auth(&"x".repeat(MAX_BYTES))), None);
    }

    #[test]
    fn the_next_process_has_them() {
        let keepsake = Keepsake::new().unwrap();
        let file = || Keepsake::from(keepsake.file().try_clone().unwrap());
        let first = Credentials::default();
        first.give("r.example/before", &auth("early")).unwrap();
        first.inherit(file());
        first.give("r.example/a", &auth("me")).unwrap();
        let wrong = first.give("r.example/a", &auth("wrong")).unwrap();
        first.take_back(wrong);
        let refused = first.give("r.example/b", &auth("wrong")).unwrap();
        first.take_back(refused);
        drop(first);
        let next = Credentials::default();
        next.inherit(file());
        for (image, expected) in [
            ("r.example/before", Some("early")),
            ("r.example/a", Some("me")),
            ("r.example/b", None),
        ] {
            assert_eq!(user(&next, image).as_deref(), expected, "{image}");
        }
        // What is too old is left out, there and in the keepsake.
        let mut rows = keepsake.read().unwrap();
        assert_eq!(rows.len(), 2);
        for row in &mut rows {
            row.since -= KEPT.as_secs();
        }
        rows[0].since += 60;
        keepsake.write(&rows).unwrap();
        let last = Credentials::default();
        last.inherit(file());
        assert_eq!((last.count(), keepsake.read().unwrap().len()), (1, 1));
        // One that can't be read is begun anew.
        keepsake.file().set_len(5).unwrap();
        let last = Credentials::default();
        last.inherit(file());
        assert_eq!((last.count(), keepsake.read().unwrap().len()), (0, 0));
    }

    #[test]
    fn they_are_bounded_and_not_shown() {
        let credentials = Credentials::default();
        for n in 0..MAX_REPOSITORIES + 10 {
            credentials.give(&format!("r.example/a{n}"), &auth("me")).unwrap();
        }
        assert_eq!(credentials.count(), MAX_REPOSITORIES);
        assert_eq!(user(&credentials, "r.example/a0"), None);
        let shown = format!("{credentials:?} {:?}", auth("me"));
        assert!(!shown.contains("s3cret") && !shown.contains("me"), "{shown}");
    }
}
