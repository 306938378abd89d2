//! The way in for mount(8): what it runs for a line of fstab(5) or `mount -t ocifs`.
//!
//! mount(8) runs `/sbin/mount.TYPE SOURCE DIR [-sfnv] [-N NAMESPACE] [-o OPTIONS] [-t TYPE]`, so links to this program
//! by the names `mount.ocifs` and `mount.fuse.ocifs` are all it needs. Without them `mount -t fuse.ocifs` runs the
//! `mount.fuse` of libfuse, which runs `ocifs SOURCE DIR -o OPTIONS`.
//!
//! The words are translated into those of `ocifs mount`, whose flags are the options: a flag is added in one place.
//! The options that fstab has for all file systems are obeyed by mount(8) itself (`nofail`), or come true anyway (`ro`,
//! `nosuid`), or say nothing about a mount that can't be written (`noatime`). `rw` is among them, because mount(8)
//! says it whenever `ro` is not asked for.

use std::ffi::{OsStr, OsString};
use std::path::Path;

use clap::CommandFactory;

use crate::args::{Args, is_verb};

/// Names of this program behind `mount.`.
const TYPES: [&str; 2] = ["ocifs", "fuse.ocifs"];

/// Options of fstab that ask for nothing that has to be done here.
const GENERIC: [&str; 44] = [
    "_netdev",
    "async",
    "atime",
    "auto",
    "comment",
    "defaults",
    "dev",
    "diratime",
    "dirsync",
    "exec",
    "fsname",
    "group",
    "helper",
    "iversion",
    "lazytime",
    "loud",
    "mand",
    "noatime",
    "noauto",
    "nodev",
    "nodiratime",
    "nofail",
    "nogroup",
    "noiversion",
    "nonempty",
    "nolazytime",
    "nomand",
    "noowner",
    "norelatime",
    "nostrictatime",
    "nosuid",
    "nouser",
    "owner",
    "relatime",
    "ro",
    "rw",
    "silent",
    "strictatime",
    "subtype",
    "suid",
    "symfollow",
    "sync",
    "user",
    "users",
];

/// Flags of `ocifs mount` that make no sense in fstab.
const NOT_OPTIONS: [&str; 4] = ["foreground", "help", "verbose", "version"];

/// What mount(8) asks for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Request {
    /// The same in the words of `ocifs mount`, in a mount namespace if it is named.
    Mount { words: Vec<OsString>, namespace: Option<OsString> },
    /// Only to try whether everything is understood.
    Fake,
}

/// Whether mount(8), or `mount.fuse`, has started this program.
pub(crate) fn is_asked(words: &[OsString]) -> bool {
    let program = words.first().and_then(|word| Path::new(word).file_name());
    let name = program.and_then(OsStr::to_str).unwrap_or_default();
    let is_named = TYPES.iter().any(|kind| name.strip_prefix("mount.") == Some(kind));
    // No verb has the flag.
    let by_fuse = || matches!(words, [_, source, _, flag, _] if flag == "-o" && !is_verb(source));
    is_named || by_fuse()
}

