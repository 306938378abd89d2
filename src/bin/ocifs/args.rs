//! The command line. Parsing validates, and does no I/O but to look whether a word that could be an image is
//! the path of one.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use clap::builder::{OsStringValueParser, TypedValueParser};
use clap::error::{ContextKind, ErrorKind};
use clap::{Args as ClapArgs, CommandFactory, Parser, Subcommand};
use ocifs::cache::Limit;
use ocifs::codec;
use ocifs::oci::Platform;
use ocifs::reference::{DirectoryName, ImageName};
use ocifs::source::on_disk;

use crate::environment;

/// Look inside container images: mount one as a directory, list it, read files of it.
///
/// The first sight of an image streams each of its layers once into the cache; fewer layers where `cat` and
/// `ls` need fewer, and no layer that brings an index (eStargz, zstd:chunked, SOCI). After that, only what
/// is read and no longer in the cache is fetched. Nothing is unpacked or run; there is no daemon and no
/// container runtime, and root is not needed.
#[derive(Debug, Parser)]
#[command(version, propagate_version = true, max_term_width = 100)]
#[command(
    after_help = "REF is name[:tag][@digest] as for `docker pull`, or the path of an image layout or an \
archive (./x.tar, /srv/layout, - for standard input; PATH:REF for one image of several), or oci:DIR[:REF], \
oci-archive:FILE[:REF], docker-archive:PATH[:REF], dir:DIR, \
containerd:[ROOT//][NAMESPACE/]IMAGE, containers-storage:[[overlay@ROOT]]IMAGE, docker-daemon:IMAGE, \
registry-storage:DIR//NAME[:TAG].\n\n\
Exit codes: 0 done, 1 failed, 2 wrong usage."
)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) command: Command,

    /// Say more: -v what happens, -vv every request
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,

    /// Append the log to this file; a mount in the background has no other place for it
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) log_file: Option<PathBuf>,

    /// The words that this was read from, the program's name first.
    #[arg(skip)]
    pub(crate) words: Vec<OsString>,
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Mount an image as a directory, or several in a directory each
    ///
    /// One REF is shown at DIR itself. Several, or one with a NAME, are shown at DIR/NAME, all in one
    /// file system. Without a NAME, a directory is called after the last component of the reference
    /// and its tag: `python-app-v1`. A regular file that several of the images have, equal in content
    /// and attributes, is one inode: `diff -r` does not open it, and `du` and `tar` that are given both
    /// directories count it once and store the second as a hard link.
    ///
    /// Links to this program called /sbin/mount.ocifs and /sbin/mount.fuse.ocifs let mount(8), fstab and systemd mount
    /// images: `mount -t ocifs REF DIR -o allow_other,platform=linux/arm64`. The options are the flags below.
    Mount(Mount),
    /// Unmount images
    #[command(alias = "unmount")]
    #[command(override_usage = "ocifs umount [OPTIONS] DIR...\n       ocifs umount --all")]
    Umount(Umount),
    /// Show what is mounted, and its state
    #[command(override_usage = "ocifs status [OPTIONS] [DIR]")]
    Status(Status),
    /// List files of an image
    #[command(override_usage = "ocifs ls [OPTIONS] REF [PATH]")]
    Ls(Ls),
    /// Print files of an image
    #[command(override_usage = "ocifs cat [OPTIONS] REF PATH...")]
    Cat(Cat),
    /// Write the merged tree of an image to stdout as a tar archive
    #[command(override_usage = "ocifs export [OPTIONS] REF")]
    Export(Export),
    /// Look after the cache: how large it is, shrink it, check it, clear it
    #[command(subcommand)]
    Cache(Cache),
    /// Fetch all of an image into the cache
    #[command(override_usage = "ocifs pull [OPTIONS] REF")]
    Pull(Pull),
    /// Check all of an image: digests, diff IDs, tables of contents
    ///
    /// Streams what has not been proven here; names what has, with the date, and reads it again with --again.
    /// Fails if anything is wrong, and lists the paths of which a table of contents says something else than
    /// the layer's tar.
    #[command(override_usage = "ocifs verify [OPTIONS] REF")]
    Verify(Verify),
    /// Layer indexes that travel with an image
    #[command(subcommand)]
    Index(Index),
    /// Check what mounting needs: FUSE, the cache, and with REF the image's registry
    ///
    /// Fails if something would make a mount fail, and says what to do about it.
    #[command(override_usage = "ocifs doctor [OPTIONS] [REF]")]
    Doctor(Doctor),
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

    /// Use layer indexes that were pushed beside the image
    ///
    /// With them the first sight of a layer needs no download. Nothing binds them to the image: a user who
    /// may push to the repository can say anything about names, attributes and content, until `ocifs
    /// verify` has read the layers. Can be set for a registry in `~/.config/ocifs/config.toml`.
    #[arg(long)]
    pub(crate) trust_referrers: bool,

    /// What has to be proven of a layer before it is shown: `full`, or `any`
    ///
    /// With `any`, the default of `mount`, `ls` and `cat`, a layer that brings a table of contents (eStargz,
    /// zstd:chunked, SOCI) is shown as the table says, and a container runtime may unpack something else.
    /// With `full`, the default of `export` and `pull`, each layer that was not streamed here before is
    /// streamed first, and its blob digest and diff ID are checked. Where less was proven and `any` was not
    /// asked for, a warning says so. Can be set in `~/.config/ocifs/config.toml`.
    #[arg(long, value_name = "LEVEL", env = "OCIFS_PROOF", value_parser = demand)]
    pub(crate) proof: Option<Demand>,

    /// Ask the registry for each layer before what this machine has of the image is shown
    ///
    /// The cache and local stores know content by its digest, whoever may read it in the registry. With this
    /// flag the registry is asked, with the credentials of this command, for the manifest and for each layer
    /// (a HEAD request each). It is for services that mount images for users with different rights. Can be set
    /// in `~/.config/ocifs/config.toml`.
    #[arg(long, env = "OCIFS_CHECK_ACCESS", value_parser = clap::builder::FalseyValueParser::new())]
    pub(crate) check_access: bool,

    /// Speak plain HTTP to the registry (loopback addresses always are)
    #[arg(long)]
    pub(crate) plain_http: bool,

    /// Credentials for the image's registry: USER:PASSWORD
    ///
    /// Every user of this machine can read the command line of a running program (`ps`). Prefer the
    /// variable, or `docker login` or `podman login`. A mount in the background does not show them.
    #[arg(
        long,
        value_name = "USER:PASSWORD",
        env = "OCIFS_CREDS",
        hide_env_values = true,
        value_parser = LoginParser,
        help_heading = "Registry"
    )]
    pub(crate) creds: Option<Login>,

    /// The text of a file of credentials, which a process in the background does not have in its environment.
    #[arg(skip)]
    pub(crate) auth_config: Option<Vec<u8>>,

    /// A file of credentials to search first, as `docker login` and `podman login` write it
    ///
    /// The usual places are searched after it: $REGISTRY_AUTH_FILE, $DOCKER_AUTH_CONFIG, podman's
    /// auth.json, Docker's config.json. Credential helpers that they name are run.
    #[arg(long, value_name = "FILE", help_heading = "Registry")]
    pub(crate) authfile: Option<PathBuf>,

    /// Whether to check whose certificate the registry shows; `--tls-verify=false` does not
    ///
    /// Without the check, a machine on the way to the registry can read your password and what you read. The
    /// content of an image that you name by digest stays checked. The flag is about the one registry that you
    /// name, not about its mirrors or where it redirects to. It is better to put its certificate into
    /// `~/.config/containers/certs.d/HOST:PORT/ca.crt`.
    #[arg(
        long,
        value_name = "BOOL",
        default_value_t = true,
        default_missing_value = "true",
        num_args = 0..=1,
        require_equals = true,
        hide_default_value = true,
        hide_possible_values = true,
        help_heading = "Registry",
        action = clap::ArgAction::Set
    )]
    pub(crate) tls_verify: bool,

    /// Take layers that containerd has below ROOT from there, not from the registry; `none` for nowhere
    ///
    /// Can be given several times. By default the usual places of containerd, of Docker with
    /// containerd's store, k3s, RKE2, k0s and MicroK8s are searched, as far as you may read there. The
    /// manifest still comes from the registry, and all that is read is checked.
    /// Can be set in `~/.config/ocifs/config.toml`.
    #[arg(long, value_name = "ROOT", help_heading = "Registry")]
    pub(crate) content_store: Vec<ContentStore>,

    /// Give up a read, or a question to a registry, after this time: seconds, or `30s`, `2m`, `1h`
    ///
    /// No command waits for a server that says nothing, or sends less than 1000 bytes a second, for longer
    /// than twice this time. A server that sends more is waited for.
    #[arg(long, value_name = "TIME", default_value = "60", value_parser = time)]
    pub(crate) timeout: Duration,

    /// Refuse layers that unpack to more bytes than this
    ///
    /// By default 1 GiB, or 200 times the layer's compressed size if that is more. Suffixes K, M,
    /// G and T are understood.
    #[arg(long, value_name = "BYTES", value_parser = bytes)]
    pub(crate) max_layer_size: Option<u64>,

    /// Refuse zstd layers that take a larger window of memory to unpack than this
    ///
    /// Each layer that is unpacked takes as much memory as its window. Up to four layers are unpacked at a
    /// time; with a limit above the default, one at a time. `zstd --long=31` needs 2G, which is the most that
    /// can be given. Sizes between powers of two are rounded down.
    #[arg(long, value_name = "BYTES", default_value = "128M", value_parser = zstd_window)]
    pub(crate) max_zstd_window: codec::Limits,

    /// Refuse images whose names and attributes take more memory than this
    ///
    /// By default 64 MiB, and 64 bytes for each byte of their layers as they are stored: several times
    /// what real images take. Suffixes K, M, G and T are understood.
    #[arg(long, value_name = "BYTES", value_parser = bytes)]
    pub(crate) max_metadata_size: Option<u64>,

    #[command(flatten)]
    pub(crate) cache_args: CacheArgs,
}

