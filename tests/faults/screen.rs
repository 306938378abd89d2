//! A program on a terminal of its own: keys that are pressed, the screen that it draws, and what it leaves behind.
//!
//! The screen understands the sequences that the program is meant to write, and fails on any other: so whatever of an image
//! reaches the terminal as more than characters is found.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::process::{Child, Command};
use std::sync::{Arc, Mutex};
use std::thread;

use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Termios, Winsize, tcgetattr, tcsetwinsize};

use crate::shell::{eventually, wait};

/// A program, and its terminal.
pub struct Screen {
    child: Child,
    terminal: File,
    /// The terminal's other end, which keeps it open.
    program: File,
    before: String,
    shown: Arc<Mutex<Shown>>,
}

/// What is on a terminal.
struct Shown {
    columns: usize,
    cells: Vec<Vec<char>>,
    at: (usize, usize),
    /// Bytes of a sequence that has begun.
    begun: Vec<u8>,
    /// Modes that were set and not reset: the alternate screen, a hidden cursor, reports of the mouse.
    modes: Vec<String>,
    /// What was put on the clipboard, as it was sent.
    copied: Vec<String>,
    unknown: Vec<String>,
}

impl Shown {
    fn new(columns: usize, rows: usize) -> Shown {
        Shown {
            columns,
            cells: vec![vec![' '; columns]; rows],
            at: (0, 0),
            begun: Vec::new(),
            modes: Vec::new(),
            copied: Vec::new(),
            unknown: Vec::new(),
        }
    }

    fn take(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.begun.push(*byte);
            match std::mem::take(&mut self.begun) {
                begun if is_partial(&begun) => self.begun = begun,
                begun => self.obey(&begun),
            }
        }
    }

    fn obey(&mut self, sequence: &[u8]) {
        let text = String::from_utf8_lossy(sequence).into_owned();
        if let Some(copied) = text.strip_prefix("\x1b]52;c;") {
            self.copied.push(copied.trim_end_matches('\x07').to_owned());
        } else if let Some(mode) = text.strip_prefix("\x1b[?") {
            let (mode, set) = mode.split_at(mode.len() - 1);
            // The cursor is there unless it is hidden.
            let is_on = (set == "h") != (mode == "25");
            self.modes.retain(|other| other != mode);
            if is_on {
                self.modes.push(mode.to_owned());
            }
            if mode == "1049" {
                self.cells.iter_mut().for_each(|row| row.fill(' '));
                self.at = (0, 0);
            }
        } else if text == "\x1b[2J" {
            self.cells.iter_mut().for_each(|row| row.fill(' '));
        } else if let Some(place) = text.strip_prefix("\x1b[").and_then(|t| t.strip_suffix('H')) {
            let (row, column) = place.split_once(';').unwrap();
            self.at = (row.parse::<usize>().unwrap() - 1, column.parse::<usize>().unwrap() - 1);
        } else if text.starts_with("\x1b[") && text.ends_with('m') {
        } else if self.modes.is_empty() && matches!(&*text, "\r" | "\n") {
            // What is written once the terminal is given back.
            self.at = if text == "\n" { (self.at.0 + 1, 0) } else { (self.at.0, 0) };
        } else if text.chars().all(|c| !c.is_control()) {
            if self.modes.is_empty() && self.at.1 >= self.columns {
                self.at = (self.at.0 + 1, 0);
            }
            let (row, column) = self.at;
            let cell = self.cells.get_mut(row).and_then(|row| row.get_mut(column));
            if let (Some(cell), Some(c)) = (cell, text.chars().next()) {
                *cell = c;
            }
            self.at.1 = (column + 1).min(self.columns);
        } else {
            self.unknown.push(text);
        }
    }
}

/// Whether a sequence, or a character, goes on.
fn is_partial(begun: &[u8]) -> bool {
    match begun {
        [0x1b] | [0x1b, b'['] => true,
        [0x1b, b'[', .., last] => !matches!(last, 0x40..=0x7e),
        [0x1b, b']', .., last] => *last != 7,
        [0x1b, b']'] => true,
        [first, ..] => {
            let length = [0xc0, 0xe0, 0xf0].iter().filter(|start| first >= *start).count() + 1;
            begun.len() < length
        }
        [] => false,
    }
}

