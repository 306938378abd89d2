//! The words and flags of `ocifs cp`.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::Args as ClapArgs;
use ocifs::reference::ImageName;

use super::image::ImageArgs;
use super::layer::LayerArg;
use super::name::image_name;
use super::path::path;

/// `ocifs cp`
#[derive(Debug, ClapArgs)]
pub(crate) struct Cp {
    /// The image
    #[arg(value_name = "REF", value_parser = image_name)]
    pub(crate) image: ImageName,

    /// Files and directories in the image, or quoted patterns of them, and where on this machine they are copied to
    ///
    /// Copies go into DEST if that is a directory; otherwise it is the name of the one copy. Of a PATH that ends
    /// with `/.` the contents are copied.
    #[arg(value_name = "PATH|DEST", required = true, num_args = 2.., value_parser = path())]
    words: Vec<OsString>,

    #[command(flatten)]
    pub(crate) layer: LayerArg,

    #[command(flatten)]
    pub(crate) image_args: ImageArgs,
}

impl Cp {
    /// What is copied, and to where.
    pub(crate) fn paths(&self) -> (&[OsString], PathBuf) {
        match self.words.split_last() {
            Some((destination, paths)) => (paths, PathBuf::from(destination)),
            None => (&[], PathBuf::new()),
        }
    }
}
