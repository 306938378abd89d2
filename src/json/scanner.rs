//! The syntax: checked once without recursion, and then walked value by value.

use std::borrow::Cow;
use std::ops::Range;

use super::error::{Wrong, too_deep};

/// Levels of nesting that Go accepts.
const MAX_DEPTH: usize = 10_000;

/// A reader of a text.
pub(super) struct Scanner<'a> {
    pub(super) text: &'a [u8],
    pub(super) at: usize,
}

impl<'a> Scanner<'a> {
    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    /// The next byte that is no white space, which stays.
    pub(super) fn next_token(&mut self) -> Option<u8> {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
        self.peek()
    }

    /// Checks the syntax of the next value, without recursion. Returns where it is.
    pub(super) fn check_value(&mut self) -> Result<Range<usize>, Wrong> {
        self.next_token();
        let begin = self.at;
        // What closes each level.
        let mut open: Vec<u8> = Vec::new();
        loop {
            match self.next_token() {
                Some(start @ (b'{' | b'[')) => {
                    if open.len() == MAX_DEPTH {
                        return Err(self.wrong(too_deep(MAX_DEPTH)));
                    }
                    let end = start + 2;
                    self.at += 1;
                    if self.next_token() == Some(end) {
                        self.at += 1;
                    } else {
                        open.push(end);
                        if end == b'}' {
                            self.check_key()?;
                        }
                        continue;
                    }
                }
                _ => self.check_scalar()?,
            }
            // A value has ended: all levels that end with it, and then the next one begins.
            loop {
                let Some(end) = open.last() else { return Ok(begin..self.at) };
                match self.next_token() {
                    Some(byte) if *end == byte => {
                        self.at += 1;
                        open.pop();
                    }
                    Some(b',') => {
                        self.at += 1;
                        if *end == b'}' {
                            self.check_key()?;
                        }
                        break;
                    }
                    _ => return Err(self.unexpected()),
                }
            }
        }
    }

    fn wrong(&self, what: String) -> Wrong {
        Wrong { what, at: Some(self.at) }
    }

    pub(super) fn unexpected(&self) -> Wrong {
        self.wrong(match self.peek() {
            None => "it ends too early".to_owned(),
            Some(byte @ 0x21..=0x7e) => format!("unexpected `{}`", byte as char),
            Some(byte) => format!("unexpected byte {byte:#04x}"),
        })
    }

    fn check_key(&mut self) -> Result<(), Wrong> {
        if self.next_token() != Some(b'"') {
            return Err(self.unexpected());
        }
        self.check_string()?;
        if self.next_token() != Some(b':') {
            return Err(self.unexpected());
        }
        self.at += 1;
        Ok(())
    }

    fn check_scalar(&mut self) -> Result<(), Wrong> {
        match self.peek() {
            Some(b'"') => self.check_string(),
            Some(b'-' | b'0'..=b'9') => self.check_number(),
            Some(b't') => self.check_word(b"true"),
            Some(b'f') => self.check_word(b"false"),
            Some(b'n') => self.check_word(b"null"),
            _ => Err(self.unexpected()),
        }
    }

    fn check_word(&mut self, word: &[u8]) -> Result<(), Wrong> {
        for byte in word {
            if self.peek() != Some(*byte) {
                return Err(self.unexpected());
            }
            self.at += 1;
        }
        Ok(())
    }

    fn check_number(&mut self) -> Result<(), Wrong> {
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        match self.peek() {
            Some(b'0') => self.at += 1,
            _ => self.check_digits()?,
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.check_digits()?;
        }
        if let Some(b'e' | b'E') = self.peek() {
            self.at += 1;
            if let Some(b'+' | b'-') = self.peek() {
                self.at += 1;
            }
            self.check_digits()?;
        }
        Ok(())
    }

    fn check_digits(&mut self) -> Result<(), Wrong> {
        if !self.peek().is_some_and(|b| b.is_ascii_digit()) {
            return Err(self.unexpected());
        }
        while self.peek().is_some_and(|b| b.is_ascii_digit()) {
            self.at += 1;
        }
        Ok(())
    }

