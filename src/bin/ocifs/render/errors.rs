//! Errors for people: on stderr, with their causes and what helps; and the exit codes.

use std::error::Error;
use std::fmt;
use std::io::{self, Write};
use std::process::ExitCode;

use ocifs::hint::Hint;

use crate::render::hints;
use crate::render::output::{ignore_closed_pipe, stdout_error, write_stderr};
use crate::render::text::printable;

/// Exit code of a command that was understood and failed.
pub(crate) const FAILED: u8 = 1;

/// Exit code of a mount that would be one without `--kernel-metadata`.
pub(crate) const NOT_IN_THE_KERNEL: u8 = 3;

/// Exit code of a command that makes no sense.
pub(crate) const WRONG_USAGE: u8 = 2;

/// An error of any part.
pub(crate) type AnyError = Box<dyn Error + Send + Sync>;

/// Prints an error with its causes and what helps; the exit code for it.
pub(crate) fn failure(error: &AnyError) -> ExitCode {
    // The reader of our output has closed the pipe: no failure of ours, so nothing is printed.
    if let Some(e) = error.downcast_ref::<io::Error>()
        && e.kind() == io::ErrorKind::BrokenPipe
    {
        return ExitCode::SUCCESS;
    }
    let text = format!("error: {}\n", printable(&chain(error.as_ref())));
    write_stderr(&text);
    ExitCode::from(match hint(error.as_ref()) {
        Some(Hint::MountWithoutKernelMetadata | Hint::AllowMoreKernelMetadata) => NOT_IN_THE_KERNEL,
        _ => FAILED,
    })
}

/// An error with its causes and what helps, in a line.
pub(crate) fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    if let Some(hint) = hint(error) {
        text.push_str(&format!("; {}", hints::words(hint)));
    }
    text
}

/// What helps, by the outermost of the causes of which it is known.
fn hint(error: &(dyn Error + 'static)) -> Option<Hint> {
    let own = match error.downcast_ref::<About>() {
        Some(About { error, .. }) => hint(error.as_ref()),
        None => hints::of(error),
    };
    own.or_else(|| error.source().and_then(hint))
}

/// An error, and what it is about.
#[derive(Debug)]
pub(crate) struct About {
    /// What it is about, for people.
    what: String,
    /// What is wrong with that. Its text is part of the text of this error, so it is not its source.
    error: AnyError,
}

impl About {
    /// An error about an image or a file. Where the error begins with that, it is not said twice.
    pub(crate) fn new(what: impl fmt::Display, error: impl Into<AnyError>) -> About {
        About { what: what.to_string(), error: error.into() }
    }
}

impl fmt::Display for About {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.error.to_string();
        match text.starts_with(&self.what) {
            true => f.write_str(&text),
            false => write!(f, "{}: {text}", self.what),
        }
    }
}

impl Error for About {}

/// Prints what is wrong with the command line; the exit code for it.
pub(crate) fn wrong_usage(error: &clap::Error) -> ExitCode {
    // If even stderr fails, no place is left to tell it.
    let _ = error.print();
    ExitCode::from(WRONG_USAGE)
}

/// Prints a help text or a version to stdout, or what is wrong with the command line; the exit code for it.
pub(crate) fn not_run(error: &clap::Error) -> ExitCode {
    if error.use_stderr() {
        return wrong_usage(error);
    }
    let printed = error.print().and_then(|()| io::stdout().flush());
    match ignore_closed_pipe(printed).map_err(stdout_error) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => failure(&e.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use ocifs::{blob, codec, fs, image, layer, oci, resolve, source};

    use super::*;

    /// Errors of several levels: each level is told once, in order, and what helps at the end.
    #[test]
    fn causes_and_hints_are_told_once() {
        let digest: ocifs::digest::Digest = format!("sha256:{}", "0".repeat(64)).parse().unwrap();
        let kind = layer::ErrorKind::TooLarge { limit: 5, blob: 1 };
        let too_large = image::Error::Layer(layer::Error { digest, kind });
        let window = || codec::Error::ZstdWindow { window: 2 << 20, limit: 1 << 20 };
        let read = io::Error::other(window());
        let read = blob::Error::Read { what: "layer".to_owned(), cause: Arc::new(read) };
        let read = fs::Error::Content { path: "a/b".to_owned(), cause: read };
        let file = source::Error::Codec { path: "x.tar".into(), cause: window() };
        let document = oci::Error::UnknownDocument("text/plain".to_owned());
        let document = resolve::Error::Document { what: "r:t".to_owned(), cause: document };
        let offline = image::Error::Resolve(resolve::Error::Offline("r:t".to_owned()));
        let errors: [(AnyError, &[&str], &str); 5] = [
            (
                About::new("r:t", too_large).into(),
                &["r:t: layer sha256:", "unpacks to more than 5"],
                "; raise --max-layer-size if you trust the image",
            ),
            (io::Error::other(read).into(), &["/a/b", "zstd window of 2 MiB"], "(2G at most)"),
            (image::Error::Source(file).into(), &["x.tar can't be", "zstd window"], "(2G at most)"),
            (image::Error::Resolve(document).into(), &["r:t: ", "neither", "text/plain"], "`)"),
            (About::new("r:t", offline).into(), &["r:t is not in"], "or `ocifs pull` it"),
        ];
        for (error, parts, end) in errors {
            let text = chain(error.as_ref());
            assert!(text.ends_with(end), "{text}");
            for part in parts {
                assert_eq!(text.matches(part).count(), 1, "{part} in {text}");
            }
        }
    }
}
