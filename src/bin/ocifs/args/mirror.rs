//! The words and flags of `ocifs mirror`.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args as ClapArgs;
use ocifs::httpd::Address;

use super::image::ImageArgs;
use super::units::time;

/// `ocifs mirror`
#[derive(Debug, ClapArgs)]
pub(crate) struct Mirror {
    /// Where to answer, over plain HTTP: HOST:PORT, such as 127.0.0.1:5001, or unix:PATH
    pub(crate) address: Address,

    /// The directory of `ocifs store`; needed
    #[arg(long, value_name = "DIR", help_heading = "Mirror")]
    pub(crate) store: PathBuf,

    /// The list of that store (`ocifs store --list`), to which images are added; needed
    #[arg(long, value_name = "FILE", help_heading = "Mirror")]
    pub(crate) list: PathBuf,

    /// How long an engine waits until the store shows an image, before it pulls it itself
    #[arg(long, value_name = "TIME", default_value = "10m", value_parser = time, help_heading = "Mirror")]
    pub(crate) wait: Duration,

    #[command(flatten)]
    pub(crate) image_args: ImageArgs,
}
