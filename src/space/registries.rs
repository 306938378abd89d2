//! Registries as directories: `HOST/REPOSITORY/:TAG/…`.
//!
//! # Problem
//!
//! Who looks through a repository does not know beforehand which of its images are wanted, and no mount can open
//! all of them. A shell asks for names of its own accord, too, and one dead host must not keep anything else waiting.
//!
//! # Design
//!
//! A path is a [meaning](super::names) before anything is asked for: hosts and parts of repositories are directories as soon
//! as they are named, and names that no reference can have are not there. What is asked for:
//!
//! - a host that is listed, for its repositories, and a repository, for its tags, once in a while ([`LISTS_STAY`]). Most
//!   public registries do not tell their repositories: then those are listed that were named;
//! - a tag or digest that no listing has shown, for its manifest, to know that it is there;
//! - an image that is *entered*, for everything: only then is it opened, on a thread of its own, for as long as that
//!   takes. Who waits for it gives up at their deadline, and finds it open later.
//!
//! Images in the stores of other programs are below `local`, by the names that these list ([`super::local`]), and so are those in
//! folders that were named, by their paths ([`super::archives`]).
//!
//! A tag means one image as long as it is used, and is looked up again when it was not for a while ([`IDLE`]); if it has
//! moved, it is another volume. Images that were not used for longest are closed when there are too many; a volume keeps its number
//! and its digest, and is opened again when one of its files is asked for.
//!
//! Files that images of one registry have in common are one inode, so that the kernel has their pages once and `diff -r`
//! reads none of them ([`LayerNumbers`](crate::image::LayerNumbers) says what is in common). An open image that has the file answers for it; if it can't read
//! it, as it may where a repository has lost a blob that another one has, the others that have the file are asked. If all are
//! closed, one that has it is opened ([`Holders`]).
//!
//! Images are opened at the same time. The first passes over layers of one host take turns ([`Turns`]), so that a layer
//! that images share is streamed once, and many images are no more work at a time than a few. Hosts do not wait for
//! each other.
//!
//! (Rejected: sharing between registries too. A read would wait for one that is dead though the image that was named is in
//! another.)
//!
//! Rejected: counting what the kernel remembers of an image (FORGET) to know when it may be closed. The kernel
//! remembers for as long as it has memory, and a closed image costs nothing but a moment.
//!
//! What is named is [written down](super::journal), so that a process that takes over gives the same numbers. It opens an
//! image again as it was opened, and shows nothing of one that has become another.
//!
//! # Invariants
//!
//! - Nothing here waits longer than it was told, but for what one request to a registry may take.
//! - No lock is held while a registry is asked, but for the one of that list.
//! - A number leads to one file for as long as the mount lasts: an image that is opened again is that of its digest, by way of the
//!   tables of contents by which it was known before.

mod again;
mod of_this_machine;

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant, SystemTime};

use xxhash_rust::xxh3::Xxh3Default;

use super::archives::Archives;
use super::directories::{Directories, Named, Node, SeenRoot};
use super::entered::Entered;
use super::holders::Holders;
use super::journal::{Journal, Record};
use super::local::{Child, is_local, stored_name};
use super::names::{Meaning, meaning};
use super::numbers::Numbers;
use super::slot::{FAILURE_STAYS, Slot};
use crate::blob::Spans;
use crate::cache::Cache;
use crate::digest::Digest;
use crate::fs::{Error, Filesystem};
use crate::image::{self, Common, Image, ImageOptions, Opened, Scope, Shown, View};
use crate::layer::{Quiet, Turns};
use crate::reference::ImageName;
use crate::source::registry::{Session, Traffic};

/// How long a list of repositories or of tags counts.
const LISTS_STAY: Duration = Duration::from_secs(60);

/// A tag that was not used for so long is looked up again.
const IDLE: Duration = Duration::from_secs(60);

/// Images that are open at the same time, and inodes in all of them.
const MAX_OPEN: usize = 64;
const MAX_INODES: usize = 8 << 20;

