//! The tar of a layer, put together again from its unpacked files (tar-split).
//!
//! containers-storage unpacks layers and keeps of the archive itself only what is not the content of
//! files, in `ID.tar-split.gz` (the `vbatts/tar-split` format): lines of JSON, in the order of
//! the archive, compressed as one gzip stream.
//!
//! ```text
//! {"type":2,"payload":"…base64…"}                     bytes of the archive: headers, padding, end
//! {"type":1,"name":"etc/passwd","size":1234,"payload":"…CRC-64…"}     the content of a file goes here
//! ```
//!
//! The content of a sparse file goes there as far as it is none of its holes, which the file on disk has
//! again as zeros; `size` is with them. Where its runs are stands in the headers, and so in the pieces of
//! the archive: these go through the parser of tars, which knows at each file what it is. Only the map
//! of GNU's PAX format 1.0 stands where the content does, and is lost: such a tar can't be put together
//! again, by the engine neither.
//!
//! Names that are not UTF-8 are in base64 as `name_raw`. From this a table is made, once for each
//! layer that is read: for each run of the tar, where it comes from. So a part of the tar can be
//! read without what is before it. Headers and names go to a temporary file, since a layer may have
//! millions of them.
//!
//! # Invariants
//!
//! - Nothing here is trusted: the caller that takes the bytes checks the tar's digest.
//! - Files are opened below the layer's folder only, whatever their names and symlinks there say.

use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use flate2::read::MultiGzDecoder;
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};
use serde::Deserialize;

use super::archive::open_regular;
use crate::codec;
use crate::tar::{self, Parser};

/// Longest line of the JSON, in bytes. Padding comes in pieces of a MiB at most.
const MAX_LINE_BYTES: u64 = 16 << 20;

/// Most JSON for each byte of the tar, and for none, in bytes. An entry has a header of 512 bytes at least;
/// that in base64, twice its name with escapes, and the words of two lines are less than 2 KiB.
const MAX_JSON_RATIO: u64 = 16;
const FREE_JSON_BYTES: u64 = 1 << 20;

/// Most runs of one tar: 8 million files, for which 400 MB are enough.
const MAX_RUNS: usize = 1 << 24;

/// Longest name of a file, in bytes.
const MAX_NAME_BYTES: usize = 4096;

/// A line. Only the Go library that reads these lines writes them, so that a reader of what Go would
/// forgive others brings nothing, and takes two looks at each byte.
#[derive(Deserialize)]
struct Line {
    #[serde(rename = "type")]
    kind: u8,
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    name_raw: Option<String>,
    #[serde(default)]
    size: Option<u64>,
    #[serde(default)]
    payload: Option<String>,
}

const FILE: u8 = 1;
const SEGMENT: u8 = 2;

/// A run of the tar.
#[derive(Debug)]
struct Run {
    /// Where it begins in the tar.
    start: u64,
    /// Where its bytes, or the name of its file, are in the temporary file.
    at: u64,
    /// Length of the name, or 0 for bytes.
    name_bytes: u16,
}

/// Where all bytes of a layer's tar come from.
#[derive(Debug)]
pub(super) struct SplitTar {
    runs: Vec<Run>,
    /// Where in their files those runs begin that do not begin at the start, by the run's position.
    offsets: Vec<(usize, u64)>,
    /// Bytes that are not of files, and names.
    spool: File,
    /// The folder that the layer was unpacked to.
    folder: OwnedFd,
    length: u64,
}

