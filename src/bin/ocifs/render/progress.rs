//! What takes long says so on stderr.
//!
//! On a terminal that is a bar, whose title tells before the first byte what is fetched and that it is
//! fetched once. Elsewhere (scripts, CI, a log) it is a line at the start, one now and then, and a last
//! one; nothing at all of what is small and soon done, so that a script over small images stays silent.

mod line;
mod stall;

use std::fmt;
use std::io::IsTerminal;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressState, ProgressStyle};
use ocifs::layer::Progress;
use ocifs::reference::ImageName;

use crate::render::output::write_stderr;
use crate::render::text::size;
use line::{Counts, Title};
use stall::Stall;

/// What is announced at once where there is no terminal, in bytes; smaller things only when they have
/// taken [`PATIENCE`].
const LARGE_BYTES: u64 = 64 << 20;

/// How long something small may take without a word.
const PATIENCE: Duration = Duration::from_secs(4);

/// Between two lines where there is no terminal.
const INTERVAL: Duration = Duration::from_secs(10);

/// How often a bar is drawn.
const TICK: Duration = Duration::from_millis(200);

/// Shows how fetching layers goes on.
#[derive(Debug)]
pub(crate) struct Bar {
    progress: Arc<Shared>,
    /// Announce large things before they begin.
    announces: bool,
    /// Draws on a terminal, ...
    bar: Mutex<Option<ProgressBar>>,
    /// ... and writes lines elsewhere.
    writer: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Debug)]
struct Shared {
    title: Title,
    started: Instant,
    stall: Stall,
    total: AtomicU64,
    fetched: AtomicU64,
    layers: AtomicUsize,
    layers_done: AtomicUsize,
    lines: Mutex<Lines>,
    ended: Condvar,
}

/// What has been written where there is no terminal.
#[derive(Debug, Default)]
struct Lines {
    /// The size that was told; 0 before the first line.
    announced: u64,
    has_ended: bool,
}

impl Bar {
    /// For layers of an image that are used for the first time here.
    pub(crate) fn first_use(image: &ImageName) -> Bar {
        Bar::first_use_of([image])
    }

    /// The same of several images.
    pub(crate) fn first_use_of<'a>(images: impl IntoIterator<Item = &'a ImageName>) -> Bar {
        let images: Vec<_> = images.into_iter().collect();
        let is_remote = images.iter().any(|image| matches!(image, ImageName::Registry(_)));
        let image = match images[..] {
            [image] => image.to_string(),
            _ => format!("{} images", images.len()),
        };
        let doing = if is_remote { "downloading" } else { "indexing" };
        Bar::new(Title::FirstUse { doing, image }, true)
    }

    /// For passing over all layers that have not been proven.
    pub(crate) fn verifying(image: &ImageName) -> Bar {
        Bar::new(Title::Other(format!("verifying {image}")), true)
    }

    /// For bringing everything into the cache, much of which may be there.
    pub(crate) fn pulling(image: &ImageName) -> Bar {
        Bar::new(Title::Other(format!("pulling {image}")), false)
    }

    fn new(title: Title, announces: bool) -> Bar {
        let progress = Arc::new(Shared {
            title,
            started: Instant::now(),
            stall: Stall::new(),
            total: AtomicU64::new(0),
            fetched: AtomicU64::new(0),
            layers: AtomicUsize::new(0),
            layers_done: AtomicUsize::new(0),
            lines: Mutex::default(),
            ended: Condvar::new(),
        });
        Bar { progress, announces, bar: Mutex::default(), writer: Mutex::default() }
    }

    /// Everything has come: says so, if anything was said of it.
    pub(crate) fn ready(self) {
        let Shared { lines, started, fetched, .. } = &*self.progress;
        if lock(lines).announced > 0 {
            let fetched = size(fetched.load(Ordering::Relaxed));
            let seconds = started.elapsed().as_secs_f64();
            write_stderr(&format!("ready in {seconds:.1} s, {fetched} fetched\n"));
        }
    }
}

