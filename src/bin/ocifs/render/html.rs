//! Reports that a browser opens: one file, nothing beside it, nothing from a network.
//!
//! # Problem
//!
//! A report lies beside a build and is opened by people who trust the build's server, while names, labels, history and
//! lines of files in it were written by the image's author. Nothing of that may run, load or pretend to be part of
//! the report. And it has to be read everywhere: without script, on paper, with a keyboard, by a screen reader.
//!
//! # Design
//!
//! - [`Markup`] takes tags only as literals of this program (`&'static str`) and everything else as text, which it
//!   escapes for content and for attributes alike; so no call can forget it.
//! - [`Page`] begins with a Content-Security-Policy that allows the one style and the one script of this program, by
//!   their hashes, and nothing else: no address, no image, no inline handler, no form.
//! - All there is to read is in the document. The script adds what is convenient: sorting, filtering, opening all.
//!   What folds are `details`, which need none.
//! - Every part is bounded: [`Table`] by rows, [`Treemap`] by rectangles, texts by their length, each saying what it
//!   left out. A report of a million files has a few hundred KiB.
//! - It is put together in memory and written at once, so that a file is whole or not there.
//!
//! # Rejected
//!
//! A template engine: escaping would be a promise of templates and not of a type. A library for charts: hundreds of KiB
//! of script in each file, for rectangles that need none.

mod bar;
mod bounded;
mod markup;
mod node;
mod page;
mod squarify;
mod table;
mod treemap;

pub(crate) use bounded::more;
pub(crate) use markup::Markup;
pub(crate) use node::{Node, Tone, is_nearly_all};
pub(crate) use page::Page;
pub(crate) use table::{Cells, Column, Table};
pub(crate) use treemap::Treemap;
