//! Tests of evicting, by way of a whole cache.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::layout::span_name;
use super::limit::{scan_after, slack};
use super::recency::RECENCY;
use super::{Cache, Cost, FileKind, LayerName, Limit};
use crate::digest::{DiffId, Digest, SpanDigest};

const HOUR: Duration = Duration::from_secs(3600);

/// Different bytes for each number, and their name.
fn span(number: u32, length: usize) -> (SpanDigest, Vec<u8>) {
    let bytes: Vec<u8> = number.to_le_bytes().into_iter().cycle().take(length).collect();
    (SpanDigest::of(&bytes), bytes)
}

fn put(cache: &Cache, number: u32, cost: Cost) -> SpanDigest {
    let (digest, bytes) = span(number, 1000);
    assert!(cache.put_span(&digest, &bytes, cost));
    digest
}

fn path(folder: &Path, kind: FileKind, digest: &SpanDigest) -> PathBuf {
    folder.join("v1").join(span_name(kind, digest))
}

fn set_age(path: &Path, age: Duration) {
    File::open(path).unwrap().set_modified(SystemTime::now() - age).unwrap();
}

/// Which of these spans are there.
fn left(folder: &Path, kind: FileKind, spans: &[SpanDigest]) -> Vec<bool> {
    spans.iter().map(|digest| path(folder, kind, digest).exists()).collect()
}

#[test]
fn the_least_recently_used_go_first() {
    let folder = tempfile::tempdir().unwrap();
    let cache = Cache::open_limited(folder.path(), Limit::Unlimited);
    let spans: Vec<SpanDigest> = (0..5).map(|n| put(&cache, n, Cost::Cheap)).collect();
    // Not in the order in which they were written.
    for (digest, hours) in spans.iter().zip([5, 2, 4, 1, 3]) {
        set_age(&path(folder.path(), FileKind::Spans, digest), hours * HOUR);
    }
    assert!(cache.span(&spans[0], 1000).is_some(), "the oldest is used");
    let removed = cache.collect(3 * 1040 + 500).unwrap();
    assert_eq!((removed.files, removed.bytes, removed.left), (2, 2080, 3120));
    let kept = left(folder.path(), FileKind::Spans, &spans);
    assert_eq!(kept, [true, true, false, true, false]);
    // A span that was marked just now is not marked again.
    let recent = path(folder.path(), FileKind::Spans, &spans[1]);
    set_age(&recent, RECENCY / 2);
    let before = fs::metadata(&recent).unwrap().modified().unwrap();
    cache.span(&spans[1], 1000).unwrap();
    assert_eq!(fs::metadata(&recent).unwrap().modified().unwrap(), before);
}

#[test]
fn cheap_spans_go_before_dear_ones() {
    let folder = tempfile::tempdir().unwrap();
    let cache = Cache::open_limited(folder.path(), Limit::Unlimited);
    let dear = put(&cache, 1, Cost::Dear);
    set_age(&path(folder.path(), FileKind::Streams, &dear), 9 * HOUR);
    let cheap = put(&cache, 2, Cost::Cheap);
    cache.collect(1500).unwrap();
    assert_eq!(left(folder.path(), FileKind::Streams, &[dear]), [true]);
    assert_eq!(left(folder.path(), FileKind::Spans, &[cheap]), [false]);
    assert!(cache.span(&dear, 1000).is_some() && cache.span(&cheap, 1000).is_none());
    assert_eq!(cache.collect(0).unwrap().left, 0, "dear ones go at last");

    // What turns out to be dear for another layer moves, and is there all the time.
    let both = put(&cache, 3, Cost::Cheap);
    let bytes = span(3, 1000).1;
    assert!(!cache.put_span(&both, &bytes, Cost::Dear), "it was there before");
    assert!(!cache.put_span(&both, &bytes, Cost::Cheap));
    assert_eq!(left(folder.path(), FileKind::Spans, &[both]), [false]);
    let mut read = vec![0; bytes.len()];
    assert!(cache.span(&both, 1000).unwrap().read_at(&mut read, 0).unwrap());
    assert_eq!(read, bytes);
    cache.withdraw_span(&both);
    assert!(cache.span(&both, 1000).is_none());
}

