//! Databases of packages, written by the tests' own writers from the definitions of their formats, and trees that hold
//! them. `tests/oracle/packages.rs` has those that the real programs write.

use std::sync::Arc;

use ocifs::cache::Cache;
use ocifs::image::{Image, ImageOptions};
use ocifs::layer::Quiet;
use ocifs::packages::{self, Entry, Error, Inventory, Manager, Missing, rpm, sqlite};

use crate::support::image::{Compression, ImageBuilder, write_oci_layout};
use crate::support::packages::{
    ARCHITECTURE, BASENAMES, EPOCH, FRAME_HEAD, Frame, INT32, INTERIOR, LEAF, NAME, RELEASE,
    STRING, Sqlite, VERSION, Value, WAL_HEAD, record, rpm_bdb, rpm_header, rpm_line, rpm_ndb,
    rpm_package, rpm_sqlite, seal_wal, wal,
};
use crate::support::tarball::{Entry as TarEntry, tar};

/// Packages as `name version architecture`, or the error.
fn lines(read: Result<Vec<Entry>, Error>) -> Result<Vec<String>, String> {
    let line = |entry: Entry| {
        let architecture = entry.architecture.unwrap_or("-".into());
        format!("{} {} {architecture}", entry.name, entry.version)
    };
    read.map(|entries| entries.into_iter().map(line).collect()).map_err(|e| e.to_string())
}

/// Packages of all sizes between nothing and many pages.
fn many(count: u32) -> (Vec<Vec<u8>>, Vec<String>) {
    let name = |n: u32| format!("package-{n}");
    let header = |n: u32| rpm_package(&name(n), n, (n as usize * 937) % 5000);
    ((0..count).map(header).collect(), (0..count).map(|n| rpm_line(&name(n), n)).collect())
}

#[test]
fn sqlite_databases() {
    let (headers, expected) = many(150);
    for size in [512, 1024, 4096, 32768, 65536] {
        for fanout in [2, 3, 1000] {
            let file = rpm_sqlite(size, &headers, fanout);
            assert_eq!(lines(rpm::sqlite(&file[..], None)).unwrap(), expected, "{size} {fanout}");
        }
    }
    let empty = rpm_sqlite(512, &[], 2);
    assert_eq!(lines(rpm::sqlite(&empty[..], None)).unwrap(), [""; 0]);
    // Each length around those where records leave their cell, and where chains get a page more.
    let row = |header: &Vec<u8>| record(&[Value::Null, Value::Blob(header.clone())]);
    for reserved in [0, 12, 32] {
        let headers: Vec<Vec<u8>> = (0..1600).map(|more| rpm_package("a", 2, more)).collect();
        let mut database = Sqlite::new(512, reserved);
        let root = database.table(&headers.iter().map(row).collect::<Vec<_>>(), 50);
        let file = database.finish("packages", root);
        let read = lines(rpm::sqlite(&file[..], None)).unwrap();
        assert_eq!(read, vec![rpm_line("a", 2); 1600], "{reserved}");
    }
}

/// Of long headers only the pages are read in which the answer is, whatever is in the others.
#[test]
fn long_values_are_read_from_their_front() {
    let headers = [rpm_package("a", 0, 3_000_000), rpm_package("b", 1, 3_000_000)];
    let expected = [rpm_line("a", 0), rpm_line("b", 1)];
    let mut file = rpm_sqlite(4096, &headers, 2);
    // Pages of chains are written from their ends.
    for page in 3..700 {
        file[page * 4096..][..4096].fill(0xff);
    }
    assert_eq!(lines(rpm::sqlite(&file[..], None)).unwrap(), expected);
    let mut file = rpm_bdb(false, 4096, &headers);
    let end = file.len();
    file[end - 2_900_000..].fill(0xff);
    assert_eq!(lines(rpm::bdb(&file[..])).unwrap(), expected);
    let mut file = rpm_ndb(&headers);
    let end = file.len();
    file[end - 2_900_000..end - 12].fill(0xff);
    assert_eq!(lines(rpm::ndb(&file[..])).unwrap(), expected);
}

