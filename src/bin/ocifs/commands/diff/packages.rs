//! The packages that differ between two images.

use std::io::{self, Write};

use ocifs::image::LayeredImage;
use ocifs::packages::{self, Change, Inventory, Side};
use serde_json::{Value, json};

use crate::render::errors::{About, AnyError};
use crate::render::json::set_name;
use crate::render::screen::Screen;
use crate::render::table::{Align, Table};

/// The packages of two images, and how they differ.
pub(super) struct Packages {
    pub(super) changes: Vec<Change>,
    images: [(String, Inventory); 2],
}

impl Packages {
    /// Reads the databases of both images.
    ///
    /// # Errors
    /// Content can't be read. A database that makes no sense is a problem, and no error.
    pub(super) fn read(old: &LayeredImage, new: &LayeredImage) -> Result<Packages, AnyError> {
        let read = |image: &LayeredImage| -> Result<(String, Inventory), AnyError> {
            let name = &image.resolved().name;
            let inventory = packages::read(image.filesystem());
            Ok((name.clone(), inventory.map_err(|error| About::new(name, error))?))
        };
        let images = [read(old)?, read(new)?];
        let changes = packages::compare(&images[0].1, &images[1].1);
        Ok(Packages { changes, images })
    }

    pub(super) fn differ(&self) -> bool {
        !self.changes.is_empty()
    }

    /// Warns of databases that could not be read.
    pub(super) fn warn(&self) {
        for (name, inventory) in &self.images {
            for problem in &inventory.problems {
                let place = String::from_utf8_lossy(&problem.place);
                log::warn!("{name}: /{place}: packages of {}: {}", problem.manager, problem.why);
            }
        }
    }

    pub(super) fn print(&self, screen: Screen, out: &mut impl Write) -> io::Result<()> {
        let columns = [
            ("", Align::Left),
            ("package", Align::Left),
            ("A", Align::Left),
            ("B", Align::Left),
            ("manager", Align::Left),
            ("where", Align::Left),
        ];
        let mut table = Table::new(screen, &columns);
        for change in &self.changes {
            let sign = match (&change.old, &change.new) {
                (None, _) => "+",
                (_, None) => "-",
                _ => "~",
            };
            let versions = |side: &Option<Side>| {
                side.as_ref().map_or(String::new(), |side| side.versions.join(", "))
            };
            table.row([
                sign.to_owned(),
                change.name.clone(),
                versions(&change.old),
                versions(&change.new),
                change.manager.name().to_owned(),
                place(change),
            ]);
        }
        table.print(out)
    }

    pub(super) fn as_json(&self) -> Value {
        let side = |side: &Side| {
            let mut row = json!({
                "architecture": side.architecture,
                "versions": side.versions,
                "directory": null,
            });
            if let Some(directory) = &side.directory {
                set_name(&mut row, "directory", directory);
            }
            row
        };
        let change = |change: &Change| {
            json!({
                "manager": change.manager.name(),
                "name": change.name,
                "old": change.old.as_ref().map(side),
                "new": change.new.as_ref().map(side),
            })
        };
        let problems =
            self.images.iter().zip(["old", "new"]).flat_map(|((_, inventory), image)| {
                inventory.problems.iter().map(move |problem| {
                    let mut row = json!({
                        "image": image,
                        "manager": problem.manager.name(),
                        "why": problem.why.to_string(),
                    });
                    set_name(&mut row, "path", &problem.place);
                    row
                })
            });
        json!({
            "changes": self.changes.iter().map(change).collect::<Vec<_>>(),
            "problems": problems.collect::<Vec<_>>(),
        })
    }
}

/// What tells packages of one name apart: the architecture, or the directory of a Python distribution.
pub(super) fn place(change: &Change) -> String {
    let of = |side: &Side| match (&side.directory, &side.architecture) {
        (Some(directory), _) => format!("/{}", String::from_utf8_lossy(directory)),
        (None, architecture) => architecture.clone().unwrap_or_default(),
    };
    match (change.old.as_ref().map(of), change.new.as_ref().map(of)) {
        (Some(old), Some(new)) if old != new => format!("{old} -> {new}"),
        (old, new) => new.or(old).unwrap_or_default(),
    }
}
