//! Image references: the words with which a user names an image.
//!
//! Two grammars meet here. *Registry references* are `[host[:port]/]path[:tag][@digest]` with
//! Docker's defaults (`debian` is `docker.io/library/debian:latest`); *local sources* are written
//! as skopeo writes them: `oci:PATH[:REF]`, `oci-archive:PATH[:REF]`, `docker-archive:PATH[:REF]`
//! and `dir:PATH`, and so are the *stores* of engines: `containerd:`, `containers-storage:`,
//! `docker-daemon:` and `registry-storage:`. Parsing does no I/O, so it knows no aliases; but a name
//! that was written without a registry remembers how, for those who do ([`Reference::short_name`]).
//!
//! The grammar is that of the `distribution/reference` project, which every engine embeds; its
//! vectors are the tests below. The `Reference` type of the `oci-spec` crate follows an older
//! version of it (no IPv6, other rules for hosts with uppercase letters), so this one is our own.
//! Every way of being wrong has its own sentence, because a typo in a reference is the most common
//! error of all.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::path::PathBuf;
use std::str::FromStr;

use crate::digest::{self, Digest};

/// The registry that a name without a host means.
pub const DEFAULT_REGISTRY: &str = "docker.io";

/// The longest repository path in bytes (`distribution/reference`, `NameTotalLengthMax`).
const MAX_PATH_BYTES: usize = 255;

/// The longest tag in bytes (distribution spec, "Pulling manifests").
const MAX_TAG_BYTES: usize = 128;

/// Transports of other tools that are refused by name rather than taken for a host.
const FOREIGN_TRANSPORTS: [&str; 3] = ["sif", "ostree", "tarball"];

/// Why a text is not a reference. Each variant is a whole sentence with its remedy.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[allow(missing_docs, reason = "the messages are the documentation")]
pub enum ParseError {
    #[error("the reference is empty")]
    Empty,
    #[error("`{0}` is a URL: leave out the scheme and write only `host/name:tag`")]
    Url(String),
    #[error(
        "unknown transport `{0}:` (known: docker://, oci:, oci-archive:, docker-archive:, dir:, \
         containerd:, containers-storage:, docker-daemon:, registry-storage:)"
    )]
    UnknownTransport(String),
    #[error("`docker:{0}` lacks the slashes: write `docker://{0}`")]
    DockerWithoutSlashes(String),
    #[error("`{transport}:` needs a path after the colon")]
    MissingPath { transport: &'static str },
    #[error("`{transport}:` is written `{form}`")]
    Store { transport: &'static str, form: &'static str },
    #[error("`{text}` has uppercase letters in the repository name `{name}`: it must be lowercase")]
    Uppercase { text: String, name: String },
    #[error("`{0}` looks like an image ID: give a name, `name@sha256:{0}` for a manifest digest")]
    ImageId(String),
    #[error("`{text}` has no repository name before its {part}")]
    MissingName { text: String, part: &'static str },
    #[error("`{text}`: `{host}` is not a valid registry host")]
    Host { text: String, host: String },
    #[error(
        "`{text}`: `{component}` is not a valid name component (lowercase letters and digits, \
         separated by `.`, `_`, `__` or dashes)"
    )]
    Component { text: String, component: String },
    #[error("`{text}`: `{tag}` is not a valid tag (letters, digits, `_`, `.`, `-`; at most 128)")]
    Tag { text: String, tag: String },
    #[error("`{text}`: the repository name is longer than 255 bytes")]
    TooLong { text: String },
    #[error("`{text}`: {source}")]
    Digest { text: String, source: digest::ParseError },
}

/// A parsed reference into a registry.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Reference {
    registry: String,
    repository: String,
    tag: Option<String>,
    digest: Option<Digest>,
    short: Short,
}

/// The name of a repository as it was written, if that was without a registry. What a reference
/// means does not depend on it, and so all of them are equal.
#[derive(Clone, Debug, Default)]
struct Short(Option<String>);

impl PartialEq for Short {
    fn eq(&self, _: &Short) -> bool {
        true
    }
}

impl Eq for Short {}

impl Hash for Short {
    fn hash<H: Hasher>(&self, _: &mut H) {}
}

impl Reference {
    /// Host and port as the user means them: `docker.io`, `127.0.0.1:5000`, `[::1]:5000`.
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// The repository path with Docker's `library/` filled in: `library/debian`.
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// The tag, `latest` when neither tag nor digest was written.
    ///
    /// `None` when the reference has a digest: with both, the digest decides.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The manifest digest, if the reference is pinned to one.
    pub fn digest(&self) -> Option<Digest> {
        self.digest
    }

