//! What a walk will want next, guessed from what readers ask for.
//!
//! The kernel tells a file system which directory is listed and which file is read, and of those only what it
//! does not have in memory. From this each module guesses for a caller of its own:
//!
//! - [`Traversal`]: which directories and small files come next, for a process that asks for them first
//!   (`fuse::prefetcher`);
//! - [`Window`]: which small files come next, for a thread that puts them into the page cache
//!   (`fuse::pusher`);
//! - `read_ahead` and `layers`: which bytes of which layers come next, for a read that has to fetch (`fs`).
//!
//! Nothing here reads, fetches or waits; and a guess that is wrong costs work, never a wrong answer.

mod inos;
mod layers;
mod read_ahead;
mod traversal;
mod window;

pub(crate) use layers::Walks;
pub(crate) use read_ahead::{Misses, below, guess};
pub use traversal::{Next, Step, Traversal};
pub use window::{Listings, Window};
