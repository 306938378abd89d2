//! mount(8), lines of fstab(5), and what service managers are told.
//!
//! Everything happens in a mount namespace of its own, where `/sbin` has the links that an administrator makes.

use std::fs;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::mounted::Home;
use crate::servers::need_root_and_fuse;
use crate::support::image::{Compression, ImageBuilder, write_oci_layout};
use crate::support::tarball::{Entry, tar};

/// Nothing here takes nearly as long.
const HANG: Duration = Duration::from_secs(30);

const CONTENT: &str = "from the image\n";

/// A folder with an image, `layout`, and a directory to mount on, `m`.
struct Place {
    folder: TempDir,
    home: Home,
}

impl Place {
    fn new() -> Place {
        need_root_and_fuse();
        let place = Place { folder: tempfile::tempdir().unwrap(), home: Home::new() };
        let program = Entry::file("program", "#!/bin/sh\necho runs\n").mode(0o755);
        let tarball = tar(&[Entry::file("f", CONTENT), program]);
        let image = ImageBuilder::new().layer(&tarball, Compression::Gzip).build();
        write_oci_layout(&place.path().join("layout"), &[(None, &image)]).unwrap();
        let other = tar(&[Entry::file("g", CONTENT)]);
        let other = ImageBuilder::new().layer(&other, Compression::Gzip).build();
        write_oci_layout(&place.path().join("other"), &[(None, &other)]).unwrap();
        for name in ["m", "n", "links", "merged"] {
            fs::create_dir(place.path().join(name)).unwrap();
        }
        for name in ["mount.ocifs", "mount.fuse.ocifs"] {
            let link = place.path().join("links").join(name);
            std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_ocifs"), link).unwrap();
        }
        place
    }

    fn path(&self) -> PathBuf {
        self.folder.path().canonicalize().unwrap()
    }

    fn image(&self) -> String {
        format!("oci:{}", self.path().join("layout").display())
    }

    fn ocifs(&self, words: &[&str]) -> Command {
        let mut command = self.home.ocifs();
        command.args(words);
        command
    }

    /// Runs a script in the folder; it ends at the first command that fails. Nothing that it mounts stays.
    fn script(&self, script: &str) -> Output {
        let path = self.path();
        let before = "umount --all --lazy --types fuse.ocifs,erofs; set -eu; \
                      test -x /sbin/mount.fuse; \
                      mount -t overlay sbin -o lowerdir=$L/links:/usr/sbin /usr/sbin; cd $L; ";
        let ocifs = self.home.ocifs();
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private", "sh", "-c"]);
        command.arg(before.to_owned() + script + "\numount --all --types fuse.ocifs");
        command.env("L", &path).env("I", self.image()).env("O", env!("CARGO_BIN_EXE_ocifs"));
        for (name, value) in ocifs.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        command.stdin(Stdio::null()).output().unwrap()
    }

    #[track_caller]
    fn prints(&self, script: &str, expected: &str) {
        let output = self.script(script);
        let stdout = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && stdout == expected, "{script}: {output:?}");
    }
}

#[test]
fn mount_finds_the_program_by_the_type() {
    let place = Place::new();
    for kind in ["ocifs", "fuse.ocifs"] {
        let script = format!(
            "mount -t {kind} $I m; cat m/f; umount m; \
             mount -t {kind} $I m -o ro,noexec,nosuid,platform=linux/amd64,x-a.b=c; \
             grep \"$L/m \" /proc/mounts | grep -c noexec; \
             ! m/program 2>/dev/null; umount m; mount -v -t {kind} -o allow_other $I $L/m; \
             grep \"$L/m \" /proc/mounts | grep -c allow_other"
        );
        place.prints(&script, &format!("{CONTENT}1\n1\n"));
    }
}

/// The helper that comes with libfuse runs `ocifs` as it finds it in its own `PATH`.
#[test]
fn mount_fuse_finds_the_program_too() {
    let place = Place::new();
    let script = "mkdir local; ln -s $O local/ocifs; rm links/*; mount --bind local /usr/local/bin; \
                  export PATH=/usr/local/bin:$PATH; mount -t fuse.ocifs $I m -o allow_other; cat m/f; umount m; \
                  mount -t fuse ocifs#$I m; cat m/f";
    place.prints(script, &CONTENT.repeat(2));
}

#[test]
fn lines_of_fstab() {
    let place = Place::new();
    let write = "printf '%s %s %s %s 0 0\n' \
                 $I $L/m ocifs defaults,nofail,_netdev,x-systemd.automount,strict_modes \
                 oci:$L/other $L/n fuse.ocifs ro,noatime,user,cache_dir=$L/cache,timeout=30s \
                 $I $L/merged ocifs noauto > fstab; ";
    // What is mounted already stays when `mount -a` runs again.
    let script = "mount -T fstab -a; cat m/f n/g; test -e cache; mount -T fstab -a; \
                  $O umount m; mount -T fstab -a; mount -T fstab $L/merged; cat m/f merged/f; \
                  grep -c fuse.ocifs /proc/mounts; umount --all --types fuse.ocifs; \
                  ! grep fuse.ocifs /proc/mounts";
    place.prints(&(write.to_owned() + script), &(CONTENT.repeat(4) + "3\n"));
}