    /// The name without tag and digest as it was written, if that was without a registry: `debian`,
    /// `library/debian`. Aliases are for these; that they mean Docker Hub is only a default.
    pub fn short_name(&self) -> Option<&str> {
        self.short.0.as_deref()
    }

    /// The same tag and digest in another place, whose names are taken as they are.
    pub(crate) fn at(&self, registry: &str, repository: &str) -> Reference {
        let (registry, repository) = (registry.to_owned(), repository.to_owned());
        Reference { registry, repository, short: Short::default(), ..self.clone() }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.repository)?;
        match (self.digest, self.tag()) {
            (Some(digest), _) => write!(f, "@{digest}"),
            (None, Some(tag)) => write!(f, ":{tag}"),
            (None, None) => Ok(()),
        }
    }
}

impl FromStr for Reference {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Reference, ParseError> {
        if text.is_empty() {
            return Err(ParseError::Empty);
        }
        if let Some((scheme, _)) = text.split_once("://")
            && scheme.bytes().all(|b| b.is_ascii_alphanumeric())
        {
            return Err(ParseError::Url(text.to_owned()));
        }
        let (name, tag, digest) = split_selectors(text)?;
        let (registry, path) = split_host(name);
        check_host(text, registry)?;
        check_path(text, path)?;
        let short = Short(registry.is_none().then(|| path.to_owned()));
        let registry = match registry {
            None | Some("index.docker.io" | "registry-1.docker.io") => DEFAULT_REGISTRY,
            Some(host) => host,
        };
        let repository = if registry == DEFAULT_REGISTRY && !path.contains('/') {
            format!("library/{path}")
        } else {
            path.to_owned()
        };
        Ok(Reference {
            registry: registry.to_owned(),
            repository,
            tag: digest.is_none().then(|| tag.unwrap_or("latest").to_owned()),
            digest,
            short,
        })
    }
}

/// Name, tag and digest of a reference; the latter two are valid.
fn split_selectors(text: &str) -> Result<(&str, Option<&str>, Option<Digest>), ParseError> {
    let (rest, digest) = match text.split_once('@') {
        Some((rest, digest)) => {
            let digest = digest
                .parse()
                .map_err(|source| ParseError::Digest { text: text.to_owned(), source })?;
            (rest, Some(digest))
        }
        None => (text, None),
    };
    // A colon after the last slash starts a tag, unless it belongs to a bare `host:port`,
    // which is not a reference anyway, or sits inside an IPv6 literal.
    let slash = rest.rfind('/').map_or(0, |at| at + 1);
    let (name, tag) = match rest[slash..].rfind(':') {
        Some(colon) => (&rest[..slash + colon], Some(&rest[slash + colon + 1..])),
        None => (rest, None),
    };
    if name.is_empty() {
        let part = if tag.is_some() { "tag" } else { "digest" };
        return Err(ParseError::MissingName { text: text.to_owned(), part });
    }
    if tag.is_none() && digest.is_none() && is_image_id(name) {
        return Err(ParseError::ImageId(name.to_owned()));
    }
    if let Some(tag) = tag {
        check_tag(text, tag)?;
    }
    Ok((name, tag, digest))
}