/// First passes over layers of one host at the same time.
const MAX_PASSES: usize = 6;

/// Names of directories and images that are remembered.
const MAX_NAMES: usize = 1 << 20;

/// How an image of a name is opened.
pub trait Opener: std::fmt::Debug + Send + Sync {
    /// The image and its options; what is wrong with the user's settings, if they can't be used.
    ///
    /// # Errors
    /// A sentence.
    fn options(&self, name: &ImageName) -> Result<(ImageName, ImageOptions), String>;
}

/// Registries as directories.
#[derive(Debug)]
pub struct Registries {
    opener: Box<dyn Opener>,
    archives: Archives,
    cache: Arc<Cache>,
    session: Session,
    /// All images read from them.
    spans: Arc<Spans>,
    /// Of layers that they have in common.
    numbers: Numbers,
    timeout: Duration,
    state: Mutex<State>,
    /// Held while something is listed, by its path.
    busy: Mutex<HashMap<String, Arc<Mutex<()>>>>,
    /// Of first passes, by host.
    turns: Mutex<HashMap<String, Arc<Turns>>>,
    own: Weak<Registries>,
}

#[derive(Debug)]
struct State {
    journal: Arc<Journal>,
    directories: Vec<Directory>,
    directory_ids: HashMap<String, u32>,
    images: Vec<Entry>,
    image_ids: HashMap<String, u32>,
    /// Images in stores, by the word of the store, and when they were listed.
    stored: HashMap<&'static str, (Instant, Arc<Vec<String>>)>,
    /// Which images have which files in common.
    holders: Holders,
}

#[derive(Debug)]
struct Directory {
    path: String,
    /// Directories in it that were named.
    children: BTreeMap<String, u32>,
    /// Its tags, if it is a repository, and when they were listed.
    tags: Option<(Instant, Tags)>,
    /// A checksum of the tags that were listed last, here or by another process.
    tags_sum: Option<u64>,
    /// When its repositories were asked for, if it is a host.
    catalog: Option<Instant>,
    changed: SystemTime,
}

/// The tags of a repository.
type Tags = Result<Arc<Vec<String>>, Absent>;

/// Why there are no tags.
#[derive(Clone, Debug)]
enum Absent {
    /// There is no such repository.
    Missing,
    Failed(String),
}

#[derive(Debug)]
struct Entry {
    /// Its reference in full; of an image in a store, its path.
    name: String,
    /// What the name means, once that is known.
    digest: Option<Digest>,
    /// What it was, if it was open once.
    entered: Option<Entered>,
    used: Instant,
    /// When it was last seen what the name means.
    checked: Instant,
    opened: Arc<Slot<Open>>,
}

/// An image that is open.
#[derive(Clone, Debug)]
struct Open {
    filesystem: Arc<Filesystem>,
    shown: Arc<Shown>,
}

impl Registries {
    /// Those that the journal says were named, none with a new one, and what lies in folders of this machine. No answer takes
    /// longer than `timeout`.
    ///
    /// # Errors
    /// The journal says what can't be.
    pub fn new(
        opener: Box<dyn Opener>,
        archives: Archives,
        cache: &Arc<Cache>,
        timeout: Duration,
        journal: Journal,
    ) -> io::Result<Arc<Registries>> {
        let journal = Arc::new(journal);
        let numbers = Numbers::new(&journal);
        let state = Mutex::new(State::of(journal, &numbers)?);
        Ok(Arc::new_cyclic(|own| Registries {
            opener,
            archives,
            cache: Arc::clone(cache),
            session: Session::default(),
            spans: Arc::new(Spans::new(Arc::clone(cache), ImageOptions::default().open_files)),
            numbers,
            timeout,
            state,
            busy: Mutex::default(),
            turns: Mutex::default(),
            own: Weak::clone(own),
        }))
    }

    /// A thread that panicked left nothing half done in there.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The turns of first passes over layers of a host.
    fn turns(&self, host: &str) -> Arc<Turns> {
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(turns.entry(host.to_owned()).or_insert_with(|| Turns::new(MAX_PASSES)))
    }

