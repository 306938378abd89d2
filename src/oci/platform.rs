//! Platforms and how one is chosen from an image index.
//!
//! The rules are containerd's (`containerd/platforms`): names are normalised, a CPU runs what its
//! older variants run, and the best match wins. As nothing is executed here, two things are
//! relaxed, both with a warning: where there is no match, a newer variant of the wanted
//! architecture will do ([`Platform::relaxed_rank`]), and an index with a single image is accepted
//! whatever its platform when the user named none.

use std::fmt;
use std::str::FromStr;

use serde::de::{SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use crate::json::{self, Attempt};

/// Added to the rank of an image of a part of the wanted version.
const PART_OF_VERSION: u32 = 1000;

/// Characters shown of each part.
const MAX_SHOWN_CHARS: usize = 100;

/// Operating system, architecture and variant, normalised.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Hash)]
pub struct Platform {
    /// `linux`, `windows`, …
    #[serde(default, deserialize_with = "json::or_default")]
    pub os: String,
    /// Go's name of the architecture: `amd64`, `arm64`, …
    #[serde(default, deserialize_with = "json::or_default")]
    pub architecture: String,
    /// `v7`, `v8`, … or empty.
    #[serde(default, deserialize_with = "json::or_default")]
    pub variant: String,
    /// Windows' build number, or what else there is: `macOS 14`, `Ubuntu 22.04.5 LTS`.
    #[serde(default, rename = "os.version", deserialize_with = "json::or_default")]
    pub os_version: String,
    /// What else the image needs of the system, such as `win32k`, or a snapshotter of its own.
    #[serde(default, rename = "os.features", deserialize_with = "features")]
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
        let (image, distance) = self.same_system(image)?;
        if image.os_features.iter().any(|feature| !self.os_features.contains(feature)) {
            return None;
        }
        let (wanted, have) = (self.level(), image.level());
        let rank = match (self.architecture.as_str(), image.architecture.as_str()) {
            ("amd64", "amd64") | ("arm64", "arm64") | ("arm", "arm") => not_above(wanted?, have?),
            ("amd64", "386") => Some(100),
            // An arm64 CPU runs what is for version 8 of the 32-bit architecture or older.
            ("arm64", "arm") => not_above(8, have?).map(|rank| rank + 100),
            (wanted, have) if wanted == have => {
                (self.variant.is_empty() || self.variant == image.variant).then_some(0)
            }
            _ => None,
        };
        Some(rank? + distance)
    }

    /// The same where nothing has a [`Platform::rank`] and nothing is going to be executed: any
    /// variant and any features of the wanted system and architecture.
    pub fn relaxed_rank(&self, image: &Platform) -> Option<u32> {
        let (image, distance) = self.same_system(image)?;
        let rank = image.level().unwrap_or(u32::MAX / 2).saturating_add(distance);
        (self.architecture == image.architecture)
            .then_some(rank.saturating_add(image.os_features.len() as u32))
    }

    /// The other platform, normalised, if it is of the same operating system and of the wanted
    /// version, and what is to be added to its rank if it is of a part of that version only, as
    /// `10.0.17763.737` is of `10.0.17763`.
    fn same_system(&self, image: &Platform) -> Option<(Platform, u32)> {
        let mut image = image.clone();
        image.normalise();
        let wanted = self.os_version.trim().to_lowercase();
        let have = image.os_version.trim().to_lowercase();
        let distance = match have.strip_prefix(&wanted) {
            _ if wanted.is_empty() => 0,
            Some("") => 0,
            Some(rest) if rest.starts_with('.') => PART_OF_VERSION,
            _ => return None,
        };
        (self.os == image.os).then_some((image, distance))
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
#[allow(missing_docs, reason = "the messages are the documentation")]
pub enum ParsePlatformError {
    #[error(
        "`{0}` is not a platform: write `os/architecture`, `os/architecture/variant` or \
         `os(version)/architecture`"
    )]
    Form(String),
    #[error("`{os}` is an operating system alone: add the architecture, as in `{os}/{example}`")]
    NoArchitecture { os: String, example: String },
    #[error("`{text}` has the architecture first: write `{os}/{architecture}`")]
    Swapped { text: String, os: String, architecture: String },
}

