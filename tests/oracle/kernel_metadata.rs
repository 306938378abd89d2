//! `mount --kernel-metadata` beside the plain mount: the same to look at, and fewer requests.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use rustix::fs::Advice;
use serde_json::Value;

use crate::model::{generators, reference};
use crate::mounted::{Home, Mounted};
use crate::oracle::gzip_image;
use crate::requests::{FILES, pass, push_image};
use crate::servers::{Registry, has_kernel_metadata, run};
use crate::snapshot::Snapshot;
use crate::support::image::{Built, write_oci_layout};
use crate::support::tarball::{Entry, TarWriter, tar};

const FLAG: &str = "--kernel-metadata";

/// The requests of the kernel so far.
fn requests(mounted: &Mounted<'_>) -> Value {
    mounted.status()["requests"].take()
}

fn layout(folder: &Path, image: &Built) -> String {
    write_oci_layout(folder, &[(None, image)]).unwrap();
    format!("oci:{}", folder.display())
}

/// Mounts an image both ways and compares.
fn check_same(image: &Built, name: &str) {
    let folder = tempfile::tempdir().unwrap();
    let reference = layout(folder.path(), image);
    let home = Home::new();
    let plain = home.mount(&reference);
    let expected = Snapshot::of(plain.path());
    let mounted = home.mount_with(&[FLAG], &reference);
    Snapshot::assert_same(&expected, &Snapshot::of(mounted.path()), name);
}

#[test]
fn names_and_attributes_cost_no_request() {
    if !has_kernel_metadata() {
        return;
    }
    let registry = Registry::shared();
    let reference = push_image(&registry, "kernel_metadata");
    let home = Home::new();
    let mounted = home.mount_with(&[FLAG], &reference);
    let top = mounted.path();
    let mounting = requests(&mounted);
    for _ in 0..2 {
        run(Command::new("find").arg(top).args(["-printf", "%p %s %l\\n"]));
        run(Command::new("ls").arg("-lR").arg(top));
        assert!(fs::metadata(top.join("absent")).is_err());
        assert!(rustix::fs::statfs(top).unwrap().f_blocks > 0);
        assert_eq!(requests(&mounted), mounting);
    }
    let script = format!("! grep -r 'no file has this' '{}'", top.display());
    run(Command::new("bash").args(["-c", &script]));
    let reads = |value: &Value| value["read"].as_u64().unwrap();
    let after = reads(&requests(&mounted));
    assert!(after > 0 && after <= FILES / 3, "{after} reads for {FILES} files");

    let copies = tempfile::tempdir().unwrap();
    let copy = copies.path().join("copy");
    run(Command::new("cp").arg("-a").arg(top).arg(&copy));
    pass(top, &copy);
    let mut before = requests(&mounted);
    // A machine that is short of memory may take pages away at any time.
    let silent = (0..3).any(|_| {
        pass(top, &copy);
        let after = requests(&mounted);
        std::mem::replace(&mut before, after.clone()) == after
    });
    assert!(silent, "no pass after the first was silent: {before}");

    // What the kernel has dropped comes again, and is right.
    for dir in 0..20 {
        for file in 0..20 {
            let Ok(file) = fs::File::open(top.join(format!("{dir}/{file}"))) else { continue };
            rustix::fs::fadvise(&file, 0, None, Advice::DontNeed).unwrap();
        }
    }
    run(Command::new("diff").arg("-r").arg(top).arg(&copy));
}

#[test]
fn what_is_cached_is_read_far_ahead() {
    if !has_kernel_metadata() {
        return;
    }
    const BYTES: usize = 16 << 20;
    let mut word = 1u64;
    let noise = std::iter::repeat_with(|| {
        word = word.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (word >> 33) as u8
    });
    let content: Vec<u8> = noise.take(BYTES).collect();
    let folder = tempfile::tempdir().unwrap();
    let reference = layout(folder.path(), &gzip_image(&[tar(&[Entry::file("large", &content)])]));
    let home = Home::new();
    let mounted = home.mount_with(&[FLAG], &reference);
    assert!(fs::read(mounted.path().join("large")).unwrap() == content);
    let reads = requests(&mounted)["read"].as_u64().unwrap();
    assert!(reads <= BYTES as u64 / (512 << 10), "{reads} reads for {BYTES} bytes");
}

#[test]
fn random_images_look_the_same() {
    if !has_kernel_metadata() {
        return;
    }
    let config = Config { cases: 40, failure_persistence: None, ..Config::default() };
    let result = TestRunner::new(config).run(&generators::stacks(), |stack| {
        prop_assume!(reference::apply(&stack).is_ok());
        let tars: Vec<Vec<u8>> = stack.iter().map(|layer| tar(layer)).collect();
        check_same(&gzip_image(&tars), "random");
        Ok(())
    });
    if let Err(proptest::test_runner::TestError::Fail(reason, stack)) = &result {
        panic!("{reason}\n{}", generators::render(stack));
    }
    result.expect("the generator works");
}

