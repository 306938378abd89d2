//! Platforms and how one is chosen from an image index.
//!
//! The rules are containerd's (`containerd/platforms`): names are normalised, a CPU runs what its
//! older variants run, and the best match wins. One relaxation: as nothing is executed here, an
//! index with a single image is accepted whatever its platform when the user named none.

use std::fmt;
use std::str::FromStr;

use serde::Deserialize;

/// Operating system, architecture and variant, normalised.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Hash)]
pub struct Platform {
    /// `linux`, `windows`, …
    #[serde(default)]
    pub os: String,
    /// Go's name of the architecture: `amd64`, `arm64`, …
    #[serde(default)]
    pub architecture: String,
    /// `v7`, `v8`, … or empty.
    #[serde(default)]
    pub variant: String,
    /// Windows' build number.
    #[serde(default, rename = "os.version")]
    pub os_version: String,
}

impl Platform {
    /// The platform this program was compiled for; what an engine here would run.
    pub fn host() -> Platform {
        let architecture = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            "x86" => "386",
            "powerpc64" => "ppc64le",
            other => other,
        };
        let mut platform = Platform {
            os: "linux".to_owned(),
            architecture: architecture.to_owned(),
            ..Platform::default()
        };
        platform.normalise();
        platform
    }

    /// Whether neither field is set to something real, as attestations are marked.
    pub fn is_unknown(&self) -> bool {
        let unknown = |s: &str| s.is_empty() || s == "unknown";
        unknown(&self.os) && unknown(&self.architecture)
    }

    /// Rewrites aliases to Go's names and drops default variants.
    pub fn normalise(&mut self) {
        self.os.make_ascii_lowercase();
        self.architecture.make_ascii_lowercase();
        self.variant.make_ascii_lowercase();
        if self.os == "macos" {
            self.os = "darwin".to_owned();
        }
        if self.variant.bytes().next().is_some_and(|b| b.is_ascii_digit()) {
            self.variant.insert(0, 'v');
        }
        let (architecture, variant) = match (self.architecture.as_str(), self.variant.as_str()) {
            ("i386", _) => ("386", ""),
            ("x86_64" | "x86-64" | "amd64", "v1") => ("amd64", ""),
            ("x86_64" | "x86-64", v) => ("amd64", v),
            ("aarch64" | "arm64", "v8" | "v8.0") => ("arm64", ""),
            ("aarch64", v) => ("arm64", v),
            ("armhf", _) | ("arm", "") => ("arm", "v7"),
            ("armel", _) => ("arm", "v6"),
            (a, v) => (a, v),
        };
        let (architecture, variant) = (architecture.to_owned(), variant.to_owned());
        self.architecture = architecture;
        self.variant = variant;
    }

    /// How well an image of platform `image` serves where `self` is wanted: smaller is better,
    /// `None` is not at all.
    pub fn rank(&self, image: &Platform) -> Option<u32> {
        let mut image = image.clone();
        image.normalise();
        if self.os != image.os
            || (!self.os_version.is_empty() && self.os_version != image.os_version)
        {
            return None;
        }
        let level = |variant: &str, default: u32| {
            let number = variant.strip_prefix('v').unwrap_or(variant);
            let major = number.split('.').next().unwrap_or_default();
            if major.is_empty() { Some(default) } else { major.parse().ok() }
        };
        match (self.architecture.as_str(), image.architecture.as_str()) {
            ("amd64", "amd64") => not_above(level(&self.variant, 1)?, level(&image.variant, 1)?),
            ("amd64", "386") => Some(100),
            ("arm64", "arm64") => not_above(level(&self.variant, 8)?, level(&image.variant, 8)?),
            ("arm64", "arm") => not_above(8, level(&image.variant, 7)?).map(|rank| rank + 100),
            ("arm", "arm") => not_above(level(&self.variant, 7)?, level(&image.variant, 7)?),
            (wanted, have) if wanted == have => {
                (self.variant.is_empty() || self.variant == image.variant).then_some(0)
            }
            _ => None,
        }
    }
}

fn not_above(wanted: u32, have: u32) -> Option<u32> {
    wanted.checked_sub(have)
}

/// Why a text is not a platform.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("`{0}` is not a platform: write `os/architecture` or `os/architecture/variant`")]
pub struct ParsePlatformError(String);

impl FromStr for Platform {
    type Err = ParsePlatformError;

    /// `linux/arm64/v8`, `linux/amd64`, or an architecture alone (then `linux`).
    fn from_str(text: &str) -> Result<Platform, ParsePlatformError> {
        let parts: Vec<&str> = text.split('/').collect();
        let (os, architecture, variant) = match parts[..] {
            [architecture] => ("linux", architecture, ""),
            [os, architecture] => (os, architecture, ""),
            [os, architecture, variant] => (os, architecture, variant),
            _ => return Err(ParsePlatformError(text.to_owned())),
        };
        let word = |s: &str| {
            !s.is_empty() && s.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-.".contains(&b))
        };
        if !word(os) || !word(architecture) || (parts.len() == 3 && !word(variant)) {
            return Err(ParsePlatformError(text.to_owned()));
        }
        let mut platform = Platform {
            os: os.to_owned(),
            architecture: architecture.to_owned(),
            variant: variant.to_owned(),
            os_version: String::new(),
        };
        platform.normalise();
        Ok(platform)
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let or_unknown = |s: &str| if s.is_empty() { "unknown".to_owned() } else { s.to_owned() };
        write!(f, "{}/{}", or_unknown(&self.os), or_unknown(&self.architecture))?;
        if !self.variant.is_empty() {
            write!(f, "/{}", self.variant)?;
        }
        if !self.os_version.is_empty() {
            write!(f, " ({})", self.os_version)?;
        }
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn ranks() {
        let rank = |wanted: &str, have: &str| {
            let have: Vec<&str> = have.split('/').collect();
            let have = Platform {
                os: have[0].into(),
                architecture: have[1].into(),
                variant: have.get(2).copied().unwrap_or_default().into(),
                os_version: String::new(),
            };
            wanted.parse::<Platform>().unwrap().rank(&have)
        };
        assert_eq!(rank("linux/amd64", "linux/amd64"), Some(0));
        assert_eq!(rank("amd64", "linux/x86_64/v1"), Some(0));
        assert_eq!(rank("linux/amd64", "linux/amd64/v2"), None);
        assert_eq!(rank("linux/amd64/v3", "linux/amd64/v2"), Some(1));
        assert_eq!(rank("linux/amd64", "linux/386"), Some(100));
        assert_eq!(rank("linux/arm64", "linux/arm64/v8"), Some(0));
        assert_eq!(rank("linux/aarch64/8", "linux/arm64"), Some(0));
        assert_eq!(rank("linux/arm/v7", "linux/arm/v6"), Some(1));
        assert_eq!(rank("linux/arm/v6", "linux/arm/v7"), None);
        assert_eq!(rank("linux/amd64", "windows/amd64"), None);
        assert_eq!(rank("linux/s390x", "linux/s390x"), Some(0));
    }

    #[test]
    fn texts() {
        assert_eq!("arm64".parse::<Platform>().unwrap().to_string(), "linux/arm64");
        assert_eq!("linux/armhf".parse::<Platform>().unwrap().to_string(), "linux/arm/v7");
        for bad in ["", "/", "a/b/c/d", "linux/", "linux/a b"] {
            assert!(bad.parse::<Platform>().is_err(), "{bad}");
        }
    }
}
