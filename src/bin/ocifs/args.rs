//! The command line. Parsing validates and does no I/O.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args as ClapArgs, Parser, Subcommand};
use ocifs::cache::Limit;
use ocifs::image::Platform;
use ocifs::reference::ImageName;

/// Look inside container images: mount one as a directory, without pulling it first.
///
/// Nothing is unpacked or run; there is no daemon and no container runtime, and root is not needed.
#[derive(Debug, Parser)]
#[command(version, propagate_version = true, max_term_width = 100)]
#[command(after_help = "REF is name[:tag][@digest] as for `docker pull`, or oci:PATH[:REF], \
oci-archive:FILE[:REF], docker-archive:FILE[:REF], dir:PATH.\n\n\
Exit codes: 0 done, 1 failed, 2 wrong usage.")]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) command: Command,

    /// Say more: -v what happens, -vv every request
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,

    /// Append the log to this file; a mount in the background has no other place for it
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) log_file: Option<PathBuf>,
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Mount an image as a directory
    Mount(Mount),
    /// Unmount images
    #[command(alias = "unmount")]
    Umount(Umount),
    /// Show what is mounted and how it fares
    Status(Status),
    /// List files of an image
    Ls(Ls),
    /// Print files of an image
    Cat(Cat),
    /// Write the merged tree of an image to stdout as a tar archive
    Export(Export),
    /// Look after the cache: how large it is, shrink it, check it, clear it
    #[command(subcommand)]
    Cache(Cache),
    /// Fetch all of an image into the cache
    Pull(Pull),
    /// Check all of an image: digests, diff IDs, tables of contents
    ///
    /// What has not been proven here is streamed. Fails if anything is wrong, and names the paths of
    /// which a table of contents tells something else than the layer's tar.
    Verify(Verify),
    /// Layer indexes that travel with an image
    #[command(subcommand)]
    Index(Index),
    /// Print a completion script for a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
}

/// How the image is found and fetched.
#[derive(Clone, Debug, ClapArgs)]
#[command(next_help_heading = "Image")]
pub(crate) struct ImageArgs {
    /// The platform of a multi-platform image: os/arch[/variant] [default: this machine's]
    #[arg(long, value_name = "PLATFORM")]
    pub(crate) platform: Option<Platform>,

    /// Fetch nothing: use only what is in the cache
    #[arg(long)]
    pub(crate) offline: bool,

    /// Use layer indexes that somebody pushed beside the image
    ///
    /// They spare the first sight of a layer its download. Nothing binds them to the image: whoever
    /// may push to the repository can say anything about names, attributes and content, until `ocifs
    /// verify` has read the layers. Can be set for a registry in `~/.config/ocifs/config.toml`.
    #[arg(long)]
    pub(crate) trust_referrers: bool,

    /// Speak plain HTTP to the registry (loopback addresses always are)
    #[arg(long)]
    pub(crate) plain_http: bool,

    /// Give up a read after this many seconds
    #[arg(long, value_name = "SECONDS", default_value = "60", value_parser = seconds)]
    pub(crate) timeout: Duration,

    /// Refuse layers that unpack to more bytes than this
    ///
    /// By default 1 GiB, or 200 times the layer's compressed size if that is more. Suffixes K, M,
    /// G and T are understood.
    #[arg(long, value_name = "BYTES", value_parser = bytes)]
    pub(crate) max_layer_size: Option<u64>,

    #[command(flatten)]
    pub(crate) cache_args: CacheArgs,
}

/// Where fetched content is kept, and how much of it.
#[derive(Clone, Debug, ClapArgs)]
#[command(next_help_heading = "Cache")]
pub(crate) struct CacheArgs {
    /// Where fetched content is kept
    ///
    /// By default `$XDG_CACHE_HOME/ocifs`, or `~/.cache/ocifs`. Shared by all mounts of a user.
    #[arg(long, value_name = "DIR", env = "OCIFS_CACHE_DIR")]
    pub(crate) cache_dir: Option<PathBuf>,

