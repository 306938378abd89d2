//! The process that an image's config describes, with what a caller says instead.
//!
//! The words are those of the OCI runtime specification (`process` in config.md). How they come about is as in Docker
//! and podman: the entrypoint and then the arguments, those of the caller or else the image's `Cmd`; an entrypoint of
//! the caller's comes without the image's `Cmd`. Variables of the caller's stand over those of the image.
//!
//! Nothing here is read as a text that it need not be: arguments and variables are bytes.

use serde::{Deserialize, Serialize};

use super::accounts::account_files;
use super::user::{User, UserError};
use super::view::View;
use crate::fs;
use crate::oci::{self, ConfigDetails, RunConfig};

/// Where programs are looked for unless the image says something else.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Volumes that count. Images have one or two.
const MAX_VOLUMES: usize = 256;

/// What a caller says of the process.
#[derive(Clone, Debug, Default)]
pub struct ProcessOptions {
    /// The entrypoint, instead of the image's entrypoint and `Cmd`.
    pub entrypoint: Option<Vec<Vec<u8>>>,
    /// Arguments, instead of the image's `Cmd`, unless there are none.
    pub args: Vec<Vec<u8>>,
    /// Variables that are there unless the image has them.
    pub defaults: Vec<(Vec<u8>, Vec<u8>)>,
    /// Variables over those of the image.
    pub env: Vec<(Vec<u8>, Vec<u8>)>,
    /// The working directory.
    pub cwd: Option<Vec<u8>>,
    /// `USER[:GROUP]`
    pub user: Option<String>,
}

/// A process that is to be started.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Process {
    /// The program, and its arguments.
    pub args: Vec<Vec<u8>>,
    /// Names and values of variables.
    pub env: Vec<(Vec<u8>, Vec<u8>)>,
    /// The working directory, absolute.
    pub cwd: Vec<u8>,
    /// Directories for volumes, absolute: what the program expects to be there.
    pub volumes: Vec<Vec<u8>>,
    /// Who it runs as.
    pub user: User,
    /// The architecture that the image is for, as Go calls it.
    pub architecture: String,
}

