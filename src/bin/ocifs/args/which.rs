//! `ocifs which`

use std::ffi::OsString;

use clap::Args as ClapArgs;
use ocifs::reference::ImageName;

use super::image::ImageArgs;
use super::name::image_name;
use super::path::path;

/// `ocifs which`
#[derive(Debug, ClapArgs)]
pub(crate) struct Which {
    /// The image
    #[arg(value_name = "REF", value_parser = image_name)]
    pub(crate) image: ImageName,

    /// Files or directories, of the image or deleted in it
    #[arg(value_name = "PATH", required = true, value_parser = path())]
    pub(crate) paths: Vec<OsString>,

    /// Tell all versions of the paths also if that means to download layers
    ///
    /// Without the flag, layers that were never seen are downloaded from the top down, as far as it takes to
    /// say which of them brought the path.
    #[arg(long)]
    pub(crate) all_layers: bool,

    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,

    #[command(flatten)]
    pub(crate) image_args: ImageArgs,
}
