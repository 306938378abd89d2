//! The words and flags of `ocifs explore`.

use clap::Args as ClapArgs;
use ocifs::reference::ImageName;

use super::image::ImageArgs;
use super::name::image_name;

/// `ocifs explore`
#[derive(Debug, ClapArgs)]
pub(crate) struct Explore {
    /// The image
    #[arg(value_name = "REF", value_parser = image_name)]
    pub(crate) image: ImageName,

    /// Another image: what differs in it is shown
    #[arg(value_name = "REF2", value_parser = image_name)]
    pub(crate) other: Option<ImageName>,

    #[command(flatten)]
    pub(crate) image_args: ImageArgs,
}
