//! Archives: the names of their first members, out of the first bytes of the file.

use std::io::Read;

use flate2::read::GzDecoder;

use crate::render::listing::for_terminal;
use crate::render::text::size;

/// Members that are named, and bytes of a name that are shown.
const MAX_MEMBERS: usize = 30;
const MAX_NAME: usize = 200;

/// Bytes that what is compressed is unpacked to.
const MAX_UNPACKED: u64 = 1 << 20;

/// What it is and what is in it, if it is an archive.
pub(super) fn summary(bytes: &[u8]) -> Option<Vec<String>> {
    match bytes {
        [b'P', b'K', 3, 4, ..] => Some(listed("zip archive", zip(bytes))),
        [b'!', b'<', b'a', b'r', b'c', b'h', b'>', b'\n', ..] => {
            Some(listed("ar archive", ar(bytes)))
        }
        [0x1f, 0x8b, ..] => {
            let mut unpacked = Vec::new();
            // The end is missing of what is longer than what was read.
            let _ = GzDecoder::new(bytes).take(MAX_UNPACKED).read_to_end(&mut unpacked);
            is_tar(&unpacked).then(|| listed("tar archive, gzip", tar(&unpacked)))
        }
        _ => is_tar(bytes).then(|| listed("tar archive", tar(bytes))),
    }
}

fn listed(what: &str, members: Vec<(Vec<u8>, u64)>) -> Vec<String> {
    let mut lines = vec![what.to_owned()];
    let more = members.len() > MAX_MEMBERS;
    for (name, bytes) in members.iter().take(MAX_MEMBERS) {
        lines.push(format!(
            "{:>9}  {}",
            size(*bytes),
            for_terminal(&name[..name.len().min(MAX_NAME)])
        ));
    }
    if more {
        lines.push("           \u{2026}".to_owned());
    }
    lines
}

fn is_tar(bytes: &[u8]) -> bool {
    bytes.get(257..262) == Some(b"ustar")
}

fn tar(bytes: &[u8]) -> Vec<(Vec<u8>, u64)> {
    let mut archive = tar::Archive::new(bytes);
    let Ok(entries) = archive.entries() else { return Vec::new() };
    let entries = entries.map_while(Result::ok).take(MAX_MEMBERS + 1);
    entries.map(|entry| (entry.path_bytes().into_owned(), entry.size())).collect()
}

/// Format: APPNOTE.TXT 4.3.7, local file headers.
fn zip(bytes: &[u8]) -> Vec<(Vec<u8>, u64)> {
    let (mut members, mut at) = (Vec::new(), 0);
    while let Some(header) = bytes.get(at..at + 30)
        && header.starts_with(b"PK\x03\x04")
        && members.len() <= MAX_MEMBERS
    {
        let half = |at: usize| usize::from(u16::from_le_bytes([header[at], header[at + 1]]));
        let word = |at: usize| half(at) | half(at + 2) << 16;
        let (packed, unpacked, name, extra) = (word(18), word(22), half(26), half(28));
        let Some(text) = bytes.get(at + 30..at + 30 + name) else { break };
        members.push((text.to_vec(), unpacked as u64));
        // Sizes may stand behind the content, and where that ends is not known then.
        if half(6) & 8 != 0 && packed == 0 {
            break;
        }
        at += 30 + name + extra + packed;
    }
    members
}

/// Format: ar(5).
fn ar(bytes: &[u8]) -> Vec<(Vec<u8>, u64)> {
    let (mut members, mut at) = (Vec::new(), 8);
    while let Some(header) = bytes.get(at..at + 60)
        && header.ends_with(b"`\n")
        && members.len() <= MAX_MEMBERS
    {
        let text = std::str::from_utf8(&header[48..58]).map(str::trim);
        let Some(length) = text.ok().and_then(|text| text.parse::<u64>().ok()) else { break };
        let name = header[..16].trim_ascii_end();
        members.push((name.strip_suffix(b"/").unwrap_or(name).to_vec(), length));
        let next = usize::try_from(length).ok().and_then(|length| (at + 60).checked_add(length));
        let Some(next) = next.filter(|next| *next < bytes.len()) else { break };
        at = next.next_multiple_of(2);
    }
    members
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn sample() -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for number in 0..MAX_MEMBERS + 5 {
            let mut header = tar::Header::new_ustar();
            header.set_size(5);
            builder.append_data(&mut header, format!("d/\u{9b}{number}"), &b"12345"[..]).unwrap();
        }
        builder.into_inner().unwrap()
    }

    #[test]
    fn tars_are_listed_packed_or_not() {
        let tar = sample();
        let lines = summary(&tar).unwrap();
        assert_eq!((lines[0].as_str(), lines.len()), ("tar archive", MAX_MEMBERS + 2));
        assert_eq!(lines[1], "      5 B  d/?0");
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(&tar).unwrap();
        let gzip = gzip.finish().unwrap();
        assert_eq!(summary(&gzip).unwrap()[1..], lines[1..]);
        // What was read may end anywhere.
        for length in 0..gzip.len() {
            let _ = summary(&gzip[..length]);
        }
    }

    #[test]
    fn zip_and_ar_are_listed() {
        let mut zip = Vec::new();
        for name in ["a", "b\x1b"] {
            zip.extend_from_slice(b"PK\x03\x04\x0a\0\0\0\0\0\0\0\0\0\0\0\0\0\x02\0\0\0\x02\0\0\0");
            zip.extend_from_slice(&[name.len() as u8, 0, 0, 0]);
            zip.extend_from_slice(name.as_bytes());
            zip.extend_from_slice(b"12");
        }
        assert_eq!(summary(&zip).unwrap(), ["zip archive", "      2 B  a", "      2 B  b?"]);
        let ar =
            format!("!<arch>\n{:<48}{:<10}`\n2.0\n{:<48}{:<10}`\n", "debian-binary", 4, "x", 9);
        let expected = ["ar archive", "      4 B  debian-binary", "      9 B  x"];
        assert_eq!(summary(ar.as_bytes()).unwrap(), expected);
        for bytes in [zip, ar.into_bytes()] {
            for length in 0..bytes.len() {
                let _ = summary(&bytes[..length]);
            }
        }
        assert_eq!(summary(b"\x1f\x8b no gzip"), None);
    }
}
