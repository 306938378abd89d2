//! Mounts in namespaces of their own: root who is not root of all files, and mounts that nobody can come back to.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::fixture::{GOOD, good, image_of};
use crate::shell::{Home, Outcome, eventually_within, run, text, wait};
use crate::support::image::Compression;
use crate::support::tarball::{Entry, tar};

/// How long it may take until a mount is seen to be left.
const LIMIT: Duration = Duration::from_secs(20);

/// Longer than a mount that is left stays.
const A_WHILE: Duration = Duration::from_secs(6);

/// Mount namespaces are copies; those of other tests' mounts would keep these alive. And every user may open the device.
const OWN: &str = "umount --all --lazy --types fuse.ocifs,erofs; test -e $H/fuse || mknod -m 666 $H/fuse c 10 229; \
                   mount --bind $H/fuse /dev/fuse && exec \"$@\"";
const IN_NAMESPACE: [&str; 9] =
    ["unshare", "--mount", "--propagation", "private", "sh", "-c", OWN, "sh", "env"];
const IN_USER_NAMESPACE: [&str; 4] = ["unshare", "--user", "--map-root-user", "--mount"];

/// A script with `$O` for the program, `$I` for an image and `$M` for the mount point.
fn command(home: &Home, words: &[&str], image: &str, script: &str) -> Command {
    let mut command = home.command(IN_NAMESPACE[0]);
    command.args(&IN_NAMESPACE[1..]).args(words).args(["sh", "-ec", script]);
    command.env("O", env!("CARGO_BIN_EXE_ocifs")).env("I", image);
    command.env("M", home.mount_point()).env("H", home.path());
    command
}

fn script(home: &Home, words: &[&str], image: &str, script: &str) -> Outcome {
    run(&mut command(home, words, image, script))
}

/// An ACL (`linux/posix_acl_xattr.h`) that names a user: rw for the owner, r for the user, group and mask.
fn acl(user: u32) -> Vec<u8> {
    let mut value = vec![2, 0, 0, 0];
    for (tag, mode, id) in [
        (1u16, 6u16, u32::MAX),
        (2, 4, user),
        (4, 4, u32::MAX),
        (16, 4, u32::MAX),
        (32, 0, u32::MAX),
    ] {
        value.extend(tag.to_le_bytes());
        value.extend(mode.to_le_bytes());
        value.extend(id.to_le_bytes());
    }
    value
}

/// Root of a user namespace with one user ID, of which an image knows nothing, reads all of the image, as an
/// ordinary user does.
#[test]
fn root_of_a_user_namespace() {
    let home = Home::new();
    let entries = [
        Entry::file("f", GOOD),
        Entry::file("roots", GOOD).mode(0o600),
        Entry::file("others", GOOD).mode(0o600).owner(1000, 1000),
        Entry::file("nobody", GOOD).mode(0),
        Entry::dir("dir").mode(0o700).owner(1000, 1000),
        Entry::file("dir/f", GOOD).mode(0o600).owner(1000, 1000),
    ];
    let image = home.layout(&image_of(&tar(&entries), Compression::Gzip));
    let read = "$O mount $FLAGS $I $M; for f in f roots others nobody dir/f; do cat $M/$f; done; \
                ls -lR $M >&2; $O umount $M";
    for flags in ["", "--allow-other", "--owner-me"] {
        let mut command = command(&home, &IN_USER_NAMESPACE, &image, read);
        let outcome = run(command.env("FLAGS", flags));
        let all = GOOD.repeat(5);
        assert!(outcome.code == 0 && outcome.stdout.as_bytes() == all, "{flags}: {outcome:?}");
    }
    // Who asks for it has them checked.
    let strict = "$O mount --strict-modes $I $M; cat $M/roots; ! cat $M/others; $O umount $M";
    let outcome = script(&home, &IN_USER_NAMESPACE, &image, strict);
    assert!(outcome.code == 0 && outcome.stderr.contains("Permission denied"), "{outcome:?}");
    // Real root, as ever, also where the namespace has every ID.
    let look = "$O mount $I $M; grep $M /proc/mounts; $O umount $M";
    let outcome = script(&home, &[], &image, look);
    assert!(outcome.code == 0 && outcome.stdout.contains("default_permissions"), "{outcome:?}");
    // A shell that is told when its IDs are there, and one that has become root by that.
    let words = ["unshare", "--user", "--mount", "sh", "-c", "echo $$; read go; exec \"$@\"", "sh"];
    let mut full = command(&home, &words, &image, look);
    let mut full = full.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut out = BufReader::new(full.stdout.take().unwrap());
    let mut pid = String::new();
    out.read_line(&mut pid).unwrap();
    for map in ["uid_map", "gid_map"] {
        fs::write(format!("/proc/{}/{map}", pid.trim()), "0 0 4294967295").unwrap();
    }
    full.stdin.take().unwrap().write_all(b"go\n").unwrap();
    let mut shown = String::new();
    out.read_to_string(&mut shown).unwrap();
    assert!(wait(&mut full) == 0 && shown.contains("default_permissions"), "{shown}");
    home.is_quiet();
}

