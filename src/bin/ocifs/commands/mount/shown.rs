//! Opening what a mount is to show.

use ocifs::image::{Opened, View};
use ocifs::mount::Served;
use ocifs::reference::ImageName;
use ocifs::space::Journal;

use super::options::sharing;
use crate::args::{self, MountRequest, RequiredProof, ShownImages};
use crate::commands::engine_store::{Additions, open_store};
use crate::commands::open::{
    Confine, Keeper, Wanted, open_image, open_images, open_layout, open_registries,
};
use crate::render::errors::AnyError;

/// What is served, and what is opened when it is.
pub(super) struct ToServe {
    pub(super) served: Served,
    pub(super) additions: Option<Additions>,
}

impl<T: Into<Served>> From<T> for ToServe {
    fn from(shown: T) -> ToServe {
        ToServe { served: shown.into(), additions: None }
    }
}

/// What another process has to say of it.
#[derive(Default)]
pub(super) struct Known<'a> {
    /// What the names of images were found to be, if that is to be shown again.
    pub(super) before: Option<&'a [Opened]>,
    /// What was looked up. Without it nothing was.
    pub(super) journal: Option<Journal>,
    /// What knows the credentials of images that are opened later.
    pub(super) keeper: Option<Box<dyn Keeper>>,
    /// It is called before images are opened.
    pub(super) confine: Option<Confine<'a>>,
}

/// Whether what is shown depends on what is looked up.
pub(super) fn is_looked_up(request: &MountRequest) -> bool {
    matches!(request.shown, ShownImages::Layout(..) | ShownImages::Registries { .. })
}

/// Opens the images, or what leads to them.
pub(super) fn open(
    args: &args::Mount,
    image_args: &args::ImageArgs,
    request: &MountRequest,
    known: Known<'_>,
) -> Result<ToServe, AnyError> {
    let provenance = args.provenance;
    let Known { before, journal, keeper, confine } = known;
    let journal = || journal.map_or_else(Journal::new, Ok);
    let wanted = Wanted { proof: RequiredProof::Unsaid, provenance, before, confine };
    Ok(match &request.shown {
        ShownImages::Single(image) => View::from(open_image(image, image_args, wanted)?).into(),
        ShownImages::Directories(images) => {
            open_images(images, sharing(args), image_args, wanted)?.into()
        }
        ShownImages::Store(images) => {
            let (lookups, additions) = open_store(images, image_args, wanted)?;
            let additions = Some(additions).filter(|additions| !additions.is_empty());
            ToServe { served: lookups.into(), additions }
        }
        ShownImages::Layout(image, platforms) => {
            open_layout(image, *platforms, image_args, journal()?, wanted)?.into()
        }
        ShownImages::Registries { archives } => {
            open_registries(image_args, archives, journal()?, keeper, confine)?.into()
        }
    })
}

/// Whether one of the images is an archive that comes on standard input.
pub(super) fn is_read_from_input(request: &MountRequest) -> bool {
    let images = request.shown.images();
    let is_read =
        |image: &ImageName| matches!(image, ImageName::Local(local) if local.is_standard_input());
    images.iter().any(|image| is_read(image))
}