/// Operating systems, as Go names them, that are no architectures.
const SYSTEMS: [&str; 17] = [
    "aix",
    "android",
    "darwin",
    "dragonfly",
    "freebsd",
    "illumos",
    "ios",
    "js",
    "linux",
    "macos",
    "netbsd",
    "openbsd",
    "plan9",
    "solaris",
    "wasip1",
    "windows",
    "zos",
];

fn is_system(os: &str) -> bool {
    SYSTEMS.iter().any(|system| os.eq_ignore_ascii_case(system))
}

impl FromStr for Platform {
    type Err = ParsePlatformError;

    /// `linux/arm64/v8`, `linux/amd64`, an architecture alone (then `linux`), or, as containerd
    /// writes it, `windows(10.0.17763)/amd64`. What a platform prints as is read again, whatever an
    /// image has for a version.
    fn from_str(text: &str) -> Result<Platform, ParsePlatformError> {
        let form = || ParsePlatformError::Form(text.to_owned());
        let (os, version, rest) = match text.split_once('(') {
            Some((os, rest)) => {
                let (version, rest) = rest.rsplit_once(")/").ok_or_else(form)?;
                (os, Some(version.trim()), rest)
            }
            None => match text.split_once('/') {
                Some((os, rest)) => (os, None, rest),
                None if is_system(text) => (text, None, ""),
                None => ("linux", None, text),
            },
        };
        if rest.is_empty() && is_system(os) && !text.is_empty() {
            let (os, example) = (os.to_owned(), Platform::host().architecture);
            return Err(ParsePlatformError::NoArchitecture { os, example });
        }
        let (architecture, variant) = match rest.split_once('/') {
            Some((architecture, variant)) => (architecture, Some(variant)),
            None => (rest, None),
        };
        let word = |s: &str| {
            !s.is_empty() && s.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-.".contains(&b))
        };
        let is_version = |s: &str| !s.is_empty() && !s.contains(char::is_control);
        if ![os, architecture].into_iter().chain(variant).all(word)
            || !version.is_none_or(is_version)
        {
            return Err(form());
        }
        if is_system(architecture) && !is_system(os) {
            let (text, os, architecture) =
                (text.to_owned(), architecture.to_owned(), os.to_owned());
            return Err(ParsePlatformError::Swapped { text, os, architecture });
        }
        let mut platform = Platform {
            os: os.to_owned(),
            architecture: architecture.to_owned(),
            variant: variant.unwrap_or_default().to_owned(),
            os_version: version.unwrap_or_default().to_owned(),
            os_features: Vec::new(),
        };
        platform.normalise();
        Ok(platform)
    }
}

/// A list of features; one alone may stand for the list, and anything else for an empty one.
pub(super) fn features<'de, D>(deserializer: D) -> Result<Vec<String>, D::Error>
where
    D: Deserializer<'de>,
{
    struct OneOrMore;
    impl<'de> Visitor<'de> for OneOrMore {
        type Value = Vec<String>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a list of features")
        }

        fn visit_str<E>(self, one: &str) -> Result<Vec<String>, E> {
            Ok(vec![one.to_owned()])
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Vec<String>, A::Error> {
            let mut features = Vec::new();
            while let Some(Attempt(feature)) = list.next_element::<Attempt<String>>()? {
                features.extend(feature.ok().filter(|feature| !feature.is_empty()));
            }
            Ok(features)
        }
    }
    Ok(deserializer.deserialize_any(OneOrMore).unwrap_or_default())
}

impl fmt::Display for Platform {
    /// Without its features, and in one line of printable characters.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let or_unknown = |s: &str| if s.is_empty() { "unknown".to_owned() } else { printable(s) };
        f.write_str(&or_unknown(&self.os))?;
        if !self.os_version.is_empty() {
            write!(f, "({})", printable(&self.os_version))?;
        }
        write!(f, "/{}", or_unknown(&self.architecture))?;
        if !self.variant.is_empty() {
            write!(f, "/{}", printable(&self.variant))?;
        }
        Ok(())
    }
}

