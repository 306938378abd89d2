//! `ocifs ls`: names and attributes without a mount.
//!
//! The flags mean what they mean to ls(1), with one difference: names that begin with a dot are listed without `-a`.
//! People look into an image for what they do not know is there, and `.aws/credentials` is no less in it than `app.py`.
//! So `-a` adds `.` and `..` only; with `-R`, whose rows are paths, `.` alone, as find(1) has it.

use std::ffi::OsString;
use std::io::{self, BufWriter, Write};
use std::os::unix::ffi::OsStrExt;
use std::process::ExitCode;

use ocifs::tree::{FileKind, Ino, Order, Question, Symlinks, Tree, Want};

use crate::args::{self, RequiredProof};
use crate::commands::contained::Outlet;
use crate::commands::open::open_excerpt;
use crate::render::errors::{self, AnyError, FAILED};
use crate::render::listing::{Listing, Style};
use crate::render::output;

pub(crate) fn run(args: &args::Ls) -> Result<ExitCode, AnyError> {
    // As ls(1): a symlink on the command line is followed, unless its own attributes are wanted.
    let follow = if args.long || args.directory { Symlinks::Keep } else { Symlinks::Follow };
    let want = match args {
        args::Ls { long: true, .. } | args::Ls { json: true, .. } => Want::Attributes,
        // That it is there is enough.
        args::Ls { directory: true, .. } => Want::Content,
        _ => Want::Names,
    };
    let question =
        |path: &OsString| Question { path: path.as_bytes().to_vec(), last: follow, want };
    let questions: Vec<Question> = args.paths.iter().map(question).collect();
    let image = open_excerpt(
        &args.image,
        &questions,
        args.layer.layer.as_ref(),
        &args.base.with(&args.image_args),
        RequiredProof::Unsaid,
        Outlet::One(None),
    )?;
    let tree = image.filesystem().tree();
    let (mut files, mut directories, mut is_complete) = (Vec::new(), Vec::new(), true);
    for path in &args.paths {
        let found = tree.resolve(path.as_bytes(), follow);
        // A symlink that leads nowhere is listed as itself: what decided that has found the link.
        match found.or_else(|e| tree.resolve(path.as_bytes(), Symlinks::Keep).map_err(|_| e)) {
            Ok(ino) if tree.kind(ino) == FileKind::Directory && !args.directory => {
                directories.push((path.as_bytes(), ino));
            }
            Ok(ino) => files.push((path.as_bytes(), ino)),
            Err(e) => {
                let name = &image.resolved().name;
                errors::failure(&format!("{name}: {}: {e}", path.display()).into());
                is_complete = false;
            }
        }
    }
    let style = match (args.json, args.long) {
        (true, _) => Style::Json,
        (false, true) => Style::Long { human: args.human_readable },
        (false, false) => Style::Names,
    };
    let listing = Listing::new(tree, style);
    let mut out = BufWriter::new(output::stdout());
    for (path, ino) in &files {
        listing.row(&mut out, None, path, *ino)?;
    }
    let has_headers = args.paths.len() > 1 && !args.json;
    for (at, (path, ino)) in directories.iter().enumerate() {
        if has_headers {
            let gap: &[u8] = if at > 0 || !files.is_empty() { b"\n" } else { b"" };
            out.write_all(&[gap, &listing.shown(path), b":\n"].concat())?;
        }
        list(&mut out, args, tree, &listing, path, *ino)?;
    }
    out.flush()?;
    Ok(if is_complete { ExitCode::SUCCESS } else { ExitCode::from(FAILED) })
}

/// What is in a directory.
fn list(
    out: &mut impl Write,
    args: &args::Ls,
    tree: &Tree,
    listing: &Listing<'_>,
    path: &[u8],
    dir: Ino,
) -> io::Result<()> {
    if args.recursive {
        if args.all {
            listing.row(out, Some(path), b".", dir)?;
        }
        // Paths relative to the directory, as `find` prints them.
        let mut walk = tree.walk(dir, Order::Name);
        while let Some((name, ino)) = walk.next() {
            listing.row(out, Some(path), name, ino)?;
        }
        return Ok(());
    }
    if args.all {
        listing.row(out, Some(path), b".", dir)?;
        listing.row(out, Some(path), b"..", tree.parent(dir).unwrap_or(dir))?;
    }
    for child in tree.children_by_name(dir) {
        listing.row(out, Some(path), child.name, child.ino)?;
    }
    Ok(())
}
