//! What `docs/over-a-mount.md` says: each sentence is tried, over a plain mount and, where the
//! kernel can, over one with `--kernel-metadata`.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;
use std::process::{Command, Output};

use tempfile::TempDir;

use crate::mounted::{Home, Mounted};
use crate::oracle::gzip_image;
use crate::servers::{has_kernel_metadata, program, run};
use crate::support::image::write_oci_layout;
use crate::support::tarball::{Entry, tar};

/// `nobody`: fusermount3 serves only users who have a name.
const USER: u32 = 65534;

/// A static program for an image: its effective user, or a file.
const TOOL: &str = r#"
    #include <fcntl.h>
    #include <stdio.h>
    #include <unistd.h>
    int main(int count, char **words) {
        char text[256];
        if (count < 2) { printf("%d\n", (int) geteuid()); return 0; }
        int length = read(open(words[1], O_RDONLY), text, sizeof text);
        if (length < 0) return 1;
        return write(1, text, length) != length;
    }
"#;

/// An image as a layout in a folder that everybody may read.
struct Image {
    folder: TempDir,
}

impl Image {
    fn of(entries: &[Entry]) -> Image {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let image = gzip_image(&[tar(entries)]);
        write_oci_layout(&folder.path().join("layout"), &[(None, &image)]).unwrap();
        Image { folder }
    }

    fn reference(&self) -> String {
        format!("oci:{}", self.folder.path().join("layout").display())
    }
}

/// The ways to mount that this machine has.
fn ways() -> &'static [&'static [&'static str]] {
    let ways: &[&[&str]] = &[&[], &["--kernel-metadata"]];
    &ways[..if has_kernel_metadata() { 2 } else { 1 }]
}

fn tool() -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let (source, binary) = (folder.path().join("tool.c"), folder.path().join("tool"));
    fs::write(&source, TOOL).unwrap();
    run(program("cc", "gcc").args(["-static", "-o"]).args([&binary, &source]));
    fs::read(&binary).unwrap()
}

/// An image with a program, a set-user-ID one, and symlinks that lead to the same file by both ways.
fn small() -> Image {
    let tool = tool();
    Image::of(&[
        Entry::dir("bin"),
        Entry::file("bin/tool", &tool).mode(0o755),
        Entry::file("bin/suid", &tool).mode(0o4755),
        Entry::dir("etc"),
        // Every Linux has this file, and none with this content.
        Entry::file("etc/passwd", "the image's\n"),
        Entry::symlink("etc/absolute", "/etc/passwd"),
        Entry::symlink("etc/relative", "passwd"),
        Entry::dir("home"),
        Entry::file("home/f", "old").mode(0o600).owner(1000, 1000),
    ])
}

