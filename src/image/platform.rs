//! Platforms and how one is chosen from an image index.
//!
//! The rules are containerd's (`containerd/platforms`): names are normalised, a CPU runs what its
//! older variants run, and the best match wins. As nothing is executed here, two things are
//! relaxed, both with a warning: where there is no match, a newer variant of the wanted
//! architecture will do ([`Platform::relaxed_rank`]), and an index with a single image is accepted
//! whatever its platform when the user named none.

use std::fmt;
use std::str::FromStr;

use serde::Deserialize;

use super::null_is_default;

/// Operating system, architecture and variant, normalised.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Hash)]
pub struct Platform {
    /// `linux`, `windows`, …
    #[serde(default, deserialize_with = "null_is_default")]
    pub os: String,
    /// Go's name of the architecture: `amd64`, `arm64`, …
    #[serde(default, deserialize_with = "null_is_default")]
    pub architecture: String,
    /// `v7`, `v8`, … or empty.
    #[serde(default, deserialize_with = "null_is_default")]
    pub variant: String,
    /// Windows' build number.
    #[serde(default, rename = "os.version", deserialize_with = "null_is_default")]
    pub os_version: String,
    /// What else the image needs of the system, such as `win32k`, or a snapshotter of its own.
    #[serde(default, rename = "os.features", deserialize_with = "null_is_default")]
    pub os_features: Vec<String>,
}

impl Platform {
    /// The platform this program was compiled for; what an engine here would run.
    pub fn host() -> Platform {
        let architecture = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            "x86" => "386",
            "powerpc64" => "ppc64le",
            "loongarch64" => "loong64",
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
        let image = self.same_system(image)?;
        if image.os_features.iter().any(|feature| !self.os_features.contains(feature)) {
            return None;
        }
        let (wanted, have) = (self.level(), image.level());
        match (self.architecture.as_str(), image.architecture.as_str()) {
            ("amd64", "amd64") | ("arm64", "arm64") | ("arm", "arm") => not_above(wanted?, have?),
            ("amd64", "386") => Some(100),
            // An arm64 CPU runs what is for version 8 of the 32-bit architecture or older.
            ("arm64", "arm") => not_above(8, have?).map(|rank| rank + 100),
            (wanted, have) if wanted == have => {
                (self.variant.is_empty() || self.variant == image.variant).then_some(0)
            }
            _ => None,
        }
    }

    /// The same where nothing has a [`Platform::rank`] and nothing is going to be executed: any
    /// variant and any features of the wanted system and architecture.
    pub fn relaxed_rank(&self, image: &Platform) -> Option<u32> {
        let image = self.same_system(image)?;
        let rank = image.level().unwrap_or(u32::MAX / 2);
        (self.architecture == image.architecture)
            .then_some(rank.saturating_add(image.os_features.len() as u32))
    }

    /// The other platform, normalised, if it is of the same operating system and version.
    fn same_system(&self, image: &Platform) -> Option<Platform> {
        let mut image = image.clone();
        image.normalise();
        let is_version = self.os_version.is_empty() || self.os_version == image.os_version;
        (self.os == image.os && is_version).then_some(image)
    }

    /// A number that grows with the variant, within the architecture; `None` for unknown words.
    fn level(&self) -> Option<u32> {
        let number = self.variant.strip_prefix('v').unwrap_or(&self.variant);
        let (major, minor) = number.split_once('.').unwrap_or((number, "0"));
        let default = match self.architecture.as_str() {
            "arm64" => 8,
            "arm" => 7,
            _ => 1,
        };
        let major: u32 = if major.is_empty() { default } else { major.parse().ok()? };
        let minor: u32 = minor.parse().ok()?;
        if major > 100 || minor > 100 {
            return None;
        }
        match (self.architecture.as_str(), major) {
            // Version 9.0 has what 8.5 has, and so on; of two that are equal, 9 is nearer to 9.
            ("arm64", 8) => Some(2 * minor),
            ("arm64", 9..) => Some(2 * (minor + 5 * (major - 8)) + 1),
            ("arm64", _) => None,
            _ => Some(major),
        }
    }
}

