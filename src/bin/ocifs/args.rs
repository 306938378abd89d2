//! The command line. Parsing validates, and does no I/O but to look whether a word that could be an image is
//! the path of one, or of a mount.

mod attest;
mod base;
mod blob;
mod browse;
mod cache;
mod check;
mod cp;
mod diff;
mod du;
mod explore;
mod export;
mod find;
mod history;
mod image;
mod inspect;
mod layer;
mod login;
mod ls;
mod mirror;
mod mount;
mod mount_flags;
mod name;
mod other_verbs;
mod path;
mod proof;
mod run;
mod store;
mod tags;
mod units;
mod verbs;
mod which;

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use clap::error::{ContextKind, ErrorKind};
use clap::{CommandFactory, Parser, Subcommand};
use ocifs::reference::TRANSPORTS;

pub(crate) use attest::{Attest, AttestationType};
pub(crate) use blob::Blob;
pub(crate) use browse::Browse;
pub(crate) use cache::CacheArgs;
pub(crate) use check::{Check, Metric, Most};
pub(crate) use cp::Cp;
pub(crate) use diff::Diff;
pub(crate) use du::Du;
pub(crate) use explore::Explore;
pub(crate) use export::Export;
pub(crate) use find::{Find, FindRequest};
pub(crate) use history::History;
pub(crate) use image::{ArtifactForm, ContentStore, ImageArgs};
pub(crate) use inspect::Inspect;
pub(crate) use login::Login;
pub(crate) use ls::Ls;
pub(crate) use mirror::Mirror;
pub(crate) use mount::{Mount, MountRequest, NamedImage, Prefetch, ShownImages, WrongUsage};
pub(crate) use name::mount_at;
pub(crate) use proof::RequiredProof;
pub(crate) use run::{Run, RunRequest};
pub(crate) use store::{EngineImage, EngineImages, Store};
pub(crate) use tags::Tags;
pub(crate) use verbs::{
    Cache, CacheVerb, Cat, Doctor, Index, IndexVerb, Pull, Status, Umount, Verify,
};
pub(crate) use which::Which;

use crate::render::log;

