//! Databases of Alpine's apk.
//!
//! `installed` is a text of blocks with an empty line behind each (apk-tools, `src/database.c`: `apk_db_fdb_read`). A
//! line is a letter, a colon and a value: `P:` name, `V:` version, `A:` architecture; then files and their
//! directories, which are passed over. apk 3 writes the same.

use super::error::Error;
use super::inventory::Entry;
use super::limits::MAX_PACKAGES;

/// Reads `installed`.
///
/// # Errors
/// A block names no package or no version, or there are too many.
pub fn read(text: &[u8]) -> Result<Vec<Entry>, Error> {
    let mut entries = Vec::new();
    let (mut name, mut version, mut architecture) = (&b""[..], &b""[..], &b""[..]);
    let mut is_in_block = false;
    // The last block may have no empty line behind it.
    for line in text.split(|byte| *byte == b'\n').chain([&b""[..]]) {
        match line {
            [] if is_in_block => {
                if entries.len() == MAX_PACKAGES {
                    return Err(Error::TooManyPackages);
                }
                entries.push(Entry::new(name, version, architecture)?);
                (name, version, architecture, is_in_block) = (b"", b"", b"", false);
            }
            [] => {}
            [letter, b':', value @ ..] => {
                is_in_block = true;
                match letter {
                    b'P' => name = value,
                    b'V' => version = value,
                    b'A' => architecture = value,
                    _ => {}
                }
            }
            _ => return Err(Error::Corrupt("a line of it is no field")),
        }
    }
    Ok(entries)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// As Alpine 3.20 writes it.
    const INSTALLED: &str = "\
C:Q1/se1PjO94hYXbfpNR1/61hVORIc=
P:alpine-baselayout-data
V:3.6.5-r0
A:x86_64
S:11655
I:77824
T:Alpine base dir structure and init scripts
U:https://git.alpinelinux.org/cgit/aports/tree/main/alpine-baselayout
L:GPL-2.0-only
o:alpine-baselayout
m:Natanael Copa <ncopa@alpinelinux.org>
t:1714981135
c:66187892e05b03a41d08e9acabd19b7576a1c875
r:alpine-baselayout
q:1000
F:etc
R:fstab
Z:Q11Q7hNe8QpDS531guqCdrXBzoA/o=
R:group
a:0:0:640
Z:Q12Otk4M39fP2Zjkobu0nC9FvlRI0=

P:.build-deps
V:20240601.120000
A:noarch
D:gcc musl-dev

C:Q1HXb8nqIEcHPUK6EUVQfe0QcjqQU=
P:musl
V:1.2.5-r0
A:x86_64
";

    #[test]
    fn blocks() {
        let read = |text: &str| {
            super::read(text.as_bytes()).map(|entries| {
                let line = |entry: &Entry| {
                    let architecture = entry.architecture.as_deref().unwrap_or("-");
                    format!("{} {} {architecture}", entry.name, entry.version)
                };
                entries.iter().map(line).collect::<Vec<_>>()
            })
        };
        let expected = [
            "alpine-baselayout-data 3.6.5-r0 x86_64",
            ".build-deps 20240601.120000 noarch",
            "musl 1.2.5-r0 x86_64",
        ];
        assert_eq!(read(INSTALLED).unwrap(), expected);
        assert_eq!(read(&format!("\n{INSTALLED}\n\n\n")).unwrap(), expected);
        assert_eq!(read("").unwrap(), [""; 0]);
        assert_eq!(read("P:a\nV:1").unwrap(), ["a 1 -"]);
        for (text, what) in [
            ("P:a\n", "no version"),
            ("V:1\n\nP:a\nV:1\n", "no name"),
            ("P:a\nV:1\nrubbish\n", "no field"),
            (&format!("P:{}\nV:1\n", "a".repeat(257)), "more than 256 bytes"),
            (&"P:a\nV:1\n\n".repeat(MAX_PACKAGES + 1), "more than 100000 packages"),
        ] {
            let error = read(text).unwrap_err().to_string();
            assert!(error.contains(what), "{error}");
        }
    }
}
