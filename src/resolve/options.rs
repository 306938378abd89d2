//! What to resolve, beyond the name.

use crate::artifact::ArtifactView;
use crate::digest::Digest;
use crate::oci::Platform;

/// What to resolve, beyond the name.
#[derive(Clone, Debug, Default)]
pub struct ResolveOptions {
    /// The platform wanted; the host's if not said.
    pub platform: Option<Platform>,
    /// Take no document from the cache.
    pub again: bool,
    /// How artifacts are shown.
    pub artifacts: ArtifactView,
    /// What the name means, whatever a tag means by now: the manifest, or the image index.
    pub root: Option<Digest>,
    /// The user exempts the registry from TLS, or from the check of its certificate.
    pub is_exempt: bool,
}
