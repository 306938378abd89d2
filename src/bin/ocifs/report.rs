//! Errors and logs for people: on stderr, with their causes and what to do.

use std::collections::HashMap;
use std::error::Error;
use std::fs::{File, OpenOptions};
use std::io::{self, IsTerminal, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::ExitCode;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::fs::OFlags;

use crate::environment;

/// Exit code of a command that was understood and failed.
pub(crate) const FAILED: u8 = 1;

/// Exit code of a command that makes no sense.
pub(crate) const WRONG_USAGE: u8 = 2;

/// An error of any part.
pub(crate) type AnyError = Box<dyn Error + Send + Sync>;

/// Prints an error with its causes; the exit code for it.
pub(crate) fn failure(error: &AnyError) -> ExitCode {
    // The reader of our output has closed the pipe: no failure of ours, so nothing is printed.
    if let Some(e) = error.downcast_ref::<io::Error>()
        && e.kind() == io::ErrorKind::BrokenPipe
    {
        return ExitCode::SUCCESS;
    }
    let mut text = format!("error: {}\n", printable(&error.to_string()));
    for cause in causes(error.as_ref()) {
        text.push_str(&format!("  caused by: {}\n", printable(&cause)));
    }
    write_stderr(&text);
    ExitCode::from(FAILED)
}

/// The printing of something whose exit code tells more: a reader that closes the pipe early still gets that code.
///
/// # Errors
/// Printing fails in another way.
pub(crate) fn heard(printed: io::Result<()>) -> io::Result<()> {
    printed.or_else(|e| if e.kind() == io::ErrorKind::BrokenPipe { Ok(()) } else { Err(e) })
}

/// An error and its causes, in a line.
pub(crate) fn chain(error: &dyn Error) -> String {
    [vec![error.to_string()], causes(error)].concat().join(": ")
}

/// What the causes of an error have to add, outermost first.
fn causes(error: &dyn Error) -> Vec<String> {
    let mut added = Vec::new();
    let mut said = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let words = error.to_string();
        // Many errors tell their cause in their own sentence.
        if !said.contains(&words) {
            added.push(words.clone());
        }
        said = words;
        cause = error.source();
    }
    added
}

/// Stdout whose errors say that they are stdout's: "No space left on device" could be the cache's.
#[derive(Debug)]
pub(crate) struct Stdout(io::StdoutLock<'static>);

/// Stdout, locked.
pub(crate) fn stdout() -> Stdout {
    Stdout(io::stdout().lock())
}

impl Stdout {
    /// Whether it is a terminal.
    pub(crate) fn is_terminal(&self) -> bool {
        self.0.is_terminal()
    }

    fn named<T>(result: io::Result<T>) -> io::Result<T> {
        result.map_err(|e| io::Error::new(e.kind(), format!("writing to stdout: {e}")))
    }
}

impl Write for Stdout {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        match self.0.write(buf) {
            // The caller tries again.
            Err(e) if e.kind() == io::ErrorKind::Interrupted => Err(e),
            result => Stdout::named(result),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Stdout::named(self.0.flush())
    }
}

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
    match Stdout::named(heard(printed)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => failure(&e.into()),
    }
}

/// Errors quote names out of images and words of servers, which must not command the terminal, nor show as other
/// words than they are.
pub(crate) fn printable(text: &str) -> String {
    text.chars().map(|c| if is_printable(c) { c } else { '\u{fffd}' }).collect()
}

/// Whether a character is shown by terminals, and where it stands. Not so are control characters (C0, DEL and C1),
/// separators of lines, and those that turn the direction of what follows or show nothing.
pub(crate) fn is_printable(c: char) -> bool {
    let is_hidden = matches!(
        c,
        '\u{61c}'
            | '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{2069}'
            | '\u{feff}'
    );
    !c.is_control() && !is_hidden
}

/// A number of things, and their name: `1 layer`, `2 layers`.
pub(crate) fn count(number: usize, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}

/// The same of several lines.
pub(crate) fn printable_lines(text: &str) -> String {
    text.split_inclusive('\n').map(|line| printable(line.trim_end_matches('\n')) + "\n").collect()
}

/// Prints to stderr; if even that fails there is nobody to tell.
pub(crate) fn write_stderr(text: &str) {
    let _ = io::stderr().write_all(text.as_bytes());
}

