//! The lines of text files that differ, as many as a report has room for.

use ocifs::image::FileChange;
use ocifs::tree::FileKind;

use crate::commands::diff::files::Files;
use crate::commands::diff::patch::read;
use crate::render::errors::AnyError;
use crate::render::html::{Markup, more};
use crate::render::patch::{is_text, write_hunks};
use crate::render::text::count;

/// The largest file of which lines are shown.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// What is read of both images for that.
const MAX_READ_BYTES: u64 = 64 << 20;

/// Lines of one file, and letters of a line.
const MAX_LINES: usize = 300;
const MAX_LINE_CHARS: usize = 400;

/// What the lines of all files take in the report.
const MAX_BYTES: usize = 1 << 20;

/// Writes lines until there is no more room.
pub(super) struct Hunks<'a> {
    files: &'a Files<'a>,
    read: u64,
    written: usize,
    /// Files whose lines are not shown, though they could be text.
    left_out: usize,
}

impl<'a> Hunks<'a> {
    pub(super) fn new(files: &'a Files<'a>) -> Hunks<'a> {
        Hunks { files, read: 0, written: 0, left_out: 0 }
    }

    /// The lines of a change; `None` if it has none to show.
    ///
    /// # Errors
    /// Content can't be read.
    pub(super) fn of(&mut self, change: &FileChange) -> Result<Option<Markup>, AnyError> {
        let (Some(old), Some(new)) = (change.old, change.new) else { return Ok(None) };
        let (Some(was), Some(is)) = self.files.attributes(change) else { return Ok(None) };
        let are_files = was.kind == FileKind::Regular && is.kind == FileKind::Regular;
        if !change.aspects.content || !are_files {
            return Ok(None);
        }
        let bytes = was.size.saturating_add(is.size);
        let is_small = was.size <= MAX_FILE_BYTES && is.size <= MAX_FILE_BYTES;
        if !is_small
            || self.written >= MAX_BYTES
            || self.read.saturating_add(bytes) > MAX_READ_BYTES
        {
            self.left_out += 1;
            return Ok(None);
        }
        self.read += bytes;
        let (old, new) = (read(self.files.old, old)?, read(self.files.new, new)?);
        if !is_text(&old) || !is_text(&new) {
            return Ok(None);
        }
        let lines = lines(&old, &new)?;
        self.written += lines.len();
        Ok(Some(lines))
    }

    /// What is said of files whose lines are not shown.
    pub(super) fn left_out(&self) -> Option<String> {
        let files = (self.left_out > 0)
            .then(|| count(self.left_out, "file that differs", "files that differ"))?;
        Some(format!(
            "The contents of {files} are not compared here, as there are too many or they are too large: ocifs diff --patch has them."
        ))
    }
}

fn lines(old: &[u8], new: &[u8]) -> Result<Markup, AnyError> {
    let mut out = Markup::default();
    let mut count = 0;
    out.tags("<pre class=\"hunks\" tabindex=\"0\">");
    write_hunks(old, new, &mut |sign, line| {
        count += 1;
        if count <= MAX_LINES {
            out.tags(match sign {
                '+' => "<span class=\"add\">",
                '-' => "<span class=\"del\">",
                '@' | '\\' => "<span class=\"at\">",
                _ => "<span>",
            });
            out.line(line.strip_suffix(b"\n").unwrap_or(line), MAX_LINE_CHARS).tags("</span>");
        }
        Ok(())
    })?;
    if let Some(more) = more(count.saturating_sub(MAX_LINES), "lines") {
        out.tags("<span class=\"at\">").text(&more).tags("</span>");
    }
    out.tags("</pre>");
    Ok(out)
}
