//! Times of a TOC: RFC 3339 as Go prints it.
//!
//! Go's layout prints years outside of 0 to 9999 as well, signed or with more digits, where RFC
//! 3339 has none. A crate for times would refuse those, and this is shorter than its configuration.

/// Seconds since the epoch, rounded down, and nanoseconds to add; digits past the ninth are cut.
pub(super) fn parse(text: &str) -> Option<(i64, u32)> {
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
    if day < 1 || day > days_of_month(year, month)? || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let days = days_since_epoch(year, month, day);
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

/// Days from 1970-01-01 in the Gregorian calendar, counted in years that begin in March so that the
/// leap day comes last.
fn days_since_epoch(year: i64, month: i64, day: i64) -> i64 {
    const DAYS_BEFORE_EPOCH: i64 = 719_468;
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let leap_days = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    year * 365 + leap_days + (153 * month + 2) / 5 + day - 1 - DAYS_BEFORE_EPOCH
}
