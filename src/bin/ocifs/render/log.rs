//! The log of the library and the program: on stderr or in a file, as text or as JSON (docs/json.md).

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustix::fs::OFlags;
use serde_json::json;

use crate::render::json;
use crate::render::output::write_stderr;
use crate::render::text::printable;
use crate::render::time::rfc3339_milliseconds;
use crate::variables;

/// How long a warning on stderr is not repeated.
const REPEATED_AFTER: Duration = Duration::from_secs(600);

/// Warnings that are remembered.
const MAX_TOLD: usize = 1000;

/// How the log is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    Text,
    Json,
}

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
pub(crate) fn start(verbose: u8, format: Format, file: Option<&Path>) -> bool {
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
            Err(_) if variables::is_background_child() || variables::is_worker() => {}
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
        let text = record.args().to_string();
        let is_said = record.level() > log::Level::Warn || to_file;
        if !is_said && !told.lock().unwrap_or_else(PoisonError::into_inner).is_news(&text) {
            return Ok(());
        }
        if format == Format::Json {
            let row = json!({
                "time": rfc3339_milliseconds(SystemTime::now()),
                "level": level,
                "message": text,
                "module": record.target(),
                "thread": std::thread::current().name(),
                "pid": std::process::id(),
            });
            return writeln!(out, "{}", json::line(row));
        }
        let text = printable(&text);
        if to_file {
            let seconds =
                SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |t| t.as_secs_f64());
            return writeln!(out, "{seconds:.3} {level}: {text}");
        }
        writeln!(out, "{level}: {text}")
    });
    builder.init();
    to_file
}
