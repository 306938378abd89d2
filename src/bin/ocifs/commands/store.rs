//! `ocifs store`: a store of images for podman, buildah and CRI-O.

use std::process::ExitCode;

use super::mount;
use crate::args::{self, MountRequest, ShownImages};
use crate::render::errors::AnyError;

pub(crate) fn run(all: &args::Args, args: &args::Store) -> Result<ExitCode, AnyError> {
    let mount_point = args.directory.clone();
    let (images, list) = (args.images.clone(), args.list.clone());
    let shown = ShownImages::Store(args::EngineImages { images, list });
    let request = MountRequest { shown, mount_point, program: None };
    mount::run_request(all, &args::Mount::of_store(args), &request)
}
