//! Extended attributes as tools meet them: what is listed can be read by the same caller, and what is absent is
//! absent in the words of a disk.

use std::collections::BTreeSet;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

use rustix::fs::{lgetxattr, llistxattr};
use rustix::io::Errno;

use crate::mounted::Home;
use crate::oracle::gzip_image;
use crate::servers::{has_kernel_metadata, program, run};
use crate::support::image::write_oci_layout;
use crate::support::tarball::{Entry, tar};

const FLAG: &str = "--kernel-metadata";

/// The ways to mount that this kernel has.
pub fn ways() -> Vec<&'static [&'static str]> {
    match has_kernel_metadata() {
        true => vec![&["--allow-other"], &[FLAG]],
        false => vec![&["--allow-other"]],
    }
}

/// Who asks.
#[derive(Clone, Copy, Debug)]
pub enum Caller {
    /// Root of the machine.
    Root,
    /// Root of the machine without `CAP_SYS_ADMIN`, as in a container.
    Contained,
    /// Root of a user namespace.
    Unshared,
    /// An ordinary user.
    Ordinary,
}

impl Caller {
    pub const ALL: [Caller; 4] =
        [Caller::Root, Caller::Contained, Caller::Unshared, Caller::Ordinary];

    /// Runs a script in a folder.
    pub fn run(self, folder: &Path, script: &str) -> Output {
        let mut command = match self {
            Caller::Root => Command::new("env"),
            Caller::Contained => {
                let mut command = program("setpriv", "util-linux");
                command.arg("--bounding-set=-sys_admin");
                command
            }
            Caller::Unshared => {
                let mut command = program("unshare", "util-linux");
                command.args(["--user", "--map-root-user", "--mount"]);
                command
            }
            Caller::Ordinary => {
                let mut command = program("setpriv", "util-linux");
                command.args(["--reuid=1000", "--regid=1000", "--clear-groups"]);
                command
            }
        };
        command.args(["bash", "-c", script]).current_dir(folder).output().unwrap()
    }
}

/// What an output says, or panics if it failed or complains.
pub fn silent(output: &Output, what: &str) -> String {
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.is_empty(), "{what}: {}\n{said}", output.status);
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// `cap_net_bind_service`, permitted and effective.
pub fn capability() -> Vec<u8> {
    let mut value = 0x0200_0001_u32.to_le_bytes().to_vec();
    value.extend_from_slice(&(1u32 << 10).to_le_bytes());
    value.resize(20, 0);
    value
}

/// Owner `rw`, user 1000 `r`, group `r`, mask `rw`, others `r`.
pub fn acl() -> Vec<u8> {
    acl_for(1000)
}

/// The same for another user.
fn acl_for(user: u32) -> Vec<u8> {
    const NOBODY: u32 = u32::MAX;
    let mut value = 2u32.to_le_bytes().to_vec();
    for (tag, permissions, id) in
        [(1u16, 6u16, NOBODY), (2, 4, user), (4, 4, NOBODY), (16, 6, NOBODY), (32, 4, NOBODY)]
    {
        value.extend_from_slice(&tag.to_le_bytes());
        value.extend_from_slice(&permissions.to_le_bytes());
        value.extend_from_slice(&id.to_le_bytes());
    }
    value
}

/// An image with everything that can't be read by all.
fn entries() -> Vec<Entry> {
    let all =
        |entry: Entry| entry.xattr("user.u", "1").xattr("trusted.t", "2").xattr("security.s", "3");
    vec![
        Entry::dir("./").mode(0o755),
        all(Entry::dir("d").mode(0o755)),
        all(Entry::file("f", "x").mode(0o755)),
        all(Entry::symlink("l", "f")),
        all(Entry::fifo("p").mode(0o644)),
        all(Entry::char_device("c", 1, 3).mode(0o644)),
        all(Entry::block_device("b", 7, 0).mode(0o644)),
        Entry::file("cap", "x").mode(0o755).xattr("security.capability", capability()),
        // Nothing that the kernel understands.
        Entry::file("bad-cap", "x").mode(0o755).xattr("security.capability", "0sAAAA"),
        Entry::file("acl", "x").mode(0o664).xattr("system.posix_acl_access", acl()),
        Entry::file("bad-acl", "x").mode(0o664).xattr("system.posix_acl_access", "rwx"),
        Entry::symlink("acl-link", "f").xattr("system.posix_acl_access", acl()),
        Entry::file("none", "x").mode(0o644),
    ]
}

