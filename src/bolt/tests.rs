#![allow(clippy::unwrap_used)]

#[path = "../../tests/support/bolt.rs"]
#[allow(dead_code, reason = "other tests need more of it")]
pub(crate) mod writer;

use proptest::prelude::*;

use self::writer::{SIZE, Tree, Writer, branch, database, meta};
use super::*;

/// A tree with many keys, long values and buckets in each other.
fn sample() -> Tree {
    let mut many = Tree::default();
    for n in 0..300 {
        many = many.value(&format!("key-{n:04}"), format!("value-{n}").as_bytes());
    }
    let deep = Tree::default().bucket("inline", Tree::default().value("k", b"v")).bucket("m", many);
    Tree::default()
        .value("long", &[7; 5000])
        .value("empty", b"")
        .bucket("deep", deep)
        .bucket("nothing", Tree::default())
}

/// Everything in a bucket, as the reader sees it.
fn read<P: Pages + ?Sized>(snapshot: &Snapshot<'_, P>, bucket: &Bucket) -> Result<Tree, Error> {
    let mut tree = Tree::default();
    snapshot.for_each(bucket, &mut |key, item| {
        match item {
            Item::Value(value) => drop(tree.values.insert(key.to_vec(), value)),
            Item::Bucket(bucket) => {
                drop(tree.buckets.insert(key.to_vec(), read(snapshot, &bucket)?));
            }
        }
        Ok(true)
    })?;
    Ok(tree)
}

fn read_all(file: &[u8]) -> Result<Tree, Error> {
    let snapshot = Snapshot::open(file)?;
    read(&snapshot, &snapshot.root())
}

#[test]
fn all_is_read_back() {
    for fanout in [2, 5, 1000] {
        let file = database(&sample(), fanout);
        assert_eq!(format!("{:?}", read_all(&file).unwrap()), format!("{:?}", sample()));
        let snapshot = Snapshot::open(&file[..]).unwrap();
        let root = snapshot.root();
        let get = |bucket: &Bucket, key: &str| snapshot.get(bucket, key.as_bytes()).unwrap();
        let deep = get(&root, "deep").unwrap().bucket().unwrap();
        let many = get(&deep, "m").unwrap().bucket().unwrap();
        for n in 0..300 {
            let value = get(&many, &format!("key-{n:04}")).unwrap().value().unwrap();
            assert_eq!(value, format!("value-{n}").as_bytes());
        }
        for absent in ["", "a", "key-0000x", "key-9999", "z"] {
            assert!(get(&many, absent).is_none(), "{absent}");
        }
        let inline = get(&deep, "inline").unwrap().bucket().unwrap();
        assert_eq!(get(&inline, "k").unwrap().value().unwrap(), b"v");
        assert!(get(&root, "long").unwrap().bucket().is_none());
    }
}

#[test]
fn the_newest_valid_meta_page_counts() {
    let tree = |word: &[u8]| Tree::default().value("word", word);
    let mut writer = Writer::default();
    let (old, new) = (writer.bucket(&tree(b"old"), 9), writer.bucket(&tree(b"new"), 9));
    let mut file = writer.finish(old, 10);
    let word = |file: &[u8]| read_all(file).map(|tree| tree.values[&b"word"[..]].clone());
    file[SIZE..2 * SIZE].copy_from_slice(&meta(1, new, 4, 11));
    assert_eq!(word(&file).unwrap(), b"new");
    let mut torn = file.clone();
    torn[SIZE + 40] ^= 1;
    assert_eq!(word(&torn).unwrap(), b"old");
    torn = file.clone();
    torn[20] ^= 1;
    assert_eq!(word(&torn).unwrap(), b"new");
    torn[SIZE + 40] ^= 1;
    assert!(matches!(word(&torn), Err(Error::NoMeta)));
    assert!(matches!(word(&[]), Err(Error::NoMeta)));
    assert!(matches!(word(&file[..SIZE * 2]), Err(Error::Io(_))));
}

#[test]
fn a_change_is_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("meta.db");
    std::fs::write(&path, database(&sample(), 5)).unwrap();
    let file = File::open(&path).unwrap();
    let snapshot = Snapshot::open(&file).unwrap();
    assert!(snapshot.is_newest());
    let writer = File::options().write(true).open(&path).unwrap();
    writer.write_all_at(&meta(1, 2, 9, 11), SIZE as u64).unwrap();
    assert!(!snapshot.is_newest());
}

/// A branch page that is its own child.
#[test]
fn circles_end() {
    let mut writer = Writer::default();
    writer.append(BRANCH, 1, &branch(&[(b"a".to_vec(), 2)]));
    let file = writer.finish(2, 5);
    assert!(matches!(read_all(&file), Err(Error::Corrupt { what: "the tree is too deep", .. })));
    let snapshot = Snapshot::open(&file[..]).unwrap();
    assert!(snapshot.get(&snapshot.root(), b"a").is_err());
}

proptest! {
    #[test]
    fn junk_is_no_database(junk in prop::collection::vec(any::<u8>(), 0..5000)) {
        prop_assert!(read_all(&junk).is_err());
    }
}

/// Elements that lie over each other would be more than all memory when they are copied.
#[test]
fn keys_over_each_other_count_each_time() {
    let (count, key_bytes) = (60_000, 1 << 20);
    let mut content = Vec::new();
    for at in 0..count {
        let position = (count - at) * ELEMENT_BYTES;
        for number in [0, position as u32, key_bytes as u32, 0] {
            content.extend(number.to_le_bytes());
        }
    }
    content.resize(content.len() + key_bytes, b'x');
    let mut writer = Writer::default();
    let root = writer.append(LEAF, count, &content);
    let file = writer.finish(root, 5);
    let snapshot = Snapshot::open(&file[..]).unwrap();
    let mut seen = 0;
    let result = snapshot.for_each(&snapshot.root(), &mut |key, _| {
        seen += key.len() as u64;
        Ok(true)
    });
    assert!(matches!(result, Err(Error::TooLarge)), "{result:?}");
    assert!(seen > 0 && seen <= MAX_READ_BYTES, "{seen}");
}