fn printable(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(MAX_SHOWN_CHARS).collect()
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
        let platform: Platform = json::from_slice(nulls.as_bytes()).unwrap();
        assert_eq!(platform.to_string(), "linux/arm");
        assert_eq!("arm64".parse::<Platform>().unwrap().to_string(), "linux/arm64");
        assert_eq!("linux/armhf".parse::<Platform>().unwrap().to_string(), "linux/arm/v7");
        let windows = "windows(10.0.17763)/amd64";
        assert_eq!(windows.parse::<Platform>().unwrap().to_string(), windows);
        for text in [
            "darwin(macOS 14)/arm64",
            "darwin(macOS 14.2 (23C64)/beta+1)/arm64/v8.5",
            "linux(Ubuntu 22.04.5 LTS)/amd64",
            "windows(10.0.17763+win32k)/amd64",
        ] {
            assert_eq!(text.parse::<Platform>().unwrap().to_string(), text);
        }
        assert_eq!("Linux/AMD64".parse::<Platform>().unwrap().to_string(), "linux/amd64");
        for (bad, words) in [
            ("", "write `os/architecture`"),
            ("/", "write `os/architecture`"),
            ("a/b/c/d", "write `os/architecture`"),
            ("linux/a b", "write `os/architecture`"),
            ("linux()/a", "write `os/architecture`"),
            ("linux(\u{1b}[1m)/a", "write `os/architecture`"),
            ("(1)/a", "write `os/architecture`"),
            ("a(1/b", "write `os/architecture`"),
            ("linux", "add the architecture, as in `linux/"),
            ("Windows", "add the architecture, as in `Windows/"),
            ("linux/", "add the architecture"),
            ("darwin(macOS 14)/", "add the architecture"),
            ("arm64/linux", "write `linux/arm64`"),
        ] {
            let error = bad.parse::<Platform>().unwrap_err().to_string();
            assert!(error.contains(words), "{bad}: {error}");
        }
        let hostile = Platform { os: "li\u{1b}[1mnux".repeat(99), ..Platform::default() };
        let shown = hostile.to_string();
        assert!(shown.len() < 150 && !shown.contains('\u{1b}'), "{shown}");
    }

    #[test]
    fn odd_fields() {
        let read = |text: &str| json::from_slice::<Platform>(text.as_bytes()).unwrap();
        let odd = read(r#"{"os":"linux","architecture":"arm","variant":7,"os.version":10}"#);
        assert_eq!(odd.to_string(), "linux(10)/arm/7");
        assert_eq!(odd.rank(&odd), Some(0));
        for (features, expected) in [
            (r#""win32k""#, vec!["win32k"]),
            (r#"["a",1,null,{}]"#, vec!["a", "1"]),
            ("{}", vec![]),
            ("null", vec![]),
        ] {
            assert_eq!(read(&format!(r#"{{"os.features":{features}}}"#)).os_features, expected);
        }
        assert_eq!(read(r#"{"os":{},"Architecture":"arm64"}"#).to_string(), "unknown/arm64");
    }

    #[test]
    fn versions() {
        let platform = |text: &str| text.parse::<Platform>().unwrap();
        let rank = |wanted: &str, have: &str| platform(wanted).rank(&platform(have));
        let have = "windows(10.0.17763.737)/amd64";
        assert_eq!(rank("windows/amd64", have), Some(0));
        assert_eq!(rank(have, have), Some(0));
        assert_eq!(rank("windows(10.0.17763)/amd64", have), Some(PART_OF_VERSION));
        assert_eq!(rank("windows(10.0.1776)/amd64", have), None);
        assert_eq!(rank("windows(10.0.17763.737.1)/amd64", have), None);
        assert_eq!(rank("DARWIN(macos 14)/ARM64", "darwin(macOS 14)/arm64"), Some(0));
        assert_eq!(
            rank("darwin(macOS 14)/arm64", "darwin(macOS 14.2)/arm64"),
            Some(PART_OF_VERSION)
        );
        assert_eq!(rank("darwin(macOS 1)/arm64", "darwin(macOS 14)/arm64"), None);
    }
}