/// Reads the words of mount(8), the first of which is the name of the program.
///
/// # Errors
/// What is wrong with them.
pub(crate) fn read(words: Vec<OsString>) -> Result<Request, String> {
    let (mut places, mut flags) = (Vec::new(), Vec::new());
    let (mut is_fake, mut is_sloppy, mut namespace) = (false, false, None);
    let mut words = words.into_iter().skip(1);
    while let Some(word) = words.next() {
        let letters = match word.to_str().and_then(|word| word.strip_prefix('-')) {
            Some(letters) if !letters.is_empty() => letters.to_owned(),
            _ => {
                places.push(word);
                continue;
            }
        };
        let mut value = || words.next().ok_or(format!("-{letters} needs a value"));
        match letters.as_str() {
            "o" => flags.push(value()?),
            "t" => drop(value()?),
            "N" => namespace = Some(value()?),
            long if long.starts_with('-') => {
                return Err(format!("unknown flag `-{long}`; {USAGE}"));
            }
            letters => {
                for letter in letters.chars() {
                    match letter {
                        's' => is_sloppy = true,
                        'f' => is_fake = true,
                        'n' => {}
                        'v' => flags.push("verbose".into()),
                        _ => return Err(format!("unknown flag `-{letter}`; {USAGE}")),
                    }
                }
            }
        }
    }
    let [source, directory] = &places[..] else { return Err(USAGE.to_owned()) };
    let mut out: Vec<OsString> = vec!["ocifs".into(), "mount".into()];
    for list in flags {
        if list == "verbose" {
            out.push("--verbose".into());
            continue;
        }
        let list = list.into_string().map_err(|_| "the options are not UTF-8".to_owned())?;
        for option in split(&list) {
            match flag(&option) {
                Ok(flag) => out.extend(flag.map(OsString::from)),
                Err(Wrong::Unknown(_)) if is_sloppy => {}
                Err(Wrong::Unknown(text) | Wrong::Refused(text)) => return Err(text),
            }
        }
    }
    if is_fake {
        return Ok(Request::Fake);
    }
    out.push("--".into());
    // As it is written for `mount.fuse`.
    let plain = source.to_str().and_then(|source| source.strip_prefix("ocifs#"));
    out.push(plain.map_or(source.clone(), OsString::from));
    out.push(directory.clone());
    Ok(Request::Mount { words: out, namespace })
}

const USAGE: &str = "usage: mount.ocifs REF DIR [-sfnv] [-N NAMESPACE] [-o OPTIONS]";

/// What is wrong with an option.
enum Wrong {
    Unknown(String),
    Refused(String),
}

/// The flag of `ocifs mount` for an option, if it needs one.
fn flag(option: &str) -> Result<Option<String>, Wrong> {
    let (name, value) = match option.split_once('=') {
        Some((name, value)) => (name, Some(value)),
        None => (option, None),
    };
    if name.starts_with("x-") || name.starts_with("X-") || GENERIC.contains(&name) {
        return Ok(None);
    }
    if name == "remount" {
        let text = "remount: what an image shows never changes, and a mount can't be changed: unmount it \
                    and mount it again";
        return Err(Wrong::Refused(text.to_owned()));
    }
    let name = match name {
        // As FUSE calls it.
        "default_permissions" => "strict-modes".to_owned(),
        name => name.replace('_', "-"),
    };
    let flags = flags();
    match (flags.iter().find(|(flag, _)| *flag == name), value) {
        (Some((_, true)), Some(value)) => Ok(Some(format!("--{name}={value}"))),
        (Some((_, true)), None) => {
            Err(Wrong::Refused(format!("the mount option `{option}` needs a value: {option}=…")))
        }
        (Some((_, false)), None) => Ok(Some(format!("--{name}"))),
        (Some((_, false)), Some(_)) => {
            Err(Wrong::Refused(format!("the mount option `{option}` takes no value")))
        }
        (None, _) => {
            let known: Vec<String> = flags.iter().map(|(flag, _)| flag.replace('-', "_")).collect();
            let known = known.join(", ");
            Err(Wrong::Unknown(format!("unknown mount option `{option}`; ocifs has: {known}")))
        }
    }
}

/// The flags of `ocifs mount` that are options, and whether they take a value.
fn flags() -> Vec<(String, bool)> {
    let mut command = Args::command();
    command.build();
    let Some(mount) = command.find_subcommand("mount") else { return Vec::new() };
    let named = mount.get_arguments().filter_map(|arg| {
        let name = arg.get_long().filter(|name| !NOT_OPTIONS.contains(name))?;
        Some((name.to_owned(), arg.get_action().takes_values()))
    });
    named.collect()
}

