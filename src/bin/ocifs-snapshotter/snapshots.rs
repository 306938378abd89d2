//! Snapshots as containerd knows them: names, parents and labels, and what may become of what.
//!
//! ```text
//! Prepare, View -> active, view (a directory)      by a key
//! Commit        active -> committed                by a name, which others may have as their parent
//! Prepare       of a layer that is shown -> committed, remote (no directory)
//! Remove        all of them, children first
//! ```
//!
//! Names are containerd's, and anything may stand in them: they are never parts of paths. A directory is named by the
//! number of its snapshot, which is never used again.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use redb::{
    MultimapTable, MultimapTableDefinition, ReadOnlyMultimapTable, ReadOnlyTable, ReadableDatabase,
    ReadableMultimapTable, ReadableTable, StorageError, Table, TableDefinition, WriteTransaction,
};
use serde::{Deserialize, Serialize};

use crate::database::{self, Database};

/// Rows, as JSON, by name.
const SNAPSHOTS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("snapshots");

/// The names of a snapshot's children, by its name; of those without a parent, by an empty one.
const CHILDREN: MultimapTableDefinition<'_, &str, &str> = MultimapTableDefinition::new("children");

const NUMBERS: TableDefinition<'_, &str, u64> = TableDefinition::new("numbers");
const NEXT: &str = "next";

/// Longest name, key and value of a label, in bytes. containerd's own limit for a label is 4096.
const MAX_TEXT_BYTES: usize = 16 << 10;

/// Most ancestors: more than an overlay can have layers.
const MAX_DEPTH: usize = 1000;

/// Why a call fails, in the words that containerd's users read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Error {
    #[error("snapshot {0} does not exist")]
    NotFound(String),
    #[error("snapshot {0} already exists")]
    Exists(String),
    #[error("{0}")]
    Precondition(String),
    #[error("{0}")]
    Invalid(String),
    #[error("{0}")]
    Unavailable(String),
    #[error(transparent)]
    Database(#[from] database::Error),
    #[error("{0}")]
    Io(String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    View,
    Active,
    Committed,
}

impl Kind {
    /// As filters and messages call it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Kind::View => "view",
            Kind::Active => "active",
            Kind::Committed => "committed",
        }
    }
}

/// What a directory takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Usage {
    pub(crate) bytes: u64,
    pub(crate) inodes: u64,
}

/// The lowest layers of an image, which have been found to have a chain ID.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Remote {
    /// The image by the digest of its manifest.
    pub(crate) image: String,
    pub(crate) chain_id: String,
    /// How many layers that are, and how many the image has.
    pub(crate) count: usize,
    pub(crate) layers: usize,
}

pub(crate) type Labels = BTreeMap<String, String>;

/// A row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Snapshot {
    /// What its directory is called.
    pub(crate) number: u64,
    pub(crate) kind: Kind,
    /// The name of the snapshot below; empty if there is none.
    pub(crate) parent: String,
    pub(crate) labels: Labels,
    /// Since 1970.
    pub(crate) created: Duration,
    pub(crate) updated: Duration,
    /// Of what is committed.
    #[serde(default)]
    pub(crate) usage: Usage,
    /// The tree that it is; otherwise it is a directory.
    #[serde(default)]
    pub(crate) remote: Option<Remote>,
}

/// What of labels is to be changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// They become these.
    All(Labels),
    /// Some do, or go if there is no value.
    Some(Vec<(String, Option<String>)>),
}

/// All snapshots.
#[derive(Debug)]
pub(crate) struct Snapshots(Database);

impl Snapshots {
    /// Those of a folder.
    pub(crate) fn new(root: &Path) -> Snapshots {
        Snapshots(Database::new(&root.join("snapshots.redb"), begin))
    }

    /// Whether the database can be used.
    pub(crate) fn check(&self) -> Result<(), Error> {
        self.0.with(|_| Ok(Ok(())))
    }

