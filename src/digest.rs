//! Digests: the names of verified content.
//!
//! Every byte a user sees is bound to an image manifest by a chain of digests. The chain has
//! three kinds of link, and mixing them up is the classic mistake of image tools, so each is a
//! type of its own:
//!
//! - [`Digest`] names a *blob* as it travels: a manifest, a config, a (compressed) layer. Written
//!   `sha256:…` or `sha512:…` (OCI image spec, descriptor.md, "Digests").
//! - [`DiffId`] names the *uncompressed* tar of a layer (config.md, `rootfs.diff_ids`).
//! - [`SpanDigest`] is ours alone: BLAKE3 over the uncompressed bytes of one span. No user ever
//!   sees one, so it can be the fastest cryptographic hash there is.
//!
//! [`ContentDigest`] says what a file holds; it binds nothing, but tells equal files from others.
//!
//! `sha2` is used rather than a TLS library's hash because it is pure Rust and picks the CPU's
//! SHA instructions at run time. The running SHA-256 around its compression function is our own, so that
//! two hashes of the same bytes can be computed at once.

mod chain;
mod content;
mod sha256;
mod verifying_reader;

use std::fmt;
use std::str::FromStr;

use sha2::Digest as _;

pub use chain::ChainId;
pub use content::{ContentDigest, ContentHasher};
pub use verifying_reader::{VerifyError, VerifyingReader};

use sha256::Sha256;

/// A hash algorithm that the OCI image spec registers and that we verify.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Algorithm {
    /// SHA-256: what practically every image uses.
    Sha256,
    /// SHA-512: registered, rare.
    Sha512,
}

impl Algorithm {
    /// All of them.
    pub const ALL: [Algorithm; 2] = [Algorithm::Sha256, Algorithm::Sha512];

    /// The name in front of the colon.
    pub fn name(self) -> &'static str {
        match self {
            Algorithm::Sha256 => "sha256",
            Algorithm::Sha512 => "sha512",
        }
    }

    /// Length of the hash in bytes.
    pub fn hash_bytes(self) -> usize {
        match self {
            Algorithm::Sha256 => 32,
            Algorithm::Sha512 => 64,
        }
    }
}

/// Why a text is not a digest.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ParseError {
    /// No `algorithm:hex` form.
    #[error("`{0}` is not a digest: expected `sha256:` and 64 hexadecimal digits")]
    Form(String),
    /// A well-formed digest of an algorithm that cannot be checked here.
    #[error("digest algorithm `{0}` is not supported (only sha256 and sha512 are)")]
    Algorithm(String),
    /// The hex part has the wrong length or uppercase or foreign characters.
    #[error("`{text}` is not a digest: {algorithm} needs {expected} lowercase hexadecimal digits")]
    Hex {
        /// The text as given.
        text: String,
        /// The algorithm named.
        algorithm: &'static str,
        /// Digits that algorithm needs.
        expected: usize,
    },
}

/// The digest of a blob as it is stored and sent: of the *compressed* bytes of a layer.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest {
    algorithm: Algorithm,
    /// Hash bytes, zero-padded to the longest algorithm.
    hash: [u8; 64],
}

impl Digest {
    /// Wraps the raw hash bytes; `None` if the length does not fit the algorithm.
    pub fn from_hash(algorithm: Algorithm, bytes: &[u8]) -> Option<Digest> {
        if bytes.len() != algorithm.hash_bytes() {
            return None;
        }
        let mut hash = [0; 64];
        hash[..bytes.len()].copy_from_slice(bytes);
        Some(Digest { algorithm, hash })
    }

    /// The SHA-256 digest of `bytes`.
    pub fn sha256(bytes: &[u8]) -> Digest {
        let mut hasher = Hasher::new(Algorithm::Sha256);
        hasher.update(bytes);
        hasher.finish()
    }

    /// The algorithm.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The raw hash, as long as the algorithm's output.
    pub fn hash(&self) -> &[u8] {
        &self.hash[..self.algorithm.hash_bytes()]
    }