/// What of a write-ahead log counts.
#[test]
fn write_ahead_logs() {
    const SIZE: usize = 512;
    let old = rpm_sqlite(SIZE, &[rpm_package("old", 0, 0)], 2);
    let new = rpm_sqlite(SIZE, &[rpm_package("new", 1, 900), rpm_package("more", 2, 0)], 2);
    let third = rpm_sqlite(SIZE, &[rpm_package("third", 3, 0)], 2);
    let transaction = |file: &[u8]| -> Vec<Frame> {
        let count = (file.len() / SIZE) as u32;
        let frame = |(at, page): (usize, &[u8])| {
            let number = at as u32 + 1;
            (number, if number == count { count } else { 0 }, page.to_vec())
        };
        file.chunks(SIZE).enumerate().map(frame).collect()
    };
    let (second, last) = (transaction(&new), transaction(&third));
    let both = [&second[..], &last].concat();
    let is_old = &["old 1.0-1 noarch"][..];
    let is_new = &["new 1:1.1-1 noarch", "more 1.2-1 noarch"][..];
    let is_third = &["third 3:1.3-1 noarch"][..];
    let place = |frame: usize| WAL_HEAD + frame * (FRAME_HEAD + SIZE);
    let changed = |at: usize, byte: u8| {
        let mut log = wal(false, SIZE, &both);
        log[at] ^= byte;
        log
    };
    for (what, log, expected) in [
        ("an empty one", vec![], is_old),
        ("a head alone", wal(false, SIZE, &[]), is_old),
        ("a transaction", wal(false, SIZE, &second), is_new),
        ("the same, checksums in the other order", wal(true, SIZE, &second), is_new),
        ("two", wal(false, SIZE, &both), is_third),
        ("a second one that has not ended", wal(false, SIZE, &both[..both.len() - 1]), is_new),
        ("a first one that has not ended", wal(false, SIZE, &second[..second.len() - 1]), is_old),
        ("a byte of the head is wrong", changed(5, 1), is_old),
        ("no magic", seal_wal(changed(0, 1)), is_old),
        ("a byte of the first page is wrong", changed(place(0) + 100, 1), is_old),
        ("a byte of the second transaction is wrong", changed(place(second.len()) + 99, 1), is_new),
        (
            "a second transaction of an earlier use",
            seal_wal(changed(place(second.len()) + 8, 1)),
            is_new,
        ),
        ("it is cut", wal(false, SIZE, &both)[..place(both.len()) - 1].to_vec(), is_new),
        ("something follows", [wal(false, SIZE, &second), vec![7; 5000]].concat(), is_new),
    ] {
        let read = lines(rpm::sqlite(&old[..], Some(&log[..])));
        assert_eq!(read.unwrap(), expected, "{what}");
    }
    for (log, what) in [
        (wal(false, 1024, &[]), "log is of another database"),
        (seal_wal(changed(7, 1)), "a newer format of SQLite's write-ahead logs"),
        (wal(false, SIZE, &[(1, 1, vec![0; SIZE])]), "not an SQLite database"),
        (wal(false, SIZE, &[(9, 1, vec![0; SIZE])]), "there is no such page"),
    ] {
        // A log of nothing but its head is not looked at.
        let log = if log.len() == WAL_HEAD { [log, vec![0]].concat() } else { log };
        let error = lines(rpm::sqlite(&old[..], Some(&log[..]))).unwrap_err();
        assert!(error.contains(what), "{error}");
    }
}