/// Look inside container images: mount one as a directory, list it, read files of it.
///
/// The first use of an image streams each of its layers once, into the cache. `cat` and `ls` stream only the
/// layers that they need, and a layer that has an index (eStargz, zstd:chunked, SOCI) is not streamed. Later,
/// only content that is read and not in the cache is fetched. Nothing is unpacked or run, and no daemon,
/// container runtime or root is needed.
#[derive(Debug, Parser)]
#[command(version, propagate_version = true, max_term_width = 100)]
#[command(
    after_help = format!(
        "REF is name[:tag][@digest] as for `docker pull`, or the path of an image layout or an archive \
         (./x.tar, /srv/layout, - for standard input; PATH:REF for one image of several), or {}.\n\n\
         Exit codes: 0 done, 1 failed, 2 wrong usage.",
        TRANSPORTS.map(|transport| transport.form).join(", ")
    )
)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) command: Command,

    /// Log more: -v events, -vv every request
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,

    /// Append the log to this file; without it, a mount in the background does not log
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) log_file: Option<PathBuf>,

    /// Write the log as `text`, or as `json`, an object a line [default: text]
    #[arg(
        long,
        global = true,
        value_name = "FORMAT",
        default_value = "text",
        hide_default_value = true,
        hide_possible_values = true
    )]
    pub(crate) log_format: log::Format,

    /// The words that this was read from, the program's name first.
    #[arg(skip)]
    pub(crate) words: Vec<OsString>,
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Mount an image as a directory, or several in a directory each
    ///
    /// One REF is shown at DIR itself. Several, or one with a NAME, are shown at DIR/NAME, all in one
    /// file system. Without a NAME, a directory is named after the last component of the reference
    /// and its tag: `python-app-v1`. A regular file that several of the images have, equal in content
    /// and attributes, is one inode: `diff -r` does not open it, and `du` and `tar` that are given both
    /// directories count it once and store the second as a hard link.
    ///
    /// Links to this program called /sbin/mount.ocifs and /sbin/mount.fuse.ocifs let mount(8), fstab and systemd mount
    /// images: `mount -t ocifs REF DIR -o allow_other,platform=linux/arm64`. The options are the flags below.
    Mount(Mount),
    /// Show registries as directories: DIR/HOST/REPOSITORY/:TAG
    ///
    /// A repository lists its tags; an image is fetched when its directory is entered. `docker.io/library/debian/:12`
    /// and `docker.io/library/debian:12` are the same. Nothing is asked for before it is named, so hosts and
    /// repositories are listed once they were.
    Browse(Browse),
    /// Show images as a store of podman, buildah and CRI-O, which use them without a pull
    ///
    /// DIR becomes an additional image store: `podman --storage-opt additionalimagestore=DIR run REF`, or
    /// `additionalimagestores = ["DIR"]` in storage.conf. Containers, builds, `commit`, `save` and `push` read the images
    /// where they are; what is written goes to the engine's own store. Layers that nobody knows are streamed once,
    /// before DIR is mounted. Later, content is fetched when it is read.
    #[command(override_usage = "ocifs store [OPTIONS] DIR [NAME=]REF...")]
    Store(Store),
    /// Answer engines as a mirror that has a store show what they are about to pull
    ///
    /// Named as a mirror in registries.conf, it makes `podman run ANY/NAME` run the image from the store of `ocifs store
    /// --list FILE DIR`: what is asked for is added to FILE, and answered once the store shows it. What can't be shown is
    /// pulled as ever. A repository has its registry before it, with `_` before a port:
    /// `location = "127.0.0.1:5001/docker.io"`. Whoever reaches the address can have images streamed and shown.
    #[command(override_usage = "ocifs mirror [OPTIONS] ADDRESS")]
    Mirror(Mirror),
    /// Unmount images
    #[command(alias = "unmount")]
    #[command(override_usage = "ocifs umount [OPTIONS] DIR...\n       ocifs umount --all")]
    Umount(Umount),
    /// Show what is mounted, and its state
    #[command(override_usage = "ocifs status [OPTIONS] [DIR]")]
    Status(Status),
    /// List files of an image
    #[command(override_usage = "ocifs ls [OPTIONS] REF [PATH...]")]
    Ls(Ls),
    /// Find files of an image by name, kind, size and other attributes
    ///
    /// The expression is that of GNU find. Tests: -name, -iname, -path, -ipath, -lname, -ilname, -type, -size,
    /// -perm, -newer, -newermt, -mtime, -mmin, -user, -group, -uid, -gid, -nouser, -nogroup, -empty, -links,
    /// -samefile, -true, -false. Joined by -a, -o, !, `,` and parentheses. Actions: -print, -print0, -ls,
    /// -prune, -quit. Options: -maxdepth, -mindepth, -depth. Names of users and groups are those of the
    /// image's own /etc/passwd and /etc/group. Flags stand before the first PATH.
    #[command(override_usage = "ocifs find [OPTIONS] REF [PATH...] [EXPRESSION]")]
    Find(Find),
    /// Show how much room directories of an image take, or its layers
    ///
    /// As du(1) over the unpacked files: blocks of 4 KiB, holes left out, files with several names once. In bytes;
    /// on a terminal with units.
    #[command(override_usage = "ocifs du [OPTIONS] REF [PATH...]")]
    Du(Du),
    /// Print files of an image
    #[command(override_usage = "ocifs cat [OPTIONS] REF PATH...")]
    Cat(Cat),
    /// Show how an image was made: instructions, the layers they made, and what these changed
    ///
    /// Each instruction stands with its layer, the base first, or with "(empty layer)". Changes count names:
    /// added, changed (the layer has the name again), removed. Instructions that do not fit to the layers are
    /// listed apart.
    #[command(override_usage = "ocifs history [OPTIONS] REF")]
    History(History),
    /// Show which layer and instruction brought a file, its earlier versions, and what deleted it
    ///
    /// The newest version comes first. Files that a later layer deleted or replaced are found as well: their bytes
    /// are still in the image.
    #[command(override_usage = "ocifs which [OPTIONS] REF PATH...")]
    Which(Which),
    /// Show what differs between two images, without reading files
    ///
    /// Files are compared by the digests in their layer indexes. `+` has been added, `-` removed, `>` renamed, `~`
    /// has other content, `m` other attributes. A directory that only one image has is one line, with what is in it.
    ///
    /// Exit codes: 0 no difference, 1 differences, 2 trouble or wrong usage.
    #[command(override_usage = "ocifs diff [OPTIONS] A B")]
    Diff(Diff),
    /// Look around in an image in the terminal, layer by layer, or in two and how they differ
    ///
    /// Shows the layers with what each added, changed and removed, the tree as of each of them, and files: their content,
    /// attributes and versions. `?` shows the keys. Files are fetched when they are looked at.
    #[command(override_usage = "ocifs explore [OPTIONS] REF [REF2]")]
    Explore(Explore),
    /// Show what an image is made of: platforms, manifest, config, layers, referrers
    ///
    /// No layer is fetched. Everything that is known is shown of the image for one platform; of the others, what
    /// the image index says.
    #[command(override_usage = "ocifs inspect [OPTIONS] REF")]
    Inspect(Inspect),
    /// List the tags of a repository, layout or registry's storage, and what they mean
    ///
    /// Tags that mean the same stand in one line, the newest version first. Each tag costs one HEAD request, up to
    /// 1000 of them; --names asks for none.
    #[command(override_usage = "ocifs tags [OPTIONS] REPO")]
    Tags(Tags),
    /// Show what is attested of an image: lists of software, provenance, signatures
    ///
    /// Looks at BuildKit's attestations, cosign's tags, and referrers. Digests are checked, and whether a statement is
    /// about this image. Signatures are shown and not checked: none is called valid.
    #[command(override_usage = "ocifs attest [OPTIONS] REF")]
    Attest(Attest),
    /// Write a blob to stdout, verified: a manifest, a config, a layer
    ///
    /// The first 6 or more digits of a digest are enough where only one of those begins so that the image's documents
    /// name. Blobs of up to 8 MiB are checked before the first byte is written; larger ones while they are
    /// written: of one that is wrong the last bytes are not written, and the exit code is 1.
    #[command(override_usage = "ocifs blob [OPTIONS] REF DIGEST")]
    Blob(Blob),
    /// Copy files of an image to this machine
    ///
    /// Modes, times, extended attributes, hard links and holes are kept, and by root owners, as `cp -a` does.
    /// Other users get files of their own, without setuid and setgid. Existing files are replaced, and no symlink
    /// in DEST is followed. What can't be made is told, the rest is copied, and the exit code is 1.
    #[command(override_usage = "ocifs cp [OPTIONS] REF PATH... DEST")]
    Cp(Cp),
    /// Write the merged tree of an image, or parts of it, as a tar archive
    #[command(override_usage = "ocifs export [OPTIONS] REF [PATH...]")]
    Export(Export),
    /// Manage the cache: show what it holds, shrink, check or clear it
    #[command(subcommand)]
    Cache(Cache),
    /// Fetch all of an image into the cache
    #[command(override_usage = "ocifs pull [OPTIONS] REF")]
    Pull(Pull),
    /// Check all of an image: digests, diff IDs, tables of contents
    ///
    /// Streams the layers that were not proven on this machine before. Layers that were are listed with the
    /// date, and are read again with --again. Fails if anything is wrong, and lists the paths for which a
    /// table of contents differs from the layer's tar.
    #[command(override_usage = "ocifs verify [OPTIONS] REF")]
    Verify(Verify),
    /// Build, push and show layer indexes, which are stored beside an image
    #[command(subcommand)]
    Index(Index),
    /// Check what mounting needs: FUSE, the cache, and with REF the image's registry
    ///
    /// Fails if a mount would fail, and says what to do about it.
    #[command(override_usage = "ocifs doctor [OPTIONS] [REF]")]
    Doctor(Doctor),
    /// Run a program of an image, without a container engine and without root
    ///
    /// For tools and steps of builds, not for services: the program sees the image's files and those of -v, processes of
    /// its own, and nothing else of this machine's files. What it writes goes to memory and is gone with it (--upper
    /// keeps it). It is NOT isolated in other respects: it has this machine's network, may use as much of its processors,
    /// memory and devices as you may, and as root it is root. Only what is read of the image is fetched, if its layers
    /// have been indexed. Signals are passed on; when `ocifs run` ends, everything that it has started does.
    ///
    /// Without root one user ID is there, or those of /etc/subuid where newuidmap is installed. Linux 5.12, with user
    /// namespaces for users: `ocifs doctor` looks.
    ///
    /// Exit codes: the program's, 128+n if signal n ended it, 127 if it is not in the image, 126 if it can't be
    /// started, 125 if something failed before.
    Run(Run),
    /// Print a completion script for a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Write the manual pages into a folder, which has to be there
    #[command(hide = true)]
    ManPages {
        /// The folder
        #[arg(value_name = "DIR")]
        folder: PathBuf,
    },
}

