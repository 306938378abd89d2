//! The parser against archives of the `tar` crate, and against byte-made corner cases.

use super::{Entry, Error, FileType, Parser, Sink};

/// Keeps entries and their stored content, and all bytes that came.
#[derive(Default)]
struct Collect {
    entries: Vec<(Entry, Vec<u8>)>,
    ended: usize,
    bytes: Vec<u8>,
}

impl Sink for Collect {
    type Error = Error;

    fn entry(&mut self, entry: Entry) -> Result<(), Error> {
        assert_eq!(self.ended, self.entries.len(), "an entry begins before the last one ended");
        self.entries.push((entry, Vec::new()));
        Ok(())
    }

    fn content(&mut self, bytes: &[u8]) {
        self.entries.last_mut().expect("content follows an entry").1.extend_from_slice(bytes);
        self.bytes.extend_from_slice(bytes);
    }

    fn end(&mut self) {
        self.ended += 1;
    }

    fn framing(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }
}

fn parse_in(tar: &[u8], step: usize) -> Result<Vec<(Entry, Vec<u8>)>, Error> {
    let mut parser = Parser::new();
    let mut collect = Collect::default();
    for piece in tar.chunks(step) {
        parser.feed(piece, &mut collect)?;
    }
    parser.finish()?;
    assert_eq!(collect.ended, collect.entries.len());
    assert!(collect.bytes == tar, "each byte comes once, as content or framing");
    Ok(collect.entries)
}

/// Parses in several chunkings, which must not matter.
fn parse(tar: &[u8]) -> Result<Vec<(Entry, Vec<u8>)>, Error> {
    let whole = parse_in(tar, tar.len().max(1));
    for step in [1, 511, 512, 700] {
        assert_eq!(parse_in(tar, step), whole, "fed in pieces of {step}");
    }
    whole
}

