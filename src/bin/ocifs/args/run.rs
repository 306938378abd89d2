//! The words and flags of `ocifs run`.
//!
//! As in container engines, everything behind REF is the program's, and `-v` is a volume: the log's flag has its long
//! form only here. Flags that people type with them, and that say what is so anyway, are taken.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

use clap::Args as ClapArgs;
use clap::builder::{OsStringValueParser, TypedValueParser};
use ocifs::reference::ImageName;

use super::image::ImageArgs;
use super::name::image_name;

/// `ocifs run`
#[derive(Debug, ClapArgs)]
#[command(override_usage = "ocifs run [OPTIONS] REF [CMD...]")]
pub(crate) struct Run {
    /// The image, and the program with its arguments, instead of the image's Cmd
    #[arg(value_name = "REF [CMD...]", required = true, trailing_var_arg = true)]
    image_and_command: Vec<OsString>,

    /// Set a variable; without a value it has the one that it has here
    ///
    /// Of the environment here, only TERM is passed on by itself.
    #[arg(short, long, value_name = "NAME[=VALUE]", help_heading = "Program")]
    env: Vec<OsString>,

    /// The program, instead of the image's Entrypoint and Cmd; a JSON list has arguments too
    #[arg(long, value_name = "PROGRAM", help_heading = "Program")]
    entrypoint: Option<OsString>,

    /// The working directory; it is made if it is not there
    #[arg(short, long, value_name = "DIR", help_heading = "Program")]
    workdir: Option<OsString>,

    /// Who the program runs as, by names of the image or numbers
    #[arg(short, long, value_name = "USER[:GROUP]", help_heading = "Program")]
    user: Option<String>,

    /// Let the program read the input of this process, which is always so
    #[arg(short, long, help_heading = "Program")]
    interactive: bool,

    /// Give the program the terminal, which is always so if there is one
    #[arg(short, long, help_heading = "Program")]
    tty: bool,

    /// Remove what the program has written when it ends, which is always so without --upper
    #[arg(long, conflicts_with = "upper", help_heading = "Files")]
    rm: bool,

    /// Show a file or directory of this machine at DIR; `:ro` read-only
    ///
    /// What is missing of DIR is made. Symlinks in DIR are the image's, and lead nowhere else.
    #[arg(
        short,
        long,
        value_name = "HOST:DIR[:ro]",
        value_parser = OsStringValueParser::new().try_map(Volume::parse),
        help_heading = "Files"
    )]
    pub(crate) volume: Vec<Volume>,

    /// Keep what is written in this directory, and begin with what is there
    ///
    /// Without it, what is written is kept in memory, and is gone with the program. A directory is for one image, and for one
    /// program at a time.
    #[arg(long, value_name = "DIR", help_heading = "Files")]
    pub(crate) upper: Option<PathBuf>,

    /// Let nothing of the image be written
    #[arg(long, conflicts_with = "upper", help_heading = "Files")]
    pub(crate) read_only: bool,

    #[command(flatten)]
    pub(crate) image_args: ImageArgs,

    /// Log more: once events, twice every request
    // Of the same name as the flag of all verbs, which it stands for.
    #[arg(long, action = clap::ArgAction::Count, help_heading = None)]
    verbose: u8,
}

/// `HOST:DIR[:ro]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Volume {
    pub(crate) host: PathBuf,
    pub(crate) target: Vec<u8>,
    pub(crate) read_only: bool,
}

impl Volume {
    fn parse(text: OsString) -> Result<Volume, String> {
        let fields: Vec<&[u8]> = text.as_bytes().split(|byte| *byte == b':').collect();
        let (host, target, options) = match fields[..] {
            [host, target] => (host, target, &b""[..]),
            [host, target, options] => (host, target, options),
            _ => return Err("it is HOST:DIR or HOST:DIR:ro".to_owned()),
        };
        let read_only = match options {
            b"ro" => true,
            b"" | b"rw" => false,
            _ => return Err("what follows DIR can be `ro` or `rw`".to_owned()),
        };
        if host.is_empty() {
            return Err("there is no path of this machine before the colon".to_owned());
        }
        if !target.starts_with(b"/") || target.iter().all(|byte| *byte == b'/') {
            return Err("DIR is an absolute path in the image, other than `/`".to_owned());
        }
        let host = PathBuf::from(OsString::from_vec(host.to_owned()));
        Ok(Volume { host, target: target.to_owned(), read_only })
    }
}

