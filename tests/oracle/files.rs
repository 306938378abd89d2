//! Single layers: every kind of file, every attribute, every way in which a tar writes them down.

use std::path::Path;

use crate::mounted::Home;
use crate::oracle::{Case, gzip_image};
use crate::servers::{Registry, need_root_and_fuse, program};
use crate::support::image::push;
use crate::support::tarball::{Entry, TarWriter, base256, octal, put, tar};

/// Bytes that no short period repeats, so that a wrong offset shows.
fn noise(length: usize) -> Vec<u8> {
    (0..length as u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
}

#[test]
fn kinds() {
    let mut entries = vec![
        Entry::dir("d").mode(0o700).owner(1, 2).mtime(1000, 0),
        Entry::dir("d/empty").mode(0o555),
        Entry::symlink("d/relative", "../file").owner(3, 4).mtime(77, 0),
        Entry::symlink("d/dangling", "/no/such/file"),
        Entry::symlink("loop", "loop"),
        Entry::symlink("long", "x/".repeat(2000)),
        Entry::fifo("fifo").mode(0o622).owner(5, 6),
        Entry::char_device("null", 1, 3).mode(0o666),
        Entry::block_device("disk", 259, 70_000).mode(0o660).owner(0, 6),
        Entry::char_device("whiteout", 0, 0).mode(0),
        Entry::file("setuid", "#!").mode(0o4755),
        Entry::file("setgid", "#!").mode(0o2755).owner(0, 42),
        Entry::file("all", "#!").mode(0o7777),
        Entry::file("none", "secret").mode(0),
        Entry::dir("sticky").mode(0o1777),
        Entry::dir("setgid.d").mode(0o2775).owner(0, 50),
        Entry::symlink("link.mode", "file").mode(0o600),
    ];
    for size in [0, 1, 511, 512, 513, 4095, 4096, 4097, 131_072, 1_048_577] {
        entries.push(Entry::file(format!("size.{size}"), noise(size)));
    }
    Case::layers(&[&entries]).check("kinds");
}

/// The last second but one that ext4 can store.
const LATE: (i64, i64) = (15_032_385_534, 7);

/// umoci 0.4.7 passes times on as nanoseconds in 64 bits, which end in 2262.
#[test]
fn times() {
    let times = [
        ("epoch", 0, 0),
        ("nanosecond", 0, 1),
        ("last.nanosecond", 1_700_000_000, 999_999_999),
        ("before", -1, 0),
        ("before.fraction", -2, 500_000_000),
        ("just.before", -1, 999_999_999),
        ("year.1903", -2_100_000_000, 123_456_789),
        ("after.2038", 2_147_483_648, 5),
        ("after.2106", 4_294_967_296, 6),
        ("year.2446", LATE.0, LATE.1 as u32),
    ];
    let mut entries = Vec::new();
    for (name, seconds, nanoseconds) in times {
        for entry in [
            Entry::file(format!("{name}.f"), name),
            Entry::dir(format!("{name}.d")),
            Entry::symlink(format!("{name}.l"), name),
            Entry::fifo(format!("{name}.p")),
        ] {
            entries.push(entry.mtime(seconds, nanoseconds));
        }
    }
    let mut case = Case::layers(&[&entries]);
    for kind in ["f", "d", "l", "p"] {
        case = case.correct(format!("year.2446.{kind}"), |node| node.mtime = LATE);
    }
    case.check("times");
}

#[test]
fn owners() {
    // The greatest id of all means "unchanged" to chown(2): what root unpacks stays root's.
    let most = u32::MAX;
    let ids = [1, 0o7777777, 0o10000000, 65_534, 2_147_483_647, 2_147_483_648, most - 1, most];
    let mut entries = Vec::new();
    for id in ids {
        entries.push(Entry::file(format!("user.{id}"), "").owner(id, 0));
        entries.push(Entry::dir(format!("group.{id}")).owner(0, id));
        entries.push(Entry::symlink(format!("both.{id}"), "x").owner(id, id));
    }
    Case::layers(&[&entries]).check("owners");
}

/// chown(2) takes the lowest 32 bits, also of what stands for nobody (-2).
#[test]
fn owners_of_more_than_32_bits() {
    let mut writer = TarWriter::new();
    for (name, uid, gid) in
        [("nobody", "-2", "-2"), ("nothing", "4294967296", "-1"), ("large", "12345678901", "5")]
    {
        writer.pax(&[("uid", uid), ("gid", gid)]).raw_header(|header| put(&mut header.name, name));
    }
    writer.raw_header(|header| {
        put(&mut header.name, "base-256");
        header.uid = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xfe];
    });
    Case::tars(&[writer.finish()]).check("owners_of_more_than_32_bits");
}

