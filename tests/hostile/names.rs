//! Texts: names of images and platforms from users and documents, challenges from registries.

use ocifs::oci::Platform;
use ocifs::reference::ImageName;
use ocifs::source::registry::Challenge;

use super::{SMALL, Target, Verdict};

/// Names of images.
pub const REFERENCE: Target =
    Target { name: "reference", valid: valid_names, check: check_name, most_memory: SMALL };

/// Platforms.
pub const PLATFORM: Target =
    Target { name: "platform", valid: valid_platforms, check: check_platform, most_memory: SMALL };

/// `WWW-Authenticate` headers.
pub const CHALLENGE: Target = Target {
    name: "challenge",
    valid: valid_challenges,
    check: check_challenge,
    most_memory: SMALL,
};

fn owned(texts: &[&str]) -> Vec<Vec<u8>> {
    texts.iter().map(|text| text.as_bytes().to_vec()).collect()
}

fn valid_names() -> Vec<Vec<u8>> {
    let digest = "sha256:4db5d81e8ad10e19dcf3d1e9d9f1b4f5e9d9d5ea7e50f53ee9f0a8c64ce8f62d";
    let mut valid = owned(&[
        "debian:12",
        "docker://library/alpine",
        "registry.example.com:5000/a/b_c--d.e:v1.0",
        "[2001:db8::1]:443/x/y:z",
        "oci:layout:v1",
        "oci-archive:/tmp/image.tar:name",
        "docker-archive:image.tar:debian:12",
        "dir:some/folder",
        "containerd:docker.io/library/debian:12",
        "containers-storage:[overlay@/var/lib+/run]docker.io/library/debian:12",
        "docker-daemon:debian:12",
        "registry-storage:/srv:a/b:v1",
        "./image.tar",
        "-",
        "https://hub.docker.com/_/debian",
    ]);
    for name in ["localhost/app@", "oci:layout@", "containers-storage:", "a.example/b/c:v1@"] {
        valid.push(format!("{name}{digest}").into_bytes());
    }
    // Not all that may be mutated is valid.
    valid.retain(|name| check_name(name) == Verdict::Accepted);
    valid
}

/// What is printed means the same again.
fn check_name(bytes: &[u8]) -> Verdict {
    let text = String::from_utf8_lossy(bytes);
    let parsed = text.parse::<ImageName>();
    let verdict = Verdict::from(&parsed);
    if let Ok(name) = parsed {
        let again = name.to_string().parse::<ImageName>();
        assert_eq!(again.as_ref(), Ok(&name), "{text:?} prints as {name}");
        if let Some(folder) = name.directory_name() {
            let folder = folder.as_str();
            assert!(!folder.contains(['/', '\0']) && !matches!(folder, "" | "." | ".."));
            assert!(folder.len() <= 255, "{folder}");
        }
    }
    verdict
}

fn valid_platforms() -> Vec<Vec<u8>> {
    owned(&["linux/amd64", "linux/arm/v7", "arm64", "windows(10.0.17763)/amd64", "linux/riscv64"])
}

/// What is shown of a platform is no shorter than this.
const MAX_SHOWN_BYTES: usize = 40;

fn check_platform(bytes: &[u8]) -> Verdict {
    let text = String::from_utf8_lossy(bytes);
    let parsed = text.parse::<Platform>();
    if let Ok(platform) = &parsed {
        let again = platform.to_string().parse::<Platform>();
        // Long words are cut where they are shown.
        assert!(text.len() > MAX_SHOWN_BYTES || again.as_ref() == Ok(platform), "{platform:?}");
        // Variants that are no versions have no rank among others.
        assert!(platform.relaxed_rank(platform).is_some(), "{platform} is not its own platform");
        let _ = platform.rank(platform);
    }
    Verdict::from(&parsed)
}

fn valid_challenges() -> Vec<Vec<u8>> {
    owned(&[
        r#"Bearer realm="https://a/token",service="s",scope="repository:x:pull,push""#,
        r#"Basic realm="Registry Realm""#,
        "BASIC",
        r#"Basic realm="a", Bearer realm="b\"c,d""#,
        "bearer Realm=https://a/t, service=x",
        r#"Bearer realm='https://a/t',service='s'"#,
        r#"Bearer realm="a;b";service="s""#,
        r#"Negotiate dG9rZW4=, Digest qop="auth", nonce="7", Basic realm="für alle""#,
    ])
}

fn check_challenge(bytes: &[u8]) -> Verdict {
    let text = String::from_utf8_lossy(bytes);
    let challenges = Challenge::parse_all(&text);
    for challenge in &challenges {
        let scheme = &challenge.scheme;
        assert!(
            !scheme.is_empty() && !scheme.contains(|c: char| c.is_ascii_uppercase()),
            "{challenge:?}"
        );
    }
    let parameters = challenges.iter().map(|challenge| challenge.parameters.len()).sum::<usize>();
    // Every one of them was written there.
    assert!(challenges.len() + parameters <= 2 * text.split([',', ';']).count());
    match challenges.is_empty() {
        true => Verdict::Refused,
        false => Verdict::Accepted,
    }
}
