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

    #[command(flatten)]
    pub(crate) image_args: ImageArgs,

    #[command(flatten)]
    pub(crate) flags: MountFlags,
}
