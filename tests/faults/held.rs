//! Mounts that something else uses, and places that something else is mounted at.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use crate::fixture::{GOOD, good, image_of};
use crate::kernel_metadata;
use crate::shell::{Home, eventually, run, text};
use crate::support::image::{Compression, write_oci_layout};
use crate::support::registry::{Fault, Registry, Times};
use crate::support::tarball::{Entry, tar};

fn folder(home: &Home, name: &str) -> PathBuf {
    let path = home.path().join(name);
    fs::create_dir(&path).unwrap();
    path
}

fn overlay(home: &Home, lower: &str, at: &Path) {
    let options = format!("lowerdir={lower}:{}", text(&folder(home, "second")));
    run(home.command("mount").args(["-t", "overlay", "overlay", "-o", &options]).arg(at))
        .succeeded();
}

/// A process in a mount namespace of its own, a copy of ours but for other tests' mounts.
fn namespace(home: &Home) -> Child {
    let script = "grep -E ' - (fuse.ocifs|erofs) ' /proc/self/mountinfo | cut -d ' ' -f 5 | \
                  grep -vF \"$0\" | xargs -r umount --lazy; echo ready; exec sleep 60";
    let mut holder = Command::new("unshare");
    holder.args(["--mount", "--propagation", "private", "sh", "-c", script, text(&home.path())]);
    let mut holder = holder.stdout(Stdio::piped()).spawn().unwrap();
    let mut ready = [0; 6];
    std::io::Read::read_exact(&mut holder.stdout.take().unwrap(), &mut ready).unwrap();
    holder
}

fn end(mut process: Child) {
    process.kill().unwrap();
    process.wait().unwrap();
}

/// Unmounts with these options first, and checks that it is told who goes on using it, by `umount` and by `status`.
fn is_told(home: &Home, words: &[&str]) {
    let outcome = home.run(&["umount", "M"]);
    assert!(outcome.code == 0 && outcome.stdout.is_empty(), "{outcome:?}");
    assert!(outcome.stderr.contains("still used"), "{outcome:?}");
    let status = home.run(&["status", "--json"]);
    let rows: Value = serde_json::from_str(&status.stdout).unwrap();
    // Other tests have mounts, too.
    let place = home.mount_point();
    let row = rows.as_array().unwrap().iter().find(|row| row["mount_point"] == text(&place));
    let row = row.unwrap_or_else(|| panic!("{status:?}"));
    assert_eq!(row["state"], "held", "{row}");
    let shown = home.run(&["status"]).stdout;
    for word in words {
        let is_in = |text: &str| text.contains(word);
        assert!(is_in(&outcome.stderr) && is_in(&shown), "{word}: {outcome:?} {shown}");
        assert!(row["held_by"].to_string().contains(word), "{word}: {row}");
    }
    home.run(&["status", "M"]).failed(1, &["not a mount of ocifs"]);
}

fn modes() -> Vec<&'static [&'static str]> {
    let mut modes = vec![&[][..]];
    modes.extend(kernel_metadata::can().then_some(&["--kernel-metadata"][..]));
    modes
}

#[test]
fn by_an_overlay() {
    for flags in modes() {
        let home = Home::new();
        let image = home.layout(&image_of(
            &tar(&[Entry::dir("d"), Entry::file("d/f", GOOD), Entry::file("f", GOOD)]),
            Compression::Gzip,
        ));
        let merged = folder(&home, "merged");
        home.run(&[&["mount"], flags, &[&image, "M"]].concat()).succeeded();
        // A directory below is enough.
        overlay(&home, text(&home.mount_point().join("d")), &merged);
        is_told(&home, &[&format!("the overlay at {}", merged.display())]);
        assert_eq!(fs::read(merged.join("f")).unwrap(), GOOD);
        run(home.command("umount").arg(&merged)).succeeded();
        home.is_quiet();
        assert!(!home.run(&["status"]).stdout.contains(text(&home.path())));
    }
}

#[test]
fn by_another_namespace() {
    for flags in modes() {
        let home = Home::new();
        let image = home.layout(&good());
        home.run(&[&["mount"], flags, &[&image, "M"]].concat()).succeeded();
        let holder = namespace(&home);
        let words = format!("in the mount namespace of process {} (s", holder.id());
        is_told(&home, &[&format!("at {} {words}", home.mount_point().display())]);
        end(holder);
        home.is_quiet();
    }
}

