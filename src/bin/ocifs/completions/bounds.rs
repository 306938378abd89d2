//! What may be offered, how much of it, and how long it may take.

use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use crate::render::text::is_printable;

/// The most words that are offered.
pub(super) const MAX_CANDIDATES: usize = 500;

/// The longest word that is offered, in bytes: as long as a path may be.
pub(super) const MAX_CANDIDATE_BYTES: usize = 4096;

/// How long a person waits after a key without wondering.
pub(super) const MAX_TIME: Duration = Duration::from_millis(1500);

/// What a function returns if it does in time. It is left behind if not, and ends with the process.
pub(super) fn within<T: Send + 'static>(
    time: Duration,
    find: impl FnOnce() -> T + Send + 'static,
) -> Option<T> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || sender.send(find()));
    receiver.recv_timeout(time).ok()
}

/// Whether every shell takes a word for itself, and every terminal shows it as it is.
pub(super) fn is_plain(word: &str) -> bool {
    let is_plain = |c: char| match c {
        'a'..='z' | 'A'..='Z' | '0'..='9' => true,
        '/' | '.' | '_' | '-' | '+' | ':' | '@' | '%' | '=' | ',' | '~' => true,
        c => !c.is_ascii() && !c.is_whitespace() && is_printable(c),
    };
    let is_special_first = word.starts_with(['-', '+', ':', '@', '%', '=', ',']);
    let has_tilde = word.strip_prefix("~/").unwrap_or(word).contains('~');
    word.len() <= MAX_CANDIDATE_BYTES
        && word.chars().all(is_plain)
        && !is_special_first
        && !(has_tilde && word.starts_with('~'))
}
