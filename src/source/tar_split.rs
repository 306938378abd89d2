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
//! Names that are not UTF-8 are in base64 as `name_raw`. From this a table is made, once for each
//! layer that is read: for each run of the tar, where it comes from. So a part of the tar can be
//! read without what is before it. Headers and names go to a temporary file, since a layer may have
//! millions of them.
//!
//! # Invariants
//!
//! - Nothing here is trusted: whoever takes the bytes checks the tar's digest.
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

/// A line.
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
        let mut tar =
            SplitTar { runs: Vec::new(), spool: tempfile::tempfile_in(spool)?, folder, length: 0 };
        let mut spool = BufWriter::new(tar.spool.try_clone()?);
        let (mut line, mut spooled) = (Vec::new(), 0);
        loop {
            line.clear();
            let n = lines.by_ref().take(MAX_LINE_BYTES).read_until(b'\n', &mut line)?;
            if n == 0 {
                break;
            }
            if !line.trim_ascii().is_empty() {
                spooled += tar.add(&line, spooled, &mut spool)?;
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
    fn add(&mut self, line: &[u8], spooled: u64, spool: &mut impl Write) -> io::Result<u64> {
        let line: Line = serde_json::from_slice(line)?;
        let (bytes, name_bytes, length) = match line.kind {
            SEGMENT => {
                let bytes = decode(line.payload.as_deref().unwrap_or_default())?;
                let length = bytes.len() as u64;
                (bytes, 0, length)
            }
            FILE => {
                let name = match (line.name_raw, line.name) {
                    (Some(raw), _) => decode(&raw)?,
                    (None, name) => name.unwrap_or_default().into_bytes(),
                };
                (name.clone(), name.len(), line.size.unwrap_or_default())
            }
            other => return Err(invalid(format!("a line of unknown type {other}"))),
        };
        if length == 0 {
            return Ok(0);
        }
        if line.kind == FILE && !(1..=MAX_NAME_BYTES).contains(&name_bytes) {
            return Err(invalid("a file without a name, or with an endless one".to_owned()));
        }
        if self.runs.len() >= MAX_RUNS {
            return Err(invalid("too many files".to_owned()));
        }
        spool.write_all(&bytes)?;
        self.runs.push(Run { start: self.length, at: spooled, name_bytes: name_bytes as u16 });
        let end = self.length.checked_add(length).filter(|end| *end <= i64::MAX as u64);
        self.length = end.ok_or_else(|| invalid("a tar of absurd size".to_owned()))?;
        Ok(bytes.len() as u64)
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
            self.file = None;
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
                    Some(file) => file.read_at(&mut buffer[..want], offset)?,
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
#[allow(clippy::unwrap_used)]
mod tests {
    use std::fs;

    use super::*;

    fn split(lines: &str, folder: &Path, length: u64) -> io::Result<Arc<SplitTar>> {
        let path = folder.join("split.gz");
        let mut encoder =
            flate2::write::GzEncoder::new(File::create(&path)?, flate2::Compression::fast());
        encoder.write_all(lines.as_bytes())?;
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