/// A POSIX ACL as the kernel has it: version 2, then tag, permissions and id of each entry.
fn acl(group: u16) -> Vec<u8> {
    const NOBODY: u32 = u32::MAX;
    let entries: [(u16, u16, u32); 5] =
        [(1, 6, NOBODY), (2, 4, 1000), (4, group, NOBODY), (0x10, 6, NOBODY), (0x20, 4, NOBODY)];
    let mut out = 2u32.to_le_bytes().to_vec();
    for (tag, permissions, id) in entries {
        out.extend_from_slice(&tag.to_le_bytes());
        out.extend_from_slice(&permissions.to_le_bytes());
        out.extend_from_slice(&id.to_le_bytes());
    }
    out
}

#[test]
fn extended_attributes() {
    // Revision 2 with the effective bit: cap_net_bind_service, permitted.
    let mut capability = 0x0200_0001_u32.to_le_bytes().to_vec();
    capability.extend_from_slice(&(1u32 << 10).to_le_bytes());
    capability.resize(20, 0);
    // Revision 3 is the same for one user namespace, here that of user 1000.
    let mut of_namespace = capability.clone();
    of_namespace[3] = 3;
    of_namespace.extend_from_slice(&1000u32.to_le_bytes());
    let binary: Vec<u8> = (0..=255).collect();
    Case::layers(&[&[
        Entry::file("capability", "#!").mode(0o755).xattr("security.capability", &capability),
        Entry::file("capability.3", "#!").xattr("security.capability", &of_namespace),
        Entry::file("user", "x").xattr("user.text", "value").xattr("user.binary", &binary),
        Entry::file("newline", "x").xattr("user.lines", "one\ntwo=2\n"),
        Entry::file("large", "x").xattr("user.large", "y".repeat(3000)),
        Entry::file("trusted", "x").xattr("trusted.key", "value"),
        Entry::dir("directory").xattr("trusted.key", "d").xattr("user.key", "e"),
        Entry::symlink("symlink", "user").xattr("trusted.key", "l"),
        Entry::fifo("fifo").xattr("trusted.key", "p"),
        Entry::file("acl", "x").mode(0o664).xattr("system.posix_acl_access", acl(4)),
        Entry::dir("acl.default").mode(0o775).xattr("system.posix_acl_default", acl(6)),
        Entry::file("plain", "x"),
        Entry::hardlink("linked", "user").xattr("user.ignored", "by all"),
    ]])
    .check("extended_attributes");
}

/// umoci 0.4.7 leaves out attributes that belong to the machine it runs on. `ocifs` has nothing to
/// do with them, and shows what the image has.
#[test]
fn extended_attributes_of_the_host() {
    Case::layers(&[&[
        Entry::dir("overlay").xattr("trusted.overlay.opaque", "y"),
        Entry::file("selinux", "x").xattr("security.selinux", "system_u:object_r:bin_t:s0\0"),
    ]])
    .correct("overlay", |node| {
        node.xattrs.insert(b"trusted.overlay.opaque".to_vec(), b"y".to_vec());
    })
    .correct("selinux", |node| {
        let label = b"system_u:object_r:bin_t:s0\0";
        node.xattrs.insert(b"security.selinux".to_vec(), label.to_vec());
        node.blocks = None;
    })
    .check("extended_attributes_of_the_host");
}

