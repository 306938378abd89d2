//! The changes as a tree that folds.
//!
//! Directories with nothing else in them stand in one row with what is in them, and names deeper than a browser nests
//! elements are joined. If there are more changes than a report can have, a directory that came or went whole is
//! one row. Where that is still too much, rows are shared out: each directory has as many as it needs up to a fair part, so
//! that all of the tree is there to be seen, and says how many more changes are in it.
//!
//! Rejected: all changes as data for the script, which would make rows of them when a directory is opened. A million are
//! 100 MB that a build keeps with each report, and without script they would not be there.

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
    /// Changes that are below it and not among these.
    left_out: usize,
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
    let listed = listed(files);
    let (is_open, are_lines_open) = (listed.len() <= OPEN_CHANGES, listed.len() <= OPEN_LINES);
    let mut root = Branch::new(b"", 0, None);
    for change in listed {
        insert(&mut root, change);
    }
    root.allot(MAX_ROWS);
    let end = out.len() + MAX_BYTES;
    let mut tree = Tree { out, files, metadata, is_open, are_lines_open, hunks, end, left_out: 0 };
    tree.out.tags("<ul class=\"tree\">\n");
    if let Some(listed) = &root.listed {
        tree.out.tags("<li data-path=\"/\">");
        tree.row(b"/", listed)?;
        tree.out.tags("</li>\n");
    }
    tree.list(&root)?;
    tree.out.tags("</ul>\n");
    if let Some(more) = more(
        tree.left_out,
        "changes are left out here: ocifs diff --all lists them, with --path '/DIRECTORY/*' those of one directory.",
    ) {
        out.tags("<p class=\"cut\">").text(&more).tags("</p>\n");
    }
    Ok(())
}

/// All changes, or if they are too many those that stand for all below them.
fn listed<'a>(files: &Files<'a>) -> Vec<Listed<'a>> {
    let changes = &files.diff.changes;
    let collapses = changes.len() > MAX_ROWS;
    let (mut rows, mut at) = (Vec::new(), 0);
    while at < changes.len() {
        let change = &changes[at];
        at += 1;
        let below = if collapses { files.whole_directory(at - 1) } else { None };
        let content = below.map(|below| files.content_of(&changes[at..at + below]));
        at += below.unwrap_or(0);
        rows.push(Listed { change, content });
    }
    rows
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
            branch.below.push(Branch::new(&path[..end], begin, None));
        }
        let last = branch.below.len() - 1;
        branch = &mut branch.below[last];
        begin = end + 1;
    }
    match path.is_empty() {
        true => branch.listed = Some(listed),
        false => branch.below.push(Branch::new(path, begin, Some(listed))),
    }
}

impl<'a> Branch<'a> {
    fn new(path: &'a [u8], begin: usize, listed: Option<Listed<'a>>) -> Branch<'a> {
        Branch { path, begin, listed, below: Vec::new(), left_out: 0 }
    }

    /// How many changes are at and below it.
    fn changes(&self) -> usize {
        let below: usize = self.below.iter().map(Branch::changes).sum();
        usize::from(self.listed.is_some()) + below + self.left_out
    }

    /// How many rows it takes with all below it.
    fn rows(&self) -> usize {
        1 + self.below.iter().map(Branch::rows).sum::<usize>()
    }

    /// Leaves so much out that no more rows are below it, one for what is left out included.
    fn allot(&mut self, rows: usize) {
        let wanted: Vec<usize> = self.below.iter().map(Branch::rows).collect();
        if wanted.iter().sum::<usize>() <= rows {
            return;
        }
        let mut left = rows;
        if self.below.len() > rows {
            left = left.saturating_sub(1);
            let out = self.below.split_off(left);
            self.left_out += out.iter().map(Branch::changes).sum::<usize>();
        }
        left -= self.below.len();
        // Those that want least get what they want, and the others the same.
        let mut order: Vec<usize> = (0..self.below.len()).collect();
        order.sort_by_key(|at| wanted[*at]);
        for (done, at) in order.iter().enumerate() {
            let share = left / (order.len() - done);
            let given = share.min(wanted[*at] - 1);
            self.below[*at].allot(given);
            left -= given;
        }
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
    fn list(&mut self, of: &Branch<'_>) -> Result<(), AnyError> {
        for branch in &of.below {
            if self.out.len() >= self.end {
                self.left_out += branch.changes();
                continue;
            }
            let begin = branch.begin;
            let mut branch = branch;
            // Directories with one thing in them.
            while let (None, [only], 0) = (&branch.listed, &branch.below[..], branch.left_out)
                && !only.below.is_empty()
            {
                branch = only;
            }
            self.out.tags("<li data-path=\"/").name(branch.path).tags("\">");
            self.item(branch, begin)?;
            self.out.tags("</li>\n");
        }
        self.left_out += of.left_out;
        if let Some(more) = more(of.left_out, "changes here").filter(|_| of.path != b"") {
            self.out.tags("<li class=\"cut\">").text(&more).tags("</li>\n");
        }
        Ok(())
    }

    fn item(&mut self, branch: &Branch<'_>, begin: usize) -> Result<(), AnyError> {
        let name = &branch.path[begin..];
        if branch.below.is_empty() {
            let Some(listed) = &branch.listed.as_ref().filter(|_| branch.left_out == 0) else {
                return self.counted(branch, name);
            };
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
        self.list(branch)?;
        self.out.tags("</ul></details>");
        Ok(())
    }

    /// A directory of which nothing but its changes' number has room.
    fn counted(&mut self, branch: &Branch<'_>, name: &[u8]) -> Result<(), AnyError> {
        self.left_out += branch.left_out;
        match &branch.listed {
            Some(listed) => self.row(name, listed)?,
            None => {
                self.out.tags("<code><bdi>").name(name).tags("/</bdi></code>");
            }
        }
        if let Some(more) = more(branch.left_out, "changes here") {
            self.out.tags("<span class=\"what cut\">").text(&more).tags("</span>");
        }
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