    /// The hash in lowercase hexadecimal, without the algorithm.
    pub fn hex(&self) -> String {
        hex(self.hash())
    }

    /// Whether `bytes` have this digest.
    pub fn matches(&self, bytes: &[u8]) -> bool {
        let mut hasher = Hasher::new(self.algorithm);
        hasher.update(bytes);
        hasher.finish() == *self
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.algorithm.name(), self.hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Digest {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Digest, ParseError> {
        let form = || ParseError::Form(text.to_owned());
        let (name, digits) = text.split_once(':').ok_or_else(form)?;
        let algorithm = match name {
            "sha256" => Algorithm::Sha256,
            "sha512" => Algorithm::Sha512,
            _ => {
                // descriptor.md: algorithm ::= component (separator component)*
                let known_form = !name.is_empty()
                    && name.bytes().all(|b| {
                        b.is_ascii_lowercase() || b.is_ascii_digit() || b"+._-".contains(&b)
                    });
                return Err(if known_form && !digits.is_empty() {
                    ParseError::Algorithm(name.to_owned())
                } else {
                    form()
                });
            }
        };
        let hash = unhex(digits).filter(|h| h.len() == algorithm.hash_bytes());
        let hash = hash.ok_or_else(|| ParseError::Hex {
            text: text.to_owned(),
            algorithm: algorithm.name(),
            expected: algorithm.hash_bytes() * 2,
        })?;
        Digest::from_hash(algorithm, &hash).ok_or_else(form)
    }
}

impl serde::Serialize for Digest {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for Digest {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Digest, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// The digest of a layer's *uncompressed* tar.
#[derive(
    Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Deserialize, serde::Serialize,
)]
#[serde(transparent)]
pub struct DiffId(pub Digest);

impl fmt::Display for DiffId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Debug for DiffId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// A hash of the content of one regular file; SHA-256, which scanners and package databases speak,
/// unless a [`ContentDigest`] says otherwise.
pub type ContentHash = [u8; 32];

/// The name of the uncompressed bytes of one span: their BLAKE3, or a BLAKE3 over other digests
/// that bind them just as well.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SpanDigest(pub [u8; 32]);

impl SpanDigest {
    /// Hashes the bytes of a span.
    pub fn of(bytes: &[u8]) -> SpanDigest {
        SpanDigest(*blake3::hash(bytes).as_bytes())
    }

    /// The name of a span that is made of chunks with these SHA-256 digests and lengths: as binding
    /// as one digest over all bytes.
    pub fn of_chunks(chunks: impl Iterator<Item = ([u8; 32], u64)>) -> SpanDigest {
        let mut hasher = blake3::Hasher::new_derive_key("ocifs 2026 span of chunks");
        for (digest, length) in chunks {
            hasher.update(&digest);
            hasher.update(&length.to_le_bytes());
        }
        SpanDigest(*hasher.finalize().as_bytes())
    }

    /// The name of a span whose *compressed* bytes have this SHA-256, and which is decoded from
    /// them with these bits, this window and to this length: all that the result depends on.
    pub fn of_compressed(digest: [u8; 32], bits: u8, window: &[u8], length: u64) -> SpanDigest {
        let mut hasher = blake3::Hasher::new_derive_key("ocifs 2026 span of compressed bytes");
        hasher.update(&digest);
        hasher.update(&[bits]);
        hasher.update(&length.to_le_bytes());
        hasher.update(window);
        SpanDigest(*hasher.finalize().as_bytes())
    }

    /// The name of this span where only an index that nothing proves says that the layer in `blob`
    /// has it. Such an index may name any digest, so its spans are kept apart from all others: what
    /// is found under this name was decoded from that blob.
    pub fn in_unproven(self, blob: &Digest) -> SpanDigest {
        let mut hasher = blake3::Hasher::new_derive_key("ocifs 2026 span of an unproven index");
        hasher.update(blob.hash());
        hasher.update(&self.0);
        SpanDigest(*hasher.finalize().as_bytes())
    }

    /// Hashes the bytes of a span that come in pieces.
    pub fn hasher() -> SpanHasher {
        SpanHasher(blake3::Hasher::new())
    }

    /// Lowercase hexadecimal: the name of the span's cache file.
    pub fn hex(&self) -> String {
        hex(&self.0)
    }
}

/// Computes [`SpanDigest::of`] of bytes that come in pieces.
#[derive(Debug)]
pub struct SpanHasher(blake3::Hasher);

impl SpanHasher {
    /// Takes the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The digest of all of them.
    pub fn finish(&self) -> SpanDigest {
        SpanDigest(*self.0.finalize().as_bytes())
    }
}

impl fmt::Debug for SpanDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.hex())
    }
}

