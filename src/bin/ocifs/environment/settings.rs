//! The user's settings: `ocifs/config.toml` below the configuration folder.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::PathBuf;

use ocifs::reference::ImageName;
use serde::Deserialize;

use crate::args::{ImageArgs, RequiredProof};
use crate::render::errors::AnyError;
use crate::variables::config_home;

/// The user's settings, from `ocifs/config.toml` below the configuration folder:
///
/// ```toml
/// content-stores = ["/srv/containerd"]
/// proof = "full"
/// check-access = true
///
/// [registry."registry.example:5000"]
/// trust-referrers = true
/// ```
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Settings {
    /// Instead of the usual roots of containerd.
    pub(super) content_stores: Option<Vec<PathBuf>>,
    /// What has to be proven: `full`, `any` or `transport`.
    proof: Option<String>,
    /// Whether the registry is asked for each layer before anything is shown.
    #[serde(default)]
    pub(super) check_access: bool,
    #[serde(default)]
    registry: HashMap<String, RegistrySettings>,
}

/// Settings for one registry, by its host as it stands in references.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct RegistrySettings {
    #[serde(default)]
    trust_referrers: bool,
}

impl Settings {
    /// Their file; `None` where there is no place for one.
    pub(crate) fn path() -> Option<PathBuf> {
        config_home().map(|folder| folder.join("ocifs/config.toml"))
    }

    /// Reads the settings; there need be none.
    ///
    /// # Errors
    /// The file can't be read, or holds something else.
    pub(crate) fn read() -> Result<Settings, AnyError> {
        let Some(path) = Settings::path() else { return Ok(Settings::default()) };
        match fs::read_to_string(&path) {
            Ok(text) => toml::from_str(&text)
                .map_err(|e| format!("settings {}: {}", path.display(), e.message()).into()),
            Err(e)
                if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) =>
            {
                Ok(Settings::default())
            }
            Err(e) => Err(format!("settings {}: {e}", path.display()).into()),
        }
    }

    /// What the user wants to be proven of images: what the flag or the variable says, or else the settings.
    ///
    /// # Errors
    /// The settings name no proof.
    pub(crate) fn required_proof(&self, args: &ImageArgs) -> Result<RequiredProof, AnyError> {
        let set = RequiredProof::parse(self.proof.as_deref().unwrap_or_default());
        let set = set.map_err(|e| format!("settings: proof: {e}"))?;
        Ok(args.proof.unwrap_or_default().or(set))
    }

    pub(super) fn trusts_referrers(&self, name: &ImageName) -> bool {
        match name {
            ImageName::Registry(reference) => {
                self.registry.get(reference.registry()).is_some_and(|r| r.trust_referrers)
            }
            ImageName::Local(_) | ImageName::Stored(_) => false,
        }
    }
}
