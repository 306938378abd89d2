//! Several hosts that have the same images: which one is asked, and what happens when it fails.
//!
//! Each request goes to the hosts in the order in which the user has put them, the registry itself
//! last, until one succeeds. So a mirror that is down, lacks a blob or sends something else costs a
//! moment and nothing more, also in the middle of a blob. Who has once answered for a blob is asked
//! first for the rest of it. A mirror that can't be reached is left alone for a while, longer each
//! time, as waiting for it is what makes a broken one slow. The registry itself never is: what it says,
//! or that it can't be reached, is the answer in the end.
//!
//! A blob of which several hosts have sent parts, and which turns out wrong, may be wrong by any of them.
//! It is asked for once more then, all of it from one of them, which shows who it is.
//!
//! Every host has a [`Client`] of its own with its own credentials, which no other host gets to see.

use std::mem;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use lru::LruCache;

use super::client::Client;
use super::error::Error;
use super::transport::deadline;
use crate::digest::Digest;
use crate::oci::MAX_LAYERS;
use crate::reference::Reference;

/// How long a host is left alone that could not be reached; twice as long each further time.
const FIRST_REST: Duration = Duration::from_secs(30);

/// Longest time for which a host is left alone.
const MAX_REST: Duration = Duration::from_secs(480);

/// How often a blob may come in parts from several hosts and be wrong before the last of them is blamed
/// for it, as there is to be an end.
const MAX_SPLICED: u32 = 3;

/// All hosts for one image.
#[derive(Debug)]
pub(super) struct Mirrors {
    /// The image, by its own name.
    pub(super) reference: Reference,
    /// In the order in which they are asked. There is at least one; the last is the registry.
    hosts: Vec<Mirror>,
    known: Mutex<LruCache<Digest, BlobHistory>>,
}

#[derive(Debug)]
struct Mirror {
    client: Arc<Client>,
    rest: Mutex<Rest>,
}

/// How often a host could not be reached, and until when it is left alone for it.
#[derive(Clone, Copy, Debug, Default)]
struct Rest {
    failures: u32,
    until: Option<Instant>,
}

/// What is known of one blob or manifest, by numbers of hosts.
#[derive(Clone, Debug, Default)]
struct BlobHistory {
    answered: Option<usize>,
    /// Who broke off in the middle of it last.
    broke_off: Option<usize>,
    /// Who had sent some of it before breaking off: others went on.
    earlier: Vec<usize>,
    /// Times that it was wrong and several had sent parts.
    spliced: u32,
    /// The next time it is to come from one host alone.
    is_for_one: bool,
    /// They sent something else under its digest.
    wrong: Vec<usize>,
}

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    /// Something that the host decides on: what a tag means, which tags there are.
    Name,
    /// Bytes with this digest, so that it does not matter who sends them.
    Content(Digest),
}

impl Mirrors {
    pub(super) fn new(reference: Reference, clients: Vec<Arc<Client>>) -> Mirrors {
        let hosts = clients.into_iter().map(|client| Mirror { client, rest: Mutex::default() });
        // The blobs of one image, and its documents.
        let size = NonZeroUsize::new(MAX_LAYERS).unwrap_or(NonZeroUsize::MIN);
        Mirrors { reference, hosts: hosts.collect(), known: Mutex::new(LruCache::new(size)) }
    }

    /// The registry itself.
    pub(super) fn origin(&self) -> &Arc<Client> {
        #[allow(clippy::expect_used, reason = "there is no way to make one without a host")]
        let last = self.hosts.last().expect("there is a last host");
        &last.client
    }

    /// Does something with one host after the other until it succeeds, and all of that again as long
    /// as that may help.
    pub(super) fn try_hosts<T>(
        &self,
        wanted: Wanted,
        mut act: impl FnMut(&Arc<Client>) -> Result<T, Error>,
    ) -> Result<T, Error> {
        self.origin().retry(|| self.try_hosts_once(wanted, &mut act))
    }

    /// The same, each host once.
    pub(super) fn try_hosts_once<T>(
        &self,
        wanted: Wanted,
        mut act: impl FnMut(&Arc<Client>) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let mut failed = Vec::new();
        let order = self.order(wanted);
        let usual = self.origin().options.deadline;
        for (at, &number) in order.iter().enumerate() {
            // One that says nothing must leave time for those after it.
            let share = deadline::left(usual) / u32::try_from(order.len() - at).unwrap_or(1);
            let until = Instant::now() + share;
            match deadline::until(until, || self.try_host(number, wanted, &mut act)) {
                Ok(done) => return Ok(done),
                Err(error) => failed.push((number, error)),
            }
        }
        // The registry's own word counts, whenever it was asked.
        failed.sort_by_key(|(number, _)| *number);
        let mut errors = failed.into_iter().map(|(_, error)| error).collect::<Vec<_>>();
        match errors.pop() {
            Some(last) => Err(last.after(errors)),
            None => act(self.origin()),
        }
    }

    fn try_host<T>(
        &self,
        number: usize,
        wanted: Wanted,
        act: &mut impl FnMut(&Arc<Client>) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let Some(mirror) = self.hosts.get(number) else { return act(self.origin()) };
        let result = mirror.client.in_its_scheme(|| act(&mirror.client));
        match &result {
            Ok(_) => {
                *lock(&mirror.rest) = Rest::default();
                if let Wanted::Content(digest) = wanted
                    && self.hosts.len() > 1
                {
                    let mut known = lock(&self.known);
                    known.get_or_insert_mut(digest, BlobHistory::default).answered = Some(number);
                }
            }
            // The registry itself is asked in any case, as there is no host after it.
            Err(error) if number + 1 < self.hosts.len() => mirror.note(error),
            Err(_) => {}
        }
        result
    }

