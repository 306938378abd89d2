//! `ocifs export`: the merged tree, or parts of it, as one tar.
//!
//! Written with PAX headers, so that every name, time and extended attribute survives; a file with
//! several names is written once and linked afterwards, and of a sparse file what is stored of it ([`sparse`]). Entries come in inode order within a
//! directory, which is the order of the layers, so that the image is read from front to back.

mod records;
mod sparse;

use std::collections::{HashMap, HashSet};
use std::io::{self, BufWriter, Read, Write};
use std::ops::Range;
use std::process::ExitCode;

use ocifs::fs::{File, Filesystem};
use ocifs::tree::{FileKind, Ino, Mark, Order, plain_names};
use tar::{Builder, EntryType, Header};

use crate::args::{self, RequiredProof};
use crate::commands::cat::CHUNK_BYTES;
use crate::commands::contained::{self, Outlet};
use crate::commands::open::{Confine, Wanted, open_excerpt, open_image};
use crate::commands::selected::{Selected, questions, select};
use crate::render::errors::AnyError;
use crate::render::target::Target;
use records::Records;
use sparse::Sparse;

pub(crate) fn run(args: &args::Export) -> Result<ExitCode, AnyError> {
    let target = Target::new(args.output.as_deref(), Some("a tar archive"))?;
    let (layer, required) = (args.layer.layer.as_ref(), RequiredProof::Full);
    let image_args = args.base.with(&args.image_args);
    if layer.is_none() && args.paths.is_empty() {
        let confine = |images: &mut [_], cache: &_| {
            contained::reader(images, cache, &image_args, Outlet::One(args.output.as_deref()))
        };
        let confine: Option<Confine<'_>> = Some(&confine);
        let wanted = Wanted { proof: required, provenance: false, before: None, confine };
        let image = open_image(&args.image, &image_args, wanted)?;
        return write(target, image.filesystem(), None);
    }
    let asked = questions(&args.paths);
    let outlet = Outlet::One(args.output.as_deref());
    let image = open_excerpt(&args.image, &asked, layer, &image_args, required, outlet)?;
    let filesystem = image.filesystem();
    let selected = select(filesystem.tree(), &args.paths);
    let selected = selected.map_err(|e| format!("{}: {e}", image.resolved().name))?;
    write(target, filesystem, Some(&selected[..]).filter(|selected| !selected.is_empty()))
}

/// Writes these files, or all there are.
fn write(
    mut target: Target,
    filesystem: &Filesystem,
    selected: Option<&[Selected]>,
) -> Result<ExitCode, AnyError> {
    archive(BufWriter::with_capacity(CHUNK_BYTES, target.writer()), filesystem, selected)?;
    target.finish()?;
    Ok(ExitCode::SUCCESS)
}

fn archive(
    out: impl Write,
    filesystem: &Filesystem,
    selected: Option<&[Selected]>,
) -> io::Result<()> {
    let (first_names, written) = (HashMap::new(), HashSet::new());
    let mut export = Export { filesystem, builder: Builder::new(out), first_names, written };
    let done = match selected {
        None => export.below(b"", Ino::ROOT),
        Some(selected) => selected.iter().try_for_each(|file| export.selected(file)),
    };
    if let Err(e) = done {
        // Dropping the builder would write an end marker behind half an archive, and a reader
        // would take it for whole. What is buffered is lost with it, as it should be.
        std::mem::forget(export);
        return Err(e);
    }
    export.builder.into_inner()?.flush()
}

struct Export<'a, W: Write> {
    filesystem: &'a Filesystem,
    builder: Builder<W>,
    /// The path under which a file with several names was written.
    first_names: HashMap<Ino, Vec<u8>>,
    /// Paths that were written, if some were named.
    written: HashSet<Vec<u8>>,
}

/// A path without a slash at its ends, and without `.` and `..`.
fn plain(path: &[u8]) -> Vec<u8> {
    plain_names(path).join(&b'/')
}