/// Trees and chains that go in circles, and the limits of what is not.
#[test]
fn sqlite_databases_that_are_wrong() {
    // What is wanted of it is at its end.
    let text = |tag: u32, text: &str| (tag, STRING, [text.as_bytes(), b"\0"].concat());
    let files = (BASENAMES, STRING, vec![1; 2000]);
    let header = rpm_header(&[files, text(NAME, "a"), text(VERSION, "1.0"), text(RELEASE, "1")]);
    let row = record(&[Value::Null, Value::Blob(header)]);
    let node = |child: u32| [&child.to_be_bytes()[..], &[7]].concat();
    let with = |make: &dyn Fn(&mut Sqlite) -> u32| {
        let mut database = Sqlite::new(512, 0);
        let root = make(&mut database);
        database.finish("Packages", root)
    };
    let sound = rpm_sqlite(512, &[rpm_package("a", 0, 0)], 2);
    let changed = |at: usize, bytes: &[u8]| {
        let mut file = sound.clone();
        file[at..at + bytes.len()].copy_from_slice(bytes);
        file
    };
    let itself = with(&|database| {
        let page = database.node(INTERIOR, &[node(2)], 2, 0);
        database.append(page)
    });
    let deep = with(&|database| {
        let mut child = database.append(vec![LEAF, 0, 0, 0, 0, 0, 0, 0]);
        for _ in 0..40 {
            let page = database.node(INTERIOR, &[], child, 0);
            child = database.append(page);
        }
        child
    });
    let shared_chain = with(&|database| {
        let cell = database.cell(1, &row);
        let page = database.node(LEAF, &[cell.clone(), cell], 0, 0);
        database.append(page)
    });
    let broken_chain = with(&|database| {
        let cell = database.cell(1, &row);
        database.pages.iter_mut().skip(1).for_each(|page| page[..4].fill(0));
        let page = database.node(LEAF, &[cell], 0, 0);
        database.append(page)
    });
    // The same small cell, again and again.
    let repeated = {
        let mut database = Sqlite::new(65536, 0);
        let header = rpm_package("a", 0, 0);
        let cell = database.cell(1, &record(&[Value::Null, Value::Blob(header)]));
        let mut page = database.node(LEAF, &[cell], 0, 0);
        let position = [page[8], page[9]];
        let count = 32_000u16;
        page[3..5].copy_from_slice(&count.to_be_bytes());
        for at in 0..usize::from(count) {
            page[8 + 2 * at..10 + 2 * at].copy_from_slice(&position);
        }
        let leaves: Vec<Vec<u8>> = (0..4).map(|_| node(database.append(page.clone()))).collect();
        let last = database.append(page.clone());
        let page = database.node(INTERIOR, &leaves, last, 0);
        let root = database.append(page);
        database.finish("Packages", root)
    };
    let other = Sqlite::new(512, 0).finish("Other", 1);
    let no_blob = with(&|database| database.table(&[record(&[Value::Null])], 2));
    let number = with(&|database| database.table(&[record(&[Value::Null, Value::Integer(1)])], 2));
    for (file, what) in [
        (vec![], "too short for an SQLite database"),
        (vec![0; 512], "not an SQLite database"),
        (changed(16, &[3, 0]), "an impossible size"),
        (changed(28, &[0, 0, 1, 0]), "fewer pages than it says"),
        (changed(19, &[3]), "a newer format of SQLite"),
        (changed(56, &[0, 0, 0, 2]), "in UTF-16"),
        (changed(20, &[40]), "have no room"),
        (changed(512, &[10]), "page 2 is corrupt: it is not one of a table"),
        (other, "no table `Packages`"),
        (with(&|_| 77), "page 77 is corrupt: there is no such page"),
        (with(&|_| 0), "page 0 is corrupt: there is no such page"),
        (itself, "page 2 is corrupt: it is in two places"),
        (deep, "the tree is too deep"),
        (shared_chain, "it is in two places"),
        (broken_chain, "page 0 is corrupt: there is no such page"),
        (repeated, "more than 100000 packages"),
        (no_blob, "a package has no header"),
        (number, "a package has no header"),
    ] {
        let error = lines(rpm::sqlite(&file[..], None)).expect_err(what);
        assert!(error.contains(what), "{what}: {error}");
    }
}

