//! Everything that `lstat`, `readlink`, `listxattr` and `read` say of a directory tree.
//!
//! Two trees are equal to a user if their snapshots are. What is left out is what no file system
//! promises to keep: inode numbers as such (which paths *share* an inode is kept), sizes and link
//! counts of directories, and the times of access and of change.
//!
//! Allocated blocks are recorded for regular files on ext4 and FUSE, where a file takes whole
//! blocks of 4 KiB and `ocifs` promises the same. They are left out on other file systems, and for
//! files with extended attributes, since ext4 counts the block that holds these as the file's.

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsStr;
use std::fmt::Write;
use std::fs::{self, Metadata, Permissions};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, chown, symlink};
use std::path::Path;
use std::time::{Duration, SystemTime};

use rustix::fs::XattrFlags;

use crate::support::image::sha256;

/// Differences that are printed before the rest is only counted.
const PRINTED: usize = 20;

/// The largest list of names, and the largest value, that Linux has for extended attributes.
const XATTR_BYTES: usize = 65536;

/// What is at one path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// The letter that `find -printf %y` has for the type.
    pub kind: char,
    /// Permissions with setuid, setgid and sticky.
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    /// Number of names, not for directories.
    pub nlink: Option<u64>,
    /// Size of files and symlinks.
    pub size: Option<u64>,
    /// Allocated units of 512 bytes, where they can be compared.
    pub blocks: Option<u64>,
    /// Seconds and nanoseconds, where the nanoseconds always count forward.
    pub mtime: (i64, i64),
    /// Number of a device.
    pub rdev: Option<u64>,
    /// Where a symlink leads.
    pub target: Option<Vec<u8>>,
    /// Digest of a file's content.
    pub sha256: Option<String>,
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    /// The first path, in the order of bytes, that has the same inode, if that is another one.
    pub same_inode_as: Option<Vec<u8>>,
}

impl Node {
    /// The fields by name, as text for people.
    fn fields(&self) -> [(&'static str, String); 13] {
        let text = |bytes: &Vec<u8>| bytes.escape_ascii().to_string();
        let xattrs: Vec<String> = self
            .xattrs
            .iter()
            .map(|(name, value)| format!("{}={}", text(name), text(value)))
            .collect();
        [
            ("type", self.kind.to_string()),
            ("mode", format!("{:04o}", self.mode)),
            ("uid", self.uid.to_string()),
            ("gid", self.gid.to_string()),
            ("nlink", format!("{:?}", self.nlink)),
            ("size", format!("{:?}", self.size)),
            ("blocks", format!("{:?}", self.blocks)),
            ("mtime", format!("{:?}", self.mtime)),
            ("rdev", format!("{:?}", self.rdev)),
            ("target", format!("{:?}", self.target.as_ref().map(text))),
            ("content", format!("{:?}", self.sha256)),
            ("xattrs", xattrs.join(", ")),
            ("same inode as", format!("{:?}", self.same_inode_as.as_ref().map(text))),
        ]
    }
}

/// All nodes by their paths below the top, which itself has the empty path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot(BTreeMap<Vec<u8>, Node>);

impl Snapshot {
    /// Walks the tree at `top`.
    pub fn of(top: &Path) -> Snapshot {
        let mut walk = Walk { has_blocks: has_comparable_blocks(top), nodes: BTreeMap::new() };
        walk.visit(top, Vec::new());
        let mut first_paths = HashMap::new();
        let nodes = walk.nodes.into_iter().map(|(path, (inode, mut node))| {
            let first = first_paths.entry(inode).or_insert_with(|| path.clone());
            node.same_inode_as = (*first != path).then(|| first.clone());
            (path, node)
        });
        Snapshot(nodes.collect())
    }

    /// The node at a path, which has to exist.
    pub fn node_mut(&mut self, path: &[u8]) -> &mut Node {
        let node = self.0.get_mut(path);
        node.unwrap_or_else(|| panic!("nothing is at `{}`", path.escape_ascii()))
    }

