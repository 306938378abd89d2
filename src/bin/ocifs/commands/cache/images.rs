//! `ocifs cache ls` and `ocifs cache rm`: the cache by images.
//!
//! Where an image is mounted is asked of the processes that serve this user's mounts, by the digest of its manifest: a tag
//! may have moved since. What is in the cache is the library's to know (`image::CachedImages`).

use std::collections::HashMap;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::UNIX_EPOCH;

use ocifs::cache::Removed;
use ocifs::digest::Digest;
use ocifs::fuse::kernel;
use ocifs::image::{CachedImage, CachedImages};
use ocifs::reference::ImageName;
use serde_json::{Value, json};

use super::folder::CacheFolder;
use crate::environment;
use crate::render::errors::AnyError;
use crate::render::json::{line, set_name};
use crate::render::output::{self, write_stderr};
use crate::render::screen::Screen;
use crate::render::table::{Align, Table};
use crate::render::text;

const COLUMNS: [(&str, Align); 6] = [
    ("image", Align::Left),
    ("digest", Align::Left),
    ("size", Align::Right),
    ("alone", Align::Right),
    ("used", Align::Left),
    ("mounted at", Align::Left),
];

pub(super) fn ls(place: &CacheFolder) -> Result<ExitCode, AnyError> {
    let list = CachedImages::list(&place.cache).map_err(|e| place.failed(&e))?;
    let mounts = mounts();
    let mut out = output::stdout();
    output::ignore_closed_pipe(match place.json {
        true => writeln!(out, "{}", line(as_json(place, &list, &mounts))),
        false => print(&mut out, place, &list, &mounts),
    })?;
    Ok(ExitCode::SUCCESS)
}

/// Where manifests are mounted, as far as this user's mounts tell.
type Mounts = HashMap<Digest, Vec<PathBuf>>;

fn mounts() -> Mounts {
    let mut places = Mounts::new();
    for mount in kernel::mounts().unwrap_or_default() {
        let Ok(status) = environment::query_status(mount.connection) else { continue };
        for image in status.shown.images() {
            if let Ok(digest) = image.digest.parse() {
                places.entry(digest).or_default().push(mount.mount_point.clone());
            }
        }
    }
    places
}

fn mounted_at<'a>(image: &CachedImage, mounts: &'a Mounts) -> Vec<&'a PathBuf> {
    let shown = mounts.iter().filter(|(manifest, _)| image.has_manifest(manifest));
    let mut places: Vec<&PathBuf> = shown.flat_map(|(_, places)| places).collect();
    places.sort_unstable();
    places.dedup();
    places
}

fn seconds(image: &CachedImage) -> i64 {
    let since = image.used.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

fn print(
    out: &mut impl Write,
    place: &CacheFolder,
    list: &CachedImages,
    mounts: &Mounts,
) -> io::Result<()> {
    let screen = Screen::stdout();
    let mut table = Table::new(screen, &COLUMNS).sparing(&["digest", "alone"]);
    for image in &list.images {
        let places = mounted_at(image, mounts);
        let places = places.iter().map(|place| place.display().to_string());
        table.row([
            image.reference.clone().unwrap_or_else(|| "(no tag)".to_owned()),
            screen.digest(&image.digest),
            screen.size(image.bytes),
            screen.size(image.own_bytes),
            screen.time(seconds(image)),
            places.collect::<Vec<_>>().join(" "),
        ]);
    }
    table.print(out)?;
    if screen.is_terminal() {
        if list.other_bytes > 0 {
            writeln!(out, "of no image that is known here: {}", text::size(list.other_bytes))?;
        }
        let limit = place.cache.limit().map_or("none".to_owned(), text::size);
        writeln!(out, "limit {limit}, used {}", text::size(list.bytes))?;
    }
    Ok(())
}

fn as_json(place: &CacheFolder, list: &CachedImages, mounts: &Mounts) -> Value {
    let images = list.images.iter().map(|image| {
        let places = mounted_at(image, mounts).into_iter().map(|place| {
            let mut row = json!({});
            set_name(&mut row, "mount_point", place.as_os_str().as_bytes());
            row
        });
        json!({
            "image": image.reference,
            "digest": image.digest,
            "bytes": image.bytes,
            "own_bytes": image.own_bytes,
            "used": seconds(image),
            "mounts": places.collect::<Vec<_>>(),
        })
    });
    let mut row = json!({
        "limit": place.cache.limit(),
        "bytes": list.bytes,
        "other_bytes": list.other_bytes,
        "images": images.collect::<Vec<_>>(),
    });
    place.name_folder(&mut row);
    row
}

/// What removing the images has brought.
///
/// # Errors
/// The cache holds none of some name, and nothing was removed; or its folder can't be used.
pub(super) fn rm(place: &CacheFolder, names: &[ImageName]) -> Result<Removed, AnyError> {
    let list = CachedImages::list(&place.cache).map_err(|e| place.failed(&e))?;
    let mut wanted = Vec::new();
    for name in names {
        let name = match environment::alias(name)? {
            Some(aliased) => ImageName::Registry(aliased.reference),
            None => name.clone(),
        };
        if !list.images.iter().any(|image| is_named(image, &name)) {
            let why = match name {
                ImageName::Registry(_) => "; `ocifs cache ls` lists the images that it has",
                _ => {
                    " by that name: it knows the images of registries by name, and of others only layers; \
                     `ocifs cache gc` removes what was not used for longest"
                }
            };
            return Err(format!(
                "cache folder {}: it holds nothing of {name}{why}",
                place.folder.display()
            )
            .into());
        }
        wanted.push(name);
    }
    let is_meant = |image: &CachedImage| wanted.iter().any(|name| is_named(image, name));
    let still: Vec<_> = list.images.iter().filter(|image| is_meant(image)).collect();
    let mounts = mounts();
    for mount in still.iter().flat_map(|image| mounted_at(image, &mounts)) {
        let text = format!("{} shows it, and fetches again what it needs", mount.display());
        write_stderr(&format!("warning: {}\n", text::printable(&text)));
    }
    list.remove(&place.cache, is_meant).map_err(|e| place.failed(&e))
}

/// Whether a name means an image: by its tag, or by the digest of what the tag means, in the same repository.
fn is_named(image: &CachedImage, name: &ImageName) -> bool {
    let ImageName::Registry(reference) = name else {
        return image.reference.as_deref() == Some(&*name.to_string());
    };
    let Some(digest) = reference.digest() else {
        return image.reference.as_deref() == Some(&*reference.to_string());
    };
    let repository = format!("{}/{}:", reference.registry(), reference.repository());
    let is_there = |tagged: &String| tagged.starts_with(&repository);
    image.digest == digest && image.reference.as_ref().is_none_or(is_there)
}
