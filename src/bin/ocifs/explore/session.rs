//! The loop: events into the model, its wishes to threads and the terminal, its looks onto the screen.

use std::io::{self, Read};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant};

use ocifs::cache::Cache;
use ocifs::fuse::panics;
use ocifs::image::Wishes;
use ocifs::layer;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Signal, getpid, kill_process};
use signal_hook::consts::{SIGCONT, SIGHUP, SIGINT, SIGTERM, SIGWINCH};
use signal_hook::iterator::Signals;

use super::draw::draw;
use super::input::Bytes;
use super::look::Look;
use super::state::{Effect, Event, Model, Progress};
use super::subject::{Asked, Sight};
use super::terminal::{self, Terminal};
use super::work::{Answer, Generations, Request, Saver, perform};
use crate::render::errors::AnyError;

/// How long after the byte ESC no other one comes if it was the key.
const ESCAPE_MILLISECONDS: i64 = 40;

/// How long the user rests on a file before it is read.
const REST: Duration = Duration::from_millis(120);

/// How long events are taken before a frame is drawn, however many there are.
const LONGEST: Duration = Duration::from_millis(50);

/// How often progress is shown.
const TICK: Duration = Duration::from_millis(100);

/// Reads of files that may wait for a registry at once; the newest of those that are left waits for one to end.
const MAX_READS: usize = 4;

/// How it ended.
#[derive(Debug)]
pub(crate) enum Ended {
    ByUser,
    BySignal(i32),
}

/// What the loop waits for.
enum Message {
    Event(Event),
    Signal(i32),
    /// A read has come to its end.
    ReadEnded,
    /// Nothing can be read of the terminal any more.
    Gone,
    /// A defect, for the test of what becomes of the terminal then.
    #[cfg(test)]
    Defect,
}

/// Shows images until the user has seen enough. `words` are how a command line names them.
///
/// # Errors
/// The images can't be opened, or the terminal can't be used.
pub(crate) fn run(
    asked: Vec<Asked>,
    words: Vec<String>,
    cache: Arc<Cache>,
    has_colours: bool,
    saver: Arc<dyn Saver>,
) -> Result<Ended, AnyError> {
    let session = Session::begin(words, has_colours, saver)?;
    session.open(asked, cache);
    run_to_end(session)
}

fn run_to_end(session: Session) -> Result<Ended, AnyError> {
    // The terminal is given back on the way, so that the error can be read.
    panics::caught(move || session.run()).unwrap_or_else(|| Err(defect().into()))
}

struct Session {
    terminal: Terminal,
    model: Model,
    workers: Workers,
    look: Look,
    opening: Arc<Counter>,
    wishes: Arc<Wishes>,
    receiver: Receiver<Message>,
}

impl Session {
    /// Takes the terminal.
    fn begin(
        words: Vec<String>,
        has_colours: bool,
        saver: Arc<dyn Saver>,
    ) -> Result<Session, AnyError> {
        let (sender, receiver) = mpsc::channel();
        // Before the terminal is taken: a signal that comes then is heard.
        let signals = Signals::new([SIGWINCH, SIGTERM, SIGHUP, SIGINT, SIGCONT])?;
        let terminal = Terminal::take()?;
        let newest = Arc::new(Generations::default());
        let model = Model::new(words, terminal::size(), Arc::clone(&newest));
        take_signals(signals, sender.clone());
        take_input(sender.clone());
        let workers = Workers { sender, newest, saver, reading: 0, waiting: None };
        let (opening, wishes) = (Arc::new(Counter::new()), Arc::new(Wishes::default()));
        let look = Look { has_colours };
        Ok(Session { terminal, model, workers, look, opening, wishes, receiver })
    }