/// An attribute may have an empty value, and GNU tar writes it so. umoci reads the map of Go's
/// `archive/tar` that leaves such records out; containerd reads the records and sets it.
#[test]
fn extended_attribute_without_value() {
    Case::layers(&[&[
        Entry::file("file", "x").xattr("user.empty", "").xattr("user.full", "value"),
        Entry::file("only", "x").xattr("user.empty", ""),
    ]])
    .correct("file", |node| {
        node.xattrs.insert(b"user.empty".to_vec(), Vec::new());
    })
    .correct("only", |node| {
        node.xattrs.insert(b"user.empty".to_vec(), Vec::new());
        node.blocks = None;
    })
    .check("extended_attribute_without_value");
}

#[test]
fn long_and_binary_names() {
    let long = "n".repeat(255);
    let mut deep = String::new();
    let mut entries = vec![
        Entry::file(&long, "255 bytes"),
        Entry::dir("d"),
        Entry::file(format!("d/{long}"), "ustar prefix"),
        Entry::symlink("long.target", format!("d/{long}")),
        Entry::hardlink("long.link", format!("d/{long}")),
        Entry::file(b"latin1-\xe9", "not UTF-8"),
        Entry::dir(b"bin\xff\xfe"),
        Entry::file(b"bin\xff\xfe/\x01\x1b[31m", "control characters"),
        Entry::symlink(b"to-\xe9", b"latin1-\xe9"),
        Entry::hardlink(b"hard-\xe9", b"latin1-\xe9"),
        Entry::file("uml\u{e4}ut", "UTF-8, one code point"),
        Entry::file("umla\u{308}ut", "UTF-8, two code points"),
        Entry::file(" blank ", "blanks"),
        Entry::file("back\\slash", "not a separator"),
        Entry::file("new\nline", "one name"),
        Entry::file("...", "three dots"),
        Entry::file("-rf", "a name like an option"),
    ];
    // As deep as the kernel takes a path, with room for the folders that the tests are in.
    while deep.len() < 3600 {
        deep += &"p".repeat(200);
        entries.push(Entry::dir(&deep));
        deep.push('/');
    }
    entries.push(Entry::file(format!("{deep}file"), "far down"));
    Case::layers(&[&entries]).check("long_and_binary_names");
}

#[test]
fn gnu_and_v7_headers() {
    let long = [&b"gnu-\xe9-"[..], &[b'g'; 240]].concat();
    let target = vec![b't'; 300];
    let mut writer = TarWriter::new();
    writer
        .gnu_long_name(&long)
        .raw_header(|header| {
            header.gnu();
            put(&mut header.name, &long);
            octal(&mut header.size, 4);
        })
        .data(b"long")
        .gnu_long_name(b"long-link")
        .gnu_long_link(&target)
        .raw_header(|header| {
            header.gnu();
            header.typeflag = b'2';
        })
        .gnu_long_link(&long)
        .raw_header(|header| {
            header.gnu();
            put(&mut header.name, "hard");
            header.typeflag = b'1';
        })
        .raw_header(|header| {
            header.gnu();
            put(&mut header.name, "base256");
            base256(&mut header.uid, 4_000_000_000);
            base256(&mut header.gid, 3_000_000_000);
            base256(&mut header.size, 3);
            base256(&mut header.mtime, -86_400);
        })
        .data(b"256")
        .raw_header(|header| {
            header.gnu();
            put(&mut header.name, "base256.device");
            header.typeflag = b'3';
            base256(&mut header.devmajor, 200);
            base256(&mut header.devminor, 300_000);
        })
        .raw_header(|header| {
            header.v7();
            put(&mut header.name, "v7");
            header.typeflag = 0;
            octal(&mut header.size, 2);
        })
        .data(b"v7")
        .raw_header(|header| {
            header.v7();
            put(&mut header.name, "v7-directory/");
            header.typeflag = 0;
            put(&mut header.mode, "0000755\0");
        })
        .raw_header(|header| {
            put(&mut header.name, "blanks");
            put(&mut header.mode, "   644 \0");
            put(&mut header.uid, "  1750 \0");
            put(&mut header.size, "          1 ");
        })
        .data(b"b");
    Case::tars(&[writer.finish()]).check("gnu_and_v7_headers");
}

