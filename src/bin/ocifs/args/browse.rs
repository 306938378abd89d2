//! The words and flags of `ocifs browse`.

use std::path::PathBuf;

use clap::Args as ClapArgs;

use super::image::ImageArgs;

/// `ocifs browse`
#[derive(Debug, ClapArgs)]
pub(crate) struct Browse {
    /// An existing directory
    #[arg(value_name = "DIR")]
    pub(crate) directory: PathBuf,

    #[command(flatten)]
    pub(crate) image_args: ImageArgs,

    /// Stay in the foreground
    #[arg(short, long, help_heading = "Mount")]
    pub(crate) foreground: bool,

    /// Allow other users to read the mount
    #[arg(long, help_heading = "Mount")]
    pub(crate) allow_other: bool,

    /// Check the permission bits of images
    #[arg(long, help_heading = "Mount")]
    pub(crate) strict_modes: bool,

    /// Show all files as belonging to you
    #[arg(long, help_heading = "Mount")]
    pub(crate) owner_me: bool,

    /// Do not allow programs of images to be executed
    #[arg(long, help_heading = "Mount")]
    pub(crate) noexec: bool,
}
