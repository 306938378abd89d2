//! Metrics of mounts in the text format of Prometheus, version 0.0.4 (docs/metrics.md).
//!
//! # Problem
//!
//! A service that mounts images is watched by what scrapes numbers, and not by people who read `ocifs status`.
//!
//! # Design
//!
//! `ocifs status --prometheus` asks each mount as `ocifs status` does and prints what all have in common, with the mount point
//! as a label: for the textfile collector of node_exporter, or for anything that runs a command. Names and meanings of
//! metrics are documented, and stay.
//!
//! Rejected: an HTTP server in each mount. It would be a port, or a socket that only some scrapers can ask, in a process
//! that is to have as few rights as possible; and a mount whose process hangs could not say so.
//!
//! Invariants: each metric has its HELP and TYPE once, and its samples together. No label has values without bound: paths of
//! files are in `ocifs status --json`.

use std::borrow::Cow;

use ocifs::metrics::{Kind, Text};
use ocifs::mount::Status;

/// A mount, and what its process has answered, if it has.
pub(crate) struct Sample<'a> {
    pub(crate) mount_point: Cow<'a, str>,
    pub(crate) state: &'static str,
    pub(crate) status: Option<&'a Status>,
}

/// Name and value of each label behind that of the mount point, and the value of the sample.
type Values = Vec<(Vec<(&'static str, String)>, f64)>;

/// A metric: its name, its type, what it is, and what a mount has of it.
type Metric = (&'static str, Kind, &'static str, fn(&Status) -> Values);

const METRICS: [Metric; 18] = [
    ("ocifs_image_info", Kind::Gauge, "Images that are shown, each with the value 1.", |status| {
        let images = status.shown.images().iter().map(|image| {
            let labels = vec![
                ("directory", image.directory.clone().unwrap_or_default()),
                ("image", image.image.clone()),
                ("digest", image.digest.clone()),
                ("platform", image.platform.clone()),
            ];
            (labels, 1.0)
        });
        images.collect()
    }),
    ("ocifs_start_time_seconds", Kind::Gauge, "When it was mounted, since 1970.", |status| {
        one(status.started)
    }),
    ("ocifs_blob_bytes", Kind::Gauge, "Compressed size of the layers.", |status| {
        one(layers(status, |layer| layer.size))
    }),
    (
        "ocifs_blob_cached_bytes",
        Kind::Gauge,
        "How much of that has its content in the cache.",
        |status| one(layers(status, |layer| layer.cached)),
    ),
    ("ocifs_inodes", Kind::Gauge, "Files, directories and so on.", |status| one(status.inodes)),
    ("ocifs_network_requests_total", Kind::Counter, "HTTP requests.", |status| {
        one(status.network.requests)
    }),
    ("ocifs_network_receive_bytes_total", Kind::Counter, "Bytes of bodies that came.", |status| {
        one(status.network.bytes)
    }),
    (
        "ocifs_span_reads_total",
        Kind::Counter,
        "Reads of spans, from the cache or fetched.",
        |status| {
            let row = |from: &str, value: u64| (vec![("from", from.to_owned())], value as f64);
            vec![row("cache", status.spans.hits), row("source", status.spans.misses)]
        },
    ),
    ("ocifs_requests_total", Kind::Counter, "Requests of the kernel by kind.", |status| {
        let kinds = status.requests.iter().filter(|(kind, _)| *kind != "errors");
        let rows = kinds.map(|(kind, count)| {
            (vec![("kind", kind.clone())], count.as_f64().unwrap_or_default())
        });
        rows.collect()
    }),
    ("ocifs_requests_ahead_total", Kind::Counter, "Requests of the prefetch process.", |status| {
        one(status.ahead)
    }),
    (
        "ocifs_files_pushed_total",
        Kind::Counter,
        "Files given before they were asked for.",
        |status| one(status.pushed),
    ),
    ("ocifs_errors_total", Kind::Counter, "Requests answered with EIO.", |status| {
        one(status.requests.get("errors").and_then(serde_json::Value::as_u64).unwrap_or(0))
    }),
    (
        "ocifs_reads_waiting",
        Kind::Gauge,
        "Reads that wait for what is not on this machine.",
        |status| one(status.reads.waiting as u64),
    ),
    (
        "ocifs_read_oldest_seconds",
        Kind::Gauge,
        "For how long the oldest of them has waited.",
        |status| vec![(Vec::new(), status.reads.oldest.first().map_or(0.0, |read| read.seconds))],
    ),
    (
        "ocifs_read_slowest_seconds",
        Kind::Gauge,
        "The longest that any read has waited.",
        |status| vec![(Vec::new(), status.reads.slowest.as_ref().map_or(0.0, |read| read.seconds))],
    ),
    (
        "ocifs_worker_restarts_total",
        Kind::Counter,
        "Times that what serves it died and was replaced.",
        |status| one(status.restarts.into()),
    ),
    (
        "ocifs_refused_requests_total",
        Kind::Counter,
        "Requests refused as they have ended several processes.",
        |status| one(status.refused.count),
    ),
    ("ocifs_panics_total", Kind::Counter, "Panics, which are defects of ocifs.", |status| {
        one(status.panics.count)
    }),
];

fn one(value: u64) -> Values {
    vec![(Vec::new(), value as f64)]
}

fn layers(status: &Status, of: impl Fn(&ocifs::mount::LayerStatus) -> u64) -> u64 {
    status.shown.images().iter().flat_map(|image| &image.layers).map(of).sum()
}

/// All metrics of these mounts.
pub(crate) fn text(mounts: &[Sample<'_>]) -> String {
    let mut text = Text::default();
    text.head("ocifs_mount_up", Kind::Gauge, "1 if its process answers, 0 if it does not.");
    for mount in mounts {
        let labels = [("state", mount.state.to_owned())];
        let is_up = if mount.status.is_some() { 1.0 } else { 0.0 };
        sample(&mut text, "ocifs_mount_up", &mount.mount_point, &labels, is_up);
    }
    for (name, kind, help, values) in METRICS {
        text.head(name, kind, help);
        for mount in mounts {
            for (labels, value) in mount.status.map(values).unwrap_or_default() {
                sample(&mut text, name, &mount.mount_point, &labels, value);
            }
        }
    }
    text.into_string()
}

fn sample(
    text: &mut Text,
    name: &str,
    mount_point: &str,
    labels: &[(&'static str, String)],
    value: f64,
) {
    let labels = labels.iter().map(|(label, value)| (*label, value.as_str()));
    let labels: Vec<(&str, &str)> =
        std::iter::once(("mount_point", mount_point)).chain(labels).collect();
    text.sample(name, &labels, value);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_escaped() {
        let mount =
            Sample { mount_point: Cow::Borrowed("/a\"b\\c\nd"), state: "dead", status: None };
        let text = text(&[mount]);
        let line = r#"ocifs_mount_up{mount_point="/a\"b\\c\nd",state="dead"} 0"#;
        assert!(text.lines().any(|found| found == line), "{text}");
    }

    #[test]
    fn names_are_those_of_prometheus() {
        for (name, kind, help, _) in METRICS {
            let is_total = name.ends_with("_total");
            assert_eq!(is_total, kind == Kind::Counter, "{name}");
            assert!(name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'), "{name}");
            assert!(help.ends_with('.') && !help.contains(['\\', '\n']), "{name}");
        }
    }
}
