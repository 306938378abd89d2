//! Authentication with one registry, for one repository: what is sent, and what is done when it is refused.
//!
//! One thread at a time asks the token server or a helper; others that need the same wait for it.

use std::fmt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use ureq::Body as HttpBody;
use ureq::http::{Response, Uri};

use super::authorization::{Authorization, basic};
use super::login::Login;
use super::refusal::Refusal;
use super::token_server::TokenServer;
use crate::source::registry::credential::Credential;
use crate::source::registry::credentials::{Credentials, Found};
use crate::source::registry::error::{Error, Failure, Sought};
use crate::source::registry::transport::challenge::Challenge;
use crate::source::registry::transport::message::Messages;
use crate::source::registry::transport::request::Access;

/// How long a token that ends soon is used before renewing it is tried again.
const RENEWAL_PAUSE: Duration = Duration::from_secs(2);

/// What came of asking for something to send.
type Outcome = Result<bool, Arc<Error>>;

/// The state of authentication with one registry, for one repository.
pub(in crate::source::registry) struct RepositoryAuth {
    registry: String,
    repository: String,
    access: Access,
    login: Login,
    /// The origin of the registry that redirects here, if this is another one.
    pub(super) via: Option<Uri>,
    /// The root of the API there.
    pub(super) root: Option<String>,
    /// No login is sent there, since it would go out in plain HTTP.
    pub(super) is_withheld: bool,
    /// What the root of the API asks for, if it has been asked whether the registry hides something.
    hiding: OnceLock<Vec<Challenge>>,
    state: Mutex<AuthState>,
    /// A fetch has landed.
    landed: Condvar,
}

#[derive(Default)]
struct AuthState {
    current: Option<Authorization>,
    /// The challenges that were answered last, and who asked.
    asked: Option<(Vec<Challenge>, Uri)>,
    /// A thread is asking the token server or a helper. Others that need the same wait for it.
    is_flying: bool,
    outcome: Option<Outcome>,
}

impl fmt::Debug for RepositoryAuth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RepositoryAuth")
            .field("repository", &self.repository)
            .finish_non_exhaustive()
    }
}

impl RepositoryAuth {
    pub(in crate::source::registry) fn new(
        registry: &str,
        repository: &str,
        access: Access,
        credentials: Credentials,
    ) -> RepositoryAuth {
        RepositoryAuth {
            registry: registry.to_owned(),
            repository: repository.to_owned(),
            access,
            login: Login::new(registry, repository, credentials),
            via: None,
            root: None,
            is_withheld: false,
            hiding: OnceLock::new(),
            state: Mutex::default(),
            landed: Condvar::new(),
        }
    }

    /// Where credentials were looked for, and found; for messages.
    pub(super) fn sought(&self) -> Sought {
        let found = self.login.found();
        let host = self.registry.clone();
        let Found { source, searched, .. } = found;
        let may_hide = self.hiding.get().is_some_and(|challenges| !challenges.is_empty());
        Sought { host, source, searched, is_withheld: self.is_withheld, may_hide }
    }

    /// The repository, as it is called where the registry redirects to; `None` for the registry itself.
    pub(super) fn elsewhere(&self) -> Option<String> {
        self.via.as_ref()?;
        Some(format!("{}/{}", self.registry, self.repository))
    }

    /// Whether a registry that answers a stranger that there is nothing may have it for its users: if it
    /// asks for a login at the root of its API, or has not been asked there.
    pub(super) fn may_hide(&self) -> bool {
        self.hiding.get().is_none_or(|challenges| !challenges.is_empty())
    }

    /// The header to send, if authentication has happened. A token that ends soon is renewed
    /// first: by one thread, while the others go on with the old one.
    ///
    /// # Errors
    /// It has ended, and there is no other.
    pub(super) fn header(&self, messages: &Messages) -> Result<Option<String>, Error> {
        let (current, asked, is_flying) = {
            let state = self.lock();
            (state.current.clone(), state.asked.clone(), state.is_flying)
        };
        let Some(Authorization::Bearer { header, renewal, expiry }) = current else {
            return Ok(current.map(|current| current.header().to_owned()));
        };
        let now = Instant::now();
        let is_over = now >= expiry;
        if now < renewal || (is_flying && !is_over) {
            return Ok(Some(header));
        }
        let Some((challenges, url)) = asked else { return Ok(Some(header)) };
        // No thread waits for a token while there is one.
        if !is_over && self.must_wait(messages, &challenges, &url) {
            return Ok(Some(header));
        }
        let ended = Refusal {
            challenges,
            url,
            sent: Some(header.clone()),
            is_final: false,
            may_hide: false,
        };
        let renewed = self.answer(messages, &ended);
        match renewed {
            Ok(_) => Ok(self.lock().current.as_ref().map(|current| current.header().to_owned())),
            Err(error) if is_over => {
                // The next request goes without, for a fresh challenge: the server may have moved.
                let mut state = self.lock();
                state.current = None;
                state.asked = None;
                Err(error)
            }
            Err(error) => {
                log::info!("{error}; going on with the token that ends soon");
                if let Some(Authorization::Bearer { renewal, .. }) = &mut self.lock().current {
                    *renewal = now + RENEWAL_PAUSE;
                }
                Ok(Some(header))
            }
        }
    }

