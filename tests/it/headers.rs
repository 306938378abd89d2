//! Tars of which only the headers are read: their index says what that of a whole tar says.

use ocifs::digest::{Digest, SpanDigest};
use ocifs::index::{self, Builder, LayerIndex, plain_spans};
use ocifs::tar::{self, Parser, Sink};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use crate::model::generators;
use crate::support::tarball::{Entry, TarWriter};

/// Takes entries, and their content only if it is to.
struct Taken {
    builder: Builder,
    has_content: bool,
    /// Bytes that came.
    fed: u64,
}

impl Sink for Taken {
    type Error = index::Error;

    fn entry(&mut self, entry: tar::Entry) -> Result<(), index::Error> {
        match self.has_content {
            true => self.builder.entry(entry),
            false => self.builder.listed(entry, None),
        }
    }

    fn content(&mut self, bytes: &[u8]) {
        self.fed += bytes.len() as u64;
        if self.has_content {
            self.builder.content(bytes);
        }
    }

    fn end(&mut self) {
        if self.has_content {
            self.builder.end();
        }
    }
}

impl Taken {
    fn new(has_content: bool) -> Taken {
        Taken { builder: Builder::new(), has_content, fed: 0 }
    }
}

/// The index of all of a tar.
fn whole(tar: &[u8]) -> Result<LayerIndex, String> {
    let (mut taken, mut parser) = (Taken::new(true), Parser::new());
    parser.feed(tar, &mut taken).map_err(|e| e.to_string())?;
    parser.finish().map_err(|e| e.to_string())?;
    let size = tar.len() as u64;
    let spans = plain_spans(size).unwrap().len();
    let digests = vec![SpanDigest([1; 32]); spans];
    taken.builder.finish_proven(Digest::sha256(tar), size, &digests).map_err(|e| e.to_string())
}

/// The index of its headers, read in stretches of these lengths, and the bytes of content that came.
fn of_headers(tar: &[u8], lengths: &[usize]) -> Result<(LayerIndex, u64), String> {
    let (mut taken, mut parser) = (Taken::new(false), Parser::new());
    let (mut at, mut lengths) = (0, lengths.iter().cycle());
    while at < tar.len() {
        let length = *lengths.next().unwrap();
        let stretch = &tar[at..tar.len().min(at + length)];
        parser.feed(stretch, &mut taken).map_err(|e| e.to_string())?;
        at += stretch.len();
        loop {
            match parser.skip((tar.len() - at) as u64, &mut taken) {
                0 => break,
                n => at += n as usize,
            }
        }
    }
    parser.finish().map_err(|e| e.to_string())?;
    let Taken { builder, fed, .. } = taken;
    let index = builder.finish_headers(Digest::sha256(tar), tar.len() as u64);
    Ok((index.map_err(|e| e.to_string())?, fed))
}

/// A layer, its end cut short somewhere in its last kibibyte and a half, or not.
fn layers() -> impl Strategy<Value = (Vec<Entry>, usize)> {
    let cut = prop_oneof![2 => Just(0), 1 => 0usize..1600];
    (generators::stacks().prop_map(|mut stack| stack.pop().unwrap_or_default()), cut)
}

#[test]
fn headers_say_what_the_whole_tar_says() {
    let config = Config { cases: 2000, failure_persistence: None, ..Config::default() };
    let lengths = proptest::collection::vec(1usize..3000, 1..6);
    let result = TestRunner::new(config).run(&(layers(), lengths), |((entries, cut), lengths)| {
        let mut writer = TarWriter::new();
        for (at, entry) in entries.iter().enumerate() {
            writer.entry(entry);
            // Files of many blocks between them, and sparse ones.
            let name = format!("large{at}");
            match at % 4 {
                0 => writer.entry(&Entry::file(&name, vec![7; 1 + 997 * at])),
                1 => writer.sparse_old_gnu(&name, 9000, &[(512, &[7; 512]), (4096, &[8; 700])]),
                2 => writer.sparse_pax_1_0(&name, 9000, &[(512, &[7; 512]), (4096, &[8; 700])]),
                _ => writer.sparse_pax_0_1(&name, 9000, &[(0, &[7; 512]), (8192, &[8; 100])]),
            };
        }
        let mut tar = writer.finish();
        tar.truncate(tar.len().saturating_sub(cut));
        let (whole, headers) = (whole(&tar), of_headers(&tar, &lengths));
        match (whole, headers) {
            (Ok(whole), Ok((headers, _))) => {
                prop_assert_eq!(headers.outline(), Some(whole.tables()));
            }
            (Err(_), Err(_)) => {}
            (whole, headers) => prop_assert!(false, "{:?} {:?}", whole.err(), headers.err()),
        }
        Ok(())
    });
    result.unwrap();
}

#[test]
fn content_is_skipped() {
    let mut writer = TarWriter::new();
    for n in 0..9 {
        writer.entry(&Entry::file(format!("f{n}"), vec![n; 1_000_000]));
    }
    let tar = writer.finish();
    let (index, content) = of_headers(&tar, &[1024]).unwrap();
    assert_eq!((index.entries().len(), content), (9, 9 * 512));
}
