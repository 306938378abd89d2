//! What the directories of this machine have: images in stores of other programs, and in folders of archives.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use super::Registries;
use crate::fs::Error;
use crate::source::ListedStore;
use crate::space::archives::ARCHIVES;
use crate::space::local::{Child, LOCAL, children};

/// How long a list of the images in a store of this machine counts.
const STORED_STAY: Duration = Duration::from_secs(5);

impl Registries {
    /// The images in a store of this machine, asked for once in a while.
    fn stored(&self, store: ListedStore) -> Arc<Vec<String>> {
        let key = format!("{LOCAL}/{}", store.word());
        let busy = self.busy(&key);
        let _busy = busy.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((when, names)) = self.state().stored.get(store.word())
            && when.elapsed() < STORED_STAY
        {
            return Arc::clone(names);
        }
        let asked = self.options(&format!("{key}/x"));
        let names = asked.map(|(_, options)| store.names(&options.stores, options.read_deadline));
        let names = names.unwrap_or_else(|why| {
            log::info!("{key}: {why}");
            Vec::new()
        });
        let names = Arc::new(names);
        self.state().stored.insert(store.word(), (Instant::now(), Arc::clone(&names)));
        names
    }

    /// What a directory of stores of this machine has.
    pub(super) fn local(&self, path: &str) -> Result<BTreeMap<String, Child>, Error> {
        if let Some(directory) = self.archives.directory(path) {
            return Ok(directory.children());
        }
        let of_store = |store: &ListedStore| {
            let rest = path.strip_prefix(LOCAL)?.strip_prefix('/')?.strip_prefix(store.word())?;
            (rest.is_empty() || rest.starts_with('/')).then(|| rest.trim_start_matches('/'))
        };
        let found = ListedStore::ALL.iter().find_map(|store| Some((*store, of_store(store)?)));
        Ok(match found {
            Some((store, rest)) => children(&self.stored(store), rest),
            None if path == LOCAL => {
                let stores = ListedStore::ALL.into_iter();
                let stores = stores.filter(|store| !self.stored(*store).is_empty());
                let stores = stores.map(|store| store.word());
                let archives = (!self.archives.is_empty()).then_some(ARCHIVES);
                let names = stores.chain(archives);
                names.map(|name| (name.to_owned(), Child::Directory)).collect()
            }
            None => return Err(Error::NotFound),
        })
    }

    /// What a name in a directory of this machine leads to.
    pub(super) fn local_child(&self, path: &str, name: &str) -> Result<Child, Error> {
        let child = match self.archives.directory(path) {
            Some(directory) => directory.child(name),
            None => self.local(path)?.remove(name),
        };
        child.ok_or(Error::NotFound)
    }
}
