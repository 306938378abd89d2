//! Bytes of a terminal, read as keys and clicks.
//!
//! The forms are those of xterm, which all terminals of today send: `ESC [ A`, `ESC O A`, `ESC [ 5 ~`, with
//! modifiers as second parameter (`ESC [ 1 ; 5 A`), and SGR mouse reports (`ESC [ < b ; x ; y M`). What is not known is
//! passed over as a whole, so that no part of it is taken for a key. ESC alone is the key if nothing follows it soon,
//! which the caller knows.

use super::key::{Input, Key};

/// No sequence that means something is longer; what is, is no sequence.
const MAX_SEQUENCE: usize = 32;

/// Bytes that have come and are not read yet.
#[derive(Debug, Default)]
pub(super) struct Bytes(Vec<u8>);

/// What stands at the beginning.
enum Next {
    /// So many bytes are this, or nothing that is known.
    Is(usize, Option<Input>),
    /// It goes on.
    Partial,
}

impl Bytes {
    /// Takes in what has come.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    /// Whether something has begun that may go on.
    pub(super) fn is_waiting(&self) -> bool {
        !self.0.is_empty()
    }

    /// What is whole of it. With `is_last`, what has begun does not go on.
    pub(super) fn read(&mut self, is_last: bool) -> Vec<Input> {
        let mut inputs = Vec::new();
        let mut at = 0;
        while at < self.0.len() {
            match next(&self.0[at..]) {
                Next::Is(length, input) => {
                    inputs.extend(input);
                    at += length;
                }
                Next::Partial if is_last => {
                    // The key Esc, and whatever was pressed after it.
                    inputs.extend((self.0[at] == 0x1b).then_some(Input::Key(Key::Escape)));
                    at += 1;
                }
                Next::Partial => break,
            }
        }
        self.0.drain(..at);
        inputs
    }
}

fn key(length: usize, key: Key) -> Next {
    Next::Is(length, Some(Input::Key(key)))
}

fn next(bytes: &[u8]) -> Next {
    match bytes {
        [0x1b] => Next::Partial,
        [0x1b, b'[', rest @ ..] => control_sequence(rest),
        [0x1b, b'O'] => Next::Partial,
        [0x1b, b'O', letter, ..] => Next::Is(3, cursor_key(*letter).map(Input::Key)),
        // Two keys, or one with Alt: the first means Esc.
        [0x1b, ..] => key(1, Key::Escape),
        [b'\r' | b'\n', ..] => key(1, Key::Enter),
        [b'\t', ..] => key(1, Key::Tab),
        [0x7f | 0x08, ..] => key(1, Key::Backspace),
        [0, ..] => key(1, Key::Ctrl(' ')),
        [control @ 1..=26, ..] => key(1, Key::Ctrl(char::from(b'a' + control - 1))),
        [0x1c..=0x1f, ..] => Next::Is(1, None),
        _ => character(bytes),
    }
}

fn character(bytes: &[u8]) -> Next {
    let length = match bytes[0] {
        0..=0x7f => 1,
        0xc0..=0xdf => 2,
        0xe0..=0xef => 3,
        0xf0..=0xf7 => 4,
        _ => return Next::Is(1, None),
    };
    let Some(whole) = bytes.get(..length) else { return Next::Partial };
    match std::str::from_utf8(whole).ok().and_then(|text| text.chars().next()) {
        Some(c) => key(length, Key::Char(c)),
        None => Next::Is(1, None),
    }
}

/// What follows `ESC [`.
fn control_sequence(rest: &[u8]) -> Next {
    let Some(end) = rest.iter().position(|byte| matches!(byte, 0x40..=0x7e)) else {
        return if rest.len() > MAX_SEQUENCE { Next::Is(2, None) } else { Next::Partial };
    };
    let length = 2 + end + 1;
    let (parameters, letter) = (&rest[..end], rest[end]);
    if let Some(parameters) = parameters.strip_prefix(b"<") {
        return Next::Is(length, mouse(&numbers(parameters), letter));
    }
    let found = match (letter, numbers(parameters).first()) {
        (b'Z', _) => Some(Key::BackTab),
        (b'~', Some(1 | 7)) => Some(Key::Home),
        (b'~', Some(3)) => Some(Key::Delete),
        (b'~', Some(4 | 8)) => Some(Key::End),
        (b'~', Some(5)) => Some(Key::PageUp),
        (b'~', Some(6)) => Some(Key::PageDown),
        (letter, _) => cursor_key(letter),
    };
    Next::Is(length, found.map(Input::Key))
}