fn is_image_id(name: &str) -> bool {
    name.len() == 64 && name.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// Splits off the registry host: the first component is one iff it cannot be a path component of
/// Docker Hub (`distribution/reference`, `splitDockerDomain`).
fn split_host(name: &str) -> (Option<&str>, &str) {
    match name.split_once('/') {
        Some((first, rest))
            if first == "localhost"
                || first.contains(['.', ':', '['])
                || first.bytes().any(|b| b.is_ascii_uppercase()) =>
        {
            (Some(first), rest)
        }
        _ => (None, name),
    }
}

fn check_host(text: &str, host: Option<&str>) -> Result<(), ParseError> {
    let Some(host) = host else { return Ok(()) };
    let valid = match host.strip_prefix('[') {
        Some(rest) => rest.split_once(']').is_some_and(|(address, port)| {
            // Zones and mapped IPv4 addresses are refused, as the reference grammar does.
            address.contains(':')
                && address.bytes().all(|b| b.is_ascii_hexdigit() || b == b':')
                && (port.is_empty() || port.strip_prefix(':').is_some_and(is_port))
        }),
        None => {
            let (name, port) = match host.split_once(':') {
                Some((name, port)) => (name, Some(port)),
                None => (host, None),
            };
            name.split('.').all(is_host_label) && port.is_none_or(is_port)
        }
    };
    if valid {
        return Ok(());
    }
    Err(ParseError::Host { text: text.to_owned(), host: host.to_owned() })
}

fn is_port(text: &str) -> bool {
    text.parse::<u16>().is_ok() && text.bytes().all(|b| b.is_ascii_digit())
}

fn is_host_label(label: &str) -> bool {
    !label.is_empty()
        && !label.starts_with('-')
        && !label.ends_with('-')
        && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
}

fn check_path(text: &str, path: &str) -> Result<(), ParseError> {
    if path.len() > MAX_PATH_BYTES {
        return Err(ParseError::TooLong { text: text.to_owned() });
    }
    let lower = path.to_ascii_lowercase();
    if lower != path && lower.split('/').all(is_path_component) {
        return Err(ParseError::Uppercase { text: text.to_owned(), name: path.to_owned() });
    }
    match path.split('/').find(|c| !is_path_component(c)) {
        Some(component) => {
            let (text, component) = (text.to_owned(), component.to_owned());
            Err(ParseError::Component { text, component })
        }
        None => Ok(()),
    }
}

/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`
fn is_path_component(component: &str) -> bool {
    let bytes = component.as_bytes();
    let word = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let ends = [bytes.first(), bytes.last()];
    if !ends.iter().all(|b| b.is_some_and(|b| word(*b))) {
        return false;
    }
    component
        .split(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
        .all(|gap| matches!(gap, "" | "." | "_" | "__") || gap.bytes().all(|b| b == b'-'))
}

fn check_tag(text: &str, tag: &str) -> Result<(), ParseError> {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    let valid = tag.len() <= MAX_TAG_BYTES
        && tag.bytes().next().is_some_and(word)
        && tag.bytes().all(|b| word(b) || b == b'.' || b == b'-');
    if valid {
        return Ok(());
    }
    Err(ParseError::Tag { text: text.to_owned(), tag: tag.to_owned() })
}

/// A file or folder with images in it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct LocalSource {
    /// How the images are laid out there.
    pub layout: Layout,
    /// The folder or archive.
    pub path: PathBuf,
    /// Which image, when the user said so; without it there must be exactly one.
    pub selector: Option<String>,
}

/// The shapes in which images lie on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Layout {
    /// `oci:` an OCI image layout in a folder.
    OciLayout,
    /// `oci-archive:` a tar of an OCI image layout.
    OciArchive,
    /// `docker-archive:` the output of `docker save`, old or new.
    DockerArchive,
    /// `dir:` skopeo's folder with `manifest.json` and blobs by hex name.
    Dir,
}

impl Layout {
    const ALL: [Layout; 4] =
        [Layout::OciLayout, Layout::OciArchive, Layout::DockerArchive, Layout::Dir];

    /// The transport word before the colon.
    pub fn transport(self) -> &'static str {
        match self {
            Layout::OciLayout => "oci",
            Layout::OciArchive => "oci-archive",
            Layout::DockerArchive => "docker-archive",
            Layout::Dir => "dir",
        }
    }
}

/// An image in a store of another program on this machine.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum StoredImage {
    /// `containerd:[ROOT//][NAMESPACE/]IMAGE`: containerd's content store.
    Containerd {
        /// Its folder, if it is not one of the usual ones.
        root: Option<PathBuf>,
        /// The image as the user named it. Whether it begins with a namespace, the store knows.
        image: String,
    },
    /// `containers-storage:[[DRIVER@ROOT]]IMAGE`: what podman, buildah and CRI-O keep.
    ContainersStorage {
        /// Its folder, if it is not the usual one.
        root: Option<PathBuf>,
        /// A name, an image ID or the start of one.
        image: String,
    },
    /// `docker-daemon:IMAGE`: an engine, asked over its socket.
    DockerDaemon {
        /// A name or an image ID, of the letters of a reference.
        image: String,
    },
    /// `registry-storage:PATH//REPOSITORY[:TAG][@DIGEST]`: the folder of a registry.
    RegistryStorage {
        /// The folder.
        path: PathBuf,
        /// The image. Its registry is empty.
        image: Reference,
    },
}

impl StoredImage {
    const TRANSPORTS: [&str; 4] =
        ["containerd", "containers-storage", "docker-daemon", "registry-storage"];

    /// The folder that the user named.
    pub fn path(&self) -> Option<&std::path::Path> {
        match self {
            StoredImage::Containerd { root, .. } | StoredImage::ContainersStorage { root, .. } => {
                root.as_deref()
            }
            StoredImage::DockerDaemon { .. } => None,
            StoredImage::RegistryStorage { path, .. } => Some(path),
        }
    }

    /// The image without the store.
    fn image(&self) -> String {
        match self {
            StoredImage::Containerd { image, .. }
            | StoredImage::ContainersStorage { image, .. }
            | StoredImage::DockerDaemon { image } => image.clone(),
            StoredImage::RegistryStorage { image, .. } => {
                image.to_string().trim_start_matches('/').to_owned()
            }
        }
    }

    /// Parses what stands behind the colon of a transport.
    fn parse(transport: &str, rest: &str) -> Result<StoredImage, ParseError> {
        match transport {
            "containerd" => containerd(rest),
            "containers-storage" => containers_storage(rest),
            "docker-daemon" => docker_daemon(rest),
            _ => registry_storage(rest),
        }
    }
}

/// Whether a text may be the name of an image in a store: anything that can be typed.
fn is_image_text(text: &str) -> bool {
    !text.is_empty() && text.len() <= 1024 && text.bytes().all(|b| b.is_ascii_graphic())
}

fn containerd(rest: &str) -> Result<StoredImage, ParseError> {
    let (root, image) = match rest.rsplit_once("//") {
        Some((root, image)) => (Some(root), image),
        None => (None, rest),
    };
    if root == Some("") || !is_image_text(image) {
        let form = "containerd:[NAMESPACE/]IMAGE or containerd:ROOT//[NAMESPACE/]IMAGE";
        return Err(ParseError::Store { transport: "containerd", form });
    }
    Ok(StoredImage::Containerd { root: root.map(PathBuf::from), image: image.to_owned() })
}

fn containers_storage(rest: &str) -> Result<StoredImage, ParseError> {
    let form = "containers-storage:IMAGE or containers-storage:[overlay@ROOT]IMAGE";
    let wrong = || ParseError::Store { transport: "containers-storage", form };
    let (store, image) = match rest.strip_prefix('[') {
        Some(rest) => rest.split_once(']').map(|(store, image)| (Some(store), image)),
        None => Some((None, rest)),
    }
    .ok_or_else(wrong)?;
    // The folder of running containers and options do not matter.
    let root =
        store.map(|store| without_driver(store).split(['+', ':']).next().unwrap_or_default());
    if root == Some("") || !is_image_text(image) {
        return Err(wrong());
    }
    Ok(StoredImage::ContainersStorage { root: root.map(PathBuf::from), image: image.to_owned() })
}

/// What stands behind the driver, which is found in the store itself.
fn without_driver(store: &str) -> &str {
    match store.split_once('@') {
        Some((driver, root)) if driver.bytes().all(|b| b.is_ascii_lowercase()) => root,
        _ => store,
    }
}

fn docker_daemon(rest: &str) -> Result<StoredImage, ParseError> {
    let form = "docker-daemon:NAME:TAG or docker-daemon:sha256:ID";
    if rest.is_empty() {
        return Err(ParseError::Store { transport: "docker-daemon", form });
    }
    let id = rest.strip_prefix("sha256:").unwrap_or(rest);
    let is_hex = id.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    if is_hex && (id.len() == 64 || (id.len() < 64 && id.len() != rest.len() && !id.is_empty())) {
        return Ok(StoredImage::DockerDaemon { image: rest.to_owned() });
    }
    let image = rest.parse::<Reference>()?.to_string();
    Ok(StoredImage::DockerDaemon { image })
}

fn registry_storage(rest: &str) -> Result<StoredImage, ParseError> {
    let form = "registry-storage:PATH//REPOSITORY:TAG";
    let wrong = || ParseError::Store { transport: "registry-storage", form };
    let (path, image) = rest.rsplit_once("//").ok_or_else(wrong)?;
    if path.is_empty() || image.is_empty() {
        return Err(wrong());
    }
    let (repository, tag, digest) = split_selectors(image)?;
    check_path(image, repository)?;
    let image = Reference {
        registry: String::new(),
        repository: repository.to_owned(),
        tag: digest.is_none().then(|| tag.unwrap_or("latest").to_owned()),
        digest,
        short: Short::default(),
    };
    Ok(StoredImage::RegistryStorage { path: PathBuf::from(path), image })
}

impl fmt::Display for StoredImage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let image = self.image();
        match self {
            StoredImage::Containerd { root: None, .. } => write!(f, "containerd:{image}"),
            StoredImage::Containerd { root: Some(root), .. } => {
                write!(f, "containerd:{}//{image}", root.display())
            }
            StoredImage::ContainersStorage { root: None, .. } => {
                write!(f, "containers-storage:{image}")
            }
            StoredImage::ContainersStorage { root: Some(root), .. } => {
                let root = root.display().to_string();
                let driver = if without_driver(&root) == root { "" } else { "overlay@" };
                write!(f, "containers-storage:[{driver}{root}]{image}")
            }
            StoredImage::DockerDaemon { .. } => write!(f, "docker-daemon:{image}"),
            StoredImage::RegistryStorage { path, .. } => {
                write!(f, "registry-storage:{}//{image}", path.display())
            }
        }
    }
}