    /// What is held while a list is asked for.
    fn busy(&self, what: &str) -> Arc<Mutex<()>> {
        let mut busy = self.busy.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(busy.entry(what.to_owned()).or_default())
    }

    /// Where a directory is below the root.
    fn path_of(&self, id: u32) -> Result<String, Error> {
        let state = self.state();
        let directory = state.directories.get((id as usize).wrapping_sub(1));
        Ok(directory.ok_or(Error::NotFound)?.path.clone())
    }

    /// How an image is opened that is known by this name.
    fn options(&self, name: &str) -> Result<(ImageName, ImageOptions), String> {
        let stored = self.archives.image(name).or_else(|| stored_name(name));
        let stored = stored.map(|stored| stored.parse::<ImageName>());
        let parsed = stored.unwrap_or_else(|| name.parse().map(ImageName::Registry));
        self.opener.options(&parsed.map_err(|e| format!("{name}: {e}"))?)
    }

    /// Whether something of this name is there, and what it means now.
    fn ask(&self, name: &str) -> Result<Digest, Absent> {
        let (image, options) = self.options(name).map_err(Absent::Failed)?;
        match image::resolve_in(&image, &self.cache, &options, &self.session) {
            Ok(resolved) => Ok(resolved.root),
            Err(error) if error.is_missing() => Err(Absent::Missing),
            Err(error) => Err(Absent::Failed(error.to_string())),
        }
    }

    /// The volume of an image, which may have to be asked for.
    fn image(&self, name: String) -> Result<Named, Error> {
        let mut state = self.state();
        if let Some(&id) = state.image_ids.get(&name) {
            let entry = &mut state.images[id as usize - 1];
            let (is_pinned, now) = (name.contains('@') && !is_local(&name), Instant::now());
            let is_idle = |since: Instant| now.saturating_duration_since(since) > IDLE;
            // By a digest it means one image for ever, and what was never looked up is when it is opened.
            let is_settled = is_pinned || entry.digest.is_none();
            if is_settled || !is_idle(entry.used) || !is_idle(entry.checked) {
                entry.used = now;
                return Ok(Named::Volume(id));
            }
            let digest = entry.digest;
            drop(state);
            return self.look_again(id, &name, digest).map(Named::Volume);
        }
        drop(state);
        match self.ask(&name) {
            Ok(digest) => self.state().add_image(name, Some(digest)).map(Named::Volume),
            Err(Absent::Missing) => Err(Error::NotFound),
            Err(Absent::Failed(cause)) => Err(Error::Name { name, cause }),
        }
    }

    /// Looks up what a tag means that was not used for a while; another volume if it has moved.
    fn look_again(&self, id: u32, name: &str, digest: Option<Digest>) -> Result<u32, Error> {
        let now = self.ask(name);
        let mut state = self.state();
        match now {
            Ok(now) if Some(now) != digest => {
                log::info!("{name} has moved to {now}");
                state.forget_image(name);
                state.add_image(name.to_owned(), Some(now))
            }
            Err(Absent::Missing) => {
                state.forget_image(name);
                Err(Error::NotFound)
            }
            // What was there is shown as long as it can't be told that it is gone.
            outcome => {
                if let Err(Absent::Failed(why)) = outcome {
                    log::warn!("{name}: whether it has moved is not known: {why}");
                }
                let entry = &mut state.images[id as usize - 1];
                (entry.used, entry.checked) = (Instant::now(), Instant::now());
                Ok(id)
            }
        }
    }

