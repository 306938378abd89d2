//! Images that are large enough for laziness to be counted, and what is counted.
//!
//! A [`Corpus`] is made once for each [`Form`] in which its layers are stored, together with the
//! layer indexes that a first pass makes of them. A test that wants an image whose index is known
//! and of which nothing else is cached gets it as a [`Lazy`] without another pass.
//!
//! What is counted is what the registry has sent: requests, and bytes of bodies. Time is not.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use ocifs::cache::{Cache, LayerName};
use ocifs::digest::{DiffId, Digest};
use ocifs::image::{Image, ImageOptions};
use ocifs::index::{LayerIndex, Span};
use ocifs::source::registry;
use ocifs::tree::{Ino, Order, Symlinks};

use crate::fixture::{Sandbox, name_in, open, options};
use crate::support::image::{Built, Compression, ImageBuilder, Layer, compress};
use crate::support::registry::{Logged, Registry};
use crate::support::tarball::{BLOCK, Entry, TarWriter};

/// Bytes that the kernel asks for at a time when a file is read in sequence.
pub const READ_BYTES: u64 = 128 << 10;

/// The file that is most of its layer.
pub const BIG: &str = "opt/big";

const BIG_BYTES: usize = 20 << 20;

/// How the layers are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Three layers as `docker build` writes them; the others have the middle one only.
    Gzip,
    /// As pigz and mgzip write it, in members of 64 KiB.
    SmallMembers,
    /// In members of 1 MiB.
    LargeMembers,
    /// As `zstd` and buildkit write it.
    OneFrame,
    /// Frames of 256 KiB.
    ManyFrames,
    /// The same with a seek table behind them.
    Seekable,
    Plain,
}

impl Form {
    pub const ALL: [Form; 7] = [
        Form::Gzip,
        Form::SmallMembers,
        Form::LargeMembers,
        Form::OneFrame,
        Form::ManyFrames,
        Form::Seekable,
        Form::Plain,
    ];

    fn layer(self, tar: &[u8]) -> Layer {
        let compression = match self {
            Form::Gzip => Compression::Gzip,
            Form::SmallMembers => Compression::GzipMultiMember(64 << 10),
            Form::LargeMembers => Compression::GzipMultiMember(1 << 20),
            Form::OneFrame => Compression::Zstd,
            Form::ManyFrames => Compression::ZstdManyFrames(256 << 10),
            Form::Seekable => return Layer::from_blob(seekable(tar), "zstd", tar),
            Form::Plain => Compression::None,
        };
        Layer::new(tar, compression)
    }
}

/// Frames of 256 KiB and a seek table, from the definition of the seekable format: a skippable
/// frame with both sizes of each frame, their number, a descriptor and a magic.
fn seekable(tar: &[u8]) -> Vec<u8> {
    let (mut blob, mut table) = (Vec::new(), Vec::new());
    for part in tar.chunks(256 << 10) {
        let frame = compress(part, Compression::Zstd);
        table.extend_from_slice(&(frame.len() as u32).to_le_bytes());
        table.extend_from_slice(&(part.len() as u32).to_le_bytes());
        blob.extend_from_slice(&frame);
    }
    let frames = (table.len() / 8) as u32;
    table.extend_from_slice(&frames.to_le_bytes());
    table.push(0);
    table.extend_from_slice(&0x8f92_eab1_u32.to_le_bytes());
    blob.extend_from_slice(&0x184d_2a5e_u32.to_le_bytes());
    blob.extend_from_slice(&(table.len() as u32).to_le_bytes());
    blob.extend_from_slice(&table);
    blob
}

/// A random sequence that is the same in each run.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Random {
        Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % limit
    }
}

/// Lines of words of which some are frequent and most are rare: gzip makes about a third of it, in
/// blocks of some 50 KiB with Huffman tables of their own.
pub fn text(length: usize, seed: u64) -> Vec<u8> {
    const WORDS: u64 = 1 << 13;
    let mut random = Random::new(seed);
    let mut words = Vec::new();
    for _ in 0..WORDS {
        let letters = 2 + random.below(9);
        words.push((0..letters).map(|_| b'a' + random.below(26) as u8).collect::<Vec<u8>>());
    }
    let mut text = Vec::with_capacity(length + 64);
    while text.len() < length {
        let word = random.below(WORDS) * random.below(WORDS) / WORDS;
        text.extend_from_slice(&words[word as usize]);
        text.push(if random.below(12) == 0 { b'\n' } else { b' ' });
    }
    text.truncate(length);
    text
}