    /// The paths without the top.
    pub fn paths(&self) -> impl Iterator<Item = &[u8]> {
        self.0.keys().map(Vec::as_slice).filter(|path| !path.is_empty())
    }

    /// Panics with the first differences if `got` is not as `expected`.
    pub fn assert_same(expected: &Snapshot, got: &Snapshot, whose: &str) {
        let differences = expected.differences(got);
        let mut text = String::new();
        for difference in differences.iter().take(PRINTED) {
            writeln!(text, "  {difference}").unwrap();
        }
        assert!(
            differences.is_empty(),
            "{whose}: {} differences, left is expected:\n{text}",
            differences.len()
        );
    }

    fn differences(&self, other: &Snapshot) -> Vec<String> {
        let mut found = Vec::new();
        for (path, left) in &self.0 {
            let name = format!("/{}", path.escape_ascii());
            let Some(right) = other.0.get(path) else {
                found.push(format!("{name}: missing"));
                continue;
            };
            for ((field, left), (_, right)) in left.fields().into_iter().zip(right.fields()) {
                let unknown = field == "blocks" && (left == "None" || right == "None");
                if left != right && !unknown {
                    found.push(format!("{name}: {field} {left} != {right}"));
                }
            }
        }
        for path in other.0.keys().filter(|path| !self.0.contains_key(*path)) {
            found.push(format!("/{}: should not exist", path.escape_ascii()));
        }
        found
    }
}

struct Walk {
    has_blocks: bool,
    /// Nodes with device and inode number.
    nodes: BTreeMap<Vec<u8>, ((u64, u64), Node)>,
}

impl Walk {
    fn visit(&mut self, at: &Path, path: Vec<u8>) {
        let fail = |e: std::io::Error| -> ! { panic!("{}: {e}", at.display()) };
        let metadata = fs::symlink_metadata(at).unwrap_or_else(|e| fail(e));
        if metadata.is_dir() {
            for entry in fs::read_dir(at).unwrap_or_else(|e| fail(e)) {
                let entry = entry.unwrap_or_else(|e| fail(e));
                let mut below = path.clone();
                if !below.is_empty() {
                    below.push(b'/');
                }
                below.extend_from_slice(entry.file_name().as_bytes());
                self.visit(&entry.path(), below);
            }
        }
        let node = self.node(at, &metadata);
        let double = self.nodes.insert(path, ((metadata.dev(), metadata.ino()), node));
        assert!(double.is_none(), "{}: listed twice", at.display());
    }

    fn node(&self, at: &Path, metadata: &Metadata) -> Node {
        let kind = metadata.file_type();
        let is_device = kind.is_char_device() || kind.is_block_device();
        let has_size = kind.is_file() || kind.is_symlink();
        let xattrs = xattrs(at);
        Node {
            kind: match () {
                () if kind.is_file() => 'f',
                () if kind.is_dir() => 'd',
                () if kind.is_symlink() => 'l',
                () if kind.is_fifo() => 'p',
                () if kind.is_char_device() => 'c',
                () if kind.is_block_device() => 'b',
                () => panic!("{}: no image has a {kind:?}", at.display()),
            },
            mode: metadata.mode() & 0o7777,
            uid: metadata.uid(),
            gid: metadata.gid(),
            nlink: (!kind.is_dir()).then(|| metadata.nlink()),
            size: has_size.then(|| metadata.size()),
            blocks: (self.has_blocks && kind.is_file() && xattrs.is_empty())
                .then(|| metadata.blocks()),
            mtime: (metadata.mtime(), metadata.mtime_nsec()),
            rdev: is_device.then(|| metadata.rdev()),
            target: kind
                .is_symlink()
                .then(|| fs::read_link(at).unwrap().into_os_string().into_vec()),
            sha256: kind.is_file().then(|| {
                let content = fs::read(at).unwrap_or_else(|e| panic!("{}: {e}", at.display()));
                sha256(&content)
            }),
            xattrs,
            same_inode_as: None,
        }
    }
}

fn has_comparable_blocks(top: &Path) -> bool {
    const EXT4: i64 = 0xef53;
    const FUSE: i64 = 0x6573_5546;
    let kind = rustix::fs::statfs(top).unwrap().f_type;
    [EXT4, FUSE].contains(&kind)
}

fn xattrs(at: &Path) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let mut buffer = vec![0; XATTR_BYTES];
    let length = rustix::fs::llistxattr(at, &mut buffer[..])
        .unwrap_or_else(|e| panic!("llistxattr {}: {e}", at.display()));
    let names: Vec<Vec<u8>> =
        buffer[..length].split_inclusive(|byte| *byte == 0).map(<[u8]>::to_vec).collect();
    let value = |name: Vec<u8>| {
        let name = name.strip_suffix(b"\0").expect("every name ends in a NUL").to_vec();
        let length = rustix::fs::lgetxattr(at, OsStr::from_bytes(&name), &mut buffer[..])
            .unwrap_or_else(|e| panic!("lgetxattr {} {}: {e}", at.display(), name.escape_ascii()));
        (name, buffer[..length].to_vec())
    };
    names.into_iter().map(value).collect()
}