/// What a user may write wherever an image is wanted.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ImageName {
    /// An image in a registry.
    Registry(Reference),
    /// An image in a folder or archive.
    Local(LocalSource),
    /// An image in a store of another program.
    Stored(StoredImage),
}

impl FromStr for ImageName {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<ImageName, ParseError> {
        // `oci://` is how Helm and Flux write what skopeo writes as `docker://`. Names behind these are
        // never short: without a registry they mean Docker Hub.
        for scheme in ["docker://", "oci://"] {
            if let Some(rest) = text.strip_prefix(scheme) {
                let reference: Reference = rest.parse()?;
                let reference = Reference { short: Short::default(), ..reference };
                return Ok(ImageName::Registry(reference));
            }
        }
        if let Some((word, rest)) = text.split_once(':') {
            if let Some(layout) = Layout::ALL.into_iter().find(|l| l.transport() == word) {
                return local(layout, rest).map(ImageName::Local);
            }
            // `docker-daemon:27` could be an image of that name; nobody has one.
            if StoredImage::TRANSPORTS.contains(&word) {
                return StoredImage::parse(word, rest).map(ImageName::Stored);
            }
            if FOREIGN_TRANSPORTS.contains(&word) {
                return Err(ParseError::UnknownTransport(word.to_owned()));
            }
            // `docker:27` is the image of that name; `docker:host/name` is a forgotten `//`.
            if word == "docker" && rest.contains('/') {
                return Err(ParseError::DockerWithoutSlashes(rest.to_owned()));
            }
            // A word with a slash behind its colon is `host:port/name` only if the middle is a
            // port; anything else is a transport that we do not know.
            let middle = rest.split('/').next().unwrap_or_default();
            if rest.contains('/')
                && !rest.starts_with("//")
                && !middle.contains(':')
                && !middle.starts_with(|c: char| c.is_ascii_digit())
                && is_path_component(word)
            {
                return Err(ParseError::UnknownTransport(word.to_owned()));
            }
        }
        text.parse().map(ImageName::Registry)
    }
}

