//! Databases of Debian's dpkg.
//!
//! A status file is a text of stanzas with an empty line between them, of fields `Name: value` whose names are equal
//! but for case, and of lines that go on with the value above and begin with a blank (deb-control(5)). The third
//! word of `Status` is what became of the package (dpkg(1), "Package states"): one that is `not-installed`, or of
//! which only `config-files` are left, is not there; in all other states some or all of its files are. The files of
//! `status.d`, which distroless images have instead, have no such field: what is listed is there.
//!
//! dpkg writes changes to files in `updates` first, and puts them into `status` when there are many or when it ends. What a
//! dpkg that was killed left there counts, in the order of the names: a stanza replaces the one of the same
//! package and architecture.

use std::collections::BTreeMap;

use super::error::Error;
use super::inventory::Entry;
use super::limits::MAX_PACKAGES;

/// What status files say, each read over those before it.
#[derive(Debug, Default)]
pub struct Status {
    /// By name and architecture. None where the package is not there.
    stanzas: BTreeMap<(Vec<u8>, Vec<u8>), Option<Entry>>,
}

/// The fields of a stanza that matter.
#[derive(Default)]
struct Stanza<'a> {
    is_empty: bool,
    package: &'a [u8],
    version: &'a [u8],
    architecture: &'a [u8],
    status: &'a [u8],
}

impl Status {
    /// Reads a status file.
    ///
    /// # Errors
    /// A stanza names no package, one that is there has no version, or there are too many.
    pub fn read(&mut self, text: &[u8]) -> Result<(), Error> {
        let nothing = Stanza { is_empty: true, ..Stanza::default() };
        let mut stanza = Stanza { ..nothing };
        for line in text.split(|byte| *byte == b'\n').chain([&b""[..]]) {
            match line {
                [] => {
                    if !stanza.is_empty {
                        self.add(&stanza)?;
                    }
                    stanza = Stanza { ..nothing };
                }
                [b' ' | b'\t', ..] => {}
                _ => {
                    let colon = line.iter().position(|byte| *byte == b':');
                    let (name, value) =
                        line.split_at(colon.ok_or(Error::Corrupt("a line of it is no field"))?);
                    let value = value[1..].trim_ascii();
                    stanza.is_empty = false;
                    for (field, place) in [
                        ("Package", &mut stanza.package),
                        ("Version", &mut stanza.version),
                        ("Architecture", &mut stanza.architecture),
                        ("Status", &mut stanza.status),
                    ] {
                        if name.eq_ignore_ascii_case(field.as_bytes()) {
                            *place = value;
                        }
                    }
                }
            }
        }
        Ok(())
    }

    /// The packages that are there.
    pub fn entries(self) -> Vec<Entry> {
        self.stanzas.into_values().flatten().collect()
    }

    fn add(&mut self, stanza: &Stanza<'_>) -> Result<(), Error> {
        let mut words = stanza.status.split(u8::is_ascii_whitespace).filter(|w| !w.is_empty());
        let is_there = !matches!(words.nth(2), Some(b"not-installed" | b"config-files"));
        // A package that was never here has no version, but a name.
        let version = if is_there { stanza.version } else { b"-" };
        let entry = Entry::new(stanza.package, version, stanza.architecture)?;
        let key = (stanza.package.to_vec(), stanza.architecture.to_vec());
        self.stanzas.insert(key, is_there.then_some(entry));
        match self.stanzas.len() > MAX_PACKAGES {
            true => Err(Error::TooManyPackages),
            false => Ok(()),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn read(texts: &[&str]) -> Result<Vec<String>, Error> {
        let mut status = Status::default();
        texts.iter().try_for_each(|text| status.read(text.as_bytes()))?;
        let line = |entry: &Entry| {
            let architecture = entry.architecture.as_deref().unwrap_or("-");
            format!("{} {} {architecture}", entry.name, entry.version)
        };
        Ok(status.entries().iter().map(line).collect())
    }

    #[test]
    fn stanzas() {
        let status = "\
Package: adduser
Status: install ok installed
Priority: important
Version: 3.134
Architecture: all
Conffiles:
 /etc/deluser.conf 775bde506acb69d1dd7d92a9f0a19d8e
Description: add and remove users and groups
 This package includes the 'adduser' and 'deluser' commands.
 .
 Version: 9 is no field here.

Package: gone
Status: deinstall ok config-files
Architecture: amd64
Version: 1.0

Package: never
Status: unknown ok not-installed
Architecture: amd64


PACKAGE:libc6
status: hold ok unpacked
version: 1:2.36-9+deb12u8
Architecture: amd64

Package: libc6
Status: install ok triggers-awaited
Version: 1:2.36-9+deb12u8
Architecture: i386";
        let expected =
            ["adduser 3.134 all", "libc6 1:2.36-9+deb12u8 amd64", "libc6 1:2.36-9+deb12u8 i386"];
        assert_eq!(read(&[status]).unwrap(), expected);
        assert_eq!(read(&[""]).unwrap(), [""; 0]);
        // A file of distroless.
        let distroless = "Package: base-files\nVersion: 12.4\nArchitecture: arm64\n";
        assert_eq!(read(&[distroless]).unwrap(), ["base-files 12.4 arm64"]);
        // What was not put into the status file yet.
        let updates = [
            "Package: libc6\nStatus: install ok installed\nVersion: 2\nArchitecture: i386\n",
            "Package: adduser\nStatus: purge ok not-installed\nArchitecture: all\n",
        ];
        assert_eq!(
            read(&[status, updates[0], updates[1]]).unwrap(),
            ["libc6 1:2.36-9+deb12u8 amd64", "libc6 2 i386"]
        );
    }

    #[test]
    fn stanzas_that_are_wrong() {
        let many: String =
            (0..=MAX_PACKAGES).map(|n| format!("Package: p{n}\nVersion: 1\n\n")).collect();
        for (text, what) in [
            ("Package: a\nStatus: install ok installed\n", "no version"),
            ("Version: 1\n", "no name"),
            ("Status: purge ok not-installed\n", "no name"),
            ("Package: a\nVersion: 1\nrubbish\n", "no field"),
            (&format!("Package: a\nVersion: {}\n", "1".repeat(257)), "more than 256 bytes"),
            (&many, "more than 100000 packages"),
        ] {
            let error = read(&[text]).unwrap_err().to_string();
            assert!(error.contains(what), "{error}");
        }
    }
}