    /// Makes directories of the repositories that a host lists.
    fn name_repositories(&self, host: &str, id: u32) {
        let is_known = |state: &State| {
            let asked = state.directories[id as usize - 1].catalog;
            asked.is_some_and(|when| when.elapsed() < LISTS_STAY)
        };
        let busy = self.busy(host);
        let _busy = busy.lock().unwrap_or_else(PoisonError::into_inner);
        if is_known(&self.state()) {
            return;
        }
        // Of no repository in particular.
        let asked = self.options(&format!("{host}/x")).and_then(|(name, options)| {
            image::repositories_in(&name, &options, &self.session).map_err(|e| e.to_string())
        });
        let mut state = self.state();
        state.directories[id as usize - 1].catalog = Some(Instant::now());
        match asked {
            Ok(names) => {
                for name in names {
                    if state.add_repository(id, host, &name).is_err() {
                        break;
                    }
                }
            }
            Err(why) => log::info!("{host}: its repositories are not known: {why}"),
        }
    }

    /// The tags of a repository.
    fn tags(&self, path: &str, id: u32) -> Tags {
        let known = |state: &State| {
            let (when, tags) = state.directories[id as usize - 1].tags.as_ref()?;
            let stays = if tags.is_ok() { LISTS_STAY } else { FAILURE_STAYS };
            (when.elapsed() < stays).then(|| tags.clone())
        };
        if let Some(tags) = known(&self.state()) {
            return tags;
        }
        // Who comes at the same time waits for the same answer.
        let busy = self.busy(path);
        let _busy = busy.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(tags) = known(&self.state()) {
            return tags;
        }
        let asked = self.options(path).map_err(Absent::Failed).and_then(|(name, options)| {
            let names = image::tag_names_in(&name, &self.cache, &options, &self.session);
            names.map(Arc::new).or_else(|error| {
                if error.is_missing() {
                    return Err(Absent::Missing);
                }
                // What was there when it last could be told.
                let before = image::remembered_tags(&name, &self.cache);
                let failed = || Absent::Failed(error.to_string());
                before.map(|record| Arc::new(record.names)).ok_or_else(failed)
            })
        });
        self.state().set_tags(id, &asked);
        asked
    }

    /// Opens an image, which takes what it takes.
    fn open_volume(&self, id: u32, name: &str, digest: Option<Digest>) -> Result<Open, String> {
        let before = self.state().images[id as usize - 1].entered.clone();
        let opened = self.open_now(name, digest, before.as_ref());
        let opened = opened.inspect_err(|why| log::warn!("{name}: {why}"))?;
        let entered = match before {
            Some(_) => None,
            None => Some(Entered::new(opened.shown.opened(), &opened.filesystem)),
        };
        let mut state = self.state();
        state.enter(id, entered)?;
        let entry = &mut state.images[id as usize - 1];
        entry.digest = Some(opened.shown.image.root);
        (entry.used, entry.checked) = (Instant::now(), Instant::now());
        state.make_room(id, opened.filesystem.tree().len());
        state.holders.opened(id, &opened.filesystem);
        Ok(opened)
    }

    fn open_now(
        &self,
        name: &str,
        digest: Option<Digest>,
        before: Option<&Entered>,
    ) -> Result<Open, String> {
        // What it meant when it was first looked at.
        let is_tag = !name.contains('@') && !is_local(name);
        let pinned = match digest.filter(|_| is_tag) {
            Some(digest) => format!("{name}@{digest}"),
            None => name.to_owned(),
        };
        let host = name.split('/').next().unwrap_or_default();
        let (image, mut options) = self.options(&pinned)?;
        if let Some(before) = before {
            options.open_again(before.opened.clone());
        }
        options.turns = Some(self.turns(host));
        let scope = Some(Scope { numbers: &self.numbers, name: host });
        let common = Common { session: &self.session, spans: Arc::clone(&self.spans), scope };
        let opened = Image::open_in(&image, &self.cache, &options, common, &Quiet);
        let mut view = View::from(opened.map_err(|error| error.to_string())?);
        let shown = view.images.pop().ok_or("it has nothing to show")?;
        if digest.is_some_and(|digest| digest != shown.image.root) {
            return Err("it is another image by now, which a new lookup shows".to_owned());
        }
        before.map_or(Ok(()), |before| before.check(&view.filesystem))?;
        Ok(Open { filesystem: view.filesystem, shown: Arc::new(shown) })
    }
}

