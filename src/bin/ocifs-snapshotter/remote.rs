//! Which tree labels ask for, and whether it is what the image has.
//!
//! Labels come from containerd, which has them from whoever asks it to pull. A chain ID is believed if it follows from the
//! config of the image that the labels name by its digest; `ocifs` has held manifest and config against their digests. If
//! it does, it does not matter who named the image, or why.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use ocifs::digest::{ChainId, DiffId, Digest};
use ocifs::reference::ImageName;
use serde::Deserialize;

use crate::program::Program;
use crate::snapshots::{Labels, Remote};

/// The chain ID of the layer that is to come.
pub(crate) const CHAIN_ID: &str = "containerd.io/snapshot.ref";
/// What CRI, the transfer service and Docker say of its image.
const IMAGE: &str = "containerd.io/snapshot/cri.image-ref";
const MANIFEST: &str = "containerd.io/snapshot/cri.manifest-digest";
const LAYER: &str = "containerd.io/snapshot/cri.layer-digest";

/// How long an image that can't be opened is not tried again: its other layers follow at once.
const PAUSE: Duration = Duration::from_secs(60);

/// How long an image that has been opened is not looked at again.
const OPEN: Duration = Duration::from_secs(60);

/// Images that are remembered.
const MAX_IMAGES: usize = 256;

/// What labels ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wanted {
    chain_id: Digest,
    /// By the digest of its manifest.
    image: String,
    layer: Option<Digest>,
}

/// What is below the snapshot that is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Below<'a> {
    Nothing,
    /// The tree of a chain ID.
    Tree(&'a str),
    /// What containerd has unpacked.
    Directory,
}

impl Wanted {
    /// What labels ask for, if they name an image; what is wrong with them.
    pub(crate) fn of(labels: &Labels) -> Option<Result<Wanted, String>> {
        let [chain_id, image, manifest] =
            [CHAIN_ID, IMAGE, MANIFEST].map(|label| labels.get(label));
        let (chain_id, image, manifest) = (chain_id?, image?, manifest?);
        Some(Wanted::read(chain_id, image, manifest, labels.get(LAYER)))
    }

    fn read(
        chain_id: &str,
        image: &str,
        manifest: &str,
        layer: Option<&String>,
    ) -> Result<Wanted, String> {
        let digest = |label: &str, text: &str| {
            let digest = text.parse::<Digest>();
            digest.map_err(|e| format!("the label {label} is no digest: {e}"))
        };
        let layer = layer.map(|layer| digest(LAYER, layer)).transpose()?;
        let manifest = digest(MANIFEST, manifest)?;
        let image = match image.parse::<ImageName>() {
            Ok(ImageName::Registry(name)) => {
                format!("{}/{}@{manifest}", name.registry(), name.repository())
            }
            Ok(_) => {
                return Err(format!("the label {IMAGE} names no image of a registry: {image}"));
            }
            Err(e) => return Err(format!("the label {IMAGE} is no reference: {e}")),
        };
        Ok(Wanted { chain_id: digest(CHAIN_ID, chain_id)?, image, layer })
    }

    pub(crate) fn image(&self) -> &str {
        &self.image
    }

    pub(crate) fn chain_id(&self) -> String {
        self.chain_id.to_string()
    }

    /// The layers of the image that have the chain ID.
    pub(crate) fn within(&self, image: &Image, below: Below<'_>) -> Result<Remote, String> {
        let Wanted { chain_id, image: name, layer } = self;
        let found = image.chain.iter().position(|id| id.0 == *chain_id);
        let at = found.ok_or_else(|| {
            format!("{name} has no layer with the chain ID {chain_id}: labels and image do not fit")
        })?;
        if let Some(layer) = layer.filter(|layer| image.layers[at] != *layer) {
            let has = image.layers[at];
            return Err(format!("the layer {chain_id} of {name} is {has}, not {layer}"));
        }
        let before = at.checked_sub(1).map(|before| image.chain[before].to_string());
        let fits = match (below, &before) {
            (Below::Nothing, None) | (Below::Directory, Some(_)) => true,
            (Below::Tree(parent), Some(before)) => parent == before,
            _ => false,
        };
        if !fits {
            return Err(format!("the parent is not what {name} has below {chain_id}"));
        }
        Ok(image.lowest(at + 1))
    }
}

/// What is known of an image.
#[derive(Clone, Debug)]
pub(crate) struct Image {
    name: String,
    chain: Vec<ChainId>,
    layers: Vec<Digest>,
}

