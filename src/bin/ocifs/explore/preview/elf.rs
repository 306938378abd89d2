//! Programs and libraries in ELF, in a few words, out of the first bytes of the file.
//!
//! Format: elf(5). What lies beyond what was read is left out; what makes no sense is, too.

use crate::render::listing::for_terminal;

const MAGIC: &[u8] = b"\x7fELF";

/// Segments that are looked at, and bytes of a path that are shown.
const MAX_SEGMENTS: usize = 64;
const MAX_PATH: usize = 200;

/// Notes that are looked at.
const MAX_NOTES: usize = 8;

const INTERPRETER: u32 = 3;
const NOTE: u32 = 4;
const DYNAMIC: u32 = 2;

/// Numbers of one of both widths and byte orders.
#[derive(Clone, Copy)]
struct Reader<'a> {
    bytes: &'a [u8],
    is_64: bool,
    is_big: bool,
}

impl Reader<'_> {
    fn number(self, at: usize, width: usize) -> Option<u64> {
        let bytes = self.bytes.get(at..at.checked_add(width)?)?;
        let join = |sum: u64, byte: &u8| sum << 8 | u64::from(*byte);
        Some(match self.is_big {
            true => bytes.iter().fold(0, join),
            false => bytes.iter().rev().fold(0, join),
        })
    }

    fn half(self, at: usize) -> Option<u64> {
        self.number(at, 2)
    }

    fn word(self, at: usize) -> Option<u32> {
        self.number(at, 4).map(|number| number as u32)
    }

    /// A number as wide as an address, by its places in both widths.
    fn address(self, at_32: usize, at_64: usize) -> Option<usize> {
        let number = if self.is_64 { self.number(at_64, 8) } else { self.number(at_32, 4) };
        usize::try_from(number?).ok()
    }
}

/// What it is, if it is ELF.
pub(super) fn summary(bytes: &[u8]) -> Option<Vec<String>> {
    let is_elf = bytes.starts_with(MAGIC) && bytes.len() >= 52;
    is_elf.then_some(())?;
    let reader = Reader { bytes, is_64: bytes[4] == 2, is_big: bytes[5] == 2 };
    let kind = match reader.half(16)? {
        1 => "object file",
        2 => "program",
        3 => "library or program at any address",
        4 => "core dump",
        _ => "file",
    };
    let machine = match reader.half(18)? {
        3 => "x86",
        8 => "MIPS",
        20 => "PowerPC",
        21 => "PowerPC 64",
        22 => "S/390",
        40 => "ARM",
        62 => "x86-64",
        183 => "ARM 64",
        243 => "RISC-V",
        247 => "BPF",
        258 => "LoongArch",
        _ => "another processor",
    };
    let bits = if reader.is_64 { 64 } else { 32 };
    let mut lines = vec![format!("ELF {kind}, {bits} bits, {machine}")];
    lines.extend(segments(reader).unwrap_or_default());
    Some(lines)
}

fn segments(reader: Reader<'_>) -> Option<Vec<String>> {
    let start = reader.address(28, 32)?;
    let (size, count) = match reader.is_64 {
        true => (reader.half(54)?, reader.half(56)?),
        false => (reader.half(42)?, reader.half(44)?),
    };
    let (mut interpreter, mut build_id, mut is_dynamic) = (None, None, false);
    for number in 0..usize::try_from(count).ok()?.min(MAX_SEGMENTS) {
        let at = start.checked_add(number * size as usize)?;
        let Some(kind) = reader.word(at) else { break };
        let offset = reader.address(at.checked_add(4)?, at.checked_add(8)?)?;
        let length = reader.address(at.checked_add(16)?, at.checked_add(32)?)?;
        let content = offset.checked_add(length).and_then(|end| reader.bytes.get(offset..end));
        match (kind, content) {
            (INTERPRETER, Some(path)) => {
                let path = path.strip_suffix(b"\0").unwrap_or(path);
                interpreter = Some(for_terminal(&path[..path.len().min(MAX_PATH)]));
            }
            (NOTE, Some(notes)) => {
                build_id = build_id.or(gnu_build_id(Reader { bytes: notes, ..reader }))
            }
            (DYNAMIC, _) => is_dynamic = true,
            _ => {}
        }
    }
    let linked = match (interpreter, is_dynamic) {
        (Some(path), _) => format!("dynamically linked, started by {path}"),
        (None, true) => "dynamically linked".to_owned(),
        (None, false) => "statically linked".to_owned(),
    };
    let build_id = build_id.map(|id| format!("build ID {id}"));
    Some([Some(linked), build_id].into_iter().flatten().collect())
}

/// GNU's build ID, if it is among some notes.
fn gnu_build_id(notes: Reader<'_>) -> Option<String> {
    let mut at = 0;
    for _ in 0..MAX_NOTES {
        let (name, length) = (notes.word(at)? as usize, notes.word(at + 4)? as usize);
        let text = at + 12;
        let content = text.checked_add(name)?.checked_next_multiple_of(4)?;
        let end = content.checked_add(length)?;
        let is_id = notes.word(at + 8)? == 3 && notes.bytes.get(text..text + name)? == b"GNU\0";
        if is_id && length <= 64 {
            let id = notes.bytes.get(content..end)?;
            return Some(id.iter().map(|byte| format!("{byte:02x}")).collect());
        }
        at = end.checked_next_multiple_of(4)?;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_program_is_known() {
        let bytes = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        let lines = summary(&bytes[..64 << 10]).unwrap();
        assert!(
            lines[0].starts_with("ELF library or program at any address, 64 bits, "),
            "{lines:?}"
        );
        assert!(lines[1].starts_with("dynamically linked, started by /lib"), "{lines:?}");
    }

    #[test]
    fn the_build_id_is_one_of_several_notes() {
        let mut bytes = Vec::new();
        for (kind, id) in [(5u32, &b"\x01"[..]), (3, b"\xab\xcd\xef\x01")] {
            for number in [4u32, id.len() as u32, kind] {
                bytes.extend_from_slice(&number.to_le_bytes());
            }
            bytes.extend_from_slice(b"GNU\0");
            bytes.extend_from_slice(id);
            bytes.resize(bytes.len().next_multiple_of(4), 0);
        }
        let notes = |bytes| Reader { bytes, is_64: true, is_big: false };
        assert_eq!(gnu_build_id(notes(&bytes)).unwrap(), "abcdef01");
        for length in 0..bytes.len() {
            assert_eq!(gnu_build_id(notes(&bytes[..length])), None);
        }
    }

    #[test]
    fn what_makes_no_sense_is_left_out() {
        let bytes = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        for length in 0..300 {
            assert_eq!(summary(&bytes[..length]).is_some(), length >= 52);
        }
        for at in 0..300 {
            for value in [0, 0x7f, 0xff] {
                let mut bad = bytes[..1024].to_vec();
                bad[at] = value;
                let shown = summary(&bad).into_iter().flatten().all(|line| line.len() < 300);
                assert!(shown, "{at}");
            }
        }
        assert_eq!(summary(b"#!/bin/sh"), None);
    }
}
