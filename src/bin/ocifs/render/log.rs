//! The log of the library and the program: on stderr or in a file, as text or as JSON (docs/json.md).
//!
//! Where standard error is a stream to systemd's journal, each line begins with its priority, which the journal takes off and keeps in
//! the field `PRIORITY` (sd-daemon(3)): so `journalctl -p warning` works. (Rejected: the journal's own protocol, whose
//! socket a contained process can't open.)

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

/// Warnings and errors that are written in [`REPEATED_AFTER`], so that a mount whose reads fail for weeks does not fill
/// a disk: at 200 bytes each, 30 MB a day.
const MAX_WARNINGS: u64 = 1000;

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

/// Keeps the number of warnings in a while below a limit.
#[derive(Default)]
struct Flood {
    since: Option<Instant>,
    /// Warnings since then, those that are not written included.
    warnings: u64,
}

impl Flood {
    /// Whether one more is written at this time, and what is to be said before it.
    fn admit(&mut self, now: Instant) -> (bool, Option<String>) {
        let mut notice = None;
        if self.since.is_none_or(|since| now.duration_since(since) >= REPEATED_AFTER) {
            let left_out = self.warnings.saturating_sub(MAX_WARNINGS);
            notice = (left_out > 0).then(|| format!("{left_out} warnings were left out"));
            (self.since, self.warnings) = (Some(now), 0);
        }
        self.warnings += 1;
        if self.warnings == MAX_WARNINGS + 1 {
            notice = Some(format!("{MAX_WARNINGS} warnings in a short time: more are left out"));
        }
        (self.warnings <= MAX_WARNINGS, notice)
    }
}

/// Where the log goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Target {
    Stderr,
    /// Standard error, which is a stream to the journal.
    Journal,
    File,
}

impl Target {
    /// What standard error is.
    fn of_stderr() -> Target {
        let Ok(stat) = rustix::fs::fstat(io::stderr()) else { return Target::Stderr };
        match variables::journal_stream() {
            Some(stream) if stream == (stat.st_dev, stat.st_ino) => Target::Journal,
            _ => Target::Stderr,
        }
    }
}

/// The priority of a level in syslog(3).
fn priority(level: log::Level) -> u8 {
    match level {
        log::Level::Error => 3,
        log::Level::Warn => 4,
        log::Level::Info => 6,
        log::Level::Debug | log::Level::Trace => 7,
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
    let mut target = Target::of_stderr();
    if let Some(path) = file {
        match open_log(path) {
            Ok(file) => {
                builder.target(env_logger::Target::Pipe(Box::new(file)));
                target = Target::File;
            }
            // The process that has started us has said so.
            Err(_) if variables::is_background_child() || variables::is_worker() => {}
            Err(e) => {
                let text = format!("log file {}: {e}", path.display());
                write_stderr(&format!("warning: {}\n", printable(&text)));
            }
        }
    }
    let told = Mutex::new((Told::default(), Flood::default()));
    builder.format(move |out, record| {
        let text = record.args().to_string();
        let (mut is_written, mut notice) = (true, None);
        if record.level() <= log::Level::Warn {
            let mut told = told.lock().unwrap_or_else(PoisonError::into_inner);
            if target != Target::File && !told.0.is_news(&text) {
                return Ok(());
            }
            (is_written, notice) = told.1.admit(Instant::now());
        }
        if let Some(notice) = notice {
            write_line(out, format, target, log::Level::Warn, record.target(), &notice)?;
        }
        match is_written {
            true => write_line(out, format, target, record.level(), record.target(), &text),
            false => Ok(()),
        }
    });
    builder.init();
    target == Target::File
}

fn write_line(
    out: &mut impl Write,
    format: Format,
    target: Target,
    level: log::Level,
    module: &str,
    text: &str,
) -> io::Result<()> {
    if target == Target::Journal {
        write!(out, "<{}>", priority(level))?;
    }
    let level = match level {
        // As in messages that are not logged.
        log::Level::Warn => "warning".to_owned(),
        level => level.as_str().to_lowercase(),
    };
    if format == Format::Json {
        let row = json!({
            "time": rfc3339_milliseconds(SystemTime::now()),
            "level": level,
            "message": text,
            "module": module,
            "thread": std::thread::current().name(),
            "pid": std::process::id(),
        });
        return writeln!(out, "{}", json::line(row));
    }
    let text = printable(text);
    if target == Target::File {
        let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |t| t.as_secs_f64());
        return writeln!(out, "{seconds:.3} {level}: {text}");
    }
    writeln!(out, "{level}: {text}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warnings_are_bounded_and_the_others_counted() {
        let (mut flood, start) = (Flood::default(), Instant::now());
        let mut written = 0;
        let mut notices = Vec::new();
        for _ in 0..MAX_WARNINGS + 50 {
            let (is_written, notice) = flood.admit(start);
            written += u64::from(is_written);
            notices.extend(notice);
        }
        assert_eq!(written, MAX_WARNINGS);
        assert_eq!(notices, ["1000 warnings in a short time: more are left out"]);
        let later = flood.admit(start + REPEATED_AFTER);
        assert_eq!(later, (true, Some("50 warnings were left out".to_owned())));
        assert_eq!(flood.admit(start + REPEATED_AFTER), (true, None));
    }
}
