//! Databases of packages, which lie in images.

use ocifs::packages::python::metadata;
use ocifs::packages::{Entry, Error, MAX_FIELD_BYTES, MAX_PACKAGES, apk, dpkg, rpm};

use super::{SMALL, Target, Verdict};
use crate::support::packages::{
    Sqlite, Value, record, rpm_bdb, rpm_ndb, rpm_package, rpm_sqlite, seal_wal, wal,
};

const fn target(
    name: &'static str,
    valid: fn() -> Vec<Vec<u8>>,
    check: fn(&[u8]) -> Verdict,
) -> Target {
    Target { name, valid, check, most_memory: SMALL }
}

/// SQLite without a log.
pub const SQLITE: Target = target("sqlite", databases, |file| check(rpm::sqlite(file, None), "-"));

/// Logs of a database, with checksums that are right: what is wrong ends a log, and is no error.
pub const WAL: Target = target("sqlite_wal", logs, |log| {
    check(rpm::sqlite(&databases()[0][..], Some(&seal_wal(log.to_vec())[..])), "-")
});

/// Headers of rpm's packages.
pub const HEADER: Target = target("rpm_header", headers, |header| {
    check(rpm::header(header).map(|entry| vec![entry]), "-")
});

/// rpm's own databases.
pub const NDB: Target = target(
    "rpm_ndb",
    || vec![rpm_ndb(&headers()), rpm_ndb(&[])],
    |file| check(rpm::ndb(file), "-"),
);

/// Those of Berkeley DB.
pub const BDB: Target = target(
    "rpm_bdb",
    || vec![rpm_bdb(false, 512, &headers()), rpm_bdb(true, 1024, &headers())],
    |file| check(rpm::bdb(file), "-"),
);

/// dpkg's status files.
pub const DPKG: Target = target("dpkg", statuses, |text| {
    let mut status = dpkg::Status::default();
    let read = status.read(text).and_then(|()| status.read(text));
    check(read.map(|()| status.entries()), "")
});

/// apk's lists.
pub const APK: Target = target(
    "apk",
    || {
        let block = "C:Q1/se1PjO94=\nP:musl\nV:1.2.5-r0\nA:x86_64\nF:lib\nR:libc.so\na:0:0:755\n\n";
        vec![block.repeat(2).into_bytes(), b"P:.deps\nV:20240601.120000\nA:noarch".to_vec()]
    },
    |text| check(apk::read(text), ""),
);

/// Metadata of Python's distributions.
pub const PYTHON: Target = target(
    "python_metadata",
    || {
        let text = "Metadata-Version: 2.1\r\nName: My.Pkg\r\nVersion: 1.0-1\r\n\r\nName: of text\n";
        vec![text.into(), b"name:a_-b\nversion:2\nSummary: x\n".to_vec()]
    },
    |text| check(metadata(text).map(|entry| vec![entry]), ""),
);

fn headers() -> Vec<Vec<u8>> {
    vec![rpm_package("alpha", 1, 0), rpm_package("beta", 2, 1500), rpm_package("gamma", 3, 200)]
}

fn databases() -> Vec<Vec<u8>> {
    let mut reserved = Sqlite::new(512, 16);
    let row = |header| record(&[Value::Null, Value::Blob(header)]);
    let root = reserved.table(&headers().into_iter().map(row).collect::<Vec<_>>(), 9);
    vec![
        rpm_sqlite(512, &headers(), 2),
        rpm_sqlite(1024, &headers(), 9),
        reserved.finish("Packages", root),
    ]
}

fn logs() -> Vec<Vec<u8>> {
    let newer = rpm_sqlite(512, &[rpm_package("newer", 9, 700)], 2);
    let count = (newer.len() / 512) as u32;
    let frame = |(at, page): (usize, &[u8])| {
        let commit = if at as u32 + 1 == count { count } else { 0 };
        (at as u32 + 1, commit, page.to_vec())
    };
    let frames: Vec<_> = newer.chunks(512).enumerate().map(frame).collect();
    vec![wal(false, 512, &frames), wal(true, 512, &frames)]
}

fn statuses() -> Vec<Vec<u8>> {
    let status = "\
Package: adduser
Status: install ok installed
Version: 3.134
Architecture: all
Conffiles:
 /etc/deluser.conf 775bde506acb69d1dd7d92a9f0a19d8e

Package: gone
Status: deinstall ok config-files
Architecture: amd64
Version: 1.0

Package: never
Status: unknown ok not-installed
";
    vec![status.into(), b"package:libc6\nVERSION: 1:2.36-9\nArchitecture: arm64\n".to_vec()]
}

/// What is accepted holds together; each version has this in it.
fn check(read: Result<Vec<Entry>, Error>, in_versions: &str) -> Verdict {
    let verdict = Verdict::from(&read);
    let entries = read.unwrap_or_default();
    assert!(entries.len() <= MAX_PACKAGES);
    for Entry { name, architecture, version } in &entries {
        // A byte that is not UTF-8 becomes three.
        let is_field = |text: &str| !text.is_empty() && text.len() <= 3 * MAX_FIELD_BYTES;
        assert!(is_field(name) && is_field(version), "{name} {version}");
        assert!(architecture.as_deref().is_none_or(is_field), "{architecture:?}");
        assert!(version.contains(in_versions), "{version}");
    }
    verdict
}
