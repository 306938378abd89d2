//! The tree of a table.

use super::pages::{HEADER_BYTES, Pages};
use super::row::{Row, varint};
use crate::packages::error::Error;
use crate::packages::image_file::Bytes;
use crate::packages::numbers::{be16, be32};

/// Most levels of a tree (`BTCURSOR_MAX_DEPTH` of SQLite).
const MAX_LEVELS: usize = 20;

/// Most rows that are handed on. Cells may lie over each other, so there may be more than fit.
const MAX_ROWS: usize = 1_000_000;

const INTERIOR: u8 = 5;
const LEAF: u8 = 13;

/// Takes a row.
pub type Visit<'v, B> = dyn FnMut(&mut Row<'_, B>) -> Result<(), Error> + 'v;

/// Hands on all rows, in the order of their numbers.
pub(super) fn scan<B: Bytes + ?Sized>(
    pages: &Pages<'_, B>,
    root: u32,
    visit: &mut Visit<'_, B>,
) -> Result<(), Error> {
    pages.begin();
    let mut rows = 0;
    let mut todo = vec![(Node::read(pages, root)?, 0)];
    while let Some((node, at)) = todo.pop() {
        if node.is_leaf {
            for at in 0..node.cells {
                rows += 1;
                if rows > MAX_ROWS {
                    return Err(node.corrupt("there are too many rows before it"));
                }
                visit(&mut node.row(pages, at)?)?;
            }
        } else if at <= node.cells {
            let child = node.child(at)?;
            todo.push((node, at + 1));
            if todo.len() >= MAX_LEVELS {
                return Err(Error::Page { page: child, what: "the tree is too deep" });
            }
            todo.push((Node::read(pages, child)?, 0));
        }
    }
    Ok(())
}

/// A page of the tree.
struct Node {
    number: u32,
    page: Vec<u8>,
    /// Where its head begins.
    start: usize,
    is_leaf: bool,
    cells: usize,
}

impl Node {
    fn read<B: Bytes + ?Sized>(pages: &Pages<'_, B>, number: u32) -> Result<Node, Error> {
        let page = pages.new_page(number)?;
        let start = if number == 1 { HEADER_BYTES } else { 0 };
        let is_leaf = match page[start] {
            LEAF => true,
            INTERIOR => false,
            _ => return Err(Error::Page { page: number, what: "it is not one of a table" }),
        };
        let cells = be16(&page, start + 3).map(usize::from).unwrap_or_default();
        Ok(Node { number, page, start, is_leaf, cells })
    }

    fn corrupt(&self, what: &'static str) -> Error {
        Error::Page { page: self.number, what }
    }

    /// The position of a cell.
    fn cell(&self, at: usize) -> Result<usize, Error> {
        let head = if self.is_leaf { 8 } else { 12 };
        let position = be16(&self.page, self.start + head + at * 2);
        position.map(usize::from).ok_or_else(|| self.corrupt("it has more cells than fit"))
    }

    /// The child at a position; the last is behind all cells.
    fn child(&self, at: usize) -> Result<u32, Error> {
        let place = if at == self.cells { self.start + 8 } else { self.cell(at)? };
        be32(&self.page, place).ok_or_else(|| self.corrupt("a cell lies outside of it"))
    }

    fn row<'p, B: Bytes + ?Sized>(
        &self,
        pages: &'p Pages<'p, B>,
        at: usize,
    ) -> Result<Row<'p, B>, Error> {
        let outside = || self.corrupt("a cell lies outside of it");
        let cell = self.page.get(self.cell(at)?..pages.usable).ok_or_else(outside)?;
        let (size, cell) = varint(cell).ok_or_else(outside)?;
        let (_number, cell) = varint(cell).ok_or_else(outside)?;
        let local = local_bytes(size, pages.usable);
        let bytes = cell.get(..local).ok_or_else(outside)?;
        let next = match (local as u64) < size {
            true => be32(cell, local).ok_or_else(outside)?,
            false => 0,
        };
        pages.budget.spend(local as u64)?;
        Ok(Row::new(pages, bytes.to_vec(), size, next))
    }
}

/// How many bytes of a record are in its cell (fileformat2.html, 1.6).
fn local_bytes(size: u64, usable: usize) -> usize {
    let most = usable - 35;
    if size <= most as u64 {
        return size as usize;
    }
    let least = (usable - 12) * 32 / 255 - 23;
    let rest = least + ((size - least as u64) % (usable as u64 - 4)) as usize;
    if rest <= most { rest } else { least }
}
