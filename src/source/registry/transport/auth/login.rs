//! The user's login for one repository: searched for when it is first needed, again when it is not accepted, and
//! not sent again and again while it is not, since that locks accounts.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::source::registry::credential::Credential;
use crate::source::registry::credentials::{Credentials, Found};

/// How long the user's files and helpers are not asked again, if what they had was never accepted.
const SEARCH_PAUSE: Duration = Duration::from_secs(10);

/// How long what was not accepted is not sent again, unless it has changed.
const REFUSAL_MEMORY: Duration = Duration::from_secs(300);

/// What is known of the user's login for one repository. Written by one thread at a time: the one that asks for
/// something to send.
#[derive(Debug)]
pub(super) struct Login {
    registry: String,
    repository: String,
    credentials: Credentials,
    search: Mutex<Option<Search>>,
    /// The registry or its token server has accepted what was found, since it was found.
    is_accepted: AtomicBool,
}

/// What a search for credentials has found.
#[derive(Clone, Debug, Default)]
struct Search {
    found: Found,
    at: Option<Instant>,
    /// Until when it is not sent, if it was not accepted.
    refused_until: Option<Instant>,
}

impl Search {
    /// Whether what was found is better not sent: a wrong password again and again locks accounts.
    fn is_refused(&self) -> bool {
        self.refused_until.is_some_and(|until| Instant::now() < until)
    }
}

impl Login {
    pub(super) fn new(registry: &str, repository: &str, credentials: Credentials) -> Login {
        Login {
            registry: registry.to_owned(),
            repository: repository.to_owned(),
            credentials,
            search: Mutex::default(),
            is_accepted: AtomicBool::new(false),
        }
    }

    /// What was found, if it was looked for.
    pub(super) fn found(&self) -> Found {
        self.known().unwrap_or_default().found
    }

    /// Notes that what was found is accepted.
    pub(super) fn accepted(&self) {
        self.is_accepted.store(true, Ordering::Relaxed);
    }

    /// Whether what was found has been accepted.
    pub(super) fn is_accepted(&self) -> bool {
        self.is_accepted.load(Ordering::Relaxed)
    }

    /// Searches again if what was found is not sent for now.
    pub(super) fn search_again_if_refused(&self) {
        if self.known().is_some_and(|search| search.is_refused()) {
            self.search_again();
        }
    }

    fn known(&self) -> Option<Search> {
        self.search.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Notes what a search has found, or what came of it.
    fn know(&self, search: Search) {
        *self.search.lock().unwrap_or_else(PoisonError::into_inner) = Some(search);
    }

    /// The user's credential, searched for when it is first needed.
    pub(super) fn credential(&self) -> Option<Credential> {
        let search = self.known().unwrap_or_else(|| {
            let found = self.credentials.for_repository(&self.registry, &self.repository);
            let search = Search { found, at: Some(Instant::now()), refused_until: None };
            self.know(search.clone());
            search
        });
        if search.is_refused() { None } else { search.found.credential }
    }

    /// Searches once more, since what was found before is not accepted: whether there is something
    /// else now. Not again and again while that does not help.
    pub(super) fn search_again(&self) -> bool {
        let Some(before) = self.known() else { return self.credential().is_some() };
        let is_recent = before.at.is_some_and(|at| at.elapsed() < SEARCH_PAUSE);
        if is_recent && !self.is_accepted.swap(false, Ordering::Relaxed) {
            return false;
        }
        let found = self.credentials.for_repository(&self.registry, &self.repository);
        let is_new = found.credential != before.found.credential;
        let refused_until = before.refused_until.filter(|_| !is_new);
        self.know(Search { found, at: Some(Instant::now()), refused_until });
        is_new
    }

    /// Notes that what was found is not accepted. If it was before, the server may just be confused.
    pub(super) fn refuse(&self, had_worked: bool) {
        if let Some(search) = self.known() {
            let memory = if had_worked { SEARCH_PAUSE } else { REFUSAL_MEMORY };
            self.know(Search { refused_until: Some(Instant::now() + memory), ..search });
        }
    }
}
