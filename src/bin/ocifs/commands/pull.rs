//! `ocifs pull`: a whole image into the cache.

use std::process::ExitCode;

use ocifs::mount::Image;

use crate::args;
use crate::commands::failed;
use crate::environment;
use crate::progress::Bar;
use crate::report::AnyError;

pub(crate) fn run(args: &args::Pull) -> Result<ExitCode, AnyError> {
    let (name, options) = environment::image(&args.image, &args.image_args)?;
    let cache = environment::cache(&args.image_args.cache_args);
    if !cache.is_writable() {
        return Err("there is no cache to pull into: see --cache-dir and --cache-size".into());
    }
    let image = Image::open(&name, &cache, &options, &Bar::indexing()).map_err(failed(&name))?;
    // What a first pass has just streamed is there already.
    image
        .pull(options.read_deadline, options.parallel_layers, &Bar::pulling())
        .map_err(failed(&name))?;
    Ok(ExitCode::SUCCESS)
}
