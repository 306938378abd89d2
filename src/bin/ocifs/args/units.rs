//! Values with units: times, sizes in bytes, windows.

use std::time::Duration;

use ocifs::cache::Limit;
use ocifs::codec;

pub(super) fn time(text: &str) -> Result<Duration, String> {
    let (digits, factor) = match text.as_bytes().last() {
        Some(b's') => (&text[..text.len() - 1], 1),
        Some(b'm') => (&text[..text.len() - 1], 60),
        Some(b'h') => (&text[..text.len() - 1], 3600),
        _ => (text, 1),
    };
    let number = digits.parse::<u64>().map_err(|_| {
        "write a whole number of seconds, or a whole number with a unit: 30s, 2m, 1h".to_owned()
    })?;
    match number.saturating_mul(factor) {
        0 => Err("it must be at least 1 second".to_owned()),
        seconds if seconds > 86400 => Err("it must be at most a day, 86400 seconds".to_owned()),
        seconds => Ok(Duration::from_secs(seconds)),
    }
}

pub(super) fn bytes(text: &str) -> Result<u64, String> {
    let upper = text.to_ascii_uppercase();
    let number = upper.trim_end_matches("IB").trim_end_matches('B');
    let (digits, shift) = match number.chars().last() {
        Some('K') => (&number[..number.len() - 1], 10),
        Some('M') => (&number[..number.len() - 1], 20),
        Some('G') => (&number[..number.len() - 1], 30),
        Some('T') => (&number[..number.len() - 1], 40),
        _ => (number, 0),
    };
    let value: u64 =
        digits.trim().parse().map_err(|_| format!("`{text}` is not a number of bytes"))?;
    value.checked_mul(1 << shift).ok_or_else(|| format!("`{text}` is too large"))
}

/// A size of a zstd window, rounded down to a power of two.
pub(super) fn zstd_window(text: &str) -> Result<codec::Limits, String> {
    let size = bytes(text)?;
    match size.checked_ilog2() {
        Some(log @ 10..=codec::MAX_ZSTD_WINDOW_LOG) if size <= 1 << codec::MAX_ZSTD_WINDOW_LOG => {
            Ok(codec::Limits { zstd_window_log: log })
        }
        _ => Err("zstd windows are from 1K to 2G".to_owned()),
    }
}

pub(super) fn limit(text: &str) -> Result<Limit, String> {
    match text.to_ascii_lowercase().as_str() {
        "none" | "unlimited" => Ok(Limit::Unlimited),
        // A variable that is set to nothing.
        "" => Ok(Limit::default()),
        _ => bytes(text).map(Limit::Bytes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        assert_eq!(bytes("10"), Ok(10));
        assert_eq!(bytes("2k"), Ok(2048));
        assert_eq!(bytes("3GiB"), Ok(3 << 30));
        assert_eq!(bytes("1MB"), Ok(1 << 20));
        assert!(bytes("x").is_err() && bytes("").is_err() && bytes("99999999999T").is_err());
        assert_eq!(limit("0"), Ok(Limit::Bytes(0)));
        assert_eq!(limit("20G"), Ok(Limit::Bytes(20 << 30)));
        assert_eq!((limit("none"), limit("Unlimited")), (Ok(Limit::Unlimited), limit("unlimited")));
        assert!(limit("-1").is_err() && limit("some").is_err());
    }

    #[test]
    fn times() {
        for (text, seconds) in [("5", 5), ("5s", 5), ("2m", 120), ("24h", 86400)] {
            assert_eq!(time(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for bad in
            ["", "s", "0", "0m", "-1", "1.5", "5 s", "25h", "99999999999999999999", "5ms", "\u{fc}"]
        {
            assert!(time(bad).is_err(), "{bad}");
        }
    }
}
