//! Tests of the cache as a whole.

use std::fs;

use super::layout::{blob_name, span_name};
use super::{Asked, Cache, Cost, FileKind, LayerName};
use crate::digest::{DiffId, Digest, SpanDigest};

#[test]
fn what_is_put_is_read_back_and_damage_is_dropped() {
    let folder = tempfile::tempdir().unwrap();
    let cache = Cache::open(folder.path());
    let bytes = vec![7; 100_000];
    let (digest, other) = (SpanDigest::of(&bytes), SpanDigest::of(b"other"));
    assert!(cache.put_span(&digest, &bytes, Cost::Cheap));
    assert!(!cache.put_span(&digest, &bytes, Cost::Cheap));
    let file = cache.span(&digest, 100_000).unwrap();
    let mut read = vec![0; 100_000];
    assert!(file.read_at(&mut read, 0).unwrap());
    assert_eq!(read, bytes);
    let mut part = [0; 5];
    assert!(file.read_at(&mut part, 99_995).unwrap());
    assert_eq!(part, [7; 5]);

    let path = folder.path().join("v1").join(span_name(FileKind::Spans, &digest));
    let whole = fs::read(&path).unwrap();
    let damages: [fn(&mut Vec<u8>); 4] =
        [|f| f[50_000] ^= 1, |f| f.truncate(500), |f| f.push(0), |f| f.clear()];
    for damage in damages {
        let mut file = whole.clone();
        damage(&mut file);
        fs::remove_file(&path).ok();
        fs::write(&path, file).unwrap();
        assert!(cache.span(&digest, 100_000).is_none());
        assert!(!path.exists(), "a damaged file is removed");
    }
    // A whole file under a wrong name.
    let wrong = folder.path().join("v1").join(span_name(FileKind::Spans, &other));
    fs::create_dir_all(wrong.parent().unwrap()).unwrap();
    fs::write(&wrong, &whole).unwrap();
    assert!(cache.span(&other, 100_000).is_none());

    let blob = Digest::sha256(b"{}");
    cache.put_blob(&blob, b"{}");
    assert_eq!(cache.blob(&blob).unwrap(), b"{}");
    let path = folder.path().join("v1").join(blob_name(&blob));
    fs::remove_file(&path).unwrap();
    fs::write(&path, b"[]").unwrap();
    assert!(cache.blob(&blob).is_none() && !path.exists());
}

#[test]
fn tags_and_layer_indexes() {
    let folder = tempfile::tempdir().unwrap();
    let cache = Cache::open(folder.path());
    let digest = Digest::sha256(b"x");
    assert!(cache.tag("a/b:c").is_none());
    cache.put_tag("a/b:c", digest, Asked::Checked);
    assert_eq!(cache.tag("a/b:c").unwrap().digest, digest);
    let diff_id = DiffId(Digest::sha256(b"y"));
    cache.put_layer_index(&digest, &diff_id, b"index");
    let names = [LayerName::Blob(digest), LayerName::DiffId(diff_id)];
    assert!(names.iter().all(|name| cache.layer_index(name, 1000).unwrap() == b"index"));
    cache.discard_layer_index(&names[0], "test");
    assert!(cache.layer_index(&names[0], 1000).is_none());
    assert!(cache.layer_index(&names[1], 1000).is_some(), "the other name is another file");
    let left: Vec<_> = fs::read_dir(folder.path().join("v1/tmp")).unwrap().collect();
    assert!(left.is_empty(), "no temporary file is left");
}

#[test]
fn a_cache_that_cannot_be_used_is_no_error() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, b"").unwrap();
    for cache in [Cache::open(&file), Cache::none()] {
        let digest = SpanDigest::of(b"x");
        assert!(!cache.put_span(&digest, b"x", Cost::Cheap) && cache.span(&digest, 1).is_none());
        assert!(!cache.is_writable());
    }
}