    /// Opens the images on a thread.
    fn open(&self, asked: Vec<Asked>, cache: Arc<Cache>) {
        let (progress, wishes) = (Arc::clone(&self.opening), Arc::clone(&self.wishes));
        let sender = self.workers.sender.clone();
        let work = move || {
            let tell = |answer| {
                // The loop is over, and nobody listens.
                let _ = sender.send(Message::Event(Event::Answer(answer)));
            };
            let sees = |sight| {
                tell(match sight {
                    Sight::Rows(rows) => Answer::Rows(rows),
                    Sight::Glimpse(subject) => Answer::Glimpse(Arc::new(subject)),
                });
            };
            let opened = panics::caught(|| Asked::open(&asked, &cache, &*progress, &sees, &wishes));
            let opened = opened.unwrap_or_else(|| Err(defect().into()));
            tell(Answer::Opened(opened.map(Arc::new)));
        };
        let spawned = thread::Builder::new().name("open".to_owned()).spawn(work);
        if let Err(error) = spawned {
            log::warn!("no thread: {error}");
        }
    }

    fn run(mut self) -> Result<Ended, AnyError> {
        loop {
            if let Some(ended) = self.step()? {
                return Ok(ended);
            }
        }
    }

    /// Shows what there is, and takes all events that have come since.
    fn step(&mut self) -> Result<Option<Ended>, AnyError> {
        let mut frame = terminal::frame(self.model.size);
        draw(&self.model, self.look, &mut frame);
        self.terminal.show(frame)?;
        let mut next = self.wait();
        let until = Instant::now() + LONGEST;
        while let Some(message) = next {
            let event = match message {
                Message::Signal(SIGWINCH) => Event::Resize(terminal::size()),
                Message::Signal(SIGCONT) => {
                    // Another program has had the terminal.
                    self.terminal.enter()?;
                    Event::Resize(terminal::size())
                }
                Message::Signal(signal) => return Ok(Some(Ended::BySignal(signal))),
                Message::Gone => return Ok(Some(Ended::BySignal(SIGHUP))),
                Message::ReadEnded => {
                    self.workers.read_ended();
                    next = self.next(until);
                    continue;
                }
                Message::Event(event) => event,
                #[cfg(test)]
                Message::Defect => panic!("on purpose"),
            };
            for effect in self.model.update(event) {
                match effect {
                    Effect::Work(request) => self.workers.start(request),
                    Effect::List(directory) => self.wishes.list(directory),
                    Effect::Copy(text) => self.terminal.copy(&text)?,
                    Effect::Redraw => self.terminal.forget(),
                    Effect::Suspend => {
                        self.terminal.leave();
                        // The signal SIGCONT takes the terminal again.
                        kill_process(getpid(), Signal::STOP)?;
                    }
                    Effect::Quit(ended) => return ended.map(|()| Some(Ended::ByUser)),
                }
            }
            next = self.next(until);
        }
        Ok(None)
    }

    /// A message that has come already, unless it is time for a frame.
    fn next(&self, until: Instant) -> Option<Message> {
        if Instant::now() < until { self.receiver.try_recv().ok() } else { None }
    }

    /// The next message; or that time has passed which counts.
    fn wait(&self) -> Option<Message> {
        let is_opening = !self.model.is_open();
        let timeout = match (is_opening, self.model.waits_for_rest()) {
            (true, _) => TICK,
            (false, true) => REST,
            (false, false) => return self.receiver.recv().ok(),
        };
        match self.receiver.recv_timeout(timeout) {
            Ok(message) => Some(message),
            Err(RecvTimeoutError::Timeout) if is_opening => {
                Some(Message::Event(Event::Progress(self.opening.progress())))
            }
            Err(RecvTimeoutError::Timeout) => Some(Message::Event(Event::Rest)),
            Err(RecvTimeoutError::Disconnected) => Some(Message::Gone),
        }
    }
}

/// Threads that do what takes long.
struct Workers {
    sender: Sender<Message>,
    newest: Arc<Generations>,
    saver: Arc<dyn Saver>,
    reading: usize,
    waiting: Option<Request>,
}

