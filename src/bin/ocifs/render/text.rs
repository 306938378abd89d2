//! Text for terminals: what is safe to show, and numbers with their units.

/// Errors quote names out of images and words of servers, which must not command the terminal, nor show as other
/// words than they are.
pub(crate) fn printable(text: &str) -> String {
    text.chars().map(|c| if is_printable(c) { c } else { '\u{fffd}' }).collect()
}

/// Whether a character is shown by terminals, and where it stands. Not so are control characters (C0, DEL and C1),
/// separators of lines, and those that turn the direction of what follows or show nothing.
pub(crate) fn is_printable(c: char) -> bool {
    let is_hidden = matches!(
        c,
        '\u{61c}'
            | '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{2069}'
            | '\u{feff}'
    );
    !c.is_control() && !is_hidden
}

/// A number of things, and their name: `1 layer`, `2 layers`.
pub(crate) fn count(number: usize, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}

/// The same of several lines.
pub(crate) fn printable_lines(text: &str) -> String {
    text.split_inclusive('\n').map(|line| printable(line.trim_end_matches('\n')) + "\n").collect()
}

/// A size in binary units, three digits of it.
pub(crate) fn size(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1024.0;
    let mut unit = 0;
    while value >= 1023.5 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    let digits = match value {
        ..9.995 => 2,
        ..99.95 => 1,
        _ => 0,
    };
    format!("{value:.digits$} {}", UNITS[unit])
}

/// How long ago something was, in the largest unit of which there are two or more: `3 weeks`.
pub(crate) fn age(seconds: i64) -> String {
    const UNITS: [(i64, &str, &str); 7] = [
        (365 * 86400, "year", "years"),
        (30 * 86400, "month", "months"),
        (7 * 86400, "week", "weeks"),
        (86400, "day", "days"),
        (3600, "hour", "hours"),
        (60, "minute", "minutes"),
        (1, "second", "seconds"),
    ];
    let fits = |unit: &&(i64, &str, &str)| seconds >= 2 * unit.0;
    match UNITS.iter().find(fits) {
        Some((unit, one, many)) => count((seconds / unit) as usize, one, many),
        None if seconds < 0 => "in the future".to_owned(),
        None => "now".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_terminals_obey_is_not_printed() {
        let hidden =
            ["\u{7}", "\u{1b}", "\u{7f}", "\u{80}", "\u{9b}", "\u{9f}", "\u{202e}", "\u{2066}"];
        for text in hidden.into_iter().chain(["\n", "\u{61c}", "\u{200e}", "\u{2028}", "\u{feff}"])
        {
            assert_eq!(printable(&format!("a{text}b")), "a\u{fffd}b", "{text:?}");
        }
        for text in ["\u{e4}\u{a0}\u{5d0} \u{65e5}", "\u{1f600}", "~\u{a1}"] {
            assert_eq!(printable(text), text);
        }
    }

    #[test]
    fn ages_have_one_unit() {
        const DAY: i64 = 86400;
        for (seconds, text) in [
            (-1, "in the future"),
            (1, "now"),
            (2, "2 seconds"),
            (119, "119 seconds"),
            (7199, "119 minutes"),
            (2 * DAY, "2 days"),
            (21 * DAY, "3 weeks"),
            (60 * DAY, "2 months"),
            (729 * DAY, "24 months"),
            (i64::MAX, "292471208677 years"),
        ] {
            assert_eq!(age(seconds), text, "{seconds}");
        }
    }

    #[test]
    fn sizes_have_three_digits() {
        for (bytes, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.00 KiB"),
            (10_235, "10.0 KiB"),
            (1_048_064, "1.00 MiB"),
            (59_880_000, "57.1 MiB"),
            (154_140_672, "147 MiB"),
            (1 << 30, "1.00 GiB"),
            (u64::MAX, "16.0 EiB"),
        ] {
            assert_eq!(size(bytes), text, "{bytes}");
        }
    }
}