    fn check_string(&mut self) -> Result<(), Wrong> {
        self.at += 1;
        loop {
            match self.peek() {
                None | Some(..0x20) => return Err(self.unexpected()),
                Some(b'"') => break,
                Some(b'\\') => {
                    self.at += 1;
                    match self.peek() {
                        Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => {}
                        Some(b'u') => {
                            for _ in 0..4 {
                                self.at += 1;
                                if !self.peek().is_some_and(|b| b.is_ascii_hexdigit()) {
                                    return Err(self.unexpected());
                                }
                            }
                        }
                        _ => return Err(self.unexpected()),
                    }
                }
                Some(_) => {}
            }
            self.at += 1;
        }
        self.at += 1;
        Ok(())
    }

    /// Takes a value of a text that has been checked.
    pub(super) fn take_value(&mut self) -> &'a [u8] {
        self.next_token();
        let start = self.at;
        let mut depth = 0_usize;
        while let Some(byte) = self.peek() {
            match byte {
                b'"' => self.pass_string(),
                b'{' | b'[' => depth += 1,
                b'}' | b']' => depth = depth.saturating_sub(1),
                b',' | b':' | b' ' | b'\t' | b'\n' | b'\r' => {}
                _ => self.pass_word(),
            }
            // On the last byte of whatever it was.
            self.at += 1;
            if depth == 0 {
                break;
            }
        }
        &self.text[start..self.at]
    }

    /// From the first quote of a text to its last.
    fn pass_string(&mut self) {
        self.at += 1;
        while let Some(byte) = self.peek() {
            match byte {
                b'"' => return,
                b'\\' => self.at += 2,
                _ => self.at += 1,
            }
        }
    }

    /// From the first byte of a number or word to its last.
    fn pass_word(&mut self) {
        let is_part = |b: &u8| b.is_ascii_alphanumeric() || b"+-.".contains(b);
        while self.text.get(self.at + 1).is_some_and(is_part) {
            self.at += 1;
        }
    }
}

/// The text of a JSON string, with its quotes.
pub(super) fn text_of(quoted: &[u8]) -> Cow<'_, str> {
    let inner = quoted.get(1..quoted.len().saturating_sub(1)).unwrap_or_default();
    if !inner.contains(&b'\\') {
        return String::from_utf8_lossy(inner);
    }
    let mut text = String::with_capacity(inner.len());
    let mut rest = inner;
    while let Some(at) = rest.iter().position(|b| *b == b'\\') {
        text.push_str(&String::from_utf8_lossy(&rest[..at]));
        let escape = rest.get(at + 1).copied().unwrap_or_default();
        rest = rest.get(at + 2..).unwrap_or_default();
        let plain = match escape {
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => {
                let (found, length) = unicode_escape(rest);
                rest = rest.get(length..).unwrap_or_default();
                found
            }
            other => other as char,
        };
        text.push(plain);
    }
    text.push_str(&String::from_utf8_lossy(rest));
    Cow::Owned(text)
}

/// The character of `XXXX` or `XXXX\uXXXX`, and how many bytes it takes.
fn unicode_escape(rest: &[u8]) -> (char, usize) {
    let unit =
        |digits: Option<&[u8]>| u32::from_str_radix(std::str::from_utf8(digits?).ok()?, 16).ok();
    let first = unit(rest.get(..4)).unwrap_or_default();
    let second = match rest.get(4..6) {
        Some(b"\\u") => unit(rest.get(6..10)),
        _ => None,
    };
    match (first, second) {
        (0xd800..0xdc00, Some(low @ 0xdc00..0xe000)) => {
            let code = 0x10000 + ((first - 0xd800) << 10) + (low - 0xdc00);
            (char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER), 10)
        }
        _ => (char::from_u32(first).unwrap_or(char::REPLACEMENT_CHARACTER), 4),
    }
}
