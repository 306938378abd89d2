//! Images in folders, archives and streams: the path that a name means, and what lies there.
//!
//! # Which path
//!
//! Archives are named after images (`ubuntu:22.04.tar`), so a path may have colons, and where it ends and
//! the name of an image in it begins is seen only on disk: the longest prefix that exists is the path.
//!
//! What begins like a path (`./`, `../`, `/`, `~/`, `-`) is one. A word that could be an image of Docker
//! Hub is a path where an image lies there (`x.tar`, `build/layout`), and no registry is asked for it
//! then; where something else lies, such as the folder `debian` of a project, it is a
//! reference, unless it is called like an archive. So is one whose registry has neither dot nor port, and is a host by its
//! capitals alone (`Downloads/x.tar`). One that names a registry in full (`v1.2/x.tar`) is a path where a file is
//! that is called like an archive.
//!
//! # What lies there
//!
//! The shape is recognised by content: an OCI layout has `oci-layout`, `docker save` writes
//! `manifest.json` with a list or, before version 1.10, `repositories`, skopeo's `dir:` has
//! `manifest.json` with an object. Each may be a folder or a tar, compressed or not. Something else is
//! named for what it is.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, FileTypeExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::archive::{Archive, Files, open_without_waiting};
use super::directory::Directory;
use super::layout::Layout as OciLayout;
use super::magic::{LOOK_BYTES, check_archive};
use super::{Error, Source, docker_archive, stream};
use crate::reference::{ImageName, LocalLayout, LocalSource, ParseError, Reference};

/// Bytes of a file that are looked into for its kind: a manifest with all of its layers.
const MARK_BYTES: u64 = 1 << 20;

/// What a text means here: an image's name, where a word that is the path of an image on this machine
/// is that.
///
/// # Errors
/// It is no name, and no image lies there.
pub fn named(text: &str) -> Result<ImageName, ParseError> {
    let parsed = text.parse::<ImageName>();
    let names_registry = match &parsed {
        Ok(ImageName::Local(local)) => return Ok(ImageName::Local(located(local))),
        Ok(ImageName::Stored(_)) => return parsed,
        Ok(ImageName::Registry(reference)) => {
            let registry = reference.registry();
            let is_host = registry.contains(['.', ':']) || registry == "localhost";
            reference.short_name().is_none() && is_host
        }
        Err(_) => false,
    };
    if text.is_empty() || text.contains("://") {
        return parsed;
    }
    let bare = LocalSource::bare(text);
    let is_image = |reading: &LocalSource| {
        let is_file = || fs::metadata(&reading.path).is_ok_and(|m| m.is_file());
        (reading.has_archive_name() && is_file()) || !names_registry && is_image(&reading.path)
    };
    match bare.readings().into_iter().find(is_image) {
        Some(found) => Ok(ImageName::Local(found)),
        None if bare.has_archive_name() && parsed.is_ok() && !names_registry => {
            Ok(ImageName::Local(bare))
        }
        None => parsed,
    }
}

/// The reading of a path whose path exists, the longest first.
fn located(local: &LocalSource) -> LocalSource {
    if local.is_standard_input() {
        return local.clone();
    }
    let exists = |reading: &LocalSource| fs::symlink_metadata(&reading.path).is_ok();
    local.readings().into_iter().find(exists).unwrap_or_else(|| local.clone())
}

/// Whether an image lies at a path, as far as a quick look can tell.
pub fn is_image(path: &Path) -> bool {
    let Ok(metadata) = fs::metadata(path) else { return false };
    if metadata.is_dir() {
        return Marks::of(&Files::Folder(path.to_owned())).is_ok_and(|marks| marks.are_some());
    }
    let mut start = [0; LOOK_BYTES];
    let start = metadata.is_file().then(|| {
        let n = open_without_waiting(path).and_then(|file| file.read_at(&mut start, 0)).ok()?;
        Some(&start[..n])
    });
    start.flatten().is_some_and(|start| check_archive(start).is_ok())
}

/// The files by which the shapes are told apart. Programs of other kinds have files of these names
/// too (a web application its `manifest.json`, apk its `repositories`), so their contents are checked.
#[derive(Clone, Copy, Debug, Default)]
struct Marks {
    oci_layout: bool,
    manifest: Option<ManifestFile>,
    repositories: bool,
}

/// What a `manifest.json` is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ManifestFile {
    /// A list of images, as `docker save` writes.
    Rows,
    /// A manifest, as skopeo writes for `dir:`.
    Image,
}