#[test]
fn the_limit_holds_while_writing() {
    let folder = tempfile::tempdir().unwrap();
    let limit = 1 << 20;
    let cache = Cache::open_limited(folder.path(), Limit::Bytes(limit));
    let mut kept = 0;
    for number in 0..150 {
        let (digest, bytes) = span(number, 64 << 10);
        kept += u64::from(cache.put_span(&digest, &bytes, Cost::Cheap));
        let bytes = cache.usage().unwrap().total.bytes;
        assert!(bytes <= limit + slack(limit), "{bytes} after {number}");
    }
    cache.settle();
    let bytes = cache.usage().unwrap().total.bytes;
    assert!(bytes <= limit + scan_after(limit), "{bytes}");
    assert!(kept * (64 << 10) > limit && bytes > limit / 2, "{kept} kept, {bytes} left");
}

/// As long as no process evicts, one writes no more than its slack.
#[test]
fn writing_stops_where_evicting_does_not_keep_up() {
    let folder = tempfile::tempdir().unwrap();
    let limit = 2 << 20;
    let cache = Cache::open_limited(folder.path(), Limit::Bytes(limit));
    let busy = File::open(folder.path().join("v1")).unwrap();
    busy.try_lock().unwrap();
    let put = |number: u32| {
        let (digest, bytes) = span(number, 256 << 10);
        let kept = cache.put_span(&digest, &bytes, Cost::Cheap);
        cache.settle();
        kept
    };
    let kept = (0..100).filter(|number| put(*number)).count() as u64;
    assert!(kept * (256 << 10) > limit, "{kept}");
    assert!(cache.usage().unwrap().total.bytes <= slack(limit));
    drop(busy);
    assert!(!put(200), "this one begins the scan");
    assert!(cache.usage().unwrap().total.bytes <= limit);
    assert!(put(201), "and then there is room");
}

#[test]
fn small_limits() {
    let folder = tempfile::tempdir().unwrap();
    let (digest, bytes) = span(1, 1000);
    let cache = Cache::open_limited(folder.path(), Limit::Bytes(1039));
    assert!(!cache.put_span(&digest, &bytes, Cost::Cheap), "the trailer has no room");
    let cache = Cache::open_limited(folder.path(), Limit::Bytes(1040));
    assert!(cache.put_span(&digest, &bytes, Cost::Cheap));
    // A scan that is under way makes others skip theirs.
    cache.settle();
    let cache = Cache::open_limited(folder.path(), Limit::Bytes(0));
    assert!(!cache.put_span(&span(2, 1).0, &span(2, 1).1, Cost::Dear));
    cache.settle();
    // Documents are kept whatever the limit, and make spans go.
    let document = Digest::sha256(b"{}");
    cache.put_blob(&document, b"{}");
    cache.settle();
    assert!(cache.blob(&document).is_some() && cache.span(&digest, 1000).is_none());
    // Where they alone exceed the limit, no room is left for spans.
    let cache = Cache::open_limited(folder.path(), Limit::Bytes(1500));
    // The scan that the second begins sees the first in any case.
    for large in [vec![1; 2000], vec![2; 2000]] {
        cache.put_blob(&Digest::sha256(&large), &large);
        cache.settle();
    }
    assert!(!cache.put_span(&digest, &bytes, Cost::Cheap));
}