fn local(layout: Layout, rest: &str) -> Result<LocalSource, ParseError> {
    // skopeo's rule: the path ends at the first colon. `dir:` has no selector.
    let (path, selector) = match (layout, rest.split_once(':')) {
        (Layout::Dir, _) | (_, None) => (rest, None),
        (_, Some((path, selector))) => (path, Some(selector).filter(|s| !s.is_empty())),
    };
    // A digest is written after an at sign: `oci:PATH@sha256:…`.
    let (path, selector) = match (path.rsplit_once('@'), selector) {
        (Some((before, algorithm @ ("sha256" | "sha512"))), Some(hex)) => {
            (before, Some(format!("{algorithm}:{hex}")))
        }
        (_, selector) => (path, selector.map(str::to_owned)),
    };
    if path.is_empty() {
        return Err(ParseError::MissingPath { transport: layout.transport() });
    }
    Ok(LocalSource { layout, path: PathBuf::from(path), selector })
}

impl fmt::Display for ImageName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ImageName::Registry(reference) => fmt::Display::fmt(reference, f),
            ImageName::Stored(stored) => fmt::Display::fmt(stored, f),
            ImageName::Local(local) => {
                write!(f, "{}:{}", local.layout.transport(), local.path.display())?;
                match &local.selector {
                    Some(selector) => {
                        let is_digest = selector.split_once(':').is_some_and(|(algorithm, hex)| {
                            matches!(algorithm, "sha256" | "sha512") && !hex.is_empty()
                        });
                        write!(f, "{}{selector}", if is_digest { '@' } else { ':' })
                    }
                    None => Ok(()),
                }
            }
        }
    }
}

/// The name of the directory that an image has in a mount of several: a single component of a path.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DirectoryName(String);

/// Why a text can't be the name of a directory.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "`{0}` can't be the name of a directory: not empty, `.` or `..`, no `/`, at most 255 bytes"
)]
pub struct DirectoryNameError(String);

