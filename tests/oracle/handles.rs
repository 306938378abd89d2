//! What the kernel does with a mount behind the back of paths: file handles and mounts of the mount with other owners.
//!
//! perl makes the system calls that no installed tool makes, by their numbers.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::attributes::{Caller, silent, ways};
use crate::mounted::Home;
use crate::oracle::gzip_image;
use crate::servers::{program, run};
use crate::support::image::write_oci_layout;
use crate::support::tarball::{Entry, tar};

/// name_to_handle_at and open_by_handle_at.
const HANDLE_CALLS: [&str; 2] =
    if cfg!(target_arch = "x86_64") { ["303", "304"] } else { ["264", "265"] };

/// Takes handles of names in a mount, has the kernel drop what it knows of them, opens them and prints what is in them.
const HANDLES: &str = r#"
use strict;
use Fcntl;
my ($name_to_handle_at, $open_by_handle_at, $mount, @names) = @ARGV;
my @handles = map {
    my ($path, $handle, $id) = ("$mount/$_", pack("IiC128", 128, 0), pack("i", 0));
    syscall($name_to_handle_at + 0, -100, $path, $handle, $id, 0) == 0 or die "$_: $!\n";
    $handle;
} @names;
open(my $drop, ">", "/proc/sys/vm/drop_caches") or die "drop_caches: $!\n";
syswrite($drop, "2\n") or die "drop_caches: $!\n";
sysopen(my $at, $mount, O_RDONLY) or die "$mount: $!\n";
for my $handle (@handles) {
    my $fd = syscall($open_by_handle_at + 0, fileno($at), $handle, O_RDONLY);
    $fd >= 0 or die "open_by_handle_at: $!\n";
    if (opendir(my $dir, "/proc/self/fd/$fd")) {
        print join(" ", sort grep { !/^\./ } readdir $dir), "\n";
    } else {
        open(my $file, "<&=", $fd) or die "$!\n";
        print <$file>;
    }
}
"#;

/// Mounts a mount once more, with the owners of a process's user namespace.
const IDMAP: &str = r#"
use strict;
my ($tree, $target, $pid) = @ARGV;
open(my $namespace, "<", "/proc/$pid/ns/user") or die "ns: $!\n";
my ($empty, $attr) = ("\0", pack("QQQQ", 0x00100000, 0, 0, fileno($namespace)));
my $fd = syscall(428, -100, $tree, 1 | 02000000);
$fd >= 0 or die "open_tree: $!\n";
syscall(442, $fd, $empty, 0x1000, $attr, 32) == 0 or die "mount_setattr: $!\n";
syscall(429, $fd, $empty, -100, $target, 4) == 0 or die "move_mount: $!\n";
"#;

fn perl(script: &str) -> Command {
    let mut perl = program("perl", "perl");
    perl.args(["-e", script]);
    perl
}

fn layout(folder: &Path) -> String {
    let image = gzip_image(&[tar(&[
        Entry::dir("a").mode(0o755),
        Entry::dir("a/b").mode(0o755),
        Entry::file("a/b/f", "deep\n").mode(0o400),
        Entry::file("a/b/g", "x").mode(0o644).owner(7, 8),
        Entry::file("t", "top\n").mode(0o644),
    ])]);
    write_oci_layout(folder, &[(None, &image)]).unwrap();
    format!("oci:{}", folder.display())
}

#[test]
fn handles_lead_to_their_files_after_the_kernel_has_forgotten_them() {
    let folder = tempfile::tempdir().unwrap();
    let reference = layout(folder.path());
    let home = Home::new();
    for way in ways() {
        let mounted = home.mount_with(way, &reference);
        let mut perl = perl(HANDLES);
        perl.args(HANDLE_CALLS).arg(mounted.path()).args(["t", "a", "a/b", "a/b/f"]);
        assert_eq!(run(&mut perl).stdout, b"top\nb\nf g\ndeep\n", "{way:?}");
    }
}

/// With `nfs_export`, handles of an overlay are handles of what is below it.
#[test]
fn overlays_can_be_exported() {
    let folder = tempfile::tempdir().unwrap();
    let reference = layout(&folder.path().join("image"));
    let home = Home::new();
    for way in ways() {
        let mounted = home.mount_with(way, &reference);
        let script = format!(
            "mount -t tmpfs none '{work}' && cd '{work}' && mkdir upper work merged &&
             mount -t overlay -o nfs_export=on,index=on,lowerdir='{lower}',upperdir=upper,workdir=work none merged &&
             touch merged/t && exec perl -e \"$0\" {} {} \"$PWD/merged\" t a/b a/b/f",
            HANDLE_CALLS[0],
            HANDLE_CALLS[1],
            work = folder.path().display(),
            lower = mounted.path().display(),
        );
        let mut unshare = program("unshare", "util-linux");
        unshare.args(["--mount", "bash", "-c", &script, HANDLES]);
        let output = run(&mut unshare);
        assert_eq!(output.stdout, b"top\nf g\ndeep\n", "{way:?}");
    }
}

/// A process in a user namespace of its own; it ends with this.
struct Namespaced(Child);

impl Namespaced {
    fn new() -> Namespaced {
        let mut unshare = program("unshare", "util-linux");
        // It says that it is there.
        unshare.args(["--user", "sh", "-c", "echo; exec sleep 600"]);
        let mut child = unshare.stdout(Stdio::piped()).spawn().unwrap();
        let mut said = [0];
        std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut said).unwrap();
        for map in ["uid_map", "gid_map"] {
            std::fs::write(format!("/proc/{}/{map}", child.id()), "0 100000 65536").unwrap();
        }
        Namespaced(child)
    }
}

impl Drop for Namespaced {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// As engines mount images for containers in user namespaces.
#[test]
fn a_mount_can_be_mounted_with_other_owners() {
    let folder = tempfile::tempdir().unwrap();
    let reference = layout(folder.path());
    let home = Home::new();
    let namespaced = Namespaced::new();
    for way in ways() {
        let mounted = home.mount_with(way, &reference);
        let script = format!(
            "mount -t tmpfs -o mode=755 none '{at}' && cd '{at}' && mkdir shown &&
             perl -e \"$0\" '{}' '{at}/shown' {} && cd shown &&
             stat -c '%u:%g %n' t a/b/g &&
             setpriv --reuid=100000 --regid=100000 --clear-groups cat a/b/f && cat t &&
             ! setpriv --reuid=100001 --regid=100001 --clear-groups cat a/b/f 2>/dev/null &&
             ls -lR . >/dev/null && getfattr -Rhd -m - .",
            mounted.path().display(),
            namespaced.0.id(),
            at = folder.path().display(),
        );
        let mut unshare = program("unshare", "util-linux");
        unshare.args(["--mount", "bash", "-c", &script, IDMAP]);
        let output = unshare.output().unwrap();
        let said = silent(&output, &format!("{way:?}"));
        assert_eq!(said, "100000:100000 t\n100007:100008 a/b/g\ndeep\ntop\n", "{way:?}");
        // The mount itself is as ever.
        let own = Caller::Root.run(mounted.path(), "stat -c '%u:%g %n' a/b/g");
        assert_eq!(silent(&own, "stat"), "7:8 a/b/g\n");
    }
}
