//! Patterns of names, as fnmatch(3) of the GNU C library reads them without flags.
//!
//! `*` is any run of characters, also of none and of slashes, `?` any character, `[…]` one of a set (`!` or `^` turns
//! it, ranges, `[:alpha:]` and the other classes), and a backslash takes what follows for itself. A set that does not
//! end begins with a bracket that means itself. A dot at the beginning is a character like others.
//!
//! Names are bytes. Where the pattern and the name are both UTF-8, characters are compared, otherwise bytes, as the
//! library does in a UTF-8 locale. (Where characters do not match, version 2.36 of the library tries bytes as well, so that
//! `??` matches one letter of two bytes; here it does not.)
//!
//! (Rejected: the crates `glob` and `globset`. They match paths of `str` or of the host, and have braces and `**`, which
//! fnmatch has not; the latter compiles to regular expressions.)
//!
//! # Invariants
//!
//! - Matching takes at most as many steps as the pattern is long times the name: only the last `*` is ever tried
//!   again, as what a `*` before it took can be given to that one.

/// A pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Glob {
    /// For names that are UTF-8; `None` if the pattern is not.
    text: Option<Vec<Token>>,
    /// For all others.
    bytes: Vec<Token>,
    folds_case: bool,
}

/// A part of a pattern. Units are characters, or bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    Run,
    One,
    Unit(u32),
    Set {
        is_negated: bool,
        members: Vec<Member>,
    },
    /// What matches nothing, as a backslash at the end.
    Never,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Member {
    Range(u32, u32),
    Class(Class),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    Alnum,
    Alpha,
    Blank,
    Cntrl,
    Digit,
    Graph,
    Lower,
    Print,
    Punct,
    Space,
    Upper,
    Xdigit,
}

impl Glob {
    /// The pattern of these words.
    pub fn new(pattern: &[u8]) -> Glob {
        Glob::read(pattern, false)
    }

    /// The same, for which large and small letters are the same.
    pub fn folding_case(pattern: &[u8]) -> Glob {
        Glob::read(pattern, true)
    }

    fn read(pattern: &[u8], folds_case: bool) -> Glob {
        let tokens = |units: Vec<u32>, is_text| {
            let tokens = tokens(&units);
            match folds_case {
                true => tokens.into_iter().map(|token| token.folded(is_text)).collect(),
                false => tokens,
            }
        };
        let text = std::str::from_utf8(pattern).ok();
        Glob {
            text: text.map(|text| tokens(text.chars().map(u32::from).collect(), true)),
            bytes: tokens(pattern.iter().map(|byte| u32::from(*byte)).collect(), false),
            folds_case,
        }
    }

    /// Whether a word has anything in it that makes it a pattern.
    pub fn is_pattern(word: &[u8]) -> bool {
        word.iter().any(|byte| matches!(byte, b'*' | b'?' | b'['))
    }

    /// Whether a whole name is one of those that are meant.
    pub fn matches(&self, name: &[u8]) -> bool {
        match &self.text {
            Some(text) if name.is_ascii() => self.run(text, name, false),
            Some(text) if std::str::from_utf8(name).is_ok() => self.run(text, name, true),
            _ => self.run(&self.bytes, name, false),
        }
    }

    fn run(&self, tokens: &[Token], name: &[u8], is_text: bool) -> bool {
        let (mut token, mut at) = (0, 0);
        // Behind the last `*`, and how far it reaches.
        let mut retry: Option<(usize, usize)> = None;
        loop {
            let here = (at < name.len()).then(|| unit(name, at, is_text));
            match (tokens.get(token), here) {
                (Some(Token::Run), _) => {
                    token += 1;
                    if token == tokens.len() {
                        return true;
                    }
                    retry = Some((token, at));
                    continue;
                }
                (None, None) => return true,
                (Some(wanted), Some((unit, length))) if self.is_one(wanted, unit, is_text) => {
                    token += 1;
                    at += length;
                    continue;
                }
                // What is left of the name is too short, however far a `*` reaches.
                (_, None) => return false,
                _ => {}
            }
            let Some((behind, reach)) = retry else { return false };
            let reach = reach + unit(name, reach, is_text).1;
            (token, at) = (behind, reach);
            retry = Some((behind, reach));
        }
    }

    fn is_one(&self, token: &Token, unit: u32, is_text: bool) -> bool {
        match token {
            Token::One => true,
            Token::Unit(wanted) if self.folds_case => *wanted == lower(unit, is_text),
            Token::Unit(wanted) => *wanted == unit,
            Token::Set { is_negated, members } => {
                let folded = if self.folds_case { lower(unit, is_text) } else { unit };
                let is_in = members.iter().any(|member| match member {
                    Member::Range(low, high) => (*low..=*high).contains(&folded),
                    // As the library has it, `[:upper:]` stays one of large letters.
                    Member::Class(class) => char::from_u32(unit)
                        .filter(|c| is_text || c.is_ascii())
                        .is_some_and(|c| class.has(c)),
                });
                is_in != *is_negated
            }
            Token::Run | Token::Never => false,
        }
    }
}