/// umoci 0.4.7 does not know the type of contiguous files, which are files like others to all but
/// the systems that had them. The twin has a plain one.
#[test]
fn contiguous_file() {
    let mut writer = TarWriter::new();
    writer
        .raw_header(|header| {
            put(&mut header.name, "contiguous");
            header.typeflag = b'7';
            octal(&mut header.size, 3);
        })
        .data(b"seq");
    let twin = tar(&[Entry::file("contiguous", "seq")]);
    Case::tars(&[writer.finish()]).twin(gzip_image(&[twin])).check("contiguous_file");
}

#[test]
fn pax_records_over_headers() {
    let mut writer = TarWriter::new();
    writer
        .pax(&[
            ("path", "from/../record"),
            ("uid", "12345678"),
            ("gid", "0"),
            ("size", "6"),
            ("mtime", "-0.25"),
            ("atime", "5"),
            ("comment", "ignored"),
            ("uname", "root"),
        ])
        .raw_header(|header| put(&mut header.name, "from-header"))
        .data(b"record")
        .pax(&[("path", ""), ("mtime", "1.1234567891234")])
        .raw_header(|header| put(&mut header.name, "empty-record"))
        .pax(&[("path", "first"), ("path", "last")])
        .raw_header(|_| {})
        .pax(&[("linkpath", "elsewhere")])
        .raw_header(|header| {
            header.typeflag = b'2';
            put(&mut header.name, "symlink");
            put(&mut header.linkname, "here");
        });
    Case::tars(&[writer.finish()]).check("pax_records_over_headers");
}

/// umoci 0.4.7 refuses a global PAX header as an unknown kind of file. Docker and containerd skip
/// it, so that the twin has none.
#[test]
fn pax_global_header() {
    let entry = Entry::file("file", "x").mtime(5, 0);
    let mut writer = TarWriter::new();
    writer.pax_global(&[("comment", "a git commit"), ("mtime", "77")]).entry(&entry);
    Case::tars(&[writer.finish()]).twin(gzip_image(&[tar(&[entry])])).check("pax_global_header");
}

/// The size of the sparse file, and its regions of data: whole blocks but for the last.
fn sparse() -> (u64, Vec<(u64, Vec<u8>)>) {
    let mut regions: Vec<(u64, Vec<u8>)> =
        (0..30).map(|n| (n * 65_536, noise(4096 * (1 + n as usize % 3)))).collect();
    regions.push((3_000_000, noise(1000)));
    (4_000_000, regions)
}

/// One of the four encodings.
type WriteSparse = for<'a> fn(&'a mut TarWriter, &str, u64, &[(u64, &[u8])]) -> &'a mut TarWriter;

fn sparse_tar(write: WriteSparse) -> Vec<u8> {
    let (size, regions) = sparse();
    let mut regions: Vec<(u64, &[u8])> =
        regions.iter().map(|(at, data)| (*at, &data[..])).collect();
    // GNU tar has an empty region where a file that ends in a hole ends.
    regions.push((size, b""));
    let mut writer = TarWriter::new();
    write(&mut writer, "sparse", size, &regions);
    write(&mut writer, "hole", 1_000_000, &[(1_000_000, b"")]);
    writer.entry(&Entry::file("behind", "the next entry is found"));
    writer.finish()
}

/// umoci fills the holes with zeros; `ocifs` says how much is stored.
fn holes(case: Case) -> Case {
    case.correct("sparse", |node| {
        // Thirty regions of one, two or three blocks of 4 KiB, and 1000 bytes.
        node.blocks = Some((30 * 2 + 1) * 8);
    })
    .correct("hole", |node| node.blocks = Some(0))
}