impl SplitTar {
    /// Reads the table of a layer whose tar has `length` bytes: `split` is its tar-split file, `folder`
    /// where its files are, `spool` a folder for a temporary file.
    pub(super) fn open(
        split: &Path,
        folder: &Path,
        spool: &Path,
        length: u64,
    ) -> io::Result<SplitTar> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = rustix::fs::openat(CWD, folder, flags, Mode::empty())?;
        let split = open_regular(split)?;
        let most = length.saturating_mul(MAX_JSON_RATIO).saturating_add(FREE_JSON_BYTES);
        let most = most.min(codec::plausible_uncompressed_bytes(split.metadata()?.len()));
        let json = MultiGzDecoder::new(BufReader::new(split));
        let mut lines = BufReader::new(json.take(most));
        let mut tar = SplitTar {
            runs: Vec::new(),
            offsets: Vec::new(),
            spool: tempfile::tempfile_in(spool)?,
            folder,
            length: 0,
        };
        let mut headers = Headers::default();
        let mut spool = BufWriter::new(tar.spool.try_clone()?);
        let (mut line, mut spooled) = (Vec::new(), 0);
        loop {
            line.clear();
            let n = lines.by_ref().take(MAX_LINE_BYTES).read_until(b'\n', &mut line)?;
            if n == 0 {
                break;
            }
            if !line.trim_ascii().is_empty() {
                spooled += tar.add(&line, spooled, &mut spool, &mut headers)?;
            }
            if tar.length > length {
                return Err(invalid(format!("more than the {length} bytes of the layer's tar")));
            }
        }
        spool.flush()?;
        if tar.length < length {
            let got = tar.length;
            return Err(invalid(format!("only {got} of the {length} bytes of the layer's tar")));
        }
        Ok(tar)
    }

    /// Adds a line; returns how many bytes went to the spool, of which `spooled` are there.
    fn add(
        &mut self,
        line: &[u8],
        spooled: u64,
        spool: &mut impl Write,
        headers: &mut Headers,
    ) -> io::Result<u64> {
        let line: Line = serde_json::from_slice(line)?;
        let (bytes, name_bytes, runs) = match line.kind {
            SEGMENT => {
                let bytes = decode(line.payload.as_deref().unwrap_or_default())?;
                headers.feed(&bytes);
                let length = bytes.len() as u64;
                (bytes, 0, vec![(0, length)])
            }
            FILE => {
                let name = match (line.name_raw, line.name) {
                    (Some(raw), _) => decode(&raw)?,
                    (None, name) => name.unwrap_or_default().into_bytes(),
                };
                let runs = headers.runs(line.size.unwrap_or_default())?;
                (name.clone(), name.len(), runs)
            }
            other => return Err(invalid(format!("a line of unknown type {other}"))),
        };
        if runs.iter().all(|(_, length)| *length == 0) {
            return Ok(0);
        }
        if line.kind == FILE && !(1..=MAX_NAME_BYTES).contains(&name_bytes) {
            return Err(invalid("a file without a name, or with an endless one".to_owned()));
        }
        spool.write_all(&bytes)?;
        for (offset, length) in runs.into_iter().filter(|(_, length)| *length > 0) {
            if self.runs.len() >= MAX_RUNS {
                return Err(invalid("too many files".to_owned()));
            }
            if offset > 0 {
                self.offsets.push((self.runs.len(), offset));
            }
            self.runs.push(Run { start: self.length, at: spooled, name_bytes: name_bytes as u16 });
            let end = self.length.checked_add(length).filter(|end| *end <= i64::MAX as u64);
            self.length = end.ok_or_else(|| invalid("a tar of absurd size".to_owned()))?;
        }
        Ok(bytes.len() as u64)
    }

    /// Where a run begins in its file.
    fn offset(&self, run: usize) -> u64 {
        let found = self.offsets.binary_search_by_key(&run, |(run, _)| *run);
        found.map_or(0, |at| self.offsets[at].1)
    }

    /// Reads the tar from an offset on.
    pub(super) fn reader(self: &Arc<Self>, at: u64) -> SplitReader {
        let run = self.runs.partition_point(|run| run.start <= at).saturating_sub(1);
        SplitReader { tar: Arc::clone(self), at, run, file: None }
    }

    fn end(&self, run: usize) -> u64 {
        self.runs.get(run + 1).map_or(self.length, |next| next.start)
    }

    fn open_file(&self, run: &Run) -> io::Result<File> {
        let mut name = vec![0; usize::from(run.name_bytes)];
        self.spool.read_exact_at(&mut name, run.at)?;
        let named = |e: io::Error| {
            let hint = match e.kind() {
                io::ErrorKind::PermissionDenied => {
                    "; it belongs to another user of the store: run this within `podman unshare`"
                }
                _ => "",
            };
            let name = name.escape_ascii();
            io::Error::new(e.kind(), format!("`{name}` of the unpacked layer: {e}{hint}"))
        };
        // Looked at first: to open a device may do something.
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        let opened =
            rustix::fs::openat2(&self.folder, name.as_slice(), flags, Mode::empty(), resolve);
        let place = File::from(opened.map_err(|e| named(e.into()))?);
        if !place.metadata()?.is_file() {
            return Err(named(invalid("not a regular file".to_owned())));
        }
        File::open(format!("/proc/self/fd/{}", place.as_raw_fd())).map_err(named)
    }
}

