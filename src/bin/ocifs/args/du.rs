//! The words and flags of `ocifs du`.

use std::ffi::OsString;

use clap::{ArgAction, Args as ClapArgs};
use ocifs::reference::ImageName;

use super::image::ImageArgs;
use super::name::image_name;

/// `ocifs du`
#[derive(Debug, ClapArgs)]
#[command(disable_help_flag = true)]
pub(crate) struct Du {
    /// The image
    #[arg(value_name = "REF", value_parser = image_name)]
    pub(crate) image: ImageName,

    /// Files and directories in the image
    #[arg(value_name = "PATH", default_value = "/")]
    pub(crate) paths: Vec<OsString>,

    /// Show what each layer takes, and how much of that later layers hide
    #[arg(
        long,
        help_heading = "Listing",
        conflicts_with_all = ["paths", "all", "summarize", "max_depth", "apparent_size"]
    )]
    pub(crate) layers: bool,

    /// Show files too, not only directories
    #[arg(short, long, help_heading = "Listing", conflicts_with = "summarize")]
    pub(crate) all: bool,

    /// Show only what was named, as -d 0
    #[arg(short, long, help_heading = "Listing", conflicts_with = "max_depth")]
    pub(crate) summarize: bool,

    /// Show nothing that is deeper below what was named
    #[arg(short = 'd', long, value_name = "N", help_heading = "Listing")]
    pub(crate) max_depth: Option<usize>,

    /// Count sizes of files instead of the blocks that they take
    #[arg(short = 'b', long, help_heading = "Listing")]
    pub(crate) apparent_size: bool,

    /// Show a sum at the end
    #[arg(short = 'c', long, help_heading = "Listing", conflicts_with = "layers")]
    pub(crate) total: bool,

    /// Show sizes with units, which is always so on a terminal
    #[arg(short = 'h', long, help_heading = "Listing")]
    pub(crate) human_readable: bool,

    /// Print JSON, an object a line
    #[arg(long, help_heading = "Listing")]
    pub(crate) json: bool,

    #[command(flatten)]
    pub(crate) image_args: ImageArgs,

    /// Print help
    #[arg(long, action = ArgAction::Help)]
    help: Option<bool>,
}