    /// The hosts to ask, first first: who has answered for this before, then in the user's order,
    /// without those that can't be of use now. There is always one.
    fn order(&self, wanted: Wanted) -> Vec<usize> {
        let all = 0..self.hosts.len();
        if self.hosts.len() == 1 {
            return all.collect();
        }
        let known = match wanted {
            Wanted::Content(digest) => lock(&self.known).get(&digest).cloned().unwrap_or_default(),
            Wanted::Name => BlobHistory::default(),
        };
        let can = |number: &usize| {
            let client = &self.hosts[*number].client;
            match wanted {
                Wanted::Name => client.resolves,
                Wanted::Content(_) => client.pulls && !known.wrong.contains(number),
            }
        };
        let now = Instant::now();
        let is_up = |number: &usize| lock(&self.hosts[*number].rest).until.is_none_or(|t| t <= now);
        let mut order: Vec<usize> = all.clone().filter(can).filter(is_up).collect();
        if order.is_empty() {
            order.extend(all.clone().filter(can));
        }
        if order.is_empty() {
            order.extend(all.last());
        }
        if let Some(first) = known.answered
            && let Some(at) = order.iter().position(|number| *number == first)
        {
            order[..=at].rotate_right(1);
        }
        if let Some(broke_off) = known.broke_off {
            order.sort_by_key(|number| *number == broke_off);
        }
        order
    }

    /// The hosts that may be asked about names, first first.
    pub(super) fn for_names(&self) -> impl Iterator<Item = &Arc<Client>> {
        let order = self.order(Wanted::Name).into_iter();
        order.filter_map(|number| Some(&self.hosts.get(number)?.client))
    }

    /// Notes that a host broke off in the middle of a blob, having sent some of it or nothing: the others
    /// are asked before it.
    pub(super) fn broke_off(&self, digest: &Digest, client: &Arc<Client>, has_sent: bool) {
        let number = self.hosts.iter().position(|host| Arc::ptr_eq(&host.client, client));
        let mut known = lock(&self.known);
        if let (Some(number), Some(entry)) = (number, known.get_mut(digest)) {
            entry.answered = entry.answered.filter(|answered| *answered != number);
            entry.broke_off = Some(number);
            if has_sent && !entry.earlier.contains(&number) {
                entry.earlier.push(number);
            }
        }
    }

    /// Notes that a host sends a part of a blob, of which others may send the rest.
    pub(super) fn sends_part(&self, digest: &Digest, client: &Arc<Client>) {
        let number = self.hosts.iter().position(|host| Arc::ptr_eq(&host.client, client));
        let mut known = lock(&self.known);
        if let (Some(number), Some(entry)) = (number, known.get_mut(digest))
            && !entry.earlier.contains(&number)
        {
            entry.earlier.push(number);
        }
    }

    /// Whether a blob that is asked for now has to come from one host alone, since it was wrong when
    /// several had sent parts of it.
    pub(super) fn is_for_one(&self, digest: &Digest) -> bool {
        lock(&self.known).get_mut(digest).is_some_and(|entry| mem::take(&mut entry.is_for_one))
    }

    /// Notes that who answered last for a digest sent something else. Whether there is anybody else
    /// to ask for it.
    pub(super) fn distrust(&self, digest: &Digest) -> bool {
        let mut known = lock(&self.known);
        let Some(entry) = known.get_mut(digest) else { return false };
        // If there is none, another thread has just found out as well.
        if let Some(number) = entry.answered.take() {
            let mut suspects = mem::take(&mut entry.earlier);
            suspects.retain(|earlier| *earlier != number);
            let is_spliced = !suspects.is_empty() && entry.spliced < MAX_SPLICED;
            suspects.push(number);
            let clients =
                suspects.iter().filter_map(|number| Some(&self.hosts.get(*number)?.client));
            clients.clone().for_each(|client| client.forget_location(digest));
            if is_spliced {
                let names: Vec<&str> = clients.map(|client| client.name()).collect();
                let names = names.join(" or ");
                log::warn!("{names} sent wrong bytes for {digest}; asking one alone for it");
                entry.spliced += 1;
                entry.is_for_one = true;
                return true;
            }
            if let Some(mirror) = self.hosts.get(number) {
                log::warn!("{} sent wrong bytes for {digest}", mirror.client.name());
            }
            entry.wrong.push(number);
        }
        let is_left =
            |number: usize| self.hosts[number].client.pulls && !entry.wrong.contains(&number);
        if (0..self.hosts.len()).any(is_left) {
            return true;
        }
        // They all did. A later read may find one that has been put in order.
        entry.wrong.clear();
        false
    }
}

impl Mirror {
    /// Remembers a failure, if it is one to connect.
    fn note(&self, error: &Error) {
        if !error.is_outage() {
            log::info!("{error}; asking the next host");
            return;
        }
        let mut rest = lock(&self.rest);
        let now = Instant::now();
        if rest.until.is_some_and(|until| until > now) {
            // Another thread has just found out as well.
            return;
        }
        let pause = FIRST_REST * 2u32.saturating_pow(rest.failures.min(8));
        let pause = pause.min(MAX_REST);
        *rest = Rest { failures: rest.failures + 1, until: Some(now + pause) };
        log::warn!("{error}; {} is not asked for {} s", self.client.name(), pause.as_secs());
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
