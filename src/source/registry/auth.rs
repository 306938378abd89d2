//! Authentication: challenges (RFC 9110, 11.6.1), Basic, and Bearer tokens (distribution project,
//! "Token Authentication Specification").
//!
//! A request is sent first without anything; the registry's 401 says what it wants. A password
//! goes out only in answer to such a challenge, and only to the registry itself or to the token
//! server it names. What is asked of that one, and what its answers mean, is in [`token`]. A registry
//! that another one redirects to is authenticated with by itself ([`elsewhere`]).
//!
//! A few registries send a challenge only at the root of their API, and answer anonymous requests for a
//! private repository that it does not exist. So a 400, 403 or 404 without a challenge to something that should be there
//! makes us ask that root, once for each registry.

mod challenge;
mod elsewhere;
mod token;

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ureq::Body as HttpBody;
use ureq::http::{Response, Uri};

use super::client::{Access, Client};
use super::credential::Credential;
use super::credentials::{Credentials, Found};
use super::error::{Error, Failure, Sought};
pub use challenge::Challenge;
pub(super) use challenge::challenges;
pub(super) use elsewhere::Elsewhere;
use token::TokenServer;

/// How long a token that ends soon is used before renewing it is tried again.
const RENEWAL_PAUSE: Duration = Duration::from_secs(2);

/// How long the user's files and helpers are not asked again, if what they had was never accepted.
const SEARCH_PAUSE: Duration = Duration::from_secs(10);

/// How long what was not accepted is not sent again, unless it has changed.
const REFUSAL_MEMORY: Duration = Duration::from_secs(300);

/// What an answer refuses for lack of the right credentials, if it does.
pub(super) fn refusal(
    response: &Response<HttpBody>,
    url: &Uri,
    sent: Option<String>,
) -> Option<Refusal> {
    let challenges = challenges(response);
    // Some hide what strangers may not see, and ask for a login at the root of their API alone.
    let may_hide = sent.is_none() && challenges.is_empty();
    // A token of too small a scope (IBM's registry answers so).
    let wants_more = challenges
        .iter()
        .any(|c| c.parameters.get("error").is_some_and(|e| e == "insufficient_scope"));
    let (is_final, may_hide) = match response.status().as_u16() {
        401 => (false, false),
        403 if wants_more => (false, false),
        // Perhaps a password that has ended (Amazon's registry answers so).
        403 if sent.is_some() => (true, false),
        400 | 403 | 404 if may_hide => (false, true),
        _ => return None,
    };
    Some(Refusal { challenges, url: url.clone(), sent, is_final, may_hide })
}

/// What is sent with requests.
#[derive(Clone)]
enum Authorization {
    /// It has no end of its own.
    Fixed(String),
    Bearer {
        header: String,
        /// When to ask for another one; some time before it expires.
        renewal: Instant,
        expiry: Instant,
    },
}

impl Authorization {
    fn header(&self) -> &str {
        match self {
            Authorization::Fixed(header) | Authorization::Bearer { header, .. } => header,
        }
    }
}

/// An answer of the registry that asks for credentials, or does not take those that were sent.
#[derive(Clone, Debug)]
pub(super) struct Refusal {
    pub(super) challenges: Vec<Challenge>,
    pub(super) url: Uri,
    /// The value of the header that was sent.
    pub(super) sent: Option<String>,
    /// 403: nothing is asked for.
    pub(super) is_final: bool,
    /// It may be there for those who have logged in, as far as the answer tells.
    pub(super) may_hide: bool,
}

/// What came of asking for something to send.
type Outcome = Result<bool, Arc<Error>>;

/// The state of authentication with one registry, for one repository.
pub(super) struct Auth {
    registry: String,
    repository: String,
    access: Access,
    credentials: Credentials,
    /// The origin of the registry that redirects here, if this is another one.
    via: Option<Uri>,
    /// The root of the API there.
    root: Option<String>,
    /// No login is sent there, since it would go out in plain HTTP.
    is_withheld: bool,
    /// What the root of the API asks for, if it has been asked whether the registry hides something.
    hiding: OnceLock<Vec<Challenge>>,
    state: Mutex<State>,
    /// A fetch has landed.
    landed: Condvar,
    /// What is known of the user's credentials. Written in flights only.
    search: Mutex<Option<Search>>,
    /// The registry or its token server has accepted what was found, since it was found.
    is_accepted: AtomicBool,
}

