//! `ocifs pull`: a whole image into the cache.

use std::io::{self, Write};
use std::process::ExitCode;

use ocifs::image::Image;

use crate::args::{self, Demand};
use crate::commands::failed;
use crate::environment;
use crate::progress::{Bar, size};
use crate::report::{self, AnyError};

pub(crate) fn run(args: &args::Pull) -> Result<ExitCode, AnyError> {
    let (name, mut options) = environment::image(&args.image, &args.image_args)?;
    // All of it is fetched anyway.
    options.prove = environment::demand(&args.image_args)?.or(Demand::Full) == Demand::Full;
    let cache = environment::cache(&args.image_args.cache_args);
    if !cache.is_writable() {
        return Err("there is no cache to pull into: see --cache-dir and --cache-size".into());
    }
    let bar = Bar::first_sight(&name);
    let image = Image::open(&name, &cache, &options, &bar).map_err(failed(&name))?;
    bar.ready();
    // What a first pass has just streamed is there already.
    let bar = Bar::pulling(&name);
    let bytes = image.pull(options.read_deadline, options.parallel_layers, &bar);
    let bytes = bytes.map_err(failed(&name))?;
    drop(bar);
    let layers = report::count(image.proofs().len(), "layer", "layers");
    let fetched = match image.traffic().body_bytes() {
        0 => String::new(),
        fetched => format!(", {} fetched", size(fetched)),
    };
    let line = format!("{name}: {layers}, {} in the cache{fetched}", size(bytes));
    report::heard(writeln!(io::stdout(), "{line}"))?;
    Ok(ExitCode::SUCCESS)
}
