//! Which spans of a blob have come that is shown before it is verified, and what their digests are.
//!
//! Spans are kept under the digests of their bytes. Those of a layer stand in its index; a blob that no index
//! describes yet has this list instead, until all of it has come.
//!
//! ```text
//! 8 bytes    "OCIFSARR"
//! 32 bytes   for each span: its digest, or zeros if it has not come
//! 32 bytes   BLAKE3 of all before
//! ```

use super::folder::Cache;
use super::layout::arrived_name;
use crate::digest::{Digest, SpanDigest};

const MAGIC: &[u8; 8] = b"OCIFSARR";
const DIGEST_BYTES: usize = 32;

/// Stands for a span that has not come.
const NONE: SpanDigest = SpanDigest([0; DIGEST_BYTES]);

/// The digests of the spans of a blob, as far as they have come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArrivedSpans(Vec<SpanDigest>);

impl ArrivedSpans {
    /// Of so many spans, none of which has come.
    fn none(spans: usize) -> ArrivedSpans {
        ArrivedSpans(vec![NONE; spans])
    }

    /// The digest of a span that has come.
    pub fn digest(&self, at: usize) -> Option<SpanDigest> {
        self.0.get(at).copied().filter(|digest| *digest != NONE)
    }

    /// Notes that a span has come. Panics past the last.
    pub fn set(&mut self, at: usize, digest: SpanDigest) {
        self.0[at] = digest;
    }

    /// Takes over what another list has and this one has not.
    pub fn merge(&mut self, others: &ArrivedSpans) {
        let missing = self.0.iter_mut().zip(&others.0).filter(|(own, _)| **own == NONE);
        missing.for_each(|(own, other)| *own = *other);
    }

    /// The digests of those that have come, in order.
    pub fn digests(&self) -> impl Iterator<Item = SpanDigest> {
        self.0.iter().copied().filter(|digest| *digest != NONE)
    }

    fn encode(&self) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        self.0.iter().for_each(|digest| bytes.extend_from_slice(&digest.0));
        let checksum = blake3::hash(&bytes);
        bytes.extend_from_slice(checksum.as_bytes());
        bytes
    }

    /// The digests of those that have come, in a list of any length.
    pub(super) fn known(bytes: &[u8]) -> Option<Vec<SpanDigest>> {
        let digests = bytes.len().checked_sub(MAGIC.len() + DIGEST_BYTES)?;
        Some(ArrivedSpans::decode(bytes, digests / DIGEST_BYTES)?.digests().collect())
    }

    fn decode(bytes: &[u8], spans: usize) -> Option<ArrivedSpans> {
        let (content, checksum) = bytes.split_at_checked(bytes.len().checked_sub(DIGEST_BYTES)?)?;
        if blake3::hash(content).as_bytes() != checksum {
            return None;
        }
        let (digests, rest) = content.strip_prefix(MAGIC)?.as_chunks::<DIGEST_BYTES>();
        let is_whole = rest.is_empty() && digests.len() == spans;
        is_whole.then(|| ArrivedSpans(digests.iter().map(|digest| SpanDigest(*digest)).collect()))
    }
}

impl Cache {
    /// What has come of a blob with so many spans.
    pub fn arrived_spans(&self, blob: &Digest, spans: usize) -> ArrivedSpans {
        let most = (MAGIC.len() + (spans + 1) * DIGEST_BYTES) as u64;
        let bytes = self.read(&arrived_name(blob), most);
        let found = bytes.and_then(|bytes| ArrivedSpans::decode(&bytes, spans));
        found.unwrap_or_else(|| ArrivedSpans::none(spans))
    }

    /// Keeps what has come of a blob, with what another process has kept meanwhile.
    pub fn put_arrived_spans(&self, blob: &Digest, arrived: &mut ArrivedSpans) {
        arrived.merge(&self.arrived_spans(blob, arrived.0.len()));
        self.put(&arrived_name(blob), &[&arrived.encode()]);
    }

    /// Forgets what has come of a blob.
    pub fn forget_arrived_spans(&self, blob: &Digest) {
        self.remove(&arrived_name(blob), "all of its blob has come", log::Level::Debug);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_has_come_is_found_again() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::open(folder.path());
        let blob = Digest::sha256(b"blob");
        let mut arrived = cache.arrived_spans(&blob, 3);
        assert_eq!(arrived, ArrivedSpans::none(3));
        let digests = [b"a", b"b", b"c"].map(|text| SpanDigest::of(text));
        arrived.set(2, digests[2]);
        cache.put_arrived_spans(&blob, &mut arrived);
        // Another process adds to it.
        let mut other = ArrivedSpans::none(3);
        other.set(0, digests[0]);
        cache.put_arrived_spans(&blob, &mut other);
        let found = cache.arrived_spans(&blob, 3);
        assert_eq!(
            [0, 1, 2].map(|at| found.digest(at)),
            [Some(digests[0]), None, Some(digests[2])]
        );
        assert_eq!(found.digests().collect::<Vec<_>>(), [digests[0], digests[2]]);
        assert_eq!(cache.arrived_spans(&blob, 4), ArrivedSpans::none(4), "of another size");
        cache.forget_arrived_spans(&blob);
        assert_eq!(cache.arrived_spans(&blob, 3), ArrivedSpans::none(3));
    }

    #[test]
    fn damage_is_found() {
        let mut arrived = ArrivedSpans::none(2);
        arrived.set(1, SpanDigest::of(b"x"));
        let good = arrived.encode();
        assert_eq!(ArrivedSpans::decode(&good, 2), Some(arrived));
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1;
            assert_eq!(ArrivedSpans::decode(&bad, 2), None, "{at}");
        }
        assert_eq!(ArrivedSpans::decode(&good[..40], 2), None);
        assert_eq!(ArrivedSpans::decode(b"", 0), None);
    }
}