/// The unit at a place of a name, and how many bytes it takes.
fn unit(name: &[u8], at: usize, is_text: bool) -> (u32, usize) {
    if is_text && !name[at].is_ascii() {
        let length = match name[at] {
            0xf0.. => 4,
            0xe0.. => 3,
            _ => 2,
        };
        let bytes = name.get(at..at + length).unwrap_or_default();
        if let Some(c) = std::str::from_utf8(bytes).ok().and_then(|text| text.chars().next()) {
            return (u32::from(c), length);
        }
    }
    (u32::from(name[at]), 1)
}

/// The small form of a letter, where that is one. Bytes of what is no text are letters if they are ASCII.
fn lower(unit: u32, is_text: bool) -> u32 {
    let Some(c) = char::from_u32(unit).filter(|c| is_text || c.is_ascii()) else { return unit };
    let mut small = c.to_lowercase();
    match (small.next(), small.next()) {
        (Some(one), None) => u32::from(one),
        _ => unit,
    }
}

fn tokens(pattern: &[u32]) -> Vec<Token> {
    let mut tokens = Vec::new();
    let mut at = 0;
    // No set ends behind it, which is not looked for again and again.
    let last_end = pattern.iter().rposition(|unit| *unit == u32::from(']')).unwrap_or(0);
    while let Some(unit) = pattern.get(at) {
        at += 1;
        tokens.push(match char::from_u32(*unit) {
            // Several are one.
            Some('*') if tokens.last() == Some(&Token::Run) => continue,
            Some('*') => Token::Run,
            Some('?') => Token::One,
            Some('\\') => {
                at += 1;
                pattern.get(at - 1).map_or(Token::Never, |unit| Token::Unit(*unit))
            }
            Some('[') if at >= last_end => Token::Unit(*unit),
            Some('[') => match set(pattern, at) {
                Some((set, end)) => {
                    at = end;
                    set
                }
                None => Token::Unit(*unit),
            },
            _ => Token::Unit(*unit),
        });
    }
    tokens
}

/// The set whose bracket ends before `at`, and the place behind it; `None` if it does not end.
fn set(pattern: &[u32], at: usize) -> Option<(Token, usize)> {
    let is = |at: usize, c: char| pattern.get(at) == Some(&u32::from(c));
    let is_negated = is(at, '!') || is(at, '^');
    let first = at + usize::from(is_negated);
    let mut at = first;
    let mut members = Vec::new();
    while at == first || !is(at, ']') {
        if is(at, '[') && is(at + 1, ':') {
            let end = (at + 2..pattern.len()).find(|end| is(*end, ':') && is(*end + 1, ']'));
            if let Some(end) = end {
                match class(&pattern[at + 2..end]) {
                    Some(class) => members.push(Member::Class(class)),
                    // There is no such class, and the whole pattern means nothing.
                    None => return Some((Token::Never, end + 2)),
                }
                at = end + 2;
                continue;
            }
        }
        let (low, end) = member(pattern, at)?;
        let is_range = is(end, '-') && !is(end + 1, ']') && end + 1 < pattern.len();
        let (high, end) = if is_range { member(pattern, end + 1)? } else { (low, end) };
        members.push(Member::Range(low, high));
        at = end;
    }
    Some((Token::Set { is_negated, members }, at + 1))
}

/// One unit of a set, and the place behind it.
fn member(pattern: &[u32], at: usize) -> Option<(u32, usize)> {
    let is = |at: usize, c: char| pattern.get(at) == Some(&u32::from(c));
    for mark in ['.', '='] {
        // The collating symbol, or the equivalents, of one character.
        if is(at, '[') && is(at + 1, mark) && is(at + 3, mark) && is(at + 4, ']') {
            return Some((pattern[at + 2], at + 5));
        }
    }
    let at = at + usize::from(is(at, '\\'));
    pattern.get(at).map(|unit| (*unit, at + 1))
}

fn class(name: &[u32]) -> Option<Class> {
    let name: Option<String> = name.iter().map(|unit| char::from_u32(*unit)).collect();
    Some(match name?.as_str() {
        "alnum" => Class::Alnum,
        "alpha" => Class::Alpha,
        "blank" => Class::Blank,
        "cntrl" => Class::Cntrl,
        "digit" => Class::Digit,
        "graph" => Class::Graph,
        "lower" => Class::Lower,
        "print" => Class::Print,
        "punct" => Class::Punct,
        "space" => Class::Space,
        "upper" => Class::Upper,
        "xdigit" => Class::Xdigit,
        _ => return None,
    })
}