impl Entry {
    /// Where it is below the root.
    fn path(&self) -> String {
        if is_local(&self.name) {
            return self.name.clone();
        }
        let start = self.name.rfind('/').map_or(0, |at| at + 1);
        let sign = self.name[start..].find([':', '@']).map_or(self.name.len(), |at| start + at);
        format!("{}/{}", &self.name[..sign], &self.name[sign..])
    }
}

impl Directory {
    fn new(path: String, changed: SystemTime) -> Directory {
        let children = BTreeMap::new();
        Directory { path, children, tags: None, tags_sum: None, catalog: None, changed }
    }
}

impl State {
    fn has_room(&self) -> bool {
        self.directories.len() + self.images.len() < MAX_NAMES
    }

    fn add_directory(&mut self, above: u32, name: &str, path: String) -> Result<u32, Error> {
        if let Some(&id) = self.directory_ids.get(&path) {
            return Ok(id);
        }
        let (name, changed) = (name.to_owned(), SystemTime::now());
        self.write_down(&path, &Record::Directory { above, name: name.clone(), changed })?;
        Ok(self.put_directory(above, name, path, changed))
    }

    fn put_directory(
        &mut self,
        above: u32,
        name: String,
        path: String,
        changed: SystemTime,
    ) -> u32 {
        self.directories.push(Directory::new(path.clone(), changed));
        let id = self.directories.len() as u32;
        self.directory_ids.insert(path, id);
        let above = &mut self.directories[above as usize - 1];
        above.children.insert(name, id);
        above.changed = changed;
        id
    }

    /// Writes down what is about to be named.
    fn write_down(&self, name: &str, record: &Record) -> Result<(), Error> {
        if !self.has_room() || !self.journal.add(record) {
            log::warn!("{name}: so many names were looked up that no more are");
            return Err(Error::NotFound);
        }
        Ok(())
    }

    /// What a name in a directory of stores leads to.
    fn add_local(&mut self, id: u32, path: &str, name: &str, child: Child) -> Result<Named, Error> {
        let path = format!("{path}/{name}");
        match child {
            Child::Directory => self.add_directory(id, name, path).map(Named::Directory),
            Child::Image => self.add_image(path, None).map(Named::Volume),
        }
    }

    /// The directories that lead to a repository of a host.
    fn add_repository(&mut self, host: u32, name_of_host: &str, name: &str) -> Result<(), Error> {
        let (mut above, mut path) = (host, name_of_host.to_owned());
        for part in name.split('/') {
            path = format!("{path}/{part}");
            above = self.add_directory(above, part, path.clone())?;
        }
        Ok(())
    }

    fn add_image(&mut self, name: String, digest: Option<Digest>) -> Result<u32, Error> {
        if let Some(&id) = self.image_ids.get(&name) {
            return Ok(id);
        }
        self.write_down(&name, &Record::Image { name: name.clone(), digest })?;
        Ok(self.put_image(name, digest))
    }

    fn put_image(&mut self, name: String, digest: Option<Digest>) -> u32 {
        let (now, opened) = (Instant::now(), Arc::default());
        let (used, checked, entered) = (now, now, None);
        self.images.push(Entry { name: name.clone(), digest, entered, used, checked, opened });
        let id = self.images.len() as u32;
        self.image_ids.insert(name, id);
        id
    }

    /// What a name has meant it means no more.
    fn forget_image(&mut self, name: &str) {
        if let Some(volume) = self.image_ids.remove(name) {
            // If there is no room for that, another process finds it out again.
            self.journal.add(&Record::Gone { volume });
        }
    }

    /// Remembers what an image is that was opened for the first time.
    fn enter(&mut self, volume: u32, entered: Option<Entered>) -> Result<(), String> {
        let Some(entered) = entered else { return Ok(()) };
        if !self.journal.add(&Record::Opened { volume, entered: entered.clone() }) {
            return Err("so many images were opened that no more are".to_owned());
        }
        self.images[volume as usize - 1].entered = Some(entered);
        Ok(())
    }