/// The words of `ocifs run`, read.
#[derive(Debug)]
pub(crate) struct RunRequest {
    pub(crate) image: ImageName,
    /// Arguments, as bytes.
    pub(crate) args: Vec<Vec<u8>>,
    pub(crate) entrypoint: Option<Vec<Vec<u8>>>,
    /// Variables; without a value, those of this process are meant.
    pub(crate) env: Vec<(Vec<u8>, Option<Vec<u8>>)>,
    pub(crate) cwd: Option<Vec<u8>>,
    pub(crate) user: Option<String>,
}

impl Run {
    /// What is to be run.
    ///
    /// # Errors
    /// Wrong usage.
    pub(crate) fn request(&self) -> Result<RunRequest, String> {
        let bytes = |word: &OsString| word.as_bytes().to_owned();
        let Some((image, args)) = self.image_and_command.split_first() else {
            return Err("an image is needed".to_owned());
        };
        let not_utf8 = || format!("`{}` is not UTF-8", image.to_string_lossy());
        let image = image.to_str().ok_or_else(not_utf8).and_then(image_name);
        let env = self.env.iter().map(variable).collect::<Option<Vec<_>>>();
        let no_name = || "a variable of `--env` has no name".to_owned();
        let cwd = self.workdir.as_ref().map(bytes);
        if cwd.as_ref().is_some_and(|cwd| !cwd.starts_with(b"/")) {
            return Err("`--workdir` is an absolute path in the image".to_owned());
        }
        Ok(RunRequest {
            image: image?,
            args: args.iter().map(bytes).collect(),
            entrypoint: self.entrypoint.as_ref().map(entrypoint),
            env: env.ok_or_else(no_name)?,
            cwd,
            user: self.user.clone(),
        })
    }
}

/// `NAME[=VALUE]`
fn variable(word: &OsString) -> Option<(Vec<u8>, Option<Vec<u8>>)> {
    let mut parts = word.as_bytes().splitn(2, |byte| *byte == b'=');
    let name = parts.next().filter(|name| !name.is_empty())?;
    Some((name.to_owned(), parts.next().map(<[u8]>::to_owned)))
}

/// A program, or a JSON list of texts; nothing is no entrypoint.
fn entrypoint(word: &OsString) -> Vec<Vec<u8>> {
    let bytes = word.as_bytes();
    match serde_json::from_slice::<Vec<String>>(bytes) {
        Ok(words) => words.into_iter().map(String::into_bytes).collect(),
        Err(_) if bytes.is_empty() => Vec::new(),
        Err(_) => vec![bytes.to_owned()],
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn volumes() {
        let parsed = |text: &str| {
            let Volume { host, target, read_only } = Volume::parse(text.into())?;
            Ok::<_, String>((host, String::from_utf8(target).unwrap(), read_only))
        };
        for (text, host, target, read_only) in [
            ("/a:/b", "/a", "/b", false),
            (".:/b:ro", ".", "/b", true),
            ("a/b:/b/../c:rw", "a/b", "/b/../c", false),
        ] {
            assert_eq!(parsed(text), Ok((host.into(), target.into(), read_only)), "{text}");
        }
        for bad in ["/a", ":/b", "/a:b", "/a:/", "/a:", "/a:/b:x", "/a:/b:ro:"] {
            assert!(parsed(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn entrypoints() {
        for (text, expected) in
            [("/a b", &["/a b"][..]), (r#"["/a","b c"]"#, &["/a", "b c"]), ("", &[]), ("[", &["["])]
        {
            let expected: Vec<_> = expected.iter().map(|word| word.as_bytes().to_owned()).collect();
            assert_eq!(entrypoint(&text.into()), expected, "{text}");
        }
    }
}
