//! The words and flags of `ocifs mount`.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::str::FromStr;

use clap::Args as ClapArgs;
use clap::error::ErrorKind;
use ocifs::image::{LayoutPlatforms, ProcessOptions};
use ocifs::reference::{DirectoryName, ImageName, ParseError};

use super::base::BaseArg;
use super::browse::Browse;
use super::image::ImageArgs;
use super::mount_flags::MountFlags;
use super::name::image_name;
use super::store::{EngineImages, Store};
use super::units::bytes;

/// `ocifs mount`
#[derive(Debug, ClapArgs)]
#[command(override_usage = "ocifs mount [OPTIONS] [NAME=]REF... DIR")]
pub(crate) struct Mount {
    /// The image, or several, and an existing directory; NAME is the directory below it to show an
    /// image in
    // Not two arguments: flags may stand between them.
    #[arg(value_name = "[NAME=]REF... DIR", required = true)]
    images_and_directory: Vec<OsString>,

    #[command(flatten)]
    pub(crate) base: BaseArg,

    #[command(flatten)]
    pub(crate) image_args: ImageArgs,

    #[command(flatten)]
    pub(crate) flags: MountFlags,

    /// How to prefetch what a walk will read next: `process`, `push`, or `off`
    ///
    /// With `process`, when `find`, `grep -r` or `tar` walk over the mount, a second process lists directories
    /// and reads small files just before they do, on another processor, so that a first pass takes less
    /// time. It reads only what is in the cache; with --kernel-metadata all of the image has to be there. A
    /// machine with one processor does not run it.
    /// With `push` the serving process puts small files of the cache into the page cache itself. If it is
    /// killed (`kill -9`) in the middle of a walk, the reader may hang until root runs `umount -f`.
    #[arg(
        long,
        value_enum,
        value_name = "HOW",
        default_value_t,
        hide_possible_values = true,
        help_heading = "Mount"
    )]
    pub(crate) prefetch: Prefetch,

    /// Give names and attributes to the kernel as an EROFS image (root, Linux 6.18.21)
    ///
    /// Older kernels with this version's fix of EROFS backported work as well. The kernel then asks for contents
    /// only, in large pieces: a first `find` costs nothing, a first `grep -r`
    /// few requests. Any user can read it, as with --allow-other. The mount is of type `erofs`; its
    /// files do not have `user.ocifs.proof`. The exit code is 3 where only this is impossible.
    #[arg(long, help_heading = "Mount")]
    pub(crate) kernel_metadata: bool,

    /// Refuse --kernel-metadata where names and attributes take more memory than this
    ///
    /// This memory can't be swapped out, and is in use until the image is unmounted. By default a sixteenth of the machine's
    /// memory. Suffixes K, M, G and T are understood.
    #[arg(long, value_name = "BYTES", value_parser = bytes, help_heading = "Mount")]
    pub(crate) max_kernel_metadata: Option<u64>,

    /// Mount over another image that is mounted at DIR (root only)
    ///
    /// Without this flag that is refused. If the same image is mounted there in the same way, nothing is done.
    #[arg(long, help_heading = "Mount")]
    pub(crate) over: bool,

    /// Let the mount be written to: what is written is kept in memory, and is gone with the mount (root)
    ///
    /// The mount is an overlay over the image, which any user can use as far as its permission bits allow. Without root,
    /// `ocifs run` gives a program such a view.
    #[arg(long, conflicts_with_all = ["kernel_metadata", "layout", "over"], help_heading = "Mount")]
    pub(crate) scratch: bool,

    /// The same, and keep what is written in this directory, which is for this image and one mount at a time (root)
    #[arg(
        long,
        value_name = "DIR",
        conflicts_with_all = ["scratch", "kernel_metadata", "layout", "over"],
        help_heading = "Mount"
    )]
    pub(crate) upper: Option<PathBuf>,

    /// Let every file say where it is from, in extended attributes that are not listed
    ///
    /// `user.ocifs.layer` is the digest of its layer, `user.ocifs.diff_id` that layer's diff ID, `user.ocifs.created_by`
    /// the instruction that made the layer, and `user.ocifs.sha256` the SHA-256 of a regular file's content:
    /// `getfattr -n user.ocifs.created_by FILE`. The layer indexes stay in memory for that.
    #[arg(long, conflicts_with = "kernel_metadata", help_heading = "Mount")]
    pub(crate) provenance: bool,

    /// Give each of several images inodes of its own
    ///
    /// By default a file that several images have is one inode, as if it were hard linked.
    #[arg(long, help_heading = "Mount")]
    pub(crate) separate_inodes: bool,

    /// Show only so many layers of the image, from the base up
    ///
    /// It is what unpacking these layers gives, and what engines call by the chain ID of the last of them.
    #[arg(long, value_name = "COUNT", conflicts_with = "exclude_base", help_heading = "Mount")]
    pub(crate) lowest_layers: Option<usize>,

    /// Show what the image consists of: its documents, each layer, the images for other platforms, and what refers to it
    ///
    /// `rootfs` is what a mount shows without this flag, `layers` has a directory for each layer alone, `platforms` one
    /// for each image of an index. With `--platform all` DIR has a directory for each of them instead. Nothing is fetched
    /// before its directory is entered, but for the image's documents.
    #[arg(
        long,
        conflicts_with_all = ["kernel_metadata", "exclude_base", "provenance", "separate_inodes", "lowest_layers"],
        help_heading = "Mount"
    )]
    layout: bool,
}

