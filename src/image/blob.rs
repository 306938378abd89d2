//! Single blobs of an image, of its repository or of its layout.
//!
//! # Problem
//!
//! Who looks at an image sees digests, and wants to see what is behind one: a manifest, a config, a layer, an
//! attestation. A digest is 64 digits long, and a blob may be gigabytes.
//!
//! # Design
//!
//! A digest that is whole is looked for among the documents of the image first, since their descriptors say how many
//! bytes to expect and of which endpoint of a registry to ask for them; then the repository is asked for it. The start
//! of one ([`MIN_DIGITS`] digits or more) means what one of the documents names, of all platforms if need be, and must
//! be unambiguous.
//!
//! Documents and blobs of up to [`MAX_WHOLE_BYTES`] are checked before the first byte is handed on. Larger ones are
//! checked while they are read: a reader hands bytes on as they come, but for the last [`HELD_BYTES`], which it keeps
//! until the digest has proven right. So a wrong blob never comes out whole, and ends with an error.
//!
//! Of what comes of a large blob from a byte on ([`find_rest_of_blob`]) no more than the length can be checked: it is for who has
//! the bytes before it, and checks the digest of all of them.

use std::collections::VecDeque;
use std::fmt;
use std::io::{self, Cursor, Read};
use std::str::FromStr;
use std::sync::Arc;

use super::graph::{self, Depth, Graph};
use super::locate::open_source;
use super::{Error, ImageOptions};
use crate::cache::Cache;
use crate::digest::{Digest, VerifyingReader};
use crate::oci::{Descriptor, Document};
use crate::reference::ImageName;
use crate::resolve::{Documents, ResolvedImage, Verified};
use crate::source::registry::Session;
use crate::source::{Body, Opened, Source};

/// Digits of a digest that must be given.
const MIN_DIGITS: usize = 6;

/// The largest blob that is checked before any of it is handed on, in bytes: it is in memory.
const MAX_WHOLE_BYTES: u64 = 8 << 20;

/// Bytes at the end of a larger blob that are handed on once all of it has proven right.
const HELD_BYTES: usize = 64 << 10;

/// Blobs that are listed where the start of a digest means several.
const MAX_LISTED: usize = 8;

/// A digest, or how one begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BlobName {
    /// All of it.
    Whole(Digest),
    /// The first hexadecimal digits.
    Start(String),
}

impl FromStr for BlobName {
    type Err = String;

    fn from_str(text: &str) -> Result<BlobName, String> {
        let digits = text.strip_prefix("sha256:").unwrap_or(text);
        let is_hex = digits.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        match digits.len() {
            64 if is_hex => format!("sha256:{digits}").parse().map(BlobName::Whole),
            MIN_DIGITS..64 if is_hex => return Ok(BlobName::Start(digits.to_owned())),
            _ if is_hex && digits.len() < MIN_DIGITS => {
                return Err(format!("give at least {MIN_DIGITS} digits of the digest"));
            }
            _ => text.parse().map(BlobName::Whole),
        }
        .map_err(|e: crate::digest::ParseError| e.to_string())
    }
}

impl fmt::Display for BlobName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BlobName::Whole(digest) => fmt::Display::fmt(digest, f),
            BlobName::Start(digits) => f.write_str(digits),
        }
    }
}

impl BlobName {
    fn means(&self, digest: &Digest) -> bool {
        match self {
            BlobName::Whole(whole) => whole == digest,
            BlobName::Start(digits) => digest.hex().starts_with(digits),
        }
    }
}

/// A blob that was found.
pub struct NamedBlob {
    /// Its digest, size and media type.
    pub descriptor: Descriptor,
    reader: Box<dyn Read + Send>,
}

impl fmt::Debug for NamedBlob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NamedBlob").field("descriptor", &self.descriptor).finish_non_exhaustive()
    }
}

impl Read for NamedBlob {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.reader.read(buf)
    }
}

/// Finds a blob, and begins to read it.
///
/// # Errors
/// There is none, or several; it can't be had, or a small one is wrong. That a large one is wrong is an error of
/// reading it.
pub fn find_blob(
    name: &ImageName,
    blob: &BlobName,
    cache: &Arc<Cache>,
    options: &ImageOptions,
) -> Result<NamedBlob, Error> {
    find(name, blob, 0, cache, options)
}

/// The same from a byte on. **Of a large blob only the length is checked**: who puts it behind what is there has to check the
/// digest.
///
/// # Errors
/// As [`find_blob`], or the blob has fewer bytes.
pub fn find_rest_of_blob(
    name: &ImageName,
    blob: &BlobName,
    from: u64,
    cache: &Arc<Cache>,
    options: &ImageOptions,
) -> Result<NamedBlob, Error> {
    find(name, blob, from, cache, options)
}