/// The headers of the tar, read as far as they have come.
#[derive(Debug)]
struct Headers {
    /// None once it does not understand: then no file is taken for sparse, and the digest decides.
    parser: Option<Parser>,
    last: Last,
}

/// The last entry: its size and its runs, if it is sparse.
#[derive(Debug, Default)]
struct Last {
    sparse: Option<(u64, Vec<(u64, u64)>)>,
}

impl tar::Sink for Last {
    type Error = tar::Error;

    fn entry(&mut self, entry: tar::Entry) -> Result<(), tar::Error> {
        let runs = || entry.runs.iter().map(|run| (run.file_offset, run.length)).collect();
        self.sparse = entry.sparse.then(|| (entry.size, runs()));
        Ok(())
    }

    fn content(&mut self, _bytes: &[u8]) {}

    fn end(&mut self) {}
}

impl Default for Headers {
    fn default() -> Headers {
        Headers { parser: Some(Parser::of_names()), last: Last::default() }
    }
}

impl Headers {
    /// Takes a piece of the archive that is no content.
    fn feed(&mut self, bytes: &[u8]) {
        if let Some(parser) = &mut self.parser
            && parser.feed(bytes, &mut self.last).is_err()
        {
            *self = Headers { parser: None, last: Last::default() };
        }
    }

    /// The runs of a file of that size, holes included, whose content comes next: offset in the file
    /// and length.
    fn runs(&mut self, size: u64) -> io::Result<Vec<(u64, u64)>> {
        let Some(parser) = &mut self.parser else { return Ok(vec![(0, size)]) };
        if size > 0 && parser.wants_sparse_map() {
            let what = "it has a sparse file in the format PAX 1.0, whose map the store does not keep: \
                        neither ocifs nor its engine can put the layer together again; name the image \
                        by its registry, or the archive that it was loaded from";
            return Err(io::Error::new(io::ErrorKind::Unsupported, what));
        }
        let runs = match self.last.sparse.take() {
            Some((of, runs)) if of == size => runs,
            _ => vec![(0, size)],
        };
        let stored: u64 = runs.iter().map(|(_, length)| length).sum();
        if parser.skip(stored, &mut self.last) != stored {
            *self = Headers { parser: None, last: Last::default() };
        }
        Ok(runs)
    }
}

/// Reads a [`SplitTar`] in order.
#[derive(Debug)]
pub(super) struct SplitReader {
    tar: Arc<SplitTar>,
    at: u64,
    /// The run that `at` is in.
    run: usize,
    /// The file of that run.
    file: Option<File>,
}

impl Read for SplitReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let tar = &self.tar;
        if self.at >= tar.length || buffer.is_empty() {
            return Ok(0);
        }
        if self.at >= tar.end(self.run) {
            self.run += 1;
            // The runs of one file have its name at one place.
            if tar.runs[self.run].at != tar.runs[self.run - 1].at {
                self.file = None;
            }
        }
        let run = &tar.runs[self.run];
        let left = tar.end(self.run) - self.at;
        let want = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let offset = self.at - run.start;
        let n = match run.name_bytes {
            0 => tar.spool.read_at(&mut buffer[..want], run.at + offset)?,
            _ => {
                if self.file.is_none() {
                    self.file = Some(tar.open_file(run)?);
                }
                match &self.file {
                    Some(file) => {
                        file.read_at(&mut buffer[..want], tar.offset(self.run) + offset)?
                    }
                    None => 0,
                }
            }
        };
        if n == 0 {
            return Err(invalid("a file of the unpacked layer is shorter than it was".to_owned()));
        }
        self.at += n as u64;
        Ok(n)
    }
}