#[test]
fn sparse_pax_0_0() {
    holes(Case::tars(&[sparse_tar(TarWriter::sparse_pax_0_0)])).check("sparse_pax_0_0");
}

#[test]
fn sparse_pax_0_1() {
    holes(Case::tars(&[sparse_tar(TarWriter::sparse_pax_0_1)])).check("sparse_pax_0_1");
}

#[test]
fn sparse_pax_1_0() {
    holes(Case::tars(&[sparse_tar(TarWriter::sparse_pax_1_0)])).check("sparse_pax_1_0");
}

/// umoci 0.4.7 refuses the old GNU type of sparse files, so that the twin has plain ones.
#[test]
fn sparse_old_gnu() {
    let (size, regions) = sparse();
    let mut content = vec![0; size as usize];
    for (at, data) in regions {
        content[at as usize..at as usize + data.len()].copy_from_slice(&data);
    }
    let twin = tar(&[
        Entry::file("sparse", content),
        Entry::file("hole", vec![0; 1_000_000]),
        Entry::file("behind", "the next entry is found"),
    ]);
    let case = Case::tars(&[sparse_tar(TarWriter::sparse_old_gnu)]);
    holes(case.twin(gzip_image(&[twin]))).check("sparse_old_gnu");
}

#[test]
fn root_entry() {
    for (name, path) in [("root_dot_slash", "./"), ("root_slash", "/"), ("root_dot", ".")] {
        Case::layers(&[&[
            Entry::dir(path).mode(0o1711).owner(7, 8).mtime(1234, 567).xattr("user.root", "r"),
            Entry::file("./a", "a"),
        ]])
        .check(name);
    }
}

#[test]
fn root_entry_replaced_above() {
    Case::layers(&[
        &[Entry::dir("./").mode(0o700).xattr("user.root", "lower"), Entry::file("a", "a")],
        &[Entry::dir("./").mode(0o750).owner(1, 1).mtime(9, 9), Entry::file("b", "b")],
        &[Entry::file("c", "c")],
    ])
    .check("root_entry_replaced_above");
}

#[test]
fn no_root_entry() {
    Case::layers(&[&[Entry::file("a", "a").mtime(3, 0)]]).check("no_root_entry");
}

#[test]
fn unclean_paths() {
    Case::layers(&[&[
        Entry::dir("./a//b/"),
        Entry::file("/absolute", "x"),
        Entry::file("./a/./b/../b/file", "x"),
        Entry::hardlink("./a/link", "/a//b/./file"),
        Entry::file("///a///c", "x"),
    ]])
    .implied("a")
    .touched("")
    .check("unclean_paths");
}

#[test]
fn duplicates_in_one_tar() {
    Case::layers(&[&[
        Entry::file("file", "first").mode(0o600).xattr("user.first", "1"),
        Entry::file("file", "second").owner(1, 1).mtime(2, 0),
        Entry::dir("dir").mode(0o700).xattr("user.first", "1"),
        Entry::file("dir/kept", "x"),
        Entry::dir("dir").mode(0o711).mtime(3, 0),
        Entry::file("becomes-dir", "x"),
        Entry::dir("becomes-dir"),
        Entry::file("becomes-dir/below", "x"),
        Entry::dir("becomes-file"),
        Entry::file("becomes-file/below", "gone"),
        Entry::file("becomes-file", "x"),
        Entry::symlink("becomes-target", "file"),
        Entry::file("becomes-target", "not written through the symlink"),
        Entry::file("original", "1"),
        Entry::hardlink("linked", "original"),
        Entry::file("original", "2"),
    ]])
    .check("duplicates_in_one_tar");
}

/// umoci 0.4.7 removes a name before it links to it. GNU tar leaves a link to itself
/// alone, so that the twin has none.
#[test]
fn hard_link_to_itself() {
    let entries = [
        Entry::file("file", "x"),
        Entry::hardlink("linked", "file"),
        Entry::hardlink("linked", "./linked"),
        Entry::hardlink("file", "linked"),
    ];
    Case::layers(&[&entries]).twin(gzip_image(&[tar(&entries[..2])])).check("hard_link_to_itself");
}

