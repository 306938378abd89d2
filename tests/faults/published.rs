//! An image in a registry, and a home whose cache does not have it.

use std::fs;
use std::path::PathBuf;

use crate::shell::{Home, Outcome};
use crate::support::image::Built;
use crate::support::registry::Registry;

/// A home, and an image in a registry.
pub struct Published {
    pub home: Home,
    pub registry: Registry,
    pub name: String,
}

impl Published {
    pub fn new(built: &Built) -> Published {
        let registry = Registry::start();
        registry.add_image("r", "t", built);
        let name = format!("{}/r:t", registry.addr());
        Published { home: Home::new(), registry, name }
    }

    /// Runs the program on the image, its flags behind the verb; the registry's log begins anew.
    pub fn run(&self, verb: &[&str], flags: &[&str]) -> Outcome {
        self.registry.clear_log();
        self.home.run(&[verb, &[&self.name], flags].concat())
    }

    /// How often the last run asked for a digest, and the bytes that it was sent.
    pub fn asked_of(&self, digest: &str) -> (usize, u64) {
        let asked = self.registry.requests().into_iter();
        let asked = asked.filter(|request| request.path.ends_with(digest));
        asked.fold((0, 0), |(n, bytes), request| (n + 1, bytes + request.body_bytes_sent))
    }

    /// The digest of the topmost layer's blob.
    pub fn layer(&self) -> String {
        let manifest = self.registry.manifest("r", "t").unwrap();
        let manifest: serde_json::Value = serde_json::from_slice(&manifest).unwrap();
        let layers = manifest["layers"].as_array().unwrap();
        layers.last().unwrap()["digest"].as_str().unwrap().to_owned()
    }

    /// Empties the cache.
    pub fn forget(&self) {
        let _ = fs::remove_dir_all(self.home.path().join("cache"));
    }

    /// Writes the user's settings; their place.
    pub fn configure(&self, text: &str) -> PathBuf {
        self.home.configure(text)
    }
}
