//! Archives and layouts in folders of this machine, below `local/archives` of a browsed directory.
//!
//! ```text
//! local/archives/images/app.tar                an archive in the folder `images` that was named
//! local/archives/images/old/layout             a layout, or a `dir:` of skopeo, further down
//! local/archives/images/old/layout:1.0         one of several images in it, as it is typed elsewhere
//! ```
//!
//! # Design
//!
//! Only folders that the user has named are shown, each under its last component: who shows a browsed directory to others shows
//! no more of the machine than that. What is neither a folder nor an image by its content is left out. Nothing is remembered,
//! as looking is as cheap as telling whether something has changed; an image is opened by its path, and is pinned
//! by its digest as all others are.
//!
//! Symbolic links to folders, and other file systems, are not entered: a walk would not end where the browsed directory lies
//! below the folder.
//!
//! # Invariants
//!
//! - What is shown lies below a folder that was named, by a path without symbolic links but for its last component.

use std::collections::BTreeMap;
use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::local::{Child, LOCAL};
use crate::source::on_disk;

/// Their directory in that of this machine.
pub(super) const ARCHIVES: &str = "archives";

/// Names of a folder that are looked at.
const MAX_LISTED: usize = 10_000;

/// Folders of archives and layouts.
#[derive(Debug, Default)]
pub struct Archives {
    folders: Vec<(String, PathBuf)>,
}

impl Archives {
    /// Of these folders, whose paths are absolute.
    ///
    /// # Errors
    /// A sentence: one is no folder, has no name that is text, or the name of another.
    pub fn new(paths: &[PathBuf]) -> Result<Archives, String> {
        let mut folders: Vec<(String, PathBuf)> = Vec::new();
        for path in paths {
            let failed = |what: &str| format!("{}: {what}", path.display());
            let real = fs::canonicalize(path).map_err(|e| failed(&e.to_string()))?;
            if !real.is_dir() {
                return Err(failed("it is no folder"));
            }
            let name = real.file_name().and_then(|name| name.to_str());
            let name = name.ok_or_else(|| failed("it has no name that could be shown"))?;
            if let Some((_, other)) = folders.iter().find(|(other, _)| other == name) {
                return Err(failed(&format!("it would be shown as {} is", other.display())));
            }
            folders.push((name.to_owned(), real));
        }
        Ok(Archives { folders })
    }

    /// The folders, without symlinks.
    pub fn folders(&self) -> impl Iterator<Item = &Path> {
        self.folders.iter().map(|(_, folder)| folder.as_path())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.folders.is_empty()
    }

    /// The directory of a path below the browsed one, if it is one of these.
    pub(super) fn directory(&self, path: &str) -> Option<Directory<'_>> {
        let rest = below(path)?;
        let (name, rest) = rest.split_once('/').unwrap_or((rest, ""));
        if name.is_empty() {
            return Some(Directory::All(&self.folders));
        }
        let (_, folder) = self.folders.iter().find(|(other, _)| other == name)?;
        Some(Directory::Folder { folder, path: folder.join(rest) })
    }

    /// Where the image of a path below the browsed directory lies, with what is said of it behind a colon.
    pub(super) fn image(&self, path: &str) -> Option<String> {
        let rest = below(path)?;
        let (name, rest) = rest.split_once('/').unwrap_or((rest, ""));
        let (_, folder) = self.folders.iter().find(|(other, _)| other == name)?;
        let place = if rest.is_empty() { folder.clone() } else { folder.join(rest) };
        Some(place.to_str()?.to_owned())
    }
}

fn below(path: &str) -> Option<&str> {
    let rest = path.strip_prefix(LOCAL)?.strip_prefix('/')?.strip_prefix(ARCHIVES)?;
    (rest.is_empty() || rest.starts_with('/')).then(|| rest.trim_start_matches('/'))
}

/// One of the directories.
#[derive(Debug)]
pub(super) enum Directory<'a> {
    /// That of the folders.
    All(&'a [(String, PathBuf)]),
    /// A folder, or one below it.
    Folder { folder: &'a Path, path: PathBuf },
}

impl Directory<'_> {
    /// All that it has.
    pub(super) fn children(&self) -> BTreeMap<String, Child> {
        let (folder, path) = match self {
            Directory::All(folders) => {
                return folders
                    .iter()
                    .map(|(name, path)| (name.clone(), kind_of_folder(path)))
                    .collect();
            }
            Directory::Folder { folder, path } => (folder, path),
        };
        let rows = fs::read_dir(path).inspect_err(|e| log::info!("{}: {e}", path.display()));
        let rows = rows.into_iter().flatten().flatten().take(MAX_LISTED);
        let named = rows.filter_map(|row| {
            let name = row.file_name().into_string().ok()?;
            Some((name, kind(folder, &row.path())?))
        });
        named.collect()
    }

    /// What a name leads to.
    pub(super) fn child(&self, name: &str) -> Option<Child> {
        let (folder, path) = match self {
            Directory::All(_) => return self.children().remove(name),
            Directory::Folder { folder, path } => (folder, path),
        };
        if let Some(child) = kind(folder, &path.join(name)) {
            return Some(child);
        }
        // One of several images: what stands before a colon is a file's name, which may have colons itself.
        let mut colons = name.match_indices([':', '@']).map(|(at, _)| at);
        let is_image = |at: usize| kind(folder, &path.join(&name[..at])) == Some(Child::Image);
        colons.any(|at| at > 0 && is_image(at)).then_some(Child::Image)
    }
}

/// What lies at a path of a folder, if it is shown.
fn kind(folder: &Path, path: &Path) -> Option<Child> {
    let own = fs::symlink_metadata(path).ok()?;
    if own.is_dir() {
        let is_near = fs::metadata(folder).is_ok_and(|folder: Metadata| folder.dev() == own.dev());
        return is_near.then(|| kind_of_folder(path));
    }
    let is_file = own.is_file() || fs::metadata(path).is_ok_and(|found| found.is_file());
    (is_file && on_disk::is_image(path)).then_some(Child::Image)
}

fn kind_of_folder(path: &Path) -> Child {
    if on_disk::is_image(path) { Child::Image } else { Child::Directory }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn folders_have_names_of_their_own() {
        let home = tempfile::tempdir().unwrap();
        let at = |path: &str| home.path().join(path);
        for path in ["a/images", "b/images", "c"] {
            fs::create_dir_all(at(path)).unwrap();
        }
        fs::write(at("file"), "x").unwrap();
        let error = |paths: &[&str]| {
            let paths: Vec<PathBuf> = paths.iter().map(|path| at(path)).collect();
            Archives::new(&paths).map(drop).unwrap_err()
        };
        assert!(error(&["a/images", "b/images"]).contains("would be shown as"));
        assert!(error(&["file"]).contains("no folder"));
        assert!(error(&["nothing"]).contains("No such file"));
        assert!(Archives::new(&[PathBuf::from("/")]).is_err(), "it has no name");
        let archives = Archives::new(&[at("a/images"), at("c")]).unwrap();
        let Some(Directory::All(all)) = archives.directory("local/archives") else { panic!() };
        assert_eq!(all.len(), 2);
        for path in ["local/archive", "local/archivesx", "local/archives/other", "local"] {
            assert!(archives.directory(path).is_none(), "{path}");
        }
        assert!(archives.directory("local/archives/c").unwrap().children().is_empty());
        let image = archives.image("local/archives/c/d/x.tar:1").unwrap();
        assert!(image.ends_with("/c/d/x.tar:1"), "{image}");
        assert!(archives.image("local/archives/c").unwrap().ends_with("/c"), "an image itself");
    }
}
