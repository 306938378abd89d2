//! Links among the blobs of a folder, to where they really are.
//!
//! Tools that build images (Bazel's rules, Nix) make layouts whose blobs are links to what was built before, anywhere on
//! the machine, and administrators put `blobs` of a registry on another disk. A process that may read the folder only has
//! to be told where these lead.
//!
//! A folder may be a stranger's, who would like another file of the user to be read. So a link counts only if it leads to
//! what it is called: a file with the digest that is its name, or a folder that has nothing but blobs in it, by their
//! names. (Rejected: to take every link, as the digest of what is read is checked anyway: a reader that was taken over
//! would check nothing.)

use std::fs::{self, DirEntry, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::archive::open_regular;
use crate::digest::{Algorithm, Digest, Hasher};

/// Where folders of images and stores have a folder `blobs`.
const PLACES: [&str; 3] = ["", "docker/registry/v2", super::containerd::CONTENT_FOLDER];

/// The most names of a folder that are looked at.
const MAX_NAMES: usize = 1 << 20;

/// Bytes that are read at a time.
const CHUNK_BYTES: usize = 1 << 20;

/// Where the links among the blobs of an image's folder lead to, as far as that is what they are called.
///
/// It reads all of each file that a link leads to.
pub fn blob_links(layout: &Path) -> Vec<PathBuf> {
    let mut found = folder_links(layout);
    for algorithm in Algorithm::ALL {
        let folder = layout.join("blobs").join(algorithm.name());
        for entry in fs::read_dir(&folder).into_iter().flatten().take(MAX_NAMES) {
            let link = entry.ok().and_then(|entry| Some((target(&entry.path())?, entry)));
            let is_blob = |(target, entry): &(PathBuf, DirEntry)| {
                let name = entry.file_name();
                name.to_str().is_some_and(|name| is_blob(algorithm, name, target))
            };
            found.extend(link.filter(is_blob).map(|(target, _)| target));
        }
    }
    found
}

/// The same of a store, where folders may be links, but single blobs are none.
pub fn store_links(store: &Path) -> Vec<PathBuf> {
    PLACES.iter().flat_map(|place| folder_links(&store.join(place))).collect()
}

/// Where `blobs` and the folders in it lead to.
fn folder_links(parent: &Path) -> Vec<PathBuf> {
    let blobs = parent.join("blobs");
    let is_algorithm = |name: &str| Algorithm::ALL.iter().any(|known| known.name() == name);
    let folders = Algorithm::ALL.map(|algorithm| target(&blobs.join(algorithm.name())));
    let folders = folders.into_iter().flatten().filter(|target| all_names(target, &is_hash));
    let all = target(&blobs).filter(|target| all_names(target, &is_algorithm));
    all.into_iter().chain(folders).collect()
}

/// Where a link leads to in the end. It is what is looked at and allowed, so that nobody can exchange the link in between.
fn target(link: &Path) -> Option<PathBuf> {
    if link.is_symlink() { link.canonicalize().ok() } else { None }
}

/// What a blob, or the folder of those that begin so, is called.
fn is_hash(name: &str) -> bool {
    matches!(name.len(), 2 | 64 | 128)
        && name.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// Whether a folder has some entries, and all of them are called so.
fn all_names(folder: &Path, is_right: &dyn Fn(&str) -> bool) -> bool {
    let Ok(entries) = fs::read_dir(folder) else { return false };
    let mut names = 0;
    for entry in entries {
        names += 1;
        let is_right = entry.is_ok_and(|entry| entry.file_name().to_str().is_some_and(is_right));
        if !is_right || names > MAX_NAMES {
            return false;
        }
    }
    names > 0
}

/// Whether a file has the digest that a link to it is called.
fn is_blob(algorithm: Algorithm, name: &str, target: &Path) -> bool {
    let Ok(digest) = format!("{}:{name}", algorithm.name()).parse::<Digest>() else { return false };
    let found = open_regular(target).and_then(|file| digest_of(file, algorithm));
    if !found.as_ref().is_ok_and(|found| *found == digest) {
        let found = found.map_or_else(|e| e.to_string(), |found| found.to_string());
        log::info!("the link for {digest} is not followed: {}: {found}", target.display());
        return false;
    }
    true
}

fn digest_of(mut file: File, algorithm: Algorithm) -> io::Result<Digest> {
    let mut hasher = Hasher::new(algorithm);
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        match file.read(&mut chunk)? {
            0 => return Ok(hasher.finish()),
            n => hasher.update(&chunk[..n]),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn links_that_are_what_they_are_called() {
        let top = tempfile::tempdir().unwrap();
        let path = |name: &str| top.path().join(name);
        let hex = Digest::sha256(b"content").hex();
        let other = Digest::sha256(b"secret").hex();
        fs::create_dir_all(path("layout/blobs/sha256")).unwrap();
        fs::create_dir_all(path("home/.ssh")).unwrap();
        fs::write(path("content"), b"content").unwrap();
        fs::write(path("home/.ssh/key"), b"anything").unwrap();
        let layout = path("layout");
        let right = layout.join("blobs/sha256").join(&hex);
        symlink(path("content"), &right).unwrap();
        symlink(path("home/.ssh/key"), layout.join("blobs/sha256").join(&other)).unwrap();
        symlink(path("home"), layout.join("blobs/sha512")).unwrap();
        symlink("/dev/zero", layout.join("blobs/sha256").join("0".repeat(64))).unwrap();
        symlink(path("content"), layout.join("blobs/sha256/index.json")).unwrap();
        assert_eq!(blob_links(&layout), [path("content").canonicalize().unwrap()]);

        fs::write(layout.join("blobs/notes"), b"").unwrap();
        for (place, at) in [("", "blobs"), (PLACES[1], "blobs"), (PLACES[2], "blobs/sha256")] {
            let store = tempfile::tempdir().unwrap();
            let link = store.path().join(place).join(at);
            fs::create_dir_all(link.parent().unwrap()).unwrap();
            symlink(layout.join(at), &link).unwrap();
            // A name that is none of a blob's lies there.
            let led = layout.join(at).canonicalize().unwrap();
            assert!(store_links(store.path()).iter().all(|found| *found != led), "{at}");
            let clean = store.path().join("clean");
            fs::create_dir_all(clean.join("blobs/sha256")).unwrap();
            fs::write(clean.join("blobs/sha256").join(&hex), b"content").unwrap();
            fs::remove_file(&link).unwrap();
            symlink(clean.join(at), &link).unwrap();
            assert_eq!(store_links(store.path()), [clean.join(at).canonicalize().unwrap()], "{at}");
        }
    }
}
