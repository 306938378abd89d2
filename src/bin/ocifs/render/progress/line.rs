//! The words of progress: a pure function of counts and of the room there is.

use crate::render::text::{printable, size};

/// Columns of a bar.
const BAR_COLUMNS: std::ops::RangeInclusive<usize> = 8..=30;

/// How far something has come.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Counts {
    /// Bytes done, ...
    pub(crate) done: u64,
    /// ... and in all.
    pub(crate) total: u64,
    /// Layers done and in all.
    pub(crate) layers: Option<(usize, usize)>,
    /// Since it began.
    pub(crate) seconds: f64,
    /// Seconds for which nothing has come, if that is worth telling.
    pub(crate) stalled: Option<u64>,
}

/// What is being done.
#[derive(Clone, Debug)]
pub(crate) enum Title {
    /// Layers of this image are used for the first time here, and will not be fetched again.
    FirstUse {
        doing: &'static str,
        image: String,
    },
    Other(String),
}

impl Title {
    /// Before it begins, or when there turns out to be more of it than was told.
    pub(crate) fn announcement(&self, told: u64, total: u64) -> String {
        let more = if told > 0 { " more" } else { "" };
        let bytes = size(total - told);
        match self {
            Title::FirstUse { doing, image } => {
                printable(&format!("{doing} {image}: {bytes}{more}, once"))
            }
            Title::Other(what) => printable(&format!("{what}: {bytes}{more}")),
        }
    }

    /// While it goes on, for a log.
    pub(crate) fn report(&self, counts: &Counts) -> String {
        let what = match self {
            Title::FirstUse { doing, image } => format!("{doing} {image}"),
            Title::Other(what) => what.clone(),
        };
        let rate = counts.done as f64 / counts.seconds.max(0.001);
        let mut text = printable(&what);
        text += &format!(": {} of {}", size(counts.done), size(counts.total));
        text += &format!(", {}/s", size(rate as u64));
        if let Some((done, layers)) = counts.layers {
            text += &format!(", {done} of {layers} layers");
        }
        if let Some(seconds) = counts.stalled {
            text += &format!(", {}", silence(seconds));
        }
        text
    }

    /// A line of at most so many columns; the least important words go first.
    pub(crate) fn bar(&self, counts: &Counts, rate: f64, columns: usize) -> String {
        // A cursor behind the last column is in the next line on some terminals.
        let room = columns.saturating_sub(1);
        let share = match counts.total {
            0 => 0.0,
            total => (counts.done as f64 / total as f64).min(1.0),
        };
        let percent = format!("{:>3.0} %", (share * 100.0).floor());
        let left = match rate {
            rate if rate > 0.0 => counts.total.saturating_sub(counts.done) as f64 / rate,
            _ => 0.0,
        };
        let layers = counts.layers.filter(|layers| layers.1 > 1);
        let layers = layers.map(|(done, all)| format!("{done} of {all} layers"));
        let title = self.announcement(0, counts.total);
        // By importance, and whether they stand before the bar.
        let words = [
            Some((size(counts.total), true)),
            Some((title, true)),
            Some((
                counts.stalled.map_or_else(|| format!("{}/s", size(rate as u64)), silence),
                false,
            )),
            counts.stalled.is_none().then(|| (clock(left), false)),
            layers.map(|layers| (layers, false)),
        ];
        let (mut before, mut behind) = (String::new(), vec![percent]);
        let width = |before: &str, behind: &[String]| {
            before.chars().count()
                + behind.iter().map(|word| word.chars().count() + 2).sum::<usize>()
        };
        for (at, (word, is_before)) in words.into_iter().flatten().enumerate() {
            // How much it is matters more than a bar.
            let bar = if at > 0 { BAR_COLUMNS.start() + 2 } else { 0 };
            let (mut wider, mut longer) = (before.clone(), behind.clone());
            match is_before {
                true => wider = word,
                false => longer.push(word),
            }
            if width(&wider, &longer) + bar <= room {
                (before, behind) = (wider, longer);
            }
        }
        let free = room.saturating_sub(width(&before, &behind) + 2).min(*BAR_COLUMNS.end());
        let mut parts = Vec::new();
        if !before.is_empty() {
            parts.push(before);
        }
        if free >= *BAR_COLUMNS.start() {
            let full = (share * free as f64) as usize;
            parts.push(format!("{}{}", "━".repeat(full), "─".repeat(free - full)));
        }
        parts.extend(behind);
        parts.join("  ").chars().take(room).collect()
    }
}

fn silence(seconds: u64) -> String {
    format!("nothing for {seconds} s")
}

/// Hours, minutes and seconds.
fn clock(seconds: f64) -> String {
    let seconds = seconds.min(359_999.0) as u64;
    format!("{}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_fit() {
        let image = "registry.example/app:1.4".to_owned();
        let title = Title::FirstUse { doing: "downloading", image };
        let layers = Some((2, 3));
        let counts =
            Counts { done: 36_000_000, total: 59_880_000, layers, seconds: 3.0, stalled: None };
        for columns in 0..200 {
            let line = title.bar(&counts, 38e6, columns);
            assert!(line.chars().count() < columns.max(1), "{columns}: {line}");
            assert!(columns < 8 || line.contains("60 %"), "{columns}: {line}");
        }
        let line = |columns| title.bar(&counts, 38e6, columns);
        assert_eq!(line(20), "57.1 MiB   60 %");
        assert_eq!(line(28), "57.1 MiB  ━━━━━━────   60 %");
        assert_eq!(line(40), "57.1 MiB  ━━━━━━────   60 %  36.2 MiB/s");
        let whole = "downloading registry.example/app:1.4: 57.1 MiB, once  \
                     ━━━━━━━━━━━━━━━━━━────────────   60 %  36.2 MiB/s  0:00:00  2 of 3 layers";
        assert_eq!(line(160), whole);
    }

    #[test]
    fn lines_for_a_log() {
        let title = Title::FirstUse { doing: "indexing", image: "app:1.4\u{1b}".to_owned() };
        let told = title.announcement(0, 59_880_000);
        assert_eq!(told, "indexing app:1.4\u{fffd}: 57.1 MiB, once");
        let more = title.announcement(59_880_000, 60_000_000);
        assert_eq!(more, "indexing app:1.4\u{fffd}: 117 KiB more, once");
        let layers = Some((0, 1));
        let counts = Counts { done: 1 << 20, total: 4 << 20, layers, seconds: 10.0, stalled: None };
        let report = title.report(&counts);
        let expected = "indexing app:1.4\u{fffd}: 1.00 MiB of 4.00 MiB, 102 KiB/s, 0 of 1 layers";
        assert_eq!(report, expected);
    }

    #[test]
    fn silence_is_told_instead_of_a_rate() {
        let layers = Some((0, 1));
        let counts =
            Counts { done: 1 << 20, total: 4 << 20, layers, seconds: 20.0, stalled: Some(12) };
        let title = Title::Other("pulling app".to_owned());
        let bar = title.bar(&counts, 1e6, 80);
        assert!(bar.contains("nothing for 12 s") && !bar.contains("/s"), "{bar}");
        assert!(title.report(&counts).ends_with(", nothing for 12 s"));
    }
}
