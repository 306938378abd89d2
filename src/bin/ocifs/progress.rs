//! A progress bar for what takes long, on a terminal only.

use std::io::IsTerminal;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use ocifs::layer::Progress;

/// Shows bytes, rate and layers on stderr.
#[derive(Debug)]
pub(crate) struct Bar {
    /// What is being done with the layers.
    verb: &'static str,
    bar: Mutex<Option<ProgressBar>>,
    done: AtomicUsize,
    total: AtomicUsize,
}

impl Bar {
    /// For first passes.
    pub(crate) fn indexing() -> Bar {
        Bar::new("indexing")
    }

    /// For bringing everything into the cache.
    pub(crate) fn pulling() -> Bar {
        Bar::new("pulling")
    }

    fn new(verb: &'static str) -> Bar {
        Bar { verb, bar: Mutex::default(), done: AtomicUsize::new(0), total: AtomicUsize::new(0) }
    }

    fn with(&self, act: impl FnOnce(&ProgressBar)) {
        let bar = self.bar.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(bar) = &*bar {
            act(bar);
        }
    }

    fn words(&self) -> String {
        let (done, total) = (self.done.load(Ordering::Relaxed), self.total.load(Ordering::Relaxed));
        format!("{} layers {done}/{total}", self.verb)
    }
}

impl Progress for Bar {
    fn start(&self, _layers: usize, to_fetch: usize, bytes: u64) {
        if to_fetch == 0 || !std::io::stderr().is_terminal() {
            return;
        }
        self.total.store(to_fetch, Ordering::Relaxed);
        let bar = ProgressBar::new(bytes);
        let template = "{msg} [{bar:30}] {bytes}/{total_bytes} {bytes_per_sec} {eta}";
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style.progress_chars("=> "));
        }
        bar.set_message(self.words());
        bar.enable_steady_tick(Duration::from_millis(200));
        *self.bar.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(bar);
    }

    fn advance(&self, bytes: u64) {
        self.with(|bar| bar.inc(bytes));
    }

    fn layer_done(&self) {
        self.done.fetch_add(1, Ordering::Relaxed);
        self.with(|bar| bar.set_message(self.words()));
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.with(|bar| bar.finish_and_clear());
    }
}