    /// Begins a directory on top of `parent`. Before the row is there, `make` makes it, by its number.
    pub(crate) fn create(
        &self,
        kind: Kind,
        key: &str,
        parent: &str,
        labels: Labels,
        make: impl FnOnce(u64) -> Result<(), Error>,
    ) -> Result<Snapshot, Error> {
        check_texts(key, &labels)?;
        self.write(|writing| {
            writing.tables.may_begin(key, parent)?;
            let number = writing.next()?;
            make(number)?;
            let now = now();
            let (usage, remote) = (Usage::default(), None);
            let parent = parent.to_owned();
            let snapshot = Snapshot {
                number,
                kind,
                parent,
                labels,
                created: now,
                updated: now,
                usage,
                remote,
            };
            writing.put(key, &snapshot)?;
            Ok(snapshot)
        })
    }

    /// Adds a remote snapshot. What is found by its chain ID and parent is not added again.
    pub(crate) fn add_remote(
        &self,
        parent: &str,
        labels: Labels,
        remote: Remote,
    ) -> Result<(), Error> {
        check_texts(&remote.image, &labels)?;
        self.write(|writing| {
            if writing.tables.remote(&remote.chain_id, parent)?.is_some() {
                return Ok(());
            }
            let number = writing.next()?;
            // containerd finds it by label and parent, whatever it is called. Its own names begin with a namespace.
            let name = format!("ocifs/{number}/{}", remote.chain_id);
            writing.tables.may_begin(&name, parent)?;
            let now = now();
            let snapshot = Snapshot {
                number,
                kind: Kind::Committed,
                parent: parent.to_owned(),
                labels,
                created: now,
                updated: now,
                usage: Usage::default(),
                remote: Some(remote),
            };
            writing.put(&name, &snapshot)
        })
    }

    /// The remote snapshot with a chain ID on top of `parent`.
    pub(crate) fn remote(&self, chain_id: &str, parent: &str) -> Result<Option<Remote>, Error> {
        self.read(|tables| tables.remote(chain_id, parent))
    }

    /// Commits an active snapshot, of which `measure` says what it takes.
    pub(crate) fn commit(
        &self,
        name: &str,
        key: &str,
        labels: Labels,
        measure: impl FnOnce(u64) -> Result<Usage, Error>,
    ) -> Result<(), Error> {
        check_texts(name, &labels)?;
        let active = self.get(key)?;
        if active.kind != Kind::Active {
            return Err(Error::Precondition(format!("snapshot {key} is not active")));
        }
        // Not in the transaction: it takes long.
        let usage = measure(active.number)?;
        self.write(|writing| {
            if writing.tables.find(name)?.is_some() {
                return Err(Error::Exists(name.to_owned()).into());
            }
            let snapshot = writing.tables.get(key)?;
            if snapshot.number != active.number || snapshot.kind != Kind::Active {
                return Err(Error::NotFound(key.to_owned()).into());
            }
            let (kind, updated) = (Kind::Committed, now());
            let snapshot = Snapshot { kind, labels, usage, updated, ..snapshot };
            writing.take(key, &snapshot.parent)?;
            writing.put(name, &snapshot)
        })
    }

    /// Removes one that has no children.
    pub(crate) fn remove(&self, name: &str) -> Result<Snapshot, Error> {
        self.write(|writing| {
            let snapshot = writing.tables.get(name)?;
            if writing.tables.has_children(name)? {
                let text = format!("snapshot {name} can't be removed: there are snapshots on it");
                return Err(Error::Precondition(text).into());
            }
            writing.take(name, &snapshot.parent)?;
            Ok(snapshot)
        })
    }

    pub(crate) fn get(&self, name: &str) -> Result<Snapshot, Error> {
        self.read(|tables| tables.get(name))
    }

