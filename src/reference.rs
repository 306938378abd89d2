//! Image references: the words with which a user names an image.
//!
//! Two grammars meet here. *Registry references* are `[host[:port]/]path[:tag][@digest]` with
//! Docker's defaults (`debian` is `docker.io/library/debian:latest`); *local sources* are written
//! as skopeo writes them: `oci:PATH[:REF]`, `oci-archive:PATH[:REF]`, `docker-archive:PATH[:REF]`
//! and `dir:PATH`. Parsing does no I/O and resolves no short-name aliases.
//!
//! The grammar is that of the `distribution/reference` project, which every engine embeds; its
//! vectors are the tests below. The `Reference` type of the `oci-spec` crate follows an older
//! version of it (no IPv6, other rules for hosts with uppercase letters), so this one is our own.
//! Every way of being wrong has its own sentence, because a typo in a reference is the most common
//! error of all.

use std::fmt;
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
const FOREIGN_TRANSPORTS: [&str; 7] = [
    "containers-storage",
    "docker-daemon",
    "containerd",
    "sif",
    "ostree",
    "tarball",
    "registry-storage",
];

/// Why a text is not a reference. Each variant is a whole sentence with its remedy.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[allow(missing_docs, reason = "the messages are the documentation")]
pub enum ParseError {
    #[error("the reference is empty")]
    Empty,
    #[error("`{0}` is a URL: leave out the scheme and write only `host/name:tag`")]
    Url(String),
    #[error(
        "unknown transport `{0}:` (known: docker://, oci:, oci-archive:, docker-archive:, dir:)"
    )]
    UnknownTransport(String),
    #[error("`docker:{0}` lacks the slashes: write `docker://{0}`")]
    DockerWithoutSlashes(String),
    #[error("`{transport}:` needs a path after the colon")]
    MissingPath { transport: &'static str },
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

    /// The same tag and digest in another place, whose names are taken as they are.
    pub(crate) fn at(&self, registry: &str, repository: &str) -> Reference {
        let (registry, repository) = (registry.to_owned(), repository.to_owned());
        Reference { registry, repository, ..self.clone() }
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
        let (registry, path) = split_host(name);
        check_host(text, registry)?;
        check_path(text, path)?;
        if let Some(tag) = tag {
            check_tag(text, tag)?;
        }
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
        })
    }
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

/// What a user may write wherever an image is wanted.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ImageName {
    /// An image in a registry.
    Registry(Reference),
    /// An image in a folder or archive.
    Local(LocalSource),
}

impl FromStr for ImageName {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<ImageName, ParseError> {
        // `oci://` is how Helm and Flux write what skopeo writes as `docker://`.
        for scheme in ["docker://", "oci://"] {
            if let Some(rest) = text.strip_prefix(scheme) {
                return rest.parse().map(ImageName::Registry);
            }
        }
        if let Some((word, rest)) = text.split_once(':') {
            if let Some(layout) = Layout::ALL.into_iter().find(|l| l.transport() == word) {
                return local(layout, rest).map(ImageName::Local);
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
            ImageName::Local(local) => {
                write!(f, "{}:{}", local.layout.transport(), local.path.display())?;
                match &local.selector {
                    Some(selector) if selector.starts_with("sha") && selector.contains(':') => {
                        write!(f, "@{selector}")
                    }
                    Some(selector) => write!(f, ":{selector}"),
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
        let (name, selector) = match self {
            ImageName::Registry(reference) => {
                let name = reference.repository.rsplit('/').next().unwrap_or_default();
                let digest = reference.digest.map(|digest| digest.to_string());
                (name.to_owned(), digest.or_else(|| reference.tag.clone()))
            }
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
            ("docker-daemon:x", "unknown transport"),
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
            ImageName::Registry(r) => panic!("{text} parsed as {r}"),
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
