//! `ocifs du --check`: whether an image is as lean as was demanded, for builds that are to fail otherwise.
//!
//! Nothing is pulled: sizes are in the manifest and in the layer indexes. Every check is told, those that hold too,
//! so that a log shows how near a limit was. Where too much is wasted, the paths that waste the most follow, as it
//! is they that have to be mended. The exit codes are those of `diff`: 1 says that the image is not what was
//! demanded, 2 that this could not be found out.

use std::collections::HashSet;
use std::io::{self, Write};

use ocifs::image::{LayerUsage, LayeredImage, Step, WastedPath, layer_usage, wasted_paths};
use ocifs::tree::{Ino, Provenance, UsageCount, UsageRow};
use serde_json::{Value, json};

use crate::args::{Check, Metric, Most};
use crate::commands::report::made_by;
use crate::render::instruction::instruction;
use crate::render::json::set_name;
use crate::render::listing::for_terminal;
use crate::render::screen::{Mark, Screen};
use crate::render::table::{Align, Table};
use crate::render::text::{count, size};

/// Paths that are named where too much is wasted.
pub(crate) const NAMED_PATHS: usize = 20;

/// What an image takes, as checks measure it.
pub(crate) struct Measured {
    pub(crate) layers: Vec<LayerUsage>,
    /// Files of the image, directories included.
    pub(crate) files: u64,
    /// The paths that waste the most.
    pub(crate) paths: Vec<WastedPath>,
}

impl Measured {
    pub(crate) fn new(image: &LayeredImage, provenance: &Provenance, paths: usize) -> Measured {
        let mut files = UsageCount::new(image.filesystem().tree(), false);
        let ignore = &mut |_: UsageRow<'_>| Ok::<(), std::convert::Infallible>(());
        let Ok(usage) = files.walk(Ino::ROOT, b"/", ignore);
        Measured {
            layers: layer_usage(image, provenance),
            files: usage.files,
            paths: wasted_paths(&image.indexes(), provenance, paths),
        }
    }

    fn sum(&self, of: fn(&LayerUsage) -> u64) -> u64 {
        self.layers.iter().map(of).fold(0, u64::saturating_add)
    }

    /// Bytes of all layers, unpacked.
    pub(crate) fn unpacked(&self) -> u64 {
        self.sum(|layer| layer.uncompressed)
    }

    /// Bytes of all blobs. One that the image has several times is fetched once.
    pub(crate) fn compressed(&self) -> u64 {
        let mut seen = HashSet::new();
        let blobs = self.layers.iter().filter(|layer| seen.insert(layer.digest));
        blobs.map(|layer| layer.compressed).fold(0, u64::saturating_add)
    }

    /// Bytes of content that the image does not show.
    pub(crate) fn wasted(&self) -> u64 {
        self.sum(|layer| layer.hidden)
    }

    /// Bytes of content of all layers.
    pub(crate) fn content(&self) -> u64 {
        self.sum(|layer| layer.content)
    }

    /// The same without the first layer.
    fn user_content(&self) -> u64 {
        self.layers.iter().skip(1).map(|layer| layer.content).fold(0, u64::saturating_add)
    }

    /// Holds a demand against this.
    pub(crate) fn finding<'a>(&self, check: &'a Check) -> Finding<'a> {
        let largest = self.layers.iter().map(|layer| layer.uncompressed).max();
        let (found, whole) = match check.metric {
            Metric::Size => (self.unpacked(), None),
            Metric::Compressed => (self.compressed(), None),
            Metric::Wasted => (self.wasted(), Some(self.content())),
            Metric::UserWasted => (self.wasted(), Some(self.user_content())),
            Metric::Layers => (self.layers.len() as u64, None),
            Metric::LayerSize => (largest.unwrap_or(0), None),
            Metric::Files => (self.files, None),
        };
        let holds = match check.most {
            Most::Number(most) => found <= most,
            Most::Share(most) => !most.is_exceeded(found, whole.unwrap_or(found)),
        };
        let layer = (check.metric == Metric::LayerSize)
            .then(|| self.layers.iter().position(|layer| Some(layer.uncompressed) == largest));
        Finding { check, found, whole, holds, layer: layer.flatten() }
    }
}

/// What became of a check.
pub(crate) struct Finding<'a> {
    pub(crate) check: &'a Check,
    /// Bytes, or how many there are.
    pub(crate) found: u64,
    /// Of how many bytes these are a share.
    whole: Option<u64>,
    pub(crate) holds: bool,
    /// The layer that it is.
    layer: Option<usize>,
}