/// A regular file of an image and where it lies.
#[derive(Clone, Debug)]
pub struct File {
    pub path: String,
    pub layer: usize,
    /// Where its content is in the layer's tar.
    pub content: Range<u64>,
}

impl File {
    pub fn length(&self) -> u64 {
        self.content.end - self.content.start
    }
}

/// Archives and the files in them, base first.
struct Archives {
    tars: Vec<Vec<u8>>,
    files: Vec<File>,
}

/// The archives of all forms.
fn archives() -> &'static Archives {
    static ARCHIVES: OnceLock<Archives> = OnceLock::new();
    ARCHIVES.get_or_init(|| {
        let mut archives = Archives { tars: Vec::new(), files: Vec::new() };
        archives.add("usr", 30, 1500, 26 << 20, None);
        archives.add("opt", 12, 300, 6 << 20, Some(BIG));
        archives.add("srv", 20, 600, 12 << 20, None);
        archives
    })
}

impl Archives {
    /// Adds a layer of about so many bytes in files of mixed sizes below `top`, with a big file in
    /// its middle if it has a path.
    fn add(&mut self, top: &str, dirs: u64, files: u64, bytes: usize, big: Option<&str>) {
        let layer = self.tars.len();
        let mut random = Random::new(layer as u64 + 1);
        let text = text(bytes * 5 / 4, layer as u64 + 1);
        let mut rest = &text[..];
        let mut writer = TarWriter::new();
        let mut add = |writer: &mut TarWriter, path: String, content: &[u8]| {
            writer.entry(&Entry::file(&path, content));
            let end = writer.position();
            let start = end - content.len().next_multiple_of(BLOCK) as u64;
            let content = start..start + content.len() as u64;
            self.files.push(File { path, layer, content });
        };
        writer.entry(&Entry::dir(top));
        let mean = bytes as u64 / files;
        for dir in 0..dirs {
            if let Some(big) = big.filter(|_| dir == dirs / 2) {
                add(&mut writer, big.to_owned(), &self::text(BIG_BYTES, 99));
            }
            writer.entry(&Entry::dir(format!("{top}/{dir:02}")));
            for file in 0..files / dirs {
                // Half of them are small, and a few make up most of the bytes.
                let length = match random.below(8) {
                    0..4 => random.below(mean / 2),
                    4..7 => random.below(mean * 2),
                    _ => random.below(mean * 6),
                };
                let (content, after) = rest.split_at(rest.len().min(length as usize));
                rest = after;
                add(&mut writer, format!("{top}/{dir:02}/{file:03}"), content);
            }
        }
        self.tars.push(writer.finish());
    }
}

/// An image in one form, with what a first pass over it makes and costs.
pub struct Corpus {
    pub built: Built,
    pub digests: Vec<String>,
    pub sizes: Vec<u64>,
    pub files: Vec<File>,
    tars: Vec<&'static [u8]>,
    /// The layers' indexes as they are cached.
    pub indexes: Vec<Vec<u8>>,
    pub spans: Vec<Vec<Span>>,
    /// What the first pass asked for.
    pub first_pass: Vec<Logged>,
}

/// The image in this form, made when it is first asked for.
pub fn corpus(form: Form) -> &'static Corpus {
    static CORPORA: [OnceLock<Corpus>; Form::ALL.len()] =
        [const { OnceLock::new() }; Form::ALL.len()];
    let place = Form::ALL.iter().position(|other| *other == form).unwrap();
    CORPORA[place].get_or_init(|| {
        let archives = archives();
        let layers = if form == Form::Gzip { 0..3 } else { 1..2 };
        let files = archives.files.iter().filter(|file| layers.contains(&file.layer));
        let files = files.map(|file| File { layer: file.layer - layers.start, ..file.clone() });
        let tars: Vec<&[u8]> = archives.tars[layers.clone()].iter().map(|tar| &tar[..]).collect();
        let layers = tars.iter().map(|tar| form.layer(tar));
        let built = layers.fold(ImageBuilder::new(), ImageBuilder::push_layer).build();
        Corpus::make(built, files.collect(), tars)
    })
}