/// How the kernel is given what a walk will read next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Prefetch {
    /// A process of its own asks for it before the walk does.
    #[default]
    Process,
    /// The serving process gives it unasked.
    Push,
    /// Not at all.
    Off,
}

/// What has to be proven of layers before they are shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Demand {
    /// The user has not said.
    #[default]
    Unsaid,
    /// Nothing: tables of contents are shown as they are.
    Any,
    /// Blob digest, diff ID and the tar.
    Full,
}

impl Demand {
    /// This, or `other` where nothing was said.
    pub(crate) fn or(self, other: Demand) -> Demand {
        if self == Demand::Unsaid { other } else { self }
    }
}

/// Where containerd keeps what it has pulled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ContentStore {
    /// `none`
    Nowhere,
    Root(PathBuf),
}

impl From<OsString> for ContentStore {
    fn from(text: OsString) -> ContentStore {
        match text.to_str() {
            Some("none") => ContentStore::Nowhere,
            _ => ContentStore::Root(PathBuf::from(text)),
        }
    }
}

/// `USER:PASSWORD`. Never printed.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Login {
    pub(crate) user: String,
    pub(crate) password: String,
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Login(hidden)")
    }
}

impl Login {
    /// Whether none is meant.
    pub(crate) fn is_empty(&self) -> bool {
        self.user.is_empty()
    }

