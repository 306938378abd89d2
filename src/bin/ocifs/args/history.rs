//! `ocifs history`

use clap::Args as ClapArgs;
use ocifs::reference::ImageName;

use super::image::ImageArgs;
use super::name::image_name;

/// `ocifs history`
#[derive(Debug, ClapArgs)]
pub(crate) struct History {
    /// The image
    #[arg(value_name = "REF", value_parser = image_name)]
    pub(crate) image: ImageName,

    /// Count what each layer changed also if that means to download layers
    ///
    /// Without the flag it is counted if all layers have an index on this machine, and nothing of any layer is
    /// downloaded.
    #[arg(long)]
    pub(crate) all_layers: bool,

    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,

    #[command(flatten)]
    pub(crate) image_args: ImageArgs,
}