/// A running hash of one [`Algorithm`].
#[derive(Clone, Debug)]
pub struct Hasher(Inner);

#[derive(Clone, Debug)]
enum Inner {
    Sha256(Sha256),
    Sha512(Box<sha2::Sha512>),
}

impl Hasher {
    /// Starts an empty hash.
    pub fn new(algorithm: Algorithm) -> Hasher {
        Hasher(match algorithm {
            Algorithm::Sha256 => Inner::Sha256(Sha256::new()),
            Algorithm::Sha512 => Inner::Sha512(Box::new(sha2::Sha512::new())),
        })
    }

    /// Adds bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        match &mut self.0 {
            Inner::Sha256(h) => h.update(bytes),
            Inner::Sha512(h) => h.update(bytes),
        }
    }

    /// The digest of all bytes added.
    pub fn finish(self) -> Digest {
        let (algorithm, hash) = match self.0 {
            Inner::Sha256(h) => (Algorithm::Sha256, h.finish().to_vec()),
            Inner::Sha512(h) => (Algorithm::Sha512, h.finalize().to_vec()),
        };
        let mut padded = [0; 64];
        padded[..hash.len()].copy_from_slice(&hash);
        Digest { algorithm, hash: padded }
    }
}

/// Lowercase hexadecimal of `bytes`.
pub fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = String::with_capacity(bytes.len() * 2);
    for b in bytes {
        text.push(DIGITS[usize::from(b >> 4)] as char);
        text.push(DIGITS[usize::from(b & 15)] as char);
    }
    text
}

/// The bytes behind lowercase hexadecimal; `None` for anything else.
pub fn unhex(text: &str) -> Option<Vec<u8>> {
    let digit = |b: u8| match b {
        b'0'..=b'9' => Some(b - b'0'),
        b'a'..=b'f' => Some(b - b'a' + 10),
        _ => None,
    };
    if !text.len().is_multiple_of(2) {
        return None;
    }
    text.as_bytes().chunks_exact(2).map(|p| Some(digit(p[0])? << 4 | digit(p[1])?)).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const EMPTY: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn parses_and_prints() {
        let digest: Digest = EMPTY.parse().unwrap();
        assert_eq!(digest, Digest::sha256(b""));
        assert_eq!(digest.to_string(), EMPTY);
        assert!(digest.matches(b"") && !digest.matches(b"x"));
        let long = format!("sha512:{}", "0".repeat(128));
        assert_eq!(long.parse::<Digest>().unwrap().to_string(), long);
    }

    #[test]
    fn refuses_what_is_not_a_digest() {
        let upper = EMPTY.to_uppercase().replace("SHA256", "sha256");
        for text in
            ["", "sha256", "sha256:", "sha256:12", ":abc", upper.as_str(), "sha256:../../etc"]
        {
            assert!(text.parse::<Digest>().is_err(), "{text}");
        }
        let blake = "blake3:00".parse::<Digest>().unwrap_err();
        assert_eq!(blake, ParseError::Algorithm("blake3".into()));
    }
}
