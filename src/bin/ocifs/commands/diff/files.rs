//! The files that differ, for people: a row each, totals, or names.

use std::borrow::Cow;
use std::io::{self, Write};

use ocifs::image::{Diff, FileChange, LayeredImage, common_layers};
use ocifs::tree::{Attributes, FileKind, Tree};

use crate::render::json::type_word;
use crate::render::listing::for_terminal;
use crate::render::screen::{Mark, Screen};
use crate::render::table::{Align, Table};
use crate::render::text::{count, size};

/// What two images have of files, and how it is shown.
pub(super) struct Files<'a> {
    pub(super) old: &'a LayeredImage,
    pub(super) new: &'a LayeredImage,
    pub(super) diff: &'a Diff,
    pub(super) screen: Screen,
}

/// What became of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Added,
    Removed,
    Renamed,
    /// Other bytes, or another kind of file.
    Changed,
    /// Other attributes.
    Attributes,
}

/// All of them, in the order in which totals are told.
pub(super) const KINDS: [Kind; 5] =
    [Kind::Added, Kind::Removed, Kind::Renamed, Kind::Changed, Kind::Attributes];

impl Kind {
    pub(super) fn of(change: &FileChange) -> Kind {
        let aspects = change.aspects;
        match (change.old, change.new) {
            (None, _) => Kind::Added,
            (_, None) => Kind::Removed,
            _ if change.renamed_from.is_some() => Kind::Renamed,
            _ if aspects.content || aspects.kind || aspects.target || aspects.device => {
                Kind::Changed
            }
            _ => Kind::Attributes,
        }
    }

    pub(super) fn word(self) -> &'static str {
        match self {
            Kind::Added => "added",
            Kind::Removed => "removed",
            Kind::Renamed => "renamed",
            Kind::Changed => "changed",
            Kind::Attributes => "attributes",
        }
    }

    pub(super) fn sign(self) -> (&'static str, Mark) {
        match self {
            Kind::Added => ("+", Mark::Added),
            Kind::Removed => ("-", Mark::Removed),
            Kind::Renamed => (">", Mark::Changed),
            Kind::Changed => ("~", Mark::Changed),
            Kind::Attributes => ("m", Mark::Changed),
        }
    }
}

/// How many files of a kind of change there are, and their bytes.
#[derive(Clone, Copy, Default)]
pub(super) struct Total {
    pub(super) files: u64,
    pub(super) old_bytes: u64,
    pub(super) new_bytes: u64,
}