impl Workers {
    fn start(&mut self, request: Request) {
        let is_read = matches!(request, Request::Read { .. });
        if is_read && self.reading >= MAX_READS {
            self.waiting = Some(request);
            return;
        }
        self.reading += usize::from(is_read);
        let (sender, newest) = (self.sender.clone(), Arc::clone(&self.newest));
        let saver = Arc::clone(&self.saver);
        let work = move || {
            let tell = |message| {
                // The loop is over, and nobody listens.
                let _ = sender.send(message);
            };
            let mut answer = |answer| tell(Message::Event(Event::Answer(answer)));
            if panics::caught(|| perform(request, &newest, &*saver, &mut answer)).is_none() {
                answer(Answer::Defect(defect()));
            }
            if is_read {
                tell(Message::ReadEnded);
            }
        };
        if let Err(error) = thread::Builder::new().name("explore".to_owned()).spawn(work) {
            log::warn!("no thread: {error}");
            self.reading -= usize::from(is_read);
        }
    }

    fn read_ended(&mut self) {
        self.reading = self.reading.saturating_sub(1);
        if let Some(request) = self.waiting.take() {
            self.start(request);
        }
    }
}

/// What the last panic was.
fn defect() -> String {
    panics::seen().1.unwrap_or_else(|| "a defect of ocifs".to_owned())
}

/// Counts what opening the images has to do, and has done.
#[derive(Debug)]
struct Counter {
    started: Instant,
    layers: AtomicUsize,
    layers_done: AtomicUsize,
    bytes: AtomicU64,
    bytes_done: AtomicU64,
}

impl Counter {
    fn new() -> Counter {
        Counter {
            started: Instant::now(),
            layers: AtomicUsize::new(0),
            layers_done: AtomicUsize::new(0),
            bytes: AtomicU64::new(0),
            bytes_done: AtomicU64::new(0),
        }
    }

    fn progress(&self) -> Progress {
        Progress {
            layers: self.layers.load(Ordering::Relaxed),
            layers_done: self.layers_done.load(Ordering::Relaxed),
            bytes: self.bytes.load(Ordering::Relaxed),
            bytes_done: self.bytes_done.load(Ordering::Relaxed),
            seconds: self.started.elapsed().as_secs(),
        }
    }
}

impl layer::Progress for Counter {
    fn start(&self, _layers: usize, to_fetch: usize, bytes: u64) {
        self.layers.fetch_add(to_fetch, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    fn advance(&self, bytes: u64) {
        self.bytes_done.fetch_add(bytes, Ordering::Relaxed);
    }

    fn layer_done(&self) {
        self.layers_done.fetch_add(1, Ordering::Relaxed);
    }
}

fn take_signals(mut signals: Signals, sender: Sender<Message>) {
    thread::spawn(move || {
        for signal in signals.forever() {
            if sender.send(Message::Signal(signal)).is_err() {
                return;
            }
        }
    });
}

/// Reads keys and clicks on a thread, until the terminal is gone.
fn take_input(sender: Sender<Message>) {
    thread::spawn(move || {
        let (mut bytes, mut buffer) = (Bytes::default(), [0; 1024]);
        let soon = Timespec { tv_sec: 0, tv_nsec: ESCAPE_MILLISECONDS * 1_000_000 };
        let mut stdin = io::stdin();
        loop {
            let inputs = match bytes.is_waiting() && !is_readable(&stdin, &soon) {
                true => bytes.read(true),
                false => match stdin.read(&mut buffer) {
                    Ok(0) => break,
                    Ok(length) => {
                        bytes.push(&buffer[..length]);
                        bytes.read(false)
                    }
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                    Err(_) => break,
                },
            };
            for input in inputs {
                if sender.send(Message::Event(Event::Input(input))).is_err() {
                    return;
                }
            }
        }
        // The loop may be over already.
        let _ = sender.send(Message::Gone);
    });
}

fn is_readable(stdin: &impl AsFd, soon: &Timespec) -> bool {
    let mut polled = [PollFd::new(stdin, PollFlags::IN)];
    poll(&mut polled, Some(soon)).is_ok_and(|count| count > 0)
}

#[cfg(test)]
mod tests;
