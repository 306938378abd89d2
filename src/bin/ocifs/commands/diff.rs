//! `ocifs diff`: what differs between two images.

mod documents;
mod files;
mod json;
mod packages;
mod patch;
mod report;

use std::io::{self, Write};
use std::process::ExitCode;

use ocifs::image::{self, ImageOptions, LayeredImage};
use ocifs::reference::ImageName;
use ocifs::resolve::ResolvedImage;

use self::documents::Documents;
use self::files::Files;
use self::packages::Packages;
use crate::args;
use crate::commands::contained::{self, Outlet};
use crate::commands::open::failed;
use crate::commands::proof;
use crate::commands::registries::refused_for_several;
use crate::commands::report::{report_file, write_report};
use crate::environment::{self, Settings};
use crate::render::errors::{self, About, AnyError};
use crate::render::json::line;
use crate::render::output::{self, write_stderr};
use crate::render::progress::Bar;
use crate::render::screen::Screen;
use crate::render::target::Target;

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

/// Compares and prints; whether anything differs.
fn compare(args: &args::Diff) -> Result<bool, AnyError> {
    let html = report_file(args.html.as_deref())?;
    let settings = Settings::read()?;
    let image_args = args.base.with(&args.image_args);
    let named = |name| environment::image(name, &image_args, &settings);
    let mut images = [named(&args.old)?, named(&args.new)?];
    let cache = environment::cache(&image_args.cache_args);
    contained::reader(&mut images, &cache, &image_args, Outlet::One(args.html.as_deref()))?;
    let [old, new] = images.map(|(name, options)| Named { name, options });
    if args.layers || args.config {
        let resolve = |image: &Named| -> Result<ResolvedImage, AnyError> {
            image::resolve(&image.name, &cache, &image.options)
                .map_err(|error| failed(&image.name)(error).into())
        };
        return compare_documents(args, resolve(&old)?, resolve(&new)?);
    }
    let both = [(&old.name, &old.options), (&new.name, &new.options)];
    let bar = Bar::first_use_of([&old.name, &new.name]);
    let opened = LayeredImage::open_all(&both, &cache, &bar);
    let opened = opened.map_err(|e| About::new(both[e.image].0, e.error))?;
    bar.ready();
    let required = settings.required_proof(&args.image_args)?;
    for image in &opened {
        proof::warn(&image.resolved().name, &image.proofs(), required);
    }
    let [old, new] = &opened[..] else { unreachable!("two were opened") };
    match html {
        Some(html) => compare_all(args, old, new, html),
        None if args.packages => compare_packages(args, old, new),
        None => compare_files(args, old, new),
    }
}

fn compare_documents(
    args: &args::Diff,
    old: ResolvedImage,
    new: ResolvedImage,
) -> Result<bool, AnyError> {
    let documents = Documents::new(old, new, args.layers, args.config)?;
    let mut out = io::BufWriter::new(output::stdout());
    let printed = match args.json {
        true => writeln!(out, "{}", line(documents.as_json())),
        false => documents.print(Screen::stdout(), &mut out),
    };
    output::ignore_closed_pipe(printed.and_then(|()| out.flush()))?;
    Ok(documents.differ())
}

fn compare_packages(
    args: &args::Diff,
    old: &LayeredImage,
    new: &LayeredImage,
) -> Result<bool, AnyError> {
    let packages = Packages::read(old, new)?;
    packages.warn();
    let mut out = io::BufWriter::new(output::stdout());
    let printed = match args.json {
        true => {
            let mut document = json::images(old, new);
            document["packages"] = packages.as_json();
            writeln!(out, "{}", line(document))
        }
        false => packages.print(Screen::stdout(), &mut out),
    };
    output::ignore_closed_pipe(printed.and_then(|()| out.flush()))?;
    Ok(packages.differ())
}

/// Writes the report of all that can be compared; whether files, packages or configs differ.
fn compare_all(
    args: &args::Diff,
    old: &LayeredImage,
    new: &LayeredImage,
    html: Target,
) -> Result<bool, AnyError> {
    let diff = wanted_changes(args, old, new)?;
    let files = Files { old, new, diff: &diff, screen: Screen::none() };
    let packages = Packages::read(old, new)?;
    packages.warn();
    let (old, new) = (old.resolved().clone(), new.resolved().clone());
    let documents = Documents::new(old, new, true, true)?;
    write_report(html, &report::report(&files, &packages, &documents, args.metadata)?)?;
    let configs_differ = documents.settings.as_ref().is_some_and(|rows| !rows.is_empty());
    Ok(!diff.changes.is_empty() || packages.differ() || configs_differ)
}

/// What differs of files, as far as it is asked for.
fn wanted_changes(
    args: &args::Diff,
    old: &LayeredImage,
    new: &LayeredImage,
) -> Result<image::Diff, AnyError> {
    let mut diff = image::diff(old, new)?;
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
    Ok(diff)
}

fn compare_files(
    args: &args::Diff,
    old: &LayeredImage,
    new: &LayeredImage,
) -> Result<bool, AnyError> {
    let diff = wanted_changes(args, old, new)?;
    let screen = Screen::stdout();
    let files = Files { old, new, diff: &diff, screen };
    let collapses = !args.all && args.path.is_empty();
    let mut out = io::BufWriter::new(output::stdout());
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
    Ok(!diff.changes.is_empty())
}

/// Whether both images have it and only its modification time differs.
fn is_of_time_alone(change: &image::FileChange) -> bool {
    let is_in_both = change.old.is_some() && change.new.is_some();
    is_in_both && change.renamed_from.is_none() && !change.aspects.any_but_time()
}
