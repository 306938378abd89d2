//! Where the paths of a layer lead in the tree as it is, and as it was below the layer.

use hashbrown::HashMap;

use super::nodes::{Merge, NodeId, ROOT};
use crate::index::{DirId, EntryKind, LayerIndex, MAX_NAME_BYTES, NODE_BYTES, ROOT_DIR};
use crate::tree::error::Error;
use crate::tree::inode::NONE;
use crate::tree::witness::Cause;

/// Symlinks followed for one path, as umoci limits them.
const MAX_LINKS: u32 = 255;

/// The state of one layer's application.
pub(super) struct Layer<'a> {
    pub(super) index: &'a LayerIndex,
    pub(super) number: u32,
    /// Directory paths whose node is known; only those reached without a symlink. They lead there as
    /// long as the node is alive.
    pub(super) resolved: Vec<NodeId>,
    /// Where the others led, and at which of `Merge::turns`; until the next one they still do.
    pub(super) led: HashMap<DirId, (u32, Option<NodeId>)>,
    /// For hard links.
    pub(super) lower: Lower<'a>,
    /// Hidden files, targets of hard links only: path to row of `Merge::inodes`.
    pub(super) hidden: HashMap<(DirId, &'a [u8]), u32>,
}

/// Where directory paths of a layer lead in the layers below it. While it is applied, that stays the same.
pub(super) struct Lower<'a> {
    pub(super) index: &'a LayerIndex,
    /// By directory, as far as it was asked for: the node, if there is one.
    pub(super) found: Vec<Option<Option<NodeId>>>,
    /// Whether symlinks are followed that the layer itself replaces.
    pub(super) follows_replaced: bool,
}

impl<'a> Lower<'a> {
    pub(super) fn new(index: &'a LayerIndex, follows_replaced: bool) -> Lower<'a> {
        Lower { index, found: Vec::new(), follows_replaced }
    }
}

/// What a step through the tree leads to.
enum Step<'a> {
    Missing,
    Directory(NodeId),
    Symlink(&'a [u8]),
    /// Neither: something is in the way.
    Other,
}

/// Where symlinks lead: an existing directory and names below it that do not exist (or are in the
/// way, if the first of them does).
struct Destination<'a> {
    base: NodeId,
    missing: Vec<&'a [u8]>,
}

impl<'a> Merge<'a> {
    /// The lower directory that a path of the layer means, if there is one.
    pub(super) fn lower_dir(
        &mut self,
        lower: &mut Lower<'a>,
        id: DirId,
    ) -> Result<Option<NodeId>, Error> {
        let index = lower.index;
        if lower.found.is_empty() {
            lower.found = vec![None; index.dir_count()];
            lower.found[ROOT_DIR as usize] = Some(Some(ROOT));
        }
        let mut unknown = Vec::new();
        let mut at = id;
        let mut found = loop {
            if let Some(known) = lower.found[at as usize] {
                break known;
            }
            unknown.push(at);
            at = index.dir(at).parent;
        };
        self.take_steps(unknown.len())?;
        while let Some(id) = unknown.pop() {
            if let Some(above) = found {
                found = self.lower_dir_in(lower, above, id)?;
            }
            lower.found[id as usize] = Some(found);
        }
        Ok(found)
    }

    /// The lower directory in another one.
    pub(super) fn lower_dir_in(
        &mut self,
        lower: &Lower<'a>,
        above: NodeId,
        id: DirId,
    ) -> Result<Option<NodeId>, Error> {
        let index = lower.index;
        let dir = index.dir(id);
        Ok(match self.step_in(above, dir.name, true) {
            Step::Directory(child) => Some(child),
            Step::Symlink(target) if lower.follows_replaced || !dir.has_entry => {
                let place = self.follow(above, target, true, &|| index.dir_path(id))?;
                Some(place).filter(|place| place.missing.is_empty()).map(|place| place.base)
            }
            Step::Symlink(_) | Step::Missing | Step::Other => None,
        })
    }

    /// The node of a directory path, made if it does not exist.
    pub(super) fn directory(&mut self, layer: &mut Layer<'a>, id: DirId) -> Result<NodeId, Error> {
        let Some(node) = self.find_directory(layer, id, true)? else {
            unreachable!("what does not exist is made")
        };
        Ok(node)
    }

