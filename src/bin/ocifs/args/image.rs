//! How an image is found and fetched: the flags that all verbs with a REF have.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args as ClapArgs, ValueEnum};
use ocifs::artifact::ArtifactView;
use ocifs::codec;
use ocifs::oci::Platform;
use ocifs::reference::ImageName;
use ocifs::source::DEFAULT_CONNECTIONS;

use super::cache::CacheArgs;
use super::login::{Login, LoginParser};
use super::proof::RequiredProof;
use super::units::{bytes, time, zstd_window};

/// How an artifact is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ArtifactForm {
    /// Each blob as a file whose name is its digest
    Raw,
    /// Each blob as a file with the name that the artifact gives it
    Files,
    /// Each blob that is a tar unpacked, the others as files
    Unpacked,
}

impl ArtifactForm {
    /// What is shown with this form, or without one.
    pub(crate) fn view(form: Option<ArtifactForm>) -> ArtifactView {
        match form {
            None => ArtifactView::Usual,
            Some(ArtifactForm::Raw) => ArtifactView::Raw,
            Some(ArtifactForm::Files) => ArtifactView::Files,
            Some(ArtifactForm::Unpacked) => ArtifactView::Unpacked,
        }
    }
}

/// How the image is found and fetched.
#[derive(Clone, Debug, ClapArgs)]
#[command(next_help_heading = "Image")]
pub(crate) struct ImageArgs {
    /// The platform of a multi-platform image: os/arch[/variant] [default: this machine's]
    #[arg(long, value_name = "PLATFORM")]
    pub(crate) platform: Option<Platform>,

    /// How an artifact is shown that is no container image: a chart, a model, a signature
    ///
    /// By default as its own tool leaves it on a disk: a Helm chart is unpacked, a model is a file. What an image
    /// consists of is shown by `--as raw`.
    #[arg(long = "as", value_name = "FORM")]
    pub(crate) shown_as: Option<ArtifactForm>,

    /// Fetch nothing: use only what is in the cache
    #[arg(long)]
    pub(crate) offline: bool,

    /// Use layer indexes that were pushed beside the image
    ///
    /// With them the first use of a layer needs no download. The digest of the image does not cover them: a
    /// user who may push to the repository can give any names, attributes and content, until `ocifs
    /// verify` has read the layers. Can be set for a registry in `~/.config/ocifs/config.toml`.
    #[arg(long)]
    pub(crate) trust_referrers: bool,

    /// How much to check of a layer before showing files of it: `full`, `any`, or `transport`
    ///
    /// With `any`, the default of `mount`, `ls` and `cat`, `ocifs` shows a layer that has a table of contents
    /// (eStargz, zstd:chunked, SOCI) as the table says, and a container runtime may unpack something else. With
    /// `full`, the default of `export` and `pull`, it first streams each layer that it has not streamed before, and
    /// checks its blob digest and diff ID. With `transport`, it does not even stream a large layer that is not
    /// compressed, but reads its headers, shows contents as the registry sends them, and has a mount fetch and prove the rest in
    /// the background. Where it has checked less than `full` and `any` was not given, it prints a warning.
    /// Can be set in `~/.config/ocifs/config.toml`.
    #[arg(long, value_name = "LEVEL", env = "OCIFS_PROOF", value_parser = RequiredProof::parse)]
    pub(crate) proof: Option<RequiredProof>,

    /// Check with the registry that you may read each layer, before cached or local content is shown
    ///
    /// The cache finds content by its digest, regardless of who may read it in the registry. With this flag
    /// `ocifs` asks the registry for each layer with the credentials of this command, and uses only cached content
    /// that the same registry has sent before. It is for services that mount images for users with different rights.
    /// Can be set in `~/.config/ocifs/config.toml`.
    #[arg(long, env = "OCIFS_CHECK_ACCESS", value_parser = clap::builder::FalseyValueParser::new())]
    pub(crate) check_access: bool,

    /// Speak plain HTTP to the registry (always used for loopback addresses)
    #[arg(long)]
    pub(crate) plain_http: bool,

    /// Credentials for the image's registry: USER:PASSWORD
    ///
    /// Every user of this machine can read the command line of a running program (`ps`). Prefer the
    /// variable, or `docker login` or `podman login`. A mount in the background does not show them.
    /// They are refused with images of several registries.
    #[arg(
        long,
        value_name = "USER:PASSWORD",
        env = "OCIFS_CREDS",
        hide_env_values = true,
        value_parser = LoginParser,
        help_heading = "Registry"
    )]
    pub(crate) creds: Option<Login>,

    /// The image whose files are left out, for verbs that have a flag for that.
    #[arg(skip)]
    pub(crate) exclude_base: Option<ImageName>,

    /// So many layers alone, from the base up, for verbs that have a flag for that.
    #[arg(skip)]
    pub(crate) lowest_layers: Option<usize>,

    /// Whether another process knows the credentials, and none are read here.
    #[arg(skip)]
    pub(crate) has_keeper: bool,

    /// The text of a file of credentials, which a process in the background does not have in its environment.
    #[arg(skip)]
    pub(crate) auth_config: Option<Vec<u8>>,

    /// The text of a file of credentials that could be read once, and comes before the others.
    #[arg(skip)]
    pub(crate) auth_read: Option<Vec<u8>>,

    /// A file of credentials to search first, as `docker login` and `podman login` write it
    ///
    /// The usual places are searched after it: $REGISTRY_AUTH_FILE, $DOCKER_AUTH_CONFIG, podman's
    /// auth.json, Docker's config.json. Credential helpers that they name are run. Can be given several times; one of
    /// them may be a pipe (`/dev/stdin`, `<(…)`), which is searched first.
    #[arg(long, value_name = "FILE", help_heading = "Registry")]
    pub(crate) authfile: Vec<PathBuf>,

    /// Verify the TLS certificate of the registry; `--tls-verify=false` does not
    ///
    /// Without verification, a machine on the way to the registry can read your password and the content. The
    /// content of an image that is named by digest is still verified. The flag applies to the registry of
    /// REF, not to its mirrors or redirects, and is refused with images of several registries. It is better to
    /// trust the registry's certificate: put it into
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

    /// How many connections to one registry may transfer layers at the same time
    ///
    /// A large layer comes over several where that is measured to be faster, and over one where it is not, or
    /// after the registry has refused a request (429, 503). All images of a command share them.
    #[arg(
        long,
        value_name = "N",
        env = "OCIFS_CONNECTIONS",
        default_value_t = DEFAULT_CONNECTIONS as u64,
        value_parser = clap::value_parser!(u64).range(1..=64),
        help_heading = "Registry"
    )]
    pub(crate) connections: u64,

    /// Give up a read, or a request to a registry, after this time: seconds, or `30s`, `2m`, `1h`
    ///
    /// No command waits longer than twice this time for a server that sends nothing, or less than 1000 bytes a
    /// second. There is no limit for a server that sends more.
    #[arg(long, value_name = "TIME", default_value = "60", value_parser = time)]
    pub(crate) timeout: Duration,

    /// Refuse layers that unpack to more bytes than this
    ///
    /// By default 1 GiB, or 200 times the layer's compressed size if that is more. Suffixes K, M,
    /// G and T are understood.
    #[arg(long, value_name = "BYTES", value_parser = bytes)]
    pub(crate) max_layer_size: Option<u64>,

    /// Refuse zstd layers whose window is larger than this
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
