//! Where the cache is, and how large.

use std::path::PathBuf;

use clap::Args as ClapArgs;
use clap::builder::{OsStringValueParser, TypedValueParser};
use ocifs::cache::Limit;

use super::units::limit;

/// Where fetched content is kept, and how much of it.
#[derive(Clone, Debug, ClapArgs)]
#[command(next_help_heading = "Cache")]
pub(crate) struct CacheArgs {
    /// Where fetched content is kept
    ///
    /// By default `$XDG_CACHE_HOME/ocifs`, or `~/.cache/ocifs`. Shared by all mounts of a user.
    // The path of a variable that is set to nothing is empty.
    #[arg(long, value_name = "DIR", env = "OCIFS_CACHE_DIR", value_parser = OsStringValueParser::new().map(PathBuf::from))]
    pub(crate) cache_dir: Option<PathBuf>,

    /// Keep at most this much; `none` for no limit [default: 10G, or a tenth of the disk if less]
    ///
    /// The least recently used content is removed when there is more. With 0, no content of files is
    /// kept. Suffixes K, M, G and T are understood. If several processes use a folder, the smallest limit
    /// applies.
    #[arg(long, value_name = "BYTES", env = "OCIFS_CACHE_SIZE", value_parser = limit)]
    pub(crate) cache_size: Option<Limit>,
}
