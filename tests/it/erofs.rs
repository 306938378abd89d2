//! Images for the kernel, read back by a reader of their own.
//!
//! The reader below is written from the description of the format and knows nothing of the writer.
//! What it makes of an image must be what the reference model makes of the layers. (That the kernel
//! agrees is shown in `tests/oracle`.)

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use ocifs::erofs::{self, Devices};
use ocifs::tree::Tree;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use crate::layers;
use crate::model::reference::{Node, NodeKind};
use crate::model::{generators, reference};
use crate::support::tarball::{Entry, Kind, TarWriter, tar};

const BLOCK: usize = 4096;
const UUID: [u8; 16] = *b"sixteen bytes of";

/// Writes an image, whose size is what was said before.
fn write(
    tree: &Tree,
    owner: Option<(u32, u32)>,
    out: &mut impl io::Write,
) -> Result<Devices, erofs::Error> {
    let image = erofs::Image::of(tree)?;
    let (said, mut bytes) = (image.bytes(), Vec::new());
    let devices = image.write(owner, UUID, &mut bytes)?;
    assert_eq!(bytes.len() as u64, said);
    out.write_all(&bytes)?;
    Ok(devices)
}

fn number(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

/// An image and the bytes of its devices.
struct Image {
    bytes: Vec<u8>,
    devices: Vec<Vec<u8>>,
}

/// An inode with what it points to.
struct Inode {
    node: Node,
    data: Vec<u8>,
}

impl Image {
    fn of(tree: &Tree, tars: &[Vec<u8>]) -> Image {
        let mut bytes = Vec::new();
        let devices = write(tree, None, &mut bytes).unwrap();
        let image = Image { bytes, devices: contents(tree, tars, &devices) };
        image.check_superblock();
        image
    }

    fn field(&self, at: usize, length: usize) -> u64 {
        number(&self.bytes[at..at + length])
    }

    fn check_superblock(&self) {
        assert_eq!(self.field(1024, 4), 0xe0f5_e1e2);
        assert_eq!((self.bytes[1036], self.bytes[1037]), (12, 0), "4 KiB, no extensions");
        assert_eq!(self.bytes[1024 + 48..1024 + 64], UUID);
        assert_eq!(self.field(1024 + 80, 4), 4 | 8, "chunks and devices, nothing else");
        assert_eq!(self.field(1024 + 86, 2), self.devices.len() as u64);
        assert_eq!(self.field(1024 + 88, 2) * 128, 1024 + 128, "devices behind the superblock");
        assert_eq!(self.field(1024 + 36, 4) * BLOCK as u64, self.bytes.len() as u64);
        assert_eq!(self.bytes[1024 + 90..1024 + 128], [0; 38]);
        for (at, device) in self.devices.iter().enumerate() {
            let slot = 1152 + 128 * at;
            assert!(self.bytes[slot] != 0, "a device has a tag");
            assert_eq!(self.field(slot + 64, 4) * BLOCK as u64, device.len() as u64);
            assert_eq!(self.bytes[slot + 68..slot + 128], [0; 60]);
        }
        let mut summed = self.bytes[1024..BLOCK].to_vec();
        summed[4..8].fill(0);
        // Bit by bit, the other way round: the polynomial in normal order.
        let mut crc = u32::MAX;
        for bit in summed.iter().flat_map(|byte| (0..8).map(move |at| byte >> at & 1)) {
            let out = crc >> 31 ^ u32::from(bit);
            crc = crc << 1 ^ if out == 1 { 0x1edc_6f41 } else { 0 };
        }
        assert_eq!(self.field(1028, 4), u64::from(crc.reverse_bits()));
    }

    fn tree(&self) -> reference::Tree {
        let root = self.field(1024 + 14, 2);
        let mut out = reference::Tree::new();
        let mut inodes = BTreeSet::new();
        self.visit(root, root, Vec::new(), &mut out, &mut inodes);
        assert_eq!(self.field(1024 + 16, 8), inodes.len() as u64, "number of inodes");
        let mut numbers = BTreeMap::new();
        for node in out.values_mut() {
            let next = numbers.len();
            node.inode = *numbers.entry(node.inode).or_insert(next);
        }
        out
    }

    fn visit(
        &self,
        nid: u64,
        parent: u64,
        path: Vec<u8>,
        out: &mut reference::Tree,
        inodes: &mut BTreeSet<u64>,
    ) {
        let Inode { node, data } = self.inode(nid);
        inodes.insert(nid);
        if node.kind == NodeKind::Dir {
            let mut last: Option<Vec<u8>> = None;
            let mut dots = 0;
            for (name, child, kind) in names(&data) {
                assert!(last.as_ref().is_none_or(|last| *last < name), "names are sorted");
                last = Some(name.clone());
                let expected = match &name[..] {
                    b"." => Some(nid),
                    b".." => Some(parent),
                    _ => None,
                };
                if let Some(expected) = expected {
                    assert_eq!((child, kind), (expected, 2));
                    dots += 1;
                    continue;
                }
                let below =
                    [&path[..], &name].join(if path.is_empty() { "" } else { "/" }.as_bytes());
                assert_eq!(kind, file_type(self.inode(child).node.kind));
                self.visit(child, nid, below, out, inodes);
            }
            assert_eq!(dots, 2);
        }
        assert!(out.insert(path, node).is_none());
    }

    fn inode(&self, nid: u64) -> Inode {
        let at = nid as usize * 32;
        assert!(at % BLOCK + 64 <= BLOCK, "an inode lies in one block");
        let format = self.field(at, 2);
        assert_eq!(format & 1, 1, "an extended inode");
        let (count, mode) = (self.field(at + 2, 2) as usize, self.field(at + 4, 2) as u32);
        assert_eq!(self.field(at + 6, 2), 0);
        let size = self.field(at + 8, 8) as usize;
        let specific = self.field(at + 16, 4);
        let body = if count == 0 { 0 } else { 12 + 4 * (count - 1) };
        let end = at + 64 + body;
        let kind = match mode & 0o170000 {
            0o010000 => NodeKind::Fifo,
            0o020000 => NodeKind::Char,
            0o040000 => NodeKind::Dir,
            0o060000 => NodeKind::Block,
            0o100000 => NodeKind::File,
            0o120000 => NodeKind::Symlink,
            other => panic!("{other:o}"),
        };
        let data = match format >> 1 {
            0 => {
                let start = specific as usize * BLOCK;
                if size == 0 { Vec::new() } else { self.bytes[start..start + size].to_vec() }
            }
            2 => {
                let (start, blocks) = (specific as usize * BLOCK, (size - 1) / BLOCK);
                let tail = size - blocks * BLOCK;
                assert!(end % BLOCK + tail <= BLOCK, "what is inline lies in one block");
                let mut data = self.bytes[start..start + blocks * BLOCK].to_vec();
                data.extend_from_slice(&self.bytes[end..end + tail]);
                data
            }
            4 => {
                assert_eq!(specific & !0x1f, 0x20, "chunk indexes");
                let chunk = BLOCK << (specific & 0x1f);
                let mut blocks = Vec::new();
                for n in 0..size.div_ceil(chunk) {
                    let index = end.next_multiple_of(8) + 8 * n;
                    assert_eq!(self.field(index, 2), 0);
                    let (device, block) = (self.field(index + 2, 2), self.field(index + 4, 4));
                    let length = chunk.min(size.next_multiple_of(BLOCK) - n * chunk);
                    match block {
                        // A hole.
                        0xffff_ffff => blocks.resize(blocks.len() + length, 0),
                        block => {
                            let start = block as usize * BLOCK;
                            let device = &self.devices[device as usize - 1];
                            blocks.extend_from_slice(&device[start..start + length]);
                        }
                    }
                }
                assert!(blocks.split_off(size).iter().all(|byte| *byte == 0), "a clean tail");
                blocks
            }
            other => panic!("layout {other}"),
        };
        assert_eq!(data.len(), size);
        let is = |wanted: NodeKind| if kind == wanted { data.clone() } else { Vec::new() };
        let device = match kind {
            NodeKind::Char | NodeKind::Block => {
                let (major, minor) =
                    (specific >> 8 & 0xfff, specific & 0xff | specific >> 12 & !0xff);
                (major as u32, minor as u32)
            }
            _ => (0, 0),
        };
        let node = Node {
            kind,
            mode: mode & 0o7777,
            uid: self.field(at + 24, 4) as u32,
            gid: self.field(at + 28, 4) as u32,
            mtime: (self.field(at + 32, 8) as i64, self.field(at + 40, 4) as u32),
            xattrs: self.xattrs(&self.bytes[at + 64..end]),
            content: is(NodeKind::File),
            target: is(NodeKind::Symlink),
            rdev: device,
            inode: nid as usize,
            nlink: self.field(at + 44, 4) as u32,
        };
        Inode { node, data }
    }

    /// Attributes behind an inode, and those that it shares with others.
    fn xattrs(&self, body: &[u8]) -> BTreeMap<Vec<u8>, Vec<u8>> {
        let mut found = BTreeMap::new();
        let count = body.get(4).map_or(0, |count| usize::from(*count));
        let first = self.field(1024 + 44, 4) as usize * BLOCK;
        let mut rest = body.get(12..).unwrap_or_default();
        for _ in 0..count {
            let (name, value, _) = xattr(&self.bytes[first + number(&rest[..4]) as usize * 4..]);
            assert!(found.insert(name, value).is_none());
            rest = &rest[4..];
        }
        while !rest.is_empty() {
            let (name, value, bytes) = xattr(rest);
            assert!(found.insert(name, value).is_none());
            rest = &rest[bytes..];
        }
        found
    }
}

/// Names, inodes and types of a directory.
fn names(data: &[u8]) -> Vec<(Vec<u8>, u64, u8)> {
    let mut names = Vec::new();
    for block in data.chunks(BLOCK) {
        let rows = number(&block[8..10]) as usize / 12;
        for row in 0..rows {
            let field = |row: usize, at: usize, length| number(&block[row * 12 + at..][..length]);
            let start = field(row, 8, 2) as usize;
            let rest = match row + 1 < rows {
                true => &block[start..field(row + 1, 8, 2) as usize],
                false => &block[start..],
            };
            let name = rest.split(|byte| *byte == 0).next().unwrap();
            assert!((1..=255).contains(&name.len()));
            names.push((name.to_vec(), field(row, 0, 8), field(row, 10, 1) as u8));
        }
    }
    names
}

/// The attribute at the beginning of some bytes, and how many it takes.
fn xattr(rest: &[u8]) -> (Vec<u8>, Vec<u8>, usize) {
    let (name, value) = (usize::from(rest[0]), number(&rest[2..4]) as usize);
    let prefix = match rest[1] {
        1 => "user.",
        2 => "system.posix_acl_access",
        3 => "system.posix_acl_default",
        4 => "trusted.",
        6 => "security.",
        other => panic!("prefix {other}"),
    };
    let name_bytes = [prefix.as_bytes(), &rest[4..4 + name]].concat();
    let end = 4 + name + value;
    (name_bytes, rest[4 + name..end].to_vec(), end.next_multiple_of(4))
}

fn file_type(kind: NodeKind) -> u8 {
    match kind {
        NodeKind::File => 1,
        NodeKind::Dir => 2,
        NodeKind::Char => 3,
        NodeKind::Block => 4,
        NodeKind::Fifo => 5,
        NodeKind::Symlink => 7,
    }
}

/// The bytes of the devices, asked for in pieces of an odd size.
fn contents(tree: &Tree, tars: &[Vec<u8>], devices: &Devices) -> Vec<Vec<u8>> {
    let read = |number: usize| {
        let device = devices.get(number).unwrap();
        let mut bytes = Vec::new();
        while (bytes.len() as u64) < device.bytes() {
            let length = 7001.min(device.bytes() as usize - bytes.len());
            let mut part = vec![0; length];
            for piece in device.pieces(tree, bytes.len() as u64, length) {
                let content = layers::content(tree, tars, piece.ino);
                let from = piece.offset as usize;
                let part = &mut part[piece.at..piece.at + piece.length];
                part.copy_from_slice(&content[from..from + piece.length]);
            }
            bytes.extend_from_slice(&part);
        }
        bytes
    };
    assert!(devices.get(devices.len()).is_none());
    (0..devices.len()).map(read).collect()
}

/// Takes away what the kernel would list and not read: `user.` of all but files and directories, and the capabilities
/// of the generator, which are none.
fn without_unreadable(node: &mut Node) {
    let may_be_users = matches!(node.kind, NodeKind::File | NodeKind::Dir);
    node.xattrs.retain(|name, _| match &name[..] {
        b"security.capability" => false,
        name => may_be_users || !name.starts_with(b"user."),
    });
}

/// Compares with the model, and returns the image.
fn check(stack: &[Vec<Entry>]) -> Image {
    let tars: Vec<Vec<u8>> = stack.iter().map(|layer| tar(layer)).collect();
    let image = Image::of(&layers::merge(&tars).unwrap(), &tars);
    let (mut expected, got) = (reference::apply(stack).unwrap(), image.tree());
    expected.values_mut().for_each(without_unreadable);
    assert!(expected.keys().eq(got.keys()), "the names differ");
    for (path, node) in &expected {
        assert!(*node == got[path], "{}: {node:?} {:?}", path.escape_ascii(), got[path]);
    }
    image
}

/// Small trees, and what makes them large: names, values, targets, contents and numbers of names
/// near the limits of a block.
fn stacks() -> impl Strategy<Value = Vec<Vec<Entry>>> {
    let lengths = prop_oneof![3 => 1..40usize, 1 => 3900..4200usize, 1 => 8000..8300usize];
    let extra = (lengths, 1..=255usize, 0..5u8, 0..300usize).prop_map(|(length, name, what, n)| {
        let path = "n".repeat(name);
        match what {
            0 => vec![Entry::symlink(path, "t".repeat(length.min(4095)))],
            1 => vec![Entry::file(path, "c".repeat(length))],
            2 => vec![Entry::dir(path).xattr("user.long", "v".repeat(length))],
            3 => vec![
                Entry::symlink(path, "t".repeat(length.min(4095)))
                    .xattr("trusted.long", "v".repeat(n * 13)),
            ],
            _ => (0..n).map(|at| Entry::file(format!("{at}/{path}"), "")).collect(),
        }
    });
    (generators::stacks(), prop::collection::vec(extra, 0..4)).prop_map(|(mut stack, extra)| {
        stack.push(extra.into_iter().flatten().collect());
        stack
    })
}

#[test]
fn random_trees_are_read_back() {
    let cases =
        std::env::var("OCIFS_MODEL_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(1000);
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    let result = TestRunner::new(config).run(&stacks(), |stack| {
        // Of the stacks that the generator makes, most are valid.
        prop_assume!(reference::apply(&stack).is_ok());
        check(&stack);
        Ok(())
    });
    if let Err(proptest::test_runner::TestError::Fail(reason, stack)) = &result {
        panic!("{reason}\n{}", generators::render(stack));
    }
    result.expect("the generator works");
}

#[test]
fn an_empty_image() {
    let image = check(&[]);
    // It is known by its devices whether an image is in use.
    assert_eq!(image.devices.len(), 1);
    assert_eq!(image.bytes.len(), 2 * BLOCK);
}

#[test]
fn large_directories() {
    let long = "x".repeat(240);
    let entries = (0..20_000).map(|n| Entry::file(format!("d/{n}"), ""));
    let longer = (0..200).map(|n| Entry::file(format!("e/{long}{n}"), "y"));
    // Before `.`, between the dots, behind them.
    let dots =
        ["!", "-", ".-", "...", ".a", "..."].map(|name| Entry::file(format!("f/{name}"), ""));
    check(&[entries.chain(longer).chain(dots).collect()]);
}

#[test]
fn inodes_come_in_the_order_of_the_tree() {
    let tars = [tar(&(0..500)
        .map(|n| Entry::file(format!("{}", n * 7919 % 500), "x"))
        .collect::<Vec<_>>())];
    let tree = layers::merge(&tars).unwrap();
    let image = Image::of(&tree, &tars);
    let order = |names: Vec<(Vec<u8>, u64)>| {
        let mut names = names;
        names.sort_by_key(|(_, number)| *number);
        names.into_iter().map(|(name, _)| name).collect::<Vec<_>>()
    };
    let root = image.inode(image.field(1024 + 14, 2)).data;
    let plain = tree.children(ocifs::tree::Ino::ROOT, 0);
    let plain = order(plain.map(|row| (row.name.to_vec(), row.ino.number())).collect());
    let mut ours = names(&root);
    ours.retain(|(name, ..)| !name.starts_with(b"."));
    assert_eq!(order(ours.into_iter().map(|(name, nid, _)| (name, nid)).collect()), plain);
}

#[test]
fn sparse_files_are_dense_on_their_device() {
    let mut writer = TarWriter::new();
    writer.entry(&Entry::file("before", [1; 700]));
    writer.sparse_pax_1_0("sparse", 90_000, &[(100, &[2; 512]), (50_000, &[3; 100])]);
    writer.sparse_pax_1_0("hole", 5000, &[]);
    writer.entry(&Entry::file("after", [4; 5000]));
    let tars = [writer.finish()];
    let tree = layers::merge(&tars).unwrap();
    let image = Image::of(&tree, &tars);
    assert_eq!(image.tree(), layers::snapshot(&tree, &tars));
    assert_eq!(image.devices[0].len(), (1 + 22 + 2 + 2) * BLOCK);
}

#[test]
fn extended_attributes_that_have_no_place() {
    let acl = "system.posix_acl_access";
    // Of the owner only.
    let value = b"\x02\0\0\0\x01\0\x06\0\xff\xff\xff\xff";
    let entry = Entry::file("f", "x").xattr("user.kept", "1").xattr(acl, value);
    let entry = entry.xattr("system.posix_acl_default", "2");
    let entry = entry.xattr("system.other", "3").xattr("lustre.lov", "4").xattr("user.", "5");
    let tars = [tar(&[entry.xattr("system.posix_acl_access.", "6")])];
    let tree = layers::merge(&tars).unwrap();
    let names: Vec<Vec<u8>> =
        Image::of(&tree, &tars).tree()[&b"f"[..]].xattrs.keys().cloned().collect();
    assert_eq!(names, [acl.as_bytes(), b"user.kept"]);
}

/// A value that many files have is there once; more of them than can be counted are not all shared.
#[test]
fn equal_attributes_are_shared() {
    let label = "security.selinux";
    let files = |bytes: usize| -> Vec<Entry> {
        let value = "v".repeat(bytes);
        (0..300).map(|n| Entry::file(format!("f{n}"), "").xattr(label, &value)).collect()
    };
    let size = |entries: &[Entry]| {
        let tree = layers::merge(&[tar(entries)]).unwrap();
        erofs::Image::of(&tree).unwrap().bytes()
    };
    let (small, large) = (size(&files(4)), size(&files(60_000)));
    assert!(large <= small + 60_000 + BLOCK as u64, "{small}, {large}");
    check(&[files(60_000)]);
    // Values across the ends of blocks, and of each name some that nobody shares.
    let mixed = (0..40).map(|n| {
        let entry = Entry::file(format!("f{n}"), "x").xattr("user.own", n.to_string());
        entry.xattr("user.half", "h".repeat(1000 + n % 2)).xattr("user.all", "a".repeat(5001))
    });
    check(&[mixed.collect()]);
    let many = |name: &str| {
        (0..400).fold(Entry::file(name, ""), |entry, n| entry.xattr(format!("user.{n}"), "v"))
    };
    check(&[vec![many("a"), many("b")]]);
}

fn refusal(entries: &[Entry]) -> String {
    let tree = layers::merge(&[tar(entries)]).unwrap();
    write(&tree, None, &mut io::sink()).unwrap_err().to_string()
}

#[test]
fn what_is_too_large_is_refused_by_name() {
    let large = Entry::file("dir/large", "x").xattr("user.a", "v".repeat(65536));
    assert!(refusal(&[large]).contains("`dir/large`"));
    let many = (0..5)
        .fold(Entry::dir("many"), |entry, n| entry.xattr(format!("user.{n}"), "v".repeat(60_000)));
    assert!(refusal(&[many]).contains("`many`"));
    let most = (0..4)
        .fold(Entry::dir("most"), |entry, n| entry.xattr(format!("user.{n}"), "v".repeat(65_000)));
    check(&[vec![most]]);

    for (size, refused) in [(1 << 43, false), ((1 << 43) + 1, true)] {
        let mut writer = TarWriter::new();
        writer.sparse_pax_1_0("huge", size, &[(0, &[1; 512])]);
        let tree = layers::merge(&[writer.finish()]).unwrap();
        let result = write(&tree, None, &mut io::sink());
        assert_eq!(result.err().map(|e| e.to_string().contains("`huge`")), refused.then_some(true));
    }
    let mut writer = TarWriter::new();
    for name in ["a", "b", "c"] {
        writer.sparse_pax_1_0(name, 1 << 43, &[(0, &[1; 512])]);
    }
    let tree = layers::merge(&[writer.finish()]).unwrap();
    let error = write(&tree, None, &mut io::sink()).unwrap_err();
    assert!(error.to_string().contains("layer 0"), "{error}");
}

#[test]
fn everything_can_belong_to_one() {
    let tars = [tar(&[Entry::file("f", "x").owner(5, 6)])];
    let tree = layers::merge(&tars).unwrap();
    let mut bytes = Vec::new();
    let devices = write(&tree, Some((7, 8)), &mut bytes).unwrap();
    let image = Image { bytes, devices: contents(&tree, &tars, &devices) };
    assert!(image.tree().values().all(|node| (node.uid, node.gid) == (7, 8)));
}

/// The generator of stacks would be of no use without these.
#[test]
fn hard_links_share_an_inode() {
    let entries =
        vec![Entry::file("a", "x"), Entry::hardlink("b", "a"), Entry::hardlink("d/c", "b")];
    assert!(entries.iter().any(|entry| matches!(entry.kind, Kind::Hardlink(_))));
    let tree = check(&[entries]).tree();
    assert_eq!(tree[&b"a"[..]].nlink, 3);
    assert_eq!(tree[&b"a"[..]].inode, tree[&b"d/c"[..]].inode);
}
