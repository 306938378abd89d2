//! Which image of an image index is meant.
//!
//! ```text
//! 1. a match by containerd's rules           platforms that stand in the index, then what had to be opened
//! 2. an image that does not say what it is for
//! 3. the wanted architecture, another variant or special features      with a warning
//! 4. the only image there is, if the user named no platform            with a warning
//! 5. the only artifact or attestation, if there is nothing else
//! ```

use std::collections::HashSet;

use crate::oci::{Descriptor, Platform, annotation};

use super::error::Error;

/// Artifacts that a message lists.
const LISTED: usize = 8;

/// Something that could be meant.
#[derive(Clone, Debug)]
pub(super) struct Offer {
    /// The document.
    pub(super) descriptor: Descriptor,
    /// What it is for: as the index says, or its own config.
    pub(super) platform: Option<Platform>,
    /// It is no image, but says something about one.
    pub(super) is_extra: bool,
    /// The place of the index that names it among those that were entered.
    pub(super) within: Option<usize>,
}

impl Offer {
    /// What it is for, if it says so.
    pub(super) fn real_platform(&self) -> Option<&Platform> {
        self.platform.as_ref().filter(|platform| !platform.is_unknown())
    }
}

/// The first of the best by containerd's rules.
pub(super) fn matching<'a>(offers: &'a [Offer], wanted: &Platform) -> Option<&'a Offer> {
    best(offers, |platform| wanted.rank(platform))
}

/// How many different images are as good as the best.
pub(super) fn equals(offers: &[Offer], wanted: &Platform, best: &Offer) -> usize {
    let rank = |offer: &Offer| wanted.rank(offer.real_platform()?);
    let same = offers.iter().filter(|offer| !offer.is_extra && rank(offer) == rank(best));
    same.map(|offer| offer.descriptor.digest).collect::<HashSet<_>>().len()
}

fn best(offers: &[Offer], rank: impl Fn(&Platform) -> Option<u32>) -> Option<&Offer> {
    let images = offers.iter().filter(|offer| !offer.is_extra);
    let ranked = images.filter_map(|offer| Some((rank(offer.real_platform()?)?, offer)));
    ranked.min_by_key(|(rank, _)| *rank).map(|(_, offer)| offer)
}

/// Chooses among all that there is; `named` is the platform that the user asked for, if any.
///
/// # Errors
/// There is nothing, or nothing for the platform.
pub(super) fn choose<'a>(
    offers: &'a [Offer],
    named: Option<&Platform>,
) -> Result<&'a Offer, Error> {
    let host = Platform::host();
    let wanted = named.unwrap_or(&host);
    if let Some(offer) = matching(offers, wanted) {
        return Ok(offer);
    }
    let images: Vec<&Offer> = offers.iter().filter(|offer| !offer.is_extra).collect();
    let Some(first) = images.first() else {
        return only_extra(offers);
    };
    if let Some(silent) = images.iter().find(|offer| offer.real_platform().is_none()) {
        return Ok(silent);
    }
    // Who asks for a variant gets that one.
    if (named.is_none() || wanted.variant.is_empty())
        && let Some(offer) = best(offers, |platform| wanted.relaxed_rank(platform))
    {
        warn("there is no image for exactly", wanted, offer);
        return Ok(offer);
    }
    if named.is_none()
        && images.iter().all(|offer| offer.descriptor.digest == first.descriptor.digest)
    {
        warn("there is no image for", wanted, first);
        return Ok(first);
    }
    Err(Error::Platform { wanted: wanted.clone(), available: platforms(offers) })
}

/// The only thing there is where there is no image. Of several none is more likely to be meant than another.
fn only_extra(offers: &[Offer]) -> Result<&Offer, Error> {
    let first = offers.first().ok_or(Error::EmptyIndex)?;
    let mut seen = HashSet::new();
    let different = offers.iter().map(|offer| &offer.descriptor).filter(|d| seen.insert(d.digest));
    let listed: Vec<String> = different.map(describe).collect();
    match listed.len() {
        1 => Ok(first),
        count => Err(Error::Several { count, listed: listed[..count.min(LISTED)].join(", ") }),
    }
}

