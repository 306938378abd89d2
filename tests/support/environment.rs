//! The environment of a user who has set nothing: whatever the one who runs the tests has set (proxies, credentials,
//! other settings) leads no program that a test starts elsewhere.

use std::env;
use std::path::Path;
use std::process::Command;

/// Variables that say how programs run here and not what they do.
const KEPT: [&str; 5] = ["PATH", "LANG", "LC_ALL", "RUST_BACKTRACE", "LLVM_PROFILE_FILE"];

/// Gives a command this environment, with home, cache and runtime folder below `folder`.
pub fn only<'a>(command: &'a mut Command, folder: &Path) -> &'a mut Command {
    command.env_clear();
    for name in KEPT {
        if let Some(value) = env::var_os(name) {
            command.env(name, value);
        }
    }
    command
        .env("HOME", folder.join("home"))
        .env("OCIFS_CACHE_DIR", folder.join("cache"))
        .env("XDG_RUNTIME_DIR", folder.join("run"))
}
