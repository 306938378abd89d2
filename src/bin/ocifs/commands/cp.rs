//! `ocifs cp`: files of an image, copied to this machine without a mount.

use std::path::Path;
use std::process::ExitCode;

use ocifs::image::{Copy, CopyOptions, Destination};

use super::selected::{questions, select};
use crate::args::{self, RequiredProof, WrongUsage};
use crate::commands::contained::Outlet;
use crate::commands::open::open_excerpt;
use crate::render::errors::{self, About, AnyError, FAILED};
use crate::render::text::count;

pub(crate) fn run(args: &args::Cp) -> Result<ExitCode, AnyError> {
    let (words, to) = args.paths();
    if to == Path::new("-") {
        let text =
            "`-` is no place for copies: `ocifs export REF PATH` writes an archive to stdout";
        let wrong = WrongUsage::new(clap::error::ErrorKind::ValueValidation, text);
        return Ok(errors::wrong_usage(&args::usage_error("cp", wrong)));
    }
    // A symlink that was named stays, and the file that it leads to is replaced, as with `export -o`.
    let is_link_to_file = to.is_symlink() && to.metadata().is_ok_and(|found| !found.is_dir());
    let to = if is_link_to_file { to.canonicalize().unwrap_or(to) } else { to };
    let (layer, required) = (args.layer.layer.as_ref(), RequiredProof::Unsaid);
    let image = open_excerpt(
        &args.image,
        &questions(words),
        layer,
        &args.image_args,
        required,
        Outlet::Files(&to),
    )?;
    let (name, filesystem) = (&image.resolved().name, image.filesystem());
    let selected = select(filesystem.tree(), words).map_err(|e| format!("{name}: {e}"))?;
    let destination = Destination::new(&to, selected.len())?;
    let as_root = rustix::process::geteuid().is_root();
    let mut copy = Copy::new(filesystem, &destination, CopyOptions { as_root });
    let mut is_complete = true;
    for file in &selected {
        let last = file.path.rsplit(|byte| *byte == b'/').find(|name| !name.is_empty());
        let is_contents = file.path.ends_with(b"/.") || file.path == b".";
        let own_name = last.filter(|name| !is_contents && !matches!(*name, b"." | b".."));
        let done = copy.add(file.ino, own_name.unwrap_or_default(), &mut |path, error| {
            errors::failure(&format!("{}: {error}", path.display()).into());
            is_complete = false;
        });
        done.map_err(|e| About::new(name, e))?;
    }
    match copy.copied().lost_attributes {
        0 => {}
        lost => log::warn!(
            "{} could not be kept: they are for root, or the file system takes none",
            count(
                usize::try_from(lost).unwrap_or(usize::MAX),
                "extended attribute",
                "extended attributes"
            )
        ),
    }
    Ok(if is_complete { ExitCode::SUCCESS } else { ExitCode::from(FAILED) })
}
