//! Two images compared by their documents: layers and configs. No layer is opened for that.

use std::collections::BTreeMap;
use std::io::{self, Write};

use ocifs::image::common_layers;
use ocifs::oci::config_settings;
use ocifs::resolve::{ResolvedImage, ResolvedLayer};
use serde_json::{Value, json};

use crate::render::errors::AnyError;
use crate::render::screen::Screen;
use crate::render::table::{Align, Table};

/// The documents of two images, and what is to be told of them.
pub(super) struct Documents {
    old: ResolvedImage,
    new: ResolvedImage,
    pub(super) layers: Option<Vec<LayerRow>>,
    pub(super) settings: Option<Vec<Setting>>,
}

/// A layer, with its place in each image that has it.
pub(super) struct LayerRow {
    pub(super) layer: ResolvedLayer,
    pub(super) old: Option<usize>,
    pub(super) new: Option<usize>,
}

/// A setting of the config that differs.
pub(super) struct Setting {
    pub(super) key: String,
    pub(super) old: Option<String>,
    pub(super) new: Option<String>,
}

impl Documents {
    pub(super) fn new(
        old: ResolvedImage,
        new: ResolvedImage,
        layers: bool,
        config: bool,
    ) -> Result<Documents, AnyError> {
        let settings = match config {
            true => Some(different_settings(&old, &new)?),
            false => None,
        };
        let layers = layers.then(|| rows(&old.layers, &new.layers));
        Ok(Documents { old, new, layers, settings })
    }

    pub(super) fn differ(&self) -> bool {
        let differs = |row: &LayerRow| row.old.is_none() || row.new.is_none() || row.old != row.new;
        let layers_differ = self.layers.as_ref().is_some_and(|rows| rows.iter().any(differs));
        layers_differ || self.settings.as_ref().is_some_and(|settings| !settings.is_empty())
    }

    pub(super) fn print(&self, screen: Screen, out: &mut impl Write) -> io::Result<()> {
        if let Some(rows) = &self.layers {
            let columns = [
                ("", Align::Left),
                ("A", Align::Right),
                ("B", Align::Right),
                ("layer", Align::Left),
                ("size", Align::Right),
                ("diff ID", Align::Left),
            ];
            let mut table = Table::new(screen, &columns);
            for LayerRow { layer, old, new } in rows {
                let place =
                    |place: Option<usize>| place.map_or("-".to_owned(), |at| at.to_string());
                table.row([
                    sign(old.is_some(), new.is_some()).to_owned(),
                    place(*old),
                    place(*new),
                    screen.digest(&layer.descriptor.digest),
                    screen.size(layer.descriptor.size),
                    layer.diff_id.map_or("-".to_owned(), |diff_id| screen.digest(&diff_id.0)),
                ]);
            }
            table.print(out)?;
        }
        if let Some(settings) = &self.settings {
            let columns = [
                ("", Align::Left),
                ("setting", Align::Left),
                ("A", Align::Left),
                ("B", Align::Left),
            ];
            let mut table = Table::new(screen, &columns);
            for Setting { key, old, new } in settings {
                let value = |value: &Option<String>| value.clone().unwrap_or_default();
                let sign = sign(old.is_some(), new.is_some());
                let sign = if sign == "=" { "~" } else { sign };
                table.row([sign.to_owned(), key.clone(), value(old), value(new)]);
            }
            table.print(out)?;
        }
        Ok(())
    }

    pub(super) fn as_json(&self) -> Value {
        let image = |image: &ResolvedImage| json!({ "image": image.name, "digest": image.digest });
        let counts = common_layers(&self.old, &self.new);
        let layer = |row: &LayerRow| {
            json!({
                "digest": row.layer.descriptor.digest,
                "size": row.layer.descriptor.size,
                "diff_id": row.layer.diff_id,
                "old": row.old,
                "new": row.new,
            })
        };
        let setting = |row: &Setting| json!({ "setting": row.key, "old": row.old, "new": row.new });
        let layers = self.layers.as_ref();
        let settings = self.settings.as_ref();
        json!({
            "old": image(&self.old),
            "new": image(&self.new),
            "layers": { "common": counts.common, "old": counts.old, "new": counts.new },
            "layer_list": layers.map(|rows| rows.iter().map(layer).collect::<Vec<_>>()),
            "config": settings.map(|rows| rows.iter().map(setting).collect::<Vec<_>>()),
        })
    }
}

fn sign(in_old: bool, in_new: bool) -> &'static str {
    match (in_old, in_new) {
        (true, true) => "=",
        (true, false) => "-",
        (false, _) => "+",
    }
}

fn different_settings(old: &ResolvedImage, new: &ResolvedImage) -> Result<Vec<Setting>, AnyError> {
    let settings = |image: &ResolvedImage| -> Result<BTreeMap<String, String>, AnyError> {
        let settings = config_settings(image.config().bytes());
        settings.map_err(|error| format!("{}: config: {error}", image.name).into())
    };
    let (mut of_old, of_new) = (settings(old)?, settings(new)?);
    let mut rows = Vec::new();
    for (key, new) in of_new {
        let old = of_old.remove(&key);
        if old.as_ref() != Some(&new) {
            rows.push(Setting { key, old, new: Some(new) });
        }
    }
    let gone = of_old.into_iter().map(|(key, old)| Setting { key, old: Some(old), new: None });
    rows.extend(gone);
    rows.sort_by(|a, b| a.key.cmp(&b.key));
    Ok(rows)
}

/// The layers of both images, base first: what they have in common first, then those of the old one, then those of the
/// new one.
fn rows(old: &[ResolvedLayer], new: &[ResolvedLayer]) -> Vec<LayerRow> {
    let mut places: std::collections::HashMap<_, Vec<usize>> = std::collections::HashMap::new();
    for (at, layer) in new.iter().enumerate().rev() {
        places.entry(layer.content_id()).or_default().push(at);
    }
    let mut is_matched = vec![false; new.len()];
    let mut rows = Vec::with_capacity(old.len());
    for (at, layer) in old.iter().enumerate() {
        let place = places.get_mut(&layer.content_id()).and_then(Vec::pop);
        place.into_iter().for_each(|place| is_matched[place] = true);
        rows.push(LayerRow { layer: layer.clone(), old: Some(at), new: place });
    }
    let others = new.iter().enumerate().filter(|(at, _)| !is_matched[*at]);
    rows.extend(others.map(|(at, layer)| LayerRow {
        layer: layer.clone(),
        old: None,
        new: Some(at),
    }));
    rows
}
