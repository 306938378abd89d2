//! `ocifs diff`: what differs between two images.

mod documents;
mod files;
mod json;
mod packages;
mod patch;

use std::io::{self, Write};
use std::process::ExitCode;

use ocifs::image::{self, ImageOptions, LayeredImage, LayeredImages};
use ocifs::reference::ImageName;
use ocifs::resolve::ResolvedImage;

use self::documents::Documents;
use self::files::Files;
use self::packages::Packages;
use crate::args;
use crate::commands::open::failed;
use crate::commands::proof;
use crate::commands::registries::refused_for_several;
use crate::environment::{self, Settings};
use crate::render::errors::{self, AnyError};
use crate::render::json::line;
use crate::render::output::{self, write_stderr};
use crate::render::progress::Bar;
use crate::render::screen::Screen;

/// Exit codes of diff(1).
const DIFFERENT: u8 = 1;
const TROUBLE: u8 = 2;

pub(crate) fn run(args: &args::Diff) -> Result<ExitCode, AnyError> {
    let instead = "compare copies of them (`oci:`)";
    let images = [&args.old, &args.new];
    let compared = match refused_for_several(images, &args.image_args, instead) {
        Ok(Some(error)) => {
            return Ok(errors::wrong_usage(&args::usage_error("diff", error)));
        }
        Ok(None) => compare(args),
        Err(error) => Err(error),
    };
    Ok(match compared {
        Ok(false) => ExitCode::SUCCESS,
        Ok(true) => ExitCode::from(DIFFERENT),
        Err(error) => {
            errors::failure(&error);
            ExitCode::from(TROUBLE)
        }
    })
}

/// An image with its options.
struct Named {
    name: ImageName,
    options: ImageOptions,
}

impl Named {
    fn new(name: &ImageName, args: &args::Diff, settings: &Settings) -> Result<Named, AnyError> {
        let (name, options) = environment::image(name, &args.image_args, settings)?;
        Ok(Named { name, options })
    }
}

/// Compares and prints; whether anything differs.
fn compare(args: &args::Diff) -> Result<bool, AnyError> {
    let settings = Settings::read()?;
    let images = [&args.old, &args.new];
    let [old, new] = images.map(|name| Named::new(name, args, &settings));
    let (old, new) = (old?, new?);
    let cache = environment::cache(&args.image_args.cache_args);
    let screen = Screen::stdout();
    let mut out = io::BufWriter::new(output::stdout());
    if args.layers || args.config {
        let resolve = |image: &Named| -> Result<ResolvedImage, AnyError> {
            image::resolve(&image.name, &cache, &image.options)
                .map_err(|error| failed(&image.name)(error).into())
        };
        let documents = Documents::new(resolve(&old)?, resolve(&new)?, args.layers, args.config)?;
        let printed = match args.json {
            true => writeln!(out, "{}", line(documents.as_json())),
            false => documents.print(screen, &mut out),
        };
        output::ignore_closed_pipe(printed.and_then(|()| out.flush()))?;
        return Ok(documents.differ());
    }
    let mut opened = LayeredImages::new(&cache);
    let mut open = |image: &Named| -> Result<LayeredImage, AnyError> {
        let bar = Bar::first_use(&image.name);
        let opened = opened.open(&image.name, &image.options, &bar);
        let opened = opened.map_err(failed(&image.name))?;
        bar.ready();
        let required = settings.required_proof(&args.image_args)?;
        proof::warn(&opened.resolved().name, &opened.proofs(), required);
        Ok(opened)
    };
    let (old_image, new_image) = (open(&old)?, open(&new)?);
    if args.packages {
        let packages = Packages::read(&old_image, &new_image)?;
        packages.warn();
        let printed = match args.json {
            true => {
                let mut document = json::images(&old_image, &new_image);
                document["packages"] = packages.as_json();
                writeln!(out, "{}", line(document))
            }
            false => packages.print(screen, &mut out),
        };
        output::ignore_closed_pipe(printed.and_then(|()| out.flush()))?;
        return Ok(packages.differ());
    }
    let mut diff = image::diff(&old_image, &new_image)?;
    diff.changes.retain(|change| args.metadata || !is_of_time_alone(change));
    let is_wanted = |path: &[u8]| {
        let path = [b"/", path].concat();
        args.path.iter().any(|glob| glob.matches(&path))
    };
    if !args.path.is_empty() {
        diff.changes.retain(|change| {
            is_wanted(&change.path) || change.renamed_from.as_deref().is_some_and(is_wanted)
        });
    }
    let differ = !diff.changes.is_empty();
    let files = Files { old: &old_image, new: &new_image, diff: &diff, screen };
    let collapses = !args.all && args.path.is_empty();
    let printed = if args.json {
        writeln!(out, "{}", line(json::document(&files, args.metadata)))
    } else if args.patch {
        patch::print(&files, &mut out)?
    } else if args.stat {
        files.print_totals(&mut out)
    } else if args.name_only {
        files.print_names(&mut out)
    } else {
        files.print(collapses, args.metadata, &mut out)
    };
    output::ignore_closed_pipe(printed.and_then(|()| out.flush()))?;
    if screen.is_terminal() && !args.json && !args.patch {
        write_stderr(&files.summary());
    }
    Ok(differ)
}

/// Whether both images have it and only its modification time differs.
fn is_of_time_alone(change: &image::FileChange) -> bool {
    let is_in_both = change.old.is_some() && change.new.is_some();
    is_in_both && change.renamed_from.is_none() && !change.aspects.any_but_time()
}
