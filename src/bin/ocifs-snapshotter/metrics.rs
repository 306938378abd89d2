//! What this program counts, and how it is told (`--metrics`).
//!
//! Calls of the snapshots API, by method and by the code of their answers; what became of layers that labels named; and
//! what was fetched for containerd's store. The mounts, and what they fetch, are counted by `ocifs` itself: its page is the
//! second half of this one.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use ocifs::metrics::{Kind, Text};
use tonic::Code;

/// Upper limits of durations, in seconds: a row of the database, a mount, an image that is streamed.
const LIMITS: [f64; 7] = [0.01, 0.1, 0.5, 2.0, 10.0, 60.0, 600.0];

/// What is counted.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    /// By method and outcome.
    calls: Mutex<BTreeMap<(&'static str, &'static str), Durations>>,
    /// Layers that containerd was left to fetch and unpack although labels named their image.
    pub(crate) left: Counter,
    /// Layers that were put into containerd's store, their bytes, and tries that failed.
    pub(crate) layers: Counter,
    pub(crate) bytes: Counter,
    pub(crate) failures: Counter,
}

/// It grows.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    fn value(&self) -> f64 {
        self.0.load(Ordering::Relaxed) as f64
    }
}

#[derive(Debug, Default)]
struct Durations {
    /// How many took no longer than each limit and longer than the one before.
    within: [u64; LIMITS.len()],
    count: u64,
    seconds: f64,
}

/// What is there now.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Present {
    /// Snapshots by kind; nothing if the database can't be read.
    pub(crate) snapshots: Option<[(&'static str, usize); 4]>,
    /// Repositories with credentials that pods have brought.
    pub(crate) credentials: usize,
}

impl Metrics {
    /// Notes a call that has been answered.
    pub(crate) fn called(&self, method: &'static str, code: Code, took: Duration) {
        let mut calls = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
        let durations = calls.entry((method, outcome(code))).or_default();
        let seconds = took.as_secs_f64();
        durations.count += 1;
        durations.seconds += seconds;
        if let Some(at) = LIMITS.iter().position(|limit| seconds <= *limit) {
            durations.within[at] += 1;
        }
    }

    /// The page, without that of the mounts.
    pub(crate) fn text(&self, present: Present) -> Text {
        let mut text = Text::default();
        let name = "ocifs_snapshotter_snapshots";
        text.head(
            name,
            Kind::Gauge,
            "Snapshots by kind; those that are remote are trees of images.",
        );
        for (kind, count) in present.snapshots.into_iter().flatten() {
            text.sample(name, &[("kind", kind)], count as f64);
        }
        self.calls(&mut text);
        let counters = [
            ("layers_left_total", &self.left, "Layers of images left to containerd to unpack."),
            ("content_layers_total", &self.layers, "Layers put into the store of containerd."),
            ("content_bytes_total", &self.bytes, "Bytes put into the store of containerd."),
            ("content_failures_total", &self.failures, "Tries of that which failed."),
        ];
        for (name, counter, help) in counters {
            let name = format!("ocifs_snapshotter_{name}");
            text.head(&name, Kind::Counter, help);
            text.sample(&name, &[], counter.value());
        }
        let name = "ocifs_snapshotter_credentials";
        text.head(name, Kind::Gauge, "Repositories with credentials of pods.");
        text.sample(name, &[], present.credentials as f64);
        text
    }

    fn calls(&self, text: &mut Text) {
        let name = "ocifs_snapshotter_request_seconds";
        text.head(name, Kind::Histogram, "How long calls took, by method and outcome.");
        let calls = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
        for ((method, outcome), durations) in &*calls {
            let labels = [("method", *method), ("outcome", *outcome)];
            let mut count = 0;
            let bucket = format!("{name}_bucket");
            for (limit, within) in LIMITS.iter().zip(durations.within) {
                count += within;
                let limit = limit.to_string();
                text.sample(&bucket, &[&labels[..], &[("le", &limit)]].concat(), count as f64);
            }
            let all = durations.count as f64;
            text.sample(&bucket, &[&labels[..], &[("le", "+Inf")]].concat(), all);
            text.sample(&format!("{name}_sum"), &labels, durations.seconds);
            text.sample(&format!("{name}_count"), &labels, all);
        }
    }
}

/// The codes that this program answers with; `already_exists` is how it says that a layer is there.
fn outcome(code: Code) -> &'static str {
    match code {
        Code::Ok => "ok",
        Code::NotFound => "not_found",
        Code::AlreadyExists => "already_exists",
        Code::FailedPrecondition => "failed_precondition",
        Code::InvalidArgument => "invalid_argument",
        Code::Unavailable => "unavailable",
        _ => "internal",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_in_their_buckets() {
        let metrics = Metrics::default();
        for (millis, code) in
            [(5, Code::Ok), (1_000, Code::Ok), (900_000, Code::Ok), (1, Code::NotFound)]
        {
            metrics.called("Prepare", code, Duration::from_millis(millis));
        }
        let text = metrics.text(Present::default()).into_string();
        let rows = [
            r#"bucket{method="Prepare",outcome="ok",le="0.01"} 1"#,
            r#"bucket{method="Prepare",outcome="ok",le="2"} 2"#,
            r#"bucket{method="Prepare",outcome="ok",le="600"} 2"#,
            r#"bucket{method="Prepare",outcome="ok",le="+Inf"} 3"#,
            r#"sum{method="Prepare",outcome="ok"} 901.005"#,
            r#"count{method="Prepare",outcome="ok"} 3"#,
            r#"count{method="Prepare",outcome="not_found"} 1"#,
        ];
        for row in rows {
            let row = format!("ocifs_snapshotter_request_seconds_{row}");
            assert!(text.lines().any(|line| line == row), "{row} is not in {text}");
        }
        assert!(!text.contains("kind="), "of a database that can't be read nothing is said");
    }
}
