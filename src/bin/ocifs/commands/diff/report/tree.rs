//! The changes as a tree that folds.
//!
//! Directories with nothing else in them stand in one row with what is in them, and names deeper than a browser nests
//! elements are joined. If there are more changes than a report can have, a directory that came or went whole is
//! one row; what is still too much is counted.

use ocifs::image::FileChange;

use super::hunks::Hunks;
use crate::commands::diff::files::{Files, Kind};
use crate::render::errors::AnyError;
use crate::render::html::{Markup, more};
use crate::render::screen::Mark;

/// Rows of the tree, and their bytes.
const MAX_ROWS: usize = 3000;
const MAX_BYTES: usize = 2 << 20;

/// Levels of the tree: browsers give up nesting at 512 elements, of which a level has three.
const MAX_LEVELS: usize = 40;

/// Up to so many changes, directories are open at first, and lines of files.
const OPEN_CHANGES: usize = 200;
const OPEN_LINES: usize = 30;

/// A change, and what is told of all below it if that is not listed.
struct Listed<'a> {
    change: &'a FileChange,
    content: Option<String>,
}

/// A name in the tree.
struct Branch<'a> {
    /// Its path and where in that its own name begins.
    path: &'a [u8],
    begin: usize,
    listed: Option<Listed<'a>>,
    below: Vec<Branch<'a>>,
}

/// Writes the tree.
///
/// # Errors
/// Content can't be read.
pub(super) fn write(
    out: &mut Markup,
    files: &Files<'_>,
    metadata: bool,
    hunks: &mut Hunks<'_>,
) -> Result<(), AnyError> {
    let (listed, left) = listed(files);
    let (is_open, are_lines_open) = (listed.len() <= OPEN_CHANGES, listed.len() <= OPEN_LINES);
    let mut root = Branch { path: b"", begin: 0, listed: None, below: Vec::new() };
    for change in listed {
        insert(&mut root, change);
    }
    let end = out.len() + MAX_BYTES;
    let mut tree =
        Tree { out, files, metadata, is_open, are_lines_open, hunks, end, left_out: left };
    tree.out.tags("<ul class=\"tree\">\n");
    if let Some(listed) = &root.listed {
        tree.out.tags("<li data-path=\"/\">");
        tree.row(b"/", listed)?;
        tree.out.tags("</li>\n");
    }
    tree.list(&root.below)?;
    tree.out.tags("</ul>\n");
    if let Some(more) =
        more(tree.left_out, "changes are left out here: ocifs diff --all lists them.")
    {
        out.tags("<p class=\"cut\">").text(&more).tags("</p>\n");
    }
    Ok(())
}

/// The changes that are shown, and how many are not.
fn listed<'a>(files: &Files<'a>) -> (Vec<Listed<'a>>, usize) {
    let changes = &files.diff.changes;
    let collapses = changes.len() > MAX_ROWS;
    let (mut rows, mut at) = (Vec::new(), 0);
    while at < changes.len() && rows.len() < MAX_ROWS {
        let change = &changes[at];
        at += 1;
        let below = if collapses { files.whole_directory(at - 1) } else { None };
        let content = below.map(|below| files.content_of(&changes[at..at + below]));
        at += below.unwrap_or(0);
        rows.push(Listed { change, content });
    }
    (rows, changes.len() - at)
}

/// Adds a change behind all that are there; directories come before what is in them.
fn insert<'a>(root: &mut Branch<'a>, listed: Listed<'a>) {
    let path = &listed.change.path[..];
    let slashes = path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
    let mut branch = root;
    let mut begin = 0;
    for end in slashes.take(MAX_LEVELS) {
        let is_new = branch.below.last().is_none_or(|last| last.path != &path[..end]);
        if is_new {
            branch.below.push(Branch {
                path: &path[..end],
                begin,
                listed: None,
                below: Vec::new(),
            });
        }
        let last = branch.below.len() - 1;
        branch = &mut branch.below[last];
        begin = end + 1;
    }
    match path.is_empty() {
        true => branch.listed = Some(listed),
        false => branch.below.push(Branch { path, begin, listed: Some(listed), below: Vec::new() }),
    }
}

