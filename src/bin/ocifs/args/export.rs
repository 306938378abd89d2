//! The words and flags of `ocifs export`.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::Args as ClapArgs;
use ocifs::reference::ImageName;

use super::base::BaseArg;
use super::image::ImageArgs;
use super::layer::LayerArg;
use super::name::image_name;
use super::path::path;

/// `ocifs export`
#[derive(Debug, ClapArgs)]
#[command(group = clap::ArgGroup::new("part").args(["layer", "exclude_base"]))]
pub(crate) struct Export {
    /// The image
    #[arg(value_name = "REF", value_parser = image_name)]
    pub(crate) image: ImageName,

    /// Files and directories in the image, or quoted patterns of them, instead of everything
    #[arg(value_name = "PATH", value_parser = path())]
    pub(crate) paths: Vec<OsString>,

    /// Write to this file, which is there when it is complete, instead of stdout
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) layer: LayerArg,

    #[command(flatten)]
    pub(crate) base: BaseArg,

    #[command(flatten)]
    pub(crate) image_args: ImageArgs,
}