/// There is no such process.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    /// What is shown is not one image.
    #[error("{0} is an artifact and no container image: it has no programs")]
    Artifact(String),
    /// There are several images.
    #[error("a process is one image's")]
    SeveralImages,
    /// The config can't be read.
    #[error(transparent)]
    Config(#[from] oci::Error),
    /// Neither the caller nor the image names a program.
    #[error("{0} names no program to start (neither Entrypoint nor Cmd), and none was given")]
    NoProgram(String),
    /// The working directory is no absolute path.
    #[error("the working directory `{0}` is no absolute path")]
    WorkingDirectory(String),
    /// The user is not there.
    #[error(transparent)]
    User(#[from] UserError),
    /// The image's accounts can't be read.
    #[error(transparent)]
    Accounts(#[from] fs::Error),
}

impl Process {
    /// The process of an image, its users' names looked up.
    ///
    /// # Errors
    /// See [`ProcessError`].
    pub fn of(view: &View, options: &ProcessOptions) -> Result<Process, ProcessError> {
        let [shown] = view.images() else { return Err(ProcessError::SeveralImages) };
        let image = &shown.image;
        if image.artifact.is_some() {
            return Err(ProcessError::Artifact(image.name.clone()));
        }
        let config = ConfigDetails::parse(image.config().bytes())?.run;
        let user = options.user.as_deref().unwrap_or(&config.user);
        let [passwd, group] = account_files(view.filesystem())?;
        let user = User::find(user, &passwd, &group)?;
        let args =
            args(&config, options).ok_or_else(|| ProcessError::NoProgram(image.name.clone()))?;
        let env = env(&config, options, &user);
        let cwd = match &options.cwd {
            Some(cwd) => cwd.clone(),
            None if config.working_dir.is_empty() => b"/".to_vec(),
            None => config.working_dir.into_bytes(),
        };
        if !cwd.starts_with(b"/") {
            let cwd = String::from_utf8_lossy(&cwd).into_owned();
            return Err(ProcessError::WorkingDirectory(cwd));
        }
        let volumes = config.volumes.into_iter().map(String::into_bytes);
        let volumes = volumes.filter(|path| path.starts_with(b"/")).take(MAX_VOLUMES).collect();
        let architecture = image.config().value().platform.architecture.clone();
        Ok(Process { args, env, cwd, volumes, user, architecture })
    }
}

/// The program and its arguments, if there is a program.
fn args(config: &RunConfig, options: &ProcessOptions) -> Option<Vec<Vec<u8>>> {
    let bytes = |words: &[String]| words.iter().map(|word| word.clone().into_bytes()).collect();
    let (mut args, cmd): (Vec<Vec<u8>>, Vec<Vec<u8>>) = match &options.entrypoint {
        Some(entrypoint) => (entrypoint.clone(), Vec::new()),
        None => (bytes(&config.entrypoint), bytes(&config.cmd)),
    };
    args.extend(if options.args.is_empty() { cmd } else { options.args.clone() });
    args.first().is_some_and(|program| !program.is_empty()).then_some(args)
}

/// The variables, each once.
fn env(config: &RunConfig, options: &ProcessOptions, user: &User) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut all = vec![(b"PATH".to_vec(), PATH.as_bytes().to_vec())];
    let mut set = |name: &[u8], value: &[u8]| {
        // A name that can't be one would be read as another.
        if name.is_empty() || name.contains(&0) || value.contains(&0) {
            return;
        }
        match all.iter_mut().find(|(other, _)| other == name) {
            Some((_, old)) => *old = value.to_vec(),
            None => all.push((name.to_vec(), value.to_vec())),
        }
    };
    set(b"HOME", &user.home);
    for (name, value) in &options.defaults {
        set(name, value);
    }
    for variable in &config.env {
        let (name, value) = variable.split_once('=').unwrap_or((variable, ""));
        set(name.as_bytes(), value.as_bytes());
    }
    for (name, value) in &options.env {
        set(name, value);
    }
    all
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<Vec<u8>> {
        text.split_whitespace().map(|word| word.as_bytes().to_vec()).collect()
    }

    #[test]
    fn entrypoints_and_arguments() {
        // The image's entrypoint and Cmd, the caller's entrypoint and arguments, what is started.
        for (entrypoint, cmd, instead, given, expected) in [
            ("", "sh", None, "", Some("sh")),
            ("", "sh", None, "ls -l", Some("ls -l")),
            ("/e -x", "a b", None, "", Some("/e -x a b")),
            ("/e -x", "a b", None, "c", Some("/e -x c")),
            ("/e -x", "a b", Some("/f"), "", Some("/f")),
            ("/e -x", "a b", Some("/f"), "c", Some("/f c")),
            ("/e -x", "a b", Some(""), "c", Some("c")),
            ("/e -x", "a b", Some(""), "", None),
            ("", "", None, "", None),
        ] {
            let texts = |text: &str| text.split_whitespace().map(str::to_owned).collect();
            let config = RunConfig {
                entrypoint: texts(entrypoint),
                cmd: texts(cmd),
                ..RunConfig::default()
            };
            let entrypoint = instead.map(words);
            let options = ProcessOptions { entrypoint, args: words(given), ..Default::default() };
            assert_eq!(args(&config, &options), expected.map(words), "{instead:?} {given}");
        }
    }

    #[test]
    fn variables() {
        let pair = |(name, value): (&str, &str)| (name.as_bytes().to_vec(), value.into());
        let user = User { uid: 1, gid: 1, groups: Vec::new(), home: b"/h".to_vec() };
        let env = |config: &[&str], over: &[(&str, &str)]| {
            let env = config.iter().map(|text| (*text).to_owned()).collect();
            let options = ProcessOptions {
                defaults: vec![pair(("TERM", "vt100"))],
                env: over.iter().copied().map(pair).collect(),
                ..Default::default()
            };
            super::env(&RunConfig { env, ..RunConfig::default() }, &options, &user)
        };
        let usual = [("PATH", PATH), ("HOME", "/h"), ("TERM", "vt100")].map(pair);
        assert_eq!(env(&[], &[]), usual);
        let found = env(&["A=b=c", "PATH=/x", "B", "=d", "A=e"], &[("TERM", ""), ("HOME", "/i")]);
        let expected = [("PATH", "/x"), ("HOME", "/i"), ("TERM", ""), ("A", "e"), ("B", "")];
        assert_eq!(found, expected.map(pair));
    }
}
