//! Ordinary users, who mount through `fusermount3` and own nothing of the image.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;
use std::process::Stdio;

use rustix::io::Errno;

use crate::fixture::{GOOD, good, image_of};
use crate::shell::{Home, Outcome, eventually, run, text};
use crate::support::image::{Built, Compression};
use crate::support::registry::Registry;
use crate::support::tarball::{Entry, tar};

pub const NOBODY: u32 = 65534;

const AS_NOBODY: [&str; 4] = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];

/// A home that belongs to an ordinary user, with a copy of the program that this user can reach.
pub fn home_of_nobody() -> Home {
    let home = Home::new();
    let program = home.path().join("ocifs");
    fs::copy(env!("CARGO_BIN_EXE_ocifs"), &program).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    for path in [home.path(), home.path().join("home"), home.path().join("run"), home.mount_point()]
    {
        chown(&path, Some(NOBODY), Some(NOBODY)).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }
    home.through(&AS_NOBODY, program)
}

fn cat(home: &Home, name: &str) -> Outcome {
    run(home.command("cat").arg(home.mount_point().join(name)))
}

/// Files and folders that only root may look into.
fn private() -> Built {
    image_of(
        &tar(&[
            Entry::file("f", GOOD),
            Entry::file("shadow", GOOD).mode(0o600),
            Entry::file("none", GOOD).mode(0),
            Entry::dir("root").mode(0o700),
            Entry::file("root/f", GOOD).mode(0o600),
        ]),
        Compression::Gzip,
    )
}

#[test]
fn mounts_and_unmounts() {
    let home = home_of_nobody();
    let image = home.layout(&good());
    home.run(&["mount", &image, "M"]).succeeded();
    assert_eq!(cat(&home, "f").stdout.as_bytes(), GOOD);
    assert_eq!(home.mounts(), [home.mount_point()]);
    home.run(&["umount", "M"]).succeeded();
    home.is_quiet();
    home.run(&["umount", "M"]).failed(1, &["not a mount of ocifs"]);
    // The helper's own program ends the process as well.
    home.run(&["mount", &image, "M"]).succeeded();
    run(home.command("fusermount3").arg("-u").arg(home.mount_point())).succeeded();
    home.is_quiet();
}

/// Before anything is fetched: `fusermount3` could not do it.
#[test]
fn over_a_mount_only_root_can_mount() {
    let home = home_of_nobody();
    let image = home.layout(&good());
    home.run(&["mount", "--over", &image, "M"]).succeeded();
    let registry = Registry::start();
    let other = format!("{}/r:t", registry.addr());
    let outcome = home.run(&["mount", "--over", &other, "M"]);
    outcome.failed(1, &["only root", "--over", &image, text(&home.mount_point())]);
    assert!(registry.requests().is_empty() && home.mounts().len() == 1, "{outcome:?}");
    assert_eq!(cat(&home, "f").stdout.as_bytes(), GOOD);
    home.run(&["umount", "M"]).succeeded();
    home.is_quiet();
}

#[test]
fn the_image_s_modes_do_not_lock_its_user_out() {
    let home = home_of_nobody();
    let image = home.layout(&private());
    home.run(&["mount", &image, "M"]).succeeded();
    for name in ["f", "shadow", "none", "root/f"] {
        assert_eq!(cat(&home, name).stdout.as_bytes(), GOOD, "{name}: {:?}", cat(&home, name));
    }
    // Read-only is read-only.
    for words in [&["touch"][..], &["rm", "-f"], &["chmod", "777"]] {
        let mut command = home.command(words[0]);
        let outcome = run(command.args(&words[1..]).arg(home.mount_point().join("f")));
        assert!(outcome.stderr.contains("Read-only file system"), "{words:?}: {outcome:?}");
    }
    home.run(&["umount", "M"]).succeeded();

    home.run(&["mount", "--strict-modes", &image, "M"]).succeeded();
    assert_eq!(cat(&home, "f").stdout.as_bytes(), GOOD);
    for name in ["shadow", "none", "root/f"] {
        let outcome = cat(&home, name);
        assert!(outcome.stderr.contains("Permission denied"), "{name}: {outcome:?}");
    }
    home.run(&["umount", "M"]).succeeded();
    home.is_quiet();
}

