//! `ocifs cat`: contents without a mount.

use std::ffi::{OsStr, OsString};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::process::ExitCode;

use ocifs::fs::{File, Filesystem};
use ocifs::tree::{Ino, Mark, Question, Symlinks, Want};

use crate::args::{self, RequiredProof};
use crate::commands::contained::Outlet;
use crate::commands::open::open_excerpt;
use crate::render::errors::{About, AnyError};
use crate::render::output;

/// Bytes read at a time.
pub(crate) const CHUNK_BYTES: usize = 1 << 20;

pub(crate) fn run(args: &args::Cat) -> Result<ExitCode, AnyError> {
    let (last, want) = (Symlinks::Follow, Want::Content);
    let question = |path: &OsString| Question { path: path.as_bytes().to_vec(), last, want };
    let questions: Vec<Question> = args.paths.iter().map(question).collect();
    let image = open_excerpt(
        &args.image,
        &questions,
        args.layer.layer.as_ref(),
        &args.image_args,
        RequiredProof::Unsaid,
        Outlet::One(None),
    )?;
    let (name, filesystem) = (&image.resolved().name, image.filesystem());
    let mut out = output::stdout();
    // All names are looked up before anything is printed.
    let inos: Vec<(Ino, &OsStr)> = args
        .paths
        .iter()
        .map(|path| {
            let about = |what: &str| format!("{name}: {}: {what}", path.display());
            let tree = filesystem.tree();
            let ino = tree.resolve(path.as_bytes(), last).map_err(|e| about(&e.to_string()))?;
            match tree.mark(ino) {
                None => Ok((ino, path.as_os_str())),
                Some(Mark::Whiteout | Mark::OpaqueMark) => {
                    Err(about("a whiteout, which hides what lower layers have"))
                }
                Some(Mark::LinkBelow(target)) => Err(about(&format!(
                    "a hard link to /{}, whose content is in a lower layer",
                    String::from_utf8_lossy(target)
                ))),
            }
        })
        .collect::<Result<_, String>>()?;
    for (ino, path) in inos {
        let file = filesystem.file(ino).map_err(Copy::Read);
        file.and_then(|file| copy(filesystem, file, &mut out)).map_err(|e| match e {
            // It has the path itself.
            Copy::Read(e @ ocifs::fs::Error::Content { .. }) => About::new(name, e).into(),
            Copy::Read(e) => AnyError::from(About::new(format!("{name}: {}", path.display()), e)),
            Copy::Write(e) => e.into(),
        })?;
    }
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}

/// Which side of a copy failed.
enum Copy {
    Read(ocifs::fs::Error),
    Write(io::Error),
}

fn copy(filesystem: &Filesystem, file: File<'_>, out: &mut impl Write) -> Result<(), Copy> {
    let mut buf = vec![0; CHUNK_BYTES];
    let mut offset = 0;
    loop {
        let n = file.readable(offset, CHUNK_BYTES);
        if n == 0 {
            return Ok(());
        }
        file.read(offset, &mut buf[..n], filesystem.deadline()).map_err(Copy::Read)?;
        out.write_all(&buf[..n]).map_err(Copy::Write)?;
        offset += n as u64;
    }
}