    /// Reads what [`Login::to_text`] makes of a login that is not empty.
    pub(crate) fn parse(text: &str) -> Option<Login> {
        let (user, password) = text.split_once(':').filter(|(user, _)| !user.is_empty())?;
        Some(Login { user: user.to_owned(), password: password.to_owned() })
    }

    /// As it is given on the command line.
    pub(crate) fn to_text(&self) -> String {
        if self.is_empty() { String::new() } else { format!("{}:{}", self.user, self.password) }
    }
}

/// Reads a [`Login`]. (clap's own errors quote the value, and this one is a secret.)
#[derive(Clone, Copy, Debug)]
struct LoginParser;

impl TypedValueParser for LoginParser {
    type Value = Login;

    fn parse_ref(
        &self,
        command: &clap::Command,
        _: Option<&clap::Arg>,
        value: &OsStr,
    ) -> Result<Login, clap::Error> {
        match value.to_str().and_then(Login::parse) {
            Some(login) => Ok(login),
            // A variable that is set to nothing.
            _ if value.is_empty() => Ok(Login { user: String::new(), password: String::new() }),
            _ => Err(clap::Error::raw(
                ErrorKind::ValueValidation,
                "--creds and the variable OCIFS_CREDS take USER:PASSWORD; what was given is not that\n",
            )
            .with_cmd(command)),
        }
    }
}

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

    /// Keep at most so much; `none` for no limit [default: 10G, or a tenth of the disk if less]
    ///
    /// The least recently used content is removed when there is more. With 0, no content of files is
    /// kept. Suffixes K, M, G and T are understood. Of several processes that use a folder, the
    /// smallest limit counts.
    #[arg(long, value_name = "BYTES", env = "OCIFS_CACHE_SIZE", value_parser = limit)]
    pub(crate) cache_size: Option<Limit>,
}