#[test]
fn what_is_listed_can_be_read() {
    let folder = tempfile::tempdir().unwrap();
    let image = gzip_image(&[tar(&entries())]);
    write_oci_layout(folder.path(), &[(None, &image)]).unwrap();
    let reference = format!("oci:{}", folder.path().display());
    program("getfattr", "attr");
    let home = Home::new();
    for way in ways() {
        let mounted = home.mount_with(way, &reference);
        for caller in Caller::ALL {
            let what = format!("{way:?} {caller:?}");
            // It exits with 1 if it can't get what is listed.
            let listed = caller.run(mounted.path(), "getfattr --recursive -h -d -m - .");
            let listed = silent(&listed, &what);
            let mut names = BTreeSet::new();
            let mut file = "";
            for line in listed.lines() {
                match line.strip_prefix("# file: ") {
                    Some(path) => file = path,
                    None => {
                        names.extend(line.split_once('=').map(|(name, _)| format!("{file} {name}")))
                    }
                }
            }
            let mut expected: BTreeSet<String> = BTreeSet::new();
            for file in ["d", "f", "l", "p", "c", "b"] {
                expected.insert(format!("{file} security.s"));
                if matches!(file, "d" | "f") {
                    expected.insert(format!("{file} user.u"));
                }
                if matches!(caller, Caller::Root) {
                    expected.insert(format!("{file} trusted.t"));
                }
            }
            expected.insert("cap security.capability".to_owned());
            expected.insert("acl system.posix_acl_access".to_owned());
            assert_eq!(names, expected, "{what}");
        }
    }
}

#[test]
fn whoever_copies_gets_what_they_may_have() {
    let both = |entry: Entry| entry.xattr("user.u", "1").xattr("trusted.t", "2");
    let entries = [
        both(Entry::dir("d").mode(0o755)),
        both(Entry::file("d/f", "x").mode(0o644)),
        both(Entry::symlink("d/l", "f")),
        both(Entry::fifo("d/p").mode(0o644)),
    ];
    let folder = tempfile::tempdir().unwrap();
    write_oci_layout(folder.path(), &[(None, &gzip_image(&[tar(&entries)]))]).unwrap();
    let home = Home::new();
    program("rsync", "rsync");
    for way in ways() {
        let mounted = home.mount_with(way, &format!("oci:{}", folder.path().display()));
        for caller in Caller::ALL {
            let copies = tempfile::tempdir().unwrap();
            fs::set_permissions(copies.path(), Permissions::from_mode(0o777)).unwrap();
            let copy = copies.path().display();
            // An ordinary user can't keep owners.
            let script = format!(
                "rsync -rlptX --specials d '{copy}/rsync' &&
                 cp --recursive --no-dereference --preserve=mode,timestamps,xattr d '{copy}/cp' &&
                 cd '{copy}' && getfattr -Rhd -m - . | grep = | sort | uniq -c | tr -s ' '"
            );
            let kept = silent(&caller.run(mounted.path(), &script), &format!("{way:?} {caller:?}"));
            let expected = match caller {
                Caller::Root => " 8 trusted.t=\"2\"\n 4 user.u=\"1\"\n",
                _ => " 4 user.u=\"1\"\n",
            };
            assert_eq!(kept, expected, "{way:?} {caller:?}");
        }
    }
}

