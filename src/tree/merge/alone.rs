//! One layer alone: what its tar has, whatever lies below it or hides it.
//!
//! It is extracted as into an empty directory, by the rules of a merge, so that of several entries with one path the
//! last counts. What needs lower layers is kept as a [mark](crate::tree::Mark): whiteouts, and hard links whose
//! target the layer does not have. A link that the layer does have is the same file as its target.

use std::sync::Arc;

use hashbrown::HashMap;

use super::nodes::Merge;
use super::paths::{Layer, Lower};
use crate::index::{Budget, Drawn, EntryKind, LayerIndex, NODE_BYTES, Whiteout};
use crate::tree::error::Error;
use crate::tree::inode::{Ino, MarkKind, MarkRow, NONE};
use crate::tree::origins::{MARK, Origins, Source};
use crate::tree::table::Tree;

const OPAQUE_MARK: &[u8] = b".wh..wh..opq";

/// What a layer brings, without those below and above it, and what each inode is made from. The entries of `beside`, which are no part of the
/// layer and have names that it does not have, are shown with it as those of a second one.
///
/// # Errors
/// What unpacking the layer would fail with, or there is not so much left of the budget.
pub fn layer_alone(
    index: &LayerIndex,
    beside: Option<&LayerIndex>,
    budget: &Arc<Budget>,
) -> Result<(Tree, Origins), Error> {
    let names: Vec<Vec<u8>> = index.whiteouts().map(|whiteout| name(&whiteout)).collect();
    let mut drawn = Drawn::new(Arc::clone(budget));
    let text: usize = names.iter().map(Vec::len).sum();
    drawn.more(names.len() as u64 * NODE_BYTES + text as u64)?;
    let layers: Vec<&LayerIndex> = [index].into_iter().chain(beside).collect();
    let mut merge = Merge::new(&layers, drawn);
    merge.is_partial = true;
    merge.apply(0, index)?;
    merge.place_whiteouts(index, &names)?;
    if let Some(beside) = beside {
        merge.apply(1, beside)?;
    }
    let mut origins = Vec::new();
    let (mut tree, _) = merge.flatten(Some(&mut origins))?;
    mark(&mut tree, index, &origins)?;
    Ok((tree, Origins(origins)))
}

fn name(whiteout: &Whiteout<'_>) -> Vec<u8> {
    match whiteout.name {
        Some(name) => [b".wh.", name].concat(),
        None => OPAQUE_MARK.to_vec(),
    }
}

impl<'a> Merge<'a> {
    fn place_whiteouts(
        &mut self,
        index: &'a LayerIndex,
        names: &'a [Vec<u8>],
    ) -> Result<(), Error> {
        let mut layer = Layer {
            index,
            number: 0,
            resolved: vec![NONE; index.dir_count()],
            led: HashMap::new(),
            lower: Lower::new(index, true),
            hidden: HashMap::new(),
        };
        self.steps_left += index.dir_count() as u64;
        for (whiteout, name) in index.whiteouts().zip(names) {
            let dir = match self.directory(&mut layer, whiteout.dir) {
                // Of lower layers it may well hide something; in this one it has no place.
                Err(Error::NotADirectory { .. } | Error::SymlinkLoop { .. }) => continue,
                Err(Error::NameTooLong { .. } | Error::PathTooLong { .. }) => continue,
                dir => dir?,
            };
            if self.child(dir, name, false).is_none() {
                let inode = self.inode(Source { layer: 0, entry: MARK })?;
                self.insert(dir, name, inode)?;
            }
        }
        Ok(())
    }
}

/// Marks what the inodes stand for, by what they were made from.
fn mark(tree: &mut Tree, index: &LayerIndex, origins: &[u32]) -> Result<(), Error> {
    for (ino, entry) in (1..).zip(origins) {
        if *entry < MARK
            && tree.layer(Ino(ino)) == 0
            && let EntryKind::HardLink { dir, name } = index.entry_at(*entry as usize).kind
        {
            let target = index.path(dir, name);
            let offset = u32::try_from(tree.bytes.len()).map_err(|_| Error::TooLarge)?;
            tree.bytes.extend_from_slice(&target);
            let kind = MarkKind::LinkBelow(offset, target.len() as u32);
            tree.marks.push(MarkRow { ino, kind });
        }
    }
    for dirent in &tree.dirents {
        if origins[dirent.ino as usize - 1] == MARK {
            let name = tree.text(dirent.name_offset, dirent.name_length.into());
            let kind = if name == OPAQUE_MARK { MarkKind::OpaqueMark } else { MarkKind::Whiteout };
            tree.marks.push(MarkRow { ino: dirent.ino, kind });
        }
    }
    tree.marks.sort_unstable_by_key(|row| row.ino);
    Ok(())
}
