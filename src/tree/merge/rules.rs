//! Applying a layer: its whiteouts, then its entries.

use std::ptr;
use std::sync::Arc;

use hashbrown::{HashMap, HashSet};

use super::nodes::{Merge, NodeId, ROOT, lossy};
use super::paths::{Layer, Lower};
use crate::index::{Budget, DirId, Drawn, Entry, EntryKind, LayerIndex, NODE_BYTES};
use crate::tree::error::Error;
use crate::tree::inode::NONE;
use crate::tree::origins::Source;
use crate::tree::witness::{Cause, Witness};

impl<'a> Merge<'a> {
    /// All layers, applied, before the eyes of a witness if there is one.
    pub(super) fn of(
        layers: &'a [&'a LayerIndex],
        budget: &Arc<Budget>,
        witness: Option<Witness>,
    ) -> Result<Merge<'a>, Error> {
        let mut merge = Merge::begin(layers, budget)?;
        merge.witness = witness;
        merge.apply_all()?;
        Ok(merge)
    }

    /// A merge of layers of which none is applied yet.
    pub(super) fn begin(
        layers: &'a [&'a LayerIndex],
        budget: &Arc<Budget>,
    ) -> Result<Merge<'a>, Error> {
        let mut drawn = Drawn::new(Arc::clone(budget));
        let mut seen = HashSet::new();
        for layer in layers.iter().filter(|layer| !seen.insert(ptr::from_ref(**layer))) {
            let rows = layer.dir_count() + layer.entries().len() + layer.whiteouts().len();
            drawn.more(rows as u64 * NODE_BYTES)?;
        }
        Ok(Merge::new(layers, drawn))
    }

    pub(super) fn apply_all(&mut self) -> Result<(), Error> {
        for (number, layer) in self.layers.iter().enumerate() {
            self.apply(number as u32, layer)?;
        }
        Ok(())
    }

    pub(super) fn apply(&mut self, number: u32, index: &'a LayerIndex) -> Result<(), Error> {
        self.layer = number;
        self.ghosts.clear();
        // Whiteouts, hard links and entries may each need all directories.
        self.steps_left += 3 * index.dir_count() as u64;
        self.whiteouts(index)?;
        let mut layer = Layer {
            index,
            number,
            resolved: vec![NONE; index.dir_count()],
            led: HashMap::new(),
            lower: Lower::new(index, true),
            hidden: HashMap::new(),
        };
        for (at, entry) in index.entries().enumerate() {
            let source = Source { layer: number, entry: at as u32 };
            self.entry(&mut layer, entry, source)?;
        }
        Ok(())
    }

    /// Pass 1. All places are found before anything is removed, so that the order of the
    /// whiteouts does not matter either.
    pub(super) fn whiteouts(&mut self, index: &'a LayerIndex) -> Result<(), Error> {
        let mut doomed = Vec::new();
        let mut emptied = HashSet::new();
        let mut lower = Lower::new(index, false);
        for whiteout in index.whiteouts() {
            let Some(dir) = self.lower_dir(&mut lower, whiteout.dir)? else { continue };
            match whiteout.name {
                Some(name) => {
                    doomed.extend(self.child(dir, name, false).map(|node| (node, Cause::Whiteout)));
                }
                // However often and by whatever path it is said, once is enough.
                None if !emptied.insert(dir) => {}
                None => {
                    let mut child = self.node(dir).first_child;
                    while child != NONE {
                        doomed.push((child, Cause::OpaqueMark));
                        child = self.node(child).next;
                    }
                }
            }
        }
        for (node, cause) in doomed {
            if self.node(node).alive {
                self.remove(node, cause);
            }
        }
        Ok(())
    }

    /// Pass 2, one entry.
    pub(super) fn entry(
        &mut self,
        layer: &mut Layer<'a>,
        entry: Entry<'a>,
        source: Source,
    ) -> Result<(), Error> {
        if entry.hidden {
            let inode = self.inode(source)?;
            layer.hidden.insert((entry.dir, entry.name), inode);
            return Ok(());
        }
        if !layer.hidden.is_empty() {
            // Links that come later mean this one.
            layer.hidden.remove(&(entry.dir, entry.name));
        }
        if entry.name.is_empty() {
            self.update(ROOT, source);
            return Ok(());
        }
        // The target is looked up before anything is made or removed.
        let target = match entry.kind {
            EntryKind::HardLink { dir, name } => match self.link_target(layer, &entry, dir, name) {
                Err(Error::LinkTarget { .. }) if self.is_partial => None,
                target => Some(target?),
            },
            _ => None,
        };
        let parent = self.directory(layer, entry.dir)?;
        let existing = self.child(parent, entry.name, false);
        if let Some(node) = existing {
            if target.is_some_and(|(_, target)| target == node) {
                return Ok(());
            }
            let inode = self.node(node).inode;
            let is_dir = self.kind(inode) == EntryKind::Directory;
            if is_dir && entry.kind == EntryKind::Directory {
                self.update(node, source);
                return Ok(());
            }
            self.remove(node, Cause::Replaced);
        }
        let inode = match target {
            Some((inode, _)) => inode,
            None => self.inode(source)?,
        };
        self.insert(parent, entry.name, inode)?;
        Ok(())
    }

    /// Gives a directory the attributes of an entry.
    fn update(&mut self, node: NodeId, source: Source) {
        let inode = self.node(node).inode as usize;
        if let Some(witness) = &mut self.witness {
            witness.updated(node, self.inodes[inode], source.layer);
        }
        self.inodes[inode] = source;
    }

    /// The inode that a hard link names, and the node (`NONE` for a hidden file).
    pub(super) fn link_target(
        &mut self,
        layer: &mut Layer<'a>,
        entry: &Entry<'a>,
        dir: DirId,
        name: &'a [u8],
    ) -> Result<(u32, NodeId), Error> {
        if let Some(inode) = layer.hidden.get(&(dir, name)) {
            return Ok((*inode, NONE));
        }
        let number = layer.number as usize;
        let index = layer.index;
        let path = || path_of(index, entry.dir, entry.name);
        let target = || path_of(index, dir, name);
        if name.is_empty() {
            return Err(Error::LinkToDirectory { layer: number, path: path(), target: "/".into() });
        }
        for before in [false, true] {
            let found = match before {
                true => self.lower_dir(&mut layer.lower, dir)?,
                false => self.find_directory(layer, dir, false)?,
            };
            let Some(node) = found.and_then(|dir| self.child(dir, name, before)) else { continue };
            let inode = self.node(node).inode;
            if self.kind(inode) == EntryKind::Directory {
                return Err(Error::LinkToDirectory {
                    layer: number,
                    path: path(),
                    target: target(),
                });
            }
            return Ok((inode, node));
        }
        Err(Error::LinkTarget { layer: number, path: path(), target: target() })
    }
}

fn path_of(index: &LayerIndex, dir: DirId, name: &[u8]) -> String {
    match index.dir_path(dir).as_str() {
        "" => lossy(name),
        dir => format!("{dir}/{}", lossy(name)),
    }
}