#[derive(Default)]
struct State {
    current: Option<Authorization>,
    /// The challenges that were answered last, and who asked.
    asked: Option<(Vec<Challenge>, Uri)>,
    /// A thread is asking the token server or a helper. Others that need the same wait for it.
    is_flying: bool,
    outcome: Option<Outcome>,
}

/// What a search for credentials has found.
#[derive(Clone, Default)]
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

impl fmt::Debug for Auth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Auth").field("repository", &self.repository).finish_non_exhaustive()
    }
}

impl Auth {
    pub(super) fn new(
        registry: &str,
        repository: &str,
        access: Access,
        credentials: Credentials,
    ) -> Auth {
        Auth {
            registry: registry.to_owned(),
            repository: repository.to_owned(),
            access,
            credentials,
            via: None,
            root: None,
            is_withheld: false,
            hiding: OnceLock::new(),
            state: Mutex::default(),
            landed: Condvar::new(),
            search: Mutex::default(),
            is_accepted: AtomicBool::new(false),
        }
    }

    /// Where credentials were looked for, and found; for messages.
    pub(super) fn sought(&self) -> Sought {
        let found = self.known().unwrap_or_default().found;
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
    pub(super) fn header(&self, client: &Client) -> Result<Option<String>, Error> {
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
        // Nobody waits for a token while there is one.
        if !is_over && self.must_wait(client, &challenges, &url) {
            return Ok(Some(header));
        }
        let ended = Refusal {
            challenges,
            url,
            sent: Some(header.clone()),
            is_final: false,
            may_hide: false,
        };
        let renewed = self.answer(client, &ended);
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
    fn must_wait(&self, client: &Client, challenges: &[Challenge], url: &Uri) -> bool {
        let challenge = challenges.iter().find(|challenge| challenge.scheme == "bearer");
        let named =
            |c| TokenServer::named(c, url, self.via.as_ref(), &self.repository, self.access).ok();
        challenge.and_then(named).is_some_and(|server| client.must_wait(server.realm()))
    }

    /// Notes that a request with this header was accepted.
    pub(super) fn accepted(&self, sent: &str) {
        if matches!(&self.lock().current, Some(Authorization::Fixed(header)) if header == sent) {
            self.is_accepted.store(true, Ordering::Relaxed);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does what a refusal asks for, once for all threads that were refused. Whether the same
    /// request may fare better now.
    ///
    /// # Errors
    /// The token server could not be asked or refuses, or nobody knows what is wanted.
    pub(super) fn answer(&self, client: &Client, refusal: &Refusal) -> Result<bool, Error> {
        let deadline = Instant::now() + client.options.deadline;
        let mut state = self.lock();
        let is_other = |state: &State| {
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
        let outcome = self.renew(client, refusal, asked).map_err(Arc::new);
        fetch.finish(outcome).map_err(shared)
    }

    fn late(&self, refusal: &Refusal) -> Error {
        let why = "another thread is still waiting for one".to_owned();
        Error::new("access token", &refusal.url, Failure::Token(why))
    }

    /// Finds something else to send; whether there is something.
    fn renew(
        &self,
        client: &Client,
        refusal: &Refusal,
        asked: Option<(Vec<Challenge>, Uri)>,
    ) -> Result<bool, Error> {
        let Refusal { challenges, url, sent, is_final, may_hide } = refusal;
        let (challenges, url) = match (challenges.is_empty(), asked) {
            (false, _) => (challenges.clone(), url.clone()),
            // Some registries say what they want only at the root (Google's), or not again when a
            // password has ended (Amazon's).
            (true, Some(asked)) => asked,
            (true, None) => (self.root_challenges(client)?, url.clone()),
        };
        if *may_hide && self.hiding.get_or_init(|| challenges.clone()).is_empty() {
            return Ok(false);
        }
        if *is_final && !self.search_again() {
            return Ok(false);
        }
        let new = self.authorization(client, &challenges, &url, sent.as_deref())?;
        let mut state = self.lock();
        let is_new = new.is_some();
        state.asked = is_new.then_some((challenges, url));
        state.current = new;
        Ok(is_new)
    }

    /// What the root of the API asks for.
    fn root_challenges(&self, client: &Client) -> Result<Vec<Challenge>, Error> {
        match self.hiding.get() {
            Some(challenges) => Ok(challenges.clone()),
            None => client.root_challenges(self.root.as_deref()),
        }
    }

    fn authorization(
        &self,
        client: &Client,
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
        if self.known().is_some_and(|search| search.is_refused()) {
            self.search_again();
        }
        // What was sent and refused is not sent again.
        let fresh = |of: &dyn Fn(&Credential) -> Option<Authorization>| {
            let make = || self.credential().as_ref().and_then(of);
            let first = make();
            if first.as_ref().is_none_or(|new| Some(new.header()) != sent) {
                return first;
            }
            let had_worked = self.is_accepted.load(Ordering::Relaxed);
            if !self.search_again() {
                self.refuse(had_worked);
            }
            make()
        };
        let bearer = of("bearer").filter(|c| c.is_answerable() || of("basic").is_none());
        if let Some(challenge) = bearer {
            return match self.credential() {
                Some(Credential::RegistryToken(_)) => Ok(fresh(&|credential| match credential {
                    Credential::RegistryToken(token) => {
                        Some(Authorization::Fixed(format!("Bearer {token}")))
                    }
                    _ => None,
                })),
                _ => self.fetch_token(client, challenge, url).map(Some),
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

    fn known(&self) -> Option<Search> {
        self.search.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Notes what a search has found, or what came of it.
    fn know(&self, search: Search) {
        *self.search.lock().unwrap_or_else(PoisonError::into_inner) = Some(search);
    }

    /// The user's credential, searched for when it is first needed.
    fn credential(&self) -> Option<Credential> {
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
    fn search_again(&self) -> bool {
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
    fn refuse(&self, had_worked: bool) {
        if let Some(search) = self.known() {
            let memory = if had_worked { SEARCH_PAUSE } else { REFUSAL_MEMORY };
            self.know(Search { refused_until: Some(Instant::now() + memory), ..search });
        }
    }

    fn fetch_token(
        &self,
        client: &Client,
        challenge: &Challenge,
        url: &Uri,
    ) -> Result<Authorization, Error> {
        let via = self.via.as_ref();
        let server = TokenServer::named(challenge, url, via, &self.repository, self.access)
            .map_err(|why| Error::new("authentication", url, Failure::Token(why)))?;
        let answer = self.ask_as_somebody(|credential| server.ask(client, credential))?;
        let told = |error: Error| {
            error.with_sought(self.sought()).in_repository(&self.registry, &self.repository)
        };
        server.token(answer).map_err(told)
    }

    /// Asks a token server with the user's credential; with a newer one if that is not accepted;
    /// and then without, since a password that has ended must not lock its user out of public images.
    fn ask_as_somebody(
        &self,
        ask: impl Fn(Option<&Credential>) -> Result<Response<HttpBody>, Error>,
    ) -> Result<Response<HttpBody>, Error> {
        let is_refused = |answer: &Response<_>| matches!(answer.status().as_u16(), 401 | 403);
        let mut credential = self.credential();
        let had_worked = self.is_accepted.load(Ordering::Relaxed);
        let mut answer = ask(credential.as_ref())?;
        if credential.is_some() && is_refused(&answer) && self.search_again() {
            credential = self.credential();
            answer = ask(credential.as_ref())?;
        }
        if credential.is_none() {
            return Ok(answer);
        }
        if !is_refused(&answer) {
            self.is_accepted.store(true, Ordering::Relaxed);
            return Ok(answer);
        }
        let source = self.sought().source.unwrap_or_default();
        let host = &self.registry;
        log::warn!(
            "the credentials for {host} from {source} are not accepted; trying without (renew them \
             with `docker login {host}` or `podman login {host}`)"
        );
        self.refuse(had_worked);
        ask(None)
    }
}

/// One thread's turn to ask. However it ends, the others must not wait for ever.
struct Fetch<'a>(&'a Auth);

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

fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{user}:{password}")))
}
