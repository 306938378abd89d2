//! `ocifs blob`: its flags.

use clap::Args as ClapArgs;
use ocifs::image::BlobName;
use ocifs::reference::ImageName;

use super::image::ImageArgs;
use super::name::image_name;

/// `ocifs blob`
#[derive(Debug, ClapArgs)]
pub(crate) struct Blob {
    /// An image of the repository, layout or store
    #[arg(value_name = "REF", value_parser = image_name)]
    pub(crate) image: ImageName,

    /// The digest: sha256:…, its digits alone, or the first of them
    #[arg(value_name = "DIGEST")]
    pub(crate) blob: BlobName,

    /// Begin at this byte, for what is there up to it
    ///
    /// The digest of a part can't be checked, only its length: check that of all of the blob.
    #[arg(long, value_name = "BYTE", default_value_t = 0, hide_default_value = true)]
    pub(crate) from: u64,

    #[command(flatten)]
    pub(crate) image_args: ImageArgs,
}