    /// Whether the token server wants to be left alone for now.
    fn must_wait(&self, messages: &Messages, challenges: &[Challenge], url: &Uri) -> bool {
        let challenge = challenges.iter().find(|challenge| challenge.scheme == "bearer");
        let named =
            |c| TokenServer::named(c, url, self.via.as_ref(), &self.repository, self.access).ok();
        challenge
            .and_then(named)
            .is_some_and(|server| messages.limited().is_limited(server.realm()))
    }

    /// Notes that a request with this header was accepted.
    pub(super) fn accepted(&self, sent: &str) {
        if matches!(&self.lock().current, Some(Authorization::Fixed(header)) if header == sent) {
            self.login.accepted();
        }
    }

    fn lock(&self) -> MutexGuard<'_, AuthState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does what a refusal asks for, once for all threads that were refused. Whether the same
    /// request may fare better now.
    ///
    /// # Errors
    /// The token server could not be asked or refuses, or it is not known what is wanted.
    pub(super) fn answer(&self, messages: &Messages, refusal: &Refusal) -> Result<bool, Error> {
        let deadline = Instant::now() + messages.limited().http().options().deadline;
        let mut state = self.lock();
        let is_other = |state: &AuthState| {
            let current = state.current.as_ref().map(Authorization::header);
            current.is_some() && current != refusal.sent.as_deref()
        };
        if !is_other(&state) && state.is_flying {
            let left = deadline.saturating_duration_since(Instant::now());
            let waited = self.landed.wait_timeout_while(state, left, |state| state.is_flying);
            let (landed, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
            state = landed;
            let outcome = state.outcome.clone().filter(|_| !timeout.timed_out());
            return outcome.unwrap_or_else(|| Err(Arc::new(self.late(refusal)))).map_err(shared);
        }
        if is_other(&state) {
            return Ok(true);
        }
        state.is_flying = true;
        state.outcome = None;
        let asked = state.asked.clone();
        drop(state);
        let fetch = Fetch(self);
        let outcome = self.renew(messages, refusal, asked).map_err(Arc::new);
        fetch.finish(outcome).map_err(shared)
    }

    fn late(&self, refusal: &Refusal) -> Error {
        let why = "another thread is still waiting for one".to_owned();
        Error::new("access token", &refusal.url, Failure::Token(why))
    }

    /// Finds something else to send; whether there is something.
    fn renew(
        &self,
        messages: &Messages,
        refusal: &Refusal,
        asked: Option<(Vec<Challenge>, Uri)>,
    ) -> Result<bool, Error> {
        let Refusal { challenges, url, sent, is_final, may_hide } = refusal;
        let (challenges, url) = match (challenges.is_empty(), asked) {
            (false, _) => (challenges.clone(), url.clone()),
            // Some registries say what they want only at the root (Google's), or not again when a
            // password has ended (Amazon's).
            (true, Some(asked)) => asked,
            (true, None) => (self.root_challenges(messages)?, url.clone()),
        };
        if *may_hide && self.hiding.get_or_init(|| challenges.clone()).is_empty() {
            return Ok(false);
        }
        if *is_final && !self.login.search_again() {
            return Ok(false);
        }
        let new = self.authorization(messages, &challenges, &url, sent.as_deref())?;
        let mut state = self.lock();
        let is_new = new.is_some();
        state.asked = is_new.then_some((challenges, url));
        state.current = new;
        Ok(is_new)
    }

    /// What the root of the API asks for.
    fn root_challenges(&self, messages: &Messages) -> Result<Vec<Challenge>, Error> {
        match self.hiding.get() {
            Some(challenges) => Ok(challenges.clone()),
            None => messages.root_challenges(self.root.as_deref()),
        }
    }

    fn authorization(
        &self,
        messages: &Messages,
        challenges: &[Challenge],
        url: &Uri,
        sent: Option<&str>,
    ) -> Result<Option<Authorization>, Error> {
        let of = |scheme: &str| {
            let mut of_scheme = challenges.iter().filter(|c| c.scheme == scheme);
            // One that says how it can be answered, if there is one.
            let first = of_scheme.clone().next();
            of_scheme.find(|c| c.is_answerable()).or(first)
        };
        self.login.search_again_if_refused();
        // What was sent and refused is not sent again.
        let fresh = |of: &dyn Fn(&Credential) -> Option<Authorization>| {
            let make = || self.login.credential().as_ref().and_then(of);
            let first = make();
            if first.as_ref().is_none_or(|new| Some(new.header()) != sent) {
                return first;
            }
            let had_worked = self.login.is_accepted();
            if !self.login.search_again() {
                self.login.refuse(had_worked);
            }
            make()
        };
        let bearer = of("bearer").filter(|c| c.is_answerable() || of("basic").is_none());
        if let Some(challenge) = bearer {
            return match self.login.credential() {
                Some(Credential::RegistryToken(_)) => Ok(fresh(&|credential| match credential {
                    Credential::RegistryToken(token) => {
                        Some(Authorization::Fixed(format!("Bearer {token}")))
                    }
                    _ => None,
                })),
                _ => self.fetch_token(messages, challenge, url).map(Some),
            };
        }
        if of("basic").is_some() {
            return Ok(fresh(&|credential| match credential {
                Credential::Basic { user, password } => {
                    Some(Authorization::Fixed(basic(user, password)))
                }
                _ => None,
            }));
        }
        let kinds: Vec<&str> = challenges.iter().map(|c| c.scheme.as_str()).collect();
        let kinds = if kinds.is_empty() { "none given".to_owned() } else { kinds.join(", ") };
        Err(Error::new("authentication", url, Failure::Challenge(kinds)))
    }

    fn fetch_token(
        &self,
        messages: &Messages,
        challenge: &Challenge,
        url: &Uri,
    ) -> Result<Authorization, Error> {
        let via = self.via.as_ref();
        let server = TokenServer::named(challenge, url, via, &self.repository, self.access)
            .map_err(|why| Error::new("authentication", url, Failure::Token(why)))?;
        let answer =
            self.ask_with_login(|credential| server.ask(messages.limited(), credential))?;
        let told = |error: Error| {
            error.with_sought(self.sought()).in_repository(&self.registry, &self.repository)
        };
        server.token(answer).map_err(told)
    }

    /// Asks a token server with the user's credential; with a newer one if that is not accepted;
    /// and then without, since a password that has ended must not lock its user out of public images.
    fn ask_with_login(
        &self,
        ask: impl Fn(Option<&Credential>) -> Result<Response<HttpBody>, Error>,
    ) -> Result<Response<HttpBody>, Error> {
        let is_refused = |answer: &Response<_>| matches!(answer.status().as_u16(), 401 | 403);
        let mut credential = self.login.credential();
        let had_worked = self.login.is_accepted();
        let mut answer = ask(credential.as_ref())?;
        if credential.is_some() && is_refused(&answer) && self.login.search_again() {
            credential = self.login.credential();
            answer = ask(credential.as_ref())?;
        }
        if credential.is_none() {
            return Ok(answer);
        }
        if !is_refused(&answer) {
            self.login.accepted();
            return Ok(answer);
        }
        let source = self.sought().source.unwrap_or_default();
        let host = &self.registry;
        log::warn!(
            "the credentials for {host} from {source} are not accepted; trying without (renew them \
             with `docker login {host}` or `podman login {host}`)"
        );
        self.login.refuse(had_worked);
        ask(None)
    }
}

/// One thread's turn to ask. However it ends, the others must not wait for ever.
struct Fetch<'a>(&'a RepositoryAuth);

impl Fetch<'_> {
    fn finish(self, outcome: Outcome) -> Outcome {
        self.0.lock().outcome = Some(outcome.clone());
        outcome
    }
}

impl Drop for Fetch<'_> {
    fn drop(&mut self) {
        self.0.lock().is_flying = false;
        self.0.landed.notify_all();
    }
}

/// An error of several threads.
fn shared(error: Arc<Error>) -> Error {
    Error::clone(&error)
}