fn text(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn shell(script: &str, folder: &Path) -> Output {
    Command::new("sh").args(["-euc", script]).current_dir(folder).output().unwrap()
}

/// Runs a script as an ordinary user, in a folder of that user's with a copy of the program, where
/// `/dev/fuse` is everybody's. It has the image's reference as `$1`.
fn as_user(image: &Image, script: &str) -> Output {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    fs::copy(env!("CARGO_BIN_EXE_ocifs"), path.join("ocifs")).unwrap();
    for name in ["m", "run", "upper", "work", "merged"] {
        fs::create_dir(path.join(name)).unwrap();
        chown(path.join(name), Some(USER), Some(USER)).unwrap();
    }
    chown(path, Some(USER), Some(USER)).unwrap();
    // A mount that is left keeps its namespace.
    let inner = format!("set -eu; trap './ocifs umount m' EXIT; {script}");
    let outer = "mknod -m 666 fuse c 10 229 && mount --bind fuse /dev/fuse && \
                 exec setpriv --reuid=\"$1\" --regid=\"$1\" --clear-groups sh -c \"$2\" sh \"$3\"";
    Command::new("unshare")
        .args(["--mount", "--propagation", "private", "sh", "-c", outer, "sh"])
        .args([&USER.to_string(), &inner, &image.reference()])
        .current_dir(path)
        .env("HOME", path)
        .env("OCIFS_CACHE_DIR", path.join("cache"))
        .env("XDG_RUNTIME_DIR", path.join("run"))
        .output()
        .unwrap()
}

#[test]
fn absolute_symlinks_lead_to_the_host() {
    let (image, home) = (small(), Home::new());
    for way in ways() {
        let mounted = home.mount_with(way, &image.reference());
        let read = |name: &str| fs::read(mounted.path().join(name)).unwrap();
        assert_eq!(read("etc/absolute"), fs::read("/etc/passwd").unwrap());
        assert_eq!(read("etc/relative"), b"the image's\n");
    }
}

#[test]
fn cat_and_ls_stay_inside() {
    let (image, home) = (small(), Home::new());
    let ocifs = |words: [&str; 2]| {
        let [verb, path] = words;
        text(&run(home.ocifs().args([verb, &image.reference(), path])))
    };
    assert_eq!(ocifs(["cat", "/etc/absolute"]), "the image's\n");
    assert_eq!(ocifs(["ls", "/etc/absolute"]), "/etc/absolute\n");
}

#[test]
fn a_program_with_the_mount_as_its_root_stays_inside() {
    let (image, home) = (small(), Home::new());
    for way in ways() {
        let mounted = home.mount_with(way, &image.reference());
        let mut chroot = Command::new("chroot");
        let shown = run(chroot.arg(mounted.path()).args(["/bin/tool", "/etc/absolute"]));
        assert_eq!(text(&shown), "the image's\n");
    }
    let script = "./ocifs mount \"$1\" m; unshare -r --root=m /bin/tool /etc/absolute";
    let shown = as_user(&image, script);
    assert_eq!(text(&shown), "the image's\n", "{shown:?}");
}

/// Mounts a scratch layer in a folder as root.
fn overlay(folder: &Path, lower: &Mounted<'_>, options: &str) -> Output {
    let script = format!(
        "mkdir upper work merged; mount -t overlay \
         -o {options}lowerdir={},upperdir=upper,workdir=work overlay merged",
        lower.path().display()
    );
    shell(&script, folder)
}

/// What is tried in a scratch layer, and what it shows then.
const CHANGES: &str = "echo more >> merged/etc/passwd; chmod 700 merged/etc; mv merged/home merged/moved; \
                       echo more >> merged/moved/f; rm -r merged/bin; touch merged/new; \
                       cat merged/etc/passwd merged/moved/f; ls merged";

const CHANGED: &str = "the image's\nmore\noldmore\netc\nmoved\nnew\n";

#[test]
fn roots_scratch_layer() {
    let (image, home) = (small(), Home::new());
    for way in ways() {
        let mounted = home.mount_with(way, &image.reference());
        let folder = tempfile::tempdir().unwrap();
        let made = overlay(folder.path(), &mounted, "nosuid,nodev,");
        assert!(made.status.success(), "{made:?}");
        let changed = shell(CHANGES, folder.path());
        run(Command::new("umount").arg(folder.path().join("merged")));
        assert_eq!(text(&changed), CHANGED, "{way:?} {changed:?}");
        // Changes are in `upper`, the mount is as it was.
        assert!(folder.path().join("upper/new").is_file());
        assert_eq!(fs::read(mounted.path().join("etc/passwd")).unwrap(), b"the image's\n");
        assert!(mounted.path().join("bin/tool").is_file());
    }
}

#[test]
fn an_ordinary_users_scratch_layer() {
    let image = small();
    let with = |flag: &str| {
        let script = format!(
            "./ocifs mount {flag} \"$1\" m; unshare -Urm sh -c 'mount -t overlay \
             -o userxattr,nosuid,nodev,lowerdir=m,upperdir=upper,workdir=work overlay merged && \
             {CHANGES}'; ls merged upper; cat m/etc/passwd"
        );
        as_user(&image, &script)
    };
    let changed = with("--owner-me");
    // Outside of the namespace `merged` is empty, and changes are in `upper`; the mount is as it was.
    let outside = "merged:\n\nupper:\nbin\netc\nhome\nmoved\nnew\nthe image's\n";
    assert_eq!(text(&changed), format!("{CHANGED}{outside}"), "{changed:?}");
    let refused = with("");
    let told = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(told.contains("merged/etc/passwd: Permission denied"), "{refused:?}");
}

#[test]
fn overlayfs_does_not_inherit_nosuid() {
    let (image, home) = (small(), Home::new());
    let mounted = home.mount_with(&["--allow-other"], &image.reference());
    for (options, user) in [("nosuid,nodev,", USER), ("", 0)] {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let made = overlay(folder.path(), &mounted, options);
        assert!(made.status.success(), "{made:?}");
        let mountinfo = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let merged = folder.path().canonicalize().unwrap().join("merged");
        let merged = format!(" {} ", merged.display());
        let line = mountinfo.lines().find(|line| line.contains(&merged)).unwrap();
        assert_eq!(line.contains("nosuid,nodev"), !options.is_empty(), "{line}");
        let script = format!("setpriv --reuid={USER} --clear-groups merged/bin/suid");
        let shown = shell(&script, folder.path());
        run(Command::new("umount").arg(folder.path().join("merged")));
        assert_eq!(text(&shown), format!("{user}\n"), "`{options}` {shown:?}");
    }
    // The mount itself has both.
    let mut direct = Command::new("setpriv");
    direct.args([&format!("--reuid={USER}"), "--clear-groups", "sh", "-c", "\"$0\""]);
    let reachable = tempfile::tempdir().unwrap();
    fs::set_permissions(reachable.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let place = reachable.path().join("m");
    fs::create_dir(&place).unwrap();
    run(Command::new("mount").arg("--bind").args([mounted.path(), &place]));
    let shown = direct.arg(place.join("bin/suid")).output().unwrap();
    run(Command::new("umount").arg(&place));
    assert_eq!(text(&shown), format!("{USER}\n"), "{shown:?}");
}

/// Runs a Python script with these words.
fn python(script: &str, words: &[&Path]) -> Output {
    run(program("python3", "python3").arg("-c").arg(script).args(words))
}

/// Databases in both modes, and one with a row that is in its `-wal` file alone.
fn databases() -> Image {
    let folder = tempfile::tempdir().unwrap();
    let script = "
import os, shutil, sqlite3, sys
os.chdir(sys.argv[1])
def make(name, mode):
    database = sqlite3.connect(name)
    database.execute('pragma journal_mode=' + mode)
    database.execute('create table t(a)')
    database.execute('insert into t values (42)')
    database.commit()
    return database
make('plain', 'delete').close()
make('wal', 'wal').close()
database = make('source', 'wal')
database.execute('pragma wal_checkpoint(truncate)')
database.execute('update t set a = 43')
database.commit()
shutil.copy('source', 'live')
shutil.copy('source-wal', 'live-wal')
";
    python(script, &[folder.path()]);
    let file = |name: &str| Entry::file(name, fs::read(folder.path().join(name)).unwrap());
    Image::of(&["plain", "wal", "live", "live-wal"].map(file))
}

/// What a database below a folder has in it, or why that can't be told.
fn select(folder: &Path, name: &str, query: &str) -> String {
    let script = "
import sqlite3, sys
try:
    database = sqlite3.connect('file:' + sys.argv[1] + sys.argv[2], uri=True)
    print(database.execute('select a from t').fetchall()[0][0])
except sqlite3.OperationalError as e:
    print(e)
";
    let shown = python(script, &[&folder.join(name), Path::new(query)]);
    text(&shown).trim().to_owned()
}

#[test]
fn sqlite_on_what_can_only_be_read() {
    let (image, home) = (databases(), Home::new());
    for way in ways() {
        let mounted = home.mount_with(way, &image.reference());
        let top = mounted.path();
        assert_eq!(select(top, "plain", ""), "42");
        assert_eq!(select(top, "wal", "?mode=ro"), "unable to open database file");
        assert_eq!(select(top, "wal", "?immutable=1"), "42");
        assert_eq!(select(top, "live", "?mode=ro"), "unable to open database file");
        assert_eq!(select(top, "live", "?immutable=1"), "42", "the file alone has the old row");
        let folder = tempfile::tempdir().unwrap();
        for name in ["live", "live-wal"] {
            fs::copy(top.join(name), folder.path().join(name)).unwrap();
        }
        assert_eq!(select(folder.path(), "live", ""), "43");
    }
    // It is so on any file system that can only be read.
    let folder = tempfile::tempdir().unwrap();
    let mounted = home.mount(&image.reference());
    fs::copy(mounted.path().join("wal"), folder.path().join("wal")).unwrap();
    let script = "mount --bind . . && mount -o remount,bind,ro . && exec \"$@\"";
    let select = "import sqlite3, sys\n\
                  sqlite3.connect('file:' + sys.argv[1] + '/wal?mode=ro', uri=True)\
                  .execute('select a from t')";
    let refused = Command::new("unshare")
        .args(["--mount", "--propagation", "private", "sh", "-c", script, "sh"])
        .args(["python3", "-c", select])
        .arg(folder.path())
        .current_dir(folder.path())
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(told.contains("unable to open database file"), "{refused:?}");
}

#[test]
fn dpkg_query() {
    let status = "Package: tiny\nStatus: install ok installed\nMaintainer: nobody <n@example.org>\n\
                  Architecture: all\nVersion: 1.0\nDescription: tiny\n\n";
    let image = Image::of(&[
        Entry::dir("var/lib/dpkg"),
        Entry::file("var/lib/dpkg/status", status),
        Entry::dir("var/lib/dpkg/info"),
        Entry::dir("var/lib/dpkg/updates"),
    ]);
    let home = Home::new();
    for way in ways() {
        let mounted = home.mount_with(way, &image.reference());
        let admin = format!("--admindir={}", mounted.path().join("var/lib/dpkg").display());
        let shown = run(program("dpkg-query", "dpkg").arg(admin).arg("-W"));
        assert_eq!(text(&shown), "tiny\t1.0\n");
    }
}

/// An image with the database of one package.
fn with_rpm_database() -> Image {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let spec = "Name: tiny\nVersion: 1\nRelease: 1\nSummary: tiny\nLicense: none\nBuildArch: noarch\n\
                %description\ntiny\n%files\n";
    fs::write(path.join("tiny.spec"), spec).unwrap();
    let top = format!("_topdir {}", path.join("top").display());
    run(program("rpmbuild", "rpm")
        .args(["--define", &top, "-bb"])
        .arg(path.join("tiny.spec"))
        .env("HOME", path));
    let database = path.join("database");
    let rpm = || {
        let mut rpm = program("rpm", "rpm");
        rpm.arg("--dbpath").arg(&database).env("HOME", path);
        rpm
    };
    run(rpm().arg("--initdb"));
    run(rpm()
        .args(["-i", "--justdb", "--nodeps", "--ignorearch", "--force-debian"])
        .arg(path.join("top/RPMS/noarch/tiny-1-1.noarch.rpm")));
    let rows = fs::read(database.join("rpmdb.sqlite")).unwrap();
    let wal = fs::read(database.join("rpmdb.sqlite-wal")).unwrap_or_default();
    assert!(wal.is_empty(), "rpm has closed its database");
    Image::of(&[
        Entry::dir("usr/lib/sysimage/rpm"),
        Entry::file("usr/lib/sysimage/rpm/rpmdb.sqlite", rows),
    ])
}

#[test]
fn rpm() {
    let (image, home) = (with_rpm_database(), Home::new());
    for way in ways() {
        let mounted = home.mount_with(way, &image.reference());
        let database = mounted.path().join("usr/lib/sysimage/rpm");
        let empty = tempfile::tempdir().unwrap();
        let ask = |words: &[&Path]| {
            let mut rpm = program("rpm", "rpm");
            rpm.args(words).arg("-qa").env("HOME", empty.path()).output().unwrap()
        };
        let over_the_mount = ask(&[Path::new("--dbpath"), &database]);
        let told = String::from_utf8_lossy(&over_the_mount.stderr).into_owned();
        assert!(told.contains("unable to open database file"), "{over_the_mount:?}");
        let folder = tempfile::tempdir().unwrap();
        let copy = folder.path().join("copy");
        run(Command::new("cp").arg("-r").args([&database, &copy]));
        let shown = ask(&[Path::new("--dbpath"), &copy]);
        assert_eq!(text(&shown), "tiny-1-1.noarch\n", "{shown:?}");
        // Where it looks without being told.
        let place = text(&run(program("rpm", "rpm").args(["--eval", "%{_dbpath}"])));
        let home = std::env::var("HOME").unwrap_or_default();
        assert!(place.trim().ends_with("/.rpmdb"), "{place} {home}");
    }
}

/// Two images that differ in the content of a file alone.
fn versions() -> [Image; 2] {
    ["old", "new"]
        .map(|content| Image::of(&[Entry::dir("d"), Entry::file("d/f", content).mtime(1, 0)]))
}

#[test]
fn rsync_compares_size_and_time() {
    let (images, home) = (versions(), Home::new());
    for way in ways() {
        let target = tempfile::tempdir().unwrap();
        let copied = |image: &Image, options: &[&str]| {
            let mounted = home.mount_with(way, &image.reference());
            let source = format!("{}/", mounted.path().display());
            let mut rsync = program("rsync", "rsync");
            run(rsync.args(options).arg(source).arg(target.path()));
            fs::read_to_string(target.path().join("d/f")).unwrap()
        };
        assert_eq!(copied(&images[0], &["-a"]), "old");
        assert_eq!(copied(&images[1], &["-a"]), "old", "left as it was");
        assert_eq!(copied(&images[1], &["-a", "--checksum"]), "new");
    }
}

#[test]
fn borg_can_read_everything_again() {
    let (images, home) = (versions(), Home::new());
    for way in ways() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("place");
        fs::create_dir(&place).unwrap();
        let borg = |words: &[&str]| {
            let mut borg = program("borg", "borgbackup");
            borg.args(words).current_dir(folder.path()).env("BORG_BASE_DIR", folder.path());
            run(borg.env("BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK", "yes"))
        };
        borg(&["init", "--encryption=none", "repository"]);
        for (image, name) in images.iter().zip(["one", "two"]) {
            run(home.ocifs().arg("mount").args(*way).arg(image.reference()).arg(&place));
            let archive = format!("repository::{name}");
            borg(&["create", "--files-cache=disabled", &archive, "place"]);
            run(home.ocifs().arg("umount").arg(&place));
        }
        let shown = borg(&["extract", "--stdout", "repository::two", "place/d/f"]);
        assert_eq!(text(&shown), "new", "{way:?}");
    }
}

#[test]
fn what_kernel_metadata_lacks() {
    let (image, home) = (small(), Home::new());
    let script = "
import errno, os, sys
def tried(act):
    try:
        act()
        return 'ok'
    except OSError as e:
        return errno.errorcode[e.errno]
top = sys.argv[1]
print(tried(lambda: os.open(top + '/etc/passwd', os.O_RDONLY | os.O_DIRECT)))
for path in ['/etc/passwd', '/etc']:
    print(tried(lambda: os.fsync(os.open(top + path, os.O_RDONLY))))
";
    for way in ways() {
        let mounted = home.mount_with(way, &image.reference());
        let expected = if way.is_empty() { "ok\nok\nok\n" } else { "EINVAL\nEINVAL\nEINVAL\n" };
        assert_eq!(text(&python(script, &[mounted.path()])), expected, "{way:?}");
        let df = text(&run(Command::new("df").arg("--output=itotal").arg(mounted.path())));
        let inodes = df.lines().nth(1).map(str::trim).unwrap_or_default();
        assert_eq!(inodes == "-", !way.is_empty(), "{way:?}: {df}");
    }
}
