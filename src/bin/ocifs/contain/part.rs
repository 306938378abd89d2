//! One part of the containment, and how far it goes.

use std::fmt;

/// How far a part of it goes.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// As meant.
    Whole,
    /// The kernel knows some of it.
    Partly(&'static str),
    /// Not at all, and why.
    Missing(String),
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Part::Whole => f.write_str("yes"),
            Part::Partly(what) => write!(f, "in part ({what})"),
            Part::Missing(why) => write!(f, "no ({why})"),
        }
    }
}
