//! containerd's metadata, which another process writes while it is read.

use ocifs::bolt::{Bucket, Error, Item, MAX_READ_BYTES, Snapshot};

use super::{Target, Verdict};
use crate::support::bolt::{Tree, Writer, database, seal};

/// Databases as they are.
pub const RAW: Target = Target { name: "bolt", valid, check, most_memory: MOST_MEMORY };

/// Databases with meta pages whose checksums are right.
pub const SEALED: Target = Target {
    name: "bolt_sealed",
    valid,
    check: |file| check(&seal(file.to_vec())),
    most_memory: MOST_MEMORY,
};

/// What may be read at all, once as pages and once as what is handed on.
const MOST_MEMORY: usize = 2 * MAX_READ_BYTES as usize;

/// Levels of buckets that are read, and elements of all of them.
const MAX_LEVELS: usize = 8;
const MAX_ELEMENTS: usize = 10_000;

fn valid() -> Vec<Vec<u8>> {
    let many = (0..40).fold(Tree::default(), |tree, n| tree.value(&format!("k{n:02}"), b"v"));
    let inline = Tree::default().value("x", b"1").value("y", b"2").bucket("z", many);
    let tree = Tree::default().value("long", &[7; 3000]).value("empty", b"").bucket("a", inline);
    let small =
        Tree::default().value("key", b"value").bucket("b", Tree::default().value("k", b"v"));
    let (mut writer, old) = (Writer::default(), Tree::default().value("key", b"old"));
    let root = writer.bucket(&old, 9);
    vec![database(&tree, 3), database(&tree, 1000), database(&small, 9), writer.finish(root, 7)]
}

fn check(file: &[u8]) -> Verdict {
    let Ok(snapshot) = Snapshot::open(file) else { return Verdict::Refused };
    assert!(snapshot.is_newest(), "nothing has changed");
    let root = snapshot.root();
    let mut seen = Seen { bytes: 0, elements: 0 };
    let result = walk(&snapshot, &root, 0, &mut seen);
    assert!(seen.bytes <= MAX_READ_BYTES, "{} bytes were handed on", seen.bytes);
    for key in [&b"long"[..], b"a", b"key", b"", b"zz"] {
        let _ = snapshot.get(&root, key);
    }
    Verdict::from(&result)
}

/// What has been handed on.
struct Seen {
    bytes: u64,
    elements: usize,
}

/// Reads a bucket and those in it, as far as it is worth: a bucket may hold itself.
fn walk(
    snapshot: &Snapshot<'_, [u8]>,
    bucket: &Bucket,
    level: usize,
    seen: &mut Seen,
) -> Result<(), Error> {
    let mut below = Vec::new();
    snapshot.for_each(bucket, &mut |key, item| {
        seen.elements += 1;
        seen.bytes += key.len() as u64;
        match item {
            Item::Value(value) => seen.bytes += value.len() as u64,
            Item::Bucket(bucket) => below.push(bucket),
        }
        Ok(seen.elements < MAX_ELEMENTS)
    })?;
    let below = below.iter().filter(|_| level < MAX_LEVELS);
    for bucket in below {
        if seen.elements < MAX_ELEMENTS {
            walk(snapshot, bucket, level + 1, seen)?;
        }
    }
    Ok(())
}
