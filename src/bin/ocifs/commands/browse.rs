//! `ocifs browse`: registries as directories.

use std::process::ExitCode;

use super::mount;
use crate::args::{self, MountRequest, ShownImages};
use crate::render::errors::AnyError;

pub(crate) fn run(all: &args::Args, args: &args::Browse) -> Result<ExitCode, AnyError> {
    let mount_point = args.directory.clone();
    let shown = ShownImages::Registries { archives: args.archives.clone() };
    let request = MountRequest { shown, mount_point, program: None };
    mount::run_request(all, &args::Mount::of_registries(args), &request)
}
