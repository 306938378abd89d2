//! What tools make of a mount is what they make of a plain folder with the same in it, to the last attribute, without
//! an error and without a warning.
//!
//! The folder is what umoci unpacks. Each tool copies the one and the other, and the copies are compared; overlays over
//! both are changed, and what can be seen then is compared.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::attributes::{Caller, acl, capability, silent, ways};
use crate::mounted::Home;
use crate::oracle::gzip_image;
use crate::servers::{program, run};
use crate::snapshot::Snapshot;
use crate::support::image::write_oci_layout;
use crate::support::tarball::{Entry, tar};

/// Everything that an image may have, in two layers.
fn lower() -> Vec<Entry> {
    let mut entries = vec![
        Entry::dir("./").mode(0o755).mtime(1, 0),
        Entry::dir("bin").mode(0o755).mtime(2, 5),
        Entry::file("bin/tool", "#!/bin/sh\n").mode(0o755).mtime(1_700_000_000, 123_456_789),
        Entry::file("bin/set-uid", "x").mode(0o4755),
        Entry::file("bin/ping", "x").mode(0o755).xattr("security.capability", capability()),
        Entry::hardlink("bin/pong", "bin/ping"),
        Entry::symlink("bin/sh", "tool").mtime(3, 0),
        Entry::symlink("dangling", "/no/where"),
        Entry::dir("etc").mode(0o750).owner(0, 42),
        Entry::file("etc/shadow", "secret").mode(0o640).owner(0, 42),
        Entry::file("etc/removed", "x"),
        Entry::dir("var").mode(0o755),
        Entry::dir("var/tmp").mode(0o1777),
        Entry::file("var/of-user", "x").owner(1000, 1000).xattr("user.comment", "hello"),
        Entry::file("var/trusted", "x").xattr("trusted.t", "t").xattr("user.u", "u"),
        Entry::symlink("var/trusted-link", "trusted").xattr("trusted.t", "l"),
        Entry::dir("var/marked").mode(0o755).xattr("trusted.t", "d").xattr("user.u", "d"),
        Entry::file("var/marked/inside", "x").xattr("user.u", "f"),
        Entry::file("var/acl", "x").mode(0o664).xattr("system.posix_acl_access", acl()),
        Entry::dir("var/acl.d").mode(0o775).xattr("system.posix_acl_default", acl()),
        Entry::dir("dev").mode(0o755),
        Entry::char_device("dev/null", 1, 3).mode(0o666),
        Entry::block_device("dev/loop", 7, 1).mode(0o660).owner(0, 6),
        Entry::fifo("dev/pipe").mode(0o600).xattr("trusted.t", "p"),
        Entry::dir("empty").mode(0o711),
        Entry::file("zero", ""),
        Entry::file("uml\u{e4}ut", "x"),
    ];
    for n in 0..30 {
        let path = format!("usr/share/{}/{n}", n % 3);
        entries.push(Entry::file(path, format!("{n}").repeat(1 + n * 700)).mtime(n as i64, 0));
    }
    let mut dirs: Vec<Entry> = ["usr", "usr/share", "usr/share/0", "usr/share/1", "usr/share/2"]
        .map(|path| Entry::dir(path).mode(0o755).mtime(9, 0))
        .to_vec();
    entries.splice(1..1, dirs.drain(..));
    entries
}

fn upper() -> Vec<Entry> {
    vec![
        Entry::dir("etc").mode(0o755).mtime(11, 0),
        Entry::file("etc/.wh.removed", ""),
        Entry::file("etc/new", "new").mtime(10, 0),
    ]
}

/// An image, and what umoci makes of it.
struct Pair {
    folder: TempDir,
    reference: String,
    plain: PathBuf,
}

impl Pair {
    fn new() -> Pair {
        let folder = tempfile::tempdir().unwrap();
        let layout = folder.path().join("layout");
        let image = gzip_image(&[tar(&lower()), tar(&upper())]);
        write_oci_layout(&layout, &[(Some("latest"), &image)]).unwrap();
        let bundle = folder.path().join("bundle");
        let image = format!("{}:latest", layout.display());
        run(program("umoci", "umoci").args(["unpack", "--image", &image]).arg(&bundle));
        let plain = bundle.join("rootfs");
        Pair { reference: format!("oci:{}", layout.display()), plain, folder }
    }

    /// Runs a script for the folder and for the mount, as `$1`, with a new folder `$2` to write to; gives what comes of it.
    fn both(&self, mount: &Path, name: &str, script: &str) -> [(PathBuf, String); 2] {
        [&self.plain, mount].map(|source| {
            let out = tempfile::tempdir_in(self.folder.path()).unwrap().keep();
            let mut bash = Command::new("bash");
            bash.args(["-e", "-o", "pipefail", "-c", script, name]).arg(source).arg(&out);
            let said = silent(&bash.output().unwrap(), &format!("{name} of {}", source.display()));
            (out, said)
        })
    }
}