impl DirectoryName {
    /// The longest in bytes: Linux's `NAME_MAX`.
    const MAX_BYTES: usize = 255;

    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for DirectoryName {
    type Err = DirectoryNameError;

    fn from_str(text: &str) -> Result<DirectoryName, DirectoryNameError> {
        let is_bad = matches!(text, "" | "." | "..")
            || text.contains(['/', '\0'])
            || text.len() > DirectoryName::MAX_BYTES;
        if is_bad {
            return Err(DirectoryNameError(text.to_owned()));
        }
        Ok(DirectoryName(text.to_owned()))
    }
}

impl fmt::Display for DirectoryName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Hexadecimal digits of a digest that stand in the name of a directory.
const SHORT_DIGEST: usize = 12;

impl ImageName {
    /// A short name for a directory: the last component of the repository or path, and the tag after
    /// a dash; of a digest the first 12 digits. `python-app-v1`, `debian-latest`, `app-0123456789ab`.
    ///
    /// What else can't stand in a name becomes a dash. Different images may have the same name; `None`
    /// if there is nothing to make one of (`oci:..`).
    pub fn directory_name(&self) -> Option<DirectoryName> {
        let of = |reference: &Reference| {
            let name = reference.repository.rsplit('/').next().unwrap_or_default();
            let digest = reference.digest.map(|digest| digest.to_string());
            (name.to_owned(), digest.or_else(|| reference.tag.clone()))
        };
        let (name, selector) = match self {
            ImageName::Registry(reference) => of(reference),
            ImageName::Stored(stored) => match stored.image().parse::<Reference>() {
                Ok(reference) => of(&reference),
                Err(_) => (stored.image(), None),
            },
            ImageName::Local(local) => {
                let name = local.path.file_name()?.to_string_lossy().into_owned();
                (name, local.selector.clone())
            }
        };
        let name = match selector.as_deref().map(|s| (s, s.parse::<Digest>())) {
            None => name,
            Some((text, Ok(_))) => {
                let hex = text.split_once(':').map_or(text, |(_, hex)| hex);
                format!("{name}-{}", hex.get(..SHORT_DIGEST).unwrap_or(hex))
            }
            Some((text, Err(_))) => format!("{name}-{text}"),
        };
        let no_dash = |c: char| c == '/' || c == ':' || c == '@' || c.is_control();
        name.replace(no_dash, "-").parse().ok()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SHA: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn docker_defaults() {
        for (text, expected) in [
            ("debian", "docker.io/library/debian:latest"),
            ("debian:12", "docker.io/library/debian:12"),
            ("foo/bar", "docker.io/foo/bar:latest"),
            ("docker.io/debian", "docker.io/library/debian:latest"),
            ("index.docker.io/debian", "docker.io/library/debian:latest"),
            ("test:5000/repo", "test:5000/repo:latest"),
            ("test:5000/repo:tag", "test:5000/repo:tag"),
            ("localhost/repo", "localhost/repo:latest"),
            ("localhost:5000/a/b/c:x", "localhost:5000/a/b/c:x"),
            ("[fc00::1]:5000/docker", "[fc00::1]:5000/docker:latest"),
            ("[fc00::1]/docker", "[fc00::1]/docker:latest"),
            ("192.168.0.1:8/debian", "192.168.0.1:8/debian:latest"),
            ("192.168.0.1/debian", "192.168.0.1/debian:latest"),
            ("Docker/docker", "Docker/docker:latest"),
            ("dock__er/docker", "docker.io/dock__er/docker:latest"),
            ("d---r/x", "docker.io/d---r/x:latest"),
            ("lowercase:Uppercase", "docker.io/library/lowercase:Uppercase"),
            ("xn--n3h.com/name:x", "xn--n3h.com/name:x"),
            ("foo_bar.com:8080", "docker.io/library/foo_bar.com:8080"),
            ("x/a.b_c__d-e--f/g", "docker.io/x/a.b_c__d-e--f/g:latest"),
        ] {
            let reference = text.parse::<Reference>().unwrap_or_else(|e| panic!("{text}: {e}"));
            assert_eq!(reference.to_string(), expected, "{text}");
        }
    }

    #[test]
    fn short_names_are_remembered_and_make_no_difference() {
        for (text, short) in [
            ("debian", Some("debian")),
            ("debian:12", Some("debian")),
            ("library/debian", Some("library/debian")),
            ("foo/bar:v1", Some("foo/bar")),
            ("docker.io/debian", None),
            ("index.docker.io/debian", None),
            ("docker://debian", None),
            ("oci://debian", None),
            ("localhost/debian", None),
            ("host:5000/debian", None),
        ] {
            let ImageName::Registry(reference) = text.parse().unwrap() else { panic!("{text}") };
            assert_eq!(reference.short_name(), short, "{text}");
            assert_eq!(reference.at("a", "b").short_name(), None);
        }
        let pinned: Reference = format!("debian:12@{SHA}").parse().unwrap();
        assert_eq!(pinned.short_name(), Some("debian"));
        let (short, full): (Reference, Reference) =
            ("debian".parse().unwrap(), "docker.io/library/debian".parse().unwrap());
        assert_eq!(short, full);
        assert_eq!(short.to_string(), full.to_string());
        assert_eq!(std::collections::HashSet::from([short, full]).len(), 1);
    }

    #[test]
    fn a_digest_beats_a_tag() {
        let reference: Reference = format!("debian:12@{SHA}").parse().unwrap();
        assert_eq!(reference.tag(), None);
        assert_eq!(reference.to_string(), format!("docker.io/library/debian@{SHA}"));
    }

    #[test]
    fn every_wrong_reference_has_its_sentence() {
        let sha_pure = &SHA[7..];
        for (text, words) in [
            ("", "empty"),
            (sha_pure, "looks like an image ID"),
            ("docker/Docker", "must be lowercase"),
            ("Uppercase", "must be lowercase"),
            ("https://github.com/docker/docker", "leave out the scheme"),
            ("-docker/x", "component"),
            ("dock..er/x", "host"),
            ("x/dock..er", "component"),
            ("dock___er/x", "component"),
            ("docker/", "component"),
            ("docker//x", "component"),
            ("-docker", "component"),
            ("fc00::1:5000/debian", "host"),
            ("[fe80::1%eth0]:5000/x", "host"),
            ("[fc00::1/x", "host"),
            ("host-.com/x", "host"),
            ("host:99999/x", "host"),
            (":justtag", "no repository name before its tag"),
            ("@sha256:00", "64 lowercase"),
            ("repo:", "tag"),
            ("repo:-x", "tag"),
            ("repo@sha256:ffff", "64 lowercase"),
            ("repo@md5:ffff", "not supported"),
            ("ocii:some/path", "unknown transport"),
            ("sif:x", "unknown transport"),
            ("containerd:", "containerd:ROOT//[NAMESPACE/]IMAGE"),
            ("containerd://x", "containerd:ROOT//[NAMESPACE/]IMAGE"),
            ("containerd:a b", "containerd:ROOT//[NAMESPACE/]IMAGE"),
            ("containers-storage:", "containers-storage:[overlay@ROOT]IMAGE"),
            ("containers-storage:[x", "containers-storage:[overlay@ROOT]IMAGE"),
            ("containers-storage:[overlay@]x", "containers-storage:[overlay@ROOT]IMAGE"),
            ("docker-daemon:", "docker-daemon:NAME:TAG"),
            ("docker-daemon:../x", "host"),
            ("docker-daemon:x?y", "component"),
            ("registry-storage:/a/b:v1", "registry-storage:PATH//REPOSITORY:TAG"),
            ("registry-storage:/a//", "registry-storage:PATH//REPOSITORY:TAG"),
            ("registry-storage:/a//../b", "component"),
            ("registry-storage:/a//B:v1", "must be lowercase"),
            ("docker:host.com/x", "docker://host.com/x"),
            ("oci:", "needs a path"),
            ("dir:", "needs a path"),
        ] {
            let error = text.parse::<ImageName>().expect_err(text).to_string();
            assert!(error.contains(words), "{text}: {error}");
        }
        assert!("a/".repeat(130).trim_end_matches('/').parse::<Reference>().is_err());
        assert!(format!("x:{}", "t".repeat(129)).parse::<Reference>().is_err());
        assert!(format!("x:{}", "t".repeat(128)).parse::<Reference>().is_ok());
        let at = format!("@{SHA}").parse::<Reference>().unwrap_err().to_string();
        assert!(at.contains("no repository name before its digest"), "{at}");
    }

    #[test]
    fn transports() {
        let local = |text: &str| match text.parse::<ImageName>().unwrap() {
            ImageName::Local(l) => (l.layout, l.path.to_str().unwrap().to_owned(), l.selector),
            other => panic!("{text} parsed as {other}"),
        };
        assert_eq!(local("oci:/a/b"), (Layout::OciLayout, "/a/b".into(), None));
        assert_eq!(local("oci:b:v1:x"), (Layout::OciLayout, "b".into(), Some("v1:x".into())));
        let pinned = format!("oci:b@{SHA}");
        assert_eq!(local(&pinned), (Layout::OciLayout, "b".into(), Some(SHA.into())));
        assert_eq!(pinned.parse::<ImageName>().unwrap().to_string(), pinned);
        assert_eq!(local("oci-archive:x.tar"), (Layout::OciArchive, "x.tar".into(), None));
        assert_eq!(
            local("docker-archive:x.tar:app:v1"),
            (Layout::DockerArchive, "x.tar".into(), Some("app:v1".into()))
        );
        assert_eq!(local("dir:/x:y"), (Layout::Dir, "/x:y".into(), None));
        for text in ["docker://debian", "oci://docker.io/debian", "docker.io/debian"] {
            let name: ImageName = text.parse().unwrap();
            assert_eq!(name.to_string(), "docker.io/library/debian:latest");
        }
        assert!(matches!("docker:27".parse::<ImageName>().unwrap(), ImageName::Registry(_)));
        assert!(matches!("host:5000/x".parse::<ImageName>().unwrap(), ImageName::Registry(_)));
    }

    #[test]
    fn stores() {
        let hex = &SHA[7..];
        for (text, expected) in [
            ("containerd:debian:12".to_owned(), None),
            ("containerd:k8s.io/docker.io/library/debian:12".to_owned(), None),
            ("containerd:/a/b//k8s.io/debian@sha256:00".to_owned(), None),
            ("containers-storage:debian".to_owned(), None),
            (
                "containers-storage:[overlay@/s+/run/s:overlay.x=y]localhost/app:v1".to_owned(),
                Some("containers-storage:[/s]localhost/app:v1"),
            ),
            ("containers-storage:[/s]x".to_owned(), None),
            ("docker-daemon:app".to_owned(), Some("docker-daemon:docker.io/library/app:latest")),
            (format!("docker-daemon:{hex}"), None),
            (format!("docker-daemon:{SHA}"), None),
            ("docker-daemon:sha256:e3b0c442".to_owned(), None),
            ("registry-storage:/data//team/app:v1".to_owned(), None),
            ("registry-storage:data//app".to_owned(), Some("registry-storage:data//app:latest")),
            (format!("registry-storage:/data//app:v1@{SHA}"), None),
        ] {
            let name: ImageName = text.parse().unwrap_or_else(|e| panic!("{text}: {e}"));
            let expected = expected.map_or(text.replace("app:v1@", "app@"), str::to_owned);
            assert_eq!(name.to_string(), expected);
            assert!(matches!(name, ImageName::Stored(_)));
            assert_eq!(expected.parse::<ImageName>().unwrap(), name);
        }
    }

    proptest! {
        /// Whatever is typed is refused or means one thing, which can be written down and read back.
        #[test]
        fn what_is_read_can_be_written(
            transport in prop::sample::select(vec![
                "", "docker://", "oci:", "oci-archive:", "docker-archive:", "dir:", "containerd:",
                "containers-storage:", "docker-daemon:", "registry-storage:",
            ]),
            rest in "([a-zA-Z0-9./:@_\\[\\]+-]|sha256:|//|\\PC){0,40}",
        ) {
            if let Ok(name) = format!("{transport}{rest}").parse::<ImageName>() {
                let again = name.to_string().parse::<ImageName>();
                prop_assert_eq!(again.as_ref(), Ok(&name), "{}", name);
                let _ = name.directory_name();
            }
        }
    }

    #[test]
    fn names_of_directories() {
        let name = |text: &str| {
            let image: ImageName = text.parse().unwrap();
            image.directory_name().map(|name| name.to_string())
        };
        let digest = format!("x.example/a/app:v1@{SHA}");
        let long = format!("oci:/{}:v1", "x".repeat(255));
        for (text, expected) in [
            ("debian", Some("debian-latest")),
            ("127.0.0.1:5000/team/python-app:v1", Some("python-app-v1")),
            (&digest, Some("app-e3b0c44298fc")),
            ("oci:/path/to/app:v1", Some("app-v1")),
            ("oci:/path/to/app/", Some("app")),
            ("oci:a=b:v1", Some("a=b-v1")),
            ("oci:app@sha256:abc", Some("app-sha256-abc")),
            ("docker-archive:app.tar:localhost/team/app:v1", Some("app.tar-localhost-team-app-v1")),
            ("containerd:k8s.io/app:v1", Some("app-v1")),
            ("docker-daemon:sha256:e3b0c442", Some("sha256-e3b0c442")),
            ("registry-storage:/data//team/app:v1", Some("app-v1")),
            ("dir:app", Some("app")),
            ("dir:.", None),
            ("oci:..:v1", None),
            ("dir:/", None),
            (&long, None),
        ] {
            assert_eq!(name(text).as_deref(), expected, "{text}");
        }
        for bad in ["", ".", "..", "a/b", "a\0b", &"x".repeat(256)] {
            assert!(bad.parse::<DirectoryName>().is_err(), "{bad:?}");
        }
        assert!("...".parse::<DirectoryName>().is_ok());
    }
}