/// In a mount that is made in a user namespace without all IDs, the kernel refuses to read any ACL.
#[test]
fn mounts_in_a_user_namespace_have_what_it_knows() {
    let mut entries = entries();
    // One that names users of the namespace alone is no exception.
    let own = Entry::file("acl-of-root", "x").mode(0o664);
    entries.push(own.xattr("system.posix_acl_access", acl_for(0)));
    let folder = tempfile::tempdir().unwrap();
    write_oci_layout(folder.path(), &[(None, &gzip_image(&[tar(&entries)]))]).unwrap();
    let (home, place) = (Home::new(), folder.path().join("place"));
    fs::create_dir(&place).unwrap();
    let mut unshare = program("unshare", "util-linux");
    unshare.args(["--user", "--map-root-user", "--mount", "bash", "-c"]);
    unshare.arg(
        r#""$0" mount "$1" "$2" 2>/dev/null && cd "$2" && getfattr -Rhd -m - . && ls -lR . >/dev/null &&
           getfacl -R . >/dev/null && tar c --xattrs --acls . | cat >/dev/null; code=$?
           cd / && "$0" umount "$2" && exit $code"#,
    );
    unshare.arg(home.ocifs().get_program()).arg(format!("oci:{}", folder.path().display()));
    unshare
        .arg(&place)
        .envs(home.ocifs().get_envs().filter_map(|(name, value)| Some((name, value?))));
    let listed = silent(&unshare.output().unwrap(), "a user namespace");
    assert!(!listed.contains("acl_access"), "{listed}");
    assert!(listed.contains("user.u") && !listed.contains("trusted.t"), "{listed}");
}

/// The values are what `getxattr(2)` says of a disk where there is nothing.
#[test]
fn what_is_absent_is_absent() {
    let folder = tempfile::tempdir().unwrap();
    let plain =
        [Entry::file("f", "x"), Entry::dir("d"), Entry::symlink("l", "f"), Entry::fifo("p")];
    let other = Entry::file("other", "x").xattr("user.x", "y");
    let with_one = [&plain[..], &[other]].concat();
    let home = Home::new();
    for (number, entries) in [&plain[..], &with_one].into_iter().enumerate() {
        let path = folder.path().join(number.to_string());
        write_oci_layout(&path, &[(None, &gzip_image(&[tar(entries)]))]).unwrap();
        for way in ways() {
            let mounted = home.mount_with(way, &format!("oci:{}", path.display()));
            // Each twice: an answer must not end the questions.
            for name in ["f", "d", "l", "p", "f", "d", "l", "p"] {
                let at = mounted.path().join(name);
                let mut none = [0u8; 64];
                assert_eq!(llistxattr(&at, &mut none[..]), Ok(0), "{way:?} {name}");
                let mut get = |attribute: &str| lgetxattr(&at, attribute, &mut none[..]).err();
                for attribute in ["user.x", "trusted.x", "security.capability", "security.selinux"]
                {
                    assert_eq!(get(attribute), Some(Errno::NODATA), "{way:?} {name} {attribute}");
                }
                for attribute in ["system.posix_acl_access", "system.posix_acl_default"] {
                    let expected = if name == "l" { Errno::OPNOTSUPP } else { Errno::NODATA };
                    assert_eq!(get(attribute), Some(expected), "{way:?} {name} {attribute}");
                }
                for attribute in ["nonsense", "system.nfs4_acl"] {
                    assert_eq!(get(attribute), Some(Errno::OPNOTSUPP), "{name} {attribute}");
                }
            }
            let top = mounted.path();
            for tool in [
                "getfattr --recursive -h -d -m - .",
                "tar c --xattrs --acls . | cat > /dev/null",
                "getfacl --recursive --physical . > /dev/null",
            ] {
                silent(&Caller::Root.run(top, tool), tool);
            }
            let images = tempfile::tempdir().unwrap();
            let made = images.path().join("image");
            run(program("mkfs.erofs", "erofs-utils").arg(&made).arg(top));
        }
    }
}
