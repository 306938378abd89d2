//! A line of a file that has some letters in it, in what has not come yet.
//!
//! The file is read a part at a time, forwards or backwards, up to a bound: what is further away is for a search in the file
//! that the user saves.

use ocifs::tree::Place;

use super::super::subject::View;
use super::find::{folds_case, position};
use crate::render::errors::AnyError;

/// Bytes read at a time, and in all.
const CHUNK_BYTES: usize = 1 << 20;
pub(in crate::explore) const MOST_SOUGHT: u64 = 256 << 20;

/// A line that is longer is gone to where the letters are.
const MAX_LINE: u64 = 16 << 10;

/// What is looked for, and where.
#[derive(Clone, Debug)]
pub(in crate::explore) struct Sought {
    pub(in crate::explore) needle: String,
    /// The line begins at or behind this place of the file; or before it.
    pub(in crate::explore) from: u64,
    pub(in crate::explore) forward: bool,
}

/// Where the next line begins that has the letters in it, if one does within the bound; `None` if it is wanted no more.
pub(super) fn seek(
    view: &View,
    place: Place,
    sought: &Sought,
    is_wanted: &dyn Fn() -> bool,
) -> Option<Result<Option<u64>, AnyError>> {
    let size = view.file_size(place).unwrap_or(0);
    let mut read = |at: u64, length: usize| view.read(place, at, length);
    seek_in(size, sought, CHUNK_BYTES, &mut read, is_wanted)
}

type Read<'a> = &'a mut dyn FnMut(u64, usize) -> Result<Vec<u8>, AnyError>;

fn seek_in(
    size: u64,
    sought: &Sought,
    chunk: usize,
    read: Read<'_>,
    is_wanted: &dyn Fn() -> bool,
) -> Option<Result<Option<u64>, AnyError>> {
    let Sought { needle, from, forward } = sought;
    let (needle, folds) = (needle.as_bytes(), folds_case(needle));
    let overlap = needle.len().saturating_sub(1) as u64;
    let (mut at, mut done) = (*from, 0);
    while done < MOST_SOUGHT && if *forward { at < size } else { at > 0 } {
        if !is_wanted() {
            return None;
        }
        let (start, end) = match forward {
            true => (at, size.min(at + chunk as u64 + overlap)),
            false => (at.saturating_sub(chunk as u64), size.min(at + overlap)),
        };
        let bytes = match read(start, (end - start) as usize) {
            Ok(bytes) if bytes.is_empty() => break,
            Ok(bytes) => bytes,
            Err(error) => return Some(Err(error)),
        };
        let found = match forward {
            true => position(&bytes, needle, folds),
            false => last_position(&bytes, needle, folds),
        };
        if let Some(found) = found {
            return Some(line_of(start + found as u64, start, &bytes[..found], read).map(Some));
        }
        at = if *forward { start + chunk as u64 } else { start };
        done += chunk as u64;
    }
    Some(Ok(None))
}

fn last_position(text: &[u8], needle: &[u8], folds: bool) -> Option<usize> {
    let (mut last, mut from) = (None, 0);
    while let Some(at) = text.get(from..).and_then(|rest| position(rest, needle, folds)) {
        last = Some(from + at);
        from += at + 1;
    }
    last
}

/// Where the line begins that has this place, of which so many bytes before it are known.
fn line_of(place: u64, start: u64, before: &[u8], read: Read<'_>) -> Result<u64, AnyError> {
    let line = |start: u64, before: &[u8]| {
        let end = before.iter().rposition(|byte| *byte == b'\n')?;
        Some(start + end as u64 + 1)
    };
    if let Some(line) = line(start, before) {
        return Ok(line);
    }
    let from = place.saturating_sub(MAX_LINE);
    let more = read(from, (place - from) as usize)?;
    let begins = line(from, &more).or((from == 0).then_some(0));
    Ok(begins.unwrap_or(place))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_found_wherever_parts_end() {
        let text = b"one\ntwo Needle\nthree\nfour needle\nneedle needle\nlast";
        for chunk in [1, 2, 3, 5, 7, 100] {
            let find = |needle: &str, from: u64, forward: bool| {
                let sought = Sought { needle: needle.to_owned(), from, forward };
                let mut read = |at: u64, length: usize| {
                    let at = (at as usize).min(text.len());
                    Ok(text[at..text.len().min(at + length)].to_vec())
                };
                seek_in(text.len() as u64, &sought, chunk, &mut read, &|| true).unwrap().unwrap()
            };
            assert_eq!(find("needle", 0, true), Some(4), "{chunk}");
            assert_eq!(find("needle", 15, true), Some(21));
            assert_eq!(find("Needle", 5, true), Some(4));
            assert_eq!(find("Needle", 15, true), None);
            assert_eq!(find("needle", text.len() as u64, false), Some(33));
            assert_eq!(find("needle", 33, false), Some(21));
            assert_eq!(find("needle", 4, false), None);
            assert_eq!(find("one", 4, false), Some(0));
            assert_eq!(find("last", 0, true), Some(47));
        }
        let sought = Sought { needle: "x".to_owned(), from: 0, forward: true };
        assert!(seek_in(5, &sought, 1, &mut |_, _| Ok(vec![b'a']), &|| false).is_none());
    }

    #[test]
    fn it_is_bounded() {
        let sought = Sought { needle: "x".to_owned(), from: 0, forward: true };
        let mut bytes = 0;
        let mut read = |_: u64, length: usize| {
            bytes += length as u64;
            Ok(vec![0; length])
        };
        let found = seek_in(u64::MAX / 2, &sought, CHUNK_BYTES, &mut read, &|| true);
        assert_eq!(found.unwrap().unwrap(), None);
        assert_eq!(bytes, MOST_SOUGHT);
    }
}