impl Corpus {
    fn make(built: Built, files: Vec<File>, tars: Vec<&'static [u8]>) -> Corpus {
        let (sandbox, registry) = (Sandbox::new(), Registry::start());
        registry.add_image("r", "t", &built);
        let cache = sandbox.cache();
        drop(open(&name_in(&registry), &cache, &patient()).unwrap());
        let digests = built.layer_digests();
        let sizes = built.layer_sizes();
        let digest = |digest: &String| digest.parse::<Digest>().unwrap();
        let name = |d: &String| LayerName::Blob(digest(d));
        let indexes: Vec<Vec<u8>> =
            digests.iter().map(|d| cache.layer_index(&name(d), u64::MAX).unwrap()).collect();
        let spans = indexes.iter().zip(&digests).zip(&sizes).map(|((index, d), size)| {
            LayerIndex::decode(index).unwrap().span_table(digest(d), *size).spans
        });
        let spans = spans.collect();
        let first_pass = registry.requests();
        Corpus { digests, sizes, files, tars, indexes, spans, first_pass, built }
    }

    pub fn file(&self, path: &str) -> &File {
        self.files.iter().find(|file| file.path == path).unwrap()
    }

    pub fn content(&self, file: &File) -> &'static [u8] {
        &self.tars[file.layer][file.content.start as usize..file.content.end as usize]
    }

    /// Puts the layer indexes into a cache, and nothing else.
    pub fn put_indexes(&self, cache: &Cache) {
        let names = self.digests.iter().zip(self.built.diff_ids());
        for ((digest, diff_id), index) in names.zip(&self.indexes) {
            let diff_id = DiffId(diff_id.parse().unwrap());
            cache.put_layer_index(&digest.parse().unwrap(), &diff_id, index);
        }
    }

    /// The spans of a layer that hold this part of its tar.
    pub fn spans_of(&self, layer: usize, part: &Range<u64>) -> &[Span] {
        let spans = &self.spans[layer];
        let first = spans.partition_point(|span| span.end() <= part.start);
        let end = spans.partition_point(|span| span.start.0 < part.end);
        &spans[first..end.max(first)]
    }

    /// The compressed bytes of the spans that hold this part of a layer's tar.
    pub fn share(&self, layer: usize, part: &Range<u64>) -> u64 {
        let spans = self.spans_of(layer, part);
        let (first, last) = (spans.first().unwrap(), spans.last().unwrap());
        last.compressed_end.0 - first.compressed_start.0
    }

    /// Compressed bytes of the largest span of a layer.
    pub fn largest_span(&self, layer: usize) -> u64 {
        let lengths = self.spans[layer].iter().map(|s| s.compressed_end.0 - s.compressed_start.0);
        lengths.max().unwrap()
    }
}

/// Options that leave a busy machine the time it needs, and have one connection: what a read costs is counted
/// without the parts that a slow one would have.
pub fn patient() -> ImageOptions {
    let defaults = options();
    ImageOptions {
        registry: registry::RegistryOptions {
            deadline: Duration::from_secs(20),
            connections: 1,
            ..defaults.registry
        },
        read_deadline: Duration::from_secs(40),
        ..defaults
    }
}

/// The same with several connections.
pub fn wide() -> ImageOptions {
    let options = patient();
    let registry = registry::RegistryOptions { connections: 8, ..options.registry };
    ImageOptions { registry, ..options }
}

/// What went over the network for a blob.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    pub requests: usize,
    pub bytes: u64,
}

/// What the requests for a blob cost.
pub fn cost_of(log: &[Logged], digest: &str) -> Cost {
    let mut cost = Cost::default();
    for request in log.iter().filter(|request| request.path.contains(digest)) {
        cost.requests += 1;
        cost.bytes += request.body_bytes_sent;
    }
    cost
}

