//! The words and flags of the other verbs.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args as ClapArgs, Subcommand};
use ocifs::httpd::Address;
use ocifs::reference::ImageName;

use super::cache::CacheArgs;
use super::image::ImageArgs;
use super::layer::LayerArg;
use super::name::image_name;
use super::path::path;
use super::units::bytes;

/// `ocifs umount`
#[derive(Debug, ClapArgs)]
pub(crate) struct Umount {
    /// Mount points
    #[arg(value_name = "DIR", required_unless_present_any = ["all", "all_users"])]
    pub(crate) mount_points: Vec<PathBuf>,

    /// Unmount all images that you have mounted, and print their mount points
    #[arg(short, long, conflicts_with = "mount_points")]
    pub(crate) all: bool,

    /// Unmount the images of all users (root)
    #[arg(long, conflicts_with = "mount_points")]
    pub(crate) all_users: bool,

    /// Detach now; the server exits when the last file is closed
    #[arg(short, long)]
    pub(crate) lazy: bool,
}

/// `ocifs status`
#[derive(Debug, ClapArgs)]
pub(crate) struct Status {
    /// One mount point; all of them by default
    #[arg(value_name = "DIR")]
    pub(crate) mount_point: Option<PathBuf>,

    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,

    /// Print metrics in the text format of Prometheus
    #[arg(long, conflicts_with = "json")]
    pub(crate) prometheus: bool,

    /// Serve the metrics at /metrics, over HTTP, until ended
    ///
    /// At HOST:PORT, or at a Unix socket. Whoever reaches it may read them; use a loopback address, or a socket in
    /// a folder that is not for everybody.
    #[arg(long, value_name = "HOST:PORT|unix:PATH", requires = "prometheus")]
    pub(crate) listen: Option<Address>,
}

/// `ocifs cat`
#[derive(Debug, ClapArgs)]
pub(crate) struct Cat {
    /// The image
    #[arg(value_name = "REF", value_parser = image_name)]
    pub(crate) image: ImageName,

    /// Files in the image
    #[arg(value_name = "PATH", required = true, value_parser = path())]
    pub(crate) paths: Vec<OsString>,

    #[command(flatten)]
    pub(crate) layer: LayerArg,

    #[command(flatten)]
    pub(crate) image_args: ImageArgs,
}

/// `ocifs cache`
#[derive(Debug, Subcommand)]
pub(crate) enum Cache {
    /// Show how much the cache holds, by kind
    #[command(override_usage = "ocifs cache du [OPTIONS]")]
    Du(CacheVerb),
    /// List the images that the cache holds something of
    ///
    /// With how much it is, how much of that no other image has, when it was last used, and where it is mounted.
    /// Images of layouts, archives and stores have no name in the cache: their layers are counted together. On a
    /// terminal the last lines are that sum, and what is in use of the limit.
    #[command(override_usage = "ocifs cache ls [OPTIONS]")]
    Ls(CacheVerb),
    /// Remove what the cache holds of images and of no other ones
    ///
    /// REF is as `ocifs cache ls` lists it, or shorter, as for `ocifs mount`; or NAME@DIGEST. Mounts that show an
    /// image that is removed fetch again what they need.
    #[command(override_usage = "ocifs cache rm [OPTIONS] REF...")]
    Rm {
        /// Images
        #[arg(value_name = "REF", required = true, value_parser = image_name)]
        images: Vec<ImageName>,

        #[command(flatten)]
        verb: CacheVerb,
    },
    /// Remove incomplete files, and the least recently used content that exceeds the limit
    #[command(override_usage = "ocifs cache gc [OPTIONS]")]
    Gc {
        /// Shrink the cache to this size instead
        #[arg(long, value_name = "BYTES", value_parser = bytes)]
        max_size: Option<u64>,

        #[command(flatten)]
        verb: CacheVerb,
    },
    /// Read and check all files, and remove those that are damaged
    ///
    /// The exit code is 1 if anything was damaged.
    #[command(override_usage = "ocifs cache verify [OPTIONS]")]
    Verify(CacheVerb),
    /// Remove everything
    ///
    /// Mounts that use the cache fetch again what they need.
    #[command(override_usage = "ocifs cache clear [OPTIONS]")]
    Clear(CacheVerb),
}

/// What all verbs of `ocifs cache` take.
#[derive(Debug, ClapArgs)]
pub(crate) struct CacheVerb {
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,

    #[command(flatten)]
    pub(crate) cache_args: CacheArgs,
}

/// `ocifs pull`
#[derive(Debug, ClapArgs)]
pub(crate) struct Pull {
    /// The image
    #[arg(value_name = "REF", value_parser = image_name)]
    pub(crate) image: ImageName,

    #[command(flatten)]
    pub(crate) image_args: ImageArgs,
}

/// `ocifs verify`
#[derive(Debug, ClapArgs)]
pub(crate) struct Verify {
    /// The image
    #[arg(value_name = "REF", value_parser = image_name)]
    pub(crate) image: ImageName,

    /// Read everything again from the registry or store, including what was proven before
    ///
    /// Spans in the cache that differ from the layers are replaced.
    #[arg(long, conflicts_with = "offline")]
    pub(crate) again: bool,

    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,

    #[command(flatten)]
    pub(crate) image_args: ImageArgs,
}

/// `ocifs index`
#[derive(Debug, Subcommand)]
pub(crate) enum Index {
    /// Index every layer of an image, streaming those that are new
    #[command(override_usage = "ocifs index build [OPTIONS] REF")]
    Build(IndexVerb),
    /// Build, and push the indexes to the image's registry, as a referrer of the image
    ///
    /// Mounts elsewhere use them with --trust-referrers.
    #[command(override_usage = "ocifs index push [OPTIONS] REF")]
    Push(IndexVerb),
    /// Show which layer indexes there are, in the cache and in the registry
    #[command(override_usage = "ocifs index show [OPTIONS] REF")]
    Show(IndexVerb),
}

/// What the verbs of `ocifs index` take.
#[derive(Debug, ClapArgs)]
pub(crate) struct IndexVerb {
    /// The image
    #[arg(value_name = "REF", value_parser = image_name)]
    pub(crate) image: ImageName,

    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,

    #[command(flatten)]
    pub(crate) image_args: ImageArgs,
}

/// `ocifs doctor`
#[derive(Debug, ClapArgs)]
pub(crate) struct Doctor {
    /// An image to check, as if it were mounted
    #[arg(value_name = "REF", value_parser = image_name)]
    pub(crate) image: Option<ImageName>,

    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,

    #[command(flatten)]
    pub(crate) image_args: ImageArgs,
}
