//! Limits of this process.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Most span files kept open, where the system lets us.
const MAX_OPEN_SPANS: u64 = 4096;

/// How many span files may be open: most of what the system allows, after raising our own limit.
pub(super) fn open_files() -> usize {
    let limit = getrlimit(Resource::Nofile);
    let wanted = MAX_OPEN_SPANS * 2;
    let hard = limit.maximum.unwrap_or(wanted);
    let soft = limit.current.unwrap_or(wanted);
    let raised = hard.min(wanted);
    let now = match soft < raised {
        true => {
            let new = Rlimit { current: Some(raised), maximum: limit.maximum };
            if setrlimit(Resource::Nofile, new).is_ok() { raised } else { soft }
        }
        false => soft,
    };
    (now / 2).min(MAX_OPEN_SPANS) as usize
}
