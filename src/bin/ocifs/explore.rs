//! `ocifs explore`: images in a terminal, layer by layer.
//!
//! # Problem
//!
//! What a layer did, where a file is from, what takes the room: such questions come one after the other, and each answer
//! leads to the next. Commands answer them one by one. Programs that show images in a terminal pull and
//! unpack them first, and stall where there are many files.
//!
//! # Design
//!
//! ```text
//! input ─► bytes ─► Input ─┐                        ┌─► Terminal: the cells that differ
//! signals ─────────────────┼─► Model::update ─► draw┘
//! work ─► Answer ──────────┘        └─► Effect: work for threads, the clipboard, the end
//! ```
//!
//! The [`state::Model`] is all that is shown, and knows no terminal, no thread and no clock; one loop gives it events one after
//! the other and draws once there are none left. Everything that may wait is work for threads ([`work`]),
//! opening the images too, so keys are answered always. Trees are not built: the library finds the directories
//! that are open, as of any layer, in one table (`ocifs::tree::Places`). Until that is there, what is looked at is a glimpse
//! (`ocifs::tree::Survey`), another one for each layer that comes and each directory that is opened; what needs all of the image
//! is kept for later.
//!
//! # Rejected
//!
//! A crate for the terminal itself (crossterm): of what it can do we would use two calls of termios and ten escape
//! sequences, and it has an event loop, and a way to take signals, of its own.
//!
//! # Invariants
//!
//! - The terminal is given back however the program ends, but for SIGKILL: also by a signal and by a panic.
//! - Whatever an image names, holds or says reaches the buffer as characters that are only shown.
//! - Nothing is fetched that is not in sight.

mod action;
mod command;
mod draw;
mod input;
mod key;
mod layout;
mod listing;
mod look;
mod preview;
mod session;
mod state;
mod subject;
mod terminal;
#[cfg(test)]
mod tests;
mod work;

pub(crate) use session::{Ended, run};
pub(crate) use subject::Asked;
pub(crate) use work::Saver;
