//! Layer indexes in the cache that lie about checkpoints, under checksums that are right.
//!
//! Nobody but the user writes there, but the same decoder reads what comes from elsewhere, and a
//! bug in what makes checkpoints would look like this. What a lie may cost is an error or a longer
//! way, never a wrong byte.
//!
//! (A lie about what a span *is*, its digest, is as good as a lie in a cached span: who can write
//! either is trusted. Here nothing else is cached, so even that is found out.)

use std::mem::size_of;

use ocifs::cache::LayerName;
use ocifs::digest::DiffId;
use ocifs::index::LayerIndex;
use ocifs::index::format::{
    self, CHECKSUM_BYTES, ChunkRecord, DirRecord, EntryRecord, FileHeader, RunRecord, SpanRecord,
    WhiteoutRecord, XattrRecord,
};
use zerocopy::{FromBytes, IntoBytes};

use crate::fixture::{Sandbox, name_in, open};
use crate::lazy::{BIG, File, Form, Lazy, corpus, patient};
use crate::support::registry::Registry;

/// An encoded index, taken apart.
struct Parts {
    before: Vec<u8>,
    spans: Vec<SpanRecord>,
    after: Vec<u8>,
    hashes: Vec<u8>,
    windows: Vec<u8>,
}

impl Parts {
    fn new(file: &[u8]) -> Parts {
        let header = FileHeader::read_from_prefix(file).unwrap().0;
        let [dirs, entries, whiteouts, runs, xattrs, spans, chunks, bytes, hashes, windows] =
            header.counts.map(|count| count.get() as usize);
        let start = size_of::<FileHeader>()
            + dirs * size_of::<DirRecord>()
            + entries * size_of::<EntryRecord>()
            + whiteouts * size_of::<WhiteoutRecord>()
            + runs * size_of::<RunRecord>()
            + xattrs * size_of::<XattrRecord>();
        let (before, rest) = file.split_at(start);
        let (records, rest) = rest.split_at(spans * size_of::<SpanRecord>());
        let (after, rest) = rest.split_at(chunks * size_of::<ChunkRecord>() + bytes);
        let (hashes, rest) = rest[CHECKSUM_BYTES..].split_at(hashes * 32);
        Parts {
            before: before.to_vec(),
            spans: records
                .chunks(size_of::<SpanRecord>())
                .map(|record| SpanRecord::read_from_bytes(record).unwrap())
                .collect(),
            after: after.to_vec(),
            hashes: hashes.to_vec(),
            windows: rest[..windows].to_vec(),
        }
    }

    /// Puts it together again, under checksums that are right.
    fn seal(&self) -> Vec<u8> {
        let head = [&self.before[..], self.spans.as_bytes(), &self.after].concat();
        let tail = [&self.hashes[..], &self.windows].concat();
        let sum = |part: &[u8]| *blake3::hash(part).as_bytes();
        [&head[..], &sum(&head), &tail, &sum(&tail)].concat()
    }

    /// Numbers of spans with a window, around the middle of the layer.
    fn checkpoints(&self) -> Vec<usize> {
        let has_window = |at: &usize| self.spans[*at].window_length.get() > 0;
        let half = self.spans.len() / 2;
        (half..self.spans.len()).filter(has_window).take(3).collect()
    }
}

type Lie = fn(&mut Parts, &[usize]);

/// Lies, and whether they leave no way to some of the bytes.
const LIES: [(&str, bool, Lie); 16] = [
    ("another window", false, |parts, at| {
        parts.spans[at[0]].window_offset = parts.spans[at[1]].window_offset;
        parts.spans[at[0]].window_length = parts.spans[at[1]].window_length;
    }),
    ("a window cut", false, |parts, at| {
        parts.spans[at[0]].window_length = (parts.spans[at[0]].window_length.get() / 2).into();
    }),
    ("no window", false, |parts, at| parts.spans[at[0]].window_length = 0.into()),
    ("windows zeroed", false, |parts, _| parts.windows.fill(0)),
    ("windows damaged", false, |parts, _| {
        parts.windows.iter_mut().step_by(100).for_each(|b| *b ^= 0x55)
    }),
    ("windows moved", false, |parts, _| parts.windows.rotate_left(1)),
    ("other bits", false, |parts, at| parts.spans[at[0]].bits = (parts.spans[at[0]].bits + 1) % 8),
    ("no bits anywhere", false, |parts, _| parts.spans.iter_mut().for_each(|span| span.bits = 0)),
    ("a byte later", false, |parts, at| shift(&mut parts.spans[at[0]], 1)),
    ("a byte earlier", false, |parts, at| shift(&mut parts.spans[at[0]], -1)),
    ("much later", false, |parts, at| shift(&mut parts.spans[at[0]], 50_000)),
    ("all at one place", false, |parts, at| {
        let start = parts.spans[at[0]].compressed_start;
        parts.spans[at[0]..].iter_mut().for_each(|span| span.compressed_start = start);
    }),
    ("ends at once", true, |parts, at| {
        parts.spans[at[0]].compressed_end = parts.spans[at[0]].compressed_start;
    }),
    ("begins anywhere", true, |parts, _| {
        parts.spans.iter_mut().for_each(|span| span.restart = format::RESTART_HERE);
    }),
    ("begins nowhere", false, |parts, _| {
        let rest = &mut parts.spans[1..];
        rest.iter_mut().for_each(|span| span.restart = format::RESTART_CONTINUES);
    }),
    ("names swapped", true, |parts, at| {
        let digest = parts.spans[at[0]].digest;
        parts.spans[at[0]].digest = parts.spans[at[1]].digest;
        parts.spans[at[1]].digest = digest;
    }),
];