/// Rows are handed on within a budget, although they need no room of their own.
#[test]
fn what_is_handed_on_is_bounded() {
    let mut database = Sqlite::new(65536, 0);
    let cell = database.cell(1, &record(&[Value::Null, Value::Blob(vec![0; 60_000])]));
    let mut page = database.node(LEAF, &[cell], 0, 0);
    let position = [page[8], page[9]];
    page[3..5].copy_from_slice(&2000u16.to_be_bytes());
    for at in 0..2000 {
        page[8 + 2 * at..10 + 2 * at].copy_from_slice(&position);
    }
    let leaves: Vec<u32> = (0..10).map(|_| database.append(page.clone())).collect();
    let cells = leaves.iter().map(|leaf| [&leaf.to_be_bytes()[..], &[7]].concat());
    let page = database.node(INTERIOR, &cells.collect::<Vec<_>>()[1..], leaves[0], 0);
    let root = database.append(page);
    let file = database.finish("Packages", root);
    let database = sqlite::Database::open(&file[..], None).unwrap();
    let mut rows = 0;
    let error = database.rows(root, &mut |_| {
        rows += 1;
        Ok(())
    });
    assert!(error.unwrap_err().to_string().contains("would have to be read"));
    assert!((1000..5000).contains(&rows), "{rows}");
}

#[test]
fn databases_of_other_formats() {
    let (headers, expected) = many(150);
    assert_eq!(lines(rpm::ndb(&rpm_ndb(&headers)[..])).unwrap(), expected);
    assert_eq!(lines(rpm::ndb(&rpm_ndb(&[])[..])).unwrap(), [""; 0]);
    for (is_big, size) in [(false, 512), (true, 512), (false, 4096), (true, 65536 / 2)] {
        let file = rpm_bdb(is_big, size, &headers);
        assert_eq!(lines(rpm::bdb(&file[..])).unwrap(), expected, "{is_big} {size}");
    }
    let changed = |mut file: Vec<u8>, at: usize, bytes: &[u8]| {
        file[at..at + bytes.len()].copy_from_slice(bytes);
        file
    };
    let (ndb, bdb) = (rpm_ndb(&headers[..2]), rpm_bdb(false, 512, &headers[..2]));
    for (read, what) in [
        (rpm::ndb(&ndb[..100]), "too short"),
        (rpm::ndb(&changed(ndb.clone(), 0, b"x")[..]), "not a database of packages"),
        (rpm::ndb(&changed(ndb.clone(), 4, &[1])[..]), "a newer format of rpm's databases"),
        (rpm::ndb(&changed(ndb.clone(), 12, &[9])[..]), "too short"),
        (rpm::ndb(&changed(ndb.clone(), 48, b"x")[..]), "a slot is none"),
        (rpm::ndb(&changed(ndb.clone(), 56, &[3, 0])[..]), "among the slots"),
        (rpm::ndb(&changed(ndb.clone(), 52, &[9])[..]), "no package of its number"),
        (rpm::ndb(&changed(ndb.clone(), 60, &[1, 0])[..]), "another size than its slot"),
        (rpm::ndb(&ndb[..4096 + 20]), "ends too early"),
        (rpm::bdb(&bdb[..100]), "too short"),
        (rpm::bdb(&changed(bdb.clone(), 12, &[0])[..]), "not a Berkeley DB"),
        (rpm::bdb(&changed(bdb.clone(), 12, &[0x62, 0x31, 5, 0])[..]), "that is a tree"),
        (rpm::bdb(&changed(bdb.clone(), 16, &[5])[..]), "another version"),
        (rpm::bdb(&changed(bdb.clone(), 24, &[1])[..]), "an encrypted"),
        (rpm::bdb(&changed(bdb.clone(), 20, &[1])[..]), "an impossible size"),
        (rpm::bdb(&changed(bdb.clone(), 32, &[99])[..]), "fewer pages than it says"),
        (rpm::bdb(&changed(bdb.clone(), 72, &[9])[..]), "more buckets than pages"),
        (rpm::bdb(&changed(bdb.clone(), 512 + 16, &[1])[..]), "page 1 is corrupt: it is in two"),
        (rpm::bdb(&changed(bdb.clone(), 512 + 8, &[2])[..]), "the number of another page"),
        (rpm::bdb(&changed(bdb.clone(), 512 + 25, &[5])[..]), "not one of a bucket"),
    ] {
        let error = lines(read).expect_err(what);
        assert!(error.contains(what), "{what}: {error}");
    }
}

