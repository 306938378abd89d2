//! What a file is by its first bytes, in a few words.

/// Beginnings of files, each at its place, and what they are.
const BEGINNINGS: [(usize, &[u8], &str); 24] = [
    (0, b"\x89PNG\r\n\x1a\n", "PNG picture"),
    (0, b"\xff\xd8\xff", "JPEG picture"),
    (0, b"GIF8", "GIF picture"),
    (8, b"WEBP", "WebP picture"),
    (0, b"%PDF-", "PDF document"),
    (0, b"SQLite format 3\0", "SQLite database"),
    (0, b"\0asm", "WebAssembly module"),
    (0, b"\xca\xfe\xba\xbe", "Java class, or Mach-O program for several processors"),
    (0, b"\xcf\xfa\xed\xfe", "Mach-O program"),
    (0, b"MZ", "program for DOS or Windows"),
    (0, b"\x1f\x8b", "gzip"),
    (0, b"\xfd7zXZ\0", "xz"),
    (0, b"BZh", "bzip2"),
    (0, b"\x28\xb5\x2f\xfd", "zstd"),
    (0, b"\x04\x22\x4d\x18", "lz4"),
    (0, b"7z\xbc\xaf\x27\x1c", "7-zip archive"),
    (0, b"hsqs", "squashfs image"),
    (0, b"\xed\xab\xee\xdb", "rpm package"),
    (0, b"\xde\x12\x04\x95", "message catalogue of gettext"),
    (0, b"\0\x01\0\0\0", "TrueType font"),
    (0, b"OTTO", "OpenType font"),
    (0, b"wOF2", "WOFF2 font"),
    (0, b"TZif", "time zone"),
    (0, b"GGUF", "model in GGUF"),
];

/// What it is, or `data`.
pub(super) fn name(bytes: &[u8]) -> &'static str {
    let is_one = |(at, start, _): &&(usize, &[u8], &str)| {
        bytes.get(*at..).is_some_and(|rest| rest.starts_with(start))
    };
    BEGINNINGS.iter().find(is_one).map_or("data", |(_, _, name)| name)
}