    /// Keep at most so much; `none` for no limit [default: 10G, or a tenth of the disk if less]
    ///
    /// The least recently used content goes when there is more. With 0, no content of files is
    /// kept. Suffixes K, M, G and T are understood. The smallest limit among those who use a
    /// folder counts.
    #[arg(long, value_name = "BYTES", env = "OCIFS_CACHE_SIZE", value_parser = limit)]
    pub(crate) cache_size: Option<Limit>,
}

/// `ocifs mount`
#[derive(Debug, ClapArgs)]
pub(crate) struct Mount {
    /// The image
    #[arg(value_name = "REF")]
    pub(crate) image: ImageName,

    /// An existing directory
    #[arg(value_name = "DIR")]
    pub(crate) mount_point: PathBuf,

    #[command(flatten)]
    pub(crate) image_args: ImageArgs,

    /// Stay in the foreground
    #[arg(short, long, help_heading = "Mount")]
    pub(crate) foreground: bool,

    /// Let other users read the mount too
    #[arg(long, help_heading = "Mount")]
    pub(crate) allow_other: bool,

    /// Check the image's permission bits
    ///
    /// Where root mounts they always are. An ordinary user's mount does not check them, because
    /// reading files inside an image that belong to root is what it is for.
    #[arg(long, help_heading = "Mount")]
    pub(crate) strict_modes: bool,

    /// Show all files as belonging to you
    #[arg(long, help_heading = "Mount")]
    pub(crate) owner_me: bool,

    /// Give the kernel no file before it asks for it
    ///
    /// By default the small files that a walk is about to read are put into the page cache ahead of
    /// it, if their bytes are at hand. It makes a first pass faster and never fetches anything.
    #[arg(long, help_heading = "Mount")]
    pub(crate) no_push: bool,
}

/// `ocifs umount`
#[derive(Debug, ClapArgs)]
pub(crate) struct Umount {
    /// Mount points
    #[arg(value_name = "DIR", required_unless_present = "all")]
    pub(crate) mount_points: Vec<PathBuf>,

    /// Unmount all images
    #[arg(short, long, conflicts_with = "mount_points")]
    pub(crate) all: bool,

    /// Detach a mount that is in use; it ends with its last user
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
}

/// `ocifs pull`
#[derive(Debug, ClapArgs)]
pub(crate) struct Pull {
    /// The image
    #[arg(value_name = "REF")]
    pub(crate) image: ImageName,

    #[command(flatten)]
    pub(crate) image_args: ImageArgs,
}

/// `ocifs verify`
#[derive(Debug, ClapArgs)]
pub(crate) struct Verify {
    /// The image
    #[arg(value_name = "REF")]
    pub(crate) image: ImageName,

    #[command(flatten)]
    pub(crate) image_args: ImageArgs,

    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// `ocifs index`
#[derive(Debug, Subcommand)]
pub(crate) enum Index {
    /// Index every layer of an image, streaming those that are new
    Build(IndexVerb),
    /// Build, and push the indexes to the image's registry, as a referrer of the image
    ///
    /// Mounts elsewhere use them with --trust-referrers.
    Push(IndexVerb),
    /// Show which layer indexes there are, in the cache and in the registry
    Show(IndexVerb),
}

/// What the verbs of `ocifs index` take.
#[derive(Debug, ClapArgs)]
pub(crate) struct IndexVerb {
    /// The image
    #[arg(value_name = "REF")]
    pub(crate) image: ImageName,

    #[command(flatten)]
    pub(crate) image_args: ImageArgs,

    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// `ocifs ls`
#[derive(Debug, ClapArgs)]
pub(crate) struct Ls {
    /// The image
    #[arg(value_name = "REF")]
    pub(crate) image: ImageName,

    /// A file or directory in the image
    #[arg(value_name = "PATH", default_value = "/")]
    pub(crate) path: OsString,

