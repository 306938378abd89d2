//! How often the kernel asks the program, and the program the registry.
//!
//! The speed that `ocifs` promises rests on this: an image cannot change, so what the kernel was
//! told once it need not ask again, and what is in the cache need not be fetched again. Only
//! `statfs` is never cached by the kernel.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::mounted::{Home, Mounted};
use crate::oracle::gzip_image;
use crate::servers::{Registry, run};
use crate::support::image::push;
use crate::support::tarball::{Entry, tar};

/// Pushes an image of a few hundred files without extended attributes, whose absence the kernel
/// remembers as well. Values it would ask for each time: it caches none.
pub fn push_image(registry: &Registry, name: &str) -> String {
    let mut entries = Vec::new();
    for dir in 0..20 {
        entries.push(Entry::dir(format!("{dir}")));
        for file in 0..20 {
            let content = format!("{dir} {file}\n").repeat(1 + 400 * file);
            entries.push(Entry::file(format!("{dir}/{file}"), content));
        }
        entries.push(Entry::file(format!("{dir}/empty"), ""));
        entries.push(Entry::symlink(format!("{dir}/link"), "1"));
        entries.push(Entry::hardlink(format!("{dir}/hard"), format!("{dir}/2")));
    }
    let upper = [Entry::file("0/.wh.0", ""), Entry::file("0/new", "x")];
    let image = gzip_image(&[tar(&entries), tar(&upper)]);
    push(&image, registry.address(), name, "latest").unwrap();
    format!("{}/{name}:latest", registry.address())
}

/// Looks at everything with the tools that people use.
pub fn pass(top: &Path, copy: &Path) {
    let top_text = top.display();
    for script in [
        format!("find '{top_text}' -printf '%s\\n'"),
        format!("! grep -r 'no file has this' '{top_text}'"),
        // Written to a pipe, since GNU tar reads no file whose archive goes to /dev/null.
        format!("tar c -C '{top_text}' . | cat"),
        format!("diff -r '{top_text}' '{}'", copy.display()),
        format!("ls -R '{top_text}'"),
        format!("cp -r '{top_text}' '{0}.again' && rm -r '{0}.again'", copy.display()),
        format!("! cat '{top_text}/absent'"),
        format!("readlink '{top_text}/1/link'"),
    ] {
        run(Command::new("bash").args(["-o", "pipefail", "-c", &script]));
    }
}

/// The kernel's requests so far, without those that the kernel never caches.
fn requests(mounted: &Mounted<'_>) -> Value {
    let mut requests = mounted.status()["requests"].take();
    requests.as_object_mut().unwrap().remove("statfs").expect("statfs is counted");
    requests
}

#[test]
fn a_second_pass_asks_nothing() {
    let registry = Registry::shared();
    let reference = push_image(&registry, "second_pass");
    let home = Home::new();
    let mounted = home.mount(&reference);
    let copies = tempfile::tempdir().unwrap();
    let copy = copies.path().join("copy");
    run(Command::new("cp").arg("-a").arg(mounted.path()).arg(&copy));
    pass(mounted.path(), &copy);
    let mut before = requests(&mounted);
    assert!(before["read"].as_u64().unwrap() > 0, "the first pass reads: {before}");
    // A machine that is short of memory may take pages away from the kernel at any time, and then
    // a pass asks for those again. That it happens to three passes in a row is another matter.
    let silent = (0..3).any(|_| {
        pass(mounted.path(), &copy);
        let after = requests(&mounted);
        std::mem::replace(&mut before, after.clone()) == after
    });
    assert!(silent, "no pass after the first was silent: {before}");
}