/// Reads the words of a command line, the first of which is the name of the program.
///
/// # Errors
/// Wrong usage, or a help text to print. What is wrong with a REF quotes it: it stands alone then.
pub(crate) fn parse(words: &[OsString]) -> Result<Args, clap::Error> {
    let parsed = Args::try_parse_from(words);
    if let Ok(Args { command: Command::Find(find), .. }) = &parsed
        && find.wants_help()
    {
        return Args::try_parse_from(["ocifs", "find", "--help"]);
    }
    parsed.map_err(|mut error| {
        other_verbs::explain(&mut error);
        if let Some(help) = short_help(words) {
            return help;
        }
        let argument = error.get(ContextKind::InvalidArg).map(ToString::to_string);
        let is_reference = argument.is_some_and(|name| matches!(&*name, "<REF>" | "[REF]"));
        match std::error::Error::source(&error) {
            Some(why) if is_reference => clap::Error::raw(error.kind(), format!("{why}\n")),
            _ => error,
        }
    })
}

/// Whether a word is the name of a verb.
pub(crate) fn is_verb(word: &OsStr) -> bool {
    Args::command().find_subcommand(word).is_some()
}

/// The short help text, asked for with nothing but `-h` of a verb for which that is another flag, as in `ls -h`.
fn short_help(words: &[OsString]) -> Option<clap::Error> {
    let [_, verb, flag] = words else { return None };
    let mut command = Args::command();
    command.build();
    let verb = command.find_subcommand_mut(verb).filter(|verb| verb.is_disable_help_flag_set())?;
    (flag == "-h").then(|| clap::Error::raw(ErrorKind::DisplayHelp, verb.render_help()))
}

