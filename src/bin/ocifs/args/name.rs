//! Names of images on the command line.

use std::path::Path;

use ocifs::fuse::kernel::{self, Mounted};
use ocifs::reference::{ImageName, LocalSource};
use ocifs::source::on_disk;

use crate::variables;

/// An image as users write it.
pub(super) fn image_name(text: &str) -> Result<ImageName, String> {
    // A shell leaves the tilde alone in quotes and behind a colon.
    let at = if text.starts_with("~/") { Some(0) } else { text.find(":~/").map(|at| at + 1) };
    let text = match (at, variables::home()) {
        (Some(at), Some(home)) if is_missing(Path::new(&text[at..])) => {
            format!("{}{}{}", &text[..at], home.display(), &text[at + 1..])
        }
        _ => text.to_owned(),
    };
    let parsed = text.parse::<ImageName>();
    let readings = match &parsed {
        Ok(ImageName::Local(local)) if local.is_standard_input() => Vec::new(),
        Ok(ImageName::Local(local)) => local.readings(),
        Ok(ImageName::Stored(_)) => Vec::new(),
        Ok(ImageName::Registry(_)) | Err(_) => LocalSource::bare(&text).readings(),
    };
    if let Some(mount) = readings.iter().find_map(|reading| mount_at(&reading.path)) {
        // The folder `debian` that the image of this name is mounted on is not the image.
        if let Ok(ImageName::Registry(_)) = parsed {
            return parsed.map_err(|e| e.to_string());
        }
        if kernel::answer(&mount) != kernel::Answer::Comes {
            let place = mount.mount_point.display();
            return Err(format!(
                "`{place}` is a mount whose process has ended or is stopped; `ocifs umount {place}` ends it"
            ));
        }
    }
    on_disk::named(&text).map_err(|e| e.to_string())
}

/// The mount of ocifs at a path, by the table of mounts: its process may not answer, and who looks at what is mounted
/// waits for that.
pub(crate) fn mount_at(path: &Path) -> Option<Mounted> {
    kernel::absolute(path).ok().and_then(|place| kernel::uppermost(&place).ok().flatten())
}

fn is_missing(path: &Path) -> bool {
    mount_at(path).is_none() && !path.exists()
}
