//! A registry inside the test process, which can be told to misbehave.
//!
//! It serves the OCI distribution API from memory on a loopback port, logs each request, can ask
//! for credentials in both ways that registries do, and spoils chosen responses in the ways that
//! networks, proxies and broken registries do ([`Fault`]). What is pushed, and the lists of
//! referrers, are the business of `store`; who may ask is that of `guard`.
//!
//! Each connection has a thread, and requests on it are handled one after the other.

use std::collections::HashMap;
use std::io;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use serde_json::json;

use crate::support::guard::{Auth, Guard};
use crate::support::image::{Built, sha256};
pub use crate::support::store::{Referrers, TagPages};
use crate::support::store::{Uploads, list_names};
pub use crate::support::wire::{Fault, Gate};
use crate::support::wire::{Request, Response, Wire, blob, decode, spoil};

/// Which of the requests that match a fault it is for. Requests refused for lack of credentials
/// do not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Times {
    Always,
    /// Only the request of this number, counted from 1 when the fault was set.
    Nth(usize),
    /// As many requests, counted from when the fault was set.
    First(usize),
}

/// A request that was answered, or at least received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Logged {
    pub method: String,
    /// The request target, with its query.
    pub path: String,
    pub range: Option<String>,
    pub authorization: Option<String>,
    /// 0 if there was no response.
    pub status: u16,
    /// How much of the body has been handed to the kernel.
    pub body_bytes_sent: u64,
}

/// A running registry, which stops when it is dropped.
#[derive(Debug)]
pub struct Registry {
    address: SocketAddr,
    shared: Arc<Shared>,
    acceptor: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    /// Signalled when `State::stopping` is set.
    stopped: Condvar,
    /// Bodies of blobs that are being sent, and the most that were at the same time.
    bodies: AtomicUsize,
    most_bodies: AtomicUsize,
}

#[derive(Debug)]
pub(super) struct State {
    /// Media type and bytes by repository and tag or digest.
    pub(super) manifests: HashMap<(String, String), (String, Vec<u8>)>,
    /// Bytes by repository and digest.
    pub(super) blobs: HashMap<(String, String), Vec<u8>>,
    pub(super) uploads: Uploads,
    pub(super) referrers: Referrers,
    tag_pages: TagPages,
    /// Whether it lists its repositories.
    has_catalog: bool,
    log: Vec<(Logged, Arc<AtomicU64>)>,
    rules: Vec<Rule>,
    guard: Guard,
    stopping: bool,
    /// How many connections there were.
    accepted: usize,
    /// Second handles of the open connections, to shut them down by.
    connections: HashMap<usize, TcpStream>,
}

impl Default for State {
    fn default() -> State {
        State {
            manifests: HashMap::new(),
            blobs: HashMap::new(),
            uploads: Uploads::default(),
            referrers: Referrers::Absent,
            tag_pages: TagPages::Whole,
            has_catalog: false,
            log: Vec::new(),
            rules: Vec::new(),
            guard: Guard::default(),
            stopping: false,
            accepted: 0,
            connections: HashMap::new(),
        }
    }
}

#[derive(Debug)]
struct Rule {
    method: String,
    path: String,
    times: Times,
    fault: Fault,
    seen: usize,
    met: Met,
}

/// How often a fault has spoiled an answer.
#[derive(Clone, Debug, Default)]
pub struct Met(Arc<AtomicUsize>);

