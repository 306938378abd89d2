//! Mounting where an image is mounted already.

use std::thread;
use std::time::{Duration, Instant};

use ocifs::fuse::kernel::{self, Mounted};
use ocifs::image::Selection;
use ocifs::index::Proof;
use ocifs::mount::{ImageStatus, Manner, Status, StatusError};
use ocifs::reference::{DirectoryName, ImageName};
use ocifs::tree::Sharing;

use super::options::{options, sharing};
use crate::args::{self, ArtifactForm, MountRequest, RequiredProof, ShownImages};
use crate::commands::open::failed;
use crate::environment::{self, Settings};
use crate::render::errors::AnyError;
use crate::render::output;
use crate::render::text;

/// How long a process that serves may take to be started again, and how often that is looked at.
const RESTART: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(50);

/// How long a mount whose process does not answer may be beginning or ending.
pub(super) const BETWEEN: Duration = RESTART;

/// Waits a moment if a mount is beginning or ending, and says so: its process does not answer. A process in the
/// background whose front process was killed mounts, finds that nobody waits for it, and ends; what a killed
/// supervisor leaves is dead once its worker is gone.
pub(super) fn is_in_between(there: &Mounted) -> bool {
    let status = environment::query_status(there.connection);
    let is_in_between = matches!(status, Err(StatusError::Socket(_)));
    if is_in_between {
        thread::sleep(PAUSE);
    }
    is_in_between
}

/// Whether what is to be mounted is what is mounted at its place. If it is, that is said; if not, it is an error.
pub(super) fn is_shown(
    args: &args::Mount,
    request: &MountRequest,
    there: &Mounted,
) -> Result<bool, AnyError> {
    if let ShownImages::Registries { .. } = request.shown {
        if there.source == ocifs::mount::REGISTRIES {
            let place = there.mount_point.display();
            let text = format!("registries are shown already at {place}");
            output::write_stderr(&format!("{}\n", text::printable(&text)));
            return Ok(true);
        }
        let (path, image) = (there.mount_point.clone(), there.source.clone());
        return Err(kernel::Error::Occupied { path, image }.into());
    }
    if let ShownImages::Store(_) = request.shown {
        let (path, image) = (there.mount_point.clone(), there.source.clone());
        return Err(kernel::Error::Occupied { path, image }.into());
    }
    let settings = Settings::read()?;
    let selection = Selection {
        exclude: args.base.name().map(ToString::to_string),
        artifacts: ArtifactForm::view(args.image_args.shown_as),
        lowest_layers: args.lowest_layers,
        layout: match &request.shown {
            ShownImages::Layout(_, platforms) => Some(*platforms),
            _ => None,
        },
    };
    let wants_proof = settings.required_proof(&args.image_args)? == RequiredProof::Full;
    let is_proven =
        |image: &ImageStatus| image.layers.iter().all(|layer| layer.proof == Proof::Full.name());
    let mut image = there.source.clone();
    if let Ok(status) = status_of(there) {
        let shown = status.shown.images();
        if let [only] = shown {
            image = format!("{image} ({})", only.digest);
        }
        let sharing = match selection.layout {
            Some(_) => Sharing::Nothing,
            None => sharing(args),
        };
        let manner = Manner::of(&options(args), sharing, args.provenance, &selection);
        let is_over_same = args.upper.is_none() && args.scratch == there.is_writable;
        if !is_over_same || status.options != manner {
            image.push_str(", mounted in another way,");
        } else if wants_proof && !shown.iter().all(is_proven) {
            image.push_str(", shown with a weaker proof,");
        } else if are_same(args, &request.shown, shown, &settings)? {
            let place = there.mount_point.display();
            let text = format!("{image} is already mounted at {place}");
            output::write_stderr(&format!("{}\n", text::printable(&text)));
            return Ok(true);
        }
    }
    Err(kernel::Error::Occupied { path: there.mount_point.clone(), image }.into())
}

/// The status of a mount. If what serves it is being started again that is waited for, not for ever.
fn status_of(there: &Mounted) -> Result<Status, StatusError> {
    let until = Instant::now() + RESTART;
    loop {
        match environment::query_status(there.connection) {
            Err(StatusError::Restarting(_)) if Instant::now() < until => thread::sleep(PAUSE),
            result => return result,
        }
    }
}

/// Whether names mean the images that are shown, each at its place.
fn are_same(
    args: &args::Mount,
    wanted: &ShownImages,
    shown: &[ImageStatus],
    settings: &Settings,
) -> Result<bool, AnyError> {
    let wanted: Vec<(Option<&DirectoryName>, &ImageName)> = match wanted {
        ShownImages::Single(image) | ShownImages::Layout(image, _) => vec![(None, image)],
        ShownImages::Directories(images) => {
            images.iter().map(|(directory, image)| (Some(directory), image)).collect()
        }
        ShownImages::Registries { .. } | ShownImages::Store(_) => Vec::new(),
    };
    if wanted.len() != shown.len() {
        return Ok(false);
    }
    let cache = environment::cache(&args.image_args.cache_args);
    for (directory, name) in wanted {
        let directory = directory.map(|name| name.to_string());
        let Some(there) = shown.iter().find(|shown| shown.directory == directory) else {
            return Ok(false);
        };
        let (name, options) = environment::image(name, &args.image_args, settings)?;
        match ocifs::image::resolve(&name, &cache, &options) {
            Ok(resolved) if resolved.digest.to_string() == there.digest => {}
            Ok(_) => return Ok(false),
            // `mount -a` is said again where there is no network, too. But another platform is another image.
            Err(e) if there.image == name.to_string() && !e.is_no_image() => {
                log::warn!("{name}: which image the name means now is not known: {e}");
            }
            Err(e) => return Err(failed(&name)(e).into()),
        }
    }
    Ok(true)
}