fn find(
    name: &ImageName,
    blob: &BlobName,
    from: u64,
    cache: &Arc<Cache>,
    options: &ImageOptions,
) -> Result<NamedBlob, Error> {
    let session = Session::default();
    let source = open_source(name, cache, options, &session)?;
    let resolve_options = options.of_resolving();
    let documents = Documents::new(source.as_ref(), cache, &resolve_options);
    let search = |depth| -> Result<Vec<Named>, Error> {
        let (mut graph, image) = graph::documents_of(name, documents, options, depth)?;
        if depth == Depth::All {
            graph.list_referrers(&source, image.as_ref(), options, depth);
        }
        let mut named = named(&graph, image.as_ref());
        named.retain(|named| blob.means(&named.descriptor.digest));
        Ok(named)
    };
    let mut found = search(Depth::Shown)?;
    match (blob, Arc::clone(&source).repository()) {
        (BlobName::Whole(_), _) if !found.is_empty() => {}
        (BlobName::Whole(digest), Some(repository)) => {
            found.extend(repository.describe(digest)?.map(Named::of_repository));
        }
        // The start of a digest may mean something else further down.
        _ => found = search(Depth::All)?,
    }
    let first = match &found[..] {
        [] => return Err(Error::NoSuchBlob(blob.to_string())),
        [first, ..] => first,
    };
    if found.iter().any(|other| other.descriptor.digest != first.descriptor.digest) {
        let mut digests: Vec<String> =
            found.iter().map(|named| named.descriptor.digest.to_string()).collect();
        digests.sort();
        digests.dedup();
        digests.truncate(MAX_LISTED);
        return Err(Error::AmbiguousBlob { start: blob.to_string(), found: digests.join(", ") });
    }
    let descriptor = first.descriptor.clone();
    if from > descriptor.size {
        return Err(Error::BlobIsShorter {
            digest: descriptor.digest,
            size: descriptor.size,
            from,
        });
    }
    let whole = |bytes: &[u8]| {
        let from = usize::try_from(from).unwrap_or(usize::MAX).min(bytes.len());
        Box::new(Cursor::new(bytes[from..].to_vec()))
    };
    let reader: Box<dyn Read + Send> = match first.place {
        Place::Local(ref root) => whole(root.bytes()),
        Place::Document => whole(documents.document(&descriptor)?.bytes()),
        Place::Blob if descriptor.size <= MAX_WHOLE_BYTES => {
            whole(documents.blob(&descriptor, MAX_WHOLE_BYTES)?.bytes())
        }
        Place::Blob if source.is_offline() => return Err(Error::NoSuchBlob(blob.to_string())),
        Place::Blob if from > 0 => Box::new(Rest::open(source.as_ref(), &descriptor, from)?),
        Place::Blob => {
            let body = source.blob(&descriptor, 0..descriptor.size)?.body;
            Box::new(Holding::new(VerifyingReader::new(body, descriptor.digest, descriptor.size)))
        }
    };
    Ok(NamedBlob { descriptor, reader })
}

/// Something that a document of the image names.
struct Named {
    descriptor: Descriptor,
    place: Place,
}

/// Where the bytes of a blob are.
enum Place {
    /// Here.
    Local(Verified<()>),
    /// Among the manifests of the repository.
    Document,
    /// Among its blobs.
    Blob,
}

impl Named {
    /// What a repository knows by its digest. It has media types for documents alone.
    fn of_repository(descriptor: Descriptor) -> Named {
        let place = match descriptor.media_type.is_empty() {
            true => Place::Blob,
            false => Place::Document,
        };
        Named { descriptor, place }
    }
}

/// Everything that the documents name.
fn named(graph: &Graph, image: Option<&ResolvedImage>) -> Vec<Named> {
    let root = &graph.root;
    let (digest, size) = (root.digest(), root.size());
    let media_type = root.value().media_type().to_owned();
    let descriptor = Descriptor { media_type, size, ..Descriptor::of_manifest(digest) };
    let mut found = vec![Named { descriptor, place: Place::Local(root.clone().without_value()) }];
    let documents = graph.entries.iter().filter_map(|entry| entry.descriptor.as_ref().ok());
    let referrers = graph.referrers.iter().flatten().map(|referrer| &referrer.descriptor);
    let documents = documents.chain(referrers).cloned();
    found.extend(documents.map(|descriptor| Named { descriptor, place: Place::Document }));
    let root = match root.value() {
        Document::Manifest(manifest) => Some(manifest),
        Document::Index(_) => None,
    };
    let shown = image.map(|image| image.manifest().value());
    let entries = graph.entries.iter().filter_map(|entry| entry.manifest.as_ref());
    for manifest in root.into_iter().chain(shown).chain(entries) {
        let blobs = [&manifest.config].into_iter().chain(&manifest.layers).cloned();
        found.extend(blobs.map(|descriptor| Named { descriptor, place: Place::Blob }));
    }
    found
}

