//! Bytes of a file for people; of one that two images have, how they differ.

use ocifs::tree::{FileKind, Ino, Place};

use super::super::subject::{Pair, Subject, View, read_of};
use super::asked::{Content, Patch, READ_BYTES};
use crate::render::errors::{AnyError, chain};
use crate::render::patch::{is_text, write_hunks};
use crate::render::text::printable;

/// The largest texts whose lines are compared, in bytes.
const MAX_COMPARED: u64 = 1 << 20;

/// Reads what follows.
pub(super) fn read(view: &View, place: Place, offset: u64) -> Result<Content, AnyError> {
    if let Subject::Pair(pair) = &*view.subject
        && let Some(patch) = patch(pair, place)?
    {
        return Ok(Content::Patch(patch));
    }
    view.read(place, offset, READ_BYTES).map(Content::Bytes)
}

/// An error in a line, as a terminal may have it.
pub(super) fn words(error: &AnyError) -> String {
    printable(&chain(error.as_ref()))
}

/// How a text of both images differs, if it does.
fn patch(pair: &Pair, place: Place) -> Result<Option<Patch>, AnyError> {
    let places = pair.side_by_side();
    let (Some(old), Some(new)) = (places.old_ino(place), places.new_ino(place)) else {
        return Ok(None);
    };
    let is_small = |image: &ocifs::image::LayeredImage, ino: Ino| {
        let a = image.filesystem().tree().attributes(ino);
        a.kind == FileKind::Regular && a.size <= MAX_COMPARED
    };
    let differs = pair.aspects(place).is_some_and(|aspects| aspects.content);
    if !differs || !is_small(&pair.old, old) || !is_small(&pair.new, new) {
        return Ok(None);
    }
    let length = MAX_COMPARED as usize;
    let (old, new) = (read_of(&pair.old, old, 0, length)?, read_of(&pair.new, new, 0, length)?);
    if !is_text(&old) || !is_text(&new) {
        return Ok(None);
    }
    let mut lines = Vec::new();
    write_hunks(&old, &new, &mut |sign, line| {
        lines.push((sign, line.strip_suffix(b"\n").unwrap_or(line).to_vec()));
        Ok(())
    })?;
    Ok(Some(lines))
}
