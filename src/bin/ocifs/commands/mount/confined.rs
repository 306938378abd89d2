//! A worker's containment, and what its supervisor does for it instead.

use std::sync::Arc;

use ocifs::cache::Cache;
use ocifs::image::ImageOptions;
use ocifs::reference::ImageName;
use ocifs::source::registry::CredentialKeeper;

use super::errands::{Errands, FarCredentials};
use crate::args;
use crate::commands::contained::{change_each, needs};
use crate::commands::open::Keeper;
use crate::contain::contain;

/// Contains this process before it opens images: from then on credentials come from the supervisor.
pub(super) fn begin(
    images: &mut [(ImageName, ImageOptions)],
    errands: &Arc<Errands>,
    cache_args: &args::CacheArgs,
    cache: &Cache,
) {
    let needs = needs(images, cache, cache_args);
    change_each(images, |name, options| keep(name, options, errands));
    contain(&needs);
}

/// Has its credentials be searched for by the supervisor.
fn keep(name: &ImageName, options: &mut ImageOptions, errands: &Arc<Errands>) {
    options.registry.credentials.be_kept_by(Supervisor(Arc::clone(errands)).of(name));
}

/// The supervisor, as what knows the credentials of images that are opened later.
#[derive(Debug)]
pub(super) struct Supervisor(pub(super) Arc<Errands>);

impl Keeper for Supervisor {
    fn of(&self, image: &ImageName) -> Arc<dyn CredentialKeeper> {
        Arc::new(FarCredentials { errands: Arc::clone(&self.0), image: image.to_string() })
    }
}