/// The kernel remembers no extended attributes: what asks for them asks each time, and no more than that.
#[test]
fn extended_attributes_are_asked_for_each_time() {
    let registry = Registry::shared();
    let home = Home::new();
    let mounted = home.mount(&push_image(&registry, "attributes"));
    let top = mounted.path().display();
    // Directories with the root, and all else but symlinks.
    let (dirs, files, links) = (21, 20 * 21, 20);
    // One inode has two names.
    let names = files + 20;
    for (script, asked) in [
        (format!("find '{top}'"), 0),
        (format!("tar c -C '{top}' . | cat"), 0),
        (format!("diff -r '{top}' '{top}/'"), 0),
        (format!("ls -R '{top}'"), 0),
        // A label of each; an ACL of all but symlinks, and another of directories. Both names of what a listing
        // begins with, its directory.
        (format!("ls -lR '{top}'"), 2 * names + links + 3 * dirs + 3 * dirs),
        (format!("tar c --xattrs -C '{top}' . | cat"), names + links + dirs),
        (format!("getfattr -Rhd -m - '{top}'"), names + links + dirs),
    ] {
        let run_it = || run(Command::new("bash").args(["-o", "pipefail", "-c", &script]));
        run_it();
        let before = requests(&mounted)["xattr"].as_u64().unwrap();
        run_it();
        let count = requests(&mounted)["xattr"].as_u64().unwrap() - before;
        assert!(count <= asked, "{script}: {count} requests, {asked} expected at most");
        assert!(
            count >= asked / 2,
            "{script}: {count} requests, so these are not what it asks for"
        );
    }
}

/// Regular files that are not empty, in [`push_image`]'s image: each of them is read at least once.
pub const FILES: u64 = 20 * 20;

#[test]
fn a_walk_is_given_what_it_is_about_to_read() {
    let registry = Registry::shared();
    let reference = push_image(&registry, "pushed");
    let home = Home::new();
    let grep = |mounted: &Mounted<'_>| {
        let top = mounted.path().display();
        let script = format!("! grep -r 'no file has this' '{top}'");
        run(Command::new("bash").args(["-c", &script]));
        let status = mounted.status();
        let count = |value: &Value| value.as_u64().unwrap();
        let requests = &status["requests"];
        assert_eq!((count(&requests["lookup"]), count(&requests["getattr"]) <= 1), (0, true));
        (count(&requests["read"]), count(&requests["readdirplus"]), count(&status["pushed"]))
    };
    let asked = home.mount_with(&["--prefetch=off"], &reference);
    let (reads, listings, pushed) = grep(&asked);
    assert!(reads >= FILES, "{reads}");
    assert!(listings <= 2 * 21, "{listings} for 21 directories");
    assert_eq!(pushed, 0);

    // How far it gets ahead depends on when its thread runs.
    let mounts = [(); 3].map(|()| home.mount_with(&["--prefetch=push"], &reference));
    let counts: Vec<_> = mounts.iter().map(&grep).collect();
    assert!(counts.iter().any(|(reads, ..)| *reads <= FILES / 2), "{counts:?}");
    assert!(counts.iter().all(|(_, listings, pushed)| *listings <= 2 * 21 && *pushed > 0));

    // What was given is right, and so is what comes when the kernel has dropped it.
    let diff = |mounted: &Mounted<'_>| {
        run(Command::new("diff").arg("-r").arg(asked.path()).arg(mounted.path()));
    };
    for mounted in &mounts {
        diff(mounted);
        for dir in 0..20 {
            for file in 0..20 {
                let path = mounted.path().join(format!("{dir}/{file}"));
                let Ok(file) = fs::File::open(path) else { continue };
                rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).unwrap();
            }
        }
        let before = mounted.status()["requests"]["read"].as_u64();
        diff(mounted);
        assert!(mounted.status()["requests"]["read"].as_u64() > before, "nothing was dropped");
    }
}

#[test]
fn a_second_mount_makes_one_request_and_an_offline_one_none() {
    let registry = Registry::shared();
    let reference = push_image(&registry, "second_mount");
    let home = Home::new();
    let first = home.mount(&reference);
    assert!(first.status()["network"]["bytes"].as_u64().unwrap() > 0);
    let copies = tempfile::tempdir().unwrap();
    let read_all = |mounted: &Mounted<'_>, name: &str| {
        let copy = copies.path().join(name);
        run(Command::new("cp").arg("-a").arg(mounted.path()).arg(&copy));
        fs::read(copy.join("5/19")).unwrap()
    };
    let content = read_all(&first, "first");

    let second = home.mount(&reference);
    assert_eq!(read_all(&second, "second"), content);
    let network = second.status()["network"].take();
    // The request asks which digest the tag has; its answer has no body.
    assert_eq!(network, serde_json::json!({ "requests": 1, "bytes": 0 }));

    let offline = home.mount_with(&["--offline"], &reference);
    assert_eq!(read_all(&offline, "offline"), content);
    let network = offline.status()["network"].take();
    assert_eq!(network, serde_json::json!({ "requests": 0, "bytes": 0 }));

    drop(registry);
    assert_eq!(read_all(&offline, "offline again"), content);
}