/// The heads of a database that SUSE's rpm 4.14 wrote (SLE 15 BCI): no program of Debian writes this format, so that the
/// tests' own writer has only the same description as the reader.
#[test]
fn heads_of_a_real_ndb() {
    let mut file = b"RpmP\0\0\0\0\x2e\0\0\0\x01\0\0\0\x29\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0".to_vec();
    file.extend(b"Slot\x01\0\0\0\0\x01\0\0\x04\x01\0\0");
    while file.len() < 4096 {
        file.extend(b"Slot\0\0\0\0\0\0\0\0\0\0\0\0");
    }
    file.extend(b"BlbS\x01\0\0\0\x01\0\0\0\x20\x10\0\0");
    let header = rpm_package("system-user-root", 2, 3900);
    file.extend(&header);
    file.resize((256 + 260) * 16, 0);
    assert_eq!(lines(rpm::ndb(&file[..])).unwrap(), [rpm_line("system-user-root", 2)]);
}

#[test]
fn headers() {
    let text = |text: &str| [text.as_bytes(), b"\0"].concat();
    let (name, version, release) = (
        (NAME, STRING, text("name")),
        (VERSION, STRING, text("1.0~rc1")),
        (RELEASE, STRING, text("2.el9")),
    );
    let long = (NAME, STRING, text(&"x".repeat(257)));
    let longest = (NAME, STRING, text(&"x".repeat(256)));
    let epoch = |epoch: u32| (EPOCH, INT32, epoch.to_be_bytes().to_vec());
    let some = [name.clone(), version.clone(), release.clone()];
    let with = |entry| rpm_header(&[&some[..], &[entry]].concat());
    let all = || rpm_header(&some);
    let cut = |bytes: usize| all()[..all().len() - bytes].to_vec();
    let changed = |at: usize, byte: u8| {
        let mut header = all();
        header[at] = byte;
        header
    };
    for (header, expected) in [
        (all(), "name 1.0~rc1-2.el9 -"),
        (with(epoch(0)), "name 1.0~rc1-2.el9 -"),
        (with(epoch(4_000_000_000)), "name 4000000000:1.0~rc1-2.el9 -"),
        (with((ARCHITECTURE, STRING, text("x86_64"))), "name 1.0~rc1-2.el9 x86_64"),
        // The last counts; a type that the tag can't have does not.
        (with((NAME, STRING, text("drip"))), "drip 1.0~rc1-2.el9 -"),
        (with((NAME, INT32, vec![0; 4])), "name 1.0~rc1-2.el9 -"),
        (with(longest.clone()), &format!("{} 1.0~rc1-2.el9 -", "x".repeat(256))),
        (with(long), "more than 256 bytes"),
        (rpm_header(&some[1..]), "has no name"),
        (rpm_header(&some[..2]), "has no version"),
        (rpm_header(&[name, release]), "has no version"),
        (vec![], "ends too early"),
        (all()[..30].to_vec(), "ends too early"),
        (cut(1), "a text of a header has no end"),
        (cut(7), "a text of a header has no end"),
        (cut(19), "a text of a header has no end"),
        (changed(1, 1), "an impossible size"),
        (changed(4, 0xff), "an impossible size"),
        (changed(8 + 8, 1), "outside of its data"),
        (changed(8 + 15, 0), "outside of its data"),
    ] {
        let said = lines(rpm::header(&header).map(|entry| vec![entry]));
        match said {
            Ok(lines) => assert_eq!(lines, [expected]),
            Err(error) => assert!(error.contains(expected), "{error} instead of {expected}"),
        }
    }
}