/// What comes of a blob from a byte on: so many bytes, or an error.
struct Rest {
    body: Body,
    /// Bytes that the server sends before those that are wanted.
    before: u64,
    left: u64,
}

impl Rest {
    fn open(source: &dyn Source, descriptor: &Descriptor, from: u64) -> Result<Rest, Error> {
        let Opened { body, start, .. } = source.blob(descriptor, from..descriptor.size)?;
        Ok(Rest { body, before: from - start, left: descriptor.size - from })
    }
}

impl Read for Rest {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.before > 0 {
            let read = io::copy(&mut (&mut self.body).take(self.before), &mut io::sink())?;
            self.before -= read;
            if self.before > 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(buf.len());
        let n = self.body.read(&mut buf[..most])?;
        if n == 0 && most > 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.left -= n as u64;
        Ok(n)
    }
}

/// Keeps the last bytes of what it reads back until there are no more, which a verifying reader says of what is right
/// alone.
struct Holding<R> {
    inner: R,
    held: VecDeque<u8>,
    is_right: bool,
}

impl<R: Read> Holding<R> {
    fn new(inner: R) -> Holding<R> {
        Holding { inner, held: VecDeque::new(), is_right: false }
    }
}

impl<R: Read> Read for Holding<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let mut chunk = vec![0; HELD_BYTES];
        while !self.is_right && self.held.len() <= HELD_BYTES {
            match self.inner.read(&mut chunk) {
                Ok(0) => self.is_right = true,
                Ok(n) => self.held.extend(&chunk[..n]),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        let kept = if self.is_right { 0 } else { HELD_BYTES };
        let n = buf.len().min(self.held.len() - kept);
        self.held.read_exact(&mut buf[..n])?;
        Ok(n)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn names_of_blobs() {
        let whole = Digest::sha256(b"x");
        let text = whole.to_string();
        assert_eq!(text.parse(), Ok(BlobName::Whole(whole)));
        assert_eq!(text[7..].parse(), Ok(BlobName::Whole(whole)));
        for start in [&text[..13], &text[7..13], &text[..20]] {
            assert!(start.parse::<BlobName>().unwrap().means(&whole), "{start}");
        }
        assert!(!"000000".parse::<BlobName>().unwrap().means(&whole));
        for wrong in ["", "12345", "sha256:12345", "latest", "ABCDEF", "sha512:1234567"] {
            assert!(wrong.parse::<BlobName>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_rest_of_a_blob_has_its_length() {
        let read = |sent: &'static [u8], before, left| {
            let mut out = Vec::new();
            let result = Rest { body: Box::new(sent), before, left }.read_to_end(&mut out);
            result.map(|_| out).map_err(|e| e.kind())
        };
        assert_eq!(read(b"defg", 0, 4), Ok(b"defg".to_vec()));
        assert_eq!(read(b"abcdefg", 3, 4), Ok(b"defg".to_vec()));
        assert_eq!(read(b"defgh", 0, 4), Ok(b"defg".to_vec()));
        assert_eq!(read(b"", 0, 0), Ok(Vec::new()));
        assert_eq!(read(b"def", 0, 4), Err(io::ErrorKind::UnexpectedEof));
        assert_eq!(read(b"ab", 3, 4), Err(io::ErrorKind::UnexpectedEof));
    }

    #[test]
    fn the_end_comes_out_once_all_of_it_is_right() {
        let bytes: Vec<u8> = (0..300_000u32).map(|n| (n * 7) as u8).collect();
        let read = |bytes: &[u8], digest| {
            let reader = VerifyingReader::new(bytes, digest, 300_000);
            let mut out = Vec::new();
            let result = Holding::new(reader).read_to_end(&mut out);
            (out, result.is_ok())
        };
        let right = Digest::sha256(&bytes);
        assert_eq!(read(&bytes, right), (bytes.clone(), true));
        let mut wrong = bytes.clone();
        wrong[5] ^= 1;
        for wrong in [&wrong[..], &bytes[..299_999], &[&bytes[..], b"x"].concat()] {
            let (out, is_right) = read(wrong, right);
            assert!(!is_right && out.len() <= 300_000 - HELD_BYTES, "{}", out.len());
        }
    }
}