/// An oracle that can't tell two trees apart would agree with everything.
#[test]
fn every_difference_is_found() {
    type Change = fn(&Path);
    let changes: &[(&str, Change)] = &[
        ("/new: should not exist", |top| fs::write(top.join("new"), "").unwrap()),
        ("/a: missing", |top| fs::remove_file(top.join("a")).unwrap()),
        ("/a: mode 0644 != 0600", |top| {
            fs::set_permissions(top.join("a"), Permissions::from_mode(0o600)).unwrap();
        }),
        ("/a: uid 0 != 7", |top| chown(top.join("a"), Some(7), None).unwrap()),
        ("/a: gid 0 != 8", |top| chown(top.join("a"), None, Some(8)).unwrap()),
        ("/a: mtime (0, 0) != (0, 1)", |top| set_mtime(&top.join("a"), 1)),
        ("/a: nlink Some(1) != Some(2)", |top| {
            fs::remove_file(top.join("b")).unwrap();
            fs::hard_link(top.join("a"), top.join("b")).unwrap();
        }),
        ("/b: same inode as None != Some(\"a\")", |top| {
            fs::remove_file(top.join("b")).unwrap();
            fs::hard_link(top.join("a"), top.join("b")).unwrap();
        }),
        ("/a: size Some(4) != Some(5)", |top| fs::write(top.join("a"), "12345").unwrap()),
        ("/a: content", |top| fs::write(top.join("a"), "4321").unwrap()),
        ("/a: xattrs  != user.k=v", |top| {
            rustix::fs::setxattr(top.join("a"), "user.k", b"v", XattrFlags::empty()).unwrap();
        }),
        ("/b: type f != d", |top| {
            fs::remove_file(top.join("b")).unwrap();
            fs::create_dir(top.join("b")).unwrap();
        }),
        ("/c: target Some(\"a\") != Some(\"b\")", |top| {
            fs::remove_file(top.join("c")).unwrap();
            symlink("b", top.join("c")).unwrap();
        }),
    ];
    for (difference, change) in changes {
        let top = tempfile::tempdir().unwrap();
        for name in ["a", "b"] {
            fs::write(top.path().join(name), "1234").unwrap();
            fs::set_permissions(top.path().join(name), Permissions::from_mode(0o644)).unwrap();
            set_mtime(&top.path().join(name), 0);
        }
        symlink("a", top.path().join("c")).unwrap();
        let before = Snapshot::of(top.path());
        assert!(before.differences(&Snapshot::of(top.path())).is_empty());
        change(top.path());
        let found = before.differences(&Snapshot::of(top.path()));
        assert!(found.iter().any(|text| text.starts_with(difference)), "{difference}: {found:?}");
    }
}

fn set_mtime(path: &Path, nanoseconds: u64) {
    let time = SystemTime::UNIX_EPOCH + Duration::from_nanos(nanoseconds);
    fs::File::options().write(true).open(path).unwrap().set_modified(time).unwrap();
}
