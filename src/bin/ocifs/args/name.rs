//! Names of images on the command line.

use std::path::Path;

use ocifs::reference::ImageName;
use ocifs::source::on_disk;

use crate::variables;

/// An image as users write it.
pub(super) fn image_name(text: &str) -> Result<ImageName, String> {
    // A shell leaves the tilde alone in quotes and behind a colon.
    let at = if text.starts_with("~/") { Some(0) } else { text.find(":~/").map(|at| at + 1) };
    let text = match (at, variables::home()) {
        (Some(at), Some(home)) if !Path::new(&text[at..]).exists() => {
            format!("{}{}{}", &text[..at], home.display(), &text[at + 1..])
        }
        _ => text.to_owned(),
    };
    on_disk::named(&text).map_err(|e| e.to_string())
}