fn shift(span: &mut SpanRecord, by: i64) {
    span.compressed_start = span.compressed_start.get().saturating_add_signed(by).into();
}

#[test]
fn lies_about_checkpoints_give_no_wrong_byte() {
    let form = Form::Gzip;
    let corpus = corpus(form);
    let big = corpus.file(BIG);
    let layer = big.layer;
    let registry = Registry::start();
    registry.add_image("r", "t", &corpus.built);
    for (what, is_fatal, lie) in LIES {
        let mut parts = Parts::new(&corpus.indexes[layer]);
        assert!(parts.seal() == corpus.indexes[layer], "taken apart and put together");
        let at = parts.checkpoints();
        assert_eq!(at.len(), 3);
        let spans = &corpus.spans[layer];
        // Behind the start of each, where there is no other lie.
        let places: Vec<u64> = at.iter().map(|at| spans[*at].start.0 + 1000).collect();
        lie(&mut parts, &at);
        let lying = parts.seal();
        assert!(lying != corpus.indexes[layer], "{what}");

        let sandbox = Sandbox::new();
        let cache = sandbox.cache();
        corpus.put_indexes(&cache);
        let digest = corpus.digests[layer].parse().unwrap();
        let diff_id = DiffId(corpus.built.diff_ids()[layer].parse().unwrap());
        for name in [LayerName::Blob(digest), LayerName::DiffId(diff_id)] {
            cache.discard_layer_index(&name, "test");
        }
        cache.put_layer_index(&digest, &diff_id, &lying);
        assert!(LayerIndex::decode(&lying).is_ok(), "{what}: it would be made anew");
        let image = open(&name_in(&registry), &cache, &patient()).unwrap();
        registry.clear_log();
        let lazy = Lazy { image: image.into(), registry: Registry::start(), sandbox, corpus };
        let results = places.iter().map(|place| read_right(&lazy, big, place - big.content.start));
        let errors: Vec<String> = results.filter_map(Result::err).collect();
        for error in &errors {
            let words = ["ends before", "corrupt gzip", "not those that were indexed"];
            assert!(error.contains(&corpus.digests[layer]), "{what}: {error}");
            assert!(words.iter().any(|words| error.contains(words)), "{what}: {error}");
        }
        let requests = registry.requests();
        // Two requests for a span: one from its checkpoint, one from a place that needs none.
        assert!(requests.len() <= 2 * places.len(), "{what}: {} requests", requests.len());
        assert_eq!(!errors.is_empty(), is_fatal, "{what}: {errors:?}");

        // With the right index the cache has nothing wrong in it.
        for name in [LayerName::Blob(digest), LayerName::DiffId(diff_id)] {
            cache.discard_layer_index(&name, "test");
        }
        corpus.put_indexes(&cache);
        let image = open(&name_in(&registry), &cache, &patient()).unwrap();
        let lazy = Lazy { image: image.into(), ..lazy };
        lazy.check_whole(big);
    }
}

/// Reads a page, which must be right if it can be had.
fn read_right(lazy: &Lazy, file: &File, start: u64) -> Result<(), String> {
    let part = start..start + 4096;
    let bytes = lazy.read(file, part.clone())?;
    let expected = &lazy.corpus.content(file)[part.start as usize..part.end as usize];
    assert!(bytes == expected, "wrong bytes at {part:?}");
    Ok(())
}