fn file(path: &str, content: impl AsRef<[u8]>) -> TarEntry {
    TarEntry::file(path, content)
}

fn link(path: &str, target: &str) -> TarEntry {
    TarEntry::symlink(path, target)
}

/// An image of these layers, open, and what is installed in it.
fn inventory(layers: &[&[TarEntry]]) -> Inventory {
    let folder = tempfile::tempdir().unwrap();
    let add =
        |builder: ImageBuilder, layer: &&[TarEntry]| builder.layer(&tar(layer), Compression::Gzip);
    let image = layers.iter().fold(ImageBuilder::new(), add).build();
    let layout = folder.path().join("layout");
    write_oci_layout(&layout, &[(Some("latest"), &image)]).unwrap();
    let cache = Arc::new(Cache::open(&folder.path().join("cache")));
    let name = format!("oci:{}", layout.display()).parse().unwrap();
    let image = Image::open(&name, &cache, &ImageOptions::default(), &Quiet).unwrap();
    packages::read(image.filesystem()).unwrap()
}

/// Its packages as `manager name version place`.
fn packages_of(inventory: &Inventory) -> Vec<String> {
    let line = |package: &packages::Package| {
        let place = String::from_utf8_lossy(&package.place);
        format!("{} {} {} {place}", package.manager, package.name, package.version)
    };
    inventory.packages.iter().map(line).collect()
}

#[test]
fn trees() {
    let metadata = |name: &str| format!("usr/lib/python3/dist-packages/{name}");
    let site = "opt/venv/lib/python3.12/site-packages";
    let database = rpm_sqlite(4096, &[rpm_package("rpm-a", 0, 9000)], 2);
    let newer = rpm_sqlite(4096, &[rpm_package("rpm-b", 0, 9000)], 2);
    let count = (newer.len() / 4096) as u32;
    let frames: Vec<Frame> =
        (1..=count).zip(newer.chunks(4096)).map(|(n, page)| (n, count, page.to_vec())).collect();
    let lower = [
        file("var/lib/dpkg/status", b"Package: old\nStatus: install ok installed\nVersion: 1\n"),
        file(
            "var/lib/dpkg/updates/0001",
            b"Package: b\nStatus: install ok installed\nVersion: 2\n",
        ),
        file("var/lib/dpkg/updates/tmp.i", b"rubbish"),
        file("usr/lib/apk/db/installed", b"P:musl\nV:1.2\n\n"),
        // It is one database, whatever leads there.
        link("lib", "usr/lib"),
        // The log is beside the file that a symlink leads to.
        link("usr/lib/sysimage/rpm/rpmdb.sqlite", "../../../../srv/db"),
        file("srv/db", &database),
        file("srv/db-wal", wal(false, 4096, &frames)),
        file("usr/lib/sysimage/rpm/rpmdb.sqlite-journal", [0; 600]),
        file("usr/lib/sysimage/rpm/Packages", b"left from an update"),
        link("var/lib/rpm", "/usr/lib/sysimage/rpm"),
        link("usr/share/rpm", "../lib/sysimage/rpm"),
    ];
    let upper = [
        file("var/lib/dpkg/status", b"Package: a\nStatus: install ok installed\nVersion: 1:1-1\n"),
        file("var/lib/dpkg/status.d/base", b"Package: base\nVersion: 12\n"),
        file("var/lib/dpkg/status.d/base.md5sums", b"0123  etc/x"),
        file(&metadata("PyYAML-6.0.egg-info"), b"what it says does not count"),
        file(&metadata("Plain_Name.egg-info/PKG-INFO"), b"Name: Plain_Name\nVersion: 3\n"),
        file(&metadata("django-4.2.dist-info/METADATA"), b"nor does this"),
        file(&metadata("no_metadata-1.dist-info/RECORD"), b""),
        file(&metadata("yaml/inner-1.dist-info/METADATA"), b""),
        file(&format!("{site}/Django-5.0.dist-info/METADATA"), b""),
        link(&format!("{site}/linked-1.0.dist-info/METADATA"), "/store/METADATA"),
        link(&format!("{site}/broken-1.0.dist-info/METADATA"), "/store/NONE"),
        link(&format!("{site}/whole-1.0.dist-info"), "/store"),
        file("store/METADATA", b""),
        link("opt/venv/lib64", "lib"),
        file("site-packages/top-1.0.dist-info/METADATA", b""),
        file("bundled/top-1.0.dist-info/METADATA", b""),
    ];
    let inventory = inventory(&[&lower, &upper]);
    let expected = [
        "dpkg a 1:1-1 var/lib/dpkg/status",
        "dpkg b 2 var/lib/dpkg/status",
        "dpkg base 12 var/lib/dpkg/status.d/base",
        "apk musl 1.2 lib/apk/db/installed",
        "rpm rpm-b 1.0-1 var/lib/rpm/rpmdb.sqlite",
        &format!("python django 5.0 {site}"),
        "python django 4.2 usr/lib/python3/dist-packages",
        &format!("python linked 1.0 {site}"),
        "python plain-name 3 usr/lib/python3/dist-packages",
        "python pyyaml 6.0 usr/lib/python3/dist-packages",
        "python top 1.0 site-packages",
        &format!("python whole 1.0 {site}"),
    ];
    assert_eq!(packages_of(&inventory), expected);
    assert!(inventory.problems.is_empty(), "{:?}", inventory.problems);
}