fn state(terminal: &Termios) -> String {
    format!("{terminal:?}")
}

fn window(columns: usize, rows: usize) -> Winsize {
    Winsize { ws_col: columns as u16, ws_row: rows as u16, ws_xpixel: 0, ws_ypixel: 0 }
}

impl Screen {
    /// Starts a program on a terminal of this size.
    pub fn start(command: &mut Command, (columns, rows): (usize, usize)) -> Screen {
        let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&ours).unwrap();
        unlockpt(&ours).unwrap();
        let path = ptsname(&ours, Vec::new()).unwrap().into_string().unwrap();
        let no_ctty = rustix::fs::OFlags::NOCTTY.bits() as i32;
        let program =
            OpenOptions::new().read(true).write(true).custom_flags(no_ctty).open(path).unwrap();
        tcsetwinsize(&program, window(columns, rows)).unwrap();
        let before = state(&tcgetattr(&program).unwrap());
        // A session whose terminal that is: signals of the terminal come to it.
        let mut session = Command::new("setsid");
        session.arg("--ctty").arg(command.get_program()).args(command.get_args());
        session.env_clear().envs(command.get_envs().filter_map(|(k, v)| Some((k, v?))));
        session.env("TERM", "xterm");
        if let Some(folder) = command.get_current_dir() {
            session.current_dir(folder);
        }
        let end = || program.try_clone().unwrap();
        let child = session.stdin(end()).stdout(end()).stderr(end()).spawn().unwrap();
        let terminal = File::from(ours);
        let shown = Arc::new(Mutex::new(Shown::new(columns, rows)));
        let (mut reader, into) = (terminal.try_clone().unwrap(), Arc::clone(&shown));
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            // It fails once the last program has closed its end.
            while let Ok(length @ 1..) = reader.read(&mut buffer) {
                into.lock().unwrap().take(&buffer[..length]);
            }
        });
        Screen { child, terminal, program, before, shown }
    }

    /// Presses keys.
    pub fn press(&mut self, keys: &str) {
        self.terminal.write_all(keys.as_bytes()).unwrap();
    }

    /// Makes the terminal another size.
    pub fn resize(&self, (columns, rows): (usize, usize)) {
        let mut shown = self.shown.lock().unwrap();
        (shown.columns, shown.cells) = (columns, vec![vec![' '; columns]; rows]);
        drop(shown);
        tcsetwinsize(&self.program, window(columns, rows)).unwrap();
    }

    /// The lines that are shown.
    pub fn lines(&self) -> Vec<String> {
        let shown = self.shown.lock().unwrap();
        let line = |row: &Vec<char>| row.iter().collect::<String>().trim_end().to_owned();
        shown.cells.iter().map(line).collect()
    }

    /// Waits until a text is shown.
    #[track_caller]
    pub fn shows(&self, text: &str) {
        let is_shown = eventually(|| self.lines().join("\n").contains(text));
        assert!(is_shown, "`{text}` is not on\n{}", self.lines().join("\n"));
    }

    /// Waits until a text is shown no more.
    #[track_caller]
    pub fn hides(&self, text: &str) {
        let is_hidden = eventually(|| !self.lines().join("\n").contains(text));
        assert!(is_hidden, "`{text}` is on\n{}", self.lines().join("\n"));
    }

    /// What was put on the clipboard.
    pub fn copied(&self) -> Vec<String> {
        self.shown.lock().unwrap().copied.clone()
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Waits for the end, after which the terminal is as it was; the exit code.
    #[track_caller]
    pub fn ends(mut self) -> i32 {
        let code = wait(&mut self.child);
        let left = || self.shown.lock().unwrap().modes.clone();
        assert!(eventually(|| left().is_empty()), "modes are left: {:?}", left());
        assert_eq!(state(&tcgetattr(&self.program).unwrap()), self.before);
        let unknown = self.shown.lock().unwrap().unknown.clone();
        assert_eq!(unknown, Vec::<String>::new());
        code
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // It has ended, unless the test has failed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
