//! The text format of Prometheus (prometheus.io/docs/instrumenting/exposition_formats).

use std::fmt::Write;

/// What a metric is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It grows, until its process ends.
    Counter,
    /// It goes up and down.
    Gauge,
    /// Counts by upper limits, a count and a sum.
    Histogram,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        }
    }
}

/// A page of metrics, as it is written. Each has its head once, and its samples behind it.
#[derive(Clone, Debug, Default)]
pub struct Text(String);

impl Text {
    /// Begins a metric.
    pub fn head(&mut self, name: &str, kind: Kind, help: &str) {
        let kind = kind.name();
        // Writing to a String does not fail.
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    /// Adds a sample, with names and values of its labels.
    pub fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: f64) {
        let labels: Vec<String> =
            labels.iter().map(|(label, value)| format!("{label}=\"{}\"", escaped(value))).collect();
        let labels = match labels.is_empty() {
            true => String::new(),
            false => format!("{{{}}}", labels.join(",")),
        };
        let _ = writeln!(self.0, "{name}{labels} {value}");
    }

    /// All of it.
    pub fn into_string(self) -> String {
        self.0
    }
}

/// The value of a label.
fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages() {
        let mut text = Text::default();
        text.head("a_total", Kind::Counter, "All.");
        text.sample("a_total", &[], 2.0);
        text.sample("a_total", &[("x", "/a\"b\\c\nd"), ("y", "")], 0.5);
        let expected = "# HELP a_total All.\n# TYPE a_total counter\na_total 2\n\
                        a_total{x=\"/a\\\"b\\\\c\\nd\",y=\"\"} 0.5\n";
        assert_eq!(text.into_string(), expected);
    }
}