/// Splits at commas that are neither quoted nor behind a backslash (mount(8), libfuse).
fn split(list: &str) -> Vec<String> {
    let mut options = vec![String::new()];
    let (mut is_quoted, mut letters) = (false, list.chars());
    while let Some(letter) = letters.next() {
        let last = options.len() - 1;
        match letter {
            '"' => is_quoted = !is_quoted,
            ',' if !is_quoted => options.push(String::new()),
            '\\' => options[last].extend(letters.next()),
            letter => options[last].push(letter),
        }
    }
    options.retain(|option| !option.is_empty());
    options
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<OsString> {
        text.split(' ').map(OsString::from).collect()
    }

    fn read_text(text: &str) -> Result<String, String> {
        match read(words(text))? {
            Request::Mount { words, namespace } => {
                let words: Vec<_> = words.iter().map(|word| word.to_string_lossy()).collect();
                let namespace = namespace.map(|n| format!("{} ", n.display())).unwrap_or_default();
                Ok(namespace + &words.join(" "))
            }
            Request::Fake => Ok("fake".to_owned()),
        }
    }

    #[test]
    fn options_become_flags() {
        for (text, expected) in [
            ("mount.ocifs debian:12 /m", "ocifs mount -- debian:12 /m"),
            ("mount.ocifs debian:12 /m -o rw", "ocifs mount -- debian:12 /m"),
            (
                "mount.ocifs debian:12 /m -n -v -o rw,platform=linux/arm64,allow_other,noexec",
                "ocifs mount --verbose --platform=linux/arm64 --allow-other --noexec -- debian:12 /m",
            ),
            (
                "mount.fuse.ocifs ocifs#a=b /m -sv -N 7 -o x-systemd.automount,nonsense,cache-dir=/a\\,b",
                "7 ocifs mount --verbose --cache-dir=/a,b -- a=b /m",
            ),
            (
                "mount.ocifs -o tls_verify=false,default_permissions r /m -t x",
                "ocifs mount --tls-verify=false --strict-modes -- r /m",
            ),
            (
                "mount.ocifs r /m -o user=me,defaults,_netdev,X-a=b,comment=x,nosuid,nodev",
                "ocifs mount -- r /m",
            ),
            ("mount.ocifs r /m -f -o cache_size=5G", "fake"),
        ] {
            assert_eq!(read_text(text).as_deref(), Ok(expected), "{text}");
        }
        for (text, words) in [
            ("mount.ocifs r /m -o nonsense", "`nonsense`"),
            ("mount.ocifs r /m -o remount,ro", "unmount it"),
            ("mount.ocifs r /m -o foreground", "`foreground`"),
            ("mount.ocifs r /m -o platform", "needs a value"),
            ("mount.ocifs r /m -o offline=1", "takes no value"),
            ("mount.ocifs r /m -x", "`-x`"),
            ("mount.ocifs r /m -o", "needs a value"),
            ("mount.ocifs r", "usage"),
            ("mount.ocifs a b c", "usage"),
        ] {
            assert!(read_text(text).is_err_and(|error| error.contains(words)), "{text}");
        }
    }

    #[test]
    fn who_asks() {
        for text in ["/sbin/mount.ocifs a b", "mount.fuse.ocifs", "ocifs debian:12 /m -o rw,dev"] {
            assert!(is_asked(&words(text)), "{text}");
        }
        for text in [
            "ocifs mount a b",
            "/x/ocifs",
            "ocifs debian:12 /m",
            "mount.other a b",
            "ocifs umount a -o b",
        ] {
            assert!(!is_asked(&words(text)), "{text}");
        }
    }

    #[test]
    fn quotes() {
        assert_eq!(split(r#"a="x,y",,b=\",c\\"#), ["a=x,y", "b=\"", "c\\"]);
    }

    #[test]
    fn generic_options_are_not_flags() {
        assert!(
            flags().iter().all(|(flag, _)| !GENERIC.contains(&flag.replace('-', "_").as_str()))
        );
        assert!(flags().iter().any(|(flag, _)| flag == "log-file"));
    }
}
