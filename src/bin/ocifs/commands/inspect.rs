//! `ocifs inspect`: what an image is made of.
//!
//! On a terminal it is a tree; behind a pipe the same facts are rows of columns: what it is, digest, media type, size,
//! and whatever else there is to say. `--json` has all of them.

mod dot;
mod facts;
mod json;
mod report;
mod rows;
mod tree;

use std::io::Write;
use std::process::ExitCode;

use ocifs::image::{self, Depth};

use crate::args;
use crate::commands::open::{failed, to_print};
use crate::commands::report::{report_file, write_report};
use crate::environment::Settings;
use crate::render::errors::{About, AnyError};
use crate::render::json::line;
use crate::render::output;
use crate::render::screen::Screen;
use crate::render::text;

pub(crate) fn run(args: &args::Inspect) -> Result<ExitCode, AnyError> {
    let html = report_file(args.html.as_deref())?;
    let (name, options, cache) =
        to_print(&args.image, &args.image_args, &Settings::read()?, args.html.as_deref())?;
    let mut out = output::stdout();
    if args.digest || args.raw || args.config {
        let wanted = match (args.config, options.platform.is_some()) {
            (true, _) => image::Wanted::Config,
            (false, false) => image::Wanted::Root,
            (false, true) => image::Wanted::Manifest,
        };
        let document = image::document(&name, wanted, &cache, &options).map_err(failed(&name))?;
        match args.digest {
            true => writeln!(out, "{}", document.digest())?,
            false => out.write_all(document.bytes())?,
        }
        out.flush()?;
        return Ok(ExitCode::SUCCESS);
    }
    let depth = if args.all { Depth::All } else { Depth::Shown };
    let graph = image::inspect(&name, &cache, &options, depth).map_err(failed(&name))?;
    if let Some(why) = &graph.no_image {
        log::warn!("{}", About::new(&name, why.clone()));
    }
    if graph.left_out > 0 {
        let documents = text::count(graph.left_out, "document", "documents");
        log::warn!("{name}: {documents} more were not opened");
    }
    if let Some(html) = html {
        drop(out);
        write_report(html, &report::report(&graph))?;
        return Ok(ExitCode::SUCCESS);
    }
    let screen = Screen::stdout();
    output::ignore_closed_pipe(match () {
        () if args.json => writeln!(out, "{}", line(json::document(&graph))),
        () if args.dot => dot::print(&mut out, &graph),
        () if screen.is_terminal() => tree::print(&mut out, &graph, screen),
        () => rows::print(&mut out, &graph, screen),
    })?;
    Ok(ExitCode::SUCCESS)
}