/// `ocifs mount`
#[derive(Debug, ClapArgs)]
#[command(override_usage = "ocifs mount [OPTIONS] [NAME=]REF... DIR")]
pub(crate) struct Mount {
    /// The image, or several, and an existing directory; NAME is the directory below it to show an
    /// image in
    // Not two arguments: flags may stand between them.
    #[arg(value_name = "[NAME=]REF... DIR", required = true)]
    images_and_directory: Vec<OsString>,

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
    /// Where root mounts they always are. The mount of an ordinary user, or of root in a user namespace
    /// that does not have all user IDs, does not check them, because reading files inside an image that
    /// belong to root is what it is for.
    #[arg(long, help_heading = "Mount")]
    pub(crate) strict_modes: bool,

    /// Show all files as belonging to you
    #[arg(long, help_heading = "Mount")]
    pub(crate) owner_me: bool,

    /// How the kernel is given what a walk will read next: `process`, `push`, or `off`
    ///
    /// With `process`, when `find`, `grep -r` or `tar` are seen to walk over the mount, a second process lists
    /// directories and reads small files just before they do, on another processor, so that a first pass
    /// takes less time. It reads only what is in the cache; with --kernel-metadata all of the image has to be.
    /// There is none on a machine with one processor.
    /// With `push` the serving process puts small files of the cache into the page cache itself. If it is
    /// killed (`kill -9`) in the middle of a walk, the reader may hang until root runs `umount -f`.
    #[arg(
        long,
        value_enum,
        value_name = "HOW",
        default_value_t,
        hide_possible_values = true,
        help_heading = "Mount"
    )]
    pub(crate) prefetch: Prefetch,

    /// Give the kernel names and attributes as a file system of its own (root, Linux 6.18.21)
    ///
    /// It then asks for contents only, in large pieces: a first `find` costs nothing, a first `grep -r`
    /// few requests. Any user may enter, as with --allow-other. The mount is of type `erofs`; its
    /// files do not have `user.ocifs.proof`.
    #[arg(long, help_heading = "Mount")]
    pub(crate) kernel_metadata: bool,

    /// Refuse --kernel-metadata where names and attributes take more memory than this
    ///
    /// It can't be swapped out, and is taken until the image is unmounted. By default a sixteenth of the machine's
    /// memory. Suffixes K, M, G and T are understood.
    #[arg(long, value_name = "BYTES", value_parser = bytes, help_heading = "Mount")]
    pub(crate) max_kernel_metadata: Option<u64>,

    /// Let no program of the image be executed
    #[arg(long, help_heading = "Mount")]
    pub(crate) noexec: bool,

    /// Mount over another image that is mounted at DIR
    ///
    /// Without it that is refused. If the same image is mounted there in the same way, nothing is done.
    #[arg(long, help_heading = "Mount")]
    pub(crate) over: bool,

    /// Give each of several images inodes of its own
    ///
    /// By default a file that several images have is one inode, as if it were hard linked.
    #[arg(long, help_heading = "Mount")]
    pub(crate) separate_inodes: bool,
}

/// `[NAME=]REF`
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NamedImage {
    pub(crate) directory: Option<DirectoryName>,
    pub(crate) image: ImageName,
}

impl FromStr for NamedImage {
    type Err = String;

    fn from_str(text: &str) -> Result<NamedImage, String> {
        // References with a `=` in them have a `:` or a `/` before it: `oci:/a=b`.
        let (directory, image) = match text.split_once('=') {
            Some((name, image)) if !name.contains(['/', ':']) => (Some(name), image),
            _ => (None, text),
        };
        let directory = directory.map(str::parse).transpose();
        Ok(NamedImage {
            directory: directory
                .map_err(|e: ocifs::reference::DirectoryNameError| e.to_string())?,
            image: image_name(image)?,
        })
    }
}