/// How long a warning on stderr is not repeated.
const REPEATED_AFTER: Duration = Duration::from_secs(600);

/// Warnings that are remembered.
const MAX_TOLD: usize = 1000;

/// The warnings that were shown, so that several parts which meet the same fault tell it once.
#[derive(Default)]
struct Told(HashMap<String, Instant>);

impl Told {
    /// Whether a text was not told lately.
    fn is_news(&mut self, text: &str) -> bool {
        self.0.retain(|_, at| at.elapsed() < REPEATED_AFTER);
        if self.0.len() >= MAX_TOLD {
            self.0.clear();
        }
        self.0.insert(text.to_owned(), Instant::now()).is_none()
    }
}

/// Opens a file to append to, which only its user can read if it is new. What lies in its place may be another
/// user's: no symlink is followed, and nothing but a regular file is opened, or waited for.
fn open_log(path: &Path) -> io::Result<File> {
    // Opening a device can do things, so this is looked at before it as well.
    let is_regular = std::fs::symlink_metadata(path).map_or(true, |there| there.is_file());
    let odd = || io::Error::other("it is no regular file");
    if !is_regular {
        return Err(odd());
    }
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
    let flags = i32::try_from(flags.bits()).map_err(io::Error::other)?;
    let mut options = OpenOptions::new();
    let file = options.create(true).append(true).mode(0o600).custom_flags(flags).open(path)?;
    if file.metadata()?.is_file() { Ok(file) } else { Err(odd()) }
}

/// Sends the library's log to stderr or a file: warnings, with `-v` more. Whether to the file, which it may not be
/// possible to open.
pub(crate) fn start_logging(verbose: u8, file: Option<&Path>) -> bool {
    let level = match verbose {
        0 => log::LevelFilter::Warn,
        1 => log::LevelFilter::Info,
        2 => log::LevelFilter::Debug,
        _ => log::LevelFilter::Trace,
    };
    let mut builder = env_logger::Builder::new();
    // Our own words only, and FUSE's: the HTTP library traces headers, and those hold secrets.
    builder.filter_level(log::LevelFilter::Off).filter_module("ocifs", level);
    if verbose > 2 {
        builder.filter_module("fuser", log::LevelFilter::Debug);
    }
    let mut to_file = false;
    if let Some(path) = file {
        match open_log(path) {
            Ok(file) => {
                builder.target(env_logger::Target::Pipe(Box::new(file)));
                to_file = true;
            }
            // The process that has started us has said so.
            Err(_) if environment::is_background_child() => {}
            Err(e) => {
                let text = format!("log file {}: {e}", path.display());
                write_stderr(&format!("warning: {}\n", printable(&text)));
            }
        }
    }
    let told = Mutex::new(Told::default());
    builder.format(move |out, record| {
        let level = match record.level() {
            // As in messages that are not logged.
            log::Level::Warn => "warning".to_owned(),
            level => level.as_str().to_lowercase(),
        };
        let text = printable(&record.args().to_string());
        let is_said = record.level() > log::Level::Warn || to_file;
        if !is_said && !told.lock().unwrap_or_else(PoisonError::into_inner).is_news(&text) {
            return Ok(());
        }
        if to_file {
            let now = std::time::SystemTime::now();
            let seconds =
                now.duration_since(std::time::UNIX_EPOCH).map_or(0.0, |t| t.as_secs_f64());
            return writeln!(out, "{seconds:.3} {level}: {text}");
        }
        writeln!(out, "{level}: {text}")
    });
    builder.init();
    to_file
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_terminals_obey_is_not_printed() {
        let hidden =
            ["\u{7}", "\u{1b}", "\u{7f}", "\u{80}", "\u{9b}", "\u{9f}", "\u{202e}", "\u{2066}"];
        for text in hidden.into_iter().chain(["\n", "\u{61c}", "\u{200e}", "\u{2028}", "\u{feff}"])
        {
            assert_eq!(printable(&format!("a{text}b")), "a\u{fffd}b", "{text:?}");
        }
        for text in ["\u{e4}\u{a0}\u{5d0} \u{65e5}", "\u{1f600}", "~\u{a1}"] {
            assert_eq!(printable(text), text);
        }
    }
}
