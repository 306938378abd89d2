//! What each call of the snapshots API does.

use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::filter::Filters;
use crate::idmap::IdMap;
use crate::mapped::MappedMounts;
use crate::metrics::{Metrics, Present};
use crate::news::News;
use crate::overlay::{self, Directories, Mount};
use crate::remote::{Below, Images, Wanted};
use crate::snapshots::{Change, Error, Kind, Labels, Remote, Snapshot, Snapshots, Usage};
use crate::trees::{Traffic, Trees};

/// It.
#[derive(Debug)]
pub(crate) struct Snapshotter {
    snapshots: Snapshots,
    directories: Directories,
    images: Images,
    trees: Trees,
    mapped: MappedMounts,
    news: Arc<News>,
    metrics: Arc<Metrics>,
    /// Whether containers in user namespaces are shown their owners; otherwise containerd sees to that.
    remap_ids: bool,
}

impl Snapshotter {
    pub(crate) fn new(
        root: &Path,
        snapshots: Snapshots,
        images: Images,
        trees: Trees,
        remap_ids: bool,
    ) -> Snapshotter {
        let (news, metrics) = (Arc::default(), Arc::default());
        let (directories, mapped) = (Directories::new(root), MappedMounts::new(root));
        Snapshotter { snapshots, directories, images, trees, mapped, news, metrics, remap_ids }
    }

    /// Looks whether the database can be used, and says so if not; and removes what a process that died has left.
    pub(crate) fn begin(&self) {
        if let Err(error) = self.snapshots.check().and_then(|()| self.clean_directories()) {
            log::error!("{error}");
        }
    }

    /// Images as they come.
    pub(crate) fn news(&self) -> &Arc<News> {
        &self.news
    }

    /// What is counted.
    pub(crate) fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    /// How many snapshots there are, by kind.
    pub(crate) fn present(&self) -> Present {
        let mut kinds = [("active", 0), ("committed", 0), ("remote", 0), ("view", 0)];
        let all = self.snapshots.all();
        for (_, snapshot) in all.iter().flatten() {
            let kind = match snapshot.remote {
                Some(_) => "remote",
                None => snapshot.kind.name(),
            };
            if let Some((_, count)) = kinds.iter_mut().find(|(name, _)| *name == kind) {
                *count += 1;
            }
        }
        Present { snapshots: all.is_ok().then_some(kinds), credentials: 0 }
    }

    /// The images that have snapshots.
    pub(crate) fn shown(&self) -> Result<HashSet<String>, Error> {
        let all = self.snapshots.all()?.into_iter();
        Ok(all.filter_map(|(_, snapshot)| Some(snapshot.remote?.image)).collect())
    }

    /// What is going on between this machine and registries.
    pub(crate) fn traffic(&self) -> Traffic {
        let mut traffic = self.trees.traffic();
        traffic.waiting += self.images.opening() as u64;
        traffic
    }

    /// Begins a snapshot to write to; or finds that the layer that is to come is there.
    pub(crate) fn prepare(
        &self,
        key: &str,
        parent: &str,
        labels: Labels,
    ) -> Result<Vec<Mount>, Error> {
        match Wanted::of(&labels)
            .map(|wanted| wanted.and_then(|w| self.remote(&w, parent, &labels)))
        {
            Some(Ok(remote)) => {
                self.news.add(&remote.image);
                log::info!(
                    "{}: {} of {} layers are there",
                    remote.image,
                    remote.count,
                    remote.layers
                );
                return Err(Error::Exists(format!("of the chain ID {}", remote.chain_id)));
            }
            Some(Err(why)) => {
                self.metrics.left.add(1);
                log::warn!("{why}: containerd fetches and unpacks the layer itself");
            }
            None => {}
        }
        self.create(Kind::Active, key, parent, labels)
    }

    /// Begins a snapshot to read.
    pub(crate) fn view(
        &self,
        key: &str,
        parent: &str,
        labels: Labels,
    ) -> Result<Vec<Mount>, Error> {
        self.create(Kind::View, key, parent, labels)
    }

    /// The remote snapshot that labels ask for.
    fn remote(&self, wanted: &Wanted, parent: &str, labels: &Labels) -> Result<Remote, String> {
        let chain_id = wanted.chain_id();
        let told = |error: Error| error.to_string();
        if let Some(remote) = self.snapshots.remote(&chain_id, parent).map_err(told)? {
            return Ok(remote);
        }
        let on = match parent {
            "" => None,
            parent => Some(self.snapshots.get(parent).map_err(told)?),
        };
        let below = match &on {
            None => Below::Nothing,
            Some(Snapshot { remote: Some(remote), .. }) => Below::Tree(&remote.chain_id),
            Some(_) => Below::Directory,
        };
        let open = |all: &Remote| self.trees.mounted(all).map(drop);
        let image = self.images.opened(wanted.image(), open)?;
        let remote = wanted.within(&image, below)?;
        self.snapshots.add_remote(parent, labels.clone(), remote.clone()).map_err(told)?;
        Ok(remote)
    }

    fn create(
        &self,
        kind: Kind,
        key: &str,
        parent: &str,
        labels: Labels,
    ) -> Result<Vec<Mount>, Error> {
        // Before there is anything of it.
        self.id_map(&labels)?;
        let make = |number| {
            let made = self.directories.make(number, kind);
            made.map_err(|e| Error::Io(format!("no directory can be made for a snapshot: {e}")))
        };
        let snapshot = self.snapshots.create(kind, key, parent, labels, make)?;
        // It has its row, so that what is below it is not removed.
        self.mounts_of(key, Some(&snapshot)).inspect_err(|_| {
            if let Err(error) = self.remove(key) {
                log::warn!("{error}");
            }
        })
    }