/// How the kernel is given what a walk will read next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Prefetch {
    /// A process of its own asks for it before the walk does.
    #[default]
    Process,
    /// The serving process gives it unasked.
    Push,
    /// Not at all.
    Off,
}

/// `[NAME=]REF`
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NamedImage {
    pub(crate) directory: Option<DirectoryName>,
    pub(crate) image: ImageName,
}

impl FromStr for NamedImage {
    type Err = String;

    fn from_str(text: &str) -> Result<NamedImage, String> {
        // References with a `=` in them have a `:` or a `/` before it: `oci:/a=b`.
        let (directory, image) = match text.split_once('=') {
            Some((name, image)) if !name.contains(['/', ':']) => (Some(name), image),
            _ => (None, text),
        };
        if let Err(ParseError::PathBehind { text, image, path }) = image.parse::<ImageName>() {
            // Of a word behind the image `mount` would make the directory.
            return Err(format!(
                "`{text}` ends with a path, and a mount shows the whole image: mount `{image}` and look at \
                 DIR{path}, or see it without a mount: `ocifs ls {image} {path}`"
            ));
        }
        let directory = directory.map(str::parse).transpose();
        Ok(NamedImage {
            directory: directory
                .map_err(|e: ocifs::reference::DirectoryNameError| e.to_string())?,
            image: image_name(image)?,
        })
    }
}

/// What a mount shows.
#[derive(Debug)]
pub(crate) enum ShownImages {
    /// One image.
    Single(ImageName),
    /// Each in a directory of its own.
    Directories(Vec<(DirectoryName, ImageName)>),
    /// What one consists of.
    Layout(ImageName, LayoutPlatforms),
    /// Those of all registries that are named, and what lies in folders of this machine.
    Registries {
        /// The folders.
        archives: Vec<PathBuf>,
    },
    /// As a store of engines.
    Store(EngineImages),
}

impl ShownImages {
    pub(crate) fn images(&self) -> Vec<&ImageName> {
        match self {
            ShownImages::Single(image) | ShownImages::Layout(image, _) => vec![image],
            ShownImages::Directories(images) => images.iter().map(|(_, image)| image).collect(),
            ShownImages::Store(store) => store.images.iter().map(|named| &named.image).collect(),
            ShownImages::Registries { .. } => Vec::new(),
        }
    }
}

