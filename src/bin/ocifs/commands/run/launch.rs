//! What the processes of `ocifs run` tell each other.
//!
//! ```text
//! front       guest                                    init            program
//! SETUP   ->                what is to be mounted; the output
//!         <-  UNSHARED      it has namespaces of its own
//! MAPPED  ->                it has IDs
//!         <-  READY         what is to be mounted is there
//! ATTACH  ->                the image is open: what to show as its source
//!         <-  ATTACHED      it is mounted, and to be served: the connection
//! GO      ->                it is served: the process to start; where signals come from
//!                           INIT               ->      the process; the output; where signals come from
//!                                                      START        ->      the process; the output
//!                                                                  <-  LOADED      it needs no file of this machine
//!                                                      ENTERED      ->      the image's root is its root
//! or      <-  FAILED        before GO: why
//!
//! or, where others are to see the mount, instead of GO:
//! OVERLAY ->                the source to show
//!         <-  OVERLAID      an overlay over the image, to be attached
//! ```
//!
//! Behind GO, the guest is what it says of itself with its exit code, and errors go to stderr.

use std::ffi::OsStr;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use ocifs::image::Process;
use serde::{Deserialize, Serialize};

use super::ids::Ids;
use crate::args;
use crate::variables;

pub(super) const SETUP: u8 = b's';
pub(super) const UNSHARED: u8 = b'u';
pub(super) const MAPPED: u8 = b'm';
pub(super) const READY: u8 = b'r';
pub(super) const ATTACH: u8 = b'a';
pub(super) const ATTACHED: u8 = b'd';
pub(super) const GO: u8 = b'g';
pub(super) const OVERLAY: u8 = b'o';
pub(super) const OVERLAID: u8 = b'v';
pub(super) const INIT: u8 = b'i';
pub(super) const START: u8 = b'p';
pub(super) const LOADED: u8 = b'l';
pub(super) const ENTERED: u8 = b'e';
pub(super) const FAILED: u8 = b'f';

/// The exit code where something failed before the program, as in container engines.
pub(in crate::commands) const FAILED_BEFORE: u8 = 125;
/// Where the program can't be started.
pub(super) const NOT_STARTED: u8 = 126;
/// Where there is no such program.
pub(super) const NOT_FOUND: u8 = 127;
/// What is added to the number of a signal.
pub(super) const BY_SIGNAL: u8 = 128;

/// The first word of the processes that are started here: no verb for people.
const VERB: &str = "run-stage";

/// Which of them a process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    Guest,
    Init,
    Program,
}

const STAGES: [(Stage, &str); 3] =
    [(Stage::Guest, "ocifs-guest"), (Stage::Init, "ocifs-init"), (Stage::Program, "ocifs-program")];

impl Stage {
    /// This process's.
    pub(super) fn of_words() -> Option<Stage> {
        let mut words = std::env::args_os();
        let name = words.next()?;
        let is_ours = words.next()? == VERB && words.next().is_none();
        let stage = STAGES.iter().find(|(_, text)| is_ours && name == *text);
        stage.map(|(stage, _)| *stage)
    }

    fn name(self) -> &'static str {
        STAGES.iter().find(|(stage, _)| *stage == self).map_or("ocifs", |(_, name)| name)
    }

    /// A process of it, with an end of a socket as its output, and the other end.
    pub(super) fn command(self) -> io::Result<(Command, UnixStream)> {
        let (ours, theirs) = UnixStream::pair()?;
        // The file that is running, whatever its path leads to by now.
        let mut command = Command::new("/proc/self/exe");
        command.arg0(self.name()).arg(VERB).stdout(Stdio::from(OwnedFd::from(theirs)));
        // The program may be able to read it in `/proc`.
        command.env_clear().envs(variables::of_terminal());
        Ok((command, ours))
    }
}

/// A path, which need not be text.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub(super) struct Bytes(Vec<u8>);

impl Bytes {
    pub(super) fn of(path: &Path) -> Bytes {
        Bytes(path.as_os_str().as_bytes().to_owned())
    }

    pub(super) fn path(&self) -> &Path {
        Path::new(OsStr::from_bytes(&self.0))
    }
}

/// What is mounted into the image's root.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) struct Plan {
    pub(super) ids: Ids,
    pub(super) volumes: Vec<Volume>,
    pub(super) upper: Option<Bytes>,
    pub(super) read_only: bool,
    /// Whether a program is to run there.
    pub(super) has_program: bool,
}

/// A file or directory of this machine.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) struct Volume {
    pub(super) host: Bytes,
    pub(super) target: Vec<u8>,
    pub(super) read_only: bool,
}

impl Plan {
    pub(super) fn new(args: &args::Run, upper: Option<&Path>, ids: Ids) -> Plan {
        let volumes = args.volume.iter().map(|volume| Volume {
            host: Bytes::of(&volume.host),
            target: volume.target.clone(),
            read_only: volume.read_only,
        });
        Plan {
            ids,
            volumes: volumes.collect(),
            upper: upper.map(Bytes::of),
            read_only: args.read_only,
            has_program: true,
        }
    }

    /// Of a mount without a program.
    pub(super) fn of_mount(upper: Option<&Path>) -> Plan {
        let (upper, volumes) = (upper.map(Bytes::of), Vec::new());
        Plan { ids: Ids::Here, volumes, upper, read_only: false, has_program: false }
    }

    /// Of nothing, to try it.
    pub(super) fn of_nothing(ids: Ids) -> Plan {
        Plan { ids, volumes: Vec::new(), upper: None, read_only: false, has_program: true }
    }
}

/// What init is to do.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct Launch {
    pub(super) process: Process,
    pub(super) ids: Ids,
    /// The image's root, with everything but `/proc`.
    pub(super) root: Bytes,
    pub(super) read_only: bool,
}
