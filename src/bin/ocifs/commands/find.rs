//! `ocifs find`: files by what they are, without a mount.

use std::io::{self, BufWriter, Write};
use std::os::unix::ffi::OsStrExt;
use std::process::ExitCode;

use clap::error::ErrorKind;
use ocifs::image::{ACCOUNT_FILES, accounts};
use ocifs::tree::find::{Accounts, Flow, Output};
use ocifs::tree::{Question, Symlinks, Want};

use crate::args::{self, RequiredProof, WrongUsage};
use crate::commands::contained::Outlet;
use crate::commands::open::open_excerpt;
use crate::render::errors::{self, About, AnyError, FAILED};
use crate::render::listing::{Listing, Style};
use crate::render::output;

/// Bytes of output that are written at a time.
const BUFFER_BYTES: usize = 64 << 10;

pub(crate) fn run(args: &args::Find) -> Result<ExitCode, AnyError> {
    let args::FindRequest { mut paths, mut search } = match args.request() {
        Ok(request) => request,
        Err(text) => {
            let wrong = WrongUsage::new(ErrorKind::ValueValidation, text);
            return Ok(errors::wrong_usage(&args::usage_error("find", wrong)));
        }
    };
    if paths.is_empty() {
        paths.push("/".into());
    }
    let last = if args.follow { Symlinks::Follow } else { Symlinks::Keep };
    let is_of_names = search.expression.is_of_names() && !args.json;
    let want = if is_of_names { Want::Names } else { Want::Attributes };
    let named = search.expression.named();
    let ask = |path: &[u8], last, want| Question { path: path.to_vec(), last, want };
    let mut questions: Vec<Question> =
        paths.iter().map(|path| ask(path.as_bytes(), last, want)).collect();
    questions.extend(named.paths.iter().map(|path| ask(path, Symlinks::Keep, Want::Attributes)));
    if named.accounts {
        questions.extend(ACCOUNT_FILES.map(|path| ask(path, Symlinks::Follow, Want::Content)));
    }
    let image = open_excerpt(
        &args.image,
        &questions,
        args.layer.layer.as_ref(),
        &args.base.with(&args.image_args),
        RequiredProof::Unsaid,
        Outlet::One(None),
    )?;
    let (name, filesystem) = (&image.resolved().name, image.filesystem());
    let tree = filesystem.tree();
    let accounts = match named.accounts {
        true => accounts(filesystem).map_err(|e| About::new(name, e))?,
        false => Accounts::default(),
    };
    search.expression = search.expression.bind(tree, &accounts).map_err(|e| About::new(name, e))?;
    let style = if args.json { Style::Json } else { Style::Names };
    let (listing, long) = (Listing::new(tree, style), Listing::new(tree, Style::LONG));
    let mut out = BufWriter::with_capacity(BUFFER_BYTES, output::stdout());
    let mut is_complete = true;
    for path in &paths {
        let path = path.as_bytes();
        // As find(1): a symlink that leads nowhere is itself.
        let found =
            tree.resolve(path, last).or_else(|e| tree.resolve(path, Symlinks::Keep).map_err(|_| e));
        let start = match found {
            Ok(start) => start,
            Err(e) => {
                let path = String::from_utf8_lossy(path);
                errors::failure(&format!("{name}: {path}: {e}").into());
                is_complete = false;
                continue;
            }
        };
        let flow = tree.find(start, path, &search, &mut |what, path, ino| -> io::Result<()> {
            match what {
                _ if args.json => listing.row(&mut out, None, path, ino),
                Output::Path => {
                    out.write_all(&listing.shown(path))?;
                    out.write_all(b"\n")
                }
                Output::PathNul => {
                    out.write_all(path)?;
                    out.write_all(b"\0")
                }
                Output::Long => long.row(&mut out, None, path, ino),
            }
        })?;
        if flow == Flow::Quit {
            break;
        }
    }
    out.flush()?;
    Ok(if is_complete { ExitCode::SUCCESS } else { ExitCode::from(FAILED) })
}