/// The words of `ocifs mount`, read.
#[derive(Debug)]
pub(crate) struct MountRequest {
    pub(crate) shown: ShownImages,
    pub(crate) mount_point: PathBuf,
    /// The program that is to run in it, if it is for one.
    pub(crate) program: Option<ProcessOptions>,
}

/// What is wrong with the words of a verb.
#[derive(Debug)]
pub(crate) struct WrongUsage {
    pub(crate) kind: ErrorKind,
    pub(crate) text: String,
}

impl WrongUsage {
    pub(crate) fn new(kind: ErrorKind, text: impl Into<String>) -> WrongUsage {
        WrongUsage { kind, text: text.into() }
    }
}

impl Mount {
    /// The flags of a mount of registries.
    pub(crate) fn of_registries(browse: &Browse) -> Mount {
        Mount::of_lookups(&browse.image_args, &browse.flags)
    }

    /// The flags of a store of engines.
    pub(crate) fn of_store(store: &Store) -> Mount {
        Mount::of_lookups(&store.image_args, &store.flags)
    }

    /// The flags of a mount that has none of those that are about one image.
    fn of_lookups(image_args: &ImageArgs, flags: &MountFlags) -> Mount {
        Mount {
            images_and_directory: Vec::new(),
            base: BaseArg::default(),
            image_args: image_args.clone(),
            flags: flags.clone(),
            prefetch: Prefetch::Off,
            kernel_metadata: false,
            max_kernel_metadata: None,
            over: false,
            scratch: false,
            upper: None,
            provenance: false,
            separate_inodes: true,
            lowest_layers: None,
            layout: false,
        }
    }

    /// The flags of the mount that a program of an image runs in.
    pub(crate) fn of_program(image_args: &ImageArgs) -> Mount {
        let flags = MountFlags { allow_other: true, ..MountFlags::default() };
        Mount { separate_inodes: false, ..Mount::of_lookups(image_args, &flags) }
    }

    /// Whether the mount can be written to.
    pub(crate) fn is_writable(&self) -> bool {
        self.scratch || self.upper.is_some()
    }

    /// Whether `--platform all` was given: the name of no architecture.
    fn is_of_all_platforms(&self) -> bool {
        let platform = self.image_args.platform.as_ref();
        platform.is_some_and(|platform| platform.to_string() == "linux/all")
    }

    fn layout_platforms(&self) -> LayoutPlatforms {
        match self.is_of_all_platforms() {
            true => LayoutPlatforms::All,
            false => LayoutPlatforms::One,
        }
    }

    /// The words of the images and of the directory.
    pub(crate) fn images_and_directory(&self) -> Option<(&[OsString], &OsStr)> {
        let (directory, images) = self.images_and_directory.split_last()?;
        Some((images, directory))
    }

    /// What is to be shown where, every directory with its name.
    ///
    /// # Errors
    /// Wrong usage: something is missing or no reference, or names can't be derived or are the same.
    pub(crate) fn request(&self) -> Result<MountRequest, WrongUsage> {
        let (mount_point, images) = match &self.images_and_directory[..] {
            [images @ .., directory] if !images.is_empty() => (directory, images),
            _ => {
                let text = "an image and a directory are needed";
                return Err(WrongUsage::new(ErrorKind::MissingRequiredArgument, text));
            }
        };
        if mount_point.is_empty() {
            return Err(WrongUsage::new(ErrorKind::ValueValidation, "DIR is empty"));
        }
        if self.kernel_metadata && self.prefetch == Prefetch::Push {
            let text = "the argument '--prefetch=push' cannot be used with '--kernel-metadata'";
            return Err(WrongUsage::new(ErrorKind::ArgumentConflict, text));
        }
        let invalid = |text: String| WrongUsage::new(ErrorKind::ValueValidation, text);
        let parse = |word: &OsString| {
            let not_utf8 = || format!("`{}` is not UTF-8", word.to_string_lossy());
            let parsed = word.to_str().ok_or_else(not_utf8).and_then(str::parse);
            parsed.map_err(invalid)
        };
        let images = images.iter().map(parse).collect::<Result<Vec<NamedImage>, _>>()?;
        let shown = shown_images(images).map_err(invalid)?;
        if self.is_of_all_platforms() && !self.layout {
            let text =
                "`--platform all` is for `--layout`, which shows a directory for each platform";
            return Err(invalid(text.to_owned()));
        }
        let shown = match (self.layout, shown) {
            (false, shown) => shown,
            (true, ShownImages::Single(image)) => {
                ShownImages::Layout(image, self.layout_platforms())
            }
            (true, _) => {
                let text = "`--layout` shows one image: mount the others on their own";
                return Err(invalid(text.to_owned()));
            }
        };
        Ok(MountRequest { shown, mount_point: PathBuf::from(mount_point), program: None })
    }
}