/// What a mount shows.
#[derive(Debug)]
pub(crate) enum Layout {
    /// One image.
    Single(ImageName),
    /// Each in a directory of its own.
    Directories(Vec<(DirectoryName, ImageName)>),
}

impl Layout {
    pub(crate) fn images(&self) -> Vec<&ImageName> {
        match self {
            Layout::Single(image) => vec![image],
            Layout::Directories(images) => images.iter().map(|(_, image)| image).collect(),
        }
    }
}

/// The words of `ocifs mount`, read.
#[derive(Debug)]
pub(crate) struct Places {
    pub(crate) layout: Layout,
    pub(crate) mount_point: PathBuf,
}

impl Mount {
    /// The words of the images and of the directory.
    pub(crate) fn images_and_directory(&self) -> Option<(&[OsString], &OsStr)> {
        let (directory, images) = self.images_and_directory.split_last()?;
        Some((images, directory))
    }

    /// What is to be shown where, every directory with its name.
    ///
    /// # Errors
    /// Wrong usage: something is missing or no reference, or names can't be derived or are the same.
    pub(crate) fn places(&self) -> Result<Places, clap::Error> {
        let (mount_point, images) = match &self.images_and_directory[..] {
            [images @ .., directory] if !images.is_empty() => (directory, images),
            _ => {
                let text = "an image and a directory are needed";
                return Err(mount_error(ErrorKind::MissingRequiredArgument, text));
            }
        };
        if self.kernel_metadata && self.prefetch == Prefetch::Push {
            let text = "the argument '--prefetch=push' cannot be used with '--kernel-metadata'";
            return Err(mount_error(ErrorKind::ArgumentConflict, text));
        }
        let invalid = |text: &str| mount_error(ErrorKind::ValueValidation, text);
        let parse = |word: &OsString| {
            let not_utf8 = || format!("`{}` is not UTF-8", word.to_string_lossy());
            let parsed = word.to_str().ok_or_else(not_utf8).and_then(str::parse);
            parsed.map_err(|e| invalid(&e))
        };
        let images = images.iter().map(parse).collect::<Result<Vec<NamedImage>, _>>()?;
        let layout = layout(images).map_err(|text| invalid(&text))?;
        Ok(Places { layout, mount_point: PathBuf::from(mount_point) })
    }
}

/// Reads the words of a command line, the first of which is the name of the program.
///
/// # Errors
/// Wrong usage, or a help text to print. What is wrong with a REF quotes it: it stands alone then.
pub(crate) fn parse(words: &[OsString]) -> Result<Args, clap::Error> {
    Args::try_parse_from(words).map_err(|error| {
        let argument = error.get(ContextKind::InvalidArg).map(ToString::to_string);
        let is_reference = argument.is_some_and(|name| matches!(&*name, "<REF>" | "[REF]"));
        match std::error::Error::source(&error) {
            Some(why) if is_reference => clap::Error::raw(error.kind(), format!("{why}\n")),
            _ => error,
        }
    })
}

/// Wrong usage of `ocifs mount`.
pub(crate) fn mount_error(kind: ErrorKind, text: &str) -> clap::Error {
    let mut command = Args::command();
    command.build();
    match command.find_subcommand_mut("mount") {
        Some(mount) => mount.error(kind, text),
        None => command.error(kind, text),
    }
}

fn layout(images: Vec<NamedImage>) -> Result<Layout, String> {
    if let [NamedImage { directory: None, image }] = &images[..] {
        return Ok(Layout::Single(image.clone()));
    }
    let mut directories = Vec::new();
    let mut owners: HashMap<DirectoryName, ImageName> = HashMap::new();
    for NamedImage { directory, image } in images {
        let name = directory.or_else(|| image.directory_name()).ok_or_else(|| {
            format!(
                "`{image}` does not say what its directory should be called: write NAME={image}"
            )
        })?;
        if let Some(other) = owners.insert(name.clone(), image.clone()) {
            return Err(format!(
                "`{other}` and `{image}` would both be in the directory `{name}`: give each a name \
                 of its own, NAME={image}"
            ));
        }
        directories.push((name, image));
    }
    Ok(Layout::Directories(directories))
}

/// `ocifs umount`
#[derive(Debug, ClapArgs)]
pub(crate) struct Umount {
    /// Mount points
    #[arg(value_name = "DIR", required_unless_present_any = ["all", "all_users"])]
    pub(crate) mount_points: Vec<PathBuf>,