    /// Remembers the tags of a repository.
    fn set_tags(&mut self, id: u32, tags: &Tags) {
        let directory = &mut self.directories[id as usize - 1];
        directory.tags = Some((Instant::now(), tags.clone()));
        let Some(sum) = tags.as_ref().ok().map(|names| sum_of(names)) else { return };
        if directory.tags_sum != Some(sum) {
            (directory.changed, directory.tags_sum) = (SystemTime::now(), Some(sum));
            self.write_change(id);
        }
    }

    /// Writes down when a directory has changed. If there is no room for that, another process says that it changes then.
    fn write_change(&self, id: u32) {
        let Directory { tags_sum: tags, changed, .. } = self.directories[id as usize - 1];
        self.journal.add(&Record::Changed { directory: id, tags, changed });
    }

    /// Closes the images that were not used for longest, until there is room for this one with so many inodes.
    fn make_room(&mut self, id: u32, inodes: usize) {
        loop {
            let others = self.images.iter().enumerate().filter(|(at, _)| *at + 1 != id as usize);
            let open = others
                .filter_map(|(at, entry)| Some((at, entry.used, entry.opened.get()?.filesystem)));
            let open: Vec<_> = open.collect();
            let all: usize = open.iter().map(|(_, _, filesystem)| filesystem.tree().len()).sum();
            if open.len() < MAX_OPEN && all + inodes <= MAX_INODES {
                return;
            }
            let longest = open.iter().min_by_key(|(_, used, _)| *used);
            let Some((at, _, filesystem)) = longest else { return };
            self.images[*at].opened.clear();
            self.holders.closed(*at as u32 + 1, filesystem);
        }
    }
}

/// The file system of an image, if it is open.
fn opened_of(images: &[Entry], volume: u32) -> Option<Arc<Filesystem>> {
    Some(images.get((volume as usize).wrapping_sub(1))?.opened.get()?.filesystem)
}

/// A checksum of names.
fn sum_of(names: &[String]) -> u64 {
    let mut sum = Xxh3Default::new();
    for name in names {
        sum.update(name.as_bytes());
        sum.update(b"\n");
    }
    sum.digest()
}

impl Directories for Registries {
    fn node(&self, id: u32) -> Option<Node> {
        (id > 0 && id as usize <= self.state().directories.len()).then_some(Node::Directory)
    }

    fn changed(&self, id: u32) -> SystemTime {
        let state = self.state();
        let directory = state.directories.get((id as usize).wrapping_sub(1));
        directory.map_or(SystemTime::UNIX_EPOCH, |directory| directory.changed)
    }

    fn lookup(&self, id: u32, name: &[u8], _give_up: Instant) -> Result<Named, Error> {
        let path = self.path_of(id)?;
        if is_local(&path) {
            let name = std::str::from_utf8(name).map_err(|_| Error::NotFound)?;
            let child = self.local_child(&path, name)?;
            let named = self.state().add_local(id, &path, name, child)?;
            return match named {
                Named::Volume(_) => self.image(format!("{path}/{name}")),
                named => Ok(named),
            };
        }
        match meaning(&path, name).ok_or(Error::NotFound)? {
            Meaning::Directory(below) => {
                let name = String::from_utf8_lossy(name);
                self.state().add_directory(id, &name, below).map(Named::Directory)
            }
            Meaning::Image(text) => self.image(text),
        }
    }