impl Progress for Bar {
    fn start(&self, _layers: usize, to_fetch: usize, bytes: u64) {
        if to_fetch == 0 {
            return;
        }
        let progress = &self.progress;
        progress.layers.fetch_add(to_fetch, Ordering::Relaxed);
        let total = progress.total.fetch_add(bytes, Ordering::Relaxed) + bytes;
        if std::io::stderr().is_terminal() {
            let mut bar = lock(&self.bar);
            let bar = bar.get_or_insert_with(|| {
                let shared = Arc::clone(progress);
                let bar = drawn(total, move |_| shared.title.clone(), {
                    let shared = Arc::clone(progress);
                    move |_| shared.layers()
                });
                bar.enable_steady_tick(TICK);
                bar
            });
            bar.set_length(total);
            return;
        }
        if self.announces && total >= LARGE_BYTES {
            progress.announce(&mut lock(&progress.lines));
        }
        let mut writer = lock(&self.writer);
        if writer.is_none() {
            let shared = Arc::clone(progress);
            let thread = thread::Builder::new().name("progress".to_owned());
            // Without a thread there are fewer lines.
            *writer = thread.spawn(move || shared.write_lines()).ok();
        }
    }

    fn advance(&self, bytes: u64) {
        self.progress.fetched.fetch_add(bytes, Ordering::Relaxed);
        if let Some(bar) = &*lock(&self.bar) {
            bar.inc(bytes);
        }
    }

    fn layer_done(&self) {
        self.progress.layers_done.fetch_add(1, Ordering::Relaxed);
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        if let Some(bar) = lock(&self.bar).take() {
            bar.finish_and_clear();
        }
        lock(&self.progress.lines).has_ended = true;
        self.progress.ended.notify_all();
        if let Some(writer) = lock(&self.writer).take() {
            // It has nothing left to say.
            let _ = writer.join();
        }
    }
}

impl Shared {
    fn layers(&self) -> Option<(usize, usize)> {
        let done = self.layers_done.load(Ordering::Relaxed);
        Some((done, self.layers.load(Ordering::Relaxed)))
    }

    fn counts(&self) -> Counts {
        let (done, total) = (&self.fetched, &self.total);
        Counts {
            done: done.load(Ordering::Relaxed),
            total: total.load(Ordering::Relaxed),
            layers: self.layers(),
            seconds: self.started.elapsed().as_secs_f64(),
            stalled: self.stall.seconds(done.load(Ordering::Relaxed)),
        }
    }

    /// Tells what is to come, or what of it was not told before.
    fn announce(&self, lines: &mut Lines) {
        let total = self.total.load(Ordering::Relaxed);
        write_stderr(&format!("{}\n", self.title.announcement(lines.announced, total)));
        lines.announced = total;
    }

    /// Writes lines until it is over.
    fn write_lines(&self) {
        let mut lines = lock(&self.lines);
        let mut wait = if lines.announced > 0 { INTERVAL } else { PATIENCE };
        loop {
            let timeout = self.ended.wait_timeout_while(lines, wait, |lines| !lines.has_ended);
            lines = timeout.unwrap_or_else(PoisonError::into_inner).0;
            if lines.has_ended {
                return;
            }
            wait = INTERVAL;
            match lines.announced {
                0 => self.announce(&mut lines),
                _ => write_stderr(&format!("{}\n", self.title.report(&self.counts()))),
            }
        }
    }
}

/// A bar for checking so many bytes, on a terminal.
pub(crate) fn checking(bytes: u64) -> ProgressBar {
    match std::io::stderr().is_terminal() {
        true => drawn(bytes, |_| Title::Other("checking".to_owned()), |_| None),
        false => ProgressBar::hidden(),
    }
}

/// A bar that fits the terminal, however narrow that becomes.
fn drawn(
    bytes: u64,
    title: impl Fn(&ProgressState) -> Title + Clone + Send + Sync + 'static,
    layers: impl Fn(&ProgressState) -> Option<(usize, usize)> + Clone + Send + Sync + 'static,
) -> ProgressBar {
    let bar = ProgressBar::new(bytes);
    let stall = Arc::new(Stall::new());
    let line = move |state: &ProgressState, out: &mut dyn fmt::Write| {
        let counts = Counts {
            done: state.pos(),
            total: state.len().unwrap_or(0),
            layers: layers(state),
            seconds: state.elapsed().as_secs_f64(),
            stalled: stall.seconds(state.pos()),
        };
        // There is no other place to report a failed write to.
        let _ = out.write_str(&title(state).bar(&counts, state.per_sec(), columns()));
    };
    if let Ok(style) = ProgressStyle::with_template("{line}") {
        bar.set_style(style.with_key("line", line));
    }
    bar
}

/// The width of the terminal.
fn columns() -> usize {
    let size = rustix::termios::tcgetwinsize(std::io::stderr());
    size.map(|size| usize::from(size.ws_col)).ok().filter(|columns| *columns > 0).unwrap_or(80)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
