//! A test in a process of its own, whose descriptors and threads are counted, and which ends if it hangs.

use std::cell::RefCell;
use std::collections::HashMap;
use std::env;
use std::fs;
use std::io::{self, Write};
use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::subject::subject;
use crate::shell::eventually_within;
use crate::support::kernel::note;

/// Says that this is the process of one test.
const ALONE: &str = "OCIFS_ALONE";

/// Several times what any operation here may take by its deadlines.
const HANG: Duration = Duration::from_secs(60);

/// How long what is being given up may take to end: connections that a server stalls.
const SETTLED: Duration = Duration::from_secs(30);

/// Runs a test of this name alone in a process, and holds its descriptors and threads to what they were before.
pub fn alone(name: &str, act: impl FnOnce() -> String) {
    if env::var(ALONE).is_ok_and(|alone| alone == name) {
        watch();
        // It has a registry, which stays.
        subject();
        let before = levels();
        let told = act();
        let mut after = levels();
        let is_settled = || {
            after = levels();
            after.0 <= before.0 && after.1 <= before.1
        };
        let settled = eventually_within(SETTLED, is_settled);
        note(&format!(
            "{name}: {told}; descriptors {} to {}, threads {} to {}",
            before.0, after.0, before.1, after.1
        ));
        assert!(settled, "descriptors and threads: {before:?} to {after:?}: {:?}", open_files());
        return;
    }
    let mut child = Command::new(env::current_exe().unwrap());
    child.args([name, "--exact", "--nocapture", "--test-threads=1"]).env(ALONE, name);
    let output = child.output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    let notes = told.lines().filter(|line| line.starts_with("note: "));
    notes.for_each(|line| note(line.trim_start_matches("note: ")));
    let end = told.len().saturating_sub(8000);
    assert!(output.status.success(), "{}", told.get(end..).unwrap_or(&told));
    assert!(
        String::from_utf8_lossy(&output.stdout).contains("1 passed"),
        "there is no test {name}"
    );
}

/// Descriptors and threads of this process.
fn levels() -> (usize, usize) {
    let count = |folder| fs::read_dir(folder).unwrap().count();
    (count("/proc/self/fd"), count("/proc/self/task"))
}

fn open_files() -> Vec<String> {
    let links = fs::read_dir("/proc/self/fd").unwrap().flatten();
    let places = links.filter_map(|link| fs::read_link(link.path()).ok());
    places.map(|place| place.display().to_string()).collect()
}

static RUNNING: Mutex<Option<HashMap<thread::ThreadId, (Instant, String)>>> = Mutex::new(None);

thread_local! {
    /// What is done by this thread, in which there are operations.
    static CASE: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Names what the operations of this thread are part of.
pub fn name_case(name: String) {
    CASE.replace(name);
}

/// Does something that has to end.
pub fn watched<T>(what: &str, act: impl FnOnce() -> T) -> T {
    let id = thread::current().id();
    let lock = || RUNNING.lock().unwrap_or_else(PoisonError::into_inner);
    let what = CASE.with_borrow(|case| format!("{what}, {case}"));
    lock().get_or_insert_default().insert(id, (Instant::now(), what));
    let result = act();
    lock().get_or_insert_default().remove(&id);
    result
}

/// Ends the process if something does not end.
fn watch() {
    let watchdog = move || {
        loop {
            thread::sleep(Duration::from_millis(500));
            let running = RUNNING.lock().unwrap_or_else(PoisonError::into_inner);
            for (since, what) in running.iter().flat_map(HashMap::values) {
                if since.elapsed() > HANG {
                    let _ = writeln!(io::stderr(), "hangs after {:?}: {what}", since.elapsed());
                    std::process::abort();
                }
            }
        }
    };
    thread::spawn(watchdog);
    // It is there before threads are counted.
    thread::sleep(Duration::from_millis(20));
}