/// Wrong usage of a verb, with the line of its usage.
pub(crate) fn usage_error(verb: &str, WrongUsage { kind, text }: WrongUsage) -> clap::Error {
    let mut command = Args::command();
    command.build();
    match command.find_subcommand_mut(verb) {
        Some(verb) => verb.error(kind, text),
        None => command.error(kind, text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Args::command().debug_assert();
    }

    /// What is flattened leaves its heading to the flags after it.
    #[test]
    fn json_is_under_no_other_heading() {
        let mut todo = vec![Args::command()];
        let mut seen = 0;
        while let Some(command) = todo.pop() {
            for flag in command.get_arguments().filter(|flag| flag.get_long() == Some("json")) {
                let heading = flag.get_help_heading();
                assert!(
                    matches!(heading, None | Some("Listing" | "Differences")),
                    "{}",
                    command.get_name()
                );
                seen += 1;
            }
            todo.extend(command.get_subcommands().cloned());
        }
        assert_eq!(seen, 21);
    }

    #[test]
    fn a_lone_h_is_help_where_it_is_a_flag_too() {
        let error = |words: &[&str]| {
            let words: Vec<OsString> = words.iter().map(OsString::from).collect();
            parse(&words).unwrap_err()
        };
        for verb in ["ls", "cat"] {
            let help = error(&["ocifs", verb, "-h"]);
            assert_eq!(help.kind(), ErrorKind::DisplayHelp, "{verb}");
            assert!(help.to_string().contains(&format!("Usage: ocifs {verb} ")), "{help}");
        }
        assert_eq!(error(&["ocifs", "ls", "-hl"]).kind(), ErrorKind::MissingRequiredArgument);
    }

    /// A flag whose variable is set would be listed as if it were needed.
    #[test]
    fn usage_lines_are_short() {
        let mut command = Args::command();
        command.build();
        let mut todo = vec![command];
        while let Some(mut command) = todo.pop() {
            let usage = command.render_usage().to_string();
            let names_flag = usage.contains("--") && !usage.contains("umount --all");
            let has_variable = command.get_arguments().any(|flag| flag.get_env().is_some());
            assert!(!names_flag, "{usage}");
            assert!(!has_variable || usage.contains(" [OPTIONS]"), "{usage}");
            todo.extend(command.get_subcommands().cloned());
        }
    }
}