/// ACLs that name a user who does not exist in the namespace don't keep anybody out, nor are they an error.
#[test]
fn acls_of_unmapped_users() {
    let home = Home::new();
    let entry = Entry::file("f", GOOD).mode(0o640).owner(1000, 1000);
    let entry = entry.xattr("system.posix_acl_access", acl(1000)).xattr("user.other", "1");
    let image = home.layout(&image_of(&tar(&[entry]), Compression::Gzip));
    for flags in ["", "--allow-other"] {
        // An attribute that is listed can be read.
        let read = "$O mount $FLAGS $I $M; cat $M/f; ls -l $M >&2; getfattr -m - -d $M/f >&2; \
                    $O umount $M";
        let mut command = command(&home, &IN_USER_NAMESPACE, &image, read);
        let outcome = run(command.env("FLAGS", flags));
        assert!(outcome.code == 0 && outcome.stdout.as_bytes() == GOOD, "{flags}: {outcome:?}");
        for word in ["Invalid argument", "not supported", "posix_acl"] {
            assert!(!outcome.stderr.contains(word), "{flags}: {outcome:?}");
        }
        assert!(outcome.stderr.contains("user.other"), "{flags}: {outcome:?}");
    }
    home.is_quiet();
}

/// Where there is no session, its folder is the user's, and not that of the machine's root.
#[test]
fn status_in_a_user_namespace() {
    let home = Home::new();
    let image = home.layout(&good());
    fs::create_dir(home.path().join("tmp")).unwrap();
    for name in ["tmp", "m"] {
        chown(home.path().join(name), Some(65534), Some(65534)).unwrap();
    }
    // Of root's, as root's own mounts make it.
    fs::create_dir(home.path().join("tmp/ocifs-0")).unwrap();
    let program = home.path().join("ocifs");
    fs::copy(env!("CARGO_BIN_EXE_ocifs"), &program).unwrap();
    for path in [home.path(), program] {
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let user = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];
    let words = [&user[..], &IN_USER_NAMESPACE].concat();
    let look = "unset XDG_RUNTIME_DIR; export TMPDIR=$H/tmp OCIFS_CACHE_DIR=$H/tmp/cache; O=$H/ocifs; \
                $O mount $I $M; $O status $M; test -S $H/tmp/ocifs-65534/*.sock; $O umount $M";
    let outcome = script(&home, &words, &image, look);
    assert!(outcome.code == 0 && outcome.stdout.contains("proof full"), "{outcome:?}");
    home.is_quiet();
}

#[test]
fn what_a_user_namespace_does_not_allow_is_told() {
    let home = Home::new();
    let image = home.layout(&good());
    let outcome = script(&home, &IN_USER_NAMESPACE, &image, "$O mount --kernel-metadata $I $M");
    outcome.failed(
        3,
        &["root of the machine", "user namespace", "--kernel-metadata", "mount without it"],
    );
    let doctor = script(&home, &IN_USER_NAMESPACE, &image, "$O doctor");
    let is_told = doctor.stdout.contains("root of a user namespace");
    assert!(doctor.code == 0 && is_told, "{doctor:?}");
    // Without a mount namespace of its own.
    let words = ["unshare", "--user", "--map-root-user"];
    let outcome = script(&home, &words, &image, "$O mount $I $M");
    outcome.failed(1, &["mount namespace of its own", "unshare -Urm"]);
    home.is_quiet();
}

