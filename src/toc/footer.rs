//! Footers of eStargz: an empty gzip member at the end of the blob whose header has an extra field
//! (RFC 1952, 2.3.1.1) with the offset of the TOC.
//!
//! ```text
//! eStargz    51 bytes   extra field of 26: "SG", 22 (16 bits), offset (16 hex digits), "STARGZ"
//! stargz     47 bytes   extra field of 22: offset (16 hex digits), "STARGZ"
//! external   46 bytes   extra field of 21: "SG", 17 (16 bits), "STARGZEXTERNALTOC"
//! ```

/// The longest footer.
pub(super) const BYTES: usize = 51;

/// Magic, deflate, FEXTRA. Time, level and system follow, 6 bytes in which writers may differ.
const HEADER: [u8; 4] = [0x1f, 0x8b, 8, 4];
const HEADER_BYTES: usize = 10;

/// A final stored block without bytes; CRC and length of nothing.
const EMPTY: [u8; 13] = [1, 0, 0, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 0];

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Footer {
    pub(super) bytes: usize,
    /// Offset of the TOC; `None` if it is not in the blob.
    pub(super) toc: Option<u64>,
}

/// Reads the footer at the end of `tail`.
pub(super) fn read(tail: &[u8]) -> Option<Footer> {
    if let Some(extra) = extra_field(tail, 26) {
        return Some(Footer { bytes: 51, toc: Some(offset(extra.strip_prefix(b"SG\x16\0")?)?) });
    }
    if let Some(extra) = extra_field(tail, 22) {
        return Some(Footer { bytes: 47, toc: Some(offset(extra)?) });
    }
    let external = extra_field(tail, 21)? == b"SG\x11\0STARGZEXTERNALTOC";
    external.then_some(Footer { bytes: 46, toc: None })
}

/// The extra field of `length` bytes of an empty member at the end of `tail`.
fn extra_field(tail: &[u8], length: u16) -> Option<&[u8]> {
    let bytes = HEADER_BYTES + 2 + usize::from(length) + EMPTY.len();
    let member = &tail[tail.len().checked_sub(bytes)?..];
    let (header, rest) = member.split_at(HEADER_BYTES);
    let rest = rest.strip_prefix(&length.to_le_bytes())?;
    if !header.starts_with(&HEADER) { None } else { rest.strip_suffix(&EMPTY) }
}

/// `%016xSTARGZ`.
fn offset(text: &[u8]) -> Option<u64> {
    let digits = text.strip_suffix(b"STARGZ")?;
    let all_hex = digits.len() == 16 && digits.iter().all(u8::is_ascii_hexdigit);
    all_hex.then(|| u64::from_str_radix(str::from_utf8(digits).ok()?, 16).ok())?
}