#[test]
fn options_that_can_not_be_heeded() {
    let place = Place::new();
    for (command, code, words) in [
        (
            "mount -t ocifs $I m -o nonsense",
            1,
            "unknown mount option `nonsense`; ocifs has: exclude_base, platform,",
        ),
        ("mount -t ocifs $I m -o platform=a/b/c/d", 1, "platform"),
        ("mount -t ocifs $I m -o offline=yes", 1, "takes no value"),
        ("mount -t ocifs oci:/none m", 32, "/none"),
        ("mount -t ocifs $I none", 32, ""),
        ("mount -t ocifs 'De bian' m", 1, "De bian"),
        ("mount -t ocifs $I m; mount -o remount,allow_other m", 1, "unmount it and mount it again"),
        ("mount -t ocifs $I m; mount -t ocifs oci:$L/other m", 32, "already"),
    ] {
        let output = place.script(command);
        let stderr = String::from_utf8_lossy(&output.stderr);
        // mount(8) refuses some of it itself.
        let is_right = output.status.code() == Some(code) && stderr.contains(words);
        assert!(is_right, "{command}: {output:?}");
    }
    place
        .prints("mount --fake -t ocifs $I m; mount -s -t ocifs $I m -o nonsense; cat m/f", CONTENT);
}

/// The namespace that mount(8) is told is where the mount and its files are.
#[test]
fn mounts_in_another_namespace() {
    let place = Place::new();
    let script = "unshare --mount --propagation private sh -c 'touch ready; exec sleep 60' & \
                  while ! test -e ready; do sleep 0.05; done; \
                  mount -N $! -t ocifs $I $L/m; nsenter -t $! -m cat $L/m/f; ls m; \
                  nsenter -t $! -m umount $L/m; kill $!";
    place.prints(script, CONTENT);
}

/// To the kernel a mount can be made writable. The image can't.
#[test]
fn remounted_for_writing() {
    let place = Place::new();
    let changes = [
        "touch m/f",
        "touch m/new",
        "mkdir m/d",
        "mknod m/p p",
        "rm m/f",
        "mv m/f m/g",
        "ln m/f m/g",
        "ln -s f m/g",
        "chmod 1 m/f",
        "chown 1 m/f",
        "truncate -s 0 m/f",
        "truncate -s 99 m/f",
        "dd if=/dev/zero of=m/f count=1 conv=notrunc",
        "fallocate -l 9999 m/f",
        "setfattr -n user.a -v b m/f",
        "setfattr -x user.a m/f",
        "cp /etc/passwd m/f",
        "rmdir m",
    ];
    let mut script = "mount -t ocifs $I m; mount -i -o remount,rw m; ".to_owned();
    for change in &changes[..changes.len() - 1] {
        script += &format!(
            "! {change} 2>err || exit 9; grep -q 'Read-only file system' err || cat err; "
        );
    }
    script += "cat m/f";
    place.prints(&script, CONTENT);
}

/// What the kernel lets go of and an overlay does not is told, and goes with the overlay.
#[test]
fn an_overlay_over_a_mount_that_is_gone() {
    let place = Place::new();
    let script = "mkdir u w; mount -t ocifs $I m; \
                  mount -t overlay o -o lowerdir=m,upperdir=u,workdir=w,nosuid,nodev merged; \
                  echo new > merged/f; $O umount m 2>told; grep -c \"the overlay at $L/merged\" told; \
                  $O status | grep -c \"the overlay at $L/merged\"; cat merged/f merged/program; \
                  umount merged; for i in $(seq 100); do test -n \"$($O status)\" || break; sleep 0.1; done; \
                  $O status";
    place.prints(script, "1\n1\nnew\n#!/bin/sh\necho runs\n");
}

/// What comes to the socket of a service manager, and when.
fn notices(place: &Place, socket: &UnixDatagram, name: &str, flags: &[&str]) {
    socket.set_read_timeout(Some(HANG)).unwrap();
    let (image, target) = (place.image(), place.path().join("m"));
    let mut command = place.ocifs(&["mount", "--foreground"]);
    let mut child =
        command.args(flags).arg(&image).arg(&target).env("NOTIFY_SOCKET", name).spawn().unwrap();
    let mut buf = [0; 256];
    let mut told = || {
        let length = socket.recv(&mut buf).unwrap();
        String::from_utf8(buf[..length].to_vec()).unwrap()
    };
    assert_eq!(told(), "READY=1");
    assert_eq!(fs::read_to_string(target.join("f")).unwrap(), CONTENT, "it answers by then");
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    assert_eq!(told(), "STOPPING=1");
    let begun = Instant::now();
    while child.try_wait().unwrap().is_none() {
        assert!(begun.elapsed() < HANG);
        thread::sleep(Duration::from_millis(10));
    }
    assert!(child.wait().unwrap().success());
}

#[test]
fn service_managers_are_told() {
    let place = Place::new();
    let path = place.path().join("notify");
    notices(&place, &UnixDatagram::bind(&path).unwrap(), path.to_str().unwrap(), &[]);
    let name = format!("ocifs-test-{}", std::process::id());
    let address = SocketAddr::from_abstract_name(&name).unwrap();
    let socket = UnixDatagram::bind_addr(&address).unwrap();
    notices(&place, &socket, &format!("@{name}"), &["--strict-modes"]);
    // Nobody listens there; one who does not wait in the foreground tells nobody.
    socket.set_nonblocking(true).unwrap();
    let gone = Path::new("/none/socket").to_str().unwrap();
    for socket_name in [gone, &format!("@{name}")] {
        let mut mount = place.ocifs(&["mount", &place.image()]);
        let mount = mount.arg(place.path().join("m")).env("NOTIFY_SOCKET", socket_name);
        assert!(mount.status().unwrap().success());
        let mut umount = place.ocifs(&["umount"]);
        assert!(umount.arg(place.path().join("m")).status().unwrap().success());
    }
    assert!(socket.recv(&mut [0; 9]).is_err());
}