fn decode(text: &str) -> io::Result<Vec<u8>> {
    STANDARD.decode(text).map_err(|e| invalid(format!("not base64: {e}")))
}

fn invalid(what: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

#[cfg(test)]
#[path = "../../tests/hostile/mutator.rs"]
mod mutator;

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::fs;

    use super::mutator::{Random, mutate};
    use super::*;

    fn split(lines: impl AsRef<[u8]>, folder: &Path, length: u64) -> io::Result<Arc<SplitTar>> {
        let path = folder.join("split.gz");
        let mut encoder =
            flate2::write::GzEncoder::new(File::create(&path)?, flate2::Compression::fast());
        encoder.write_all(lines.as_ref())?;
        encoder.finish()?;
        fs::create_dir_all(folder.join("diff"))?;
        SplitTar::open(&path, &folder.join("diff"), folder, length).map(Arc::new)
    }

    fn bytes(tar: &Arc<SplitTar>, at: u64) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        tar.reader(at).read_to_end(&mut bytes).map(|_| bytes)
    }

    #[test]
    fn a_tar_from_its_parts() {
        let folder = tempfile::tempdir().unwrap();
        let lines = "{\"type\":2,\"payload\":\"aGVhZA==\",\"position\":0}\n\
             {\"type\":1,\"name\":\"d/\",\"payload\":null,\"position\":1}\n\
             {\"type\":1,\"name\":\"d/./f\",\"size\":5,\"payload\":\"AAAAAAAAAAA=\",\"position\":2}\n\
             {\"type\":2,\"payload\":\"fHw=\"}\n\
             {\"type\":1,\"name\":\"?\",\"name_raw\":\"bOk=\",\"size\":1}\n\n\
             {\"type\":2,\"payload\":\"\"}";
        let tar = split(lines, folder.path(), 12).unwrap();
        for wrong in [0, 11, 13] {
            assert!(split(lines, folder.path(), wrong).is_err());
        }
        let diff = folder.path().join("diff");
        fs::create_dir(diff.join("d")).unwrap();
        fs::write(diff.join("d/f"), "12345").unwrap();
        let latin: &std::ffi::OsStr = std::os::unix::ffi::OsStrExt::from_bytes(b"l\xe9");
        fs::write(diff.join(latin), "X").unwrap();
        for at in 0..=12 {
            assert_eq!(bytes(&tar, at).unwrap(), b"head12345||X"[at as usize..]);
        }
        fs::write(diff.join("d/f"), "123").unwrap();
        assert!(bytes(&tar, 0).unwrap_err().to_string().contains("shorter"));
        fs::remove_file(diff.join("d/f")).unwrap();
        assert!(bytes(&tar, 4).unwrap_err().to_string().contains("`d/./f`"));
    }

    #[test]
    fn files_stay_in_their_folder() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("secret"), "12345").unwrap();
        let lines = ["../secret", "up/secret", "out", "/../secret", "dir", "pipe"]
            .map(|name| format!("{{\"type\":1,\"name\":\"{name}\",\"size\":5}}\n"));
        let diff = folder.path().join("diff");
        fs::create_dir_all(diff.join("dir")).unwrap();
        std::os::unix::fs::symlink("..", diff.join("up")).unwrap();
        std::os::unix::fs::symlink("../secret", diff.join("out")).unwrap();
        rustix::fs::mknodat(CWD, diff.join("pipe"), rustix::fs::FileType::Fifo, Mode::RUSR, 0)
            .unwrap();
        for line in lines {
            let tar = split(&line, folder.path(), 5).unwrap();
            assert!(bytes(&tar, 0).is_err(), "{line}");
        }
    }

    /// The lines of a tar with a file `f` of 5 bytes, and behind its end another one.
    fn lines_of_a_tar() -> Vec<u8> {
        let mut header = ::tar::Header::new_ustar();
        header.set_path("f").unwrap();
        header.set_size(5);
        header.set_mode(0o644);
        header.set_cksum();
        let segment = |bytes: &[u8]| {
            let payload = STANDARD.encode(bytes);
            format!("{{\"type\":2,\"payload\":\"{payload}\",\"position\":0}}\n")
        };
        let file = "{\"type\":1,\"name\":\"f\",\"size\":5,\"payload\":\"AAA=\",\"position\":1}\n";
        let raw = "{\"type\":1,\"name\":\"?\",\"name_raw\":\"Zg==\",\"size\":5}\n";
        let padding = segment(&[0; 507 + 1024]);
        [&segment(header.as_bytes()), file, &padding, raw].concat().into_bytes()
    }

    const TAR_BYTES: u64 = 4 * 512 + 5;

    /// Lines that were changed give a tar of the length that was announced, or an error.
    #[test]
    fn changed_lines() {
        let folder = tempfile::tempdir().unwrap();
        let valid = [lines_of_a_tar()];
        let cases = std::env::var("OCIFS_TEST_CASES").map_or(1000, |text| text.parse().unwrap());
        let mut accepted = 0;
        fs::create_dir(folder.path().join("diff")).unwrap();
        fs::write(folder.path().join("diff/f"), "12345").unwrap();
        for case in 0..cases {
            let lines = mutate(&valid, &mut Random::new(0, case));
            let Ok(tar) = split(&lines, folder.path(), TAR_BYTES) else { continue };
            accepted += 1;
            let Ok(whole) = bytes(&tar, 0) else { continue };
            assert_eq!(whole.len() as u64, TAR_BYTES, "case {case}");
            for at in [1, 511, 512, 515, 517, 1024, TAR_BYTES] {
                assert!(bytes(&tar, at).unwrap() == whole[at as usize..], "case {case} from {at}");
            }
        }
        assert!(accepted > cases / 100, "{accepted} of {cases}");
    }

    /// Behind the end of the archive any number of bytes is skipped.
    #[test]
    fn an_absurd_size_behind_the_end() {
        let folder = tempfile::tempdir().unwrap();
        let lines = String::from_utf8(lines_of_a_tar()).unwrap();
        for size in [u64::MAX, i64::MAX as u64] {
            let last = format!("{{\"type\":1,\"name\":\"f\",\"size\":{size}}}\n");
            assert!(split(format!("{lines}{last}{last}"), folder.path(), TAR_BYTES).is_err());
        }
    }

    #[test]
    fn nonsense_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let endless = format!("{{\"type\":1,\"size\":1,\"name\":\"{}\"}}", "n".repeat(5000));
        for lines in [
            "{",
            "[]",
            "{\"type\":3,\"size\":1}",
            "{\"type\":1,\"size\":5}",
            "{\"type\":2,\"payload\":\"?\"}",
            "{\"type\":1,\"name\":\"a\",\"size\":18446744073709551615}",
            &endless,
        ] {
            for length in [0, 1, 5, u64::MAX] {
                assert!(split(lines, folder.path(), length).is_err(), "{lines}");
            }
        }
        assert_eq!(bytes(&split("", folder.path(), 0).unwrap(), 0).unwrap(), b"");
        // Nothing is read for ever, however well it compresses.
        let good = "{\"type\":2,\"payload\":\"aGVhZA==\"}\n";
        for filler in ["\n", "{\"type\":2}\n", "{\"type\":1,\"name\":\"d/\"}\n"] {
            let few = filler.repeat(FREE_JSON_BYTES as usize / 2 / filler.len());
            assert!(split(&(few.clone() + good), folder.path(), 4).is_ok());
            assert!(split(&(few.repeat(3) + good), folder.path(), 4).is_err());
        }
    }
}
