#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

/// Page size of the databases made here.
const SIZE: usize = 1024;

/// A bucket to be written.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tree {
    values: BTreeMap<Vec<u8>, Vec<u8>>,
    buckets: BTreeMap<Vec<u8>, Tree>,
}

impl Tree {
    pub(crate) fn value(mut self, key: &str, value: &[u8]) -> Tree {
        self.values.insert(key.as_bytes().to_vec(), value.to_vec());
        self
    }

    pub(crate) fn bucket(mut self, key: &str, bucket: Tree) -> Tree {
        self.buckets.insert(key.as_bytes().to_vec(), bucket);
        self
    }
}

/// A database file in the making: pages from number 2 on.
#[derive(Default)]
struct Writer {
    pages: Vec<u8>,
}

impl Writer {
    /// Appends a page with what overflows it, and gives its number.
    fn append(&mut self, flags: u16, count: usize, content: &[u8]) -> u64 {
        let id = 2 + (self.pages.len() / SIZE) as u64;
        let pages = (PAGE_HEADER_BYTES + content.len()).div_ceil(SIZE);
        let end = self.pages.len() + pages * SIZE;
        self.pages.extend(header(id, flags, count, pages as u32 - 1));
        self.pages.extend_from_slice(content);
        self.pages.resize(end, 0);
        id
    }

    /// Writes a bucket, `fanout` elements a page, and gives its root.
    fn bucket(&mut self, tree: &Tree, fanout: usize) -> u64 {
        let elements = self.elements(tree, fanout);
        let mut level: Vec<(Vec<u8>, u64)> = Vec::new();
        for chunk in elements.chunks(fanout) {
            level.push((chunk[0].1.clone(), self.append(LEAF, chunk.len(), &leaf(chunk))));
        }
        if level.is_empty() {
            return self.append(LEAF, 0, &[]);
        }
        while level.len() > 1 {
            level = level
                .chunks(fanout)
                .map(|chunk| (chunk[0].0.clone(), self.append(BRANCH, chunk.len(), &branch(chunk))))
                .collect();
        }
        level[0].1
    }

    /// Flags, keys and values of a bucket, in order. Small buckets of values are inline.
    fn elements(&mut self, tree: &Tree, fanout: usize) -> Vec<(u32, Vec<u8>, Vec<u8>)> {
        let values = tree.values.iter().map(|(key, value)| (0, key.clone(), value.clone()));
        let mut elements: Vec<_> = values.collect();
        for (key, bucket) in &tree.buckets {
            let is_inline = bucket.buckets.is_empty() && bucket.values.len() <= 3;
            let value = match is_inline {
                true => {
                    let elements = self.elements(bucket, fanout);
                    let page = [header(0, LEAF, elements.len(), 0), leaf(&elements)].concat();
                    [vec![0; BUCKET_HEADER_BYTES], page].concat()
                }
                false => {
                    let root = self.bucket(bucket, fanout);
                    [root.to_le_bytes(), 7u64.to_le_bytes()].concat()
                }
            };
            elements.push((IS_BUCKET, key.clone(), value));
        }
        elements.sort_by(|a, b| a.1.cmp(&b.1));
        elements
    }

    fn finish(self, root: u64, transaction: u64) -> Vec<u8> {
        let pages = 2 + (self.pages.len() / SIZE) as u64;
        let mut file = meta(0, root, pages, transaction);
        file.extend(meta(1, root, pages, transaction - 1));
        file.extend(self.pages);
        file
    }
}

fn header(id: u64, flags: u16, count: usize, overflow: u32) -> Vec<u8> {
    let count = (count as u16).to_le_bytes();
    [&id.to_le_bytes()[..], &flags.to_le_bytes(), &count, &overflow.to_le_bytes()].concat()
}

fn leaf(elements: &[(u32, Vec<u8>, Vec<u8>)]) -> Vec<u8> {
    let (mut table, mut data) = (Vec::new(), Vec::new());
    for (at, (flags, key, value)) in elements.iter().enumerate() {
        let position = ((elements.len() - at) * ELEMENT_BYTES + data.len()) as u32;
        for number in [*flags, position, key.len() as u32, value.len() as u32] {
            table.extend(number.to_le_bytes());
        }
        data.extend([&key[..], value].concat());
    }
    [table, data].concat()
}

fn branch(children: &[(Vec<u8>, u64)]) -> Vec<u8> {
    let (mut table, mut data) = (Vec::new(), Vec::new());
    for (at, (key, page)) in children.iter().enumerate() {
        let position = ((children.len() - at) * ELEMENT_BYTES + data.len()) as u32;
        table.extend(position.to_le_bytes());
        table.extend((key.len() as u32).to_le_bytes());
        table.extend(page.to_le_bytes());
        data.extend(key);
    }
    [table, data].concat()
}

fn meta(id: u64, root: u64, pages: u64, transaction: u64) -> Vec<u8> {
    let mut meta = Vec::new();
    for number in [MAGIC, VERSION, SIZE as u32, 0] {
        meta.extend(number.to_le_bytes());
    }
    for number in [root, 0, u64::MAX, pages, transaction] {
        meta.extend(number.to_le_bytes());
    }
    meta.extend(fnv1a(&meta).to_le_bytes());
    let mut page = [header(id, META, 0, 0), meta].concat();
    page.resize(SIZE, 0);
    page
}

pub(crate) fn database(tree: &Tree, fanout: usize) -> Vec<u8> {
    let mut writer = Writer::default();
    let root = writer.bucket(tree, fanout);
    writer.finish(root, 10)
}

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
    /// Whatever is wrong, there is an answer, and an end.
    #[test]
    fn damage_never_panics(
        fanout in 2usize..9,
        damage in prop::collection::vec((0usize..40_000, any::<u8>()), 1..8),
        cut in 0usize..60_000,
    ) {
        let tree = Tree::default()
            .value("long", &[7; 3000])
            .bucket("a", Tree::default().value("x", b"1").value("y", b"2").bucket("z", sample_small()));
        let mut file = database(&tree, fanout);
        for (at, byte) in damage {
            let length = file.len();
            file[2 * SIZE + at % (length - 2 * SIZE)] = byte;
        }
        file.truncate(file.len().min(cut.max(2 * SIZE)));
        let _ = read_all(&file);
        if let Ok(snapshot) = Snapshot::open(&file[..]) {
            let _ = snapshot.get(&snapshot.root(), b"long");
        }
    }

    #[test]
    fn junk_is_no_database(junk in prop::collection::vec(any::<u8>(), 0..5000)) {
        prop_assert!(read_all(&junk).is_err());
    }
}

fn sample_small() -> Tree {
    (0..20).fold(Tree::default(), |tree, n| tree.value(&format!("k{n}"), b"v"))
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
