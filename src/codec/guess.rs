//! What bytes are that should be a layer and are not: a name for the message, nothing more.

/// What a text or a document may begin with before it is called one, in bytes.
const TEXT_BYTES: usize = 64;

/// What bytes seem to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Guess {
    /// In words.
    pub name: &'static str,
    /// Whether it is something compressed, which may hold anything.
    pub is_compressed: bool,
}

/// Names what begins with `start`, as far as that can be told; `None` if it could be anything.
pub fn guess(start: &[u8]) -> Option<Guess> {
    let compressed = name_of_compression(start);
    let is_compressed = compressed.is_some();
    compressed.or_else(|| name_of_content(start)).map(|name| Guess { name, is_compressed })
}

fn name_of_compression(start: &[u8]) -> Option<&'static str> {
    let magics: [(&[u8], &str); 8] = [
        (&[0x1f, 0x8b], "gzip data"),
        (&[0x28, 0xb5, 0x2f, 0xfd], "zstd data"),
        (b"BZh", "bzip2 data"),
        (&[0xfd, b'7', b'z', b'X', b'Z'], "xz data"),
        (&[0x04, 0x22, 0x4d, 0x18], "lz4 data"),
        (&[0x02, 0x21, 0x4c, 0x18], "lz4 data of the legacy format"),
        (b"LZIP", "lzip data"),
        (&[0x1f, 0x9d], "data of compress(1)"),
    ];
    if let [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] = start {
        return Some("zstd data");
    }
    find(start, &magics)
}

fn find(start: &[u8], magics: &[(&[u8], &'static str)]) -> Option<&'static str> {
    magics.iter().find(|(magic, _)| start.starts_with(magic)).map(|(_, name)| *name)
}

fn name_of_content(start: &[u8]) -> Option<&'static str> {
    let magics: [(&[u8], &str); 5] = [
        (b"PK\x03\x04", "a ZIP archive"),
        (b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
        (b"hsqs", "a squashfs image"),
        (b"070701", "a cpio archive"),
        (b"\x7fELF", "a program (ELF)"),
    ];
    if let Some(name) = find(start, &magics) {
        return Some(name);
    }
    let text = start.trim_ascii_start();
    let text = &text[..text.len().min(TEXT_BYTES)];
    let is_text = !text.is_empty()
        && text.iter().all(|byte| byte.is_ascii_graphic() || byte.is_ascii_whitespace());
    if !is_text {
        return start.iter().all(|byte| *byte == 0).then_some("nothing but zeros");
    }
    let lower = text.to_ascii_lowercase();
    Some(match lower[0] {
        b'<' if lower.starts_with(b"<!doctype html") || lower.starts_with(b"<html") => {
            "a web page (HTML)"
        }
        b'<' => "a document (XML or HTML)",
        b'{' | b'[' => "a document (JSON)",
        _ => "text",
    })
}

#[cfg(test)]
mod tests {
    use super::guess;

    #[test]
    fn names() {
        for (start, name) in [
            (&b"\x1f\x8b\x08"[..], Some("gzip data")),
            (b"\x50\x2a\x4d\x18\x04", Some("zstd data")),
            (b"\x04\x22\x4d\x18d", Some("lz4 data")),
            (b"not a tar", Some("text")),
            (b" \n<!DOCTYPE html>", Some("a web page (HTML)")),
            (b"<html lang", Some("a web page (HTML)")),
            (b"<?xml", Some("a document (XML or HTML)")),
            (b"{\"errors\"", Some("a document (JSON)")),
            (&[0; 512], Some("nothing but zeros")),
            (b"\xff\xfe\x00", None),
            (b"name\0\0", None),
        ] {
            assert_eq!(guess(start).map(|guess| guess.name), name, "{start:?}");
        }
        let is_compressed = |start| guess(start).is_some_and(|guess| guess.is_compressed);
        assert!(is_compressed(b"\x1f\x8b\x08") && !is_compressed(b"PK\x03\x04"));
    }
}
