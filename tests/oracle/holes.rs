//! Sparse files of an image, as tools that look for holes see them.

use std::fs::{self, File};
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;

use rustix::fs::SeekFrom;
use rustix::io::Errno;

use crate::mounted::Home;
use crate::oracle::gzip_image;
use crate::servers::{has_kernel_metadata, program, run};
use crate::snapshot::Snapshot;
use crate::support::image::{Built, write_oci_layout};
use crate::support::tarball::{Entry, TarWriter};

const SIZE: u64 = 6 << 30;
const MIDDLE: u64 = 5 << 30;

/// A file of 6 GiB with two runs, one of nothing but a hole, and one without a hole.
fn image() -> Built {
    let mut writer = TarWriter::new();
    writer.sparse_pax_1_0("sparse", SIZE, &[(4096, &[1; 8192]), (MIDDLE, &[2; 100]), (SIZE, b"")]);
    writer.sparse_pax_1_0("hole", 1 << 30, &[(1 << 30, b"")]);
    writer.entry(&Entry::file("whole", [3; 5000]));
    gzip_image(&[writer.finish()])
}

fn layout(folder: &Path) -> String {
    write_oci_layout(folder, &[(None, &image())]).unwrap();
    format!("oci:{}", folder.display())
}

#[test]
fn holes_can_be_sought() {
    let folder = tempfile::tempdir().unwrap();
    let reference = layout(folder.path());
    let home = Home::new();
    let mounted = home.mount(&reference);
    let open = |name: &str| File::open(mounted.path().join(name)).unwrap();
    let seek = |file: &File, to| rustix::fs::seek(file.as_fd(), to);
    let sparse = open("sparse");
    for (from, data, hole) in [
        (0, Ok(4096), Ok(0)),
        (5000, Ok(5000), Ok(4096 + 8192)),
        (12288, Ok(MIDDLE), Ok(12288)),
        (MIDDLE + 1, Ok(MIDDLE + 1), Ok(MIDDLE + 100)),
        (MIDDLE + 100, Err(Errno::NXIO), Ok(MIDDLE + 100)),
        (SIZE, Err(Errno::NXIO), Err(Errno::NXIO)),
    ] {
        assert_eq!(seek(&sparse, SeekFrom::Data(from)), data, "data from {from}");
        assert_eq!(seek(&sparse, SeekFrom::Hole(from)), hole, "a hole from {from}");
    }
    // What the kernel knows itself.
    assert_eq!(seek(&sparse, SeekFrom::End(-1)), Ok(SIZE - 1));
    assert_eq!(seek(&open("hole"), SeekFrom::Data(0)), Err(Errno::NXIO));
    let whole = open("whole");
    assert_eq!(seek(&whole, SeekFrom::Data(7)), Ok(7));
    assert_eq!(seek(&whole, SeekFrom::Hole(7)), Ok(5000));
    assert_eq!(seek(&whole, SeekFrom::Hole(5000)), Err(Errno::NXIO));

    // And so nobody reads 6 GiB of zeros, or writes them.
    let copies = tempfile::tempdir().unwrap();
    run(Command::new("cp").arg("-a").arg(mounted.path()).arg(copies.path().join("cp")));
    let mut bsdtar = program("bsdtar", "libarchive-tools");
    let archive = copies.path().join("bsdtar.tar");
    run(bsdtar.arg("-cf").arg(&archive).arg("-C").arg(mounted.path()).arg("."));
    assert!(fs::metadata(&archive).unwrap().len() < 100 << 10);
    let blocks = |path: &Path| std::os::unix::fs::MetadataExt::blocks(&fs::metadata(path).unwrap());
    assert!(blocks(&copies.path().join("cp/sparse")) <= 64);
    let reads = mounted.status()["requests"]["read"].as_u64().unwrap();
    assert!(reads < 20, "{reads}");
}

/// EROFS tells holes in chunks, and reads nothing of them.
#[test]
fn kernel_metadata_has_large_holes() {
    if !has_kernel_metadata() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let reference = layout(folder.path());
    let home = Home::new();
    let mounted = home.mount_with(&["--kernel-metadata"], &reference);
    let open = |name: &str| File::open(mounted.path().join(name)).unwrap();
    let seek = |file: &File, to| rustix::fs::seek(file.as_fd(), to);
    assert_eq!(seek(&open("hole"), SeekFrom::Data(0)), Err(Errno::NXIO));
    assert_eq!(seek(&open("whole"), SeekFrom::Hole(7)), Ok(5000));
    let sparse = open("sparse");
    let near = |found: Result<u64, Errno>, expected: u64| {
        let found = found.unwrap();
        assert!(found.abs_diff(expected) < 1 << 20, "{found} for {expected}");
    };
    near(seek(&sparse, SeekFrom::Data(0)), 4096);
    near(seek(&sparse, SeekFrom::Hole(4096)), 4096 + 8192);
    near(seek(&sparse, SeekFrom::Data(1 << 30)), MIDDLE);
    near(seek(&sparse, SeekFrom::Hole(MIDDLE)), MIDDLE + 100);
    let archive = folder.path().join("bsdtar.tar");
    let mut bsdtar = program("bsdtar", "libarchive-tools");
    run(bsdtar.arg("-cf").arg(&archive).arg("-C").arg(mounted.path()).arg("."));
    assert!(fs::metadata(&archive).unwrap().len() < 2 << 20);
    let unpacked = folder.path().join("unpacked");
    fs::create_dir(&unpacked).unwrap();
    run(Command::new("bsdtar").arg("-xSf").arg(&archive).arg("-C").arg(&unpacked));
    let copy = File::open(unpacked.join("sparse")).unwrap();
    for (offset, length) in [(0, 20_000), (MIDDLE - 5000, 10_000), (SIZE - 10, 10)] {
        let read = |file: &File| {
            let mut buf = vec![9; length];
            file.read_exact_at(&mut buf, offset).unwrap();
            buf
        };
        assert!(read(&copy) == read(&sparse), "from {offset}");
    }
    assert_eq!(fs::metadata(unpacked.join("sparse")).unwrap().len(), SIZE);
}

