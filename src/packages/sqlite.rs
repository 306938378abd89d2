//! SQLite databases, read only: where rpm keeps the headers of its packages since version 4.16.
//!
//! # Why not SQLite
//!
//! The file is a stranger's. SQLite is C that runs in this process, calls a database whose schema was made up
//! "potentially dangerous" itself, and wants options, a file system and time limits of ours to be safe with one; its
//! source would have to be compiled for a scan of one table. What that takes is little and has not changed since 2004:
//! a header, pages of a tree, records, and chains of pages for long ones. Also, SQLite would write beside the file to
//! read a write-ahead log.
//!
//! # Format
//!
//! All numbers are big-endian (sqlite.org/fileformat2.html):
//!
//! ```text
//! file     pages of equal size, counted from 1; page 1 begins with a header of 100 bytes:
//!          "SQLite format 3\0", page size u16 (1 is 65536), …, bytes reserved at the end of each page u8 at 20,
//!          change counter u32 at 24, pages u32 at 28, …, text encoding u32 at 56, …, counter for which `pages` is valid u32 at 92
//! page     kind u8 (13 leaf, 5 interior), first free block u16, number of cells u16, start of cells u16, fragments u8,
//!          on interior ones the last child u32; then the positions of the cells, u16 each
//! cell     interior: child u32, row number varint; leaf: length varint, row number varint, the record's first bytes,
//!          and the page u32 where it goes on, if it does
//! chain    next page u32, or 0 at the end; bytes
//! record   length of this head varint, a kind for each column varint; then the values
//! schema   the table of page 1: type, name, table, root page, SQL
//! ```
//!
//! What a database in a write-ahead log has newer is read from there (`wal`), as SQLite would before its first answer.
//!
//! # Invariants
//!
//! - No page is visited twice in a scan, which no sound database needs, so nothing goes in circles; levels are limited
//!   as in SQLite.
//! - Of a long record no more pages are read than what is wanted of it. At most [`MAX_READ_BYTES`] are read and handed on.

mod database;
mod pages;
mod row;
mod table;
mod wal;

pub use database::Database;
pub use pages::MAX_READ_BYTES;
pub use row::{Blob, Row};
pub use table::Visit;