/// What is bound elsewhere is a mount as well, and listed there.
#[test]
fn by_a_bind_mount() {
    let home = Home::new();
    home.run(&["mount", &home.layout(&good()), "M"]).succeeded();
    let elsewhere = folder(&home, "elsewhere");
    run(home.command("mount").arg("--bind").args([&home.mount_point(), &elsewhere])).succeeded();
    let outcome = home.run(&["umount", "M"]);
    let words = format!("it is also mounted at {}", elsewhere.display());
    assert!(outcome.code == 0 && outcome.stderr.contains(&words), "{outcome:?}");
    let shown = home.run(&["status"]);
    assert!(shown.stdout.contains(text(&elsewhere)), "{shown:?}");
    home.run(&["umount", text(&elsewhere)]).succeeded();
    home.is_quiet();
}

#[test]
fn by_a_process_after_a_lazy_unmount() {
    let home = Home::new();
    home.run(&["mount", &home.layout(&good()), "M"]).succeeded();
    let mut inside = Command::new("sleep");
    let inside = inside.arg("60").current_dir(home.mount_point()).spawn().unwrap();
    home.run(&["umount", "M"]).failed(1, &["busy", &format!("process {} (sleep)", inside.id())]);
    home.run(&["umount", "--lazy", "M"]).succeeded();
    let shown = home.run(&["status"]);
    let words = format!("process {} (sleep) has a file or a directory of it open", inside.id());
    assert!(shown.stdout.contains(&words), "{shown:?}");
    end(inside);
    home.is_quiet();
}

/// Whether this is refused, and what is there stays.
fn is_refused(home: &Home, words: &[&str]) {
    let outcome = home.run(words);
    outcome.failed(1, &["already", "--over", text(&home.mount_point())]);
    assert_eq!(home.mounts().len(), 1);
    assert_eq!(fs::read(home.mount_point().join("f")).unwrap(), GOOD);
}

#[test]
fn the_same_place_twice() {
    for flags in modes() {
        let home = Home::new();
        let image = home.layout(&good());
        let mount = |more: &[&str]| home.run(&[&["mount"], flags, more, &[&image, "M"]].concat());
        mount(&[]).succeeded();
        let before = home.status();
        for more in [&[][..], &["--foreground"], &["--offline"], &["--prefetch=off"]] {
            let outcome = mount(more);
            let is_told = outcome.stderr.contains("is already mounted at");
            assert!(outcome.code == 0 && outcome.stdout.is_empty() && is_told, "{outcome:?}");
        }
        // By another name, and by a symlink to the place.
        let link = home.path().join("link");
        std::os::unix::fs::symlink(home.mount_point(), &link).unwrap();
        let named = format!("{image}:@0");
        let outcome = home.run(&[&["mount"], flags, &[&named, text(&link)]].concat());
        assert!(outcome.code == 0 && outcome.stderr.contains("already mounted"), "{outcome:?}");
        assert_eq!((home.mounts().len(), home.serving().len()), (1, 1));
        assert_eq!(home.status()["pid"], before["pid"]);

        // Another image, and the same in another way.
        let other = home.path().join("other");
        let tarball = tar(&[Entry::file("g", GOOD)]);
        write_oci_layout(&other, &[(None, &image_of(&tarball, Compression::Gzip))]).unwrap();
        let other = format!("oci:{}", other.display());
        is_refused(&home, &[&["mount"], flags, &[&other, "M"]].concat());
        is_refused(&home, &[&["mount"], flags, &["--owner-me", &image, "M"]].concat());
        is_refused(&home, &[&["mount"], flags, &["--noexec", &image, "M"]].concat());
        is_refused(&home, &[&["mount"], flags, &[&format!("x={image}"), "M"]].concat());
        // One that the name does not lead to is not the one that is shown.
        home.run(&[&["mount"], flags, &["--platform", "linux/none", &image, "M"]].concat())
            .failed(1, &["no image for linux/none"]);

        home.run(&[&["mount", "--over"], flags, &[&other, "M"]].concat()).succeeded();
        assert_eq!(fs::read(home.mount_point().join("g")).unwrap(), GOOD);
        home.run(&["umount", "M"]).succeeded();
        assert_eq!(fs::read(home.mount_point().join("f")).unwrap(), GOOD);
        home.run(&["umount", "M"]).succeeded();
        home.is_quiet();
        home.run(&["umount", "M"]).failed(1, &["not a mount of ocifs"]);
    }
}