#[test]
fn refusals_name_the_cause() {
    let home = home_of_nobody();
    let image = home.layout(&good());
    // A folder of another user's.
    home.run(&["mount", &image, "/usr"]).failed(1, &["fusermount3 refused"]);
    home.run(&["mount", &image, "/root/x"]).failed(1, &["Permission denied"]);
    let configuration = fs::read_to_string("/etc/fuse.conf").unwrap_or_default();
    if !configuration.lines().any(|line| line.trim() == "user_allow_other") {
        let words = ["--allow-other", "user_allow_other", "/etc/fuse.conf"];
        home.run(&["mount", "--allow-other", &image, "M"]).failed(1, &words);
    }
    // Folders without it: one that is empty, one that may not be searched, both.
    let [empty, locked] = ["empty", "locked"].map(|name| home.path().join(name));
    for (folder, mode) in [(&empty, 0o755), (&locked, 0o700)] {
        fs::create_dir(folder).unwrap();
        fs::set_permissions(folder, fs::Permissions::from_mode(mode)).unwrap();
    }
    let both = format!("{}:{}", locked.display(), empty.display());
    for (path, words) in [
        (text(&empty), "fusermount3 is not installed; "),
        (text(&locked), "lies in a folder of PATH that you may not look into"),
        (&both, "lies in a folder of PATH that you may not look into"),
    ] {
        let mut without_helper = home.command("env");
        without_helper.arg(format!("PATH={path}")).arg(home.path().join("ocifs"));
        let outcome = run(without_helper.args(["mount", &image]).arg(home.mount_point()));
        outcome.failed(1, &["fusermount3 is not installed", words, "apt install fuse3"]);
    }
    home.run(&["umount", "/proc"]).failed(1, &["not a mount of ocifs"]);
    home.is_quiet();
}

