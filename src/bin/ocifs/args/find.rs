//! The words and flags of `ocifs find`.
//!
//! The words behind REF are paths and an expression as GNU find has them: predicates of one dash whose order counts.
//! That is no grammar for a parser of options, so all of them are read by [`words`].

mod mode;
mod words;

use std::ffi::OsString;

use clap::Args as ClapArgs;
use ocifs::reference::ImageName;

use super::base::BaseArg;
use super::image::ImageArgs;
use super::layer::LayerArg;
use super::name::image_name;

pub(crate) use words::FindRequest;

/// `ocifs find`
#[derive(Debug, ClapArgs)]
#[command(group = clap::ArgGroup::new("part").args(["layer", "exclude_base"]))]
pub(crate) struct Find {
    /// The image
    #[arg(value_name = "REF", value_parser = image_name)]
    pub(crate) image: ImageName,

    /// Files and directories in the image to search [default: /], and an expression
    #[arg(value_name = "PATH|EXPRESSION", trailing_var_arg = true, allow_hyphen_values = true)]
    words: Vec<OsString>,

    /// Follow symlinks that are given as PATH
    #[arg(short = 'H')]
    pub(crate) follow: bool,

    /// Print a JSON object for each file, a line each
    #[arg(long)]
    pub(crate) json: bool,

    #[command(flatten)]
    pub(crate) layer: LayerArg,

    #[command(flatten)]
    pub(crate) base: BaseArg,

    #[command(flatten)]
    pub(crate) image_args: ImageArgs,
}

impl Find {
    /// Whether a help text is asked for, in the place of an expression.
    pub(crate) fn wants_help(&self) -> bool {
        self.words.last().is_some_and(|word| word == "--help" || word == "-help")
    }

    /// What is looked for.
    ///
    /// # Errors
    /// Wrong usage.
    pub(crate) fn request(&self) -> Result<FindRequest, String> {
        words::read(&self.words)
    }
}