impl ManifestFile {
    fn of(text: &str) -> Option<ManifestFile> {
        let has = |key: &str| text.contains(&format!("\"{key}\""));
        match text.trim_start().as_bytes() {
            [b'[', ..] if has("config") || has("layers") || text.trim() == "[]" => {
                Some(ManifestFile::Rows)
            }
            [b'{', ..] if has("schemaversion") => Some(ManifestFile::Image),
            _ => None,
        }
    }
}

impl Marks {
    fn of(files: &Files) -> Result<Marks, Error> {
        let has = |name| matches!(files.open(name), Ok(Some(_)));
        // In lower case, as far as one of them is looked into.
        let start = |name| -> Result<String, Error> {
            let Ok(Some(section)) = files.open(name) else { return Ok(String::new()) };
            let mut start = Vec::new();
            let read = section.reader(0).take(MARK_BYTES).read_to_end(&mut start);
            read.map_err(|e| Error::file(files.path(), e))?;
            Ok(String::from_utf8_lossy(&start).to_ascii_lowercase())
        };
        Ok(Marks {
            oci_layout: has("oci-layout") && has("index.json"),
            manifest: ManifestFile::of(&start("manifest.json")?),
            repositories: start("repositories")?.trim_start().starts_with('{'),
        })
    }

    fn are_some(self) -> bool {
        self.oci_layout || self.manifest.is_some() || self.repositories
    }
}

/// Opens what a local name means; `spool` is a folder for temporary files.
///
/// # Errors
/// Nothing is there, or no image of that kind.
pub fn open(local: &LocalSource, spool: &Path) -> Result<Arc<dyn Source>, Error> {
    let local = located(local);
    // As `docker cp` is told. No image is called so.
    if let Some(path) = local.selector.as_ref().filter(|selector| selector.starts_with('/')) {
        let image = LocalSource { selector: None, ..local.clone() };
        let what = format!("a path in the image is written after a space, `{image} {path}`");
        return Err(Error::invalid(&local.path, what));
    }
    if local.is_standard_input() {
        let path = Path::new("standard input");
        let file = stream::standard_input().map_err(|e| Error::file(path, e))?;
        return opened(&local, in_place(file, path, spool)?);
    }
    // Absolute, because a mount in the background leaves the current directory.
    let path = std::path::absolute(&local.path).map_err(|e| Error::file(&local.path, e))?;
    let metadata = fs::metadata(&path).map_err(|e| missing(&local, &path, e))?;
    let kind = metadata.file_type();
    let is_folder = kind.is_dir();
    match local.layout {
        LocalLayout::OciLayout | LocalLayout::Dir if !is_folder => {
            let what = format!("it is no folder; an archive is named by its path alone: `{}`", {
                LocalSource { layout: LocalLayout::ByContent, ..local.clone() }
            });
            Err(Error::invalid(path, what))
        }
        LocalLayout::OciArchive if is_folder => {
            let what = "it is a folder: write `oci:` before its path, not `oci-archive:`";
            Err(Error::invalid(path, what))
        }
        _ if is_folder => opened(&local, Files::Folder(path)),
        _ if kind.is_socket() => Err(Error::invalid(path, "it is a socket, not an archive")),
        _ => {
            let file = open_without_waiting(&path).map_err(|e| Error::file(&path, e))?;
            opened(&local, in_place(file, &path, spool)?)
        }
    }
}

/// The files of an archive, which may come as a stream.
fn in_place(file: File, path: &Path, spool: &Path) -> Result<Files, Error> {
    let is_stream = stream::is_stream(&file).map_err(|e| Error::file(path, e))?;
    let file = if is_stream { stream::spool(file, path, spool)? } else { file };
    let mut start = [0; LOOK_BYTES];
    let n = file.read_at(&mut start, 0).map_err(|e| Error::file(path, e))?;
    check_archive(&start[..n])
        .map_err(|what| Error::invalid(path, format!("no image: it is {what}")))?;
    let archive = Archive::open_file_at(file, path, spool)?;
    if !Marks::of(&Files::Archive(archive.clone()))?.are_some()
        && let Some(below) = archive.below_its_folder()
        && Marks::of(&Files::Archive(below.clone()))?.are_some()
    {
        return Ok(Files::Archive(below));
    }
    Ok(Files::Archive(archive))
}