fn shown_images(images: Vec<NamedImage>) -> Result<ShownImages, String> {
    if let [NamedImage { directory: None, image }] = &images[..] {
        return Ok(ShownImages::Single(image.clone()));
    }
    let mut directories = Vec::new();
    let mut owners: HashMap<DirectoryName, ImageName> = HashMap::new();
    for NamedImage { directory, image } in images {
        let name = directory.or_else(|| image.directory_name()).ok_or_else(|| {
            format!(
                "`{image}` does not say what its directory should be called: write NAME={image}"
            )
        })?;
        if let Some(other) = owners.insert(name.clone(), image.clone()) {
            return Err(format!(
                "`{other}` and `{image}` would both be in the directory `{name}`: give each a name \
                 of its own, NAME={image}"
            ));
        }
        directories.push((name, image));
    }
    Ok(ShownImages::Directories(directories))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_before_references() {
        let parsed = |text: &str| {
            let NamedImage { directory, image } = text.parse()?;
            Ok::<_, String>((directory.map(|name| name.to_string()), image.to_string()))
        };
        for (text, name, image) in [
            ("debian", None, "docker.io/library/debian:latest"),
            ("new=debian", Some("new"), "docker.io/library/debian:latest"),
            ("n w=oci:/a=b:c=d", Some("n w"), "oci:/a=b:c=d"),
            ("oci:/a=b", None, "oci:/a=b"),
            ("oci:a=b", None, "oci:a=b"),
            ("./a=debian", None, "./a=debian"),
            ("x=./a=b.tar", Some("x"), "./a=b.tar"),
            ("x=-", Some("x"), "-"),
        ] {
            assert_eq!(parsed(text), Ok((name.map(str::to_owned), image.to_owned())), "{text}");
        }
        for bad in ["=debian", ".=debian", "..=debian", "a=", "a=b=debian", "a="] {
            assert!(parsed(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn directories_have_different_names() {
        let named = |texts: &[&str]| {
            let images: Vec<NamedImage> = texts.iter().map(|text| text.parse().unwrap()).collect();
            shown_images(images).map(|shown| match shown {
                ShownImages::Single(_)
                | ShownImages::Layout(..)
                | ShownImages::Registries { .. }
                | ShownImages::Store(_) => None,
                ShownImages::Directories(all) => {
                    Some(all.iter().map(|(name, _)| name.to_string()).collect::<Vec<_>>())
                }
            })
        };
        let names = |names: &[&str]| Ok(Some(names.iter().map(|n| n.to_string()).collect()));
        assert_eq!(named(&["app:v1"]), Ok(None));
        assert_eq!(named(&["x=app:v1"]), names(&["x"]));
        assert_eq!(named(&["a/app:v1", "app:v2", "x=app:v1"]), names(&["app-v1", "app-v2", "x"]));
        for bad in [&["a/app:v1", "b/app:v1"][..], &["x=a", "x=b"], &["app-v1=a", "app:v1"]] {
            assert!(named(bad).unwrap_err().contains("NAME="), "{bad:?}");
        }
        assert!(named(&["oci:.", "app"]).unwrap_err().contains("NAME=oci:."));
    }
}
