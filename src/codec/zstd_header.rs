//! How large a window a zstd frame wants, and how much content it says that it has (RFC 8878, 3.1.1.1).

/// Bytes of a frame that hold its header, at most.
pub(super) const MAX_BYTES: usize = 18;

/// The window of the frame that begins with `start`, in bytes; `None` if that is no frame, or too
/// little of one.
pub(super) fn window_bytes(start: &[u8]) -> Option<u64> {
    let [0x28, 0xb5, 0x2f, 0xfd, descriptor, rest @ ..] = start else { return None };
    let is_single_segment = descriptor & 0x20 != 0;
    if !is_single_segment {
        let window = rest.first()?;
        let base = 1u64.checked_shl(10 + u32::from(window >> 3))?;
        return Some(base + base / 8 * u64::from(window & 7));
    }
    // All of the content is in one piece: its size is that of the window.
    content_bytes(start)
}

/// The size of the content of the frame that begins with `start`, in bytes; `None` if it does not say, if that is no
/// frame, or too little of one.
pub(super) fn content_bytes(start: &[u8]) -> Option<u64> {
    let [0x28, 0xb5, 0x2f, 0xfd, descriptor, rest @ ..] = start else { return None };
    let is_single_segment = descriptor & 0x20 != 0;
    let window = usize::from(!is_single_segment);
    let before = window + [0, 1, 2, 4][usize::from(descriptor & 3)];
    let number = |bytes: usize| -> Option<u64> {
        let field = rest.get(before..before + bytes)?;
        Some(field.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte)))
    };
    match descriptor >> 6 {
        0 if is_single_segment => number(1),
        0 => None,
        1 => number(2).map(|size| size + 256),
        2 => number(4),
        _ => number(8),
    }
}

#[cfg(test)]
mod tests {
    use super::{content_bytes, window_bytes};

    #[test]
    fn windows() {
        for (rest, expected) in [
            (&[0x00, 21 << 3][..], Some(1 << 31)),
            (&[0x04, 17 << 3 | 1], Some((1 << 27) + (1 << 24))),
            (&[0x00, 0xff], Some((1 << 41) + (7 << 38))),
            (&[0x20, 9], Some(9)),
            (&[0x61, 7, 1, 1], Some(257 + 256)),
            (&[0xa0, 0, 0, 0, 0x80], Some(1 << 31)),
            (&[0xe3, 1, 2, 3, 4, 0, 0, 0, 0, 1, 0, 0, 0], Some(1 << 32)),
            (&[0x00], None),
            (&[0xe0, 0, 0], None),
        ] {
            assert_eq!(window_bytes(&[&[0x28, 0xb5, 0x2f, 0xfd], rest].concat()), expected);
        }
        assert_eq!(window_bytes(b"\x50\x2a\x4d\x18\0\0\0\0"), None);
        assert_eq!(content_bytes(b"\x50\x2a\x4d\x18\0\0\0\0"), None);
        // What the library writes.
        let frame = zstd::bulk::compress(&[7; 5000], 3).unwrap_or_default();
        assert_eq!(window_bytes(&frame), Some(5000));
        assert_eq!(content_bytes(&frame), Some(5000));
    }

    #[test]
    fn contents() {
        for (rest, expected) in [
            (&[0x00, 0x50][..], None),
            (&[0x40, 0x50, 0, 1], Some(512)),
            (&[0x43, 0x50, 1, 2, 3, 4, 0, 1], Some(512)),
            (&[0x80, 0x50, 0, 0, 1, 0], Some(65536)),
            (&[0x80, 0x50, 0, 0, 1], None),
            (&[0x20, 88], Some(88)),
        ] {
            assert_eq!(content_bytes(&[&[0x28, 0xb5, 0x2f, 0xfd], rest].concat()), expected);
        }
    }
}
