//! `ocifs inspect`: its flags.

use std::path::PathBuf;

use clap::Args as ClapArgs;
use ocifs::reference::ImageName;

use super::image::ImageArgs;
use super::name::image_name;

/// `ocifs inspect`
#[derive(Debug, ClapArgs)]
#[command(group = clap::ArgGroup::new("form").multiple(false))]
pub(crate) struct Inspect {
    /// The image
    #[arg(value_name = "REF", value_parser = image_name)]
    pub(crate) image: ImageName,

    /// Open every document: manifests of all platforms, nested indexes, referrers of every image
    #[arg(short, long, conflicts_with_all = ["digest", "raw", "config"])]
    pub(crate) all: bool,

    /// Print the digest of the document that REF means, which names the image for ever
    ///
    /// With --platform, of the manifest of that platform.
    #[arg(long, group = "form")]
    pub(crate) digest: bool,

    /// Print the document that REF means, byte for byte: a manifest or an image index
    ///
    /// With --platform, the manifest of that platform.
    #[arg(long, group = "form")]
    pub(crate) raw: bool,

    /// Print the config, byte for byte: its SHA-256 is the image ID
    #[arg(long, group = "form")]
    pub(crate) config: bool,

    /// Print a graph for Graphviz (`dot`)
    #[arg(long, group = "form")]
    pub(crate) dot: bool,

    /// Write a report for a browser to this file, `-` for stdout: one file that loads nothing from anywhere
    #[arg(long, value_name = "FILE", group = "form")]
    pub(crate) html: Option<PathBuf>,

    /// Print JSON
    #[arg(long, group = "form")]
    pub(crate) json: bool,

    #[command(flatten)]
    pub(crate) image_args: ImageArgs,
}
