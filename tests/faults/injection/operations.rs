//! What is done with an image while something is wrong, and how what comes of it is judged.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use ocifs::cache::{Cache, LayerName};
use ocifs::digest::SpanDigest;
use ocifs::fs::Filesystem;
use ocifs::image::{self, Excerpt, Image, ImageOptions};
use ocifs::index::{Check, LayerIndex};
use ocifs::layer::Quiet;
use ocifs::reference::ImageName;
use ocifs::tree::{FileKind, Ino, Order, Question, Symlinks, Want};

use super::levels::watched;
use super::subject::{impatient, patient, subject};
use crate::fixture::with_hint;

/// Bytes that are read at a time.
const PIECE: usize = 96 << 10;

/// How often what is right again may still be late, on a machine that is busy.
const TRIES: usize = 6;

/// Longer than the deadline of the image that is held.
const AT_REST: Duration = Duration::from_millis(1300);

/// What went wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// Something that is not so was shown.
    Wrong(String),
    /// An error, as a user reads it.
    Told(String),
}

type Outcome = Result<(), Failure>;

fn told(error: &dyn std::error::Error, hint: Option<ocifs::hint::Hint>) -> Failure {
    Failure::Told(with_hint(error, hint))
}

fn wrong(what: impl Into<String>) -> Failure {
    Failure::Wrong(what.into())
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Opens it anew.
    Open,
    /// Reads files of the open image, in some order.
    Read,
    /// Goes through the names of the open image.
    Walk,
    /// Opens as much as one file needs, and reads that.
    Cat,
    /// Opens it anew with proof, and reads everything in the order of the layers.
    Export,
    /// Brings all of the open image into the cache.
    Pull,
    /// Checks all of it.
    Verify,
    /// Builds layer indexes and pushes them.
    Push,
}

pub const OPERATIONS: [Operation; 8] = [
    Operation::Open,
    Operation::Read,
    Operation::Walk,
    Operation::Cat,
    Operation::Export,
    Operation::Pull,
    Operation::Verify,
    Operation::Push,
];

/// A user of the image: with its name, a cache, and maybe the image already open.
pub struct User {
    pub name: ImageName,
    pub cache: Arc<Cache>,
    pub held: Option<Image>,
    /// Whether layer indexes of the registry are used.
    pub trust_referrers: bool,
}

impl User {
    fn options(&self, options: ImageOptions) -> ImageOptions {
        ImageOptions { trust_referrers: self.trust_referrers, ..options }
    }

    fn open(&self, options: &ImageOptions) -> Result<Image, Failure> {
        let opened = Image::open(&self.name, &self.cache, options, &Quiet);
        opened.map_err(|e| told(&e, e.hint()))
    }

    /// Opens the image to keep it, if it is not open.
    pub fn hold(&mut self) -> Outcome {
        if self.held.is_none() {
            // It is the one that is used while something is wrong.
            self.held = Some(self.open(&self.options(impatient()))?);
        }
        Ok(())
    }

    /// Does one thing. `seed` chooses between ways to do it.
    pub fn does(&mut self, operation: Operation, seed: u64) -> Outcome {
        watched(&format!("{operation:?}"), || {
            self.does_by(operation, seed, self.options(impatient()))
        })
    }

    fn does_by(&mut self, operation: Operation, seed: u64, options: ImageOptions) -> Outcome {
        match operation {
            Operation::Open => names(self.open(&options)?.filesystem()),
            Operation::Read => {
                self.hold()?;
                read(self.held.as_ref().unwrap().filesystem(), seed)
            }
            Operation::Walk => {
                self.hold()?;
                // For names nobody waits, and nothing can be wrong with them.
                names(self.held.as_ref().unwrap().filesystem())
                    .map_err(|e| wrong(format!("names of an open image: {e:?}")))
            }
            Operation::Cat => {
                let paths: Vec<&String> = subject().files.keys().collect();
                let path = paths[seed as usize % paths.len()];
                let question = Question {
                    path: path.clone().into_bytes(),
                    last: Symlinks::Follow,
                    want: Want::Content,
                };
                let opened = Excerpt::open(&self.name, &[question], &self.cache, &options, &Quiet);
                file(opened.map_err(|e| told(&e, e.hint()))?.filesystem(), path)
            }
            Operation::Export => {
                let image = self.open(&ImageOptions { prove: true, ..options })?;
                names(image.filesystem())?;
                everything(image.filesystem())
            }
            Operation::Pull => {
                self.hold()?;
                let pulled = self.held.as_ref().unwrap().pull(options.read_deadline, 3, &Quiet);
                pulled.map(drop).map_err(|e| told(&e, e.hint()))
            }
            Operation::Verify => {
                let verified = image::verify(&self.name, &self.cache, &options, &Quiet);
                for layer in verified.map_err(|e| told(&e, e.hint()))?.layers {
                    if let Some(error) = layer.error {
                        return Err(Failure::Told(format!("{error} [{:?}]", layer.hint)));
                    }
                    if !layer.differences.is_empty() {
                        return Err(wrong(format!("a split view: {:?}", layer.differences)));
                    }
                }
                Ok(())
            }
            Operation::Push => {
                let built = image::build_indexes(&self.name, &self.cache, &options, &Quiet);
                let built = built.map_err(|e| told(&e, e.hint()))?;
                let pushed = image::push_indexes(&built, &self.name, &options);
                pushed.map(drop).map_err(|e| told(&e, e.hint()))
            }
        }
    }