/// A tag that has moved is another image; several images are compared with their directories.
#[test]
fn moved_tags_and_several_images() {
    let (home, registry) = (Home::new(), Registry::start());
    let (old, new) = (good(), image_of(&tar(&[Entry::file("g", GOOD)]), Compression::Gzip));
    registry.add_image("r", "t", &old);
    let name = format!("{}/r:t", registry.addr());
    home.run(&["mount", &name, "M"]).succeeded();
    registry.add_image("r", "t", &new);
    is_refused(&home, &["mount", &name, "M"]);
    let digest = format!("{}/r@{}", registry.addr(), old.manifest_digest);
    assert_eq!(home.run(&["mount", &digest, "M"]).code, 0);
    // By the same name it is the same as long as its registry does not say otherwise.
    registry.fault(("", "", Times::Always), Fault::Status(403, Vec::new(), Vec::new()));
    let again = home.run(&["mount", &name, "M"]);
    let is_told = again.stderr.contains("already mounted") && again.stderr.contains("403");
    assert!(again.code == 0 && is_told, "{again:?}");
    let other = name.replace("r:t", "r:other");
    home.run(&["mount", &other, "M"]).failed(1, &["403"]);
    registry.clear_faults();
    home.run(&["umount", "M"]).succeeded();

    let [a, b] = [("a", &digest), ("b", &name)].map(|(at, name)| format!("{at}={name}"));
    home.run(&["mount", &a, &b, "M"]).succeeded();
    for words in [["mount", &a, &b, "M"], ["mount", &b, &a, "M"]] {
        let outcome = home.run(&words);
        assert!(outcome.code == 0 && outcome.stderr.contains("already mounted"), "{outcome:?}");
    }
    for words in [
        &["mount", &a, "M"][..],
        &["mount", &a, &format!("c={name}"), "M"],
        &["mount", &a, &format!("b={digest}"), "M"],
        &["mount", "--separate-inodes", &a, &b, "M"],
    ] {
        home.run(words).failed(1, &["already", "--over"]);
    }
    assert_eq!(home.mounts().len(), 1);
    home.run(&["umount", "M"]).succeeded();
    home.is_quiet();
}

/// Something else that is mounted at a place may be mounted over, as ever.
#[test]
fn a_place_that_is_a_mount_of_others() {
    let home = Home::new();
    run(home.command("mount").args(["-t", "tmpfs", "other"]).arg(home.mount_point())).succeeded();
    home.run(&["mount", &home.layout(&good()), "M"]).succeeded();
    assert_eq!(fs::read(home.mount_point().join("f")).unwrap(), GOOD);
    home.run(&["umount", "M"]).succeeded();
    run(home.command("umount").arg(home.mount_point())).succeeded();
    assert!(eventually(|| home.mounts().is_empty()));
    home.is_quiet();
}

/// As `su` leaves it in the environment, and `sudo -E`.
#[test]
fn a_runtime_folder_that_can_not_be_used() {
    let home = Home::new();
    let (image, apart) = (home.layout(&good()), folder(&home, "apart"));
    let file = home.path().join("file");
    fs::write(&file, "").unwrap();
    for unusable in [file.join("run"), PathBuf::from("run")] {
        let with = |words: &[&str]| {
            run(home.ocifs(words).env("XDG_RUNTIME_DIR", &unusable).env("TMPDIR", &apart))
        };
        with(&["mount", &image, "M"]).succeeded();
        let status = with(&["status", "M"]);
        assert!(status.code == 0 && status.stdout.contains("proof full"), "{status:?}");
        with(&["umount", "M"]).succeeded();
        home.is_quiet();
    }
}

/// Nothing is known where its socket lies then.
#[test]
fn mounts_of_another_runtime_folder() {
    let home = Home::new();
    home.run(&["mount", &home.layout(&good()), "M"]).succeeded();
    let other = folder(&home, "other");
    let mut asked = home.ocifs(&["status", "M"]);
    let outcome = run(asked.env("XDG_RUNTIME_DIR", &other).env("TMPDIR", &other));
    let is_told = outcome.stdout.contains("the XDG_RUNTIME_DIR that it was mounted");
    assert!(is_told, "{outcome:?}");
    home.run(&["umount", "M"]).succeeded();
    home.is_quiet();
}

/// What was mounted without a session, at boot for example, is found from within one.
#[test]
fn mounts_made_without_a_session() {
    let home = Home::new();
    let image = home.layout(&good());
    let apart = folder(&home, "apart");
    let bare = |words: &[&str]| {
        let mut command = home.ocifs(words);
        run(command.env_remove("XDG_RUNTIME_DIR").env("TMPDIR", &apart))
    };
    bare(&["mount", &image, "M"]).succeeded();
    assert_eq!(fs::read_dir(&apart).unwrap().count(), 1, "its socket is there");
    let within = |words: &[&str]| run(home.ocifs(words).env("TMPDIR", &apart));
    let status = within(&["status", "M"]);
    assert!(status.code == 0 && status.stdout.contains("proof full"), "{status:?}");
    let again = within(&["mount", &image, "M"]);
    assert!(again.code == 0 && again.stderr.contains("already mounted"), "{again:?}");
    within(&["umount", "M"]).succeeded();
    home.is_quiet();
}