    /// The node of a directory path, as the tree is; `make` it if it does not exist.
    pub(super) fn find_directory(
        &mut self,
        layer: &mut Layer<'a>,
        id: DirId,
        make: bool,
    ) -> Result<Option<NodeId>, Error> {
        // Upwards to what is known, then down again: a path may be too deep for recursion.
        let mut unknown = Vec::new();
        let mut at = id;
        let (mut found, mut direct) = loop {
            if at == ROOT_DIR {
                break (Some(ROOT), true);
            }
            let known = layer.resolved[at as usize];
            if known != NONE && self.node(known).alive {
                break (Some(known), true);
            }
            match layer.led.get(&at) {
                Some((turns, led)) if *turns == self.turns && !(make && led.is_none()) => {
                    break (*led, false);
                }
                _ => unknown.push(at),
            }
            at = layer.index.dir(at).parent;
        };
        let index = layer.index;
        self.take_steps(unknown.len())?;
        while let Some(id) = unknown.pop() {
            if let Some(above) = found {
                let is_direct;
                (found, is_direct) = self.directory_in(index, above, id, make)?;
                direct &= is_direct;
            }
            match found {
                Some(node) if direct => layer.resolved[id as usize] = node,
                _ => drop(layer.led.insert(id, (self.turns, found))),
            }
        }
        Ok(found)
    }

    /// The directory in another one, and whether it is there itself and not behind a symlink.
    pub(super) fn directory_in(
        &mut self,
        index: &'a LayerIndex,
        above: NodeId,
        id: DirId,
        make: bool,
    ) -> Result<(Option<NodeId>, bool), Error> {
        let dir = index.dir(id);
        let path = || index.dir_path(id);
        let (place, direct) = match self.step(above, dir.name) {
            Step::Directory(child) => return Ok((Some(child), true)),
            Step::Symlink(target) => (self.follow(above, target, false, &path)?, false),
            Step::Missing | Step::Other => {
                (Destination { base: above, missing: vec![dir.name] }, true)
            }
        };
        let mut node = place.base;
        for name in place.missing {
            if !make {
                return Ok((None, direct));
            }
            if let Some(blocker) = self.child(node, name, false) {
                self.give_way(blocker, &path)?;
            }
            if !direct {
                self.drawn.more(NODE_BYTES)?;
            }
            node = self.implied(node, name)?;
        }
        Ok((Some(node), direct))
    }

    /// Removes a node that stands where a directory is needed, if it is of a lower layer.
    pub(super) fn give_way(
        &mut self,
        blocker: NodeId,
        path: &dyn Fn() -> String,
    ) -> Result<(), Error> {
        if self.node(blocker).layer == self.layer {
            let blocker = self.node_path(blocker);
            return Err(Error::NotADirectory { layer: self.layer as usize, path: path(), blocker });
        }
        self.remove(blocker, Cause::Replaced);
        Ok(())
    }

    /// Follows a symlink found in `start` to the end. Names that do not exist are collected, so
    /// that `..` behind them takes them back as unpacking tools do.
    fn follow(
        &mut self,
        start: NodeId,
        target: &'a [u8],
        before: bool,
        path: &dyn Fn() -> String,
    ) -> Result<Destination<'a>, Error> {
        let layer = self.layer as usize;
        let mut place = Destination { base: start, missing: Vec::new() };
        let mut todo: Vec<&'a [u8]> = Vec::new();
        let mut links = 0;
        let mut enter = Some(target);
        loop {
            if let Some(target) = enter.take() {
                links += 1;
                if links > MAX_LINKS {
                    return Err(Error::SymlinkLoop { layer, path: path() });
                }
                if target.starts_with(b"/") {
                    place = Destination { base: ROOT, missing: Vec::new() };
                }
                todo.extend(target.split(|b| *b == b'/').rev());
            }
            let Some(name) = todo.pop() else { return Ok(place) };
            self.take_steps(1)?;
            if name.len() > MAX_NAME_BYTES {
                return Err(Error::NameTooLong { layer, path: path() });
            }
            match name {
                b"" | b"." => continue,
                b".." => {
                    if place.missing.pop().is_none() {
                        place.base = self.node(place.base).parent;
                    }
                    continue;
                }
                _ if !place.missing.is_empty() => {
                    place.missing.push(name);
                    continue;
                }
                _ => {}
            }
            match self.step_in(place.base, name, before) {
                Step::Directory(child) => place.base = child,
                Step::Symlink(target) => enter = Some(target),
                Step::Missing | Step::Other => place.missing.push(name),
            }
        }
    }

    /// Counts steps through paths.
    fn take_steps(&mut self, steps: usize) -> Result<(), Error> {
        let left = self.steps_left.checked_sub(steps as u64);
        let layer = self.layer as usize;
        self.steps_left = left.ok_or(Error::TooManySteps { layer })?;
        Ok(())
    }

    fn step(&self, dir: NodeId, name: &[u8]) -> Step<'a> {
        self.step_in(dir, name, false)
    }

    fn step_in(&self, dir: NodeId, name: &[u8], before: bool) -> Step<'a> {
        let Some(node) = self.child(dir, name, before) else { return Step::Missing };
        match self.kind(self.node(node).inode) {
            EntryKind::Directory => Step::Directory(node),
            EntryKind::Symlink(target) => Step::Symlink(target),
            _ => Step::Other,
        }
    }
}
