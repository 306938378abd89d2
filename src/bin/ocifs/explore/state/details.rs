//! What is known of a file besides its content: attributes, versions, and what stands for the content of what has none.

use ocifs::image::{LayerStack, LayeredImage};
use ocifs::tree::{Aspects, Cause, Change, End, FileKind, Ino, Place, Version};

use crate::explore::listing::{Sum, Sums};
use crate::explore::preview::{Line, Tone};
use crate::explore::subject::{LayerRow, Pair, Subject, View};
use crate::render::listing::{for_terminal, mode_text};
use crate::render::text::{count, size};
use crate::render::time::rfc3339;

/// Extended attributes that are shown, and bytes of each value.
const MAX_XATTRS: usize = 100;
const MAX_VALUE: usize = 200;

fn line(name: &str, text: impl std::fmt::Display) -> Line {
    Line { margin: format!("{name:<12} "), text: text.to_string(), tone: Tone::Plain }
}

fn kind_word(kind: FileKind) -> &'static str {
    match kind {
        FileKind::Regular => "file",
        FileKind::Directory => "directory",
        FileKind::Symlink => "symlink",
        FileKind::CharDevice => "character device",
        FileKind::BlockDevice => "block device",
        FileKind::Fifo => "fifo",
    }
}

fn change_word(change: Option<Change>) -> &'static str {
    match change {
        None => "not changed",
        Some(Change::Added) => "added",
        Some(Change::Changed) => "changed",
        Some(Change::Removed) => "removed",
    }
}

/// The attributes of a place.
pub(super) fn attributes(view: &View, place: Place, path: &[u8]) -> Vec<Line> {
    let facts = view.with(|places| places.facts(place));
    let mut lines = vec![
        line("path", format!("/{}", for_terminal(path))),
        line("kind", kind_word(facts.kind)),
        line("mode", format!("{:04o} {}", facts.mode, mode_text(facts.kind, facts.mode))),
        line("owner", format!("{}:{}", facts.uid, facts.gid)),
        line("time", rfc3339(facts.mtime_seconds)),
    ];
    if facts.kind == FileKind::Regular {
        lines.push(line("size", format!("{} ({} bytes)", size(facts.size), facts.size)));
    }
    lines.extend(target(view, place).map(|target| line("leads to", target)));
    match (&*view.subject, view.as_of()) {
        (Subject::Image(stack), Some((_, as_of))) => {
            let origin = as_of.origin(place);
            let made = as_of.made_in(place);
            let layer = match facts.change {
                Some(Change::Removed) => format!("{made}, removed by {}", view.layer),
                Some(Change::Changed) => format!("{}, which changes it", view.layer),
                Some(Change::Added) => format!("{made}, which adds it"),
                None => made.to_string(),
            };
            lines.insert(1, line("layer", layer));
            let digest = stack.content_digest(origin).and_then(|digest| digest.sha256_hex());
            lines.extend(digest.map(|digest| line("sha256", digest)));
            lines.push(line("proof", stack.indexes()[origin.layer].proof().name()));
            lines.extend(xattrs(stack.xattrs(origin).into_iter()));
        }
        (Subject::Pair(pair), _) => {
            lines.push(line("change", change_word(facts.change)));
            lines.extend(of_pair(pair, place, path));
        }
        _ => {}
    }
    lines
}

fn target(view: &View, place: Place) -> Option<String> {
    view.with(|places| places.target(place).map(for_terminal))
}

fn xattrs<'a>(xattrs: impl Iterator<Item = (&'a [u8], &'a [u8])>) -> Vec<Line> {
    let shown = |(name, value): (&[u8], &[u8])| {
        let value = for_terminal(&value[..value.len().min(MAX_VALUE)]);
        line("xattr", format!("{} = {value}", for_terminal(name)))
    };
    xattrs.take(MAX_XATTRS).map(shown).collect()
}

/// What is known of a file of two images.
fn of_pair(pair: &Pair, place: Place, path: &[u8]) -> Vec<Line> {
    let mut lines = Vec::new();
    lines.extend(
        pair.moved_from(path).map(|from| line("moved from", format!("/{}", for_terminal(from)))),
    );
    lines.extend(pair.aspects(place).map(|aspects| line("differs in", aspect_words(aspects))));
    let places = pair.side_by_side();
    let sides =
        [("before", &pair.old, places.old_ino(place)), ("now", &pair.new, places.new_ino(place))];
    for (name, image, ino) in sides {
        let Some(ino) = ino else { continue };
        lines.push(line(name, in_short(image, ino)));
        let digest = image.content_digest(ino).and_then(|digest| digest.sha256_hex());
        lines.extend(digest.map(|digest| line("", format!("sha256 {digest}"))));
    }
    lines
}