/// The range of a blob that a request asked for.
pub fn range_of(request: &Logged, size: u64) -> Range<u64> {
    let Some(range) = request.range.as_deref() else { return 0..size };
    let (start, last) = range.strip_prefix("bytes=").unwrap().split_once('-').unwrap();
    start.parse().unwrap()..last.parse::<u64>().map_or(size, |last| last + 1)
}

/// An image whose layer indexes are cached, and nothing else.
pub struct Lazy {
    pub image: Arc<Image>,
    pub registry: Registry,
    pub sandbox: Sandbox,
    pub corpus: &'static Corpus,
}

impl Lazy {
    /// Opens it; what that cost is in the log.
    pub fn open(form: Form) -> Lazy {
        Lazy::open_with(form, &patient())
    }

    pub fn open_with(form: Form, options: &ImageOptions) -> Lazy {
        let corpus = corpus(form);
        let registry = Registry::start();
        registry.add_image("r", "t", &corpus.built);
        let sandbox = Sandbox::new();
        let cache = sandbox.cache();
        corpus.put_indexes(&cache);
        let image = Arc::new(open(&name_in(&registry), &cache, options).unwrap());
        Lazy { image, registry, sandbox, corpus }
    }

    /// The same with an empty log.
    pub fn indexed(form: Form) -> Lazy {
        let lazy = Lazy::open(form);
        lazy.registry.clear_log();
        lazy
    }

    /// Forgets all that was read, as if the image were opened in another place.
    pub fn start_over(&mut self) {
        self.sandbox = Sandbox::new();
        let cache = self.sandbox.cache();
        self.corpus.put_indexes(&cache);
        self.image = Arc::new(open(&name_in(&self.registry), &cache, &patient()).unwrap());
        self.registry.clear_log();
    }

    pub fn cost(&self, layer: usize) -> Cost {
        cost_of(&self.registry.requests(), &self.corpus.digests[layer])
    }

    fn ino(&self, path: &str) -> Ino {
        self.image.filesystem().tree().resolve(path.as_bytes(), Symlinks::Keep).unwrap()
    }

    /// Reads a part of a file as the kernel has it done: at once if it is in the cache or in memory,
    /// or else with waiting.
    pub fn read(&self, file: &File, part: Range<u64>) -> Result<Vec<u8>, String> {
        read_part(&self.image, self.ino(&file.path), part)
    }

    /// Reads a part of a file, which must be right.
    #[track_caller]
    pub fn check(&self, file: &File, part: Range<u64>) {
        let bytes = self.read(file, part.clone()).unwrap_or_else(|e| panic!("{}: {e}", file.path));
        let expected = &self.corpus.content(file)[part.start as usize..part.end as usize];
        assert!(bytes == expected, "{} has wrong bytes in {part:?}", file.path);
    }

    /// Reads a file from its start to its end, which must be right.
    #[track_caller]
    pub fn check_whole(&self, file: &File) {
        let mut at = 0;
        while at < file.length() {
            let end = (at + READ_BYTES).min(file.length());
            self.check(file, at..end);
            at = end;
        }
    }

    /// The files below a directory in the order in which it is listed, as `tar` and `grep -r` read
    /// them.
    pub fn listed(&self, dir: &str) -> Vec<&'static File> {
        let tree = self.image.filesystem().tree();
        let known: HashMap<&str, &File> =
            self.corpus.files.iter().map(|file| (&file.path[..], file)).collect();
        let mut found = Vec::new();
        let mut walk = tree.walk(self.ino(dir), Order::Data);
        while let Some((path, _)) = walk.next() {
            let path = std::str::from_utf8(path).unwrap();
            let path = if dir.is_empty() { path.to_owned() } else { format!("{dir}/{path}") };
            found.extend(known.get(&path[..]));
        }
        found
    }
}

/// Reads a part of a file of an image.
pub fn read_part(image: &Image, ino: Ino, part: Range<u64>) -> Result<Vec<u8>, String> {
    let filesystem = image.filesystem();
    let length = (part.end - part.start) as usize;
    let mut bytes = vec![0; length];
    let file = filesystem.file(ino).map_err(|e| e.to_string())?;
    if !file.read_local(part.start, &mut bytes) {
        let read = file.read(part.start, &mut bytes, filesystem.deadline());
        read.map_err(|e| e.to_string())?;
    }
    Ok(bytes)
}
