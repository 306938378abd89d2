//! `ocifs blob`: one blob, as it is stored.

use std::io::{Read, Write};
use std::process::ExitCode;

use ocifs::image;

use super::cat::CHUNK_BYTES;
use crate::args;
use crate::commands::open::{failed, to_print};
use crate::environment::Settings;
use crate::render::errors::{About, AnyError};
use crate::render::output;

pub(crate) fn run(args: &args::Blob) -> Result<ExitCode, AnyError> {
    let (name, options, cache) = to_print(&args.image, &args.image_args, &Settings::read()?, None)?;
    let blob = match args.from {
        0 => image::find_blob(&name, &args.blob, &cache, &options),
        from => image::find_rest_of_blob(&name, &args.blob, from, &cache, &options),
    };
    let mut blob = blob.map_err(failed(&name))?;
    let digest = blob.descriptor.digest;
    let mut out = output::stdout();
    let mut buffer = vec![0; CHUNK_BYTES];
    loop {
        let n = blob.read(&mut buffer);
        let n = n.map_err(|e| About::new(format!("{name}: blob {digest}"), e))?;
        if n == 0 {
            break;
        }
        out.write_all(&buffer[..n])?;
    }
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}