/// The image in some files, of the shape that was named or that they have.
fn opened(local: &LocalSource, files: Files) -> Result<Arc<dyn Source>, Error> {
    let selector = local.selector.clone();
    let marks = Marks::of(&files)?;
    match local.layout {
        // The wrong transport is answered with the right one.
        LocalLayout::OciLayout | LocalLayout::OciArchive
            if marks.oci_layout || !marks.are_some() =>
        {
            Ok(Arc::new(OciLayout::open(files, selector)?))
        }
        LocalLayout::Dir if marks.manifest == Some(ManifestFile::Image) || !marks.are_some() => {
            Ok(Arc::new(Directory::open(files)?))
        }
        LocalLayout::OciLayout | LocalLayout::OciArchive | LocalLayout::Dir => {
            let (is, word) = match marks {
                Marks { oci_layout: true, .. } => ("an OCI image layout", "oci:"),
                Marks { manifest: Some(ManifestFile::Image), .. } => {
                    ("a folder of skopeo's", "dir:")
                }
                _ => ("the output of `docker save`", "docker-archive:"),
            };
            let named = local.layout.transport();
            let what =
                format!("it is no `{named}:` but {is}: write `{word}` before its path, or nothing");
            Err(Error::invalid(files.path(), what))
        }
        LocalLayout::DockerArchive => docker_archive::open_files(files, selector),
        _ if marks.manifest == Some(ManifestFile::Image) && !marks.oci_layout => {
            Ok(Arc::new(Directory::open(files)?))
        }
        _ if marks.are_some() || docker_archive::is_unnamed(&files) => {
            docker_archive::open_files(files, selector)
        }
        _ => Err(Error::invalid(files.path(), other(&files))),
    }
}

/// That there is nothing at a path, by all the names that were tried.
fn missing(local: &LocalSource, path: &Path, error: io::Error) -> Error {
    let is_not_there =
        matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory);
    // A dangling link is there.
    if !is_not_there || fs::symlink_metadata(path).is_ok() {
        return Error::file(path, error);
    }
    let readings = local.readings();
    let tried = readings.iter().map(|reading| reading.path.display().to_string());
    let registry = match local.is_bare() {
        true => local.path.to_str().and_then(|path| path.parse::<Reference>().ok()),
        false => None,
    };
    // The message calls it one of Docker Hub.
    let registry = registry.filter(|r| r.short_name().is_some());
    let registry = registry.map(|r| format!("{}/{}", r.registry(), r.repository()));
    Error::Nowhere { tried: tried.collect(), registry }
}

/// What a folder or an archive without an image is.
fn other(files: &Files) -> String {
    let has = |name: &str| match files {
        Files::Folder(folder) => folder.join(name).symlink_metadata().is_ok(),
        Files::Archive(archive) => archive.names().any(|member| {
            member.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        }),
    };
    let path = files.path().display();
    let is_folder = matches!(files, Files::Folder(_));
    if is_folder && (has("overlay-images") || has("vfs-images")) {
        return format!(
            "it is a store of podman: name an image in it, `containers-storage:[overlay@{path}]IMAGE`"
        );
    }
    if is_folder && has("io.containerd.content.v1.content") {
        return format!(
            "it is a store of containerd: name an image in it, `containerd:{path}//IMAGE`"
        );
    }
    if is_folder && (has("docker/registry/v2") || has("repositories") && has("blobs")) {
        return format!(
            "it is the storage of a registry: name an image in it, `registry-storage:{path}//NAME:TAG`"
        );
    }
    if has("etc") || has("usr") || has("bin") {
        return match is_folder {
            true => "no image, but a directory of files that could be in one".to_owned(),
            false => {
                "no image, but a tar of files, as `docker export` writes it; `docker save` writes \
                      images"
                    .to_owned()
            }
        };
    }
    let marks = "no image: it has neither `oci-layout` with `index.json` nor `manifest.json` nor \
                 `repositories`";
    match files {
        Files::Folder(folder) => match images_in(folder) {
            Some(names) => format!("{marks}; in it are {names}"),
            None => marks.to_owned(),
        },
        Files::Archive(_) => marks.to_owned(),
    }
}

/// Names of what are images in a folder, for a message.
fn images_in(folder: &Path) -> Option<String> {
    const MOST: usize = 5;
    const LOOKED_AT: usize = 1000;
    let entries = fs::read_dir(folder).ok()?.take(LOOKED_AT).flatten();
    let paths = entries.map(|entry| entry.path()).filter(|path| is_image(path));
    let mut names: Vec<String> = paths
        .filter_map(|path: PathBuf| path.file_name().map(|n| n.to_string_lossy().into_owned()))
        .take(MOST)
        .collect();
    names.sort();
    (!names.is_empty()).then(|| names.join(", "))
}