    fn list(&self, id: u32, _give_up: Instant) -> Result<Vec<(Vec<u8>, Named)>, Error> {
        let path = self.path_of(id)?;
        if is_local(&path) {
            let below = self.local(&path)?;
            let mut state = self.state();
            let rows = below.into_iter().map(|(name, child)| {
                let named = state.add_local(id, &path, &name, child)?;
                Ok((name.into_bytes(), named))
            });
            return rows.collect();
        }
        if !path.is_empty() && !path.contains('/') {
            self.name_repositories(&path, id);
        }
        let mut rows = {
            let state = self.state();
            let directory = &state.directories[id as usize - 1];
            let children = directory.children.iter();
            let rows =
                children.map(|(name, id)| (name.clone().into_bytes(), Named::Directory(*id)));
            rows.collect::<Vec<_>>()
        };
        if path.contains('/') {
            match self.tags(&path, id) {
                Ok(tags) => {
                    let mut state = self.state();
                    for tag in tags.iter() {
                        let volume = state.add_image(format!("{path}:{tag}"), None)?;
                        rows.push((format!(":{tag}").into_bytes(), Named::Volume(volume)));
                    }
                }
                // It may be a part of the way to a repository.
                Err(Absent::Missing) => {}
                Err(Absent::Failed(why)) if !rows.is_empty() => log::warn!("{path}: {why}"),
                Err(Absent::Failed(cause)) => return Err(Error::Name { name: path, cause }),
            }
        }
        Ok(rows)
    }

    fn opened(&self, volume: u32) -> Result<Option<Arc<Filesystem>>, Error> {
        let mut state = self.state();
        let entry =
            state.images.get_mut((volume as usize).wrapping_sub(1)).ok_or(Error::NotFound)?;
        entry.used = Instant::now();
        Ok(entry.opened.get().map(|open| open.filesystem))
    }

    fn open(&self, volume: u32, give_up: Instant) -> Result<Arc<Filesystem>, Error> {
        let own = self.own.upgrade().ok_or(Error::NotFound)?;
        let (name, digest, slot) = {
            let state = self.state();
            let entry = state.images.get((volume as usize).wrapping_sub(1));
            let entry = entry.ok_or(Error::NotFound)?;
            (entry.name.clone(), entry.digest, Arc::clone(&entry.opened))
        };
        let wanted = name.clone();
        let open = slot.wait(&name, give_up, move || own.open_volume(volume, &wanted, digest))?;
        Ok(open.filesystem)
    }

    fn opened_with(&self, layer: u32, entry: u32) -> Result<Option<Arc<Filesystem>>, Error> {
        let mut state = self.state();
        let State { images, holders, .. } = &mut *state;
        let found = holders.open(layer, entry, |volume| opened_of(images, volume));
        if let Some((volume, filesystem)) = found {
            images[volume as usize - 1].used = Instant::now();
            return Ok(Some(filesystem));
        }
        match holders.candidates(layer, entry).is_empty() {
            true => Err(Error::NotFound),
            false => Ok(None),
        }
    }

    fn all_opened_with(&self, layer: u32, entry: u32) -> Vec<Arc<Filesystem>> {
        let state = self.state();
        state.holders.all_open(layer, entry, |volume| opened_of(&state.images, volume))
    }

    fn candidates(&self, layer: u32, entry: u32) -> Vec<u32> {
        self.state().holders.candidates(layer, entry)
    }

    fn seen_root(&self, volume: u32) -> Option<SeenRoot> {
        let state = self.state();
        let entry = state.images.get((volume as usize).wrapping_sub(1))?;
        entry.entered.as_ref().map(Entered::root)
    }

    fn timeout(&self) -> Duration {
        self.timeout
    }

    fn catch_up(&self) -> io::Result<()> {
        let mut state = self.state();
        let journal = Arc::clone(&state.journal);
        journal.replay(|record| state.name_again(record, &self.numbers))
    }

    /// All of it is written down.
    fn kept(&self) -> (Vec<Opened>, u64) {
        (Vec::new(), 0)
    }

    fn shown(&self) -> Vec<(String, Shown)> {
        let state = self.state();
        let open = state.images.iter().filter_map(|entry| {
            let open = entry.opened.get()?;
            Some((entry.path(), Shown::clone(&open.shown)))
        });
        open.collect()
    }

    fn spans(&self) -> Option<&Arc<Spans>> {
        Some(&self.spans)
    }

    fn traffic(&self) -> &Arc<Traffic> {
        self.session.traffic()
    }
}
