//! The tag under which the referrers of a manifest are listed where there is no API for them.

use crate::digest::Digest;

/// The tag that stands in for the API (OCI distribution spec 1.1, "Referrers Tag Schema").
pub(super) fn referrers_tag(subject: &Digest) -> String {
    /// Characters of the algorithm and of the hash that go into the tag, by the specification.
    const MAX_ALGORITHM: usize = 32;
    const MAX_HASH: usize = 64;
    let part = |text: &str, length: usize| {
        let is_tag = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        let replaced = text.chars().map(|c| if is_tag(c) { c } else { '-' });
        replaced.take(length).collect::<String>()
    };
    let algorithm = part(subject.algorithm().name(), MAX_ALGORITHM);
    format!("{algorithm}-{}", part(&subject.hex(), MAX_HASH))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn tags_of_subjects() {
        let digest: Digest = format!("sha256:{}", "0a".repeat(32)).parse().unwrap();
        assert_eq!(referrers_tag(&digest), format!("sha256-{}", "0a".repeat(32)));
        let digest: Digest = format!("sha512:{}", "0a".repeat(64)).parse().unwrap();
        assert_eq!(referrers_tag(&digest), format!("sha512-{}", "0a".repeat(32)));
    }
}
