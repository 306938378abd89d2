//! `ocifs pull`: a whole image into the cache.

use std::io::{self, Write};
use std::process::ExitCode;

use ocifs::image::Image;

use crate::args::{self, RequiredProof};
use crate::commands::open::{failed, to_print};
use crate::environment::Settings;
use crate::render::errors::AnyError;
use crate::render::output;
use crate::render::progress::Bar;
use crate::render::text;
use crate::render::text::size;

pub(crate) fn run(args: &args::Pull) -> Result<ExitCode, AnyError> {
    let settings = Settings::read()?;
    let (name, mut options, cache) = to_print(&args.image, &args.image_args, &settings, None)?;
    // All of it is fetched anyway.
    options.prove =
        settings.required_proof(&args.image_args)?.or(RequiredProof::Full) == RequiredProof::Full;
    if !cache.is_writable() {
        return Err("there is no cache to pull into: see --cache-dir and --cache-size".into());
    }
    let bar = Bar::first_use(&name);
    let image = Image::open(&name, &cache, &options, &bar).map_err(failed(&name))?;
    bar.ready();
    // What a first pass has just streamed is there already.
    let bar = Bar::pulling(&name);
    let bytes = image.pull(options.read_deadline, options.parallel_layers, &bar);
    let bytes = bytes.map_err(failed(&name))?;
    drop(bar);
    let layers = text::count(image.proofs().len(), "layer", "layers");
    let fetched = match image.traffic().body_bytes() {
        0 => String::new(),
        fetched => format!(", {} fetched", size(fetched)),
    };
    let line = format!("{name}: {layers}, {} in the cache{fetched}", size(bytes));
    output::ignore_closed_pipe(writeln!(io::stdout(), "{line}"))?;
    Ok(ExitCode::SUCCESS)
}
