//! From a process to one that it starts: descriptors, logins and what is known of the mount; and a word back.
//!
//! The mount point has been looked up, and is handed over as a descriptor: `ocifs::fuse::kernel::MountPoint`. So is the
//! connection to the kernel when a process goes on with it. The new process has it on its standard output, which is a
//! socket for that reason. (Rejected: a descriptor that is inherited, as taking it by its number is `unsafe`, and it would
//! be inherited further.)
//!
//! The login of `--creds` and the text of `$DOCKER_AUTH_CONFIG` go the same way, because a process serves for
//! days, and its words and its environment can be read all the time. So does what a pipe of `--authfile` has brought, as
//! it can be read once.

use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::Stdio;

use rustix::net::SendFlags;

use super::descriptor;
use crate::args;
use crate::environment::is_read_once;
use crate::render::errors::AnyError;
use crate::variables;

/// The lengths of the four texts, which the descriptors go with.
const LENGTHS_BYTES: usize = 4 * size_of::<u32>();

/// Longest login, in bytes: the kernel's limit for a variable.
const MAX_TEXT_BYTES: usize = 128 << 10;

/// Longest text about a mount, in bytes: a digest for each image.
const MAX_KEPT_BYTES: usize = 16 << 20;

/// What the serving process has to know and must not show.
#[derive(Default)]
pub(super) struct Secrets {
    /// `USER:PASSWORD` of `--creds`, or nothing.
    pub(super) login: Vec<u8>,
    /// `$DOCKER_AUTH_CONFIG`, or nothing.
    pub(super) auth_config: Vec<u8>,
    /// The text of an `--authfile` that can be read once, or nothing.
    pub(super) authfile: Vec<u8>,
}

impl Secrets {
    /// Those of this process's flags and environment.
    ///
    /// # Errors
    /// A pipe can't be read, or there are several.
    pub(super) fn of(args: &args::Mount) -> Result<Secrets, AnyError> {
        let login = args.image_args.creds.as_ref().map(args::Login::to_text).unwrap_or_default();
        let auth_config = variables::auth_config().unwrap_or_default();
        let authfile = read_once(&args.image_args.authfile)?;
        Ok(Secrets { login: login.into_bytes(), auth_config, authfile })
    }

    /// The flags of a mount with them.
    pub(super) fn in_args(&self, args: &args::Mount) -> args::ImageArgs {
        let mut image_args = args.base.with(&args.image_args);
        image_args.lowest_layers = args.lowest_layers;
        let login = String::from_utf8_lossy(&self.login);
        image_args.creds = args::Login::parse(&login).or(image_args.creds);
        image_args.auth_config = Some(self.auth_config.clone()).filter(|text| !text.is_empty());
        image_args.auth_read = Some(self.authfile.clone()).filter(|text| !text.is_empty());
        image_args.authfile.retain(|path| !is_read_once(path));
        image_args
    }
}

/// The text of the file that can be read once, if one of these is.
fn read_once(paths: &[PathBuf]) -> Result<Vec<u8>, AnyError> {
    let mut text = Vec::new();
    let mut once = paths.iter().filter(|path| is_read_once(path));
    let Some(path) = once.next() else { return Ok(text) };
    if once.next().is_some() {
        return Err("only one --authfile can be a pipe".into());
    }
    let failed = |e| format!("credentials file {}: {e}", path.display());
    let file = File::open(path).map_err(failed)?;
    file.take(MAX_TEXT_BYTES as u64 + 1).read_to_end(&mut text).map_err(failed)?;
    Ok(text)
}

/// What is handed over.
pub(super) struct Handed<'a> {
    /// The mount point; or where errands are asked for, what has ended workers, the connection of a mount if there is one,
    /// and the journal of what was looked up if that counts; or where an answer is waited for.
    pub(super) descriptors: &'a [BorrowedFd<'a>],
    pub(super) secrets: &'a Secrets,
    /// What is known of the mount, nothing if it is still to be made; or a question.
    pub(super) kept: &'a [u8],
}