/// What `ocifs inspect --json` says.
#[derive(Deserialize)]
struct Inspected {
    digest: Option<Digest>,
    #[serde(default)]
    layers: Vec<InspectedLayer>,
}

#[derive(Deserialize)]
struct InspectedLayer {
    digest: Digest,
    diff_id: Option<Digest>,
}

impl Image {
    fn read(name: &str, json: &[u8]) -> Result<Image, String> {
        let inspected: Inspected = serde_json::from_slice(json)
            .map_err(|e| format!("what `ocifs` says of {name} can't be read: {e}"))?;
        let is_it = inspected.digest.is_some_and(|digest| name.ends_with(&format!("@{digest}")));
        if !is_it {
            return Err(format!("{name} is not the manifest of an image for this machine"));
        }
        let diff_ids = inspected.layers.iter().map(|layer| layer.diff_id.map(DiffId));
        let diff_ids: Option<Vec<DiffId>> = diff_ids.collect();
        let diff_ids = diff_ids.ok_or_else(|| format!("{name} is no container image"))?;
        let layers = inspected.layers.iter().map(|layer| layer.digest).collect();
        Ok(Image { name: name.to_owned(), chain: ChainId::of_layers(&diff_ids), layers })
    }

    fn lowest(&self, count: usize) -> Remote {
        let chain_id = self.chain[count - 1].to_string();
        Remote { image: self.name.clone(), chain_id, count, layers: self.chain.len() }
    }
}

/// Images, each resolved and opened by one call at a time.
#[derive(Debug)]
pub(crate) struct Images {
    program: Program,
    known: Mutex<HashMap<String, Arc<Mutex<Known>>>>,
    /// How many are being opened.
    opening: AtomicUsize,
}

#[derive(Debug, Default)]
struct Known {
    image: Option<Arc<Image>>,
    opened: Option<Instant>,
    failed: Option<(Instant, String)>,
}

impl Images {
    pub(crate) fn new(program: Program) -> Images {
        Images { program, known: Mutex::default(), opening: AtomicUsize::new(0) }
    }

