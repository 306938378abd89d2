//! `ocifs explore`: images in a terminal.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, IsTerminal};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use crate::args::{self, Args};
use crate::commands::attendant::Attendant;
use crate::commands::contained::{self, Outlet};
use crate::commands::registries::refused_for_several;
use crate::environment::{self, Settings};
use crate::explore::{self, Asked, Ended, Saver};
use crate::render::errors::{self, AnyError};
use crate::variables;

/// What is added to the number of a signal that ended it, as in a shell.
const BY_SIGNAL: i32 = 128;

pub(crate) fn run(all: &Args, args: &args::Explore) -> Result<ExitCode, AnyError> {
    if !io::stdin().is_terminal() || !io::stdout().is_terminal() || variables::is_dumb_terminal() {
        return Err(
            "explore needs a terminal with a screen, as standard input and output; without one, \
                    `ocifs history`, `ocifs ls` and `ocifs diff` tell the same"
                .into(),
        );
    }
    let instead = "explore copies of them (`oci:`)";
    let images = [&args.image].into_iter().chain(&args.other);
    if let Some(other) = &args.other
        && let Some(error) = refused_for_several([&args.image, other], &args.image_args, instead)?
    {
        return Ok(errors::wrong_usage(&args::usage_error("explore", error)));
    }
    let settings = Settings::read()?;
    let named = images.map(|image| environment::image(image, &args.image_args, &settings));
    let mut named = named.collect::<Result<Vec<_>, AnyError>>()?;
    let cache = environment::cache(&args.image_args.cache_args);
    let attendant = Attendant::start(&args.image_args);
    let attendant = attendant.map_err(|e| format!("starting what saves files: {e}"))?;
    let outlet = Outlet::One(None);
    contained::reader_with(Some(&attendant), &mut named, &cache, &args.image_args, outlet);
    let asked = named.into_iter().map(|(name, options)| Asked { name, options }).collect();
    if all.log_file.is_none() {
        // It would be written over the screen.
        log::set_max_level(log::LevelFilter::Off);
    }
    match explore::run(
        asked,
        words(&all.words),
        cache,
        variables::wants_colours(),
        Arc::new(attendant),
    )? {
        Ended::ByUser => Ok(ExitCode::SUCCESS),
        Ended::BySignal(signal) => Ok(ExitCode::from(u8::try_from(BY_SIGNAL + signal)?)),
    }
}

impl Saver for Attendant {
    fn make(&self, path: &Path, mode: u32) -> io::Result<File> {
        self.make(path, mode)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.remove(path)
    }
}

/// The images and flags as they were written: what stands behind the verb.
fn words(words: &[OsString]) -> Vec<String> {
    let behind = words.iter().skip_while(|word| *word != "explore").skip(1);
    behind.map(|word| word.to_string_lossy().into_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_behind_the_verb() {
        let all = ["ocifs", "-v", "explore", "--platform", "linux/arm64", "explore"];
        let all: Vec<OsString> = all.iter().map(OsString::from).collect();
        assert_eq!(words(&all), ["--platform", "linux/arm64", "explore"]);
    }
}
