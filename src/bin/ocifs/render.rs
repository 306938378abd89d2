//! What people and programs read: text, tables, JSON, errors with what helps, the log, progress.

pub(crate) mod errors;
pub(crate) mod hints;
pub(crate) mod html;
pub(crate) mod instruction;
pub(crate) mod json;
pub(crate) mod listing;
pub(crate) mod log;
pub(crate) mod metrics;
pub(crate) mod output;
pub(crate) mod patch;
pub(crate) mod progress;
pub(crate) mod screen;
pub(crate) mod table;
pub(crate) mod target;
pub(crate) mod text;
pub(crate) mod time;