fn not_above(wanted: u32, have: u32) -> Option<u32> {
    wanted.checked_sub(have)
}

/// Why a text is not a platform.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "`{0}` is not a platform: write `os/architecture`, `os/architecture/variant` or \
     `os(version)/architecture`"
)]
pub struct ParsePlatformError(String);

impl FromStr for Platform {
    type Err = ParsePlatformError;

    /// `linux/arm64/v8`, `linux/amd64`, an architecture alone (then `linux`), or, as containerd
    /// writes it, `windows(10.0.17763)/amd64`.
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
        let (os, version) = match os.strip_suffix(')').and_then(|os| os.split_once('(')) {
            Some((os, version)) if word(version) => (os, version),
            _ => (os, ""),
        };
        if !word(os) || !word(architecture) || (parts.len() == 3 && !word(variant)) {
            return Err(ParsePlatformError(text.to_owned()));
        }
        let mut platform = Platform {
            os: os.to_owned(),
            architecture: architecture.to_owned(),
            variant: variant.to_owned(),
            os_version: version.to_owned(),
            os_features: Vec::new(),
        };
        platform.normalise();
        Ok(platform)
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let or_unknown = |s: &str| if s.is_empty() { "unknown".to_owned() } else { s.to_owned() };
        f.write_str(&or_unknown(&self.os))?;
        if !self.os_version.is_empty() {
            write!(f, "({})", self.os_version)?;
        }
        write!(f, "/{}", or_unknown(&self.architecture))?;
        if !self.variant.is_empty() {
            write!(f, "/{}", self.variant)?;
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
                ..Platform::default()
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
        assert_eq!(rank("linux/arm64", "linux/arm/v7"), Some(101));
        assert_eq!(rank("linux/arm64/v9", "linux/arm64/v8.5"), Some(1));
        assert_eq!(rank("linux/arm64/v9", "linux/arm64/v8.6"), None);
        assert_eq!(rank("linux/arm64/v8.2", "linux/arm64"), Some(4));
        assert_eq!(rank("linux/arm64", "linux/arm64/v9"), None);
        assert_eq!(rank("linux/arm64", "linux/arm64/v99999999999"), None);
        assert_eq!(rank("linux/amd64", "linux/amd64/weird"), None);
    }

    #[test]
    fn relaxed_ranks() {
        let platform = |text: &str| text.parse::<Platform>().unwrap();
        let rank = |wanted: &str, have: &str| platform(wanted).relaxed_rank(&platform(have));
        assert!(rank("linux/amd64", "linux/amd64/v2") < rank("linux/amd64", "linux/amd64/v3"));
        assert!(rank("linux/amd64", "linux/amd64/v3") < rank("linux/amd64", "linux/amd64/weird"));
        assert_eq!(rank("linux/amd64", "linux/386"), None);
        assert_eq!(rank("linux/amd64", "windows/amd64"), None);
        let special =
            Platform { os_features: vec!["x.remoteimage".to_owned()], ..platform("linux/amd64") };
        assert_eq!(platform("linux/amd64").rank(&special), None);
        assert!(
            platform("linux/amd64").relaxed_rank(&special) > rank("linux/amd64", "linux/amd64")
        );
        assert_eq!(special.rank(&special), Some(0));
    }

    #[test]
    fn texts() {
        let nulls = r#"{"os":"linux","architecture":"arm","variant":null,"os.features":null}"#;
        let platform: Platform = serde_json::from_str(nulls).unwrap();
        assert_eq!(platform.to_string(), "linux/arm");
        assert_eq!("arm64".parse::<Platform>().unwrap().to_string(), "linux/arm64");
        assert_eq!("linux/armhf".parse::<Platform>().unwrap().to_string(), "linux/arm/v7");
        let windows = "windows(10.0.17763)/amd64";
        assert_eq!(windows.parse::<Platform>().unwrap().to_string(), windows);
        for bad in ["", "/", "a/b/c/d", "linux/", "linux/a b", "linux()/a", "(1)/a", "a(1/b"] {
            assert!(bad.parse::<Platform>().is_err(), "{bad}");
        }
    }
}
