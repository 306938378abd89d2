//! The words and flags of `ocifs du`.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{ArgAction, Args as ClapArgs};
use ocifs::reference::ImageName;

use super::check::{Check, check};
use super::image::ImageArgs;
use super::name::image_name;
use super::path::path;

/// `ocifs du`
#[derive(Debug, ClapArgs)]
#[command(disable_help_flag = true)]
pub(crate) struct Du {
    /// The image
    #[arg(value_name = "REF", value_parser = image_name)]
    pub(crate) image: ImageName,

    /// Files and directories in the image
    #[arg(value_name = "PATH", default_value = "/", value_parser = path())]
    pub(crate) paths: Vec<OsString>,

    /// Show what each layer takes, and how much of that later layers hide
    #[arg(
        long,
        help_heading = "Listing",
        conflicts_with_all = ["paths", "all", "summarize", "max_depth", "apparent_size"]
    )]
    pub(crate) layers: bool,

    /// Fail if the image has more than this: max-wasted=5%, max-size=500M
    ///
    /// NAME is `max-size` (bytes of all layers unpacked), `max-compressed` (bytes to download), `max-wasted` (bytes of
    /// files that later layers replace or delete, or their percentage of the content of all layers), `max-user-wasted`
    /// (the same bytes as a percentage of the content above the first layer), `max-layers`, `max-layer-size` (unpacked)
    /// or `max-files`. Several checks are separated by commas, or the flag is given again. All of them are reported; the
    /// exit code is 1 if one fails, and 2 if the image can't be measured.
    #[arg(
        long,
        value_name = "NAME=MOST",
        value_delimiter = ',',
        value_parser = check,
        help_heading = "Listing",
        conflicts_with_all = ["paths", "layers", "all", "summarize", "max_depth", "apparent_size", "total"]
    )]
    pub(crate) check: Vec<Check>,

    /// Write a report for a browser to this file, `-` for stdout: one file that loads nothing from anywhere
    ///
    /// It shows what directories and layers take, and what is wasted; with --check, also what became of the checks.
    #[arg(
        long,
        value_name = "FILE",
        help_heading = "Listing",
        conflicts_with_all = ["paths", "layers", "all", "summarize", "max_depth", "apparent_size", "total"]
    )]
    pub(crate) html: Option<PathBuf>,

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
