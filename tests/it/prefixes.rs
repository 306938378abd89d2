//! Prefix trees: for every k the tree of layers 1..k is what the reference model makes of these layers alone, and a file
//! that two trees have by one number is the same in both.

use std::collections::HashMap;
use std::sync::Arc;

use ocifs::cache::Cache;
use ocifs::fs::{FileKey, Filesystem};
use ocifs::image::{ImageOptions, Prefixes};
use ocifs::layer::Quiet;
use ocifs::reference::ImageName;
use ocifs::space::Volume;
use ocifs::tree::{Ino, Order};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use crate::layers::snapshot;
use crate::model::{generators, reference};
use crate::support::image::{Built, Compression, ImageBuilder, write_oci_layout};
use crate::support::tarball::{Entry, tar};

/// Stacks that are tried if `OCIFS_MODEL_CASES` does not say how many.
const CASES: u32 = 200;

fn image(tars: &[Vec<u8>]) -> Built {
    let builder = ImageBuilder::new();
    tars.iter().fold(builder, |builder, tar| builder.layer(tar, Compression::None)).build()
}

/// What a file is, in words: all that `stat`, `listxattr` and `read` say.
fn facts(filesystem: &Filesystem, ino: Ino) -> (String, Vec<u8>) {
    let tree = filesystem.tree();
    let attributes = ocifs::tree::Attributes { ino: Ino::ROOT, ..tree.attributes(ino) };
    let xattrs: Vec<(&[u8], &[u8])> = tree.xattrs(ino).collect();
    let file = filesystem.file(ino).unwrap();
    let mut content = vec![0; file.readable(0, usize::MAX)];
    file.read(0, &mut content, filesystem.deadline()).unwrap();
    (format!("{attributes:?} {xattrs:?}"), content)
}

/// Opens each prefix of a stack, the highest first, and compares.
fn check(stack: &[Vec<Entry>]) -> Result<usize, TestCaseError> {
    let tars: Vec<Vec<u8>> = stack.iter().map(|layer| tar(layer)).collect();
    let folder = tempfile::tempdir().unwrap();
    let layout = folder.path().join("layout");
    write_oci_layout(&layout, &[(None, &image(&tars))]).unwrap();
    let name: ImageName = format!("oci:{}", layout.display()).parse().unwrap();
    let (cache, options) =
        (Arc::new(Cache::open(&folder.path().join("cache"))), ImageOptions::default());
    let prefixes = Prefixes::new(&cache, &options);
    let image = match prefixes.add(&name, &options, &Quiet) {
        Ok(image) => image,
        Err(error) => {
            let valid = (1..=stack.len()).find(|count| reference::apply(&stack[..*count]).is_err());
            prop_assert!(valid.is_some(), "no layer of these is wrong: {error}");
            return Ok(0);
        }
    };
    let mut seen: HashMap<FileKey, (String, Vec<u8>)> = HashMap::new();
    let mut shared = 0;
    for count in (1..=stack.len()).rev() {
        let expected = reference::apply(&stack[..count]);
        let got = prefixes.open(&image, count);
        let (expected, got) = match (expected, got) {
            (Ok(expected), Ok(got)) => (expected, got),
            (Err(_), Err(_)) => continue,
            (expected, got) => {
                let got = got.map(|_| ()).map_err(|e| e.to_string());
                return Err(TestCaseError::fail(format!("{count}: {expected:?} {got:?}")));
            }
        };
        prop_assert_eq!(&expected, &snapshot(got.tree(), &tars[..count]), "layers 1 to {}", count);
        let volume = Volume::new(count as u32, Arc::new(got));
        let filesystem = volume.filesystem();
        let mut walk = filesystem.tree().walk(Ino::ROOT, Order::Data);
        while let Some((_, ino)) = walk.next() {
            let number = volume.shown(ino).number;
            let Some(key) = filesystem.shared_file(ino) else {
                prop_assert_eq!((number >> 32) as usize, count, "a number of its own");
                continue;
            };
            prop_assert_eq!(filesystem.file_made_from(key.layer, key.entry), Some(ino));
            // Another volume may be asked for it by that number.
            let asked = Volume::new((number >> 32) as u32, Arc::clone(filesystem));
            prop_assert_eq!(asked.ino(number as u32).ok(), Some(ino));
            prop_assert_eq!(asked.attributes(ino), filesystem.tree().attributes(ino));
            let facts = facts(filesystem, ino);
            match seen.get(&key) {
                Some(before) => {
                    prop_assert_eq!(before, &facts);
                    shared += 1;
                }
                None => drop(seen.insert(key, facts)),
            }
        }
    }
    Ok(shared)
}

#[test]
fn every_prefix_equals_the_reference_model() {
    let cases = std::env::var("OCIFS_MODEL_CASES").ok().and_then(|n| n.parse().ok());
    let config =
        Config { cases: cases.unwrap_or(CASES), failure_persistence: None, ..Config::default() };
    let shared = std::cell::Cell::new(0);
    let result = TestRunner::new(config).run(&generators::stacks(), |stack| {
        shared.set(shared.get() + check(&stack)?);
        Ok(())
    });
    if let Err(proptest::test_runner::TestError::Fail(reason, stack)) = &result {
        panic!("{reason}\n{}", generators::render(stack));
    }
    result.expect("the generator works");
    assert!(shared.get() > 20, "files that several trees have: {}", shared.get());
}
