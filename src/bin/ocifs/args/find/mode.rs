//! Permission bits in words: `755`, `-u=rwx,g+s`, `/222`.

use ocifs::tree::find::{ModeBits, Permissions};

/// The bits there are.
const ALL: u16 = 0o7777;

/// Reads `MODE`, `-MODE` or `/MODE`, octal or symbolic; symbols begin from no bits, and no umask counts. `X` is `x` of a
/// directory, and of other files where the bits so far have an `x`.
pub(super) fn permissions(text: &str) -> Result<Permissions, String> {
    let wrong = || format!("`{text}` is no mode: write one as 644, -u=rw or /222");
    let (kind, mode): (fn(ModeBits) -> Permissions, &str) = match text.as_bytes().first() {
        Some(b'-') => (Permissions::All, &text[1..]),
        Some(b'/') => (Permissions::Any, &text[1..]),
        _ => (Permissions::Exactly, text),
    };
    let bits = match mode.bytes().all(|byte| byte.is_ascii_digit()) {
        true => {
            let bits = u16::from_str_radix(mode, 8).ok().filter(|bits| *bits <= ALL);
            bits.map(|bits| ModeBits { directory: bits, file: bits })
        }
        false => symbolic(mode, true)
            .zip(symbolic(mode, false))
            .map(|(directory, file)| ModeBits { directory, file }),
    };
    bits.map(kind).ok_or_else(wrong)
}

/// `[ugoa…][-+=][rwxXst…|u|g|o]…`, several separated by commas.
fn symbolic(text: &str, is_directory: bool) -> Option<u16> {
    let mut mode = 0;
    for clause in text.split(',') {
        let start = clause.find(['-', '+', '='])?;
        let mut affected = 0;
        for who in clause[..start].chars() {
            affected |= match who {
                'u' => 0o4700,
                'g' => 0o2070,
                'o' => 0o1007,
                'a' => ALL,
                _ => return None,
            };
        }
        if start == 0 {
            affected = ALL;
        }
        let mut rest = &clause[start..];
        while let Some(action) = rest.chars().next() {
            let end = rest[1..].find(['-', '+', '=']).map_or(rest.len(), |end| end + 1);
            let value = value(&rest[1..end], mode, is_directory)? & affected;
            mode = match action {
                '-' => mode & !value,
                '+' => mode | value,
                _ => mode & !affected | value,
            };
            rest = &rest[end..];
        }
    }
    Some(mode)
}

fn value(letters: &str, mode: u16, is_directory: bool) -> Option<u16> {
    let copied = match letters {
        "u" => mode >> 6 & 7,
        "g" => mode >> 3 & 7,
        "o" => mode & 7,
        _ => {
            return letters.chars().try_fold(0, |bits, letter| {
                Some(
                    bits | match letter {
                        'r' => 0o444,
                        'w' => 0o222,
                        'x' => 0o111,
                        'X' if is_directory || mode & 0o111 != 0 => 0o111,
                        'X' => 0,
                        's' => 0o6000,
                        't' => 0o1000,
                        _ => return None,
                    },
                )
            });
        }
    };
    Some(copied << 6 | copied << 3 | copied)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes() {
        let same = |bits| ModeBits { directory: bits, file: bits };
        for (text, expected) in [
            ("-a=rX", Permissions::All(ModeBits { directory: 0o555, file: 0o444 })),
            ("644", Permissions::Exactly(same(0o644))),
            ("-4000", Permissions::All(same(0o4000))),
            ("/222", Permissions::Any(same(0o222))),
            ("/000", Permissions::Any(same(0))),
            ("u=rw,g=r,o=r", Permissions::Exactly(same(0o644))),
            ("-u+s", Permissions::All(same(0o4000))),
            ("/u+w,g+w", Permissions::Any(same(0o220))),
            ("a+rwx-w", Permissions::Exactly(same(0o555))),
            ("=rwX", Permissions::Exactly(ModeBits { directory: 0o777, file: 0o666 })),
            ("u=x,a=X", Permissions::Exactly(same(0o111))),
            ("u=rwx,g=u,o=g", Permissions::Exactly(same(0o777))),
            ("+t", Permissions::Exactly(same(0o1000))),
            ("-g=s", Permissions::All(same(0o2000))),
        ] {
            assert_eq!(permissions(text), Ok(expected), "{text}");
        }
        for wrong in ["", "-", "8", "10000", "u", "u=q", "rw", "u=r;", "+644", "x=r"] {
            assert!(permissions(wrong).is_err(), "{wrong}");
        }
    }
}
