//! How an image is opened.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::artifact::ArtifactView;
use crate::digest::Digest;
use crate::oci::Platform;
use crate::reference::ImageName;
use crate::source::registry;
use crate::{codec, layer, resolve, source};

/// An image whose files are left out of another.
#[derive(Clone, Debug)]
pub struct Exclusion {
    /// Its name.
    pub name: ImageName,
    /// How it is opened.
    pub options: ImageOptions,
    /// What the name was found to mean, once it has been opened.
    pub root: OnceLock<Digest>,
}

/// What of an image is shown, and in which form.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// The name of the image whose files are left out.
    pub exclude: Option<String>,
    /// How artifacts are shown.
    pub artifacts: ArtifactView,
    /// What it consists of is shown, of these platforms.
    pub layout: Option<LayoutPlatforms>,
    /// So many layers, from the base up; all if not said.
    pub lowest_layers: Option<usize>,
}

/// The platforms whose images are shown as what they consist of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LayoutPlatforms {
    /// That of the image; the others below a directory.
    One,
    /// Each in a directory.
    All,
}

impl LayoutPlatforms {
    /// Its name in JSON.
    pub fn name(self) -> &'static str {
        match self {
            LayoutPlatforms::One => "one",
            LayoutPlatforms::All => "all",
        }
    }
}

/// What an image was found to be, for another process that is to show the same.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Opened {
    /// What the name means: the manifest, or the image index. No tag is asked for again.
    pub root: Digest,
    /// Blobs of layers that are shown as others say they are.
    pub claimed: HashSet<Digest>,
    /// The same as `root` of the image whose files are left out.
    pub base: Option<Digest>,
    /// How it was asked for, where that is not told again.
    #[serde(default)]
    pub words: Option<String>,
}

/// How an image is opened.
#[derive(Clone, Debug)]
pub struct ImageOptions {
    /// The platform wanted; the host's if not said.
    pub platform: Option<Platform>,
    /// How artifacts are shown.
    pub artifacts: ArtifactView,
    /// What was opened by the name before, which is to be opened again whatever has changed since.
    pub before: Option<Opened>,
    /// What is left out, where all of an image is opened or listed.
    pub exclude: Option<Arc<Exclusion>>,
    /// So many of its layers are opened, from the base up; all if not said.
    pub lowest_layers: Option<usize>,
    /// Fetch nothing from the network.
    pub offline: bool,
    /// Whether files say where they are from, in extended attributes; the layer indexes are kept for that.
    pub provenance: bool,
    /// Use layer indexes among the referrers, which nothing binds to the image.
    pub trust_referrers: bool,
    /// Take nothing for granted: stream every layer that has not been proven.
    pub prove: bool,
    /// Show large layers that are plain tars by their headers alone, before they are proven. What has to be proven is not.
    pub headers: bool,
    /// Show nothing that the image's registry does not let us read now: documents are fetched anew, it is asked
    /// for each layer, and what it has not sent to this machine before it has to send.
    pub check_access: bool,
    /// Take nothing from the cache: read documents and layers anew.
    pub again: bool,
    /// The user exempts the registry from TLS, or from the check of its certificate.
    pub is_exempt: bool,
    /// How registries are reached.
    pub registry: registry::RegistryOptions,
    /// Where stores of other programs are looked for.
    pub stores: source::LocalStores,
    /// Longest time for one read.
    pub read_deadline: Duration,
    /// Most uncompressed bytes of one layer, if not the default.
    pub max_layer_bytes: Option<u64>,
    /// What decompressing a layer may cost.
    pub codec: codec::Limits,
    /// Most bytes of memory for names and attributes of one image, if not the default of [`Budget`](crate::index::Budget).
    pub max_metadata_bytes: Option<u64>,
    /// Layers passed over at the same time.
    pub parallel_layers: usize,
    /// Shared with the first passes over layers of images that are opened independently of this one.
    pub turns: Option<Arc<layer::Turns>>,
    /// Span files kept open.
    pub open_files: usize,
    /// Folder for temporary files where the cache offers none.
    pub temporary_folder: PathBuf,
}

impl Default for ImageOptions {
    fn default() -> ImageOptions {
        ImageOptions {
            platform: None,
            artifacts: ArtifactView::default(),
            before: None,
            exclude: None,
            lowest_layers: None,
            offline: false,
            provenance: false,
            trust_referrers: false,
            prove: false,
            headers: false,
            check_access: false,
            again: false,
            is_exempt: false,
            registry: registry::RegistryOptions::default(),
            stores: source::LocalStores::default(),
            read_deadline: Duration::from_secs(60),
            max_layer_bytes: None,
            codec: codec::Limits::default(),
            max_metadata_bytes: None,
            parallel_layers: layer::LayerOptions::default().parallel,
            turns: None,
            open_files: 512,
            temporary_folder: PathBuf::from("/tmp"),
        }
    }
}

impl ImageOptions {
    /// What of the image is shown.
    pub fn selection(&self) -> Selection {
        let exclude = self.exclude.as_ref().map(|exclusion| exclusion.name.to_string());
        let lowest_layers = self.lowest_layers;
        Selection { exclude, artifacts: self.artifacts, layout: None, lowest_layers }
    }

    /// Has what was opened before be opened again.
    pub fn open_again(&mut self, before: Opened) {
        // Its registry has let us read it. What it had to send then is proven.
        self.prove |= self.check_access;
        self.check_access = false;
        if let Some((exclusion, root)) = self.exclude.as_ref().zip(before.base) {
            let mut exclusion = Exclusion::clone(exclusion);
            exclusion.options.before =
                Some(Opened { root, claimed: HashSet::new(), base: None, words: None });
            exclusion.options.check_access = false;
            self.exclude = Some(Arc::new(exclusion));
        }
        self.before = Some(before);
    }

    /// What the name of the image whose files are left out was found to mean.
    pub(super) fn base(&self) -> Option<Digest> {
        self.exclude.as_ref().and_then(|exclusion| exclusion.root.get().copied())
    }

    pub(super) fn of_resolving(&self) -> resolve::ResolveOptions {
        let platform = self.platform.clone();
        let ImageOptions { again, check_access, is_exempt, artifacts, .. } = *self;
        let root = self.before.as_ref().map(|was| was.root);
        let again = again || check_access;
        resolve::ResolveOptions { platform, artifacts, again, root, is_exempt }
    }

    /// The same, but the blobs of an image in a registry come from there alone.
    pub(super) fn asking_only_where_it_is(&self) -> ImageOptions {
        let stores = source::LocalStores { content_stores: Vec::new(), ..self.stores.clone() };
        ImageOptions { stores, ..self.clone() }
    }
}