/// A mount of root's is not an ordinary user's to end.
#[test]
fn mounts_of_other_users_stay() {
    let home = Home::new();
    let program = home.path().join("ocifs");
    fs::copy(env!("CARGO_BIN_EXE_ocifs"), &program).unwrap();
    for path in [home.path(), program.clone()] {
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let image = home.layout(&good());
    home.run(&["mount", &image, "M"]).succeeded();
    for words in [&["umount", "M"][..], &["umount", "--lazy", "M"], &["umount", "--all"]] {
        let mut command = home.command(AS_NOBODY[0]);
        command.args(&AS_NOBODY[1..]).arg(&program);
        for word in words {
            match *word {
                "M" => command.arg(home.mount_point()),
                word => command.arg(word),
            };
        }
        let outcome = run(&mut command);
        // All that are the user's own are none.
        let expected = if words.contains(&"--all") { 0 } else { 1 };
        assert!(outcome.code == expected && outcome.stdout.is_empty(), "{words:?}: {outcome:?}");
        let is_named = outcome.stderr.contains("mounted by user root: that user or root can");
        assert!(expected == 0 || is_named, "{words:?}: {outcome:?}");
        assert_eq!(home.mounts(), [home.mount_point()]);
    }
    // Its state is not known to others, which is no sign of anything.
    for words in [&["status"][..], &["status", "--json"]] {
        let mut command = home.command(AS_NOBODY[0]);
        let status =
            run(command.args(&AS_NOBODY[1..]).arg(&program).args(words).arg(home.mount_point()));
        let is_told = status.stdout.contains("mounted by user root");
        assert!(status.code == 0 && is_told && !status.stdout.contains("no answer"), "{status:?}");
    }
    assert_eq!(fs::read(home.mount_point().join("f")).unwrap(), GOOD);
    home.run(&["umount", "M"]).succeeded();
    home.is_quiet();
}

/// Root's `--all` is what root has mounted; `--all-users` is said if it is meant.
#[test]
fn all_is_one_s_own() {
    let home = home_of_nobody();
    let image = home.layout(&good());
    let roots = home.path().join("roots");
    fs::create_dir(&roots).unwrap();
    home.run(&["mount", &image, "M"]).succeeded();
    let as_root = |words: &[&str]| {
        let mut command = home.command_of_root(home.path().join("ocifs"));
        command.env("XDG_RUNTIME_DIR", home.path().join("home"));
        run(command.env("OCIFS_CACHE_DIR", home.path().join("roots-cache")).args(words))
    };
    let told = |place: &Path| format!("unmounted {}\n", place.display());
    as_root(&["mount", &image, text(&roots)]).succeeded();
    home.run(&["umount", "--all-users"]).failed(1, &["needs root"]);
    let all = as_root(&["umount", "--all"]);
    assert!(all.code == 0 && all.stdout == told(&roots), "{all:?}");
    assert!(
        all.stderr.contains("1 mount of other users left (--all-users unmounts them)"),
        "{all:?}"
    );
    assert_eq!(home.mounts(), [home.mount_point()]);
    assert_eq!(cat(&home, "f").stdout.as_bytes(), GOOD);
    let status = as_root(&["status"]);
    let is_told = status.stdout.contains("mounted by user nobody");
    assert!(status.code == 0 && is_told, "{status:?}");

    as_root(&["mount", &image, text(&roots)]).succeeded();
    let own = home.run(&["umount", "--all"]);
    assert!(own.code == 0 && own.stdout == told(&home.mount_point()), "{own:?}");
    assert!(own.stderr.is_empty() && home.mounts() == [roots.clone()], "{own:?}");
    home.run(&["mount", &image, "M"]).succeeded();
    let all = as_root(&["umount", "--all-users"]);
    let both = told(&home.mount_point()) + &told(&roots);
    assert!(all.code == 0 && all.stdout == both && all.stderr.is_empty(), "{all:?}");
    home.is_quiet();
}

/// Where only root may open the device, the helper can't either.
#[test]
fn a_device_for_root_alone() {
    let home = home_of_nobody();
    let image = home.layout(&good());
    run(home.command_of_root("chmod").args(["600", "/dev/fuse"])).succeeded();
    let words = ["/dev/fuse: Permission denied", "0600", "chmod 666 /dev/fuse"];
    home.run(&["mount", &image, "M"]).failed(1, &words);
    let doctor = home.run(&["doctor"]);
    let is_told = words.iter().all(|word| doctor.stdout.contains(word));
    assert!(doctor.code == 1 && is_told, "{doctor:?}");
    run(home.command_of_root("chmod").args(["666", "/dev/fuse"])).succeeded();
    home.run(&["mount", &image, "M"]).succeeded();
    home.run(&["umount", "M"]).succeeded();
    home.is_quiet();
}

/// A cache, a runtime folder and a configuration that the user can't read or write.
#[test]
fn folders_without_permission() {
    let home = home_of_nobody();
    let image = home.layout(&good());
    let locked = home.path().join("locked");
    fs::create_dir(&locked).unwrap();
    fs::set_permissions(&locked, fs::Permissions::from_mode(0o000)).unwrap();
    let mut mount = home.ocifs(&["mount", &image, "M"]);
    mount.env("OCIFS_CACHE_DIR", locked.join("cache")).env("XDG_RUNTIME_DIR", &locked);
    let outcome = run(&mut mount);
    assert_eq!(outcome.code, 0, "{outcome:?}");
    assert_eq!(cat(&home, "f").stdout.as_bytes(), GOOD);
    home.run(&["umount", "M"]).succeeded();
    home.is_quiet();
    // A cache that can be read and not written.
    let cache = home.path().join("cache");
    home.run(&["ls", &image]).succeeded();
    run(std::process::Command::new("chown").args(["-R", "root"]).arg(&cache)).succeeded();
    run(std::process::Command::new("chmod").args(["-R", "a+rX,a-w"]).arg(&cache)).succeeded();
    let outcome = home.run(&["cat", &image, "f"]);
    assert!(outcome.code == 0 && outcome.stdout.as_bytes() == GOOD, "{outcome:?}");
    // Credentials that can't be read are named, and not taken for none.
    let auth = home.path().join("auth.json");
    fs::write(&auth, b"{}").unwrap();
    fs::set_permissions(&auth, fs::Permissions::from_mode(0o000)).unwrap();
    let mut ls = home.ocifs(&["ls", "127.0.0.1:1/r:t"]);
    run(ls.env("REGISTRY_AUTH_FILE", &auth)).failed(1, &["credentials file", text(&auth)]);
}

/// Where only root has run podman, `/run/containers` is root's alone: a usual place that the user can't reach holds
/// no login of this user. A file that the user names is another matter.
#[test]
fn logins_in_folders_that_may_not_be_searched() {
    let home = home_of_nobody();
    let registry = Registry::start();
    registry.add_image("r", "t", &good());
    let name = format!("{}/r:t", registry.addr());
    let locked = home.path().join("locked");
    fs::create_dir_all(locked.join("containers")).unwrap();
    fs::write(locked.join("containers/auth.json"), b"{").unwrap();
    fs::set_permissions(&locked, fs::Permissions::from_mode(0o700)).unwrap();
    let ls = |variable: &str, value: &Path| {
        let mut ls = home.ocifs(&["ls", &name]);
        run(ls.env(variable, value))
    };
    for variable in ["XDG_RUNTIME_DIR", "DOCKER_CONFIG"] {
        let outcome = ls(variable, &locked.join("x"));
        assert!(outcome.code == 0 && outcome.stderr.is_empty(), "{variable}: {outcome:?}");
    }
    let file = locked.join("containers/auth.json");
    ls("REGISTRY_AUTH_FILE", &file).failed(1, &["credentials file", "Permission denied"]);
    let mut named = home.ocifs(&["ls", "--authfile", text(&file), &name]);
    run(&mut named).failed(1, &["credentials file", "Permission denied"]);
    registry.require_basic("u", "p");
    let outcome = ls("XDG_RUNTIME_DIR", &locked);
    outcome.failed(1, &["access denied (401)", "in a folder that you may not search"]);
}

#[test]
fn names_that_are_too_long() {
    let home = Home::new();
    home.run(&["mount", &home.layout(&good()), "M"]).succeeded();
    for (length, expected) in [(255, Errno::NOENT), (256, Errno::NAMETOOLONG)] {
        let path = home.mount_point().join("n".repeat(length));
        assert_eq!(fs::metadata(path).unwrap_err().raw_os_error(), Some(expected.raw_os_error()));
    }
    home.run(&["umount", "M"]).succeeded();
    home.is_quiet();
}

#[test]
fn signals_and_dead_servers() {
    let home = home_of_nobody();
    let image = home.layout(&good());
    home.run(&["mount", &image, "M"]).succeeded();
    let mut inside = home.command("sh");
    inside.args(["-c", "cd \"$0\" && exec sleep 60", text(&home.mount_point())]);
    let mut inside = inside.stdout(Stdio::null()).spawn().unwrap();
    let cwd = format!("/proc/{}/cwd", inside.id());
    assert!(eventually(|| fs::read_link(&cwd).is_ok_and(|cwd| cwd == home.mount_point())));
    let server = *home.serving().last().unwrap();
    rustix::process::kill_process(server, rustix::process::Signal::TERM).unwrap();
    let ended = eventually(|| home.mounts().is_empty() && home.serving().is_empty());
    inside.kill().unwrap();
    inside.wait().unwrap();
    assert!(ended, "left {:?} {:?}", home.mounts(), home.serving());

    for words in [&["umount", "M"][..], &["mount", &image, "M"]] {
        home.run(&["mount", &image, "M"]).succeeded();
        let server = *home.serving().last().unwrap();
        rustix::process::kill_process(server, rustix::process::Signal::KILL).unwrap();
        assert!(eventually(|| home.serving().is_empty() && home.workers().is_empty()));
        let outcome = home.run(words);
        assert_eq!(outcome.code, 0, "{words:?}: {outcome:?}");
        if words[0] == "mount" {
            assert_eq!(cat(&home, "f").stdout.as_bytes(), GOOD);
            home.run(&["umount", "M"]).succeeded();
        }
        home.is_quiet();
    }
}