impl Files<'_> {
    pub(super) fn trees(&self) -> (&Tree, &Tree) {
        (self.old.filesystem().tree(), self.new.filesystem().tree())
    }

    /// What each image has of a change.
    pub(super) fn attributes(
        &self,
        change: &FileChange,
    ) -> (Option<Attributes>, Option<Attributes>) {
        let (old, new) = self.trees();
        (change.old.map(|ino| old.attributes(ino)), change.new.map(|ino| new.attributes(ino)))
    }

    /// A row each. Where a directory is in one image alone, one row stands for it and all below it, if that is
    /// wanted.
    pub(super) fn print(
        &self,
        collapses: bool,
        metadata: bool,
        out: &mut impl Write,
    ) -> io::Result<()> {
        let changes = &self.diff.changes;
        let mut at = 0;
        while let Some(change) = changes.get(at) {
            let below = if collapses { self.whole_directory(at) } else { None };
            let what = match below {
                Some(below) => {
                    let what = self.content_of(&changes[at + 1..at + 1 + below]);
                    at += below;
                    what
                }
                None => self.what(change, metadata),
            };
            self.row(change, &what, out)?;
            at += 1;
        }
        Ok(())
    }

    fn row(&self, change: &FileChange, what: &str, out: &mut impl Write) -> io::Result<()> {
        let (sign, mark) = Kind::of(change).sign();
        let mut path = match &change.renamed_from {
            Some(old) => [&self.shown(old)[..], b" -> ", &self.shown(&change.path)].concat(),
            None => self.shown(&change.path).into_owned(),
        };
        if self.is_directory(change) && !change.path.is_empty() {
            path.push(b'/');
        }
        let sign = self.screen.marked(mark, sign);
        let (gap, wide_gap) = if self.screen.is_terminal() { (" ", "  ") } else { ("\t", "\t") };
        write!(out, "{sign}{gap}")?;
        out.write_all(&path)?;
        match what {
            "" if self.screen.is_terminal() => writeln!(out),
            what => writeln!(out, "{wide_gap}{}", self.screen.marked(Mark::Aside, what)),
        }
    }

    /// A path with the slash that it begins with, as stdout may have it.
    fn shown<'p>(&self, path: &'p [u8]) -> Cow<'p, [u8]> {
        let path = [b"/", path].concat();
        match self.screen.is_terminal() {
            true => for_terminal(&path).into_bytes().into(),
            false => path.into(),
        }
    }

    pub(super) fn is_directory(&self, change: &FileChange) -> bool {
        let (old, new) = self.attributes(change);
        new.or(old).is_some_and(|attributes| attributes.kind == FileKind::Directory)
    }

    /// If a change is a directory that came or went with all that is below it: how many changes that is.
    pub(super) fn whole_directory(&self, at: usize) -> Option<usize> {
        let changes = &self.diff.changes;
        let (directory, kind) = (&changes[at], Kind::of(&changes[at]));
        if !matches!(kind, Kind::Added | Kind::Removed) || !self.is_directory(directory) {
            return None;
        }
        let is_below = |change: &&FileChange| {
            let rest = change.path.strip_prefix(&directory.path[..]);
            rest.is_some_and(|rest| rest.starts_with(b"/"))
        };
        let below: Vec<&FileChange> = changes[at + 1..].iter().take_while(is_below).collect();
        let is_whole = !below.is_empty() && below.iter().all(|change| Kind::of(change) == kind);
        is_whole.then_some(below.len())
    }

    /// `214 files, 3.10 MiB`
    pub(super) fn content_of(&self, changes: &[FileChange]) -> String {
        let (mut files, mut bytes) = (0, 0u64);
        for change in changes {
            let (old, new) = self.attributes(change);
            let Some(attributes) = new.or(old) else { continue };
            if attributes.kind != FileKind::Directory {
                files += 1;
                bytes = bytes.saturating_add(regular_bytes(Some(attributes)));
            }
        }
        format!("({}, {})", count(files, "file", "files"), size(bytes))
    }

    /// In what a change consists: `content +0.1 KiB, mode 0644 -> 0600`.
    pub(super) fn what(&self, change: &FileChange, metadata: bool) -> String {
        let (Some(was), Some(is)) = self.attributes(change) else {
            let (old, new) = self.attributes(change);
            return new.or(old).map_or(String::new(), |attributes| match attributes.kind {
                FileKind::Regular => size(attributes.size),
                FileKind::Directory => String::new(),
                kind => type_word(kind).to_owned(),
            });
        };
        let mut what = Vec::new();
        let aspects = change.aspects;
        if aspects.kind {
            what.push(format!("{} -> {}", type_word(was.kind), type_word(is.kind)));
        }
        if aspects.content {
            what.push(match is.size.cmp(&was.size) {
                std::cmp::Ordering::Greater => format!("content +{}", size(is.size - was.size)),
                std::cmp::Ordering::Less => format!("content -{}", size(was.size - is.size)),
                std::cmp::Ordering::Equal => "content".to_owned(),
            });
        }
        if aspects.target {
            let (old, new) = self.trees();
            let target =
                |tree: &Tree, a: &Attributes| for_terminal(tree.symlink(a.ino).unwrap_or_default());
            what.push(format!("target {} -> {}", target(old, &was), target(new, &is)));
        }
        if aspects.device {
            let (was, is) = (was.device, is.device);
            what.push(format!("device {},{} -> {},{}", was.0, was.1, is.0, is.1));
        }
        if aspects.mode {
            what.push(format!("mode {:04o} -> {:04o}", was.mode, is.mode));
        }
        if aspects.owner {
            what.push(format!("owner {}:{} -> {}:{}", was.uid, was.gid, is.uid, is.gid));
        }
        if aspects.xattrs {
            what.push("extended attributes".to_owned());
        }
        if aspects.time && metadata {
            what.push("time".to_owned());
        }
        what.join(", ")
    }

    /// The paths alone, each in a line.
    pub(super) fn print_names(&self, out: &mut impl Write) -> io::Result<()> {
        for change in &self.diff.changes {
            out.write_all(&self.shown(&change.path))?;
            out.write_all(b"\n")?;
        }
        Ok(())
    }

    pub(super) fn total(&self, kind: Kind) -> Total {
        let mut total = Total::default();
        for change in self.diff.changes.iter().filter(|change| Kind::of(change) == kind) {
            let (old, new) = self.attributes(change);
            total.files += 1;
            total.old_bytes = total.old_bytes.saturating_add(regular_bytes(old));
            total.new_bytes = total.new_bytes.saturating_add(regular_bytes(new));
        }
        total
    }

    /// A row for each kind of change.
    pub(super) fn print_totals(&self, out: &mut impl Write) -> io::Result<()> {
        let columns = [
            ("change", Align::Left),
            ("paths", Align::Right),
            ("bytes before", Align::Right),
            ("bytes after", Align::Right),
        ];
        let mut table = Table::new(self.screen, &columns);
        for kind in KINDS {
            let Total { files, old_bytes, new_bytes } = self.total(kind);
            let (before, after) = (self.screen.size(old_bytes), self.screen.size(new_bytes));
            table.row([kind.word().to_owned(), files.to_string(), before, after]);
        }
        table.print(out)
    }

    /// `3 changes: 1 added, 2 changed; 1 of 3 layers in common; 0 B read`
    pub(super) fn summary(&self) -> String {
        let changes = count(self.diff.changes.len(), "change", "changes");
        let kinds = KINDS.map(|kind| (self.total(kind).files, kind.word()));
        let kinds: Vec<String> = kinds
            .iter()
            .filter(|(files, _)| *files > 0)
            .map(|(files, word)| format!("{files} {word}"))
            .collect();
        let kinds =
            if kinds.is_empty() { String::new() } else { format!(": {}", kinds.join(", ")) };
        let layers = common_layers(self.old.resolved(), self.new.resolved());
        let (common, all) = (layers.common, layers.common + layers.new);
        let read = size(self.diff.bytes_read);
        let layers = count(all, "layer", "layers");
        format!("{changes}{kinds}; {common} of {layers} in common; {read} of files read\n")
    }
}

pub(super) fn regular_bytes(attributes: Option<Attributes>) -> u64 {
    attributes.filter(|a| a.kind == FileKind::Regular).map_or(0, |a| a.size)
}
