//! `ocifs diff`

use std::path::PathBuf;

use clap::Args as ClapArgs;
use ocifs::reference::ImageName;
use ocifs::tree::Glob;

use super::base::BaseArg;
use super::image::ImageArgs;
use super::name::image_name;

/// `ocifs diff`
#[derive(Debug, ClapArgs)]
pub(crate) struct Diff {
    /// The old image
    #[arg(value_name = "A", value_parser = image_name)]
    pub(crate) old: ImageName,

    /// The new image
    #[arg(value_name = "B", value_parser = image_name)]
    pub(crate) new: ImageName,

    /// Print the differences of text files line by line, in a form that `git apply` and `patch -p1` understand
    #[arg(short, long, conflicts_with_all = ["stat", "name_only"], help_heading = "Differences")]
    pub(crate) patch: bool,

    /// Print only how many files differ, and their sizes
    #[arg(long, conflicts_with = "name_only", help_heading = "Differences")]
    pub(crate) stat: bool,

    /// Print only the paths
    #[arg(long, help_heading = "Differences")]
    pub(crate) name_only: bool,

    /// Only paths that match: `/usr/lib/*`; `*` stands for slashes too. Can be given several times
    #[arg(long, value_name = "GLOB", value_parser = glob, help_heading = "Differences")]
    pub(crate) path: Vec<Glob>,

    /// Also what differs in its modification time alone
    #[arg(long, help_heading = "Differences")]
    pub(crate) metadata: bool,

    /// List every file of a directory that only one of the images has
    #[arg(short, long, help_heading = "Differences")]
    pub(crate) all: bool,

    /// Compare the layers instead of the files
    #[arg(long, help_heading = "Differences")]
    pub(crate) layers: bool,

    /// Compare the configs instead of the files: environment, entrypoint, labels and so on
    #[arg(long, help_heading = "Differences")]
    pub(crate) config: bool,

    /// Compare the packages instead of the files: those of dpkg, apk, rpm and Python
    ///
    /// Reads the package databases of both images and nothing else of them.
    #[arg(long, conflicts_with_all = ["patch", "stat", "name_only", "layers", "config"], help_heading = "Differences")]
    pub(crate) packages: bool,

    /// Write a report for a browser to this file, `-` for stdout: one file that loads nothing from anywhere
    ///
    /// It shows what differs of files, with the lines of text files, of layers, of the configs and of packages.
    #[arg(
        long,
        value_name = "FILE",
        conflicts_with_all = ["patch", "stat", "name_only", "all", "layers", "config", "packages", "json"],
        help_heading = "Differences"
    )]
    pub(crate) html: Option<PathBuf>,

    /// Print JSON
    #[arg(long, conflicts_with_all = ["patch", "stat", "name_only"], help_heading = "Differences")]
    pub(crate) json: bool,

    #[command(flatten)]
    pub(crate) base: BaseArg,

    #[command(flatten)]
    pub(crate) image_args: ImageArgs,
}

fn glob(text: &str) -> Result<Glob, String> {
    // Paths are absolute: a relative pattern would match nothing.
    match text.starts_with(['/', '*']) {
        true => Ok(Glob::new(text.as_bytes())),
        false => Err("paths begin with a slash: write it, or `*` before the pattern".to_owned()),
    }
}