fn cursor_key(letter: u8) -> Option<Key> {
    Some(match letter {
        b'A' => Key::Up,
        b'B' => Key::Down,
        b'C' => Key::Right,
        b'D' => Key::Left,
        b'H' => Key::Home,
        b'F' => Key::End,
        b'M' => Key::Enter,
        _ => return None,
    })
}

fn numbers(parameters: &[u8]) -> Vec<u32> {
    let number = |text: &[u8]| std::str::from_utf8(text).ok()?.parse().ok();
    parameters.split(|byte| *byte == b';').map(|text| number(text).unwrap_or(0)).collect()
}

/// A report of the mouse: button, column and row from 1 on; `M` where a button was pressed.
fn mouse(numbers: &[u32], letter: u8) -> Option<Input> {
    let &[button, x, y] = numbers else { return None };
    let place = |number: u32| u16::try_from(number.saturating_sub(1)).ok();
    let (x, y) = (place(x)?, place(y)?);
    match (button & !0b1_1100, letter) {
        (0, b'M') => Some(Input::Click { x, y }),
        (64, b'M') => Some(Input::Wheel { x, y, down: false }),
        (65, b'M') => Some(Input::Wheel { x, y, down: true }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8]) -> Vec<Input> {
        let mut all = Bytes::default();
        all.push(bytes);
        let inputs = all.read(false);
        assert!(!all.is_waiting(), "{bytes:?}");
        // The same if each byte comes by itself.
        let mut one_by_one = Vec::new();
        for byte in bytes {
            all.push(&[*byte]);
            one_by_one.extend(all.read(false));
        }
        assert_eq!(one_by_one, inputs, "{bytes:?}");
        inputs
    }

    #[test]
    fn keys_of_terminals() {
        for (bytes, expected) in [
            (&b"a"[..], Key::Char('a')),
            ("\u{e4}".as_bytes(), Key::Char('\u{e4}')),
            ("\u{1f600}".as_bytes(), Key::Char('\u{1f600}')),
            (b"\r", Key::Enter),
            (b"\t", Key::Tab),
            (b"\x7f", Key::Backspace),
            (b"\0", Key::Ctrl(' ')),
            (b"\x03", Key::Ctrl('c')),
            (b"\x1b[A", Key::Up),
            (b"\x1bOB", Key::Down),
            (b"\x1b[1;5C", Key::Right),
            (b"\x1b[D", Key::Left),
            (b"\x1b[H", Key::Home),
            (b"\x1b[4~", Key::End),
            (b"\x1b[5~", Key::PageUp),
            (b"\x1b[6;2~", Key::PageDown),
            (b"\x1b[3~", Key::Delete),
            (b"\x1b[Z", Key::BackTab),
        ] {
            assert_eq!(read(bytes), [Input::Key(expected)], "{bytes:?}");
        }
        assert_eq!(read(b"\x1b[<0;10;5M"), [Input::Click { x: 9, y: 4 }]);
        assert_eq!(read(b"\x1b[<64;1;1M"), [Input::Wheel { x: 0, y: 0, down: false }]);
        assert_eq!(read(b"\x1b[<65;300;50M"), [Input::Wheel { x: 299, y: 49, down: true }]);
    }

    #[test]
    fn what_is_unknown_is_passed_over_whole() {
        for bytes in [
            &b"\x1b[?62;22c"[..],
            b"\x1b[200~",
            b"\x1b[<0;10;5m",
            b"\x1b[<35;10;5M",
            b"\x1b[<0;0M",
            b"\x1b[99999999999999;2X",
            b"\xff",
            b"\x1f",
        ] {
            assert_eq!(read(bytes), [], "{bytes:?}");
            assert_eq!(read(&[bytes, b"q"].concat()), [Input::Key(Key::Char('q'))], "{bytes:?}");
        }
    }

    #[test]
    fn escape_is_a_key_if_nothing_follows() {
        for (bytes, expected) in [
            (&b"\x1b"[..], &[Key::Escape][..]),
            (b"\x1b[", &[Key::Escape, Key::Char('[')]),
            (b"\x1bq", &[Key::Escape, Key::Char('q')]),
            (b"\xe4", &[]),
        ] {
            let mut all = Bytes::default();
            all.push(bytes);
            let inputs = [all.read(false), all.read(true)].concat();
            let expected: Vec<Input> = expected.iter().map(|key| Input::Key(*key)).collect();
            assert_eq!(inputs, expected, "{bytes:?}");
            assert!(!all.is_waiting());
        }
        // A sequence that never ends is given up.
        let mut all = Bytes::default();
        all.push(b"\x1b[");
        all.push(&[b'1'; 100]);
        assert!(all.read(false).len() > 50 && !all.is_waiting());
    }
}
