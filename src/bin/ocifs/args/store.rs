//! The words and flags of `ocifs store`.

use std::path::PathBuf;
use std::str::FromStr;

use clap::Args as ClapArgs;
use ocifs::reference::{ImageName, Reference};

use super::image::ImageArgs;
use super::mount_flags::MountFlags;
use super::name::image_name;

/// The registry that stands for this machine in names of engines.
const LOCALHOST: &str = "localhost";

/// `ocifs store`
#[derive(Debug, ClapArgs)]
pub(crate) struct Store {
    /// An existing directory
    #[arg(value_name = "DIR")]
    pub(crate) directory: PathBuf,

    /// The images; NAME is what engines call an image whose reference they do not know
    #[arg(value_name = "[NAME=]REF", required_unless_present = "list")]
    pub(crate) images: Vec<EngineImage>,

    /// Show the images that this file names as well, and those that are added to it while the store is shown
    ///
    /// One [NAME=]REF a line; empty lines and those that begin with `#` do not count. The file is looked at every few
    /// seconds. An image that can't be had is told in the log, and tried again when the file changes. What is
    /// taken out of the file stays in the store until it is unmounted. Needs Linux 6.9.
    #[arg(long, value_name = "FILE", help_heading = "Mount")]
    pub(crate) list: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) image_args: ImageArgs,

    #[command(flatten)]
    pub(crate) flags: MountFlags,
}

/// `[NAME=]REF`
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct EngineImage {
    /// In full, as engines write it.
    pub(crate) name: String,
    pub(crate) image: ImageName,
    /// As it was written.
    pub(crate) words: String,
}

/// The images of a store.
#[derive(Clone, Debug)]
pub(crate) struct EngineImages {
    /// Those of the command line.
    pub(crate) images: Vec<EngineImage>,
    /// A file that names more.
    pub(crate) list: Option<PathBuf>,
}

impl FromStr for EngineImage {
    type Err = String;

    fn from_str(text: &str) -> Result<EngineImage, String> {
        // What stands before a `=` is a name if it could be one: `oci:/a=b` and `./a=b` are references.
        let named = text.split_once('=').and_then(|(name, image)| {
            let is_transport =
                matches!(name.parse(), Ok(ImageName::Local(_) | ImageName::Stored(_)));
            let name = name.parse::<Reference>().ok().filter(|_| !is_transport)?;
            Some((name, image))
        });
        if let Some((name, image)) = named {
            let (name, image) = (in_full(&name), image_name(image)?);
            return Ok(EngineImage { name, image, words: text.to_owned() });
        }
        match image_name(text)? {
            ImageName::Registry(reference) => {
                let name = reference.to_string();
                let (image, words) = (ImageName::Registry(reference), text.to_owned());
                Ok(EngineImage { name, image, words })
            }
            image => Err(format!(
                "`{image}` does not say what engines should call it: write NAME={image}, such as localhost/app:1={image}"
            )),
        }
    }
}

/// A name as engines write it: one that was given without a registry is of this machine.
fn in_full(name: &Reference) -> String {
    let full = name.to_string();
    match name.short_name() {
        Some(short) => {
            let start = name.registry().len() + 1 + name.repository().len();
            format!("{LOCALHOST}/{short}{}", &full[start..])
        }
        None => full,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_engines() {
        let parsed = |text: &str| {
            let EngineImage { name, image, .. } = text.parse()?;
            Ok::<_, String>((name, image.to_string()))
        };
        for (text, name, image) in [
            ("debian:12", "docker.io/library/debian:12", "docker.io/library/debian:12"),
            ("r.example/a", "r.example/a:latest", "r.example/a:latest"),
            ("app=debian:12", "localhost/app:latest", "docker.io/library/debian:12"),
            ("team/app:1=./x.tar", "localhost/team/app:1", "./x.tar"),
            ("r.example:5000/app:1=oci:/a=b", "r.example:5000/app:1", "oci:/a=b"),
        ] {
            assert_eq!(parsed(text), Ok((name.to_owned(), image.to_owned())), "{text}");
        }
        for text in ["oci:/a=b", "./a=b", "./x.tar", "docker-daemon:app:1"] {
            assert!(parsed(text).is_err_and(|e| e.contains("NAME=")), "{text}");
        }
    }
}
