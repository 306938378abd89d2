//! Why a text is no reference: a sentence for every way of being wrong.

use crate::digest;

/// Why a text is not a reference. Each variant is a whole sentence with its remedy.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[allow(missing_docs, reason = "the messages are the documentation")]
pub enum ParseError {
    #[error("the reference is empty")]
    Empty,
    #[error("`{text}` is a URL: leave out the scheme and write only `{meant}`")]
    Url { text: String, meant: String },
    #[error("`{text}` is the address of a web page: the image is `{meant}`")]
    WebPage { text: String, meant: String },
    #[error("unknown transport `{word}:` (known: {known})")]
    UnknownTransport { word: String, known: String },
    #[error("unknown transport `{wrote}`: write `{meant}`")]
    MisspeltTransport { wrote: String, meant: String },
    #[error("`{wrote}` lacks the slashes: write `docker://{rest}`")]
    DockerWithoutSlashes { wrote: String, rest: String },
    #[error("`{transport}:` needs a path after the colon")]
    MissingPath { transport: &'static str },
    #[error("`{transport}:` is written `{form}`")]
    Malformed { transport: &'static str, form: &'static str },
    #[error("`{text}` names a registry and no image in it: write `{text}/NAME`")]
    NoRepository { text: String },
    #[error("`{text}` ends with a slash: an image would be `{name}`, a folder here `./{text}`")]
    TrailingSlash { text: String, name: String },
    #[error("`{text}` ends without a tag: write `{name}` or `{name}:TAG`")]
    MissingTag { text: String, name: String },
    #[error("`{text}` ends without a digest: write `{name}` or `{name}@sha256:…`")]
    MissingDigest { text: String, name: String },
    #[error("`{text}` ends with a path: write it after a space, `{image} {path}`")]
    PathBehind { text: String, image: String, path: String },
    #[error(
        "`{text}` has uppercase letters in the repository name `{name}`: it must be lowercase, \
         `{lower}`"
    )]
    Uppercase { text: String, name: String, lower: String },
    #[error(
        "`{0}` looks like an image ID, which registries do not know: write `docker-daemon:sha256:…` or \
         `containers-storage:…` for an image of an engine on this machine, `NAME@sha256:…` for the \
         digest of a manifest"
    )]
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
    #[error("`{text}`: {cause}")]
    Digest { text: String, cause: digest::ParseError },
}