#[test]
fn layer_indexes_go_last_with_all_their_names() {
    let folder = tempfile::tempdir().unwrap();
    let cache = Cache::open_limited(folder.path(), Limit::Unlimited);
    let digest = |number: u8| Digest::sha256(&[number]);
    let name = |number: u8| LayerName::Blob(digest(number));
    let hint = |number: u8| LayerName::Hint { blob: digest(number), scope: digest(0) };
    for number in 0..3 {
        cache.put_layer_index(&digest(number), &DiffId(digest(100 + number)), &[number; 5000]);
    }
    cache.put_external_index(&hint(7), &[7; 5000]);
    cache.reject_layer_index(&hint(8));
    cache.put_blob(&digest(9), &[9]);
    let file = |folder_name: &str, number: u8| {
        let name = format!("sha256-{}", digest(number).hex());
        folder.path().join("v1").join(folder_name).join(name)
    };
    set_age(&file("layers", 0), HOUR);
    set_age(&file("layers", 1), 3 * HOUR);
    set_age(&file("layers", 2), 2 * HOUR);
    let hints = fs::read_dir(folder.path().join("v1/hints")).unwrap();
    hints.for_each(|file| set_age(&file.unwrap().path(), 4 * HOUR));
    // Used again, so it is not the oldest any more.
    assert!(cache.layer_index(&name(1), 5000).is_some());
    let span = put(&cache, 1, Cost::Dear);
    let there = || [0, 1, 2].map(|number| file("layers", number).exists());

    // A small limit leaves what indexes there are.
    let small = Cache::open_limited(folder.path(), Limit::Bytes(2000));
    small.collect_to_limit().unwrap();
    assert!(cache.span(&span, 1000).is_none());
    assert_eq!(there(), [true; 3]);
    let removed = cache.collect(16_000).unwrap();
    assert!(removed.left <= 16_000, "{removed:?}");
    assert!(cache.layer_index(&hint(7), 5000).is_none());
    assert_eq!(there(), [true; 3]);
    cache.collect(11_000).unwrap();
    assert_eq!(there(), [true, true, false]);
    assert!(!file("layers", 2).exists() && !file("diffs", 102).exists());
    cache.collect(0).unwrap();
    assert_eq!(there(), [false; 3]);
    assert!(cache.is_rejected(&hint(8)), "that a table lies stays known");
    assert_eq!(cache.blob(&digest(9)), Some(vec![9]));
}

#[test]
fn downloads_and_temporary_files_go_before_spans() {
    let folder = tempfile::tempdir().unwrap();
    let cache = Cache::open_limited(folder.path(), Limit::Unlimited);
    let name = |number: u8| Digest::sha256(&[number]);
    let file = |number: u8| {
        folder.path().join("v1/partial").join(format!("sha256-{}", name(number).hex()))
    };
    for number in 0..4 {
        assert!(cache.partial(&name(number), 2000).unwrap().put(0, &[number; 1000]));
    }
    let temporary = |name: &str| {
        let path = folder.path().join("v1/tmp").join(name);
        fs::write(&path, [0; 100]).unwrap();
        path
    };
    let (old, young) = (temporary(".tmpold"), temporary(".tmpyoung"));
    set_age(&old, 25 * HOUR);
    let span = put(&cache, 1, Cost::Cheap);
    set_age(&path(folder.path(), FileKind::Spans, &span), 99 * HOUR);
    for (number, hours) in [(0, 2), (1, 3), (2, 1), (3, 25)] {
        set_age(&file(number), hours * HOUR);
    }
    let there = || [0, 1, 2, 3].map(|number| file(number).exists());
    let locked = cache.partial(&name(1), 2000).unwrap();

    let removed = cache.collect(u64::MAX).unwrap();
    assert_eq!((removed.files, removed.bytes), (2, 1100), "what no download wants any more");
    assert_eq!(there(), [true, true, true, false]);
    assert!(!old.exists() && young.exists());

    cache.collect(3500).unwrap();
    assert_eq!(there(), [false, true, true, false], "the oldest that no download appends to");
    cache.collect(0).unwrap();
    assert_eq!(there(), [false, true, false, false]);
    assert!(cache.span(&span, 1000).is_none());
    drop(locked);
    assert_eq!(cache.collect(0).unwrap().left, 100);
}
