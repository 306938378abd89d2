//! libFuzzer over one of the targets of `tests/hostile`: `scripts/fuzz` builds and runs it.
//!
//! One binary for all, as it is linked once. `OCIFS_FUZZ_TARGET` names the target, `OCIFS_FUZZ_CORPUS`
//! the folder that its valid inputs are written to, from where libFuzzer begins. Without a target it
//! prints the names of all.

#![no_main]

#[path = "../../hostile/mod.rs"]
mod hostile;
#[path = "../../support/mod.rs"]
mod support;

use std::path::Path;
use std::sync::LazyLock;

use hostile::{TARGETS, Target, target};
use libfuzzer_sys::fuzz_target;

static TARGET: LazyLock<Option<&Target>> =
    LazyLock::new(|| std::env::var("OCIFS_FUZZ_TARGET").ok().map(|name| target(&name)));

/// Writes the valid inputs of the target.
fn begin() {
    let Some(target) = *TARGET else {
        TARGETS.iter().for_each(|target| println!("{}", target.name));
        return;
    };
    let Some(folder) = std::env::var_os("OCIFS_FUZZ_CORPUS") else { return };
    for (number, input) in (target.valid)().iter().enumerate() {
        let path = Path::new(&folder).join(format!("valid-{number}"));
        std::fs::write(&path, input).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    }
}

fuzz_target!(
    init: begin(),
    |input: &[u8]| {
        if let Some(target) = *TARGET {
            (target.check)(input);
        }
    }
);