/// Root of a container without the capability: no helper can help.
#[test]
fn root_who_may_not_mount() {
    let home = Home::new();
    let image = home.layout(&good());
    let words = ["setpriv", "--bounding-set", "-sys_admin"];
    for path in ["$PATH", "/none"] {
        let mount = format!("PATH={path} $O mount $I $M");
        let outcome = script(&home, &words, &image, &mount);
        outcome.failed(1, &["CAP_SYS_ADMIN", "--cap-add SYS_ADMIN --device /dev/fuse"]);
        assert!(!outcome.stderr.contains("fusermount3"), "{outcome:?}");
    }
    home.is_quiet();
}

fn is_quiet(home: &Home) -> bool {
    eventually_within(LIMIT, || home.serving().is_empty() && home.prefetchers().is_empty())
}

/// Two mounts, one with an overlay over it: none keeps the others.
#[test]
fn a_namespace_that_is_left_ends() {
    for words in [&[][..], &IN_USER_NAMESPACE] {
        let home = Home::new();
        let image = home.layout(&good());
        let made = "mkdir $H/n $H/merged; $O mount $I $M; $O mount $I $H/n; \
                    mount -t overlay o -o lowerdir=$M:$H/home $H/merged; cat $H/merged/f";
        let outcome = script(&home, words, &image, made);
        assert!(outcome.code == 0 && outcome.stdout.as_bytes() == GOOD, "{outcome:?}");
        assert!(is_quiet(&home), "left: {:?}", home.serving());
    }
}

fn spawn(home: &Home, image: &str, script: &str) -> Child {
    let mut command = command(home, &[], image, script);
    let child = command.stdout(Stdio::piped()).spawn().unwrap();
    assert!(eventually_within(LIMIT, || home.path().join("ready").exists()));
    child
}

fn end(mut child: Child) {
    child.kill().unwrap();
    child.wait().unwrap();
}

/// As long as a process is in the namespace, however it came there, nothing ends.
#[test]
fn a_namespace_that_is_used_stays() {
    let home = Home::new();
    let image = home.layout(&good());
    let first = spawn(&home, &image, "$O mount $I $M; touch $H/ready; exec sleep 60");
    let id = first.id().to_string();
    // A second process enters before the first one ends.
    let mut second = Command::new("nsenter");
    let second = second.args(["--mount", "-t", &id, "sleep", "60"]).spawn().unwrap();
    std::thread::sleep(Duration::from_millis(500));
    end(first);
    std::thread::sleep(A_WHILE);
    let file = format!("/proc/{}/root{}", second.id(), text(&home.mount_point().join("f")));
    assert_eq!(fs::read(&file).unwrap(), GOOD);
    end(second);
    assert!(is_quiet(&home), "left: {:?}", home.serving());
}

/// A mount whose namespace is left is served on while a process elsewhere has a file of it open.
#[test]
fn what_is_open_elsewhere_is_served_on() {
    let home = Home::new();
    let image = home.layout(&good());
    let child = spawn(&home, &image, "$O mount $I $M; touch $H/ready; exec sleep 60");
    let path = format!("/proc/{}/root{}", child.id(), text(&home.mount_point()));
    let folder = fs::File::open(path).unwrap();
    let own = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&folder));
    end(child);
    std::thread::sleep(A_WHILE);
    assert_eq!(fs::read(Path::new(&own).join("f")).unwrap(), GOOD);
    drop(folder);
    assert!(is_quiet(&home), "left: {:?}", home.serving());
}

/// A namespace that has a name can be entered again.
#[test]
fn a_namespace_with_a_name_stays() {
    let home = Home::new();
    let image = home.layout(&good());
    // Namespaces have to lie where nothing is propagated to them.
    let outer = "mount -t tmpfs t $H/home; mount --make-private $H/home; touch $H/home/ns; \
                 unshare --mount sh -c '$O mount $I $M; touch $H/home/ready; exec sleep 60' & \
                 while ! test -e $H/home/ready; do sleep 0.05; done; \
                 mount --bind /proc/$!/ns/mnt $H/home/ns; kill $!; sleep 6; \
                 nsenter --mount=$H/home/ns cat $M/f; umount $H/home/ns";
    // Linux 6.18 counts namespaces by processor, and refuses to bind one that is not younger than the own.
    let words = ["taskset", "-c", "0", "unshare", "--mount", "--propagation", "private"];
    let outcome = script(&home, &words, &image, outer);
    assert!(outcome.code == 0 && outcome.stdout.as_bytes() == GOOD, "{outcome:?}");
    assert!(is_quiet(&home), "left: {:?}", home.serving());
}