    /// The mounts of a snapshot that has been begun.
    pub(crate) fn mounts(&self, key: &str) -> Result<Vec<Mount>, Error> {
        self.mounts_of(key, None)
    }

    fn mounts_of(&self, key: &str, new: Option<&Snapshot>) -> Result<Vec<Mount>, Error> {
        let (snapshot, below) = self.snapshots.lineage(key)?;
        if snapshot.kind == Kind::Committed {
            return Err(Error::Precondition(format!("snapshot {key} is committed")));
        }
        let below = below.iter().map(|below| match &below.remote {
            None => Ok(self.directories.upper(below.number)),
            Some(remote) => self.trees.mounted(remote).map_err(|why| {
                Error::Unavailable(format!("{} can't be mounted: {why}", remote.image))
            }),
        });
        let below = below.collect::<Result<Vec<PathBuf>, Error>>()?;
        let map = self.id_map(&snapshot.labels)?;
        if let Some(new) = new {
            let owned = self.directories.own_as(new.number, below.first(), map.as_ref());
            owned.map_err(|e| Error::Io(format!("the root of snapshot {key}: {e}")))?;
        }
        let below = match &map {
            Some(map) => self.mapped.make(snapshot.number, &below, map).map_err(|e| {
                Error::Io(format!("the owners that snapshot {key} has in its user namespace: {e}"))
            })?,
            None => below,
        };
        Ok(self.directories.mounts(snapshot.number, snapshot.kind, &below))
    }

    /// Who owns files in the container of a snapshot, if these are others than outside.
    fn id_map(&self, labels: &Labels) -> Result<Option<IdMap>, Error> {
        if !self.remap_ids {
            return Ok(None);
        }
        let map = IdMap::of(labels).map_err(Error::Invalid)?;
        // One without root is refused here, and not when a container starts.
        map.iter().try_for_each(|map| map.outside(0, 0).map(drop)).map_err(Error::Invalid)?;
        Ok(map)
    }

    pub(crate) fn commit(&self, name: &str, key: &str, labels: Labels) -> Result<(), Error> {
        let measure = |number| self.measure(number);
        self.snapshots.commit(name, key, labels, measure)
    }

    /// Removes a snapshot. What can't be removed of its directory, or unmounted, is left for a later time.
    pub(crate) fn remove(&self, key: &str) -> Result<(), Error> {
        let removed = self.snapshots.remove(key)?;
        match removed.remote {
            Some(remote) => {
                let (_, chain_ids) = self.snapshots.in_use()?;
                if !chain_ids.contains(&remote.chain_id)
                    && let Err(why) = self.trees.close(&remote.chain_id)
                {
                    log::info!("{why}");
                }
            }
            None => {
                self.remove_directory(removed.number);
            }
        }
        Ok(())
    }

    pub(crate) fn stat(&self, key: &str) -> Result<Snapshot, Error> {
        self.snapshots.get(key)
    }

    pub(crate) fn update(&self, name: &str, change: Change) -> Result<Snapshot, Error> {
        self.snapshots.update(name, change)
    }

    /// What a snapshot takes on this disk: of a tree, nothing but what is in the cache.
    pub(crate) fn usage(&self, key: &str) -> Result<Usage, Error> {
        let snapshot = self.snapshots.get(key)?;
        match snapshot.kind {
            Kind::Active => self.measure(snapshot.number),
            Kind::View | Kind::Committed => Ok(snapshot.usage),
        }
    }

    pub(crate) fn list(&self, filters: &[String]) -> Result<Vec<(String, Snapshot)>, Error> {
        let filters = Filters::parse(filters).map_err(Error::Invalid)?;
        let mut all = self.snapshots.all()?;
        all.retain(|(name, snapshot)| filters.matches(name, snapshot));
        // Of those with a chain ID containerd takes the first: the one whose tree has been held against it.
        all.sort_by_key(|(_, snapshot)| snapshot.remote.is_none());
        Ok(all)
    }

    /// Removes what belongs to no snapshot.
    pub(crate) fn cleanup(&self) -> Result<(), Error> {
        self.clean_directories()?;
        let (_, chain_ids) = self.snapshots.in_use()?;
        self.trees.sweep(&chain_ids);
        Ok(())
    }

    fn clean_directories(&self) -> Result<(), Error> {
        let failed = |e: io::Error| Error::Io(format!("the directories of snapshots: {e}"));
        // A directory that is made after they were listed has its row before it is looked for.
        let mut there = self.directories.numbers().map_err(failed)?;
        there.extend(self.mapped.numbers().map_err(failed)?);
        let (numbers, _) = self.snapshots.in_use()?;
        for number in there.into_iter().filter(|number| !numbers.contains(number)) {
            self.remove_directory(number);
        }
        Ok(())
    }

    /// Removes what a snapshot had on this disk, after its row.
    fn remove_directory(&self, number: u64) {
        let removed = self.mapped.remove(number).and_then(|()| self.directories.remove(number));
        if let Err(e) = removed {
            log::warn!("the directory of a snapshot can't be removed: {e}");
        }
    }

    fn measure(&self, number: u64) -> Result<Usage, Error> {
        let usage = overlay::usage(&self.directories.upper(number));
        usage.map_err(|e| Error::Io(format!("what a snapshot takes can't be measured: {e}")))
    }
}