impl Token {
    /// With letters in their small form, in which they are compared.
    fn folded(self, is_text: bool) -> Token {
        let fold = |member| match member {
            Member::Range(low, high) => Member::Range(lower(low, is_text), lower(high, is_text)),
            class => class,
        };
        match self {
            Token::Unit(unit) => Token::Unit(lower(unit, is_text)),
            Token::Set { is_negated, members } => {
                Token::Set { is_negated, members: members.into_iter().map(fold).collect() }
            }
            token => token,
        }
    }
}

impl Class {
    fn has(self, c: char) -> bool {
        let is_space =
            |c: char| c.is_whitespace() && !matches!(c, '\u{a0}' | '\u{2007}' | '\u{202f}');
        match self {
            Class::Alnum => c.is_alphanumeric(),
            Class::Alpha => c.is_alphabetic(),
            Class::Blank => matches!(c, ' ' | '\t'),
            Class::Cntrl => c.is_control(),
            Class::Digit => c.is_ascii_digit(),
            Class::Graph => !c.is_control() && !c.is_whitespace(),
            Class::Lower => c.is_lowercase(),
            Class::Print => !c.is_control(),
            Class::Punct => !c.is_control() && !c.is_whitespace() && !c.is_alphanumeric(),
            Class::Space => is_space(c),
            Class::Upper => c.is_uppercase(),
            Class::Xdigit => c.is_ascii_hexdigit(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_as_fnmatch_reads_them() {
        let rows: [(&str, &[&str], &[&str]); 19] = [
            ("", &[""], &["a"]),
            ("*", &["", "a", ".a", "a/b"], &[]),
            ("*.so*", &["a.so", ".so.1", "a.so.so"], &["a.s", "so"]),
            ("a?c", &["abc", "a/c", "a\u{e4}c"], &["ac", "abbc"]),
            ("[a-c]", &["a", "b", "c"], &["d", "", "-"]),
            ("[!a-c]", &["d", "-"], &["a", ""]),
            ("[^a]", &["b"], &["a"]),
            ("[]a]", &["]", "a"], &["b"]),
            ("[!]a]", &["b"], &["]", "a"]),
            ("[a-]", &["a", "-"], &["b"]),
            ("[a", &["[a"], &["a"]),
            ("[\\]]", &["]"], &["\\"]),
            ("\\*", &["*"], &["a", "\\*"]),
            ("a\\", &[], &["a", "a\\"]),
            ("[[:digit:]x]*", &["1", "x2"], &["a", ":"]),
            ("[[:none:]]", &[], &["n", ":"]),
            ("[[.-.]-/]", &["-", ".", "/"], &["0"]),
            ("[\u{e0}-\u{e5}]", &["\u{e4}"], &["a", "\u{e6}"]),
            ("a**b*", &["ab", "axxbyy"], &["a", "ba"]),
        ];
        for (pattern, good, bad) in rows {
            let glob = Glob::new(pattern.as_bytes());
            good.iter().for_each(|name| assert!(glob.matches(name.as_bytes()), "{pattern} {name}"));
            bad.iter().for_each(|name| assert!(!glob.matches(name.as_bytes()), "{pattern} {name}"));
        }
    }

    #[test]
    fn cases_and_bytes() {
        let folding = Glob::folding_case("*.T\u{c4}R[A-C]".as_bytes());
        assert!(folding.matches("x.t\u{e4}rb".as_bytes()) && !folding.matches(b"x.tarb"));
        let sets = [("[A-C]", "b", true), ("[a-c]", "B", true), ("[A-_]", "b", false)];
        for (pattern, name, is_one) in sets.into_iter().chain([("[[:upper:]]", "a", false)]) {
            let glob = Glob::folding_case(pattern.as_bytes());
            assert_eq!(glob.matches(name.as_bytes()), is_one, "{pattern} {name}");
        }
        // Neither is text then.
        assert!(Glob::new(b"a?b").matches(b"a\xffb") && Glob::new(b"\xff*").matches(b"\xff\xfe"));
        assert!(!Glob::new(b"a?b").matches(b"a\xc3\xff\xffb"));
        assert!(Glob::new("\u{e4}*".as_bytes()).matches(b"\xc3\xa4\xff"));
    }

    /// Patterns that take forever if every `*` is tried with every length.
    #[test]
    fn patterns_do_not_explode() {
        let name = [b'a'; 4096];
        let pattern = "*a".repeat(2000) + "b";
        assert!(!Glob::new(pattern.as_bytes()).matches(&name));
        assert!(Glob::new(&"*a".repeat(2000).into_bytes()).matches(&name));
        let sets = "*[a-b]".repeat(2000) + "c";
        assert!(!Glob::folding_case(sets.as_bytes()).matches(&name));
        // Sets that do not end.
        assert!(!Glob::new(&[b'['; 100_000]).matches(&name));
    }
}