impl Branch<'_> {
    /// How many changes are at and below it.
    fn changes(&self) -> usize {
        usize::from(self.listed.is_some()) + self.below.iter().map(Branch::changes).sum::<usize>()
    }
}

struct Tree<'t, 'a, 'h> {
    out: &'t mut Markup,
    files: &'t Files<'a>,
    metadata: bool,
    is_open: bool,
    are_lines_open: bool,
    /// Where the document is to end.
    end: usize,
    left_out: usize,
    hunks: &'t mut Hunks<'h>,
}

impl Tree<'_, '_, '_> {
    fn list(&mut self, branches: &[Branch<'_>]) -> Result<(), AnyError> {
        for branch in branches {
            if self.out.len() >= self.end {
                self.left_out += branch.changes();
                continue;
            }
            let begin = branch.begin;
            let mut branch = branch;
            // Directories with one thing in them.
            while let (None, [only]) = (&branch.listed, &branch.below[..])
                && !only.below.is_empty()
            {
                branch = only;
            }
            self.out.tags("<li data-path=\"/").name(branch.path).tags("\">");
            self.item(branch, begin)?;
            self.out.tags("</li>\n");
        }
        Ok(())
    }

    fn item(&mut self, branch: &Branch<'_>, begin: usize) -> Result<(), AnyError> {
        let name = &branch.path[begin..];
        if branch.below.is_empty() {
            let Some(listed) = &branch.listed else { return Ok(()) };
            return match self.hunks.of(listed.change)? {
                Some(lines) => {
                    let tags = if self.are_lines_open {
                        "<details open><summary>"
                    } else {
                        "<details><summary>"
                    };
                    self.out.tags(tags);
                    self.row(name, listed)?;
                    self.out.tags("</summary>").append(&lines).tags("</details>");
                    Ok(())
                }
                None => self.row(name, listed),
            };
        }
        self.out.tags(if self.is_open {
            "<details class=\"dir\" open><summary>"
        } else {
            "<details class=\"dir\"><summary>"
        });
        match &branch.listed {
            Some(listed) => self.row(name, listed)?,
            None => {
                self.out.tags("<code><bdi>").name(name).tags("/</bdi></code>");
            }
        }
        self.out.tags("</summary><ul>\n");
        self.list(&branch.below)?;
        self.out.tags("</ul></details>");
        Ok(())
    }

    fn row(&mut self, name: &[u8], listed: &Listed<'_>) -> Result<(), AnyError> {
        let Listed { change, content } = listed;
        let kind = Kind::of(change);
        let (sign, mark) = kind.sign();
        self.out.tags(match mark {
            Mark::Added => "<span class=\"sign add\" aria-hidden=\"true\">",
            Mark::Removed => "<span class=\"sign del\" aria-hidden=\"true\">",
            Mark::Changed | Mark::Aside => "<span class=\"sign chg\" aria-hidden=\"true\">",
        });
        self.out
            .text(sign)
            .tags("</span><span class=\"vh\">")
            .tags(kind.word())
            .tags(" </span><code><bdi>");
        self.out.name(name);
        if self.files.is_directory(change) && name != b"/" {
            self.out.tags("/");
        }
        self.out.tags("</bdi></code>");
        let what = match content {
            Some(content) => content.clone(),
            None => self.files.what(change, self.metadata),
        };
        let from = change.renamed_from.as_ref();
        if !what.is_empty() || from.is_some() {
            self.out.tags("<span class=\"what\">");
            if let Some(from) = from {
                self.out.tags("from <bdi>/").name(from).tags("</bdi> ");
            }
            self.out.text(&what).tags("</span>");
        }
        Ok(())
    }
}
