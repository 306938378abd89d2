//! Why a document is not an image we can show.

use crate::digest::Digest;
use crate::json;

/// Layers accepted in one image. Docker stops at 127; no image has a use for more than some hundred.
pub const MAX_LAYERS: usize = 1024;

/// Why a document is not an image we can show.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the messages are the documentation")]
pub enum Error {
    #[error("the manifest is not valid JSON of its kind: {0}")]
    Json(json::Error),
    #[error("the manifest names {what} in a way that can't be used: {why}")]
    Named { what: String, why: String },
    #[error("the image config is not valid: {0}")]
    Config(json::Error),
    #[error(
        "it is a Docker schema 1 image, a format that Docker and containerd dropped: \
         pull it with an old engine and push it again"
    )]
    Schema1,
    #[error("the document is neither an image manifest nor an image index (media type `{0}`)")]
    UnknownDocument(String),
    #[error("the document is both an image manifest and an image index")]
    Ambiguous,
    #[error("the image has {0} layers; more than {MAX_LAYERS} are not accepted")]
    TooManyLayers(usize),
    #[error("its config is none of an image, and it has no layers: {0}")]
    NoImageConfig(json::Error),
    #[error("{digest} is said to have {size} bytes, which is absurd")]
    AbsurdSize { digest: Digest, size: u64 },
    #[error("media type `{header}` was announced, but the document says `{body}`")]
    Contradiction { header: String, body: String },
    #[error("it is not a container image but an artifact of type `{0}`")]
    Artifact(String),
    #[error("layer {digest} has media type `{media_type}`, which is not a file system layer")]
    Layer { digest: Digest, media_type: String },
    #[error(
        "layer {digest} is {is} (media type `{media_type}`): only tars are shown, compressed with \
             gzip or zstd"
    )]
    OtherLayer { digest: Digest, media_type: String, is: &'static str },
    #[error("layer {digest} is encrypted, and decryption is not supported")]
    Encrypted { digest: Digest },
    #[error("the config lists {diff_ids} diff IDs for {layers} layers")]
    DiffIds { diff_ids: usize, layers: usize },
}

impl Error {
    /// Whether it says that a manifest is of something else than an image, whose blobs can be shown as what
    /// they are.
    pub fn is_of_artifact(&self) -> bool {
        match self {
            Error::Artifact(_) | Error::Layer { .. } => true,
            Error::OtherLayer { is, .. } => is.ends_with("not a file system layer"),
            Error::NoImageConfig(_) => true,
            _ => false,
        }
    }

    /// Whether a manifest is right, and of something else than an image that can be shown.
    pub fn is_no_image(&self) -> bool {
        matches!(
            self,
            Error::Artifact(_)
                | Error::Layer { .. }
                | Error::OtherLayer { .. }
                | Error::Encrypted { .. }
                | Error::TooManyLayers(_)
        )
    }
}