/// The digest of an artifact, with its type and title as far as the index says them.
fn describe(descriptor: &Descriptor) -> String {
    let title = descriptor.annotations.get(annotation::TITLE).map(String::as_str);
    let words = [descriptor.artifact_type.as_deref(), title];
    let words: Vec<_> = words.into_iter().flatten().filter(|word| !word.is_empty()).collect();
    match words.is_empty() {
        true => descriptor.digest.to_string(),
        false => format!("{} ({})", descriptor.digest, words.join(", ")),
    }
}

/// The platforms that there are images for, for a message.
pub(super) fn platforms(offers: &[Offer]) -> String {
    let images = offers.iter().filter(|offer| !offer.is_extra);
    let mut platforms: Vec<String> =
        images.filter_map(Offer::real_platform).map(ToString::to_string).collect();
    platforms.sort();
    platforms.dedup();
    platforms.join(", ")
}

fn warn(what: &str, wanted: &Platform, offer: &Offer) {
    if let Some(platform) = offer.real_platform() {
        log::warn!("{what} {wanted}: showing the one for {platform}");
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::digest::Digest;

    /// Offers of these platforms; `?` says nothing, and `!` is an attestation.
    fn offers(platforms: &[&str]) -> Vec<Offer> {
        let offer = |(at, text): (usize, &&str)| Offer {
            descriptor: Descriptor::of_manifest(Digest::sha256(&[at as u8])),
            platform: text.parse().ok(),
            is_extra: *text == "!",
            within: None,
        };
        platforms.iter().enumerate().map(offer).collect()
    }

    #[test]
    fn the_best_of_what_there_is() {
        let host = Platform::host().to_string();
        let other = if host == "linux/s390x" { "linux/riscv64" } else { "linux/s390x" };
        let rows: [(&[&str], &str, Option<usize>); 20] = [
            (&["linux/arm64", "linux/amd64"], "linux/amd64", Some(1)),
            (&["linux/amd64", "linux/amd64"], "linux/amd64", Some(0)),
            (&["linux/386", "linux/amd64/v2"], "linux/amd64", Some(0)),
            (&["linux/386", "linux/amd64/v2"], "linux/amd64/v3", Some(1)),
            (&["linux/amd64/v3", "linux/amd64/v2"], "linux/amd64", Some(1)),
            (&["linux/amd64/v3"], "linux/amd64/v2", None),
            (&["linux/arm/v5", "linux/arm/v6", "linux/arm/v7"], "linux/arm/v6", Some(1)),
            (&["linux/arm/v7"], "linux/arm/v6", None),
            (&["linux/arm/v7", "linux/arm64"], "linux/arm64", Some(1)),
            (&["linux/arm/v8"], "linux/arm64", Some(0)),
            (&["linux/s390x"], "linux/amd64", None),
            (&["linux/s390x", "?"], "linux/amd64", Some(1)),
            (&["!", "?"], "linux/amd64", Some(1)),
            (&["!", "linux/amd64"], "linux/amd64", Some(1)),
            (&["!"], "linux/amd64", Some(0)),
            (&["!", "!"], "linux/amd64", None),
            (&["windows(10.0.1)/amd64", "windows(10.0.2)/amd64"], "windows/amd64", Some(0)),
            (&["windows(10.0.1)/amd64", "windows(10.0.2)/amd64"], "windows(10.0.2)/amd64", Some(1)),
            (&["!", other], "", Some(1)),
            (&["linux/mips", other], "", None),
        ];
        for (platforms, named, expected) in rows {
            let offers = offers(platforms);
            let named = named.parse::<Platform>().ok();
            let chosen = choose(&offers, named.as_ref());
            let at = chosen.as_ref().ok().map(|chosen| {
                offers.iter().position(|o| o.descriptor == chosen.descriptor).unwrap()
            });
            assert_eq!(at, expected, "{platforms:?} for {named:?}: {chosen:?}");
        }
        assert!(matches!(choose(&[], None), Err(Error::EmptyIndex)));
        // One thing that stands there twice is no choice.
        let twice = [offers(&["!"]), offers(&["!"])].concat();
        choose(&twice, None).unwrap();
    }
}
