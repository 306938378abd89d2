//! Expressions: tests, actions, and what joins them.

use std::collections::BTreeSet;

use crate::tree::glob::Glob;
use crate::tree::inode::{FileKind, Ino};
use crate::tree::mark::Mark;

/// What is asked of a file. It is true or false, and some of it has effects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expression {
    /// All of them, up to the first that is false.
    And(Vec<Expression>),
    /// One of them, up to the first that is true.
    Or(Vec<Expression>),
    /// Each of them; the last one counts.
    List(Vec<Expression>),
    /// The opposite.
    Not(Box<Expression>),
    /// A test.
    Test(Test),
    /// Tells of the file. True.
    Output(Output),
    /// Does not go below the file. True.
    Prune,
    /// Ends the search.
    Quit,
}

/// What is told of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    /// Its path, in a line.
    Path,
    /// Its path, and a NUL.
    PathNul,
    /// Its attributes and its path, in a line.
    Long,
}

/// Is told what to output of which path and file.
pub type Tell<'a, E> = dyn FnMut(Output, &[u8], Ino) -> Result<(), E> + 'a;

/// A test.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Test {
    /// True or false.
    Constant(bool),
    /// The name.
    Name(Glob),
    /// The path, as it is told.
    Path(Glob),
    /// The target of a symlink.
    Target(Glob),
    /// The kind of file.
    Kind(Kinds),
    /// The size in units of so many bytes, rounded up.
    Size(u64, Comparison),
    /// The permission bits.
    Permissions(Permissions),
    /// The number of names.
    Links(Comparison),
    /// The number of the user or group that it belongs to.
    Id(Owner, Comparison),
    /// The user or group that it belongs to, by a name or a number. It has to be bound.
    Owner(Owner, Vec<u8>),
    /// It belongs to a user or group without a name. It has to be bound.
    Nameless(Owner),
    /// The number of its user or group is none of these.
    IdBut(Owner, BTreeSet<u32>),
    /// A file of size 0, or a directory without names.
    Empty,
    /// Modified after the file at a path was. It has to be bound.
    NewerThan(Vec<u8>),
    /// Modified after a time: seconds since the epoch and nanoseconds.
    After(i64, u32),
    /// Modified so many units of seconds before a time. A part of a unit counts for none, or for a whole one.
    Age {
        /// The time, in seconds since the epoch.
        now: i64,
        /// The unit in seconds.
        unit: i64,
        /// Whether a part of a unit is a whole one.
        rounds_up: bool,
        /// How many.
        number: Comparison,
    },
    /// It is the file at a path. It has to be bound.
    SameAs(Vec<u8>),
    /// It is this one.
    Ino(Ino),
}

/// Whose number is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// The user's.
    User,
    /// The group's.
    Group,
}

/// How a number has to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say it")]
pub enum Comparison {
    Less(u64),
    Equal(u64),
    More(u64),
}

impl Comparison {
    pub(super) fn holds(self, number: u64) -> bool {
        match self {
            Comparison::Less(limit) => number < limit,
            Comparison::Equal(wanted) => number == wanted,
            Comparison::More(limit) => number > limit,
        }
    }
}

/// Permission bits. In words, `X` stands for other bits of a directory than of another file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ModeBits {
    /// Of a directory.
    pub directory: u16,
    /// Of anything else.
    pub file: u16,
}

/// How permission bits have to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Permissions {
    /// These and no others.
    Exactly(ModeBits),
    /// These and any others.
    All(ModeBits),
    /// One of these at least, if there are any.
    Any(ModeBits),
}

impl Permissions {
    pub(super) fn holds(self, kind: FileKind, mode: u16) -> bool {
        let of_kind = |bits: ModeBits| match kind {
            FileKind::Directory => bits.directory,
            _ => bits.file,
        };
        match self {
            Permissions::Exactly(bits) => mode == of_kind(bits),
            Permissions::All(bits) => mode & of_kind(bits) == of_kind(bits),
            Permissions::Any(bits) => of_kind(bits) == 0 || mode & of_kind(bits) != 0,
        }
    }
}

/// Some kinds of files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Kinds(u16);

impl Kinds {
    /// These and one more.
    pub fn with(self, kind: FileKind) -> Kinds {
        Kinds(self.0 | bit(kind))
    }

    /// These, and whiteouts and opaque marks of a layer alone.
    pub fn with_whiteouts(self) -> Kinds {
        Kinds(self.0 | WHITEOUTS)
    }

    /// These, and hard links of a layer alone to files of lower ones.
    pub fn with_links_below(self) -> Kinds {
        Kinds(self.0 | LINKS_BELOW)
    }

    pub(super) fn has(self, kind: FileKind, mark: Option<Mark<'_>>) -> bool {
        let bit = match mark {
            None => bit(kind),
            Some(Mark::Whiteout | Mark::OpaqueMark) => WHITEOUTS,
            Some(Mark::LinkBelow(_)) => LINKS_BELOW,
        };
        self.0 & bit != 0
    }
}

/// Bits beyond those of the kinds of files.
const WHITEOUTS: u16 = 1 << 14;
const LINKS_BELOW: u16 = 1 << 15;

fn bit(kind: FileKind) -> u16 {
    1 << kind as u16
}

impl Expression {
    /// Whether it tells of files, somewhere.
    pub fn has_output(&self) -> bool {
        match self {
            Expression::Output(_) => true,
            Expression::And(parts) | Expression::Or(parts) | Expression::List(parts) => {
                parts.iter().any(Expression::has_output)
            }
            Expression::Not(part) => part.has_output(),
            Expression::Test(_) | Expression::Prune | Expression::Quit => false,
        }
    }

    /// Whether names are all that it looks at and tells.
    pub fn is_of_names(&self) -> bool {
        match self {
            Expression::And(parts) | Expression::Or(parts) | Expression::List(parts) => {
                parts.iter().all(Expression::is_of_names)
            }
            Expression::Not(part) => part.is_of_names(),
            Expression::Test(test) => {
                matches!(test, Test::Constant(_) | Test::Name(_) | Test::Path(_))
            }
            Expression::Output(output) => *output != Output::Long,
            Expression::Prune | Expression::Quit => true,
        }
    }
}