/// Everything near a limit: of blocks, of names, of numbers.
#[test]
fn strange_images_look_the_same() {
    if !has_kernel_metadata() {
        return;
    }
    let long = "n".repeat(254);
    let mut entries: Vec<Entry> =
        (0..100_000).map(|n| Entry::file(format!("many/{n}"), "")).collect();
    entries.extend((0..300).map(|n| Entry::file(format!("long/{n:03}{}", &long[..252]), "x")));
    entries.extend((0..9).map(|n| Entry::symlink(format!("links/{n}"), "t".repeat(4095 - n))));
    for size in [1, 4031, 4032, 4033, 4095, 4096, 4097, 20_000] {
        entries.push(Entry::dir(format!("x/{size}")).xattr("user.v", "v".repeat(size)));
        let link = Entry::symlink(format!("x/link{size}"), "t".repeat(size.min(4095)));
        entries.push(link.xattr("trusted.v", "v".repeat(size)));
        entries.push(Entry::file(format!("x/file{size}"), "f".repeat(size)).xattr("user.v", "v"));
    }
    let deep: String = (0..900).map(|n| format!("{}/", n % 10)).collect();
    entries.push(Entry::file(format!("{deep}end"), "deep"));
    let dots = ["!", "-", ".-", "...", ".a", "\u{7f}", "\u{ff}"];
    entries.extend(dots.map(|name| Entry::file(format!("dots/{name}"), name)));
    let times = [i64::from(i32::MIN) - 1, -1, 0, 1 << 31, 1 << 32, 1 << 34, -(1 << 34)];
    entries
        .extend(times.map(|time| Entry::file(format!("time{time}"), "").mtime(time, 999_999_999)));
    entries.push(Entry::char_device("device", 4095, 1_048_575));
    entries.push(Entry::block_device("disk", 259, 70_000));
    entries.push(Entry::fifo("fifo"));
    entries.push(Entry::file("owner", "").owner(u32::MAX - 1, u32::MAX - 1).mode(0o7777));
    entries.extend((0..300).map(|n| Entry::hardlink(format!("hard/{n}"), "many/5")));
    check_same(&gzip_image(&[tar(&entries)]), "strange");
}

/// Runs that no block begins with, and holes.
#[test]
fn sparse_files_look_the_same() {
    if !has_kernel_metadata() {
        return;
    }
    let mut writer = TarWriter::new();
    writer.entry(&Entry::file("before", [1; 700]));
    writer.sparse_pax_1_0("a", 9_000_001, &[(100, &[2; 512]), (5_000_000, &[3; 100])]);
    writer.sparse_old_gnu("b", 5000, &[(512, &[4; 1024])]);
    writer.sparse_pax_1_0("hole", 1 << 20, &[]);
    writer.entry(&Entry::file("after", [5; 100_000]));
    check_same(&gzip_image(&[writer.finish()]), "sparse");
}

#[test]
fn several_images_share_inodes() {
    if !has_kernel_metadata() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let base =
        tar(&(0..50).map(|n| Entry::file(format!("{n}"), format!("{n}"))).collect::<Vec<_>>());
    let images = ["1", "2"].map(|version| {
        let path = folder.path().join(version);
        format!(
            "v{version}={}",
            layout(&path, &gzip_image(&[base.clone(), tar(&[Entry::file("7", version)])]))
        )
    });
    let home = Home::new();
    let plain = home.mount_with(&[&images[0]], &images[1]);
    let mounted = home.mount_with(&[FLAG, &images[0]], &images[1]);
    let apart = home.mount_with(&[FLAG, "--separate-inodes", &images[0]], &images[1]);
    let expected = Snapshot::of(plain.path());
    Snapshot::assert_same(&expected, &Snapshot::of(mounted.path()), "both");
    let number =
        |mounted: &Mounted<'_>, path: &str| fs::metadata(mounted.path().join(path)).unwrap().ino();
    assert_eq!(number(&mounted, "v1/8"), number(&mounted, "v2/8"));
    assert_ne!(number(&mounted, "v1/7"), number(&mounted, "v2/7"));
    assert_ne!(number(&apart, "v1/8"), number(&apart, "v2/8"));
    let out =
        Command::new("diff").arg("-rq").args(["v1", "v2"]).current_dir(mounted.path()).output();
    assert_eq!(out.unwrap().stdout, b"Files v1/7 and v2/7 differ\n");
}

#[test]
fn files_can_belong_to_the_caller() {
    if !has_kernel_metadata() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let image = gzip_image(&[tar(&[Entry::file("f", "x").owner(5, 6)])]);
    let home = Home::new();
    let mounted = home.mount_with(&[FLAG, "--owner-me"], &layout(folder.path(), &image));
    let metadata = fs::metadata(mounted.path().join("f")).unwrap();
    assert_eq!((metadata.uid(), metadata.gid()), (0, 0));
}