/// Sends the descriptors to a process that is started with the second end as its standard output, and how much
/// [`send_texts`] will send.
pub(super) fn send(handed: &Handed<'_>) -> io::Result<(UnixStream, Stdio)> {
    let Handed { secrets: Secrets { login, auth_config, authfile }, kept, .. } = handed;
    if login.len().max(auth_config.len()).max(authfile.len()) > MAX_TEXT_BYTES {
        return Err(io::Error::other("the credentials are too long"));
    }
    let (ours, theirs) = UnixStream::pair()?;
    let lengths = [login.len(), auth_config.len(), authfile.len(), kept.len()];
    let lengths = lengths.map(|length| (length as u32).to_le_bytes()).concat();
    descriptor::send(ours.as_fd(), &lengths, handed.descriptors, SendFlags::empty())?;
    Ok((ours, Stdio::from(OwnedFd::from(theirs))))
}

/// Sends the rest, once there is a process that reads it: it may be more than the socket holds.
pub(super) fn send_texts(mut ours: &UnixStream, handed: &Handed<'_>) -> io::Result<()> {
    ours.write_all(&handed.secrets.login)?;
    ours.write_all(&handed.secrets.auth_config)?;
    ours.write_all(&handed.secrets.authfile)?;
    ours.write_all(handed.kept)
}

/// The same as it arrives.
pub(super) struct Received {
    descriptors: Vec<OwnedFd>,
    pub(super) secrets: Secrets,
    pub(super) kept: Vec<u8>,
}

impl Received {
    /// Takes the last of the descriptors.
    ///
    /// # Errors
    /// There is none.
    pub(super) fn last_descriptor(&mut self) -> io::Result<OwnedFd> {
        self.descriptors.pop().ok_or_else(|| ErrorKind::InvalidData.into())
    }

    /// The descriptors, if there are so many.
    ///
    /// # Errors
    /// There are not.
    pub(super) fn descriptors<const N: usize>(&mut self) -> io::Result<[OwnedFd; N]> {
        let descriptors = std::mem::take(&mut self.descriptors);
        descriptors.try_into().map_err(|_| ErrorKind::InvalidData.into())
    }
}

/// What the process that started this one has sent.
pub(super) fn receive() -> Result<Received, AnyError> {
    let failed = |e: io::Error| format!("taking over the mount: {e}");
    let mut lengths = [0; LENGTHS_BYTES];
    let (received, descriptors) =
        descriptor::receive(io::stdout().as_fd(), &mut lengths).map_err(failed)?;
    if received != LENGTHS_BYTES {
        return Err(failed(ErrorKind::UnexpectedEof.into()).into());
    }
    let mut stdout = File::from(io::stdout().as_fd().try_clone_to_owned().map_err(failed)?);
    let mut lengths = lengths.as_chunks().0.iter().map(|length| u32::from_le_bytes(*length));
    let mut text = |most: usize| {
        let length = lengths.next().unwrap_or(0) as usize;
        let mut text = vec![0; length.min(most)];
        stdout.read_exact(&mut text).map(|()| text)
    };
    let login = text(MAX_TEXT_BYTES).map_err(failed)?;
    let auth_config = text(MAX_TEXT_BYTES).map_err(failed)?;
    let authfile = text(MAX_TEXT_BYTES).map_err(failed)?;
    let kept = text(MAX_KEPT_BYTES).map_err(failed)?;
    Ok(Received { descriptors, secrets: Secrets { login, auth_config, authfile }, kept })
}

/// Whether the serving process says a word before it ends.
pub(super) fn is_word(ours: UnixStream, word: &[u8]) -> io::Result<bool> {
    let mut said = Vec::new();
    match ours.take(word.len() as u64).read_to_end(&mut said) {
        // It ended before it took the mount point.
        Err(e) if e.kind() == ErrorKind::ConnectionReset => Ok(false),
        result => result.map(|_| said == word),
    }
}
