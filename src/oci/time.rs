//! Times in documents and tables of contents: RFC 3339 as Go prints it.
//!
//! Go's layout prints years outside of 0 to 9999 as well, signed or with more digits, where RFC
//! 3339 has none. A crate for times would refuse those, and this is shorter than its configuration.

/// Seconds since the epoch, rounded down, and nanoseconds to add; digits past the ninth are cut.
pub fn parse_time(text: &str) -> Option<(i64, u32)> {
    let (sign, text) = match text.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, text),
    };
    let (date, clock) = text.split_once('T')?;
    let (clock, zone_seconds) = match clock.strip_suffix('Z') {
        Some(clock) => (clock, 0),
        None => zone(clock)?,
    };
    let (clock, nanoseconds) = match clock.split_once('.') {
        Some((clock, fraction)) => (clock, fraction_nanoseconds(fraction)?),
        None => (clock, 0),
    };
    let [year, month, day] = fields(date, '-', 4..=9)?;
    let [hour, minute, second] = fields(clock, ':', 2..=2)?;
    let year = sign * year;
    if hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let days = days_from_epoch(year, month, day)?;
    Some((days * 86400 + hour * 3600 + minute * 60 + second - zone_seconds, nanoseconds))
}

/// Splits `±HH:MM` off, in seconds.
fn zone(clock: &str) -> Option<(&str, i64)> {
    let (clock, zone) = clock.split_at_checked(clock.len().checked_sub(6)?)?;
    let (sign, zone) = match zone.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, zone.strip_prefix('+')?),
    };
    let (hours, minutes) = zone.split_once(':')?;
    let (hours, minutes) = (number(hours, 2..=2)?, number(minutes, 2..=2)?);
    (hours <= 24 && minutes < 60).then_some((clock, sign * (hours * 3600 + minutes * 60)))
}

fn fraction_nanoseconds(fraction: &str) -> Option<u32> {
    if fraction.is_empty() || !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let digits = fraction.bytes().chain(std::iter::repeat(b'0')).take(9);
    Some(digits.fold(0, |value, digit| value * 10 + u32::from(digit - b'0')))
}

/// Three numbers, of which the first has `first` digits and the others two.
fn fields(text: &str, by: char, first: std::ops::RangeInclusive<usize>) -> Option<[i64; 3]> {
    let mut parts = text.split(by);
    let numbers = [
        number(parts.next()?, first)?,
        number(parts.next()?, 2..=2)?,
        number(parts.next()?, 2..=2)?,
    ];
    parts.next().is_none().then_some(numbers)
}

fn number(text: &str, digits: std::ops::RangeInclusive<usize>) -> Option<i64> {
    let is_number = digits.contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
    is_number.then(|| text.parse().ok())?
}

fn days_of_month(year: i64, month: i64) -> Option<i64> {
    let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    Some(match month {
        2 => 28 + i64::from(is_leap),
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return None,
    })
}

/// Days from 1970-01-01 to a date of the Gregorian calendar, counted in years that begin in March so that the
/// leap day comes last; `None` if there is no such date.
pub fn days_from_epoch(year: i64, month: i64, day: i64) -> Option<i64> {
    const DAYS_BEFORE_EPOCH: i64 = 719_468;
    if !(1..=days_of_month(year, month)?).contains(&day) {
        return None;
    }
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let leap_days = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    Some(year * 365 + leap_days + (153 * month + 2) / 5 + day - 1 - DAYS_BEFORE_EPOCH)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        for (text, expected) in [
            ("1970-01-01T00:00:00Z", Some((0, 0))),
            ("2026-11-22T02:59:38Z", Some((1_795_316_378, 0))),
            ("2024-02-29T23:59:59.5Z", Some((1_709_251_199, 500_000_000))),
            ("1960-01-01T00:00:01.000000001+00:00", Some((-315_619_199, 1))),
            ("1970-01-01T01:00:00.25+01:00", Some((0, 250_000_000))),
            ("1969-12-31T21:30:00-02:30", Some((0, 0))),
            ("0001-01-01T00:00:00Z", Some((-62_135_596_800, 0))),
            ("0000-03-01T00:00:00Z", Some((-62_162_035_200, 0))),
            ("-0001-12-31T00:00:00Z", Some((-62_167_305_600, 0))),
            ("12345-01-01T00:00:00Z", Some((327_403_382_400, 0))),
            ("1970-01-01T00:00:00.1234567899Z", Some((0, 123_456_789))),
            ("", None),
            ("1970-01-01", None),
            ("1970-01-01 00:00:00Z", None),
            ("1970-01-01T00:00:00", None),
            ("1970-01-01T00:00:00.Z", None),
            ("1970-01-01T00:00:60Z", None),
            ("1970-01-01T24:00:00Z", None),
            ("1970-13-01T00:00:00Z", None),
            ("1970-00-01T00:00:00Z", None),
            ("1970-02-29T00:00:00Z", None),
            ("1900-02-29T00:00:00Z", None),
            ("1970-01-00T00:00:00Z", None),
            ("970-01-01T00:00:00Z", None),
            ("9999999999-01-01T00:00:00Z", None),
            ("1970-01-01T0:00:00Z", None),
            ("1970-01-01T00:00:00+1:000", None),
            ("1970-01-01T00:00:00ü01:00", None),
            ("1970-01-+1T00:00:00Z", None),
        ] {
            assert_eq!(parse_time(text), expected, "{text}");
        }
    }
}
