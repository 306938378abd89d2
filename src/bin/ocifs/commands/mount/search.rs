//! The process that searches for a credential, in the place of a worker that may not.
//!
//! It reads files and runs helpers as the supervisor would, which neither waits nor parses, answers one question, and ends.

use std::io::Write;
use std::os::unix::net::UnixStream;
use std::process::ExitCode;

use ocifs::reference::Reference;
use serde::{Deserialize, Serialize};

use super::handover;
use crate::args;
use crate::commands::secrets::hide_secrets;
use crate::environment::{self, Logins};
use crate::render::errors::AnyError;

/// Whose credential is searched for.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct Question {
    /// The image, which `--creds` are for.
    pub(super) image: String,
    pub(super) registry: String,
    pub(super) repository: String,
}

/// Answers the question that was handed over.
pub(super) fn answer(args: &args::Mount) -> Result<ExitCode, AnyError> {
    hide_secrets()?;
    let mut received = handover::receive()?;
    let [answer] = received.descriptors()?;
    let Question { image, registry, repository } = serde_json::from_slice(&received.kept)?;
    let image: Reference = image.parse()?;
    let credentials =
        environment::credentials(&image, &Logins::of(&received.secrets.in_args(args)))?;
    let found = credentials.for_repository(&registry, &repository);
    UnixStream::from(answer).write_all(&serde_json::to_vec(&found)?)?;
    Ok(ExitCode::SUCCESS)
}
