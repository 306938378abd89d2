//! Opening what a mount is to show.

use ocifs::image::{Opened, View};
use ocifs::mount::Served;
use ocifs::reference::ImageName;

use super::options::sharing;
use crate::args::{self, MountRequest, RequiredProof, ShownImages};
use crate::commands::engine_store::{Additions, open_store};
use crate::commands::open::{Confine, Wanted, open_image, open_images};
use crate::render::errors::AnyError;

/// What is served, and what is opened when it is.
pub(super) struct ToServe {
    pub(super) served: Served,
    pub(super) additions: Option<Additions>,
}

impl ToServe {
    fn of(view: View) -> ToServe {
        ToServe { served: view.into(), additions: None }
    }
}

/// Opens the images; none where that depends on what is looked up. `before` is what the names were found to be, if that is to be shown
/// again, and `confine` is called before they are opened.
pub(super) fn open(
    args: &args::Mount,
    image_args: &args::ImageArgs,
    request: &MountRequest,
    before: Option<&[Opened]>,
    confine: Option<Confine<'_>>,
) -> Result<Option<ToServe>, AnyError> {
    let provenance = args.provenance;
    let wanted = Wanted { proof: RequiredProof::Unsaid, provenance, before, confine };
    Ok(match &request.shown {
        ShownImages::Single(image) => {
            Some(ToServe::of(View::from(open_image(image, image_args, wanted)?)))
        }
        ShownImages::Directories(images) => {
            Some(ToServe::of(open_images(images, sharing(args), image_args, wanted)?))
        }
        ShownImages::Store(images) => {
            let (lookups, additions) = open_store(images, image_args, wanted)?;
            let additions = Some(additions).filter(|additions| !additions.is_empty());
            Some(ToServe { served: lookups.into(), additions })
        }
        ShownImages::Layout(..) | ShownImages::Registries { .. } => None,
    })
}

/// Whether one of the images is an archive that comes on standard input.
pub(super) fn is_read_from_input(request: &MountRequest) -> bool {
    let images = request.shown.images();
    let is_read =
        |image: &ImageName| matches!(image, ImageName::Local(local) if local.is_standard_input());
    images.iter().any(|image| is_read(image))
}