/// A ustar header block with a right checksum, after `edit`.
fn header(edit: impl FnOnce(&mut [u8; 512])) -> Vec<u8> {
    let mut block = [0; 512];
    block[..4].copy_from_slice(b"name");
    block[100..107].copy_from_slice(b"0000644");
    block[124..135].copy_from_slice(b"00000000000");
    block[156] = b'0';
    block[257..265].copy_from_slice(b"ustar\x0000");
    edit(&mut block);
    block[148..156].fill(b' ');
    let sum: u32 = block.iter().map(|b| u32::from(*b)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    block.to_vec()
}

fn pax(records: &[u8]) -> Vec<u8> {
    let mut out = header(|h| {
        h[156] = b'x';
        h[124..135].copy_from_slice(format!("{:011o}", records.len()).as_bytes());
    });
    out.extend_from_slice(records);
    out.resize(out.len().next_multiple_of(512), 0);
    out
}

fn end(mut tar: Vec<u8>) -> Vec<u8> {
    tar.resize(tar.len() + 1024, 0);
    tar
}

#[test]
fn equals_the_tar_crate() {
    let mut builder = ::tar::Builder::new(Vec::new());
    let long = format!("{}/{}", "d".repeat(90), "f".repeat(200));
    for (name, data) in [("a", &b"hello"[..]), ("dir/b", &[7; 513]), (&long, b""), ("z", &[1; 512])]
    {
        let mut header = ::tar::Header::new_gnu();
        header.set_size(data.len() as u64);
        header.set_mode(0o640);
        header.set_uid(0o7777777 + 1);
        header.set_mtime(1 << 40);
        builder.append_data(&mut header, name, data).expect("in memory");
    }
    let tar = builder.into_inner().expect("in memory");
    let ours = parse(&tar).expect("a good archive");
    let mut theirs = ::tar::Archive::new(&tar[..]);
    let theirs: Vec<_> =
        theirs.entries().expect("a good archive").map(|e| e.expect("good")).collect();
    assert_eq!(ours.len(), theirs.len());
    for ((entry, content), other) in ours.iter().zip(&theirs) {
        assert_eq!(entry.path, &*other.path_bytes());
        assert_eq!(u64::from(entry.uid), other.header().uid().expect("good"));
        assert_eq!(entry.mtime_seconds, 1 << 40);
        assert_eq!(entry.size, other.size());
        assert_eq!(content.len() as u64, other.size());
        if let Some(run) = entry.runs.first() {
            assert_eq!(run.start.0, other.raw_file_position());
        }
    }
}

#[test]
fn numbers_and_names_as_go_reads_them() {
    // A PAX path loses against a GNU long name; an empty value means nothing.
    let long = header(|h| {
        h[156] = b'L';
        h[124..135].copy_from_slice(b"00000000005");
    });
    let mut tar = pax(b"12 path=pax\n9 mtime=\n");
    tar.extend(long);
    tar.extend(b"long\0");
    tar.resize(tar.len().next_multiple_of(512), 0);
    tar.extend(header(|_| {}));
    assert_eq!(parse(&end(tar)).expect("good")[0].0.path, b"long");

    // V7: no magic, a trailing slash means a directory, there is no prefix.
    let v7 = header(|h| {
        h[257..265].fill(0);
        h[345..350].copy_from_slice(b"noise");
        h[..5].copy_from_slice(b"name/");
        h[156] = 0;
    });
    let entry = &parse(&end(v7)).expect("good")[0].0;
    assert_eq!((entry.kind, &entry.path[..]), (FileType::Directory, &b"name/"[..]));

    // The size of a link or directory is no content.
    let mut tar = header(|h| {
        h[156] = b'5';
        h[124..135].copy_from_slice(b"00000001000");
    });
    tar.extend(header(|h| h[156] = b'2'));
    assert_eq!(parse(&end(tar)).expect("good").len(), 2);

    // PAX overrides the header's size, in both directions, even where that is nonsense.
    let mut tar = pax(b"9 size=4\n");
    tar.extend(header(|h| h[124..135].copy_from_slice(b"77777777777")));
    tar.extend(b"data");
    tar.resize(tar.len().next_multiple_of(512), 0);
    assert_eq!(parse(&end(tar)).expect("good")[0].1, b"data");

    // Times before the epoch.
    let mut tar = pax(b"14 mtime=-1.5\n");
    tar.extend(header(|_| {}));
    let entry = &parse(&end(tar)).expect("good")[0].0;
    assert_eq!((entry.mtime_seconds, entry.mtime_nanoseconds), (-2, 500_000_000));
    let negative = header(|h| h[136..148].fill(0xff));
    assert_eq!(parse(&end(negative)).expect("good")[0].0.mtime_seconds, -1);
}

#[test]
fn the_end_of_an_archive() {
    let file = header(|h| h[124..135].copy_from_slice(b"00000000001"));
    let mut tar = file.clone();
    tar.push(b'x');
    assert_eq!(parse(&tar).expect("padding may be missing").len(), 1);
    tar.resize(1024, 0);
    assert_eq!(parse(&tar).expect("the end marker may be missing").len(), 1);
    tar.resize(1024 + 512, 0);
    assert_eq!(parse(&tar).expect("half of it too").len(), 1);
    tar.resize(1024 + 1024, 0);
    tar.extend(b"anything at all");
    assert_eq!(parse(&tar).expect("what follows is not read").len(), 1);
    assert_eq!(parse(b"").expect("an empty layer"), []);

    for cut in [1, 511, 512] {
        assert!(matches!(parse(&file[..cut]), Err(Error::Truncated { .. })), "cut at {cut}");
    }
    let mut lone = header(|_| {});
    lone.resize(1024, 0);
    lone.extend(header(|_| {}));
    assert!(matches!(parse(&lone), Err(Error::LoneZeroBlock { .. })));
}

/// Extension headers that nothing follows, and such as the archive ends in.
#[test]
fn extensions_at_the_end() {
    let file = || header(|_| {});
    let of_type = |kind: u8, data: &[u8]| {
        let mut tar = pax(data);
        tar[156] = kind;
        resum(&mut tar[..512]);
        tar
    };
    for kind in [b'x', b'L', b'K', b'g'] {
        let extension = of_type(kind, b"12 path=pax\n");
        assert_eq!(parse(&extension), Ok(vec![]), "{kind}");
        assert_eq!(parse(&end(extension.clone())), Ok(vec![]), "{kind}");
        let with_file = [file(), extension.clone()].concat();
        assert_eq!(parse(&end(with_file.clone())).map(|found| found.len()), Ok(1), "{kind}");
        // Without padding, and cut short.
        assert_eq!(parse(&with_file[..1024 + 12]).map(|found| found.len()), Ok(1), "{kind}");
        for cut in [512 + 1, 1024, 1024 + 11] {
            let found = parse(&with_file[..cut]);
            assert!(matches!(found, Err(Error::Truncated { .. })), "{kind} {cut} {found:?}");
        }
        assert!(matches!(
            parse(&[pax(b""), file()[..100].to_vec()].concat()),
            Err(Error::Truncated { .. })
        ));
    }
}

/// Global headers mean nothing, but they are read.
#[test]
fn global_headers() {
    let global = |data: &[u8]| {
        let mut tar = pax(data);
        tar[156] = b'g';
        resum(&mut tar[..512]);
        tar
    };
    let file = || header(|_| {});
    let good = [global(b"20 comment=a commit\n12 path=pax\n11 uid=x y\n"), file()].concat();
    assert_eq!(parse(&end(good)).expect("good")[0].0.path, b"name");
    for records in
        [&b"0 X="[..], b"x", b"99 a=b\n", b"6 a=b", b"12 path=a\0b\n", b"24 GNU.sparse.numbytes=\n"]
    {
        let found = parse(&end([global(records), file()].concat()));
        let what = String::from_utf8_lossy(records);
        assert!(matches!(found, Err(Error::Pax { at: 0, .. })), "{what} {found:?}");
    }
    // One that swallows all that follows.
    for size in [b"00000002000", b"00001000000", b"40000000000"] {
        let huge = header(|h| {
            h[156] = b'g';
            h[124..135].copy_from_slice(size);
        });
        let found = parse(&end([file(), huge, file()].concat()));
        let is_refused = matches!(
            found,
            Err(Error::Truncated { .. } | Error::MetadataTooLarge { .. } | Error::Pax { .. })
        );
        assert!(is_refused, "{found:?}");
    }
    // Any number of them is no burden.
    let many = global(b"12 path=pax\n").repeat(5000);
    assert_eq!(parse_in(&[many, file()].concat(), 4096).map(|found| found.len()), Ok(1));
}

/// Records of no use are read too, and a map of runs comes with their count.
#[test]
fn pax_records_as_go_reads_them() {
    let record = |key: &str, value: &str| {
        let rest = format!(" {key}={value}\n");
        let length = (1..).find(|n: &usize| n.to_string().len() + rest.len() == *n);
        format!("{}{rest}", length.expect("there is one"))
    };
    let parse = |records: &[(&str, &str)]| {
        let records: String = records.iter().map(|(key, value)| record(key, value)).collect();
        let file = header(|h| h[124..135].copy_from_slice(b"00000000002"));
        let tar = [pax(records.as_bytes()), file, b"ab".to_vec()].concat();
        parse(&tar).map(|found| found.into_iter().next().expect("an entry").0)
    };
    for (key, value) in [
        ("atime", "abc"),
        ("ctime", "1.x"),
        ("uname", "a\0b"),
        ("gname", "\0"),
        ("uid", "++5"),
        ("GNU.sparse.map", "0,2"),
    ] {
        let found = parse(&[(key, value)]);
        let is_refused = matches!(found, Err(Error::Pax { .. } | Error::Sparse { .. }));
        assert!(is_refused, "{key}={value:?} {found:?}");
    }
    let times = parse(&[("atime", "1.5"), ("ctime", ""), ("uname", "root"), ("uid", "+5")]);
    assert_eq!(times.expect("good").uid, 5);
    let sparse = |map: &str, more: &[(&str, &str)]| {
        let records = [&[("GNU.sparse.map", map), ("GNU.sparse.size", "9")], more].concat();
        parse(&records)
            .map(|entry| entry.runs.iter().map(|run| run.file_offset).collect::<Vec<_>>())
    };
    assert_eq!(sparse("3,2", &[("GNU.sparse.numblocks", "1")]), Ok(vec![3]));
    for blocks in ["", "0", "2", "-1", "x"] {
        let found = sparse("3,2", &[("GNU.sparse.numblocks", blocks)]);
        assert!(matches!(found, Err(Error::Sparse { .. })), "{blocks:?} {found:?}");
    }
    // A map in pairs is the one that counts, wherever it stands.
    let pairs = [("GNU.sparse.offset", "5"), ("GNU.sparse.numbytes", "2")];
    let found = sparse("3,2", &[&pairs[..], &[("GNU.sparse.numblocks", "1")]].concat());
    assert_eq!(found, Ok(vec![5]));
}

/// A name of an xattr that is only a namespace is none.
#[test]
fn xattr_names() {
    for (name, is_one) in
        [("user.a", true), ("user.", false), ("security.", false), ("user", false), ("", false)]
    {
        assert_eq!(super::is_linux_xattr(name.as_bytes()), is_one, "{name}");
    }
}

/// Writes the checksum of a changed header.
fn resum(block: &mut [u8]) {
    block[148..156].fill(b' ');
    let sum: u32 = block.iter().map(|b| u32::from(*b)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
}

/// Numbers are numbers in every header, needed or not.
#[test]
fn fields_that_are_no_numbers() {
    for (at, field) in [
        (100, "mode"),
        (108, "uid"),
        (116, "gid"),
        (136, "mtime"),
        (329, "devmajor"),
        (337, "devminor"),
    ] {
        for kind in [b'0', b'5', b'3', b'g', b'x', b'L'] {
            let bad = header(|h| {
                h[156] = kind;
                h[at..at + 3].copy_from_slice(b"dos");
            });
            let found = parse(&end(bad));
            assert_eq!(found, Err(Error::Number { at: 0, field }), "{}", char::from(kind));
        }
        // PAX records change nothing about it.
        let mut tar = pax(b"8 uid=4\n8 gid=4\n12 mtime=12\n");
        tar.extend(header(|h| h[at..at + 3].copy_from_slice(b"dos")));
        assert!(matches!(parse(&end(tar)), Err(Error::Number { .. })), "{field}");
    }
    // V7 has no device numbers, blank ones are zeros, and only devices need them to fit.
    let v7 = header(|h| {
        h[257..265].fill(0);
        h[329..332].copy_from_slice(b"dos");
    });
    assert!(parse(&end(v7)).is_ok());
    let negative = |kind: u8| {
        parse(&end(header(|h| {
            h[156] = kind;
            h[329..337].fill(0xff);
            h[337..345].fill(b' ');
        })))
    };
    assert!(negative(b'0').is_ok());
    assert!(matches!(negative(b'3'), Err(Error::Range { field: "devmajor", .. })));
    // The times of star.
    let star = |at: usize| {
        parse(&end(header(|h| {
            h[508..511].copy_from_slice(b"tar");
            h[at] = b'x';
        })))
    };
    assert!(star(400).is_ok() && star(476).is_err() && star(488).is_err());
}

/// Attributes that macOS gives to files have no place on Linux, whatever their size.
#[test]
fn xattrs_of_other_systems() {
    let record = |key: &str, value: &[u8]| {
        let rest = [b" SCHILY.xattr.", key.as_bytes(), b"=", value, b"\n"].concat();
        let mut length = rest.len();
        while length != rest.len() + length.to_string().len() {
            length = rest.len() + length.to_string().len();
        }
        [length.to_string().as_bytes(), &rest].concat()
    };
    let read = |records: &[Vec<u8>]| {
        let tar = [pax(&records.concat()), header(|_| {})].concat();
        parse_in(&end(tar), 4096).map(|found| found[0].0.xattrs.clone())
    };
    let user = record("user.a", b"b");
    let kept = Ok(vec![(b"user.a".to_vec(), b"b".to_vec())]);
    let long = format!("com.apple.metadata:{}", "n".repeat(300));
    for other in [
        record("com.apple.provenance", &[1, 2]),
        record("com.apple.ResourceFork", &vec![7; 300_000]),
        record(&long, b"v"),
        record("bare", b"v"),
    ] {
        assert_eq!(read(&[other.clone(), user.clone()]), kept);
        assert_eq!(read(&[user.clone(), other]), kept);
    }
    // What no Linux file can have under a name that it could have is refused, as umoci and
    // containerd do.
    for bad in
        [record("user.a", &vec![7; 65_537]), record(&format!("user.{}", "n".repeat(251)), b"")]
    {
        assert!(matches!(read(&[bad]), Err(Error::Pax { .. })));
    }
    for name in ["user.x", "trusted.x", "security.capability", "system.posix_acl_access"] {
        assert_eq!(read(&[record(name, b"v")]).map(|found| found.len()), Ok(1), "{name}");
    }
}

#[test]
fn what_is_refused() {
    let with = |edit: fn(&mut [u8; 512])| parse(&end(header(edit))).expect_err("refused");
    let mut broken = header(|_| {});
    broken[0] ^= 1;
    assert_eq!(parse(&end(broken)), Err(Error::Checksum { at: 0 }));
    assert!(matches!(with(|h| h[156] = b'Q'), Error::UnknownType { kind: 'Q', .. }));
    assert!(matches!(with(|h| h[108] = b'9'), Error::Number { field: "uid", .. }));
    assert!(matches!(with(|h| h[124..136].fill(0xff)), Error::Range { field: "size", .. }));
    assert!(matches!(with(|h| h[124] = 0xc0), Error::Range { .. } | Error::Number { .. }));
    let huge = with(|h| {
        h[124..136].fill(0xff);
        h[124] = 0x80;
        h[125..128].fill(0);
        h[128] = 0x7f;
    });
    assert!(matches!(huge, Error::Size { .. }), "{huge}");
    for records in [
        &b"99 path=x\n"[..],
        b"x",
        b"11 path=a\n",
        b"11 uid=four\n",
        b"12 path=a\0\n",
        b"27 size=999999999999999999\n",
        b"12 size=-10\n",
    ] {
        let mut tar = pax(records);
        tar.extend(header(|_| {}));
        assert!(parse(&end(tar)).is_err(), "{}", String::from_utf8_lossy(records));
    }
    // A megabyte of extensions is enough for any tar; a chain of empty ones ends as well.
    let mut chain = Vec::new();
    for _ in 0..10_000 {
        chain.extend(pax(b""));
    }
    assert!(matches!(parse_in(&chain, 4096), Err(Error::MetadataTooLarge { .. })));
}