    /// A snapshot, and what it is on top of, the nearest first, down to the first that is remote.
    pub(crate) fn lineage(&self, name: &str) -> Result<(Snapshot, Vec<Snapshot>), Error> {
        self.read(|tables| {
            let snapshot = tables.get(name)?;
            let (mut below, mut parent) = (Vec::new(), snapshot.parent.clone());
            while !parent.is_empty() {
                if below.len() == MAX_DEPTH {
                    let text = format!("snapshot {name} is on top of more than {MAX_DEPTH}");
                    return Err(Error::Precondition(text).into());
                }
                let next = tables.get(&parent)?;
                parent = if next.remote.is_some() { String::new() } else { next.parent.clone() };
                below.push(next);
            }
            Ok((snapshot, below))
        })
    }

    pub(crate) fn update(&self, name: &str, change: Change) -> Result<Snapshot, Error> {
        self.write(|writing| {
            let mut snapshot = writing.tables.get(name)?;
            match change {
                Change::All(labels) => snapshot.labels = labels,
                Change::Some(changes) => {
                    for (label, value) in changes {
                        match value {
                            Some(value) => snapshot.labels.insert(label, value),
                            None => snapshot.labels.remove(&label),
                        };
                    }
                }
            }
            check_texts(name, &snapshot.labels)?;
            snapshot.updated = now();
            writing.put(name, &snapshot)?;
            Ok(snapshot)
        })
    }

    /// All, by name.
    pub(crate) fn all(&self) -> Result<Vec<(String, Snapshot)>, Error> {
        self.read(Tables::all)
    }

    /// The numbers of those that have directories, and the chain IDs of those that are trees.
    pub(crate) fn in_use(&self) -> Result<(HashSet<u64>, HashSet<String>), Error> {
        let (mut numbers, mut chain_ids) = (HashSet::new(), HashSet::new());
        for (_, snapshot) in self.all()? {
            match snapshot.remote {
                Some(remote) => drop(chain_ids.insert(remote.chain_id)),
                None => drop(numbers.insert(snapshot.number)),
            }
        }
        Ok((numbers, chain_ids))
    }

    fn read<T>(&self, act: impl FnOnce(&Read) -> Outcome<T>) -> Result<T, Error> {
        self.0.with(|database| {
            let reading = database.begin_read()?;
            let rows = reading.open_table(SNAPSHOTS)?;
            let children = reading.open_multimap_table(CHILDREN)?;
            told(act(&Tables { rows, children }))
        })
    }

    /// Makes a change, or none if `act` fails.
    fn write<T>(&self, act: impl FnOnce(&mut Writing<'_>) -> Outcome<T>) -> Result<T, Error> {
        self.0.with(|database| {
            let writing = database.begin_write()?;
            let result = {
                let rows = writing.open_table(SNAPSHOTS)?;
                let children = writing.open_multimap_table(CHILDREN)?;
                let numbers = writing.open_table(NUMBERS)?;
                told(act(&mut Writing { tables: Tables { rows, children }, numbers }))?
            };
            match result {
                Ok(value) => {
                    writing.commit()?;
                    Ok(Ok(value))
                }
                Err(error) => {
                    writing.abort()?;
                    Ok(Err(error))
                }
            }
        })
    }
}

fn begin(writing: &WriteTransaction) -> Result<(), redb::Error> {
    writing.open_table(SNAPSHOTS)?;
    writing.open_multimap_table(CHILDREN)?;
    writing.open_table(NUMBERS)?;
    Ok(())
}

/// What ends a transaction.
enum Failure {
    Storage(StorageError),
    Told(Error),
}

type Outcome<T> = Result<T, Failure>;

impl From<StorageError> for Failure {
    fn from(error: StorageError) -> Failure {
        Failure::Storage(error)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        Failure::Told(error)
    }
}

fn told<T>(outcome: Outcome<T>) -> Result<Result<T, Error>, redb::Error> {
    match outcome {
        Ok(value) => Ok(Ok(value)),
        Err(Failure::Told(error)) => Ok(Err(error)),
        Err(Failure::Storage(error)) => Err(error.into()),
    }
}

struct Tables<R, C> {
    rows: R,
    children: C,
}

type Read = Tables<
    ReadOnlyTable<&'static str, &'static [u8]>,
    ReadOnlyMultimapTable<&'static str, &'static str>,
>;

struct Writing<'a> {
    tables: Tables<
        Table<'a, &'static str, &'static [u8]>,
        MultimapTable<'a, &'static str, &'static str>,
    >,
    numbers: Table<'a, &'static str, u64>,
}