#[test]
fn trees_with_problems() {
    let journal = [0xd9, 0xd5, 0x05, 0xf9, 0x20, 0xa1, 0x63, 0xd7, 0, 0, 0, 1];
    let database = rpm_sqlite(4096, &[rpm_package("rpm-a", 0, 9000)], 2);
    let many: Vec<TarEntry> = (0..1001)
        .map(|n| TarEntry::file(format!("site-packages/a{n}.dist-info/METADATA"), "Name: a\n"))
        .collect();
    let entries = [
        TarEntry::fifo("var/lib/dpkg/status"),
        file("var/lib/dpkg/status.d/good", b"Package: good\nVersion: 1\n"),
        file("var/lib/dpkg/status.d/bad", b"Package: bad\n"),
        TarEntry::dir("var/lib/dpkg/status.d/dir"),
        TarEntry::dir("lib/apk/db/installed"),
        TarEntry::symlink("usr/lib/apk/db/installed", "installed"),
        file("var/lib/rpm/rpmdb.sqlite", &database),
        file("var/lib/rpm/rpmdb.sqlite-journal", journal),
        file("usr/share/rpm/Packages.db", b"x"),
    ];
    let inventory = inventory(&[&entries, &many]);
    assert_eq!(packages_of(&inventory), ["dpkg good 1 var/lib/dpkg/status.d/good"]);
    let problems: Vec<String> = inventory
        .problems
        .iter()
        .map(|p| {
            let place = String::from_utf8_lossy(&p.place);
            format!("{} {place} {:?}: {}", p.manager, p.missing, p.why)
        })
        .collect();
    let expected = [
        "dpkg var/lib/dpkg/status Many: it is not a regular file",
        "dpkg var/lib/dpkg/status.d/bad One: it is corrupt: a package has no version",
        "dpkg var/lib/dpkg/status.d/dir One: it is not a regular file",
        "apk lib/apk/db/installed Many: it is not a regular file",
        "rpm var/lib/rpm/rpmdb.sqlite Many: not supported: SQLite would have to undo a transaction \
         first that has not ended",
        "rpm usr/share/rpm/Packages.db Many: it is corrupt: it is too short for a database of packages",
        "python site-packages/a0.dist-info/METADATA One: it is corrupt: a package has no version",
    ];
    assert_eq!(problems[..expected.len()], expected);
    // They have an end.
    assert_eq!(problems.len(), 100);
    assert!(!inventory.knows(Manager::Dpkg) && !inventory.knows(Manager::Rpm));
    assert!(inventory.problems.iter().filter(|p| p.missing == Missing::Many).count() == 4);
}