    /// Unmount all images that you have mounted, and print where
    #[arg(short, long, conflicts_with = "mount_points")]
    pub(crate) all: bool,

    /// Unmount the images of all users (root)
    #[arg(long, conflicts_with = "mount_points")]
    pub(crate) all_users: bool,

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
    #[arg(value_name = "REF", value_parser = image_name)]
    pub(crate) image: ImageName,

    #[command(flatten)]
    pub(crate) image_args: ImageArgs,
}

/// `ocifs doctor`
#[derive(Debug, ClapArgs)]
pub(crate) struct Doctor {
    /// An image that should be mounted
    #[arg(value_name = "REF", value_parser = image_name)]
    pub(crate) image: Option<ImageName>,

    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,

    #[command(flatten)]
    pub(crate) image_args: ImageArgs,
}

/// `ocifs verify`
#[derive(Debug, ClapArgs)]
pub(crate) struct Verify {
    /// The image
    #[arg(value_name = "REF", value_parser = image_name)]
    pub(crate) image: ImageName,

    /// Read everything anew from where the image is, what was proven before too
    ///
    /// Spans in the cache that are not what the layers hold are replaced.
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

/// `ocifs ls`
#[derive(Debug, ClapArgs)]
pub(crate) struct Ls {
    /// The image
    #[arg(value_name = "REF", value_parser = image_name)]
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
    #[arg(value_name = "REF", value_parser = image_name)]
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
    #[command(override_usage = "ocifs cache du [OPTIONS]")]
    Du(CacheVerb),
    /// Remove the least recently used until the limit holds, and what was left half done
    #[command(override_usage = "ocifs cache gc [OPTIONS]")]
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
    #[command(override_usage = "ocifs cache verify [OPTIONS]")]
    Verify(CacheVerb),
    /// Remove everything
    ///
    /// Mounts that use it fetch again what they need.
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

/// `ocifs export`
#[derive(Debug, ClapArgs)]
pub(crate) struct Export {
    /// The image
    #[arg(value_name = "REF", value_parser = image_name)]
    pub(crate) image: ImageName,

