//! What a defect in the loop leaves behind on a real terminal.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::thread;

use ocifs::fuse::panics;
use rustix::fs::OFlags;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::tcgetattr;

use super::{Message, Session, run_to_end};
use crate::explore::terminal::{ENTER, LEAVE};
use crate::explore::work::Saver;
use crate::render::errors;

/// Nothing is saved here.
#[derive(Debug)]
struct Nowhere;

impl Saver for Nowhere {
    fn make(&self, _: &Path, _: u32) -> io::Result<File> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn remove(&self, _: &Path) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

/// The other test runs this one, on a terminal of its own.
#[test]
#[ignore = "it is a part of a_defect_gives_the_terminal_back"]
fn a_defect_on_this_terminal() {
    panics::watch();
    let session = Session::begin(vec!["REF".to_owned()], true, Arc::new(Nowhere));
    let session = session.map_err(|error| error.to_string()).unwrap();
    session.workers.sender.send(Message::Defect).map_err(|_| "nobody listens").unwrap();
    let error = run_to_end(session).map_err(|error| error.to_string()).unwrap_err();
    errors::failure(&error.into());
}

#[test]
fn a_defect_gives_the_terminal_back() {
    let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&ours).unwrap();
    unlockpt(&ours).unwrap();
    let path = ptsname(&ours, Vec::new()).unwrap().into_string().unwrap();
    let no_ctty = OFlags::NOCTTY.bits() as i32;
    let terminal =
        OpenOptions::new().read(true).write(true).custom_flags(no_ctty).open(path).unwrap();
    let before = format!("{:?}", tcgetattr(&terminal).unwrap());
    let name = "explore::session::tests::a_defect_on_this_terminal";
    let end = || terminal.try_clone().unwrap();
    let mut child = Command::new("setsid")
        .arg("--ctty")
        .arg(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "--nocapture", name])
        .stdin(end())
        .stdout(end())
        .stderr(end())
        .spawn()
        .unwrap();
    let mut reader = File::from(ours);
    let written = thread::spawn(move || {
        let (mut written, mut buffer) = (Vec::new(), [0; 4096]);
        // It fails once both have closed the other end.
        while let Ok(length @ 1..) = reader.read(&mut buffer) {
            written.extend_from_slice(&buffer[..length]);
        }
        String::from_utf8_lossy(&written).into_owned()
    });
    let status = child.wait().unwrap();
    assert_eq!(format!("{:?}", tcgetattr(&terminal).unwrap()), before, "the modes of the line");
    drop(terminal);
    let written = written.join().unwrap();
    assert!(status.success(), "{written}");
    let (_, entered) = written.split_once(ENTER).expect("the screen was taken");
    let (_, left) = entered.split_once(LEAVE).expect("the screen was given back");
    assert!(!left.contains(ENTER) && left.contains("error: a defect of ocifs"), "{left:?}");
    assert!(left.contains("on purpose"), "{left:?}");
}
