//! The words and flags of `ocifs browse`.

use std::path::PathBuf;

use clap::Args as ClapArgs;

use super::image::ImageArgs;
use super::mount_flags::MountFlags;

/// `ocifs browse`
#[derive(Debug, ClapArgs)]
pub(crate) struct Browse {
    /// An existing directory
    #[arg(value_name = "DIR")]
    pub(crate) directory: PathBuf,

    /// Show the archives and layouts in this folder and below it, too: DIR/local/archives/NAME/...; can be given several times
    ///
    /// NAME is the folder's own. What an image lies in is a directory with its files; `app.tar:1.0` is one of several in it.
    #[arg(long, value_name = "FOLDER", help_heading = "Browse")]
    pub(crate) archives: Vec<PathBuf>,

    #[command(flatten)]
    pub(crate) image_args: ImageArgs,

    #[command(flatten)]
    pub(crate) flags: MountFlags,
}