    #[command(flatten)]
    pub(crate) image_args: ImageArgs,
}

/// An image as users write it.
fn image_name(text: &str) -> Result<ImageName, String> {
    // A shell leaves the tilde alone in quotes and behind a colon.
    let at = if text.starts_with("~/") { Some(0) } else { text.find(":~/").map(|at| at + 1) };
    let text = match (at, environment::home()) {
        (Some(at), Some(home)) if !Path::new(&text[at..]).exists() => {
            format!("{}{}{}", &text[..at], home.display(), &text[at + 1..])
        }
        _ => text.to_owned(),
    };
    on_disk::named(&text).map_err(|e| e.to_string())
}

fn time(text: &str) -> Result<Duration, String> {
    let (digits, factor) = match text.as_bytes().last() {
        Some(b's') => (&text[..text.len() - 1], 1),
        Some(b'm') => (&text[..text.len() - 1], 60),
        Some(b'h') => (&text[..text.len() - 1], 3600),
        _ => (text, 1),
    };
    let number = digits.parse::<u64>().map_err(|_| {
        "write a whole number of seconds, or a whole number with a unit: 30s, 2m, 1h".to_owned()
    })?;
    match number.saturating_mul(factor) {
        0 => Err("it must be at least 1 second".to_owned()),
        seconds if seconds > 86400 => Err("it must be at most a day, 86400 seconds".to_owned()),
        seconds => Ok(Duration::from_secs(seconds)),
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

/// A size of a zstd window, rounded down to a power of two.
fn zstd_window(text: &str) -> Result<codec::Limits, String> {
    let size = bytes(text)?;
    match size.checked_ilog2() {
        Some(log @ 10..=codec::MAX_ZSTD_WINDOW_LOG) if size <= 1 << codec::MAX_ZSTD_WINDOW_LOG => {
            Ok(codec::Limits { zstd_window_log: log })
        }
        _ => Err("zstd windows are from 1K to 2G".to_owned()),
    }
}

/// What has to be proven, as flags, variables and settings say it.
pub(crate) fn demand(text: &str) -> Result<Demand, String> {
    match text {
        "full" => Ok(Demand::Full),
        "any" => Ok(Demand::Any),
        // A variable that is set to nothing.
        "" => Ok(Demand::Unsaid),
        _ => Err("a proof is `full` or `any`".to_owned()),
    }
}

fn limit(text: &str) -> Result<Limit, String> {
    match text.to_ascii_lowercase().as_str() {
        "none" | "unlimited" => Ok(Limit::Unlimited),
        // A variable that is set to nothing.
        "" => Ok(Limit::default()),
        _ => bytes(text).map(Limit::Bytes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Args::command().debug_assert();
    }

    /// What is flattened leaves its heading to the flags after it.
    #[test]
    fn json_is_under_no_foreign_heading() {
        let mut todo = vec![Args::command()];
        let mut seen = 0;
        while let Some(command) = todo.pop() {
            for flag in command.get_arguments().filter(|flag| flag.get_long() == Some("json")) {
                let heading = flag.get_help_heading();
                assert!(matches!(heading, None | Some("Listing")), "{}", command.get_name());
                seen += 1;
            }
            todo.extend(command.get_subcommands().cloned());
        }
        assert_eq!(seen, 11);
    }

    /// A flag whose variable is set would be listed as if it were needed.
    #[test]
    fn usage_lines_are_short() {
        let mut command = Args::command();
        command.build();
        let mut todo = vec![command];
        while let Some(mut command) = todo.pop() {
            let usage = command.render_usage().to_string();
            let names_flag = usage.contains("--") && !usage.contains("umount --all");
            let has_variable = command.get_arguments().any(|flag| flag.get_env().is_some());
            assert!(!names_flag, "{usage}");
            assert!(!has_variable || usage.contains(" [OPTIONS]"), "{usage}");
            todo.extend(command.get_subcommands().cloned());
        }
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

    #[test]
    fn times() {
        for (text, seconds) in [("5", 5), ("5s", 5), ("2m", 120), ("24h", 86400)] {
            assert_eq!(time(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for bad in
            ["", "s", "0", "0m", "-1", "1.5", "5 s", "25h", "99999999999999999999", "5ms", "\u{fc}"]
        {
            assert!(time(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn names_before_references() {
        let parsed = |text: &str| {
            let NamedImage { directory, image } = text.parse()?;
            Ok::<_, String>((directory.map(|name| name.to_string()), image.to_string()))
        };
        for (text, name, image) in [
            ("debian", None, "docker.io/library/debian:latest"),
            ("new=debian", Some("new"), "docker.io/library/debian:latest"),
            ("n w=oci:/a=b:c=d", Some("n w"), "oci:/a=b:c=d"),
            ("oci:/a=b", None, "oci:/a=b"),
            ("oci:a=b", None, "oci:a=b"),
            ("./a=debian", None, "./a=debian"),
            ("x=./a=b.tar", Some("x"), "./a=b.tar"),
            ("x=-", Some("x"), "-"),
        ] {
            assert_eq!(parsed(text), Ok((name.map(str::to_owned), image.to_owned())), "{text}");
        }
        for bad in ["=debian", ".=debian", "..=debian", "a=", "a=b=debian", "a="] {
            assert!(parsed(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn directories_have_different_names() {
        let named = |texts: &[&str]| {
            let images: Vec<NamedImage> = texts.iter().map(|text| text.parse().unwrap()).collect();
            layout(images).map(|layout| match layout {
                Layout::Single(_) => None,
                Layout::Directories(all) => {
                    Some(all.iter().map(|(name, _)| name.to_string()).collect::<Vec<_>>())
                }
            })
        };
        let names = |names: &[&str]| Ok(Some(names.iter().map(|n| n.to_string()).collect()));
        assert_eq!(named(&["app:v1"]), Ok(None));
        assert_eq!(named(&["x=app:v1"]), names(&["x"]));
        assert_eq!(named(&["a/app:v1", "app:v2", "x=app:v1"]), names(&["app-v1", "app-v2", "x"]));
        for bad in [&["a/app:v1", "b/app:v1"][..], &["x=a", "x=b"], &["app-v1=a", "app:v1"]] {
            assert!(named(bad).unwrap_err().contains("NAME="), "{bad:?}");
        }
        assert!(named(&["oci:.", "app"]).unwrap_err().contains("NAME=oci:."));
    }
}