    /// With nothing wrong any more, the operation succeeds, everything can be read through what was open all the
    /// time and through what is opened now, and the cache has nothing that is not as it should be.
    pub fn is_well(&mut self, operation: Operation, seed: u64) -> Result<usize, Failure> {
        let mut late = 0;
        let patient = self.options(patient());
        let mut again = |user: &mut User, what: &str, operation| {
            for _ in 0..TRIES {
                let done = watched(what, || user.does_by(operation, seed, patient.clone()));
                match done {
                    Err(Failure::Told(text)) if is_late(&text) => late += 1,
                    // A disk that refused is left alone for a while.
                    Err(Failure::Told(text)) if text.contains("EnlargeCache") => {
                        if !user.cache.is_writable() {
                            return Ok(());
                        }
                    }
                    Ok(()) => return Ok(()),
                    Err(Failure::Told(text)) => {
                        return Err(Failure::Told(format!("afterwards, {what}: {text}")));
                    }
                    wrong => return wrong,
                }
                // After waits in vain there is less time for each question, until nothing was asked for a while.
                thread::sleep(AT_REST);
            }
            Err(Failure::Told(format!("afterwards, {what}: late {TRIES} times")))
        };
        again(self, "the same again", operation)?;
        again(self, "what was open", Operation::Read)?;
        again(self, "names", Operation::Walk)?;
        if seed.is_multiple_of(4) {
            again(self, "opened anew", Operation::Export)?;
        }
        Ok(late)
    }
}

/// An error that only says that there was not enough time: for an answer, or until the registry may be asked again.
fn is_late(text: &str) -> bool {
    ["AllowMoreTime", "no answer in time", "retry in 1 s"].iter().any(|words| text.contains(words))
}

/// What there is, by its names and sizes.
fn names(filesystem: &Filesystem) -> Outcome {
    let tree = filesystem.tree();
    let mut found = BTreeMap::new();
    let mut walk = tree.walk(Ino::ROOT, Order::Name);
    while let Some((path, ino)) = walk.next() {
        if tree.kind(ino) == FileKind::Regular {
            let path = String::from_utf8_lossy(path).into_owned();
            found.insert(path, tree.attributes(ino).size as usize);
        }
    }
    let expected = subject().files.iter().map(|(path, content)| (path.clone(), content.len()));
    match expected.eq(found.clone()) {
        true => Ok(()),
        false => Err(wrong(format!("other names: {found:?}"))),
    }
}

/// Reads files that `seed` chooses, each whole, in an order that it chooses.
fn read(filesystem: &Filesystem, seed: u64) -> Outcome {
    let paths: Vec<&String> = subject().files.keys().collect();
    (0..paths.len()).try_for_each(|n| {
        let step = [1, 3, 5, 7][seed as usize % 4];
        file(filesystem, paths[(seed as usize / 4 + n * step) % paths.len()])
    })
}

/// Reads all files in the order of the layers.
fn everything(filesystem: &Filesystem) -> Outcome {
    let tree = filesystem.tree();
    let mut walk = tree.walk(Ino::ROOT, Order::Data);
    while let Some((path, ino)) = walk.next() {
        if tree.kind(ino) == FileKind::Regular {
            file(filesystem, std::str::from_utf8(path).unwrap())?;
        }
    }
    Ok(())
}

fn file(filesystem: &Filesystem, path: &str) -> Outcome {
    let ino = filesystem.tree().resolve(path.as_bytes(), Symlinks::Follow);
    let ino = ino.map_err(|e| wrong(format!("{path}: {e}")))?;
    let file = filesystem.file(ino).map_err(|e| wrong(format!("{path}: {e}")))?;
    let expected = &subject().files[path];
    let mut at = 0;
    loop {
        let mut bytes = vec![0; file.readable(at as u64, PIECE)];
        if bytes.is_empty() {
            break;
        }
        let read = file.read(at as u64, &mut bytes, filesystem.deadline());
        read.map_err(|e| told(&e, e.hint()))?;
        if expected.get(at..at + bytes.len()) != Some(&bytes) {
            return Err(wrong(format!("wrong bytes in {path} from {at}")));
        }
        at += bytes.len();
    }
    match at == expected.len() {
        true => Ok(()),
        false => Err(wrong(format!("{path} ends at {at}"))),
    }
}

/// Checks what a cache holds; what is damaged.
pub fn damaged(cache: &Cache) -> Vec<String> {
    let verified = cache.verify(&check_layer, &mut |_| {}).unwrap();
    assert!(verified.failed.is_none(), "{:?}", verified.failed);
    verified.damaged.iter().map(|d| format!("{}: {}", d.path.display(), d.why)).collect()
}

/// As `ocifs cache verify` does.
fn check_layer(name: &LayerName, bytes: &[u8]) -> Result<Vec<SpanDigest>, String> {
    let index = LayerIndex::decode(bytes).map_err(|e| e.to_string())?;
    let right = match name {
        LayerName::Blob(digest) | LayerName::File(digest) | LayerName::Inflated(digest) => {
            index.blob() == *digest
        }
        LayerName::DiffId(diff_id) => index.diff_id() == *diff_id,
        LayerName::Sent { blob, .. }
        | LayerName::Hint { blob, .. }
        | LayerName::Bound { blob, .. } => index.blob() == *blob,
    };
    let spans = (0..index.span_count()).map(|at| index.span(at));
    match right {
        true => Ok(spans.filter(|s| s.check == Check::Content).map(|s| s.digest).collect()),
        false => Err("it is about another layer".to_owned()),
    }
}

/// Waits until something does not have to be waited for any more.
pub fn until(limit: Duration, mut holds: impl FnMut() -> bool) -> bool {
    let end = Instant::now() + limit;
    while !holds() {
        if Instant::now() > end {
            return false;
        }
        thread::sleep(Duration::from_millis(5));
    }
    true
}