impl<R, C> Tables<R, C>
where
    R: ReadableTable<&'static str, &'static [u8]>,
    C: ReadableMultimapTable<&'static str, &'static str>,
{
    fn find(&self, name: &str) -> Outcome<Option<Snapshot>> {
        let row = self.rows.get(name)?;
        Ok(row.map(|row| snapshot(row.value())).transpose()?)
    }

    fn get(&self, name: &str) -> Outcome<Snapshot> {
        Ok(self.find(name)?.ok_or_else(|| Error::NotFound(name.to_owned()))?)
    }

    fn has_children(&self, name: &str) -> Outcome<bool> {
        Ok(self.children.get(name)?.next().transpose()?.is_some())
    }

    fn remote(&self, chain_id: &str, parent: &str) -> Outcome<Option<Remote>> {
        for child in self.children.get(parent)? {
            let remote = self.get(child?.value())?.remote;
            if let Some(remote) = remote.filter(|remote| remote.chain_id == chain_id) {
                return Ok(Some(remote));
            }
        }
        Ok(None)
    }

    fn all(&self) -> Outcome<Vec<(String, Snapshot)>> {
        let mut all = Vec::new();
        for row in self.rows.iter()? {
            let (name, row) = row?;
            all.push((name.value().to_owned(), snapshot(row.value())?));
        }
        Ok(all)
    }

    /// Whether a snapshot of this name may begin on top of that.
    fn may_begin(&self, name: &str, parent: &str) -> Outcome<()> {
        if self.find(name)?.is_some() {
            return Err(Error::Exists(name.to_owned()).into());
        }
        if !parent.is_empty() && self.get(parent)?.kind != Kind::Committed {
            return Err(Error::Invalid(format!("the parent {parent} is not committed")).into());
        }
        Ok(())
    }
}

impl Writing<'_> {
    fn next(&mut self) -> Outcome<u64> {
        let next = self.numbers.get(NEXT)?.map_or(1, |number| number.value());
        self.numbers.insert(NEXT, next + 1)?;
        Ok(next)
    }

    fn put(&mut self, name: &str, snapshot: &Snapshot) -> Outcome<()> {
        // Texts and numbers: nothing of it can fail.
        let row = serde_json::to_vec(snapshot).unwrap_or_default();
        self.tables.rows.insert(name, &row[..])?;
        self.tables.children.insert(&snapshot.parent[..], name)?;
        Ok(())
    }

    fn take(&mut self, name: &str, parent: &str) -> Outcome<()> {
        self.tables.rows.remove(name)?;
        self.tables.children.remove(parent, name)?;
        Ok(())
    }
}

fn snapshot(row: &[u8]) -> Result<Snapshot, StorageError> {
    serde_json::from_slice(row).map_err(|e| StorageError::Corrupted(format!("a row: {e}")))
}

fn check_texts(name: &str, labels: &Labels) -> Result<(), Error> {
    if name.is_empty() {
        return Err(Error::Invalid("a snapshot needs a name".to_owned()));
    }
    let mut texts = labels.iter().flat_map(|(label, value)| [label, value]);
    if name.len() > MAX_TEXT_BYTES || texts.any(|text| text.len() > MAX_TEXT_BYTES) {
        let text = format!("a name or a label has more than {MAX_TEXT_BYTES} bytes");
        return Err(Error::Invalid(text));
    }
    Ok(())
}

fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