    #[command(flatten)]
    pub(crate) image_args: ImageArgs,

    /// Show attributes
    #[arg(short, long, help_heading = "Listing")]
    pub(crate) long: bool,

    /// Descend into directories
    #[arg(short = 'R', long, help_heading = "Listing")]
    pub(crate) recursive: bool,

    /// Print a JSON object a line
    #[arg(long, help_heading = "Listing")]
    pub(crate) json: bool,
}

/// `ocifs cat`
#[derive(Debug, ClapArgs)]
pub(crate) struct Cat {
    /// The image
    #[arg(value_name = "REF")]
    pub(crate) image: ImageName,

    /// Files in the image
    #[arg(value_name = "PATH", required = true)]
    pub(crate) paths: Vec<OsString>,

    #[command(flatten)]
    pub(crate) image_args: ImageArgs,
}

/// `ocifs cache`
#[derive(Debug, Subcommand)]
pub(crate) enum Cache {
    /// Show how much the cache holds, by kind
    Du(CacheVerb),
    /// Remove the least recently used until the limit holds, and what was left half done
    Gc {
        /// Shrink it to this size instead, now
        #[arg(long, value_name = "BYTES", value_parser = bytes)]
        max_size: Option<u64>,

        #[command(flatten)]
        verb: CacheVerb,
    },
    /// Read everything back, check it, and remove what is damaged
    ///
    /// The exit code is 1 if something was.
    Verify(CacheVerb),
    /// Remove everything
    ///
    /// Mounts that use it fetch again what they need.
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

/// `ocifs export`
#[derive(Debug, ClapArgs)]
pub(crate) struct Export {
    /// The image
    #[arg(value_name = "REF")]
    pub(crate) image: ImageName,

    #[command(flatten)]
    pub(crate) image_args: ImageArgs,
}

fn seconds(text: &str) -> Result<Duration, String> {
    match text.parse::<u64>() {
        Ok(0) => Err("it must be at least 1".to_owned()),
        Ok(seconds) if seconds > 86400 => Err("it must be at most 86400".to_owned()),
        Ok(seconds) => Ok(Duration::from_secs(seconds)),
        Err(e) => Err(e.to_string()),
    }
}

fn bytes(text: &str) -> Result<u64, String> {
    let upper = text.to_ascii_uppercase();
    let number = upper.trim_end_matches("IB").trim_end_matches('B');
    let (digits, shift) = match number.chars().last() {
        Some('K') => (&number[..number.len() - 1], 10),
        Some('M') => (&number[..number.len() - 1], 20),
        Some('G') => (&number[..number.len() - 1], 30),
        Some('T') => (&number[..number.len() - 1], 40),
        _ => (number, 0),
    };
    let value: u64 =
        digits.trim().parse().map_err(|_| format!("`{text}` is not a number of bytes"))?;
    value.checked_mul(1 << shift).ok_or_else(|| format!("`{text}` is too large"))
}

fn limit(text: &str) -> Result<Limit, String> {
    match text.to_ascii_lowercase().as_str() {
        "none" | "unlimited" => Ok(Limit::Unlimited),
        _ => bytes(text).map(Limit::Bytes),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn sizes() {
        assert_eq!(bytes("10"), Ok(10));
        assert_eq!(bytes("2k"), Ok(2048));
        assert_eq!(bytes("3GiB"), Ok(3 << 30));
        assert_eq!(bytes("1MB"), Ok(1 << 20));
        assert!(bytes("x").is_err() && bytes("").is_err() && bytes("99999999999T").is_err());
        assert_eq!(limit("0"), Ok(Limit::Bytes(0)));
        assert_eq!(limit("20G"), Ok(Limit::Bytes(20 << 30)));
        assert_eq!((limit("none"), limit("Unlimited")), (Ok(Limit::Unlimited), limit("unlimited")));
        assert!(limit("-1").is_err() && limit("some").is_err());
    }
}