impl Met {
    pub fn times(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

impl Registry {
    /// Starts an empty registry on a free port.
    pub fn start() -> Registry {
        Registry::start_on(0)
    }

    /// Starts an empty registry on this port, which may be that of one stopped before.
    pub fn start_on(port: u16) -> Registry {
        // Another process may have the port of a stopped registry for a moment.
        let mut bound = TcpListener::bind(("127.0.0.1", port));
        for _ in 0..50 {
            if bound.is_err() {
                thread::sleep(Duration::from_millis(100));
                bound = TcpListener::bind(("127.0.0.1", port));
            }
        }
        let listener = bound.expect("listen on loopback");
        let address = listener.local_addr().expect("have an address");
        let shared = Arc::new(Shared::default());
        let acceptor = thread::spawn({
            let shared = Arc::clone(&shared);
            move || accept(&listener, &shared)
        });
        Registry { address, shared, acceptor: Some(acceptor) }
    }

    /// Another one with the same manifests, blobs and referrers, in order.
    pub fn copy(&self) -> Registry {
        let (copy, state) = (Registry::start(), self.shared.lock());
        let mut new = copy.shared.lock();
        new.manifests.clone_from(&state.manifests);
        new.blobs.clone_from(&state.blobs);
        new.referrers = state.referrers;
        drop((new, state));
        copy
    }

    pub fn addr(&self) -> SocketAddr {
        self.address
    }

    /// Adds the manifest by tag and by digest, and all blobs.
    pub fn add_image(&self, repo: &str, tag: &str, image: &Built) {
        self.add_manifest(repo, tag, &image.manifest_media_type, &image.manifest);
        for (digest, blob) in &image.blobs {
            self.add_blob(repo, digest, blob);
        }
    }

    /// Adds a manifest or index by `reference`, and by the digest that it has.
    pub fn add_manifest(&self, repo: &str, reference: &str, media_type: &str, bytes: &[u8]) {
        let mut state = self.shared.lock();
        for reference in [reference.to_string(), sha256(bytes)] {
            let value = (media_type.to_string(), bytes.to_vec());
            state.manifests.insert((repo.to_string(), reference), value);
        }
    }

    /// Adds a blob by `digest`, which need not be that of `bytes`.
    pub fn add_blob(&self, repo: &str, digest: &str, bytes: &[u8]) {
        let key = (repo.to_string(), digest.to_string());
        self.shared.lock().blobs.insert(key, bytes.to_vec());
    }

    /// The requests so far, in the order in which they were received.
    pub fn requests(&self) -> Vec<Logged> {
        let state = self.shared.lock();
        let entries = state.log.iter().map(|(logged, sent)| Logged {
            body_bytes_sent: sent.load(Ordering::SeqCst),
            ..logged.clone()
        });
        entries.collect()
    }

    /// How many connections were made so far.
    pub fn connections(&self) -> usize {
        self.shared.lock().accepted
    }

    /// The most bodies of blobs that were sent at the same time, since this was last asked.
    pub fn most_bodies(&self) -> usize {
        let now = self.shared.bodies.load(Ordering::SeqCst);
        self.shared.most_bodies.swap(now, Ordering::SeqCst)
    }

    /// Closes all connections, as a network does that has forgotten them.
    pub fn hang_up(&self) {
        for stream in self.shared.lock().connections.values() {
            // It may be closed already.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    pub fn clear_log(&self) {
        self.shared.lock().log.clear();
    }

    /// Spoils the responses to requests by `method`, or by any if that is empty, whose target
    /// contains `path`, or ends with it if a `$` follows. Of several faults that apply, the one set first is used.
    pub fn fault(&self, requests: (&str, &str, Times), fault: Fault) {
        self.counted_fault(requests, fault);
    }

    /// The same, and how often it is met.
    pub fn counted_fault(&self, (method, path, times): (&str, &str, Times), fault: Fault) -> Met {
        let (method, path, met) = (method.to_string(), path.to_string(), Met::default());
        let rule = Rule { method, path, times, fault, seen: 0, met: met.clone() };
        self.shared.lock().rules.push(rule);
        met
    }

    pub fn clear_faults(&self) {
        self.shared.lock().rules.clear();
    }

    /// Asks for these credentials in each request.
    pub fn require_basic(&self, user: &str, password: &str) {
        self.shared.lock().guard.auth = Auth::basic(user, password);
    }

    /// Asks for a token in each request, and for these credentials before it gives out one.
    pub fn require_bearer(&self, user_password: Option<(&str, &str)>) {
        self.shared.lock().guard.auth = Auth::bearer(user_password);
    }

    /// Which API for referrers there is from now on; none at first.
    pub fn set_referrers(&self, referrers: Referrers) {
        self.shared.lock().referrers = referrers;
    }

    /// How lists of tags are sent from now on; whole at first.
    pub fn set_tag_pages(&self, pages: TagPages) {
        self.shared.lock().tag_pages = pages;
    }

    /// Whether it lists its repositories, in pages as it does tags; not at first.
    pub fn set_catalog(&self, has_catalog: bool) {
        self.shared.lock().has_catalog = has_catalog;
    }

    /// Where uploads are sent to from now on: `http://HOST:PORT`, or nothing for a relative path.
    pub fn set_upload_origin(&self, origin: &str) {
        self.shared.lock().uploads.origin = origin.to_string();
    }

    /// The bytes of a manifest, if there is one by this tag or digest.
    pub fn manifest(&self, repo: &str, reference: &str) -> Option<Vec<u8>> {
        let key = (repo.to_string(), reference.to_string());
        self.shared.lock().manifests.get(&key).map(|(_, bytes)| bytes.clone())
    }

    /// The bytes of a blob, if there is one of this digest.
    pub fn blob(&self, repo: &str, digest: &str) -> Option<Vec<u8>> {
        let key = (repo.to_string(), digest.to_string());
        self.shared.lock().blobs.get(&key).cloned()
    }

    /// How long the tokens are valid that are given out from now on.
    pub fn set_token_lifetime(&self, lifetime: Duration) {
        self.shared.lock().guard.token_lifetime = lifetime;
    }

    /// Gives out tokens by POST as well, for this refresh token.
    pub fn set_identity_token(&self, token: &str) {
        self.shared.lock().guard.identity_token = Some(token.to_string());
    }

    /// Makes all tokens invalid that were given out so far.
    pub fn revoke_tokens(&self) {
        self.shared.lock().guard.tokens.clear();
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        {
            let mut state = self.shared.lock();
            state.stopping = true;
            for stream in state.connections.values() {
                // It may have been closed by its client, which is as good.
                let _ = stream.shutdown(Shutdown::Both);
            }
            self.shared.stopped.notify_all();
        }
        // The acceptor looks at the flag once it has a connection.
        let _ = TcpStream::connect(self.address);
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits, but not beyond the end of the registry, and says whether it goes on.
    fn pause(&self, duration: Duration) -> bool {
        let state = self.lock();
        let waited = self.stopped.wait_timeout_while(state, duration, |state| !state.stopping);
        let (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        !state.stopping
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    let mut threads: Vec<JoinHandle<()>> = Vec::new();
    for (id, stream) in listener.incoming().enumerate() {
        let mut state = shared.lock();
        if state.stopping {
            break;
        }
        let Ok(stream) = stream else { continue };
        let Ok(handle) = stream.try_clone() else {
            continue;
        };
        state.accepted += 1;
        state.connections.insert(id, handle);
        drop(state);
        let shared = Arc::clone(shared);
        threads.push(thread::spawn(move || {
            // The client may go away at any moment, which ends the connection and no more.
            let _ = converse(&stream, &shared);
            // The socket is closed only when its second handle is gone as well.
            shared.lock().connections.remove(&id);
        }));
    }
    for thread in threads {
        let _ = thread.join();
    }
}

/// Answers requests until either side closes the connection.
fn converse(stream: &TcpStream, shared: &Shared) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let address = stream.local_addr()?;
    while let Some(mut request) = Request::read(stream)? {
        if !request.is_read() {
            request.body = request.finish(stream)?;
        }
        let sent = Arc::new(AtomicU64::new(0));
        let (response, fault) = shared.lock().decide(&request, address, &sent);
        if request.is_read() && !matches!(fault, Some(Fault::Reset(_))) {
            request.finish(stream)?;
        }
        let wire = Wire { stream, sent: &sent, pause: &|duration| shared.pause(duration) };
        let is_body =
            request.method == "GET" && request.target.contains("/blobs/") && response.status < 300;
        if is_body {
            let bodies = shared.bodies.fetch_add(1, Ordering::SeqCst) + 1;
            shared.most_bodies.fetch_max(bodies, Ordering::SeqCst);
        }
        let result = wire.send(response, request.method == "HEAD", fault.as_ref());
        if is_body {
            shared.bodies.fetch_sub(1, Ordering::SeqCst);
        }
        let usable = result?;
        if !usable || request.wants_close() {
            break;
        }
    }
    Ok(())
}

impl State {
    /// Decides on the response to a request, and logs it.
    fn decide(
        &mut self,
        request: &Request,
        address: SocketAddr,
        sent: &Arc<AtomicU64>,
    ) -> (Response, Option<Fault>) {
        let (response, fault) = match self.guard.refusal(request, address) {
            Some(refusal) => (refusal, None),
            None => {
                let fault = self.fault_for(request);
                let ranged = match &fault {
                    Some(Fault::IgnoreRange) => false,
                    Some(Fault::CachedWhole) => request.has_line("cache-control", "no-cache"),
                    _ => true,
                };
                let is_refused = matches!(fault, Some(Fault::Status(..) | Fault::Redirect(..)));
                // What is refused has no effect; an answer that gets lost has one.
                let response = match is_refused && !request.is_read() {
                    true => Response::new(500, "text/plain", ""),
                    false => self.route(request, ranged),
                };
                let response = match &fault {
                    Some(Fault::WantsAcceptLine(line)) if !request.has_line("accept", line) => {
                        Response::error(406, "MANIFEST_UNKNOWN")
                    }
                    _ => response,
                };
                (spoil(response, fault.as_ref()), fault)
            }
        };
        let silent = matches!(fault, Some(Fault::CloseBeforeResponse));
        let logged = Logged {
            method: request.method.clone(),
            path: request.target.clone(),
            range: request.header("range").map(str::to_string),
            authorization: request.header("authorization").map(str::to_string),
            status: if silent { 0 } else { response.status },
            body_bytes_sent: 0,
        };
        self.log.push((logged, Arc::clone(sent)));
        (response, fault)
    }

    /// The first fault that applies. All faults that match count the request.
    fn fault_for(&mut self, request: &Request) -> Option<Fault> {
        let mut chosen = None;
        for rule in &mut self.rules {
            let method = rule.method.is_empty() || rule.method == request.method;
            let path = match rule.path.strip_suffix('$') {
                Some(end) => request.target.ends_with(end),
                None => request.target.contains(&rule.path),
            };
            if !method || !path {
                continue;
            }
            rule.seen += 1;
            let applies = match rule.times {
                Times::Always => true,
                Times::Nth(number) => rule.seen == number,
                Times::First(count) => rule.seen <= count,
            };
            if applies && chosen.is_none() {
                rule.met.0.fetch_add(1, Ordering::SeqCst);
                chosen = Some(rule.fault.clone());
            }
        }
        chosen
    }

    fn route(&mut self, request: &Request, ranged: bool) -> Response {
        let (path, query) = request.target.split_once('?').unwrap_or((&request.target, ""));
        if path == "/token" {
            return self.guard.token(request, query);
        }
        if request.is_read() && path == "/v2/" {
            return Response::new(200, "application/json", "{}")
                .with("Docker-Distribution-Api-Version", "registry/2.0");
        }
        if request.is_read() && path == "/v2/_catalog" && self.has_catalog {
            let mut names: Vec<&str> = self.manifests.keys().map(|(repo, _)| &repo[..]).collect();
            names.sort_unstable();
            names.dedup();
            return list_names(&self.tag_pages, &names, request, path);
        }
        let Some(place) = Place::parse(path) else {
            return Response::error(404, "NOT_FOUND");
        };
        if !request.is_read() {
            return self.write(request, &place, query);
        }
        if place.kind == "referrers" {
            return self.list_referrers(&place, query);
        }
        let key = (place.repo, place.reference);
        match place.kind {
            "manifests" => match self.manifests.get(&key) {
                Some((media_type, bytes)) => Response::new(200, media_type, bytes.clone())
                    .with("Docker-Content-Digest", sha256(bytes)),
                None => Response::error(404, "MANIFEST_UNKNOWN"),
            },
            "blobs" => match self.blobs.get(&key) {
                Some(bytes) => {
                    let range = request.header("range").filter(|_| ranged);
                    blob(bytes, range).with("Docker-Content-Digest", key.1)
                }
                None => Response::error(404, "BLOB_UNKNOWN"),
            },
            "tags" => {
                let references = self.manifests.keys().filter(|(repo, _)| *repo == key.0);
                let mut tags: Vec<&str> = references.map(|(_, tag)| &tag[..]).collect();
                if tags.is_empty() {
                    return Response::error(404, "NAME_UNKNOWN");
                }
                tags.retain(|tag| !tag.contains(':'));
                tags.sort_unstable();
                list_names(&self.tag_pages, &tags, request, path)
            }
            _ => Response::error(404, "NOT_FOUND"),
        }
    }
}

/// What a path of the distribution API names.
pub(super) struct Place {
    pub(super) repo: String,
    pub(super) kind: &'static str,
    pub(super) reference: String,
}

impl Place {
    pub(super) fn parse(path: &str) -> Option<Place> {
        let path = decode(path);
        let path = path.strip_prefix("/v2/")?;
        ["manifests", "blobs", "tags", "referrers"].into_iter().find_map(|kind| {
            let (repo, reference) = path.rsplit_once(&format!("/{kind}/"))?;
            Some(Place { repo: repo.to_string(), kind, reference: reference.to_string() })
        })
    }
}
