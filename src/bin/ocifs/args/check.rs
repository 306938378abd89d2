//! What `--check` of `ocifs du` demands: `max-wasted=5%`, `max-size=500M`.
//!
//! One table has the names with what each of them is a limit of, so that parsing, errors and the help text can't
//! differ. A share of the content is written with a percent sign: `0.05` would be a number of bytes to some and
//! 5 % to others, so neither is guessed.

use super::units::bytes;

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Metric {
    /// Bytes of all layers, unpacked.
    Size,
    /// Bytes of all blobs.
    Compressed,
    /// Bytes of content that layers have and the image does not show.
    Wasted,
    /// The same, as a share of the content of all layers but the first.
    UserWasted,
    /// Layers.
    Layers,
    /// Bytes of the largest layer, unpacked.
    LayerSize,
    /// Files of the image, directories included.
    Files,
}

/// What limits of a metric are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unit {
    Bytes,
    BytesOrShare,
    Share,
    Number,
}

/// The names, and what they are a limit of.
const NAMES: [(&str, Metric, Unit); 7] = [
    ("max-size", Metric::Size, Unit::Bytes),
    ("max-compressed", Metric::Compressed, Unit::Bytes),
    ("max-wasted", Metric::Wasted, Unit::BytesOrShare),
    ("max-user-wasted", Metric::UserWasted, Unit::Share),
    ("max-layers", Metric::Layers, Unit::Number),
    ("max-layer-size", Metric::LayerSize, Unit::Bytes),
    ("max-files", Metric::Files, Unit::Number),
];

/// Digits behind the point of a percentage.
const PERCENT_DIGITS: usize = 4;

/// A part of a whole, in millionths, so that it is compared exactly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Share(u64);

impl Share {
    /// Whether a part of a whole is more than this.
    pub(crate) fn is_exceeded(self, part: u64, whole: u64) -> bool {
        u128::from(part) * 1_000_000 > u128::from(whole) * u128::from(self.0)
    }

    /// In percent.
    pub(crate) fn percent(self) -> f64 {
        self.0 as f64 / 10_000.0
    }
}

/// The most that is allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Most {
    /// So many bytes or things.
    Number(u64),
    /// A part of the content.
    Share(Share),
}

/// One demand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Check {
    /// As it was written: `max-wasted=5%`.
    pub(crate) text: String,
    /// Its name: `max-wasted`.
    pub(crate) name: &'static str,
    /// What is measured.
    pub(crate) metric: Metric,
    /// The most that is allowed of it.
    pub(crate) most: Most,
}

pub(super) fn check(text: &str) -> Result<Check, String> {
    let (name, value) = text.split_once('=').unwrap_or((text, ""));
    let found = NAMES.iter().find(|(known, ..)| *known == name);
    let Some((name, metric, unit)) = found else {
        let known: Vec<&str> = NAMES.iter().map(|(name, ..)| *name).collect();
        return Err(format!("there is no check `{name}`; there are {}", known.join(", ")));
    };
    let most = match (unit, value.strip_suffix('%')) {
        (Unit::BytesOrShare | Unit::Share, Some(digits)) => share(digits).map(Most::Share),
        (Unit::Bytes | Unit::BytesOrShare, None) => bytes(value).ok().map(Most::Number),
        (Unit::Number, None) => value.parse().ok().map(Most::Number),
        _ => None,
    };
    let Some(most) = most else {
        let example = match unit {
            Unit::Bytes => "bytes: `=500M`, `=2G`, `=1000000`",
            Unit::BytesOrShare => "bytes (`=20M`) or percent of the content of all layers (`=5%`)",
            Unit::Share => "percent: `=10%`, `=0.5%`",
            Unit::Number => "a whole number: `=20`",
        };
        return Err(format!("`{name}` takes {example}"));
    };
    Ok(Check { text: text.to_owned(), name, metric: *metric, most })
}

/// A percentage from 0 to 100.
fn share(text: &str) -> Option<Share> {
    let (whole, part) = text.split_once('.').unwrap_or((text, "0"));
    let is_number = |digits: &str| !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    if !is_number(whole) || !is_number(part) || part.len() > PERCENT_DIGITS {
        return None;
    }
    let digits = format!("{whole}{part:0<PERCENT_DIGITS$}");
    digits.parse().ok().filter(|millionths| *millionths <= 1_000_000).map(Share)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checks_are_read() {
        for (text, metric, most) in [
            ("max-size=500M", Metric::Size, Most::Number(500 << 20)),
            ("max-wasted=5%", Metric::Wasted, Most::Share(Share(50_000))),
            ("max-wasted=0.25%", Metric::Wasted, Most::Share(Share(2_500))),
            ("max-wasted=10k", Metric::Wasted, Most::Number(10 << 10)),
            ("max-user-wasted=100%", Metric::UserWasted, Most::Share(Share(1_000_000))),
            ("max-files=0", Metric::Files, Most::Number(0)),
        ] {
            let check = check(text).unwrap();
            assert_eq!((check.metric, check.most, &check.text[..]), (metric, most, text));
        }
    }

    #[test]
    fn what_makes_no_sense_is_told_with_what_does() {
        for (text, said) in [
            ("max-waste=5%", "there are max-size, max-compressed, max-wasted"),
            ("", "no check ``"),
            ("max-size", "`max-size` takes bytes"),
            ("max-size=5%", "`max-size` takes bytes"),
            ("max-size=-1", "`max-size` takes bytes"),
            ("max-wasted=0.05", "percent of the content of all layers (`=5%`)"),
            ("max-wasted=101%", "percent"),
            ("max-wasted=1.23456%", "percent"),
            ("max-wasted=.5%", "percent"),
            ("max-user-wasted=5M", "`max-user-wasted` takes percent"),
            ("max-layers=5M", "a whole number"),
            ("max-files=", "a whole number"),
        ] {
            let error = check(text).unwrap_err();
            assert!(error.contains(said), "{text}: {error}");
        }
    }

    #[test]
    fn shares_are_compared_exactly() {
        let third = share("33.3333").unwrap();
        assert!(third.is_exceeded(1, 3) && !third.is_exceeded(333_333, 1_000_000));
        let none = share("0").unwrap();
        assert!(none.is_exceeded(1, u64::MAX) && !none.is_exceeded(0, 0));
        assert!(share("100").unwrap().is_exceeded(1, 0));
        assert!(!share("100").unwrap().is_exceeded(u64::MAX, u64::MAX));
    }
}
