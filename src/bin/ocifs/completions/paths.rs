//! Paths in an image, of which all layers have an index in the cache.

use ocifs::cache::{Cache, Limit};
use ocifs::image;
use ocifs::reference::ImageName;
use ocifs::tree::{FileKind, Ino, Symlinks, Tree};

use super::bounds::MAX_CANDIDATES;
use super::files::is_file_or_folder;
use super::line;
use crate::args::ImageArgs;
use crate::environment::{self, Settings};

/// A path that every image has: what the word that is being typed may be.
const ROOT: &str = "/";

pub(super) fn paths(typed: &str) -> Vec<String> {
    let known = line::read(ROOT).and_then(|(image, args)| known_tree(&image?, args));
    known.map_or_else(Vec::new, |tree| continued(&tree, typed))
}

fn known_tree(name: &ImageName, args: ImageArgs) -> Option<Tree> {
    // What comes through a pipe can be read once.
    if let ImageName::Local(local) = name
        && !is_file_or_folder(&local.path)
    {
        return None;
    }
    let args = ImageArgs { offline: true, ..args };
    let (name, options) = environment::image(name, &args, &Settings::read().ok()?).ok()?;
    let folder = environment::cache_folder(&args.cache_args)?;
    let cache = Cache::open_existing(&folder, Limit::Default).into();
    image::known_tree(&name, &cache, &options).ok()?
}

/// The names in a directory that begin as the last component typed, directories with a slash.
fn continued(tree: &Tree, typed: &str) -> Vec<String> {
    let typed = if typed.is_empty() { ROOT } else { typed };
    let (directory, begun) = typed
        .rsplit_once('/')
        .map_or(("", typed), |(_, last)| (&typed[..typed.len() - last.len()], last));
    let Ok(ino) = tree.resolve(directory.as_bytes(), Symlinks::Follow) else { return Vec::new() };
    if tree.kind(ino) != FileKind::Directory {
        return Vec::new();
    }
    let children = tree.children_by_name(ino);
    let children = children.filter(|child| child.name.starts_with(begun.as_bytes()));
    let paths = children.filter_map(|child| {
        let path = format!("{directory}{}", std::str::from_utf8(child.name).ok()?);
        let slash = if leads_to_directory(tree, child.ino, &path) { "/" } else { "" };
        Some(path + slash)
    });
    paths.take(MAX_CANDIDATES).collect()
}

/// Whether a file is a directory, or a symlink to one.
fn leads_to_directory(tree: &Tree, ino: Ino, path: &str) -> bool {
    let is_directory = |ino| tree.kind(ino) == FileKind::Directory;
    match tree.kind(ino) {
        FileKind::Symlink => {
            tree.resolve(path.as_bytes(), Symlinks::Follow).is_ok_and(is_directory)
        }
        _ => is_directory(ino),
    }
}
