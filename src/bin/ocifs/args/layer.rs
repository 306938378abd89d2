//! One layer of an image instead of all.

use clap::Args as ClapArgs;
use ocifs::image::LayerChoice;

/// Which layer is looked into.
#[derive(Debug, ClapArgs)]
pub(crate) struct LayerArg {
    /// Look into this layer alone: its number (0 is the base), its digest or diff ID, or how one of these begins
    ///
    /// What later layers delete or replace is there. Whiteouts are shown under the names that they have in the
    /// layer (`.wh.NAME`; `.wh..wh..opq` hides all that lower layers have in its directory), and hard links to
    /// files of lower layers as such. No other layer is fetched.
    #[arg(long, value_name = "N|DIGEST")]
    pub(crate) layer: Option<LayerChoice>,
}
