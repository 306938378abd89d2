//! The command line that is being typed.

use std::env;
use std::ffi::{OsStr, OsString};

use clap::{ArgMatches, CommandFactory, FromArgMatches};
use ocifs::reference::ImageName;

use crate::args::{Args, ImageArgs};

/// The variable in which scripts tell which of the words is being typed; those without it mean the last.
const INDEX: &str = "_CLAP_COMPLETE_INDEX";

/// What the words in front of the one that is being typed say, with `placeholder` in its place: the image of the verb, if
/// it is there, and the flags.
pub(super) fn read(placeholder: &str) -> Option<(Option<ImageName>, ImageArgs)> {
    let words: Vec<OsString> =
        env::args_os().skip_while(|word| word.as_os_str() != OsStr::new("--")).skip(1).collect();
    let index = env::var(INDEX).ok().and_then(|index| index.parse::<usize>().ok());
    let before = words.get(..index.unwrap_or(words.len().checked_sub(1)?))?;
    let words = before.iter().cloned().chain([OsString::from(placeholder)]);
    // What is missing is still to be typed.
    let matches = Args::command().ignore_errors(true).try_get_matches_from(words).ok()?;
    let verb = verb(&matches)?;
    let image = verb.try_get_one::<ImageName>("image").ok().flatten().cloned();
    Some((image, ImageArgs::from_arg_matches(verb).ok()?))
}

/// What is said of the innermost verb: `build` of `index build`.
fn verb(matches: &ArgMatches) -> Option<&ArgMatches> {
    let (_, verb) = matches.subcommand()?;
    self::verb(verb).or(Some(verb))
}
