//! The words and flags of `ocifs ls`.

use std::ffi::OsString;

use clap::{ArgAction, Args as ClapArgs};
use ocifs::reference::ImageName;

use super::base::BaseArg;
use super::image::ImageArgs;
use super::layer::LayerArg;
use super::name::image_name;
use super::path::path;

/// `ocifs ls`
#[derive(Debug, ClapArgs)]
#[command(disable_help_flag = true)]
#[command(group = clap::ArgGroup::new("part").args(["layer", "exclude_base"]))]
pub(crate) struct Ls {
    /// The image
    #[arg(value_name = "REF", value_parser = image_name)]
    pub(crate) image: ImageName,

    /// Files and directories in the image
    #[arg(value_name = "PATH", default_value = "/", value_parser = path())]
    pub(crate) paths: Vec<OsString>,

    #[command(flatten)]
    pub(crate) layer: LayerArg,

    #[command(flatten)]
    pub(crate) base: BaseArg,

    #[command(flatten)]
    pub(crate) image_args: ImageArgs,

    /// Show attributes
    #[arg(short, long, help_heading = "Listing")]
    pub(crate) long: bool,

    /// List `.` and `..` too, with -R `.` alone; names that begin with a dot are always listed
    #[arg(short, long, help_heading = "Listing")]
    pub(crate) all: bool,

    /// List directories themselves, not what is in them
    #[arg(short, long, help_heading = "Listing", conflicts_with_all = ["recursive", "all"])]
    pub(crate) directory: bool,

    /// Show sizes with units, with -l
    #[arg(short = 'h', long, help_heading = "Listing")]
    pub(crate) human_readable: bool,

    /// Print a name a line, which is always so
    #[arg(short = '1', help_heading = "Listing")]
    pub(crate) one: bool,

    /// Descend into directories
    #[arg(short = 'R', long, help_heading = "Listing")]
    pub(crate) recursive: bool,

    /// Print a JSON object a line
    #[arg(long, help_heading = "Listing")]
    pub(crate) json: bool,

    /// Print help
    #[arg(long, action = ArgAction::Help)]
    help: Option<bool>,
}