fn in_short(image: &LayeredImage, ino: Ino) -> String {
    let a = image.filesystem().tree().attributes(ino);
    format!(
        "{} {}:{} {} {} layer {}",
        mode_text(a.kind, a.mode),
        a.uid,
        a.gid,
        size(a.size),
        rfc3339(a.mtime_seconds),
        image.origin(ino).layer
    )
}

fn aspect_words(aspects: Aspects) -> String {
    let words = [
        (aspects.kind, "kind"),
        (aspects.content, "content"),
        (aspects.target, "target"),
        (aspects.device, "device"),
        (aspects.mode, "mode"),
        (aspects.owner, "owner"),
        (aspects.xattrs, "extended attributes"),
        (aspects.time, "time"),
    ];
    let words = words.iter().filter(|(differs, _)| *differs);
    words.map(|(_, word)| *word).collect::<Vec<_>>().join(", ")
}

/// What a path was in each layer, the newest first.
pub(super) fn versions(view: &View, place: Place, path: &[u8], layers: &[LayerRow]) -> Vec<Line> {
    let stack = match &*view.subject {
        Subject::Image(stack) => stack,
        Subject::Pair(pair) => return of_pair(pair, place, path),
    };
    let versions = stack.provenance().versions(path);
    let by = |layer: usize| layers.get(layer).map_or("", |row| row.instruction.as_str());
    let mut lines = Vec::new();
    for (at, version) in versions.iter().enumerate().rev() {
        let next = versions.get(at + 1).map(|next| next.layer);
        if let Some(End { layer, cause }) = version.end.filter(|end| next != Some(end.layer)) {
            let text = format!("- {}  {}", ending(cause), by(layer));
            lines.push(Line { margin: margin(layer), text, tone: Tone::Removed });
        }
        let (sign, tone) = match at {
            0 => ('+', Tone::Added),
            _ => ('~', Tone::Plain),
        };
        let text = format!("{sign} {}  {}", what(stack, version), by(version.layer));
        lines.push(Line { margin: margin(version.layer), text, tone });
    }
    if versions.iter().any(|version| version.end.is_some()) {
        lines.push(Line::new(Tone::Aside, ""));
        lines.push(Line::new(
            Tone::Aside,
            "[ and ] go to other layers, where versions that are gone can be read",
        ));
    }
    lines
}

fn margin(layer: usize) -> String {
    format!("layer {layer:<3} ")
}

fn ending(cause: Cause) -> &'static str {
    match cause {
        Cause::Whiteout => "deleted",
        Cause::OpaqueMark => "deleted (opaque directory)",
        Cause::Replaced => "deleted (directory replaced)",
    }
}

fn what(stack: &LayerStack, version: &Version) -> String {
    use ocifs::index::EntryKind;
    match stack.entry(version.origin) {
        None => "directory".to_owned(),
        Some(entry) => {
            let kind = match entry.kind {
                EntryKind::File { size: bytes, .. } => {
                    return format!("file, {}, {:04o}", size(bytes), entry.mode);
                }
                EntryKind::Directory if version.is_update => "directory, again",
                EntryKind::Directory => "directory",
                EntryKind::Symlink(target) => {
                    return format!("symlink to {}", for_terminal(target));
                }
                EntryKind::CharDevice(..) => "character device",
                EntryKind::BlockDevice(..) => "block device",
                EntryKind::Fifo => "fifo",
                EntryKind::HardLink { .. } => "hard link",
            };
            format!("{kind}, {:04o}", entry.mode)
        }
    }
}

/// What is shown in place of a content.
pub(super) fn no_file(view: &View, place: Place, sums: Option<&Sums>) -> Vec<Line> {
    let facts = view.with(|places| places.facts(place));
    let mut lines = vec![Line::new(Tone::Aside, kind_word(facts.kind))];
    if let Some(target) = target(view, place) {
        lines = vec![Line::new(Tone::Plain, format!("symlink to {target}"))];
    }
    if let Some(sums) = sums
        && view.with(|places| places.is_directory(place))
    {
        let sum = sums.get(&place).copied().unwrap_or_default();
        lines.push(Line::new(Tone::Plain, names(sum)));
        lines.push(Line::new(Tone::Plain, format!("{} in files", size(sum.bytes))));
    }
    lines
}

/// How many names a directory has, and how many of them changed.
fn names(sum: Sum) -> String {
    let mut text = count(usize::try_from(sum.names).unwrap_or(usize::MAX), "name", "names");
    for (number, word) in sum.changes.iter().zip(["added", "changed", "removed"]) {
        if *number > 0 {
            text.push_str(&format!(", {number} {word}"));
        }
    }
    text
}
