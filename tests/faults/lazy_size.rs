//! How large layer indexes are, and how much memory making them takes.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::thread;
use std::time::Duration;

use ocifs::cache::LayerName;
use ocifs::digest::hex;
use ocifs::index::LayerIndex;
use sha2::{Digest, Sha256};

use crate::fixture::{Sandbox, name_in, open};
use crate::lazy::patient;
use crate::shell::Home;
use crate::support::image::{Compression, ImageBuilder, Layer, compress};
use crate::support::registry::Registry;
use crate::support::tarball::{Entry, TarWriter, octal, put};

/// Real files of this machine below some folders, in a fixed order and as many bytes as asked for
/// of each folder, if it has them.
fn real_archive(folders: &[&str], bytes: u64) -> Vec<u8> {
    let mut writer = TarWriter::new();
    for folder in folders {
        let end = writer.position() + bytes;
        let mut todo: Vec<PathBuf> = vec![folder.into()];
        while let Some(path) = todo.pop()
            && writer.position() < end
        {
            let Ok(metadata) = fs::symlink_metadata(&path) else { continue };
            if metadata.is_dir() {
                let entries = fs::read_dir(&path).into_iter().flatten().flatten();
                let first = todo.len();
                todo.extend(entries.map(|entry| entry.path()));
                todo[first..].sort_by(|a, b| b.cmp(a));
            } else if metadata.is_file()
                && metadata.len() < 4 << 20
                && let Ok(content) = fs::read(&path)
            {
                writer.entry(&Entry::file(path.to_str().unwrap().trim_start_matches('/'), content));
            }
        }
    }
    writer.finish()
}

/// Programs, libraries, scripts and texts, in layers of their own: checkpoints take no more than
/// 0.6 % of any.
#[test]
fn checkpoints_of_real_files_are_small() {
    let mut measured = Vec::new();
    for folder in ["/usr/bin", "/usr/lib", "/usr/share/perl", "/usr/share"] {
        let tar = real_archive(&[folder], 16 << 20);
        assert!(tar.len() > 4 << 20, "there are files in {folder}");
        let built = ImageBuilder::new().layer(&tar, Compression::Gzip).build();
        let (sandbox, registry) = (Sandbox::new(), Registry::start());
        registry.add_image("r", "t", &built);
        let cache = sandbox.cache();
        open(&name_in(&registry), &cache, &patient()).unwrap();
        let name = LayerName::Blob(built.layer_digests()[0].parse().unwrap());
        let index = LayerIndex::decode(&cache.layer_index(&name, u64::MAX).unwrap()).unwrap();
        assert!(index.window_bytes() > 0, "it has checkpoints");
        measured.push((folder, index.window_bytes(), index.blob_size()));
    }
    assert!(measured.iter().all(|(_, windows, blob)| windows * 1000 <= blob * 7), "{measured:?}");
}

/// The most memory that the program takes while it makes the index of a layer of so many MiB.
fn peak_memory(megabytes: u64) -> u64 {
    const PART_BYTES: usize = 16 << 20;
    let mut part = real_archive(&["/usr/lib"], PART_BYTES as u64);
    part.resize(PART_BYTES, 0);
    let mut head = TarWriter::new();
    let size = megabytes << 20;
    head.raw_header(|header| {
        put(&mut header.name, "big");
        octal(&mut header.size, size);
    });
    let head = head.finish_without_end();
    let parts = size as usize / PART_BYTES;
    let end = TarWriter::new().finish();
    let member = compress(&part, Compression::Gzip);
    let blob = [
        compress(&head, Compression::Gzip),
        member.repeat(parts),
        compress(&end, Compression::Gzip),
    ]
    .concat();
    let mut diff_id = Sha256::new();
    diff_id.update(&head);
    (0..parts).for_each(|_| diff_id.update(&part));
    diff_id.update(&end);
    let diff_id = format!("sha256:{}", hex(&diff_id.finalize()));
    let layer = Layer::from_blob(blob, "gzip", b"").diff_id(&diff_id);
    let registry = Registry::start();
    registry.add_image("r", "t", &ImageBuilder::new().push_layer(layer).build());
    let home = Home::new();
    let mut command = home.ocifs(&["ls", &name_in(&registry)]);
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let mut peak = 0;
    loop {
        peak = peak.max(high_water_mark(child.id()));
        if let Some(status) = child.try_wait().unwrap() {
            assert!(status.success(), "{status}");
            return peak;
        }
        thread::sleep(Duration::from_millis(5));
    }
}

/// `VmHWM` of a process in bytes; 0 if it has ended.
fn high_water_mark(id: u32) -> u64 {
    let status = fs::read_to_string(Path::new("/proc").join(id.to_string()).join("status"));
    let status = status.unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.map_or(0, |line| line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10)
}

/// Both layers are large enough for every queue of the pass to fill.
#[test]
fn indexing_takes_the_same_memory_whatever_the_size() {
    let (small, large) = (peak_memory(96), peak_memory(352));
    assert!(small > 4 << 20, "{small} bytes: not measured");
    assert!(large < 64 << 20, "{large} bytes");
    assert!(large.saturating_sub(small) < 16 << 20, "{small} bytes, then {large}");
}