impl<W: Write> Export<'_, W> {
    /// A directory of the image with all below it, at a path of the archive; empty for its top.
    fn below(&mut self, path: &[u8], dir: Ino) -> io::Result<()> {
        self.entry(if path.is_empty() { b"." } else { path }, dir)?;
        let mut walk = self.filesystem.tree().walk(dir, Order::Data);
        while let Some((below, ino)) = walk.next() {
            match path {
                b"" => self.entry(below, ino)?,
                path => self.once(&[path, b"/", below].concat(), ino)?,
            }
        }
        Ok(())
    }

    /// A file that was named, with its path in the image. What was named twice is written once.
    fn selected(&mut self, file: &Selected) -> io::Result<()> {
        let path = plain(&file.path);
        match self.filesystem.tree().kind(file.ino) {
            FileKind::Directory if !self.written.contains(&path) => self.below(&path, file.ino),
            FileKind::Directory => Ok(()),
            _ => self.once(&path, file.ino),
        }
    }

    fn once(&mut self, path: &[u8], ino: Ino) -> io::Result<()> {
        match self.written.insert(path.to_vec()) {
            true => self.entry(path, ino),
            false => Ok(()),
        }
    }

    fn entry(&mut self, path: &[u8], ino: Ino) -> io::Result<()> {
        let tree = self.filesystem.tree();
        let a = tree.attributes(ino);
        let mut header = Header::new_ustar();
        header.set_mode(a.mode.into());
        // A number in every entry: some readers refuse a field that is blank.
        header.set_size(0);
        let mut records = Records::default();
        let mut name = path.to_vec();
        if a.kind == FileKind::Directory {
            name.push(b'/');
        }
        let first_name = self.first_names.get(&ino);
        let sparse = if first_name.is_none() { Sparse::of(tree, ino) } else { None };
        match &sparse {
            Some(sparse) => sparse.name(&mut header, &mut records, &name),
            None => records.name(&mut header, "path", &name),
        }
        records.owner(&mut header, &a);
        records.time(&mut header, &a);
        if let Some(first) = first_name {
            header.set_entry_type(EntryType::Link);
            records.name(&mut header, "linkpath", first);
            return self.append(header, &records, &mut io::empty());
        }
        if let Some(Mark::LinkBelow(target)) = tree.mark(ino) {
            header.set_entry_type(EntryType::Link);
            records.name(&mut header, "linkpath", target);
            return self.append(header, &records, &mut io::empty());
        }
        if a.kind != FileKind::Directory && a.nlink > 1 {
            self.first_names.insert(ino, path.to_vec());
        }
        header.set_entry_type(match a.kind {
            FileKind::Regular => EntryType::Regular,
            FileKind::Directory => EntryType::Directory,
            FileKind::Symlink => EntryType::Symlink,
            FileKind::CharDevice => EntryType::Char,
            FileKind::BlockDevice => EntryType::Block,
            FileKind::Fifo => EntryType::Fifo,
        });
        if let Some(target) = tree.symlink(ino) {
            records.name(&mut header, "linkpath", target);
        }
        if matches!(a.kind, FileKind::CharDevice | FileKind::BlockDevice) {
            header.set_device_major(a.device.0)?;
            header.set_device_minor(a.device.1)?;
        }
        for (name, value) in tree.xattrs(ino) {
            let key = [b"SCHILY.xattr.", name].concat();
            records.add(&key, value);
        }
        if a.kind != FileKind::Regular {
            return self.append(header, &records, &mut io::empty());
        }
        let file = self.filesystem.file(ino).map_err(io::Error::other)?;
        let mut file = Content { filesystem: self.filesystem, file, offset: 0, end: a.size };
        if let Some(sparse) = sparse {
            let map = sparse.map();
            records.size(&mut header, map.len() as u64 + sparse.stored_bytes());
            // None of it yet.
            file.end = 0;
            let stored = Stored { part: file, rest: sparse.parts.into_iter() };
            return self.append(header, &records, &mut (&map[..]).chain(stored));
        }
        records.size(&mut header, a.size);
        self.append(header, &records, &mut file)
    }

    fn append(
        &mut self,
        header: Header,
        records: &Records,
        content: &mut impl Read,
    ) -> io::Result<()> {
        if !records.0.is_empty() {
            let mut extended = Header::new_ustar();
            extended.set_entry_type(EntryType::XHeader);
            extended.set_size(records.0.len() as u64);
            extended.set_mode(0o644);
            extended.as_mut_bytes()[..11].copy_from_slice(b"@PaxHeaders");
            extended.set_cksum();
            self.builder.append(&extended, &records.0[..])?;
        }
        let mut header = header;
        header.set_cksum();
        self.builder.append(&header, content)
    }
}

/// Reads a part of a file of the image.
#[derive(Clone, Copy)]
struct Content<'a> {
    filesystem: &'a Filesystem,
    file: File<'a>,
    offset: u64,
    end: u64,
}

impl Read for Content<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.end - self.offset).unwrap_or(usize::MAX).min(buf.len());
        let n = self.file.readable(self.offset, left);
        let give_up = self.filesystem.deadline();
        self.file.read(self.offset, &mut buf[..n], give_up).map_err(io::Error::other)?;
        self.offset += n as u64;
        Ok(n)
    }
}

/// Reads parts of a file of the image, one behind the other.
struct Stored<'a> {
    /// The part that is being read ...
    part: Content<'a>,
    /// ... and those behind it.
    rest: std::vec::IntoIter<Range<u64>>,
}

impl Read for Stored<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        while self.part.offset == self.part.end {
            let Some(next) = self.rest.next() else { return Ok(0) };
            (self.part.offset, self.part.end) = (next.start, next.end);
        }
        self.part.read(buf)
    }
}
