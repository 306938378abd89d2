//! An image whose files are left out.

use clap::Args as ClapArgs;
use ocifs::reference::ImageName;

use super::image::ImageArgs;
use super::name::image_name;

/// What is left out.
#[derive(Debug, Default, ClapArgs)]
pub(crate) struct BaseArg {
    /// Leave out what this image has too: files of the same path, content, mode, owner and attributes
    ///
    /// What remains is what was added to or changed of the base image. Contents are compared by digests that `ocifs`
    /// has computed itself, so that layers of both images which it has not streamed before are streamed.
    #[arg(long, value_name = "REF", value_parser = image_name)]
    exclude_base: Option<ImageName>,
}

impl BaseArg {
    /// Its name.
    pub(crate) fn name(&self) -> Option<&ImageName> {
        self.exclude_base.as_ref()
    }

    /// The flags of the image with this among them.
    pub(crate) fn with(&self, image_args: &ImageArgs) -> ImageArgs {
        ImageArgs { exclude_base: self.exclude_base.clone(), ..image_args.clone() }
    }
}