#[test]
fn copies_are_those_of_a_plain_folder() {
    for (name, package) in [
        ("rsync", "rsync"),
        ("bsdtar", "libarchive-tools"),
        ("mksquashfs", "squashfs-tools"),
        ("fsck.erofs", "erofs-utils"),
        ("getfacl", "acl"),
    ] {
        program(name, package);
    }
    let (pair, home) = (Pair::new(), Home::new());
    for way in ways() {
        let mounted = home.mount_with(way, &pair.reference);
        for (name, script) in [
            ("rsync", r#"rsync -aHAX --numeric-ids "$1/" "$2/copy""#),
            ("cp", r#"cp -a --preserve=all "$1" "$2/copy""#),
            (
                "tar",
                r#"mkdir "$2/copy"; options="--xattrs --xattrs-include=* --acls --numeric-owner"
                tar -c $options -C "$1" . | tar -xp $options -C "$2/copy""#,
            ),
            (
                "bsdtar",
                r#"mkdir "$2/copy"; options="--xattrs --acls --numeric-owner"
                bsdtar -c $options -C "$1" -f - . | bsdtar -xp $options -C "$2/copy" -f -"#,
            ),
            (
                "bsdcpio",
                r#"mkdir "$2/copy"; cd "$1"; find . -print0 > "$2/names"
                bsdcpio --quiet -0 -o -H newc < "$2/names" > "$2/archive"
                cd "$2/copy"; bsdcpio --quiet -idm < "$2/archive""#,
            ),
            (
                // It keeps no ACLs, and says so of a folder as well.
                "mksquashfs",
                r#"mksquashfs "$1" "$2/image" -no-progress -quiet -xattrs 2>&1 |
                   { grep -v 'prefix system.posix_acl' || true; } >&2
                unsquashfs -no-progress -quiet -d "$2/copy" "$2/image" >/dev/null"#,
            ),
            (
                "mkfs.erofs",
                r#"mkfs.erofs -d1 "$2/image" "$1" >/dev/null
                fsck.erofs --extract="$2/copy" --preserve "$2/image" >/dev/null"#,
            ),
            (
                "du",
                r#"mkdir "$2/copy"; cd "$1"; find . -type f -print0 | du -b --files0-from=- | cut -f1 | sort -n"#,
            ),
            (
                "find",
                r#"mkdir "$2/copy"; cd "$1"
                find . -printf '%p %y %m %U %G %n %T@ %l\n' | sed 's/\(^.* d .* \)[0-9]* /\1/' | sort"#,
            ),
            ("getfacl", r#"mkdir "$2/copy"; cd "$1"; getfacl -RPn . | sort"#),
            ("getcap", r#"mkdir "$2/copy"; cd "$1"; PATH=$PATH:/usr/sbin; getcap -r . | sort"#),
            (
                "ls",
                r#"mkdir "$2/copy"; cd "$1"; ls -lRn --time-style=full-iso . | grep -v '^d\|^total' | tr -s ' '"#,
            ),
        ] {
            // Not all of them date the folder that they unpack to.
            let script = match name {
                "rsync" | "cp" | "tar" => script.to_owned(),
                _ => format!("{script}\ntouch -d @0 \"$2/copy\""),
            };
            let [(plain, said), (own, own_said)] = pair.both(mounted.path(), name, &script);
            let what = format!("{name} {way:?}");
            Snapshot::assert_same(
                &Snapshot::of(&plain.join("copy")),
                &Snapshot::of(&own.join("copy")),
                &what,
            );
            assert_eq!(own_said, said, "{what}");
            fs::remove_dir_all(plain).unwrap();
            fs::remove_dir_all(own).unwrap();
        }
        // And nothing is left to do.
        let left = r#"rsync -aHAXni --checksum --delete "$1/" "$2/""#;
        let mut rsync = Command::new("bash");
        rsync.args(["-c", left, "rsync"]).arg(mounted.path()).arg(&pair.plain);
        assert_eq!(silent(&rsync.output().unwrap(), "rsync"), "", "{way:?}");
    }
}

/// What is done in the overlay, and what can be seen of it then.
const CHANGES: &str = r#"
    touch -d @77 bin/tool var/marked zero
    echo more >> var/trusted
    chmod 0700 bin/ping
    chmod 0600 bin/tool var/marked/inside
    chmod u+s,g-r bin/set-uid
    mv var/marked/inside var/moved
    mv usr/share/0 usr/zero
    mv var/marked var/renamed
    ln bin/tool bin/linked
    rm -r usr/share/1
    rm dangling bin/sh
    mkdir usr/share/1 && echo back > usr/share/1/0
    setfattr -n user.new -v 1 zero
    cat usr/share/2/2 usr/zero/0 > /dev/null
    find . -printf '%p %y %m %U %G %l\n' | sort
    find . -type f -print0 | sort -z | xargs -0 sha256sum
    getfattr -Rhd -m - . | grep -v '^#' | sort
    PATH=$PATH:/usr/sbin; getcap -r . | sort
"#;

/// Over the folder `$1`, with an upper directory in memory, and with what options root or anybody needs.
const OVERLAY: &str = r#"
    set -e
    mount -t tmpfs none /mnt; cd /mnt; mkdir upper work merged
    mount -t overlay -o "$2lowerdir=$1,upperdir=upper,workdir=work" none merged
    cd merged
"#;

#[test]
fn overlays_can_be_changed() {
    let (pair, home) = (Pair::new(), Home::new());
    for way in ways() {
        let mounted = home.mount_with(way, &pair.reference);
        for (caller, options) in [
            (Caller::Root, ""),
            (Caller::Root, "index=on,metacopy=on,redirect_dir=on,xino=on,"),
            (Caller::Unshared, "userxattr,"),
        ] {
            let script = |lower: &Path| {
                format!("set -- '{}' '{options}'\n{OVERLAY}{CHANGES}", lower.display())
            };
            let changed = |lower: &Path| {
                let script = match caller {
                    Caller::Unshared => script(lower),
                    _ => format!("exec unshare --mount bash <<'END'\n{}\nEND", script(lower)),
                };
                silent(&caller.run(Path::new("/"), &script), &format!("{caller:?} {way:?}"))
            };
            let (expected, got) = (changed(&pair.plain), changed(mounted.path()));
            assert!(expected.contains("./usr/zero/0"), "{expected}");
            assert_eq!(got, expected, "{caller:?} {options} {way:?}");
        }
    }
}