impl Finding<'_> {
    pub(crate) fn word(&self) -> &'static str {
        if self.holds { "ok" } else { "fails" }
    }

    fn is_of_waste(&self) -> bool {
        matches!(self.check.metric, Metric::Wasted | Metric::UserWasted)
    }

    /// Part of the whole in percent; `None` if there is no whole.
    fn percent(&self) -> Option<f64> {
        let whole = self.whole.filter(|whole| *whole > 0)?;
        Some(self.found as f64 * 100.0 / whole as f64)
    }

    /// `12.3% wasted: 58.1 MiB of 472 MiB of content (60922265 of 494927872 bytes)`
    pub(crate) fn text(&self) -> String {
        let found = self.found;
        let bytes = |bytes: u64| format!("{} ({bytes} bytes)", size(bytes));
        match self.check.metric {
            Metric::Size => format!("{} unpacked", bytes(found)),
            Metric::Compressed => format!("{} compressed", bytes(found)),
            Metric::LayerSize => {
                let layer = self.layer.map_or(String::new(), |at| format!(", layer {at}"));
                format!("{} unpacked{layer}", bytes(found))
            }
            Metric::Layers => count(found as usize, "layer", "layers"),
            Metric::Files => count(found as usize, "file", "files"),
            Metric::Wasted | Metric::UserWasted => {
                let whole = self.whole.unwrap_or(0);
                let of = match self.check.metric {
                    Metric::UserWasted => "of content above the first layer",
                    _ => "of content",
                };
                let sizes = format!("{} of {} {of}", size(found), size(whole));
                let percent = self.percent().map_or(String::new(), |p| format!("{p:.2}% wasted: "));
                format!("{percent}{sizes} ({found} of {whole} bytes)")
            }
        }
    }

    fn as_json(&self) -> Value {
        let (limit, limit_percent) = match self.check.most {
            Most::Number(most) => (Some(most), None),
            Most::Share(share) => (None, Some(share.percent())),
        };
        json!({
            "check": self.check.name,
            "ok": self.holds,
            "limit": limit,
            "limit_percent": limit_percent,
            "found": self.found,
            "of": self.whole,
            "percent": self.percent(),
            "layer": self.layer,
        })
    }
}

/// Prints what became of the checks, and what wastes if that is too much.
pub(super) fn print(
    out: &mut impl Write,
    screen: Screen,
    findings: &[Finding<'_>],
    measured: &Measured,
    steps: &[Step],
) -> io::Result<()> {
    let columns = [("", Align::Left), ("check", Align::Left), ("found", Align::Left)];
    let mut table = Table::new(screen, &columns);
    for finding in findings {
        table.row([finding.word().to_owned(), finding.check.text.clone(), finding.text()]);
    }
    table.print(out)?;
    let wastes = findings.iter().any(|finding| finding.is_of_waste() && !finding.holds);
    if !wastes || measured.paths.is_empty() {
        return Ok(());
    }
    let columns = [
        ("wasted", Align::Right),
        ("versions", Align::Right),
        ("path", Align::Left),
        ("since layer", Align::Right),
        ("instruction", Align::Left),
    ];
    let mut table = Table::new(screen, &columns);
    for wasted in &measured.paths {
        let path = [b"/", &wasted.path[..]].concat();
        table.row([
            screen.size(wasted.bytes),
            wasted.versions.to_string(),
            for_terminal(&path),
            wasted.hidden_in.to_string(),
            instruction(screen, made_by(steps, wasted.hidden_in)),
        ]);
    }
    writeln!(out, "{}", screen.marked(Mark::Aside, "the paths that waste the most:"))?;
    table.print(out)
}

/// The document of `--json`.
pub(super) fn as_json(
    image: &LayeredImage,
    findings: &[Finding<'_>],
    measured: &Measured,
    steps: &[Step],
) -> Value {
    let path = |wasted: &WastedPath| {
        let mut row = json!({
            "bytes": wasted.bytes,
            "versions": wasted.versions,
            "layer": wasted.layer,
            "hidden_in": wasted.hidden_in,
            "created_by": made_by(steps, wasted.hidden_in).map(|entry| &entry.created_by),
        });
        set_name(&mut row, "path", &wasted.path);
        row
    };
    json!({
        "image": image.resolved().name,
        "digest": image.resolved().digest,
        "ok": findings.iter().all(|finding| finding.holds),
        "checks": findings.iter().map(Finding::as_json).collect::<Vec<_>>(),
        "wasted": {
            "bytes": measured.wasted(),
            "of": measured.content(),
            "paths": measured.paths.iter().map(path).collect::<Vec<_>>(),
        },
    })
}
