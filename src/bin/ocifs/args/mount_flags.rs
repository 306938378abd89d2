//! The flags of the verbs that mount something.

use clap::Args as ClapArgs;

/// How something is mounted, whatever it shows.
#[derive(Clone, Debug, Default, ClapArgs)]
pub(crate) struct MountFlags {
    /// Stay in the foreground
    #[arg(short, long, help_heading = "Mount")]
    pub(crate) foreground: bool,

    /// Allow other users to read the mount
    #[arg(long, help_heading = "Mount")]
    pub(crate) allow_other: bool,

    /// Check the image's permission bits
    ///
    /// A mount by root always checks them. By default a mount by another user, or by root of a user namespace
    /// that does not have all user IDs, does not, so that this user can read files that belong to root in
    /// the image.
    #[arg(long, help_heading = "Mount")]
    pub(crate) strict_modes: bool,

    /// Show all files as belonging to you
    #[arg(long, help_heading = "Mount")]
    pub(crate) owner_me: bool,

    /// Do not allow programs of the image to be executed
    #[arg(long, help_heading = "Mount")]
    pub(crate) noexec: bool,
}