    /// An image that `open` has opened: all of it can be shown.
    pub(crate) fn opened(
        &self,
        name: &str,
        open: impl FnOnce(&Remote) -> Result<(), String>,
    ) -> Result<Arc<Image>, String> {
        let known = self.known(name);
        let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, why)) = known.failed.as_ref().filter(|(when, _)| when.elapsed() < PAUSE) {
            return Err(format!("{why} (a moment ago)"));
        }
        self.opening.fetch_add(1, Ordering::Relaxed);
        let result = self.open(name, &mut known, open);
        self.opening.fetch_sub(1, Ordering::Relaxed);
        known.failed = result.as_ref().err().map(|why| (Instant::now(), why.clone()));
        result
    }

    /// How many images are being opened.
    pub(crate) fn opening(&self) -> usize {
        self.opening.load(Ordering::Relaxed)
    }

    fn open(
        &self,
        name: &str,
        known: &mut Known,
        open: impl FnOnce(&Remote) -> Result<(), String>,
    ) -> Result<Arc<Image>, String> {
        let image = match &known.image {
            Some(image) => Arc::clone(image),
            None => {
                let json = self.program.on_image("inspect", &["--json"], name, &[])?;
                Arc::clone(known.image.insert(Arc::new(Image::read(name, &json)?)))
            }
        };
        if known.opened.is_none_or(|when| when.elapsed() >= OPEN) {
            if !image.chain.is_empty() {
                open(&image.lowest(image.chain.len()))?;
            }
            known.opened = Some(Instant::now());
        }
        Ok(image)
    }

    fn known(&self, name: &str) -> Arc<Mutex<Known>> {
        let mut all = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= MAX_IMAGES && !all.contains_key(name) {
            all.clear();
        }
        Arc::clone(all.entry(name.to_owned()).or_default())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn digest(text: &str) -> Digest {
        Digest::sha256(text.as_bytes())
    }

    fn image() -> Image {
        let diff_ids = ["a", "b"].map(|text| DiffId(digest(text)));
        let layers = ["x", "y"].map(digest).to_vec();
        Image { name: name(), chain: ChainId::of_layers(&diff_ids), layers }
    }

    fn name() -> String {
        format!("r.example/app@{}", digest("manifest"))
    }

    fn labels(chain_id: &str, layer: &str) -> Labels {
        let rows = [
            (CHAIN_ID, chain_id.to_owned()),
            (IMAGE, "r.example/app:1".to_owned()),
            (MANIFEST, digest("manifest").to_string()),
            (LAYER, digest(layer).to_string()),
        ];
        rows.map(|(label, value)| (label.to_owned(), value)).into()
    }

    #[test]
    fn images_are_named_by_their_manifests() {
        let chain_id = digest("a").to_string();
        let wanted = Wanted::of(&labels(&chain_id, "x")).unwrap().unwrap();
        assert_eq!(wanted.image(), name());
        for (given, expected) in [
            ("app", "docker.io/library/app"),
            (
                "r.example:5000/a/b:1@sha256:0000000000000000000000000000000000000000000000000000000000000000",
                "r.example:5000/a/b",
            ),
        ] {
            let mut labels = labels(&chain_id, "x");
            labels.insert(IMAGE.to_owned(), given.to_owned());
            let wanted = Wanted::of(&labels).unwrap().unwrap();
            assert_eq!(wanted.image(), format!("{expected}@{}", digest("manifest")));
        }
    }

    #[test]
    fn without_labels_nothing_is_wanted() {
        for missing in [CHAIN_ID, IMAGE, MANIFEST] {
            let mut labels = labels(&digest("a").to_string(), "x");
            labels.remove(missing);
            assert_eq!(Wanted::of(&labels), None, "{missing}");
        }
        let mut labels = labels(&digest("a").to_string(), "x");
        labels.remove(LAYER);
        assert!(Wanted::of(&labels).unwrap().is_ok());
    }

    #[test]
    fn labels_that_are_something_else_are_refused() {
        for (label, value) in [
            (CHAIN_ID, "sha256:ab"),
            (CHAIN_ID, "../../etc"),
            (MANIFEST, "latest"),
            (LAYER, ""),
            (IMAGE, "r.example/../../etc"),
            (IMAGE, "/etc/passwd"),
            (IMAGE, "oci:/srv/layout"),
            (IMAGE, "docker-daemon:app"),
            (IMAGE, "--creds=a:b"),
            (IMAGE, ""),
        ] {
            let mut labels = labels(&digest("a").to_string(), "x");
            labels.insert(label.to_owned(), value.to_owned());
            assert!(Wanted::of(&labels).unwrap().is_err(), "{label}={value}");
        }
    }

    #[test]
    fn a_chain_id_is_of_the_image_and_of_its_place() {
        let image = image();
        let [first, second] = [0, 1].map(|at| image.chain[at].to_string());
        let within = |chain_id: &str, layer: &str, below: Below<'_>| {
            Wanted::of(&labels(chain_id, layer)).unwrap().unwrap().within(&image, below)
        };
        let lowest = within(&first, "x", Below::Nothing).unwrap();
        assert_eq!((lowest.count, lowest.layers, &lowest.chain_id), (1, 2, &first));
        let all = within(&second, "y", Below::Tree(&first)).unwrap();
        assert_eq!((all.count, all.image), (2, name()));
        assert!(within(&second, "y", Below::Directory).is_ok());
        let other = digest("b").to_string();
        for (chain_id, layer, below) in [
            // The diff ID of the second layer, not its chain ID.
            (&other, "y", Below::Nothing),
            (&first, "y", Below::Nothing),
            (&first, "x", Below::Tree(&first)),
            (&first, "x", Below::Directory),
            (&second, "y", Below::Nothing),
            (&second, "y", Below::Tree(&second)),
            (&second, "x", Below::Tree(&first)),
        ] {
            assert!(within(chain_id, layer, below).is_err(), "{chain_id} {layer} {below:?}");
        }
    }

    #[test]
    fn another_image_is_not_taken_for_it() {
        let json = |manifest: &str, diff_id: Option<Digest>| {
            let layer = serde_json::json!({ "digest": digest("x"), "diff_id": diff_id });
            serde_json::json!({ "digest": digest(manifest), "layers": [layer] }).to_string()
        };
        let read = |json: &str| Image::read(&name(), json.as_bytes());
        assert_eq!(read(&json("manifest", Some(digest("a")))).unwrap().chain.len(), 1);
        assert!(read(&json("other", Some(digest("a")))).is_err());
        assert!(read(&json("manifest", None)).is_err());
        assert!(read("{\"digest\": null}").is_err());
        assert!(read("no JSON").is_err());
    }

    #[test]
    fn what_failed_is_not_tried_for_each_layer() {
        let images = Images::new(Program::new("/nonexistent/ocifs".into(), Vec::new()));
        let failed = images.opened("a", |_| Ok(())).unwrap_err();
        assert!(failed.contains("can't be run"), "{failed}");
        let again = images.opened("a", |_| Ok(())).unwrap_err();
        assert!(again.ends_with("(a moment ago)"), "{again}");
    }
}