#[test]
fn a_hundred_thousand_entries() {
    let mut entries = vec![Entry::dir("many").mtime(1, 0)];
    for number in 0..100_000 {
        // Most are empty: on disk each content takes a block of 4 KiB.
        let content = if number % 500 == 0 { number.to_string() } else { String::new() };
        entries.push(Entry::file(format!("many/{number:05}"), content).mtime(number, 0));
    }
    Case::layers(&[&entries]).check("a_hundred_thousand_entries");
}

/// Attributes that no Linux file has, a directory without a name, and extension headers that nothing
/// follows.
#[test]
fn odds_and_ends() {
    let mut writer = TarWriter::new();
    writer.raw_header(|header| {
        header.typeflag = b'5';
        octal(&mut header.mode, 0o711);
        octal(&mut header.mtime, 12);
    });
    writer.pax(&[
        ("SCHILY.xattr.com.apple.provenance", "x".repeat(11)),
        ("SCHILY.xattr.user.key", "value".to_owned()),
        ("SCHILY.acl.access", "user::rw-,user:1000:rwx,group::r--,mask::rwx,other::r--".to_owned()),
    ]);
    writer.raw_header(|header| put(&mut header.name, "file"));
    writer.pax(&[("path", "nothing")]);
    Case::tars(&[writer.finish()]).check("odds_and_ends");
}

/// What umoci refuses, `ocifs` refuses, and nothing is shown of it.
#[test]
fn refused_archives() {
    need_root_and_fuse();
    let file = || Entry::file("file", "x");
    let global = |data: &[u8], size: u64| {
        let mut writer = TarWriter::new();
        writer.entry(&file());
        writer.raw_header(|header| {
            header.typeflag = b'g';
            put(&mut header.name, "pax_global_header");
            octal(&mut header.size, size);
        });
        writer.data(data).entry(&Entry::file("behind", "x"));
        writer.finish()
    };
    let mut truncated = global(&[0; 2048], 2048);
    truncated.truncate(1024 + 512 + 700);
    let device = {
        let mut writer = TarWriter::new();
        writer.raw_header(|header| {
            put(&mut header.name, "file");
            put(&mut header.devmajor, "dos");
        });
        writer.finish()
    };
    let unnamed = {
        let mut writer = TarWriter::new();
        writer.raw_header(|_| {});
        writer.finish()
    };
    let mut large = TarWriter::new();
    large.pax(&[("SCHILY.xattr.user.large", "x".repeat(65_537))]).entry(&file());
    let registry = Registry::shared();
    let home = Home::new();
    for (name, tar) in [
        ("truncated", truncated),
        ("past-the-end", global(b"", 1 << 30)),
        ("malformed", global(b"0 X=", 4)),
        ("device", device),
        ("unnamed", unnamed),
        ("attribute", large.finish()),
    ] {
        push(&gzip_image(&[tar]), registry.address(), "refused", name).unwrap();
        let reference = format!("{}/refused:{name}", registry.address());
        let scratch = tempfile::tempdir().unwrap();
        assert!(!umoci_unpacks(&reference, scratch.path()), "{name}");
        let output = home.ocifs().args(["ls", &reference]).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && output.stdout.is_empty(), "{name}: {said}");
        assert!(said.contains("tar ") || said.contains("entry "), "{name}: {said}");
    }
}

/// Whether umoci unpacks an image of a registry.
fn umoci_unpacks(reference: &str, scratch: &Path) -> bool {
    let layout = format!("{}:image", scratch.join("layout").display());
    let copied = program("skopeo", "skopeo")
        .args(["copy", "--quiet", "--src-tls-verify=false"])
        .args([format!("docker://{reference}"), format!("oci:{layout}")])
        .status();
    assert!(copied.unwrap().success());
    let mut umoci = program("umoci", "umoci");
    umoci.args(["raw", "unpack", "--image", &layout]).arg(scratch.join("unpacked"));
    umoci.output().unwrap().status.success()
}