/// Who looks at the number of blocks first asks only files that have fewer than their size; `bsdtar` asks all, and
/// the kernel says itself that there are no holes where no file of the image has any.
#[test]
fn holes_cost_no_requests_where_there_are_none() {
    let home = Home::new();
    let copies = tempfile::tempdir().unwrap();
    let count = |reference: &str, script: &str| {
        let mounted = home.mount(reference);
        let script = script.replace("DIR", &mounted.path().join("d").display().to_string());
        let once = || {
            run(Command::new("bash").args(["-c", &script]).current_dir(copies.path()));
            mounted.status()["requests"]["other"].as_u64().unwrap()
        };
        let first = once();
        once() - first
    };
    let common =
        "! grep -r 'no file has this' DIR && cp -r DIR copy && rm -r copy && tar cSf archive DIR";
    let files: Vec<Entry> =
        (0..100).map(|n| Entry::file(format!("d/{n}"), vec![b'x'; 100 * n])).collect();
    let folder = tempfile::tempdir().unwrap();
    for is_sparse in [false, true] {
        let mut writer = TarWriter::new();
        for file in &files {
            writer.entry(file);
        }
        if is_sparse {
            writer.sparse_pax_1_0("sparse", 9000, &[(4096, &[1; 100])]);
        }
        let path = folder.path().join(is_sparse.to_string());
        write_oci_layout(&path, &[(None, &gzip_image(&[writer.finish()]))]).unwrap();
        let reference = format!("oci:{}", path.display());
        assert_eq!(count(&reference, common), 0, "{is_sparse}");
        let asked = count(&reference, "bsdtar -cf archive DIR");
        // Where the data begins, where it ends, and whether more comes.
        assert!(if is_sparse { asked <= 3 * 101 } else { asked == 0 }, "{is_sparse}: {asked}");
    }
}

/// Runs that begin and end anywhere, that touch, at the start and at the end of files, and none; and names of all lengths.
fn odd_image() -> Built {
    let mut writer = TarWriter::new();
    let long = format!("d/{}", "long".repeat(60));
    for (name, size, regions) in [
        (
            "anywhere",
            9_000_001,
            &[(100, &[2; 512][..]), (700, &[7; 1000]), (5_000_000, &[3; 99])][..],
        ),
        ("start and end", 70_000, &[(0, &[4; 1024]), (69_632, &[5; 368])]),
        ("end of a block", 8192, &[(4096, &[6; 4096])]),
        ("nothing", 1 << 20, &[]),
        ("no hole", 1024, &[(0, &[8; 1024])]),
        (&long, 5000, &[(1, b"x"), (4999, b"y")]),
        ("uml\u{e4}ut", 5000, &[(4000, b"x")]),
    ] {
        writer.sparse_pax_1_0(name, size, regions);
    }
    writer.entry(&Entry::hardlink("another name", "anywhere"));
    writer.entry(&Entry::file("behind", "the next entry is found"));
    gzip_image(&[writer.finish()])
}

#[test]
fn exports_have_holes() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let home = Home::new();
    let export = |image: &Built, name: &str| {
        write_oci_layout(&path(name), &[(None, image)]).unwrap();
        let reference = format!("oci:{}", path(name).display());
        (run(home.ocifs().args(["export", &reference])).stdout, reference)
    };
    let (large, _) = export(&image(), "large");
    assert!(large.len() < 100 << 10, "{} bytes for 7 GiB of holes", large.len());

    let (archive, reference) = export(&odd_image(), "odd");
    let mounted = home.mount(&reference);
    fs::write(path("archive"), &archive).unwrap();
    for (tool, package, options) in [
        ("tar", "tar", &["-xSp", "--numeric-owner", "-f"][..]),
        ("bsdtar", "libarchive-tools", &["-xSp", "--numeric-owner", "-f"]),
    ] {
        let unpacked = path(&format!("by {tool}"));
        fs::create_dir(&unpacked).unwrap();
        let output =
            run(program(tool, package).args(options).arg(path("archive")).current_dir(&unpacked));
        assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{tool}");
        run(Command::new("diff").arg("-r").arg(&unpacked).arg(mounted.path()));
        let stat = |top: &Path| {
            let all = "find . -type f -printf '%p %s %n %m %T@\\n' | sort";
            run(Command::new("bash").args(["-c", all]).current_dir(top)).stdout
        };
        assert_eq!(stat(&unpacked), stat(mounted.path()), "{tool}");
    }
    // And as a layer again.
    let (again, reference) = export(&gzip_image(std::slice::from_ref(&archive)), "again");
    let remounted = home.mount(&reference);
    Snapshot::assert_same(&Snapshot::of(mounted.path()), &Snapshot::of(remounted.path()), "again");
    assert_eq!(again, archive);
}
