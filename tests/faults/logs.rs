//! Collects everything that is logged by any thread, to look for secrets in it.
//!
//! Of the library's own words all are kept. What other libraries say is for the test of the
//! program's flags: the HTTP library dumps every body at its finest level, which is too much here.

use std::sync::{Mutex, Once, PoisonError};

use log::{LevelFilter, Log, Metadata, Record};

static COLLECTED: Mutex<Vec<String>> = Mutex::new(Vec::new());
static INSTALL: Once = Once::new();

struct Collector;

impl Log for Collector {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("ocifs")
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let line = format!("{} {}: {}", record.level(), record.target(), record.args());
        COLLECTED.lock().unwrap_or_else(PoisonError::into_inner).push(line);
    }

    fn flush(&self) {}
}

/// Starts collecting, if that has not happened yet.
pub fn install() {
    INSTALL.call_once(|| {
        log::set_boxed_logger(Box::new(Collector)).unwrap();
        log::set_max_level(LevelFilter::Trace);
    });
}

/// The lines so far that contain `text`.
pub fn with(text: &str) -> Vec<String> {
    let lines = COLLECTED.lock().unwrap_or_else(PoisonError::into_inner);
    lines.iter().filter(|line| line.contains(text)).cloned().collect()
}
